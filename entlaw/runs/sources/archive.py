"""Archives of several logs in a folder: each is read like a folder of its own."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

from entlaw.errors import SourceNotFound, UnreadableSource
from entlaw.runs.incoming import is_archive, received
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source

_MOST_NESTED = 3
_depth: ContextVar[int] = ContextVar("depth", default=0)


def sniff(head: Head) -> bool:
    """Whether the file is a zip or, decompressed, a tar archive."""
    return is_archive(head.start, head.unpacked)


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the runs of all logs in an archive.

    Raises
    ------
    UnreadableSource
        Damaged, too large, or without a log in it.
    """
    from entlaw.runs.files import expand
    from entlaw.runs.reader import read_raw

    if _depth.get() >= _MOST_NESTED:
        raise UnreadableSource(
            "archives within archives", where=str(path), hint="unpack it, and name the files of the log"
        )
    token = _depth.set(_depth.get() + 1)
    try:
        with received(path) as incoming:
            found: list[RawRun] = []
            try:
                files = expand(incoming.source)
            except SourceNotFound:
                files = []
            for file in files:
                try:
                    found += [incoming.of(raw) for raw in read_raw(file, options)]
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


SOURCE = Source("archive", order=25, sniff=sniff, read=read, reference="zip and tar, compressed or not")
