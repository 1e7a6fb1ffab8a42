"""One at a time: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from entlaw.errors import CacheError

_POLL = 0.01, 0.25  # seconds, first and longest
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def exclusive(path: Path, patience: float) -> Iterator[bool]:
    """Hold a lock file while the body runs.

    The lock is ``flock``'s: the system releases it when the process ends, however it ends, so a file that is left
    over is stale by definition and never has to be judged by its age. A holder that is alive but stuck is waited
    for until ``patience`` is over.

    Parameters
    ----------
    path : pathlib.Path
        Made when needed and removed at the end.
    patience : float
        Seconds to wait for another holder.

    Yields
    ------
    bool
        Whether the file system has locks. Without, files are still replaced whole, so the worst that two
        processes do to each other is the same work twice.

    Raises
    ------
    CacheError
        The lock file cannot be made, or its holder does not let go.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = _acquire(path, patience, fcntl)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        # Removed before it is released: who waits for this file sees that it is gone and takes a new one.
        with suppress(OSError):  # a folder that has become read-only keeps the file, which hurts nobody
            path.unlink()
        os.close(handle)


def _acquire(path: Path, patience: float, fcntl: Any) -> int | None:
    deadline = time.monotonic() + patience
    pause = _POLL[0]
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CacheError(
                f"cannot write: {error.strerror}", errno=error.errno, where=str(path.parent),
                why="what was there before is unchanged", hint="make room, or choose another folder with -o",
            ) from error  # fmt: skip
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, handle):
                _sign(handle)
                return handle
            os.close(handle)  # its last holder removed it meanwhile
            continue
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                path.unlink(missing_ok=True)
                return None
            raise CacheError(
                f"cannot lock: {error.strerror}",
                errno=error.errno,
                where=str(path),
                hint="choose another folder with -o",
            ) from error
        if time.monotonic() >= deadline:
            raise CacheError(
                f"another process has held this run for {patience:g} s", where=str(path),
                why=f"the holder is {holder}" if holder else None, hint="wait for it or end it, then pull again",
            )  # fmt: skip
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2 * pause, _POLL[1])


def _is(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _sign(handle: int) -> None:
    """Say who holds it, for the message to who waits; on a full disk the lock is as good without."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except OSError:
        pass
