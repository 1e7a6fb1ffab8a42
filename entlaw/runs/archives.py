"""Archives of several logs in a folder: each is read like a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from entlaw.errors import SourceNotFound, UnreadableSource
from entlaw.runs.files import expand
from entlaw.runs.incoming import received
from entlaw.runs.run import RawRun

_MOST_NESTED = 3
_depth: ContextVar[int] = ContextVar("depth", default=0)


def read_members(path: Path, read: Callable[[Path], list[RawRun]]) -> list[RawRun]:
    """The runs of all logs in an archive.

    Parameters
    ----------
    path : pathlib.Path
    read : callable
        Reads the runs of one file.

    Raises
    ------
    UnreadableSource
        Damaged, too large, or without a log in it.
    """
    if _depth.get() >= _MOST_NESTED:
        raise UnreadableSource(
            "archives within archives", where=str(path), hint="unpack it, and name the files of the log"
        )
    token = _depth.set(_depth.get() + 1)
    found: list[RawRun] = []
    files: list[Path] = []
    try:
        with received(path) as incoming:
            try:
                files = expand(incoming.source)
            except SourceNotFound:
                files = []
            for file in files:
                try:
                    found += [incoming.of(raw) for raw in read(file)]
                except UnreadableSource:
                    continue
    finally:
        _depth.reset(token)
    if not found:
        raise UnreadableSource(
            "the archive holds no run log",
            where=str(path),
            why=f"none of its {len(files)} files is one",
            hint="unpack it, and name the file of the log to see what is wrong with it",
        )
    return found
