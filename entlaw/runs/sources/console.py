"""Console logs: metric lines of verl and of the Hugging Face trainers in any text.

The file is streamed in blocks of whole lines. Within a block the few lines that can hold a record are found by
searching for fixed bytes, so that a log which is mostly model output is read at the speed of ``bytes.find``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.parsing.config_dump import PREAMBLE_BYTES, config_from_preamble
from entlaw.runs.parsing.dict_line import dictionaries, kind_of
from entlaw.runs.parsing.dict_line import numbers as read_numbers
from entlaw.runs.parsing.gzipped import copy_beside
from entlaw.runs.parsing.progress import Inferred, Kind, ProgressTrack, infer_steps
from entlaw.runs.parsing.text import (
    LineBlocks,
    ReadNotes,
    chunks,
    head_bytes,
    head_is_damaged,
    no_records,
    opened,
    run_name,
    strip_ansi,
)
from entlaw.runs.parsing.verl_line import is_verl, verl_records
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.table import RowBuilder

_BLANKED = b"\r          "  # tqdm clears its bar with blanks before a record is printed
_NEEDLES = (b"step:", b"{'", b'{"', _BLANKED)
_RARE = (b":", b"{", b"{", b"\r")  # a byte that each needle needs
_LONGEST_RECORD = 1 << 18
_STEP_KEYS = ("step", "global_step", "training_step", "train/global_step", "iteration")
_STEPS = set(_STEP_KEYS)
# A dictionary in a log is a record of metrics if it names one of these; model output is full of other ones.
_MARKS = {
    "loss",
    "reward",
    "entropy",
    "grad_norm",
    "train_loss",
    "train_runtime",
    "eval_loss",
    "eval_runtime",
}
_LOOKED_FOR = "looked for lines like `step:4 - actor/entropy:0.41 - ...` (verl) and {'loss': 0.1, ...} (TRL)"


def sniff(head: Head) -> bool:
    """Any text is taken, and damaged gzip, so that reading says what is wrong with it; binary files are not."""
    if head_is_damaged(head):
        return True
    start = head.start if head.start.startswith(b"\xff\xfe") else head_bytes(head)
    if not start:
        return False
    if head.start.count(b"\0") > 0.3 * len(head.start) and not head.start.startswith(b"\xff\xfe"):
        return False
    sample = start.replace(b"\0", b"")
    control = len(sample) - len(sample.translate(None, bytes(set(range(32)) - {7, 8, 9, 10, 12, 13, 27})))
    return control <= 0.05 * len(sample)


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
    """Collects the records of a stream of blocks of whole lines.

    verl lines and dictionaries are kept apart: a verl log also prints dictionaries, which repeat its numbers.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._verl, self._dict = RowBuilder(), RowBuilder()
        self._values = {"verl": 0, "dict": 0}
        self._track = ProgressTrack()
        self._kinds: list[Kind] = []  # of dictionary rows without a step, lost ones included
        self._stepless: list[int] = []  # row number of each, -1 for a lost one
        self._json_rows = 0
        self._preamble = bytearray()
        self._separator = b"\n"
        self._marks = _MARKS | ({options.entropy_key} if options.entropy_key else set())
        self._unread = self._lost = 0
        self._cut = ""
        self._all_closed = True

    @property
    def n_records(self) -> int:
        """Records of either kind so far."""
        return self._verl.n_rows + self._dict.n_rows

    def feed(self, block: bytes, closed: bool = True) -> None:
        """Take whole lines (``closed=False``: one line that was cut off)."""
        if not block:
            return
        text = self._separator + block  # so that each line of the block stands behind its separator
        done, first = 1, len(text) if self.n_records == 0 else 0
        bars = b"%" in text and b"%|" in text
        for start, end, needle in _candidates(text):
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
        if b"step:" in line:
            text = strip_ansi(line).decode("utf-8", errors="replace")
            records, unread = verl_records(text, closed)
            for keys, values in records:
                self._values["verl"] += len(keys) - 1
                self._verl.add_numbers(keys, values)
            self._unread += unread
            if not closed and is_verl(text):
                self._cut = "the value it ends with was left out, since it may be half a number"
            if records:
                return
        if len(line) <= _LONGEST_RECORD and (b"{'" in line or b'{"' in line):
            self._dictionary(strip_ansi(line).decode("utf-8", errors="replace"), closed)

    def _dictionary(self, line: str, closed: bool) -> None:
        for record, whole, is_json in dictionaries(line):
            if whole or not closed:
                numbers = read_numbers(record)
                if not whole and self._looks_lost(line):
                    self._cut = "the record it ends with is incomplete, and its unfinished pair was left out"
                if len(numbers) < 2 or not self._is_record(record):
                    continue
                self._dict.add_numbers(tuple(numbers), list(numbers.values()))
                self._values["dict"] += len(numbers)
                self._json_rows += is_json
                if not _STEPS & record.keys():
                    self._stepless_record(self._dict.n_rows - 1, kind_of(record))
            elif self._looks_lost(line):
                self._lost += 1
                self._stepless_record(-1, "train")

    def _stepless_record(self, row: int, kind: Kind) -> None:
        self._track.event(is_record=True)
        self._kinds.append(kind)
        self._stepless.append(row)

    def _is_record(self, record: Mapping[str, Any]) -> bool:
        keys = record.keys()
        return bool(self._marks & keys or _STEPS & keys) or any(k.startswith("eval_") for k in keys)

    def _looks_lost(self, line: str) -> bool:
        return sum(f"'{mark}'" in line or f'"{mark}"' in line for mark in (*self._marks, "epoch")) >= 2

    def run(
        self, path: Path, notes: ReadNotes, name: str, details: Mapping[str, Any] | None = None
    ) -> RawRun:
        """What was read, as one run.

        Raises
        ------
        UnreadableSource
            No record.
        """
        findings = notes.findings()
        verl = self._verl.n_rows > 0 and 4 * self._values["verl"] >= self._values["dict"]
        if verl:
            rows, form, framework = self._verl.frame(), "verl-console", "verl"
        elif self._dict.n_rows:
            rows, more = self._dict_frame()
            findings += more
            json_log = self._json_rows * 2 > self._dict.n_rows
            form = "json-console" if json_log else "trl-console"
            framework = "unknown" if json_log or "loss" not in rows.columns else "trl"
        else:
            raise self._nothing(path, notes)
        ignored = self._dict.n_rows if verl else self._verl.n_rows
        findings += self._told(ignored, verl)
        told = {
            "bytes": notes.bytes_read,
            "records": len(rows),
            "values_unread": self._unread,
            **(details or {}),
        }
        config = config_from_preamble(bytes(self._preamble))
        return RawRun(name, rows, config, Provenance(str(path), form, framework, told), tuple(findings))

    def _nothing(self, path: Path, notes: ReadNotes) -> UnreadableSource:
        told = f"{_LOOKED_FOR} in {notes.bytes_read:,} bytes of text"
        if self._lost:
            told += f"; {self._lost} lines look like damaged records"
        return no_records(
            path,
            told,
            "point at the file the trainer logs its metrics to (W&B, TensorBoard, metrics.jsonl), "
            "or enable its console logger",
            notes,
        )

    def _told(self, ignored: int, verl: bool) -> list[Finding]:
        findings = []
        if self._cut:
            findings.append(
                Finding(
                    "truncated-tail",
                    "info",
                    f"the file does not end in a newline; {self._cut}",
                    "the trainer was still writing, or was killed",
                )
            )
        if self._unread:
            findings.append(
                Finding(
                    "values-unread",
                    "info",
                    f"{self._unread} values in metric lines are not numbers and were left out",
                    "several processes write to this log at once, or it is damaged",
                    value=float(self._unread),
                )
            )
        if self._lost and not verl:
            findings.append(
                Finding(
                    "records-unread",
                    "warning",
                    f"{self._lost} lines look like records and cannot be read; they were left out",
                    "the log is damaged, or two processes wrote into one line",
                    value=float(self._lost),
                )
            )
        if ignored:
            other = "dictionaries with metrics" if verl else "lines like `step:N - key:value`"
            findings.append(
                Finding("other-records", "info", f"{ignored} {other} were not read as records of this run")
            )
        return findings

    def _dict_frame(self) -> tuple[pd.DataFrame, list[Finding]]:
        rows = self._dict.frame()
        if all(row < 0 for row in self._stepless):  # damaged lines aside, every record names its step
            return rows, []
        found = infer_steps(self._kinds, self._track)
        named = next((k for k in _STEP_KEYS if k in rows), None)
        step = rows[named].to_numpy(float, copy=True) if named else np.full(len(rows), np.nan)
        for row, inferred in zip(self._stepless, found.step, strict=True):
            if row >= 0:
                step[row] = inferred
        rows = rows.drop(columns="step", errors="ignore")
        rows.insert(0, "step", step)
        return rows, [_step_finding(found)]


