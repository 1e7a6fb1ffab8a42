"""Console logs: metric lines of verl and of the Hugging Face trainers in any text.

The file is streamed in blocks of whole lines. Within a block the few lines that can hold a record are found by
searching for fixed bytes, so that a log which is mostly model output is read at the speed of ``bytes.find``. What a
record looks like is known by the kinds of lines in :mod:`entlaw.runs.lines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.decoding import encoding_of
from entlaw.runs.lines import Lines, kinds
from entlaw.runs.parsing.config_dump import PREAMBLE_BYTES, config_from_preamble
from entlaw.runs.parsing.packed_copies import copy_beside
from entlaw.runs.parsing.physical import MOST_LINES, Unwrapped, plain, without_caller
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.text import (
    LineBlocks,
    ReadNotes,
    chunks,
    head_bytes,
    head_is_damaged,
    no_records,
    opened,
    run_name,
)
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import Head, ReadOptions, Source, cut_line

_ENOUGH, _MANY_TIMES = 20, 4  # records of a surer kind after which another is not searched for
_BLANKED = b"\r          "  # tqdm clears its bar with blanks before a record is printed


def sniff(head: Head) -> bool | int:
    """Numbers in the metric lines of the head.

    Any text is taken, and damaged gzip, so that reading says what is wrong with it; binary files are not.
    """
    if head_is_damaged(head):
        return True
    sample = head_bytes(head)
    # Pairs of zeros are a hole, or numbers; single ones are UTF-16 that was appended.
    holes = head.unpacked.count(b"\0\0") if encoding_of(head.unpacked).name == "utf-8" else 0
    if not sample or holes > 0.15 * len(head.unpacked):
        return False
    control = len(sample) - len(sample.translate(None, bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})))
    if control > 0.05 * len(sample):
        return False
    parser = ConsoleParser(ReadOptions())
    parser.feed(sample[: sample.rfind(b"\n") + 1] or sample)
    parser.end_line()
    return parser.n_values


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the one run of a console log.

    Raises
    ------
    UnreadableSource
        No metric line in the file.
    """
    parser, notes = _parse(path, options, 0)
    if width := parser.wrapped_at:
        again = _parse(path, options, width)
        if again[0].n_lost < parser.n_lost and again[0].n_values >= parser.n_values:
            parser, notes = again
    return [parser.run(path, notes, run_name(path))]


def _parse(path: Path, options: ReadOptions, width: int) -> tuple[ConsoleParser, ReadNotes]:
    """Read a log whose lines were broken at ``width`` characters (0: they were not)."""
    notes = ReadNotes(beside=copy_beside(path))
    parser = ConsoleParser(options, width)
    blocks = LineBlocks(notes)
    with opened(path) as handle:
        for data in chunks(handle, notes):
            parser.feed(blocks.feed(data))
    parser.feed(blocks.rest(), closed=False)
    parser.end_line()
    return parser, notes


