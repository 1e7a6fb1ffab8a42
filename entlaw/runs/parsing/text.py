"""Opening logs: blocks of whole lines in bounded memory, names and configurations from the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.bounds import DOCUMENT_OF_PACKED, FREE_DOCUMENT, MOST_DOCUMENT, Inflated, WithoutHoles
from entlaw.runs.decoding import Decoded, Encoding
from entlaw.runs.packed import SUFFIXES, CutShort, Damaged, Unpacked, decompressor, packing_of
from entlaw.runs.parsing.packed_copies import copy_beside
from entlaw.runs.source import Head
from entlaw.runs.table import flatten

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 1 << 22  # no metric record comes near 4 MB; a longer line is binary or one endless dump
_ANSI = re.compile(rb"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# Names that every run of a trainer shares: the folder says which run it is.
_GENERIC = re.compile(
    r"(metrics|trainer_state|step_logs|logs?|history|output|train(ing)?|progress|results?|stdout|console)"
    r"([-_.]?\d+)?",
    re.IGNORECASE,
)
_GENERIC_FOLDER = re.compile(r"checkpoint-\d+|files|raw|logs?|outputs?|results?|runs?|", re.IGNORECASE)
_MAX_CONFIG_BYTES = 4 << 20
_MAGIC_BYTES = 16


@dataclass
class ReadNotes:
    """What reading the bytes of a file met; filled while the file streams by."""

    bytes_read: int = 0
    long_lines: int = 0
    cut_gzip: bool = False
    damaged_gzip: bool = False
    beside: list[Finding] = field(default_factory=list)
    encoding: Encoding = field(default_factory=Encoding)

    def findings(self) -> list[Finding]:
        """The notes that a user should see."""
        found = list(self.beside)
        if self.encoding.guessed:
            found.append(
                Finding(
                    "encoding-guessed",
                    "info",
                    f"read as {self.encoding.name.upper()}: every other byte is zero, and there is no byte-order mark",
                )
            )
        if self.damaged_gzip:
            found.append(
                Finding(
                    "damaged-gzip",
                    "error",
                    "the compressed file is damaged: its checksum or its structure is wrong",
                    "numbers may have been changed without a trace, and later steps may be missing",
                    "copy the file again; --force fits what could be read",
                )
            )
        if self.cut_gzip:
            found.append(
                Finding(
                    "truncated-gzip",
                    "warning",
                    "the compressed file ends early; what came before was read",
                    "later steps are missing",
                    "copy the file again, or decompress it with a tool that repairs",
                )
            )
        if self.long_lines:
            found.append(
                Finding(
                    "long-lines-skipped",
                    "info",
                    f"{self.long_lines} lines of more than {LONGEST_LINE >> 20} MB were skipped",
                    value=float(self.long_lines),
                )
            )
        return found


@dataclass
class LineBlocks:
    """Cuts a stream of bytes into blocks of whole lines, holding at most one unfinished line.

    Attributes
    ----------
    separators : bytes
        Bytes that end a line; console logs are cut at carriage returns as well.
    """

    notes: ReadNotes
    separators: bytes = b"\n\r"
    skipping: bool = field(default=False, init=False)
    _carry: list[bytes] = field(default_factory=list, init=False)  # of a line that came in many pieces
    _carried: int = field(default=0, init=False)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return the whole lines that are complete now (possibly none)."""
        cut = max(data.rfind(bytes([s])) for s in self.separators) + 1
        if self.skipping:
            if cut == 0:
                return b""
            first = min(p for p in (data.find(bytes([s])) for s in self.separators) if p >= 0) + 1
            data, cut, self.skipping = data[first:], cut - first, False
        if cut == 0:
            self._carry.append(data)
            self._carried += len(data)
            if self._carried > LONGEST_LINE:
                self.rest()
                self.skipping = True
                self.notes.long_lines += 1
            return b""
        whole = self.rest() + data[:cut]
        self._carry, self._carried = [data[cut:]], len(data) - cut
        return whole

    def rest(self) -> bytes:
        """The unfinished last line."""
        last = b"".join(self._carry)
        self._carry, self._carried = [], 0
        return last