def _step_finding(found: Inferred) -> Finding:
    if found.how == "order":
        return Finding(
            "step-by-order",
            "warning",
            f"no record names its step and no progress bar tells: numbered 1..{int(found.step.max(initial=0))}",
            "the fit window (--until-step) then counts records, not optimiser steps",
            "log to trainer_state.json or W&B, or multiply by the trainer's logging_steps",
        )
    return Finding(
        "step-inferred",
        "warning" if found.how == "cadence" else "info",
        f"records name no step; taken from {found.detail} ({found.step[0]:g}..{found.step[-1]:g})",
        "the step decides which records the fit sees",
    )


def _candidates(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Bounds of the lines that hold one of the needles, in order, without a look at the others.

    Each position of the block is searched once per needle: the next hit of each is remembered.
    """
    # One byte is found twenty times faster than two: most blocks of prose hold no brace and no carriage return.
    hits = [block.find(needle) if rare in block else -1 for needle, rare in zip(_NEEDLES, _RARE, strict=True)]
    newline = carriage = -1
    done, size = 0, len(block)
    while True:
        waiting = [(hit, i) for i, hit in enumerate(hits) if hit >= 0]
        if not waiting:
            return
        hit, which = min(waiting)
        if _NEEDLES[which] is _BLANKED:
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
        yield start, end, _NEEDLES[which]
        done = end
        for i, position in enumerate(hits):
            if 0 <= position < end:
                hits[i] = block.find(_NEEDLES[i], end)


SOURCE = Source(
    "console",
    order=100,
    sniff=sniff,
    read=read,
    reference="standard output of verl and of the Hugging Face trainers",
)