class ConsoleParser:
    """Collects the records of a stream of blocks of whole lines, each kind of line apart."""

    def __init__(self, options: ReadOptions, width: int = 0) -> None:
        self._track = ProgressTrack()
        self._kinds = [kind(options, self._track) for kind in kinds()]
        self._preamble = bytearray()
        self._separator = b"\n"
        self._cut = ""
        self._held = b""  # lines that the next block may go on with
        self._unwrapped = Unwrapped(width, self._begins) if width else None

    def _begins(self, line: bytes) -> bool:
        return any(kind.begins(line) for kind in self._kinds)

    @property
    def n_records(self) -> int:
        """Records of any kind so far."""
        return sum(kind.rows.n_rows for kind in self._kinds)

    @property
    def n_values(self) -> int:
        """Numbers of any kind so far."""
        return max(kind.n_values for kind in self._kinds)

    @property
    def n_lost(self) -> int:
        """Records of any kind that could not be used."""
        return max(kind.n_lost for kind in self._kinds)

    @property
    def wrapped_at(self) -> int:
        """The constant width at which a terminal broke the lines, 0 if it did not."""
        return max(kind.wrapped_at for kind in self._kinds)

    def feed(self, block: bytes, closed: bool = True) -> None:
        """Take whole lines (``closed=False``: one line that was cut off)."""
        if self._unwrapped is not None:
            block = self._unwrapped(block)
            if not closed:
                block += self._unwrapped.rest()
        self._take(self._held + block, closed, not closed)

    def end_line(self) -> None:
        """Whatever comes next begins a line of its own (the next cell of a notebook)."""
        rest = self._unwrapped.rest() if self._unwrapped is not None else b""
        self._take(self._held + rest, not rest, True)
        self._separator = b"\n"

    def _take(self, block: bytes, closed: bool, last: bool) -> None:
        """Take lines; the ones that more lines may go on with wait for these, unless they are the ``last``."""
        self._held = b""
        if not block:
            return
        text = self._separator + block  # so that each line of the block stands behind its separator
        done, first = 1, len(text) if self.n_records == 0 else 0
        bars = b"%" in text and b"%|" in text
        wanted = self._wanted()
        needles = dict.fromkeys(needle for kind in wanted for needle in kind.looks_for(text))
        scan = _Candidates(text, (*needles, _BLANKED))
        while (found := scan.next()) is not None:
            start, end, needle = found
            line, last_line, below, end = self._whole_line(text, start, end)
            if below is None and not last:
                self._held, text = text[start:], text[:start]
                break
            if bars:
                self._track.gap(text, done, end)
            if needle is _BLANKED and (not line.strip() or line.lstrip().startswith(b"{")):
                self._track.event(is_record=False)
            self._line(wanted, line, last_line, below, closed or end < len(text))
            if self.n_records and first > start:
                first = start
            done = scan.done = end
        if bars:
            self._track.gap(text, done, len(text))
        if first > 0 and len(self._preamble) < PREAMBLE_BYTES:
            self._preamble += text[1 : min(first, PREAMBLE_BYTES)]
        self._separator = text[-1:]

    def _whole_line(self, text: bytes, start: int, end: int) -> tuple[bytes, bytes, bytes | None, int]:
        """A line with those below that go on with it; the last of these; the next, None if not there yet; the end."""
        whole = text[start:end]
        last = without_caller(whole)
        parts = [last]
        kinds = [kind for kind in self._kinds if kind.begins(last)]
        if not kinds:
            return whole, whole, b"", end
        below: bytes | None = b""
        while len(parts) < MOST_LINES:
            below, below_end = _line_below(text, end)
            if below is None:
                break
            glued = ((kind, kind.glue(last, below)) for kind in kinds)
            kind, added = next((one for one in glued if one[1] is not None), (None, None))
            if kind is None or added is None:
                break
            kinds = [kind]
            parts.append(added)
            last, end = below, below_end
        if len(parts) == 1:  # its own end shows whether it is whole
            return whole, whole, below, end
        return b"".join(parts), last, below, end

    def _wanted(self) -> list[Lines]:
        """The kinds to look for: once a trainer's own form is there in numbers, no form that many things have."""
        sure = max(kind.rows.n_rows for kind in self._kinds if not kind.is_fallback)
        return [
            kind
            for kind in self._kinds
            if not kind.is_fallback or sure < _ENOUGH or sure < _MANY_TIMES * kind.rows.n_rows
        ]

    def _line(
        self, kinds: Sequence[Lines], line: bytes, last_line: bytes, below: bytes | None, closed: bool
    ) -> None:
        for kind in kinds:
            if kind.is_fallback or any(needle in line for needle in kind.needles):
                kind.below = None if below is None or kind.begins(below) else plain(below)
                kind.last_line = last_line
                kept = kind.take(line, closed)
                self._cut, kind.cut = kind.cut or self._cut, ""
                if kept:
                    return

    def run(
        self, path: Path, notes: ReadNotes, name: str, details: Mapping[str, Any] | None = None
    ) -> RawRun:
        """What was read, as one run, from the kind of line that weighs most.

        Raises
        ------
        UnreadableSource
            No record.
        """
        for kind in self._kinds:
            kind.finish()
        if self.n_records == 0:
            raise self._nothing(path, notes)
        chosen = max(self._kinds, key=lambda kind: kind.weight * kind.n_values)
        rows, form, framework, found = chosen.result()
        told = {
            "bytes": notes.bytes_read,
            "records": len(rows),
            "values_unread": sum(kind.unread for kind in self._kinds),
            **(details or {}),
        }
        config = config_from_preamble(bytes(self._preamble))
        findings = (*notes.findings(), *found, *self._findings(chosen))
        return RawRun(name, rows, config, Provenance(str(path), form, framework, told), findings)

    def _nothing(self, path: Path, notes: ReadNotes) -> UnreadableSource:
        told = f"looked for lines like {' and '.join(kind.example for kind in self._kinds)}"
        told += f" in {notes.bytes_read:,} bytes of text"
        if lost := sum(kind.n_lost for kind in self._kinds):
            told += f"; {lost} lines look like records that are cut or damaged"
        return no_records(
            path,
            told,
            "point at the file the trainer logs its metrics to (W&B, TensorBoard, metrics.jsonl), "
            "or enable its console logger",
            notes,
        )

    def _findings(self, chosen: Lines) -> list[Finding]:
        findings = [told for kind in self._kinds for told in kind.findings(kind is chosen)]
        if self._unwrapped is not None:
            findings += self._unwrapped.findings()
        if self._cut:
            findings.insert(0, cut_line(f"the file does not end in a newline; {self._cut}"))
        return findings + [
            Finding(
                "other-records",
                "info",
                f"{kind.rows.n_rows} {kind.noun} were not read as records of this run",
            )
            for kind in self._kinds
            if kind is not chosen and kind.rows.n_rows
        ]


