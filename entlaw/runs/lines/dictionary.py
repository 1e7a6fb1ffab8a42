"""Dictionaries in a line of a log: ``{'loss': 0.1, 'entropy': 0.4}`` as Python prints it, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import find_axes, names_step
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.cuts import LineEnds, lines_cut
from entlaw.runs.parsing.literal import LiteralError, parse_flat, parse_literal
from entlaw.runs.parsing.physical import displayed, label_of, plain, unlabelled
from entlaw.runs.parsing.pretty import OpenDictionary
from entlaw.runs.parsing.progress import Inferred, ProgressTrack, RecordKind, infer_steps
from entlaw.runs.parsing.records import unwrapped
from entlaw.runs.parsing.repeats import find_copies, repeated, started_again
from entlaw.runs.parsing.torn import are_whole, have_common
from entlaw.runs.source import ReadOptions
from entlaw.runs.table import flatten, parse_under

_MOST_BROKEN = 32  # in one line, which is model output if it has more
_LONGEST = 1 << 18  # bytes; a longer line is model output
_LEAST_BYTES = 16  # of a dictionary over several lines
_JSON = json.JSONDecoder()
_START = re.compile(r"""\{['"]""")
_RECORD = re.compile(rb"""\{(['"])[^'"]{1,200}\1:""")
_VALUE_NEXT = re.compile(r"""['"]\s{0,4}:\s{0,4}\Z""")
_ITEM = re.compile(r"""['"\w.+-]""")
# `Global step 11: {...}`, `[step 3/200] metrics: {...}`
_STEP_IN_FRONT = re.compile(
    r"(?<!\w)(?:global|training|train|optimizer|grpo|ppo)?[ _]?(?:step|iteration|iter|update)s?\s*[:=#]?\s*(\d{1,15})"
    r"(?:\s*/\s*\d+)?(?![\d.]*\d)[^\d{}]{0,24}$",
    re.IGNORECASE,
)
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
    "objective/scores",
    "objective/rlhf_reward",
}


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The pairs whose value is a number."""
    pairs = ((k, v if type(v) is float else parse_under(k, v)) for k, v in record.items())
    return {k: v for k, v in pairs if v is not None}


def kind_of(record: Mapping[str, Any]) -> RecordKind:
    """Which of the records the Hugging Face trainers print this is."""
    if "train_runtime" in record:
        return "summary"
    own = [k for k in record if k not in ("epoch", "step")]
    return "eval" if own and all(k.startswith("eval_") for k in own) else "train"


def dictionaries(line: str) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Dictionaries in a line, each with whether it is whole and whether it is JSON.

    One that is not whole holds the pairs that a comma completes.
    """
    # With the quotes turned, most printed dictionaries are JSON, which is read in C; `nan` and calls are not.
    turned = line if '"' in line or "\\" in line else line.replace("'", '"')
    position = 0
    broken = 0
    while broken < _MOST_BROKEN and (found := _START.search(line, position)):
        start = found.start()
        is_json = line[start + 1] == '"'
        try:
            value, position = _JSON.raw_decode(turned, start)
        except (ValueError, RecursionError):
            value, position, whole = parse_flat(line, start)
            if not whole:
                try:
                    value, position = parse_literal(line, start)
                except LiteralError:
                    # What begins inside a broken one is another process's record, unless it is a value in it.
                    if not _VALUE_NEXT.search(line, max(start - 8, 0), start):
                        yield value, False, is_json
                    broken += 1
                    position = max(position, start + 2)
                    continue
        if isinstance(value, dict):
            yield _unwrapped(value), True, is_json


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of pairs; one with a key twice is made of two records."""
    once = dict(pairs)
    if len(once) < len(pairs):
        raise ValueError("a key is there twice")
    return once


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(v, dict) for v in value.values()):
        return value
    return dict(flatten(unwrapped(value)))


class DictionaryLines(Lines):
    """Dictionaries as the Hugging Face trainers, and loggers of JSON, print them."""

    order = 20
    needles = (b"{'", b'{"', b"{\n")
    example = "{'loss': 0.1, ...} (TRL)"
    noun = "dictionaries with metrics"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._track = track
        self._ends = LineEnds()
        self._open = OpenDictionary()
        self._kinds: list[RecordKind] = []  # of rows without a step, lost ones included
        self._stepless: list[int] = []  # row number of each, -1 for a lost one
        self._labels: list[str] = []  # of the process that printed each
        self._json_rows = 0
        self._marks = _MARKS | ({options.entropy_key} if options.entropy_key else set())

    def looks_for(self, block: bytes) -> tuple[bytes, ...]:
        """Not for lines that end in a brace where these are too many to open anything."""
        return self.needles if block.count(b"{\n") * _LEAST_BYTES < len(block) else self.needles[:2]

    def begins(self, line: bytes) -> bool:
        """Whether a dictionary begins in a line."""
        return self._open.opens(line, self.rows.n_rows) or _RECORD.search(line) is not None

    def glue(self, line: bytes, following: bytes) -> bytes | None:
        """What an open dictionary has on the next line; word wrap breaks it behind a comma or a colon."""
        if (added := self._open.goes_on(line, following)) is not None:
            return added
        text, end = unlabelled(plain(following)).strip(), line.rstrip()[-1:]
        if end not in (b",", b":") or _RECORD.search(following) is not None:
            return None
        return (
            b" " + text.encode() if (text[:1] in ("'", '"') if end == b"," else _ITEM.match(text)) else None
        )

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the dictionaries of a line that are records of metrics."""
        if len(line) > _LONGEST:
            return False
        before, text = self.rows.n_rows, plain(line)
        found = list(dictionaries(text))
        broken = sum(not whole for _, whole, _ in found)
        if broken and len(found) > 1 and self._is_rest_below():
            # Two processes wrote at once: nothing shows which part is of which record.
            found = [({}, False, is_json) for _, _, is_json in found]
        for i, (record, whole, is_json) in enumerate(found, 1):
            unfinished = not whole and not closed and i == len(found)
            if whole or unfinished:
                self._add(record, whole, is_json, text)
            elif self._is_lost_record(text):
                self.lost += 1
                self._stepless_record(-1, "train", text)
        if closed and found and (not broken or self._is_lost_record(text)):
            lengths = len(self.last_line), displayed(self.last_line)
            rest = broken > 0 and bool(self.below and self.below.strip())
            self._ends.add(-1, "", *lengths, -1, broken > 0, rest)
        return self.rows.n_rows > before

    def _add(self, record: dict[str, Any], whole: bool, is_json: bool, text: str) -> None:
        pairs = numbers(record)
        has_step = any(map(names_step, record))
        if not whole and self._is_lost_record(text):
            self.cut = "the record it ends with is incomplete, and its unfinished pair was left out"
            if not has_step and self.rows.n_rows > 2 * len(self._stepless):
                self.cut = "the record it ends with is incomplete and was left out: its step is missing"
                return
        if len(pairs) < 2 or not self._is_record(record):
            return
        for key in record.keys() - pairs.keys():
            self.rows.note_unread(key, record[key])
        if not has_step and (front := _STEP_IN_FRONT.search(text[: text.find("{")][-80:])):
            pairs, has_step = {"step": float(front[1]), **pairs}, True
        self.rows.add_numbers(tuple(pairs), list(pairs.values()))
        self.n_values += len(pairs)
        self._json_rows += is_json
        if not has_step:
            self._stepless_record(self.rows.n_rows - 1, kind_of(record), text)

    def _is_rest_below(self) -> bool:
        """Whether the line below may be the rest of a record that another one was written into."""
        below = self.below
        return below is not None and (not below.strip() or below.rstrip().endswith("}"))

    def _stepless_record(self, row: int, kind: RecordKind, text: str) -> None:
        self._track.event(is_record=True)
        self._kinds.append(kind)
        self._stepless.append(row)
        self._labels.append(label_of(text))

    def _is_record(self, record: Mapping[str, Any]) -> bool:
        keys = record.keys()
        return (
            bool(self._marks & keys)
            or any(map(names_step, record))
            or any(k.startswith("eval_") or k.endswith("/entropy") for k in keys)
        )

    def _is_lost_record(self, line: str) -> bool:
        return sum(f"'{mark}'" in line or f'"{mark}"' in line for mark in (*self._marks, "epoch")) >= 2

    @property
    def n_lost(self) -> int:
        """Records that are cut or damaged."""
        return self.lost

    @property
    def wrapped_at(self) -> int:
        """The width at which dictionaries were broken, 0 if they were not."""
        return self._ends.wrapped_at()

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows, with steps from the progress bar where they name none."""
        rows, told = self._stepped()
        if self._json_rows * 2 > self.rows.n_rows:
            return rows, "json-console", "unknown", told
        return rows, "trl-console", "trl" if "loss" in rows.columns else "unknown", told

    def _stepped(self) -> tuple[pd.DataFrame, list[Finding]]:
        rows = self.rows.frame()
        whole = are_whole(rows)
        if not whole.all():
            self.lost += int((~whole).sum())
        there = [row for row in self._stepless if row >= 0]
        if not there:  # damaged lines aside, every record names its step
            return rows[whole].reset_index(drop=True), []
        named = next((a.column for a in find_axes(rows) if names_step(a.column)), None)
        step = rows[named].to_numpy(float, copy=True) if named else np.full(len(rows), np.nan)
        if 2 * len(there) <= len(rows):
            # Most records name their step. One that does not belongs to the record before it, but for one that
            # lacks nothing else: of that it is unknown.
            full = have_common(rows)
            whole[[row for row in there if full[row]]] = False
            self.lost += sum(bool(full[row]) for row in there)
            return self._placed(rows, step, whole), []
        copies = find_copies(rows, self._stepless, self._labels)
        keep = [i for i in range(len(self._stepless)) if i not in copies]
        epoch = rows["epoch"].to_numpy(float) if "epoch" in rows else np.full(len(rows), np.nan)
        kept = [self._stepless[i] for i in keep]
        epochs = np.array([epoch[row] if row >= 0 else np.nan for row in kept])
        found = infer_steps([self._kinds[i] for i in keep], self._track.without(copies), epochs)
        for row, inferred in zip(kept, found.step, strict=True):
            if row >= 0:
                step[row] = inferred
        whole[[self._stepless[i] for i in copies]] = False
        told = [_step_finding(found), *started_again(epochs, found), *repeated(len(copies), len(keep))]
        return self._placed(rows, step, whole), told

    @staticmethod
    def _placed(rows: pd.DataFrame, step: np.ndarray, whole: np.ndarray) -> pd.DataFrame:
        rows = rows.drop(columns="step", errors="ignore")
        rows.insert(0, "step", step)
        return rows[whole].reset_index(drop=True)

    def findings(self, chosen: bool) -> list[Finding]:
        """Records that could not be read; in a log of another kind, dictionaries are anything."""
        if not (self.lost and chosen):
            return []
        cut = min(self._ends.n_shortened(), self.lost)
        found = lines_cut(cut, "; their records were left out")
        if n := self.lost - cut:
            found.append(
                Finding(
                    "records-unread",
                    "warning",
                    f"{n} lines look like records and cannot be read; they were left out",
                    "the log is damaged, or two processes wrote into one line",
                    value=float(n),
                )
            )
        return found


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
