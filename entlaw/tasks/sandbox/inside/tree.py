"""The processes below this one: what they use, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds (with those of children that have ended) and bytes of memory of their own."""

    cpu_s: float
    memory: int
    processes: int


def descendants() -> list[int]:
    """All processes below this one, parents first."""
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        children = _children(todo.pop(0))
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as source:
                found += [int(word) for word in source.read().split()]
    return found


def own_memory(pid: int | str = "self") -> int:
    """Bytes of anonymous memory of a process."""
    with open(f"/proc/{pid}/status") as source:
        for line in source:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    return 0


def usage(base: int) -> Usage:
    """What all processes below use; ``base`` bytes of each are shared with this one, from which they were forked."""
    cpu, memory, n = 0, 0, 0
    for pid in descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{pid}/stat") as source:
                after_name = source.read().rpartition(")")[2].split()
            cpu += sum(int(word) for word in after_name[11:15])
            memory += max(0, own_memory(pid) - base)
            n += 1
    return Usage(cpu / TICKS, memory, n)


def counts_by_namespace() -> bool:
    """Whether the kernel counts a user's processes in each user namespace apart (since Linux 5.14)."""
    first, second = os.uname().release.split(".")[:2]
    return (int(first), int("".join(filter(str.isdigit, second)) or 0)) >= (5, 14)


def tasks_of(user: int) -> int:
    """Processes and threads that a user runs."""
    n = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == user:
                n += len(os.listdir(f"/proc/{name}/task"))
    return n


def disk(path: str) -> tuple[int, int]:
    """Bytes and number of files under ``path``."""
    size, files, todo = 0, 0, [path]
    while todo and files < 100_000:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return size, files


def kill_all() -> None:
    """Kill and reap every process below this one, those too that were adopted, until there is none.

    Parents go first, and all are stopped before any is killed, so that a program that forks without end loses.
    """
    until = time.monotonic() + 30.0
    while time.monotonic() < until:
        alive = descendants()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in alive:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)