@contextmanager
def opened(path: Path) -> Iterator[Decoded]:
    """Open a text file for reading: decompressed as its magic number says, and as UTF-8.

    Raises
    ------
    UnreadableSource
        The system does not give it, or nothing here decompresses it.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise UnreadableSource(
            f"cannot open: {error.strerror}", where=str(path), hint="check the path and its permissions"
        ) from error
    with handle:
        packing = packing_of(handle.read(_MAGIC_BYTES))
        handle.seek(0)
        if packing is None:
            yield Decoded(WithoutHoles(handle))
        elif decompressor(packing) is not None:
            yield Decoded(Inflated(Unpacked(handle, packing), path.stat().st_size, path))
        else:
            raise UnreadableSource(
                f"the file is compressed with {packing.name}, which is not read here",
                where=str(path),
                hint=packing.hint,
            )


def chunks(handle: Decoded, notes: ReadNotes, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Read a file in pieces of UTF-8; a damaged compressed stream ends early and is noted."""
    while True:
        before = handle.taken
        try:
            data = handle.read(size)
        except Damaged:
            notes.damaged_gzip = True
            return
        except (CutShort, OSError):
            notes.cut_gzip = True
            return
        finally:
            notes.encoding = handle.encoding
            notes.bytes_read += handle.taken - before
        if not data:
            return
        yield data


def lines(path: Path, notes: ReadNotes) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of a file and whether each is closed by a newline (only the last one may not be).

    Lines end as on any system: in a newline, a carriage return or both.
    """
    notes.beside = copy_beside(path)
    blocks = LineBlocks(notes)
    with opened(path) as handle:
        for data in chunks(handle, notes):
            for line in blocks.feed(data).replace(b"\r", b"\n").split(b"\n"):
                if line:
                    yield line, True
    last = blocks.rest()
    if last.strip():
        yield last, False


def read_all(path: Path, notes: ReadNotes) -> bytes:
    """The whole of a file that is one document.

    Raises
    ------
    UnreadableSource
        Too large to be held as a whole.
    """
    notes.beside = copy_beside(path)
    parts, total = [], 0
    with opened(path) as handle:
        limit = min(MOST_DOCUMENT, max(FREE_DOCUMENT, DOCUMENT_OF_PACKED * path.stat().st_size))
        for data in chunks(handle, notes):
            parts.append(data)
            total += len(data)
            if total > limit:
                raise UnreadableSource(
                    f"one JSON document of more than {limit >> 20} MB",
                    where=str(path),
                    why="a document is held as a whole, and takes many times its length in memory",
                    hint="export it as JSON lines, which are read as a stream",
                )
    return b"".join(parts)


def head_bytes(head: Head) -> bytes:
    """The first bytes of a text file, decompressed and in UTF-8."""
    return head.content


def head_is_whole(head: Head) -> bool:
    """Whether :func:`head_bytes` shows all that the file holds."""
    return head.extent == "whole"


def head_is_damaged(head: Head) -> bool:
    """Whether the file is compressed and cannot be decompressed, from its first bytes on."""
    return head.extent == "damaged"


def head_lines(head: Head, most: int | None = 30) -> list[str]:
    """The first whole lines that are not blank, ``None`` for all (one cut by the end of the head is left out)."""
    found = head.text.replace("\r", "\n").split("\n")
    if not head_is_whole(head) and len(found) > 1:
        found.pop()
    return [line for line in found if line.strip()][:most]


def strip_ansi(line: bytes) -> bytes:
    """Remove terminal control sequences (colours, cursor movements, titles)."""
    return _ANSI.sub(b"", line) if b"\x1b" in line else line


def run_name(path: Path) -> str:
    """A name for the run in a file: the file's, or the folder's where the trainer names all files alike."""
    stem = path.name
    while Path(stem).suffix.lower() in {
        *SUFFIXES,
        ".jsonl",
        ".json",
        ".log",
        ".txt",
        ".out",
        ".csv",
        ".tsv",
        ".md",
        ".ipynb",
        ".parquet",
        ".ndjson",
        ".err",
    }:
        stem = Path(stem).stem
    if not _GENERIC.fullmatch(stem):
        return stem
    for folder in path.absolute().parents:
        if not _GENERIC_FOLDER.fullmatch(folder.name):
            return folder.name
    return stem


def sibling_config(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Flat configuration from JSON files beside a log; anything unreadable there is passed over."""
    config: dict[str, Any] = {}
    for name in names:
        beside = path.parent / name
        try:
            if beside.is_file() and beside.stat().st_size <= _MAX_CONFIG_BYTES:
                told = json.loads(beside.read_bytes())
                if isinstance(told, Mapping):
                    config.update(flatten(told))
        except (OSError, ValueError, RecursionError):
            continue
    return config


def no_records(path: Path, looked_for: str, hint: str, notes: ReadNotes | None = None) -> UnreadableSource:
    """The error of a file that is readable and holds no metrics, or none in front of the damage."""
    what = "no metric lines found"
    if notes is not None and (notes.damaged_gzip or notes.cut_gzip):
        what += f": the compressed file {'is damaged' if notes.damaged_gzip else 'ends early'}"
        hint = f"copy the file again; or {hint}"
    return UnreadableSource(what, where=str(path), why=looked_for, hint=hint)
