"""Make an environment that holds what a lock lists, and entlaw from this checkout.

    python3 requirements/install.py FOLDER LOCK

FOLDER is the virtual environment to make; LOCK names a file beside this one (``demo``, ``dev``, ...), or is ``newest``:
then every package is the newest that the index has, apart from torch (requirements/torch.in). An environment that
holds its lock already, made by the same Python, is left as it is; another that we made is made anew.

A lock is installed without looking at dependencies, since it lists them all. Only torch is installed with its own: a
CUDA build needs libraries that a CPU build does not, and which build there is depends on the machine.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST = (3, 11)
LOWEST = (3, 11)  # the lowest versions have no wheels for newer Pythons
_OFFLINE = re.compile(
    r"name resolution|Name or service not known|nodename nor servname|NewConnectionError|ConnectionError"
    r"|Network is unreachable|ConnectTimeout|ReadTimeout|ProxyError|Connection refused|SSLError",
    re.IGNORECASE,
)


def main(argv):
    """Install; returns the exit code."""
    here = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - read by Pythons that are too old
    locks = [*sorted(path.stem for path in HERE.glob("*.txt")), "newest"]
    if sys.version_info < OLDEST:
        hint = "name a newer one, as in `make test PYTHON=python3.12 VENV=.venv-3.12`"
        return fail("Python %s is too old: entlaw needs %d.%d or newer" % (here, *OLDEST), hint)  # noqa: UP031
    if len(argv) != 2 or argv[1] not in locks:
        return fail("usage: install.py FOLDER LOCK", f"LOCK is one of {', '.join(locks)}", code=2)
    folder, lock = Path(argv[0]).resolve(), argv[1]
    if lock == "lowest" and sys.version_info[:2] != LOWEST:
        return fail(f"the lowest versions are for Python 3.11, this is {here}", "say PYTHON=python3.11")
    kept = folder / "lock.txt"
    if (
        folder.exists()
        and any(folder.iterdir())
        and not kept.exists()
        and not folder.name.startswith(".venv")
    ):
        return fail(
            f"{folder} is not an environment that this script made", "name another folder, or remove it"
        )
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install"]
    path = HERE / ("torch.in" if lock == "newest" else f"{lock}.txt")
    wanted = f"# Python {here}\n{path.read_text()}"
    log = []
    if lock == "newest" or not python.exists() or not kept.exists() or kept.read_text() != wanted:
        sys.stderr.write(
            f"installing into {folder.name}: {path.name if lock != 'newest' else 'newest packages'} ...\n"
        )
        for step in steps(folder, python, pip, lock, path):
            if not run(step, log):
                return explain(step, log)
        kept.write_text(wanted)
    step = [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]
    return 0 if lock == "newest" or run(step, log) else explain(step, log)


def steps(folder, python, pip, lock, path):
    """The commands that fill an environment."""
    yield [sys.executable, "-m", "venv", "--clear", str(folder)]
    if lock == "newest":
        yield [*pip, "--upgrade", "--upgrade-strategy=eager", f"--constraint={path}", "--editable", ".[dev]"]
        return
    if re.search("^torch==", path.read_text(), re.MULTILINE):
        yield [*pip, f"--constraint={path}", "torch"]
        yield [str(python), "-c", "import torch; torch.ones(1) + 1"]
    yield [*pip, "--no-deps", f"--requirement={path}"]


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
    if "from versions: none" in output and _OFFLINE.search(output):
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


def fail(what, hint, code=3):
    """Print one error; returns the exit code."""
    sys.stderr.write(f"error: {what}\n  do this: {hint}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
