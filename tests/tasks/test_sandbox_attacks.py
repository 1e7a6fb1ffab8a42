"""Every attack is contained, with the verdict it deserves, and leaves neither a process nor a file."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from entlaw.errors import SandboxUnavailable
from entlaw.tasks.sandbox import ORDER, Limits, Sandbox, UnitTests

from ..conftest import wait_until
from .sandbox_attacks import CONTAINED, FORGED, MARK

REPO = Path(__file__).parents[2]
TIGHT = Limits(
    cpu_s=1.0,
    wall_s=4.0,
    memory_mb=160,
    processes=16,
    file_mb=2,
    tmp_mb=6,
    tmp_files=300,
    open_files=64,
    output_kb=256,
)
TESTS = UnitTests(
    asserts=("assert double(4) == 8", "assert abs(double(2.5) - 5) < 1e-9", "assert double(3) in (6, 6.0)"),
    setup="double",  # a name error, not a failed test, if it is missing
)
SECRET = "canary-7f3a9"


@pytest.fixture(scope="module", params=ORDER)
def place(request, tmp_path_factory):
    """A sandbox, and what attacks are aimed at: a secret file, a secret in the environment, sockets."""
    os.environ["ENTLAW_SECRET"] = SECRET
    folder = tmp_path_factory.mktemp("aim")
    folder.chmod(0o755)
    # Sandboxes of tests beside this one put their folders into the system's; ours are looked for by `leftovers`.
    usual, tempfile.tempdir = tempfile.tempdir, tempfile.mkdtemp()
    os.chmod(tempfile.tempdir, 0o1777)
    canary = folder / "canary.txt"
    canary.write_text(SECRET)
    canary.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
        unix.listen()
        words = {
            "@HOME@": str(Path.home()),
            "@REPO@": str(REPO),
            "@TMP@": tempfile.gettempdir() if request.param == "landlock" else "/var/tmp",
            "@CANARY@": str(canary),
            "@PID@": str(os.getpid()),
            "@PORT@": str(server.getsockname()[1]),
            "@SOCKET@": str(folder / "socket"),
        }
        try:
            sandbox = Sandbox(request.param)
        except SandboxUnavailable as error:
            pytest.skip(f"{request.param} does not work here: {error.why}")
        else:
            with sandbox:
                yield sandbox, words, canary
        finally:
            shutil.rmtree(tempfile.tempdir)
            tempfile.tempdir = usual
            del os.environ["ENTLAW_SECRET"]


def survivors(sandbox):
    """Processes of a sandbox, other than the one from which cells are forked."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            ours = sandbox.name.encode() in words or parent == sandbox._process.pid
            if ours and int(entry.name) != sandbox._process.pid:
                found.append(entry.name)
    return found


def leftovers():
    """Files that an attack has made, and tmp folders of the sandbox."""
    places = (
        "/",
        "/root",
        "/home",
        "/tmp",
        "/var/tmp",
        "/dev",
        "/dev/shm",
        "/etc",
        "/run",
        "/usr/lib",
        str(REPO),
    )
    found = [f for p in (*places, str(Path.home()), os.getcwd()) for f in glob.glob(f"{p}/{MARK}*")]
    return found + glob.glob(f"{tempfile.gettempdir()}/entlaw-sandbox-*")


def nothing_left(sandbox, canary):
    wait_until(lambda: not survivors(sandbox))  # a monitor that has answered and is about to end
    assert leftovers() == []
    assert canary.read_text() == SECRET
    assert canary.stat().st_nlink == 1


def test_there_are_enough_attacks():
    assert len(CONTAINED) + len(FORGED) >= 100


@pytest.mark.parametrize("name", CONTAINED)
def test_contained(place, name):
    sandbox, words, canary = place
    program, allowed = CONTAINED[name]
    for word, value in words.items():
        program = program.replace(word, value)
    outcome = sandbox.run(program, limits=TIGHT, expect="a success that nothing prints")
    assert "ESCAPED" not in outcome.stdout + outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr
    assert len(outcome.stdout) + len(outcome.stderr) <= 2 * TIGHT.output_kb << 10
    # Having ended by itself, it is compared, and has not printed what was asked for.
    verdict = "exited" if outcome.note == "the output is not the expected one" else outcome.verdict
    assert verdict in allowed, (outcome.verdict, outcome.note, outcome.stdout[-300:], outcome.stderr[-300:])
    nothing_left(sandbox, canary)
    assert sandbox.run("print(1)", expect="1").passed


@pytest.mark.parametrize("name", FORGED)
def test_forged(place, name):
    sandbox, _, canary = place
    outcome = sandbox.check(FORGED[name], TESTS, limits=TIGHT)
    assert not outcome.passed, outcome
    assert outcome.fraction < 1.0
    expected = {"hangs": "timeout", "catches the time-out": "timeout", "crashes": "killed", "wrong": "failed"}
    assert outcome.verdict == expected.get(name, outcome.verdict), outcome
    assert not any(t.passed for t in outcome.tests), outcome.tests
    nothing_left(sandbox, canary)


def test_the_tests_can_be_passed(place):
    """Else no attack would prove anything."""
    outcome = place[0].check("def double(x): return 2 * x", TESTS, limits=TIGHT)
    assert outcome.passed, outcome
    assert outcome.fraction == 1.0


def test_the_attacks_do_something(monkeypatch):
    """Without isolation some of them work: they are attacks, and the checks can see it."""
    with Sandbox("none") as sandbox:
        program, _ = CONTAINED["proc"]
        outcome = sandbox.run(program.replace("@PID@", str(os.getpid())), limits=TIGHT)
        assert "ESCAPED" in outcome.stdout
        assert outcome.isolation == "none"
    assert shutil.which("python3") is None or outcome.verdict == "exited"
