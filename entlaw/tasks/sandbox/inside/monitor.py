"""The process outside one cell: starts it, watches time, memory, output and processes, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any

from . import cell, kernel, rooms, tree

EVERY_S = 0.05  # between two looks at the tree of processes
LEAVE_S = 0.25  # between the order to end and the end
SETUP_S = 30.0  # for isolation to be in place, on a machine that has much else to do


def watch(spec: dict[str, Any], fds: dict[str, int]) -> None:
    """Run one cell to its end and write what came of it, as JSON, to ``fds["ctl"]``."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told: dict[str, Any]
    tmp = ""
    try:
        if sys.platform == "linux":
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        if spec["isolation"] in ("landlock", "none"):
            tmp = spec["tmp"] = tempfile.mkdtemp(prefix="entlaw-sandbox-", dir=spec["where"])
            if spec["isolation"] == "landlock" and os.geteuid() == 0:
                os.chown(tmp, rooms.NOBODY, rooms.NOBODY)
        counted_apart = spec["isolation"] in ("namespaces", "bwrap") and tree.counts_by_namespace()
        owner = rooms.NOBODY if spec["isolation"] != "none" and os.geteuid() == 0 else os.geteuid()
        spec["others"] = 2 if counted_apart else 2 + tree.tasks_of(owner)
        told = _Watch(spec, fds, tmp).run()
    except (kernel.SetupError, OSError) as error:
        told = {"setup": str(error)}
    finally:
        tree.kill_all()
        if tmp:
            remove(tmp)
    data = memoryview(json.dumps(told).encode())
    with contextlib.suppress(OSError):  # who asked has gone
        while data:
            data = data[os.write(fds["ctl"], data) :]


def remove(path: str) -> None:
    """Remove a tree, also one whose folders are closed, or nested more deeply than a path can say.

    Inner folders are moved up before they are entered, so that no path gets long.
    """
    todo = [path]
    moved = 0
    with contextlib.suppress(OSError):
        while todo:
            folder = todo.pop()
            os.chmod(folder, 0o700)
            for name in os.listdir(folder):
                inner = os.path.join(folder, name)
                if os.path.isdir(inner) and not os.path.islink(inner):
                    os.chmod(inner, 0o700)  # to move a folder is to write to it
                    moved += 1
                    up = os.path.join(path, f"entlaw-moved-{moved}")
                    os.rename(inner, up)
                    todo.append(up)
                else:
                    os.unlink(inner)
            if folder != path:
                os.rmdir(folder)
        os.rmdir(path)


