"""``metrics.jsonl``: what a run logs, one JSON object a line, never a line lost or doubled by a kill.

A record is appended by one write and is on the disk before the call returns. A checkpoint keeps the file's position,
and resuming cuts the file there: the steps after it are done again, and so are their lines.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypedDict

from entlaw.errors import CheckpointError, DataError, SourceNotFound, UnreadableSource, UsageError
from entlaw.files import flush, flush_path
from entlaw.lock import hold

# Scores are ratios of counts; in full, the count of right answers can be got back from them.
_IN_FULL = ("accuracy", "problems", "samples")
_EXACT = 2.0**53  # beyond it a float has no units digit to lose
_CHUNK = 1 << 20
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would write \r\n, and positions would not hold


class Position(TypedDict):
    """How far a metrics file reached, as a checkpoint keeps it."""

    bytes: int
    crc: int
    """CRC-32 of these bytes: a file that was changed in front of the checkpoint is not continued."""


START: Position = {"bytes": 0, "crc": 0}


def line(record: Mapping[str, Any]) -> bytes:
    """A record as its line of JSON.

    Floats have 6 significant digits; whole numbers, and keys that end in ``accuracy``, ``problems`` or ``samples``,
    are written in full; NaN and infinities are null. Values may be 0-d arrays or tensors.

    Raises
    ------
    TypeError
        A value that is not a number, a string or None: nested records have no place in a flat log.
    """
    plain = {str(key): _plain(str(key), value) for key, value in record.items()}
    return json.dumps(plain, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _plain(key: str, value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str)) and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if not isinstance(value, float):
        raise TypeError(f"{key!r} holds a {type(value).__name__}, not a number")
    value = float(value)  # numpy's float64 is a float that prints otherwise
    if not math.isfinite(value):
        return None
    if key.endswith(_IN_FULL) or (value.is_integer() and abs(value) < _EXACT):
        return value
    return float(f"{value:.6g}")


class MetricsFile:
    """An append-only file of records, held by one process; made by :meth:`create` or :meth:`resume`.

    Attributes
    ----------
    path : Path
    dropped : int
        Lines (a torn one included) that resuming took off: steps to be done again.
    """

    def __init__(self, path: Path, descriptor: int, position: Position, dropped: int = 0) -> None:
        self.path, self.dropped = path, dropped
        self._descriptor, self._size, self._crc = descriptor, position["bytes"], position["crc"]
        self._unsettled = False

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Self:
        """Begin a new file.

        Raises
        ------
        UsageError
            There is a file with something in it, or another process writes it.
        CheckpointError
            It cannot be made.
        """
        path = Path(path)
        descriptor = _open(path, os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size:
                raise UsageError(
                    "there are metrics of a run already",
                    where=str(path),
                    hint="resume that run, or choose another folder",
                )
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, START)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], position: Position) -> Self:
        """Go on at a checkpoint: what was written after it is cut off, a torn last line as well.

        Nothing is changed unless what lies in front of the position is as it was.

        Raises
        ------
        SourceNotFound, UnreadableSource
            The file is missing, shorter than the checkpoint says, or was changed in front of it.
        UsageError
            Another process writes it.
        CheckpointError
            It cannot be opened or cut.
        """
        path = Path(path)
        if not position["bytes"]:
            descriptor = _open(path, os.O_CREAT)
        elif path.exists():
            descriptor = _open(path)
        else:
            raise SourceNotFound(
                "the metrics of the run to be resumed are missing",
                where=str(path),
                why=f"its checkpoint was saved after {position['bytes']} bytes of them",
                hint="put the file back, or start the run again in another folder",
            )
        try:
            _check(path, descriptor, position)
            dropped = _lines_after(descriptor, position["bytes"])
            if os.fstat(descriptor).st_size > position["bytes"]:
                with _as_checkpoint_error(path):
                    os.ftruncate(descriptor, position["bytes"])
                    flush(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, position, dropped)

    @property
    def position(self) -> Position:
        """Where the file ends now, for the checkpoint."""
        return {"bytes": self._size, "crc": self._crc}

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it is on the disk when this returns.

        Raises
        ------
        CheckpointError
            The disk is full or refuses; the file ends with the last whole record, as if nothing had been tried.
        """
        data = line(record)
        if self._unsettled:  # the last write was interrupted half-way
            with _as_checkpoint_error(self.path):
                self._take_back()
        self._unsettled = True
        with _as_checkpoint_error(self.path):
            try:
                if os.write(self._descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                flush(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # tried again before the next record
                    self._take_back()
                raise
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._unsettled = False

    def _take_back(self) -> None:
        os.ftruncate(self._descriptor, self._size)
        flush(self._descriptor)
        self._unsettled = False

    def close(self) -> None:
        """Let go of the file; closing twice is no error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path, flags: int = 0) -> int:
    with _as_checkpoint_error(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | _BINARY | flags, 0o666)
        try:
            # Others are kept out for as long as the descriptor is open.
            hold(
                descriptor,
                UsageError(
                    "another process is writing these metrics",
                    where=str(path),
                    why="two trainings in one folder would mix their records and checkpoints",
                    hint="wait for it or stop it, or choose another folder",
                ),
            )
            flush_path(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


@contextlib.contextmanager
def _as_checkpoint_error(path: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except (CheckpointError, DataError):
        raise
    except OSError as error:
        raise CheckpointError(
            f"the metrics cannot be written: {error.strerror or error}",
            where=str(path),
            why="the records before are intact",
            hint="free some space or check the permissions, then resume the run",
            errno=error.errno,
        ) from error


def _check(path: Path, descriptor: int, position: Position) -> None:
    """Raise UnreadableSource unless the file begins with the very bytes that the checkpoint saw."""
    size, wanted = os.fstat(descriptor).st_size, position["bytes"]
    if size < wanted:
        raise UnreadableSource(
            f"the metrics are {wanted - size} bytes shorter than when the checkpoint was saved",
            where=str(path),
            why="records of finished steps are missing",
            hint="put the whole file back, or start the run again in another folder",
        )
    crc = 0
    for data in _blocks(descriptor, 0, wanted):
        crc = zlib.crc32(data, crc)
    if crc != position["crc"]:
        raise UnreadableSource(
            "the metrics were changed since the checkpoint was saved",
            where=str(path),
            why="their first bytes do not have the checksum in the checkpoint",
            hint="put the unchanged file back, or start the run again in another folder",
        )


def _lines_after(descriptor: int, at: int) -> int:
    """Lines from a position on, a torn last one included."""
    count, last = 0, b"\n"
    for data in _blocks(descriptor, at, os.fstat(descriptor).st_size):
        count, last = count + data.count(b"\n"), data[-1:]
    return count + (last != b"\n")


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    os.lseek(descriptor, start, os.SEEK_SET)  # appending does not look at it
    while start < end and (data := os.read(descriptor, min(_CHUNK, end - start))):
        start += len(data)
        yield data
