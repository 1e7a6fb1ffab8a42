"""One at a time: locks that the system takes back when their holder dies, on Linux, macOS and Windows.

Why not the library ``filelock``: it locks a path, where the metrics file and the file of responses are locked by the
descriptor that writes them; on a file system without ``flock`` it falls back to a marker file, which outlives a killed
process; and importing it takes 40 ms.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from entlaw.errors import CacheError, EntlawError

_POLL = 0.01, 0.25  # seconds, first and longest
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
# Windows keeps even readers out of a locked byte, so the byte that stands for the file lies beyond any content.
_FAR = 1 << 40

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def take(descriptor: int) -> bool:
    """Lock an open file without waiting; the lock ends when the file is closed or the process ends, however it ends.

    Returns
    -------
    bool
        Whether the file system has locks.

    Raises
    ------
    BlockingIOError
        Somebody else holds it.
    OSError
        The system failed otherwise.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            _take_on_windows(descriptor)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _take_on_windows(descriptor: int) -> None:
    import msvcrt
    from typing import Any, cast

    system = cast(Any, msvcrt)  # its names are known to a type checker on Windows only
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _FAR, os.SEEK_SET)
    try:
        system.locking(descriptor, system.LK_NBLCK, 1)
    except PermissionError as error:  # how Windows says that it is held
        raise BlockingIOError(errno.EAGAIN, "held by another process") from error
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def hold(descriptor: int, refusal: EntlawError) -> None:
    """As :func:`take`, raising ``refusal`` when somebody else holds it; a file system without locks stops nobody."""
    try:
        take(descriptor)
    except BlockingIOError as error:
        raise refusal from error
    except OSError:
        pass


@contextmanager
def exclusive(path: Path, patience: float) -> Iterator[bool]:
    """Hold a lock file while the body runs.

    A file that is left over is stale by definition and never has to be judged by its age. A holder that is alive but
    stuck is waited for until ``patience`` is over.

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
    handle = _acquire(path, patience)
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        # Removed before it is released: who waits for this file sees that it is gone and takes a new one.
        with suppress(
            OSError
        ):  # a folder that has become read-only keeps the file, which hurts nobody; so does Windows
            path.unlink()
        os.close(handle)


def _acquire(path: Path, patience: float) -> int | None:
    deadline = time.monotonic() + patience
    pause = _POLL[0]
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise CacheError(
                f"cannot write: {error.strerror}",
                errno=error.errno,
                where=str(path.parent),
                why="what was there before is unchanged",
                hint="make room, or choose another folder with -o",
            ) from error
        try:
            if not take(handle):
                os.close(handle)
                with suppress(OSError):
                    path.unlink()
                return None
            if _is(path, handle):
                _sign(handle)
                return handle
            os.close(handle)  # its last holder removed it meanwhile
            continue
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
        except OSError as error:
            os.close(handle)
            raise CacheError(
                f"cannot lock: {error.strerror}",
                errno=error.errno,
                where=str(path),
                hint="choose another folder with -o",
            ) from error
        if time.monotonic() >= deadline:
            raise CacheError(
                f"another process has held this run for {patience:g} s",
                where=str(path),
                why=f"the holder is {holder}" if holder else None,
                hint="wait for it or end it, then pull again",
            )
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
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"pid {os.getpid()} on {socket.gethostname()}".encode())
