"""Console logs: metric lines of verl and of the Hugging Face trainers in any text.

The file is streamed in blocks of whole lines. Within a block the few lines that can hold a record are found by
searching for fixed bytes, so that a log which is mostly model output is read at the speed of ``bytes.find``. What a
record looks like is known by the kinds of lines in :mod:`entlaw.runs.lines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.lines import Lines, kinds
from entlaw.runs.parsing.config_dump import PREAMBLE_BYTES, config_from_preamble
from entlaw.runs.parsing.copies import copy_beside
from entlaw.runs.parsing.decoding import encoding_of
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
    return parser.n_values


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the one run of a console log.

    Raises
    ------
    UnreadableSource
        No metric line in the file.
    """
    notes = ReadNotes(beside=copy_beside(path))
    parser = ConsoleParser(options)
    blocks = LineBlocks(notes)
    with opened(path) as handle:
        for data in chunks(handle, notes):
            parser.feed(blocks.feed(data))
    parser.feed(blocks.rest(), closed=False)
    return [parser.run(path, notes, run_name(path))]


class ConsoleParser:
    """Collects the records of a stream of blocks of whole lines, each kind of line apart."""

    def __init__(self, options: ReadOptions) -> None:
        self._track = ProgressTrack()
        self._kinds = [kind(options, self._track) for kind in kinds()]
        self._needles = (*(needle for kind in self._kinds for needle in kind.needles), _BLANKED)
        self._preamble = bytearray()
        self._separator = b"\n"
        self._cut = ""

    @property
    def n_records(self) -> int:
        """Records of any kind so far."""
        return sum(kind.rows.n_rows for kind in self._kinds)

    @property
    def n_values(self) -> int:
        """Numbers of any kind so far."""
        return max(kind.n_values for kind in self._kinds)

    def feed(self, block: bytes, closed: bool = True) -> None:
        """Take whole lines (``closed=False``: one line that was cut off)."""
        if not block:
            return
        text = self._separator + block  # so that each line of the block stands behind its separator
        done, first = 1, len(text) if self.n_records == 0 else 0
        bars = b"%" in text and b"%|" in text
        for start, end, needle in _candidates(text, self._needles):
            if bars:
                self._track.gap(text, done, end)
            line = text[start:end]
            if needle is _BLANKED and (not line.strip() or line.lstrip().startswith(b"{")):
                self._track.event(is_record=False)
            self._line(line, closed or end < len(text))
            if self.n_records and first > start:
                first = start
            done = end
        if bars:
            self._track.gap(text, done, len(text))
        if first > 0 and len(self._preamble) < PREAMBLE_BYTES:
            self._preamble += text[1 : min(first, PREAMBLE_BYTES)]
        self._separator = text[-1:]

    def end_line(self) -> None:
        """Whatever comes next begins a line of its own (the next cell of a notebook)."""
        self._separator = b"\n"

    def _line(self, line: bytes, closed: bool) -> None:
        for kind in self._kinds:
            if any(needle in line for needle in kind.needles):
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
        if lost := sum(kind.lost for kind in self._kinds):
            told += f"; {lost} lines look like damaged records"
        return no_records(
            path,
            told,
            "point at the file the trainer logs its metrics to (W&B, TensorBoard, metrics.jsonl), "
            "or enable its console logger",
            notes,
        )

    def _findings(self, chosen: Lines) -> list[Finding]:
        findings = [told for kind in self._kinds for told in kind.findings(kind is chosen)]
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


def _candidates(block: bytes, needles: Sequence[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Bounds of the lines that hold one of the needles, in order, without a look at the others.

    Each position of the block is searched once per needle: the next hit of each is remembered.
    """
    # One byte is found twenty times faster than two: most blocks of prose hold no brace and no carriage return.
    hits = [block.find(needle) if _rare(needle) in block else -1 for needle in needles]
    newline = carriage = -1
    done, size = 0, len(block)
    while True:
        waiting = [(hit, i) for i, hit in enumerate(hits) if hit >= 0]
        if not waiting:
            return
        hit, which = min(waiting)
        if needles[which] is _BLANKED:
            start = hit + 1
        else:
            start = max(block.rfind(b"\n", done, hit), block.rfind(b"\r", done, hit), done - 1) + 1
        if newline < start and newline != size:
            newline = block.find(b"\n", start)
            newline = size if newline < 0 else newline
        if carriage < start and carriage != size:
            carriage = block.find(b"\r", start)
            carriage = size if carriage < 0 else carriage
        end = min(newline, carriage)
        yield start, end, needles[which]
        done = end
        for i, position in enumerate(hits):
            if 0 <= position < end:
                hits[i] = block.find(needles[i], end)


SOURCE = Source(
    "console",
    order=100,
    sniff=sniff,
    read=read,
    reference="standard output of verl and of the Hugging Face trainers",
)
