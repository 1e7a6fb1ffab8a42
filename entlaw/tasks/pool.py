"""Calling a function on untrusted input with a time limit that holds, from any thread.

A few worker processes serve one item at a time. A worker that uses up its CPU time, hangs, or dies takes only its own
item with it and is replaced; results come in the order of the items, whoever served them. Workers are started by the
interpreter's path, not forked: a fork of a process with torch's threads may deadlock, and ``spawn`` would run the
user's script again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entlaw.errors import EntlawError, SandboxUnavailable


@dataclass(frozen=True)
class Reply:
    """The result for one item.

    Attributes
    ----------
    status : {"ok", "error", "timeout", "crash"}
        error: the function raised; timeout: it used up its time; crash: the process died (memory, signal), twice.
    value : Any
        The function's result if ok, else the reason.
    """

    status: Literal["ok", "error", "timeout", "crash"]
    value: Any


class WorkerPool:
    """Worker processes for ``target``.

    Parameters
    ----------
    target : str
        ``module:function``; its arguments and its result must be JSON.
    workers : int
        Processes, started when first needed.
    cpu_s : float
        CPU seconds for an item; counted in the worker, so other processes on the machine do not matter.
    wall_s : float
        Wall seconds after which an item that uses no CPU (it waits, or the machine is stuck) is given up.
    memory_gb : float
        Address space of a worker in GiB; 0: unlimited.
    start_s : float
        Wall seconds within which a worker must have imported the function.

    Raises
    ------
    SandboxUnavailable
        On Windows.
    """

    def __init__(
        self,
        target: str,
        workers: int = 1,
        cpu_s: float = 5.0,
        wall_s: float = 300.0,
        memory_gb: float = 4.0,
        start_s: float = 300.0,
    ) -> None:
        if sys.platform == "win32":
            raise SandboxUnavailable(
                "answers can be checked by computer algebra on Linux and macOS only",
                why="the checking processes are held to their time and memory by means that Windows lacks",
                hint="run it in WSL, a Linux container or a virtual machine",
            )
        if workers < 1 or cpu_s <= 0 or wall_s <= 0:
            raise ValueError("workers, cpu_s and wall_s must be positive")
        self.target, self.size = target, workers
        self.cpu_s, self.wall_s, self.memory_gb, self.start_s = cpu_s, wall_s, memory_gb, start_s
        self._free: list[_Worker] = []
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _end_all, self._free)

    def map(self, items: Sequence[Sequence[Any]]) -> list[Reply]:
        """One reply an item, in order; calls from several threads take turns.

        Raises
        ------
        EntlawError
            A worker cannot start.
        """
        with self._lock:
            return self._map(items)

    def _map(self, items: Sequence[Sequence[Any]]) -> list[Reply]:
        replies: list[Reply | None] = [None] * len(items)
        waiting, crashed = deque(range(len(items))), set[int]()
        busy: dict[int, tuple[_Worker, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.size:
                    worker = self._free.pop() if self._free else self._start()
                    item = waiting.popleft()
                    worker.send(items[item], self.wall_s)
                    busy[worker.fileno()] = (worker, item)
                for key in _readable(busy):
                    worker, item = busy.pop(key)
                    reply = worker.reply()
                    if reply.status in ("ok", "error"):
                        self._free.append(worker)
                    elif reply.status == "crash" and item not in crashed:
                        # Once more in a fresh process: the kernel may have taken memory for somebody else.
                        crashed.add(item)
                        waiting.appendleft(item)
                        continue
                    replies[item] = reply
        except BaseException:
            for worker, _ in busy.values():
                worker.end()
            raise
        return [r for r in replies if r is not None]

    def _start(self) -> _Worker:
        worker = _Worker(self.target, self.cpu_s, self.memory_gb)
        try:
            worker.wait_ready(self.start_s)
        except BaseException:
            worker.end()
            raise
        return worker

    def close(self) -> None:
        """End all workers; the next call starts new ones."""
        with self._lock:
            _end_all(self._free)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _readable(busy: dict[int, tuple[_Worker, int]]) -> list[int]:
    """Workers that have something to say, have died, or are over their wall time; waits for the first of them."""
    poller = select.poll()
    for key in busy:
        poller.register(key, select.POLLIN | select.POLLHUP)
    soonest = min(worker.deadline for worker, _ in busy.values())
    found = {key for key, _ in poller.poll(max(0.0, soonest - time.monotonic()) * 1000 + 1)}
    now = time.monotonic()
    return [key for key, (worker, _) in busy.items() if key in found or worker.deadline <= now]


class _Worker:
    """One process."""

    def __init__(self, target: str, cpu_s: float, memory_gb: float) -> None:
        package = str(Path(__file__).resolve().parents[2])
        paths = [package, *(p for p in sys.path if p and p != package)]
        # One thread: NumPy's and torch's thread pools would eat the cores that the trainer computes on.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "entlaw.tasks.worker", target, str(cpu_s), str(memory_gb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.deadline = 0.0

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def wait_ready(self, seconds: float) -> None:
        assert self.process.stdout is not None
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN | select.POLLHUP)
        line = self.process.stdout.readline() if poller.poll(seconds * 1000) else b""
        told = json.loads(line) if line else {"value": "it ended, or took too long, while importing"}
        if told.get("status") != "ready":
            raise EntlawError("a checking process cannot start", why=str(told["value"]))

    def send(self, arguments: Sequence[Any], wall_s: float) -> None:
        assert self.process.stdin is not None
        self.deadline = time.monotonic() + wall_s
        with contextlib.suppress(BrokenPipeError):  # it has died: reply() will tell
            self.process.stdin.write(json.dumps(list(arguments)).encode() + b"\n")
            self.process.stdin.flush()

    def reply(self) -> Reply:
        """The reply that waits, or why there is none; the process is gone after a timeout or crash."""
        assert self.process.stdout is not None
        if time.monotonic() >= self.deadline and not select.select([self.process.stdout], [], [], 0)[0]:
            self.end()
            return Reply("timeout", "no answer in the wall time allowed")
        line = self.process.stdout.readline()
        if line.endswith(b"\n"):
            told = json.loads(line)
            return Reply(told["status"], told["value"])
        self.process.wait()
        code = self.process.returncode
        self.end()
        if code == -signal.SIGPROF:
            return Reply("timeout", "used up its CPU time")
        return Reply("crash", f"the process ended with {code}")

    def end(self) -> None:
        """Kill it; nothing that it holds is worth waiting for."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
