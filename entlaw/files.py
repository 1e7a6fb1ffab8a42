"""Writing that survives a kill and a power cut: whole or not at all, and on the disk when the call returns."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from entlaw.errors import DataError

# Some network and FUSE file systems cannot flush a folder, or anything; that must not stop a run.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
# What stands there is a window on a process or a device, even where it looks like a file (/dev/stdout > file).
_OF_THE_SYSTEM = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}
_AT_ONCE = 8  # threads, which only wait for the disk


def flush(descriptor: int) -> None:
    """Return when the file or folder behind a descriptor is on the disk.

    Raises
    ------
    OSError
        The disk refused; not for file systems that cannot flush.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def flush_path(path: Path) -> None:
    """:func:`flush` by path: of a folder, so that names made or removed in it survive."""
    try:
        # Windows flushes only what is open for writing.
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if os.name == "nt":  # Windows opens no folders; there, renaming is as durable as it gets
            return
        raise
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush_all(paths: Sequence[Path]) -> None:
    """:func:`flush_path` of many at once.

    A journalling file system then waits for one commit instead of one each: for nine files on ext4 that is 5 ms
    instead of 30 ms while other programs write too, and 0.5 ms more on an idle machine.

    Raises
    ------
    OSError
        The first refusal, after all have been tried.
    """
    with ThreadPoolExecutor(min(len(paths), _AT_ONCE) or 1) as pool:
        tried = [pool.submit(flush_path, path) for path in paths]
    for one in tried:
        one.result()


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file's content atomically: after a kill it holds the old bytes or the new ones.

    A link stays and the file behind it is replaced; a file keeps its mode. What is no file (a device, a pipe) is
    written to, never replaced.

    Raises
    ------
    OSError
        What was there before is unchanged.
    """
    try:
        before = os.stat(path)
    except FileNotFoundError:
        before = None
    if (before is not None and not stat.S_ISREG(before.st_mode)) or path.parent in _OF_THE_SYSTEM:
        with open(
            path, "ab"
        ) as out:  # nothing that a shell has put into /dev/stdout's file before is cut off
            out.write(data)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as out:
            if before is not None:
                os.chmod(temporary, stat.S_IMODE(before.st_mode))
            out.write(data)
            out.flush()
            flush(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(PermissionError):  # a folder may be written to and not listed
        flush_path(path.parent)


def megabytes(n: float) -> str:
    """A size as a person reads it."""
    return f"{n / 1e6:,.1f} MB" if n >= 1e5 else f"{n / 1e3:,.1f} kB"


def shipped(*name: str, in_checkout: str) -> Path:
    """A folder that ships with entlaw, in a checkout or in an installed package.

    Parameters
    ----------
    *name : str
        Where it is below ``entlaw/data`` of an installed package.
    in_checkout : str
        Where it is below the root of a checkout, which keeps it once.

    Raises
    ------
    DataError
        It is in neither place.
    """
    package = Path(__file__).parent
    # A package that is installed has other packages' folders beside it, so its own come first.
    places = (package.joinpath("data", *name), package.parent.joinpath(in_checkout))
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        "a folder that ships with entlaw is missing", where=str(places[1]), hint="install entlaw again"
    )
