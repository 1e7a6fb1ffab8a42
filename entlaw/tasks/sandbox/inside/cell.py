"""The sandboxed process: limits and filter on, then the program, the candidate's or the checker's side."""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import sys
import threading
import traceback
import types
from typing import Any

from . import candidate, checker, fence, kernel, rooms, seccomp, wire

MB = 1 << 20
ROOM_FOR_CODE_MB = 256  # address space that the interpreter and its libraries take before any data


def inhabit(spec: dict[str, Any], fds: dict[str, int], say: Any) -> int:
    """Become what ``spec`` says; returns the exit status, for processes that end by returning.

    Parameters
    ----------
    spec : dict
        ``role``, ``isolation``, ``limits``, ``paths``, ``tmp``, ``others`` (tasks that the user runs already, where
        the limit on processes counts them).
    fds : dict
        ``payload``, ``out``, ``err``, and for a check ``link_in``, ``link_out`` (checker: also ``report``).
    say : callable
        ``say(fact=...)`` tells the monitor; the way is shut once the limits are on.
    """
    try:
        payload = json.loads(_read_all(fds["payload"]))
        keep = _settle(payload.get("stdin", ""), fds)
        _lock(spec, keep, say)
    except (kernel.SetupError, OSError, ValueError) as error:
        say(setup=str(error))
        return 1
    gc.enable()
    if spec["role"] == "program":
        return _program(payload["program"])
    pipe = wire.Pipe(keep["link_in"], keep["link_out"])
    if spec["role"] == "candidate":
        return candidate.run(payload["program"], pipe)
    return checker.run(payload, pipe, keep["report"])


def _read_all(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    os.close(fd)
    return b"".join(parts)


def _settle(stdin: str, fds: dict[str, int]) -> dict[str, int]:
    """Put the descriptors to their places (0, 1, 2, then links and report); gives the places from 3 on."""
    if stdin:
        # A pipe would block on long input; this is a file that only the process itself holds.
        source = os.memfd_create("stdin", os.MFD_CLOEXEC)
        view = memoryview(stdin.encode("utf-8", "surrogatepass"))
        while view:
            view = view[os.write(source, view) :]
        os.lseek(source, 0, os.SEEK_SET)
    else:
        source = os.open("/dev/null", os.O_RDONLY)
    wanted = [source, fds["out"], fds["err"]]
    extra = [name for name in ("link_in", "link_out", "report") if name in fds]
    # First out of the way of the places, then into them.
    high = [os.dup2(fd, 200 + i) for i, fd in enumerate([*wanted, *(fds[name] for name in extra)])]
    for place, fd in enumerate(high):
        os.dup2(fd, place)
        os.close(fd)
    return {name: 3 + i for i, name in enumerate(extra)}


def _lock(spec: dict[str, Any], keep: dict[str, int], say: Any) -> None:
    limits, isolation = spec["limits"], spec["isolation"]
    os.environ.clear()
    os.environ.update({"HOME": spec["tmp"], "TMPDIR": spec["tmp"], "LANG": "C.UTF-8"})
    os.umask(0o077)
    os.chdir(spec["tmp"])
    sys.path = [p for p in sys.path if p] + spec["packages"]
    if isolation == "landlock":
        if os.geteuid() == 0:
            os.setgroups([])
            rooms.become_nobody()
        fence.close(spec["paths"], spec["folders"], spec["tmp"])
    if isolation != "none":
        kernel.drop_capabilities()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    for which, value in _limits(limits, spec["others"]).items():
        # Not more than was allowed before, where that is less.
        most = resource.getrlimit(which)[1]
        soft, hard = (v if most == resource.RLIM_INFINITY else min(v, most) for v in value)
        resource.setrlimit(which, (soft, hard))
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(
            number, signal.SIG_IGN if number in (signal.SIGPIPE, signal.SIGXFSZ) else signal.SIG_DFL
        )
    say(ready=True)
    os.closerange(3 + len(keep), 65536 if limits["open_files"] < 65536 else 1 << 20)
    if isolation != "none":
        seccomp.install(signals=isolation != "landlock")


def _limits(limits: dict[str, Any], others: int) -> dict[int, tuple[int, int]]:
    cpu = max(1, int(limits["cpu_s"] + 0.999))
    memory = limits["memory_mb"] * MB
    both = {
        resource.RLIMIT_AS: memory + ROOM_FOR_CODE_MB * MB,
        resource.RLIMIT_DATA: memory + 64 * MB,
        resource.RLIMIT_STACK: 64 * MB,
        resource.RLIMIT_FSIZE: limits["file_mb"] * MB,
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_NPROC: limits["processes"] + others,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if hasattr(resource, "RLIMIT_MSGQUEUE"):
        both[resource.RLIMIT_MSGQUEUE] = 0
    if hasattr(resource, "RLIMIT_SIGPENDING"):
        both[resource.RLIMIT_SIGPENDING] = 256
    return {which: (value, value) for which, value in both.items()} | {resource.RLIMIT_CPU: (cpu, cpu + 1)}


def _program(text: str) -> int:
    """Run ``text`` as the main program and end as the interpreter would."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["main.py"]
    code = 0
    try:
        exec(compile(text, "main.py", "exec"), main.__dict__)
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or 120
    return code


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 255
    sys.stderr.write(f"{end.code}\n")
    return 1