@cache
def _rare(needle: bytes) -> bytes:
    """A byte of a needle that prose has few of: its first one that is no letter or digit, if any."""
    return next((byte for byte in map(bytes, zip(needle)) if not byte.isalnum()), needle[:1])


def _line_below(text: bytes, end: int) -> tuple[bytes | None, int]:
    """The line below the one that ends at ``end``, and its end; None if it has not come yet."""
    start = end + 2 if text.startswith(b"\r\n", end) else end + 1
    if start > len(text) or text[end:start] == b"\r":
        return (None, end) if start > len(text) else (b"", end)
    stop = text.find(b"\n", start)
    if stop < 0:
        stop = len(text)
        if stop == start:
            return None, end
    below = text[start:stop]
    return below.removesuffix(b"\r"), stop - below.endswith(b"\r")


class _Candidates:
    """Bounds of the lines that hold one of the needles, in order, without a look at the others.

    Each position of the block is searched once per needle: the next hit of each is remembered.
    """

    def __init__(self, block: bytes, needles: Sequence[bytes]) -> None:
        self._block, self._needles = block, needles
        # One byte is found twenty times faster than two: most blocks of prose hold no brace and no carriage return.
        self._hits = [block.find(needle) if _rare(needle) in block else -1 for needle in needles]
        self._newline = self._carriage = -1
        self.done = 0  # what stands before was looked at

    def next(self) -> tuple[int, int, bytes] | None:
        """Start, end and needle of the next such line."""
        block, size, done = self._block, len(self._block), self.done
        for i, position in enumerate(self._hits):
            if 0 <= position < done:
                self._hits[i] = block.find(self._needles[i], done)
        waiting = [(hit, i) for i, hit in enumerate(self._hits) if hit >= 0]
        if not waiting:
            return None
        hit, which = min(waiting)
        if self._needles[which] is _BLANKED:
            start = hit + 1
        else:
            start = max(block.rfind(b"\n", done, hit), block.rfind(b"\r", done, hit), done - 1) + 1
        if self._newline < start and self._newline != size:
            self._newline = block.find(b"\n", start)
            self._newline = size if self._newline < 0 else self._newline
        if self._carriage < start and self._carriage != size:
            self._carriage = block.find(b"\r", start)
            self._carriage = size if self._carriage < 0 else self._carriage
        return start, min(self._newline, self._carriage), self._needles[which]


SOURCE = Source(
    "console",
    order=100,
    sniff=sniff,
    read=read,
    reference="standard output of verl and of the Hugging Face trainers",
)
