"""Make an environment that holds what a lock lists, and entlaw from this checkout.

    python3 requirements/install.py FOLDER LOCK

FOLDER is the virtual environment to make; LOCK names a file beside this one (``demo``, ``dev``, ...), or is ``newest``:
then every package is the newest that the index has, apart from torch (requirements/torch.in). An environment that
holds its lock already is left as it is.

A lock is installed without looking at dependencies, since it lists them all. Only torch is installed with its own: a
CUDA build needs libraries that a CPU build does not, and which build there is depends on the machine.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST = (3, 11)
_OFFLINE = re.compile(
    r"name resolution|Name or service not known|nodename nor servname|NewConnectionError|ConnectionError"
    r"|Network is unreachable|ConnectTimeout|ReadTimeout|ProxyError|Connection refused|SSLError",
    re.IGNORECASE,
)


def main(argv):
    """Install; returns the exit code."""
    folder, lock = Path(argv[0]), argv[1]
    if sys.version_info < OLDEST:
        return fail(
            "Python %d.%d is too old: entlaw needs %d.%d or newer" % (*sys.version_info[:2], *OLDEST),  # noqa: UP031
            "name a newer one, as in `make test PYTHON=python3.12`",
        )
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    kept = folder / "lock.txt"
    newest = lock == "newest"
    path = HERE / ("torch.in" if newest else f"{lock}.txt")
    wanted = path.read_text()
    log = []
    if newest or not kept.exists() or kept.read_text() != wanted:
        sys.stderr.write(f"installing into {folder}: {'the newest packages' if newest else path.name} ...\n")
        steps = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
        if newest:
            steps.append(
                [
                    *pip,
                    "--upgrade",
                    "--upgrade-strategy=eager",
                    f"--constraint={path}",
                    "--editable",
                    ".[dev]",
                ]
            )
        else:
            if re.search("^torch==", wanted, re.MULTILINE):
                steps.append([*pip, f"--constraint={path}", "torch"])
                steps.append([str(python), "-c", "import torch; torch.ones(1) + 1"])
            steps.append([*pip, "--no-deps", f"--requirement={path}"])
        for step in steps:
            if not run(step, log):
                return explain(step, log)
        kept.write_text(wanted)
    step = [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]
    return 0 if newest or run(step, log) else explain(step, log)


def run(step, log):
    """Run one command, keep its output; returns whether it succeeded."""
    done = subprocess.run(
        step, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    log.append(done.stdout)
    return done.returncode == 0


def explain(step, log):
    """Say why a command failed, as far as its output tells; returns the exit code."""
    output = log[-1]
    sys.stderr.write(output[-4000:])
    if _OFFLINE.search(output):
        return fail(
            "the package index cannot be reached",
            "installing needs the network once: connect, or set PIP_INDEX_URL (a mirror) or PIP_FIND_LINKS (a folder "
            "of wheels), and run the same command again",
        )
    if "venv" in step:
        return fail(
            "the virtual environment cannot be made",
            "see the lines above; Debian and Ubuntu need python3-venv",
        )
    if "import torch" in step[-1]:
        return fail(
            "the torch that was installed does not run on this machine's CPU",
            "install a build that does (PIP_EXTRA_INDEX_URL can name an index with CPU builds), and run this again",
        )
    return fail("pip failed", f"see the lines above; the command was: {' '.join(step)}")


def fail(what, hint):
    """Print one error; returns the exit code."""
    sys.stderr.write(f"error: {what}\n  do this: {hint}\n")
    return 3


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
