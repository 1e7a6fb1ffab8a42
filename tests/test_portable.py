"""Nothing of entlaw needs a POSIX system to be imported, and what needs one to run says so.

The stand-in for Windows: entlaw's own imports of the POSIX-only modules fail, and ``os``, ``signal``, ``select`` and
``socket`` lack their POSIX-only names as entlaw sees them. Other packages, installed here for Linux, are left alone.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from entlaw import lock
from entlaw.errors import SandboxUnavailable, UsageError
from tests.conftest import REPO

# What runs inside the sandbox, or in a checking process, where it is started by path or by -m.
INSIDE = ("entlaw.tasks.sandbox.inside", "entlaw.tasks.worker")
OPTIONAL = (
    "torch",
    "transformers",
    "verl",
    "ray",
    "vllm",
    "trl",
    "datasets",
    "math_verify",
    "tensordict",
    "transfer_queue",
)

WINDOWS = f"""
import builtins, importlib, json, os, pkgutil, select, signal, socket, sys, types

GONE = {{"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "crypt", "spwd"}}
SIGNALS = {{"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}}
LACKS = {{
    "signal": {{n for n in dir(signal) if n.startswith("SIG") and n.isupper()}} - SIGNALS - {{"SIG_DFL", "SIG_IGN"}}
    | {{"alarm", "setitimer", "getitimer", "pause", "pthread_kill", "pthread_sigmask", "sigwait", "ITIMER_PROF",
       "ITIMER_REAL", "ITIMER_VIRTUAL", "siginterrupt", "sigpending", "sigtimedwait", "sigwaitinfo"}},
    "os": {{"fork", "forkpty", "killpg", "setsid", "getuid", "geteuid", "getgid", "getegid", "uname", "O_CLOEXEC",
           "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "WNOHANG", "memfd_create", "MFD_CLOEXEC", "pread", "pwrite",
           "sched_getaffinity", "statvfs", "getpgid", "setpgid", "mkfifo", "sysconf", "getloadavg", "nice", "fchown",
           "chown", "chroot", "setuid", "setgid", "posix_spawn", "pipe2", "sendfile", "getpriority", "openpty"}},
    "select": {{"poll", "epoll", "POLLIN", "POLLHUP", "EPOLLIN", "kqueue"}},
    "socket": {{"AF_UNIX", "SOCK_SEQPACKET", "send_fds", "recv_fds", "socketpair", "SCM_RIGHTS"}},
}}

class Less(types.ModuleType):
    def __init__(self, real, lacks):
        super().__init__(real.__name__)
        self.__dict__["_entlaw_test"] = real, lacks
    def __getattr__(self, name):
        real, lacks = self.__dict__["_entlaw_test"]
        if name in lacks:
            raise AttributeError(f"Windows has no {{real.__name__}}.{{name}}")
        return getattr(real, name)

less = {{name: Less(sys.modules[name], lacks) for name, lacks in LACKS.items()}}
real_import = builtins.__import__

def windows_import(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and str((globals or {{}}).get("__name__", "")).split(".")[0] == "entlaw":
        if name.split(".")[0] in GONE:
            raise ModuleNotFoundError(f"Windows has no module {{name}}", name=name)
        if name in less:
            return less[name]
    return real_import(name, globals, locals, fromlist, level)

builtins.__import__ = windows_import
import entlaw
failed, skipped, count = {{}}, {{}}, 0
for found in pkgutil.walk_packages(entlaw.__path__, "entlaw."):
    if found.name.startswith({INSIDE!r}) or found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
        count += 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in {OPTIONAL!r}:
            skipped[found.name] = error.name
        else:
            failed[found.name] = repr(error)
    except Exception as error:
        if type(error).__name__ == "MissingExtra":
            skipped[found.name] = str(error)
        else:
            failed[found.name] = repr(error)
print(json.dumps({{"failed": failed, "skipped": skipped, "count": count}}))
"""


def python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"} | more
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPO)


def test_every_module_imports_without_posix():
    done = python(WINDOWS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["failed"]
    assert told["count"] > 150
    # The analysis half needs no extra, so nothing of it may be passed over.
    extra = ("entlaw.train", "entlaw.engines", "entlaw.tasks", "entlaw.suites", "entlaw.dynamics")
    assert all(name.startswith(extra) for name in told["skipped"]), told["skipped"]


def test_the_stand_in_would_notice():
    """A module of entlaw that needs fcntl, or a signal that Windows lacks, does fail under it."""
    for line in ("import fcntl", "import signal; signal.SIGKILL", "from os import fork"):
        head = WINDOWS.partition("import entlaw\n")[0]
        done = python(head + f"exec({line!r}, {{'__name__': 'entlaw.anything'}})")
        assert done.returncode == 1 and ("Windows has no" in done.stderr or "cannot import" in done.stderr), (
            line,
            done.stderr,
        )


def test_nothing_imports_what_runs_inside_the_sandbox():
    done = python(
        "import pkgutil, importlib, sys, entlaw\n"
        "from entlaw.tasks import code, math\nimport entlaw.tasks.sandbox, entlaw.suites.grade, entlaw.cli.app\n"
        f"print([n for n in sys.modules if n.startswith({INSIDE!r})])"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_sandbox_says_that_it_needs_linux(monkeypatch, platform):
    from entlaw.tasks.sandbox import Sandbox

    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SandboxUnavailable, match="programs can be checked on Linux only") as told:
        Sandbox()
    assert told.value.hint and told.value.exit_code == 2


def test_checking_by_algebra_says_that_windows_cannot(monkeypatch):
    from entlaw.tasks.pool import WorkerPool

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SandboxUnavailable, match="Linux and macOS only"):
        WorkerPool("entlaw.tasks.math:equal")


class Msvcrt:
    """The two names of ``msvcrt`` that a lock uses, on POSIX's region locks' model: one holder a file."""

    LK_NBLCK = 2

    def __init__(self):
        self.held: dict[int, int] = {}
        self.places: list[int] = []

    def locking(self, descriptor, mode, length):
        assert (mode, length) == (self.LK_NBLCK, 1)
        self.places.append(os.lseek(descriptor, 0, os.SEEK_CUR))
        inode = os.fstat(descriptor).st_ino
        if self.held.setdefault(inode, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")


def test_the_lock_on_windows_is_taken_beyond_the_content_and_refused_when_held(tmp_path, monkeypatch):
    fake = Msvcrt()
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"what is there")
    with open(path, "r+b", buffering=0) as first, open(path, "r+b", buffering=0) as second:
        first.seek(4)
        assert lock.take(first.fileno())
        assert first.tell() == 4 and first.read() == b" is there"
        assert min(fake.places) > 1 << 32
        with pytest.raises(BlockingIOError):
            lock.take(second.fileno())
        with pytest.raises(UsageError, match="held"):
            lock.hold(second.fileno(), UsageError("held"))
        assert second.read() == b"what is there"
    assert path.read_bytes() == b"what is there"


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(descriptor, how):
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "fcntl", NoLocks)
    with open(tmp_path / "a", "w") as held:
        assert lock.take(held.fileno()) is False
        lock.hold(held.fileno(), UsageError("held"))
    with lock.exclusive(tmp_path / "b.lock", 0.0) as locked:
        assert locked is False