class _Watch:
    def __init__(self, spec: dict[str, Any], fds: dict[str, int], tmp: str) -> None:
        self.spec, self.fds, self.tmp = spec, fds, tmp
        self.limits = spec["limits"]
        self.why = ""
        self.got: dict[str, bytearray] = {name: bytearray() for name in ("out", "err", "report", "status")}
        self.total = 0

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        pipes = {name: os.pipe() for name in self.got if name != "report" or self.spec["role"] == "checker"}
        base = tree.own_memory()
        if os.fork() == 0:
            self._become_child(
                {name: ends[1] for name, ends in pipes.items()}, [e[0] for e in pipes.values()]
            )
        for _, end in pipes.values():
            os.close(end)
        for name in ("payload", "link_in", "link_out"):
            if name in self.fds:
                os.close(self.fds.pop(name))
        self._follow({ends[0]: name for name, ends in pipes.items()}, started, base)
        seconds = time.monotonic() - started
        tree.kill_all()
        self._drain({ends[0]: name for name, ends in pipes.items()})
        facts: dict[str, Any] = {}
        for line in bytes(self.got["status"]).splitlines():
            facts.update(json.loads(line))
        texts = {name: self.got[name].decode("latin-1") for name in ("out", "err", "report")}
        return {"why": self.why, "seconds": seconds, **texts, **facts}

    def _become_child(self, ends: dict[str, int], close: list[int]) -> None:
        code = 1
        try:
            for fd in (*close, self.fds["ctl"], self.fds["leash"]):
                os.close(fd)
            fds = {**{k: v for k, v in self.fds.items() if k not in ("ctl", "leash")}, **ends}
            start(self.spec, fds)
            code = 0
        finally:
            os._exit(code)

    def _follow(self, names: dict[int, str], started: float, base: int) -> None:
        poll = select.poll()
        for fd in (*names, self.fds["leash"]):
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        began = looked = started
        ready = False
        until = 0.0
        while True:
            for fd, _ in poll.poll(EVERY_S * 1000):
                if fd == self.fds["leash"]:
                    # A program that has just ended by itself, or is about to, may still say how.
                    self.why = "leash"
                    poll.unregister(fd)
                    until = time.monotonic() + LEAVE_S
                    continue
                if not self._read(fd, names[fd]):
                    poll.unregister(fd)
                    if names[fd] == "status":
                        return
            now = time.monotonic()
            if self.why:
                if now > until:
                    return
                continue
            if not ready:  # the program's time begins when the program does
                ready = bool(self.got["status"])
                started = now
            if self.total > self.limits["output_kb"] << 10:
                self.why = "output"
            elif now - started > self.limits["wall_s"] or now - began > SETUP_S + self.limits["wall_s"]:
                self.why = "timeout"
            elif now - looked > EVERY_S:
                looked = now
                self.why = self._excess(base)
            if self.why:
                return

    def _excess(self, base: int) -> str:
        use = tree.usage(base)
        if use.memory > self.limits["memory_mb"] << 20:
            return "memory"
        if use.cpu_s > self.limits["cpu_s"] + 0.5:
            return "timeout"
        if self.tmp:
            size, files = tree.disk(self.tmp)
            if size > self.limits["tmp_mb"] << 20 or files > self.limits["tmp_files"]:
                return "files"
        return ""

    def _read(self, fd: int, name: str) -> bool:
        """Whether more may come."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        if name in ("out", "err"):
            self.total += len(data)
            room = (self.limits["output_kb"] << 10) - len(self.got[name])
            self.got[name] += data[: max(room, 0)]
        else:
            self.got[name] += data
        return bool(data)

    def _drain(self, names: dict[int, str]) -> None:
        for fd, name in names.items():
            for _ in range(64):  # a pipe holds 64 KiB; all writers are dead
                before = len(self.got[name])
                if not self._read(fd, name) or len(self.got[name]) == before:
                    break
        if not self.why and self.total > self.limits["output_kb"] << 10:
            self.why = "output"


def start(spec: dict[str, Any], fds: dict[str, int]) -> None:
    """In the monitor's child: isolation, then :func:`first`; does not return before the cell's end."""
    kernel.die_with_parent() if sys.platform == "linux" else None
    try:
        if spec["isolation"] == "bwrap":
            _bubblewrap(spec, fds)
        if spec["isolation"] == "namespaces":
            limits = spec["limits"]
            spec["tmp"] = "/tmp"
            rooms.enter(spec["paths"], spec["holes"], limits["tmp_mb"], limits["tmp_files"])
    except (kernel.SetupError, OSError) as error:
        _say(fds["status"], setup=str(error))
        return
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            first(spec, fds)
            code = 0
        finally:
            os._exit(code)
    for fd in fds.values():
        os.close(fd)
    os.waitpid(pid, 0)


def first(spec: dict[str, Any], fds: dict[str, int]) -> None:
    """The first process in the cell: starts the program, tells how it ended, and takes all others with it."""
    # Above the places that the program's descriptors will take.
    status = fcntl.fcntl(fds["status"], fcntl.F_DUPFD_CLOEXEC, 190)
    try:
        if spec["isolation"] == "namespaces":
            rooms.become_nobody()
        if sys.platform == "linux":
            kernel.die_with_parent()
    except (kernel.SetupError, OSError) as error:
        _say(status, setup=str(error))
        return
    pid = os.fork()
    if pid == 0:
        os.setsid()
        code = 1
        try:
            inner = {name: fd for name, fd in fds.items() if name != "status"}
            code = cell.inhabit(spec, inner, lambda **facts: _say(status, **facts))
        finally:
            os._exit(code)
    for fd in fds.values():
        os.close(fd)
    # Under bwrap the number of files in tmp has no limit of its own, and nobody outside can see them.
    look = spec["isolation"] == "bwrap"
    while True:
        ended, code, used = os.wait4(-1, os.WNOHANG if look else 0)
        if ended == pid:
            break
        if not ended:
            room = os.statvfs("/tmp")
            if room.f_files - room.f_ffree > spec["limits"]["tmp_files"]:
                _say(status, why="files")
                return
            time.sleep(0.01)
    _say(status, status=code, cpu_s=used.ru_utime + used.ru_stime, peak_mb=used.ru_maxrss / 1024)


def _say(fd: int, **facts: Any) -> None:
    os.write(fd, json.dumps(facts).encode() + b"\n")


def _bubblewrap(spec: dict[str, Any], fds: dict[str, int]) -> None:
    """Become ``bwrap``, which runs :func:`first` in a fresh interpreter."""
    size = spec["limits"]["tmp_mb"] << 20
    words = [
        spec["bwrap"],
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    words += ["--uid", str(rooms.NOBODY), "--gid", str(rooms.NOBODY), "--cap-drop", "ALL"]
    words += ["--setenv", "PYTHONHASHSEED", "0"]
    for name in rooms.DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--size", str(size), "--tmpfs", "/tmp"]
    for path in (*spec["paths"], *spec["own_paths"]):
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", path, path]
    for path in spec["holes"]:
        words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--remount-ro", "/", "--chdir", "/tmp"]
    spec = {**spec, "tmp": "/tmp", "isolation": "bwrap"}
    for fd in fds.values():
        os.set_inheritable(fd, True)
    os.dup2(fds["err"], 2)  # what bwrap has to say when it fails
    words += ["--", *spec["python"], json.dumps({"spec": spec, "fds": fds})]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(rooms.NOBODY, rooms.NOBODY, rooms.NOBODY)
        os.setresuid(rooms.NOBODY, rooms.NOBODY, rooms.NOBODY)
        kernel.die_with_parent()
    os.execve(words[0], words, {})
