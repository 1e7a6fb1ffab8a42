"""What a log format is: how it is recognised, how it is read, its place among the others, and what all can report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.decoding import decoded
from entlaw.runs.packed import Extent, unpacked_start
from entlaw.runs.run import RawRun

_LAST_SECOND = 253402300800  # of the year 9999
HEAD_BYTES = 1 << 16  # enough for any header; a log's preamble may be longer, which is why console comes last


@dataclass(frozen=True)
class Head:
    """The beginning of a file, for recognition by content.

    Attributes
    ----------
    path : pathlib.Path
    start : bytes
        The first ``HEAD_BYTES`` bytes, as they are on disk.
    size : int
        Size of the file in bytes.
    """

    path: Path
    start: bytes
    size: int

    @cached_property
    def _unpacked(self) -> tuple[bytes, Extent]:
        return unpacked_start(self.start, self.path, self.size, HEAD_BYTES)

    @property
    def unpacked(self) -> bytes:
        """What the file begins with, decompressed if need be."""
        return self._unpacked[0]

    @property
    def extent(self) -> Extent:
        """Whether ``unpacked`` is all that the file holds, or its compression is damaged from there on."""
        return self._unpacked[1]

    @cached_property
    def content(self) -> bytes:
        """What a text file begins with, decompressed and in UTF-8, whatever its encoding."""
        return decoded(self.unpacked)

    @property
    def text(self) -> str:
        """The same as text; undecodable bytes become U+FFFD, a byte-order mark is dropped."""
        return self.content.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class ReadOptions:
    """What the user said about the file.

    Attributes
    ----------
    step_key, entropy_key, on : str or None
        Keys to use instead of the registry's choice. Readers only need them to split or index rows.
    """

    step_key: str | None = None
    entropy_key: str | None = None
    on: str | None = None


@dataclass(frozen=True)
class Source:
    """One log format: how it is recognised and how it is read.

    Attributes
    ----------
    name : str
        Shown to users; no two sources share one.
    order : int
        Sources with a lower number are asked first. Ours: 10 to 30 a magic number, 40 a file's place in a folder,
        50 to 90 structured files, 100 any text with metric lines in it. A format that one of these would take
        for its own needs a lower number than that one.
    sniff : callable
        ``sniff(head)``: whether the file is of this format, judged from its :class:`Head`. True settles it, unless
        a source asked before reads numbers from the head. A format of text that others may resemble returns how many
        numbers it reads from the head (0: perhaps, but none there). A source of higher order wins with more than
        twice as many.
    read : callable
        ``read(path, options)``: all runs of a file, as a list of :class:`~entlaw.runs.run.RawRun`. Raises
        :class:`~entlaw.errors.UnreadableSource`; never anything else for bad content.
    reference : str
        Where the format is described, or who writes it.
    files : str
        Regular expression of whole file names that only this logger gives. Such a file in a folder is read whatever
        its suffix, and an error is reported when it cannot be.
    needs : tuple of str
        Modules that ``read`` imports and that do not come with entlaw.
    plugin : str
        The distribution that offers it; empty for our own.
    """

    name: str
    order: int
    sniff: Callable[[Head], bool | int]
    read: Callable[[Path, ReadOptions], list[RawRun]]
    reference: str
    files: str = ""
    needs: tuple[str, ...] = ()
    plugin: str = ""

    def __post_init__(self) -> None:
        re.compile(self.files)  # a wrong one fails here, not at the first file that is read

    def names(self, path: Path) -> bool:
        """Whether the file's name alone says that this logger wrote it."""
        return bool(self.files) and re.fullmatch(self.files, path.name) is not None


def iso_time(seconds: float) -> str | None:
    """A time as ISO text; None where the number is no time."""
    if not 0 < seconds < _LAST_SECOND:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def cannot_read(
    error: OSError, path: Path, hint: str = "check the file's permissions and the disk"
) -> UnreadableSource:
    """The error of a file that the system does not give."""
    return UnreadableSource(f"cannot read: {error.strerror}", where=str(path), hint=hint)


def cut_line(what: str) -> Finding:
    """Text that ends inside a line."""
    return Finding("truncated-tail", "info", what, "the trainer was still writing, or was killed")


def cut_record(n_bytes: int) -> list[Finding]:
    """A container that ends inside a record; nothing without such bytes."""
    what = f"the last {n_bytes} bytes are an incomplete record and were left out"
    why = "the run is still being written, or its process was killed"
    return [Finding("truncated-tail", "info", what, why, value=float(n_bytes))] if n_bytes else []


def corrupt(code: str, n: int, what: str, hint: str) -> Finding:
    """Places whose checksum is wrong."""
    why = "steps may be missing in the middle of the run; what was read passed its checksum"
    return Finding(code, "warning", what, why, hint, float(n))


def undecodable(n: int, what: str, hint: str = "") -> list[Finding]:
    """Records with a right checksum that make no sense; nothing without such records."""
    why = "their checksum is right, so they were written like that"
    what = f"{n} {what} could not be decoded and were left out"
    return [Finding("undecodable-values", "warning", what, why, hint, float(n))] if n else []


def unread(code: str, n: int, what: str, why: str) -> list[Finding]:
    """Lines that are not as they should be; nothing without such lines."""
    hint = "look at them if they fall among the steps of the fit"
    return [Finding(code, "warning", f"{n} {what}", why, hint, float(n))] if n else []
