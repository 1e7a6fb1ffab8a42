"""Dictionaries in a line of a log: ``{'loss': 0.1, 'entropy': 0.4}`` as Python prints it, or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import epoch_column, find_axes, names_step
from entlaw.runs.epochs import goes_back, number_by_epoch
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.literal import LiteralError, parse_flat, parse_literal
from entlaw.runs.parsing.progress import Inferred, ProgressTrack, RecordKind, infer_steps
from entlaw.runs.parsing.text import strip_ansi
from entlaw.runs.source import ReadOptions
from entlaw.runs.table import flatten, parse_under

_MOST_IN_A_LINE = 8
_LONGEST = 1 << 18  # bytes; a longer line is model output
_JSON = json.JSONDecoder()
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
    for _ in range(_MOST_IN_A_LINE):
        starts = [p for p in (line.find("{'", position), line.find('{"', position)) if p >= 0]
        if not starts:
            return
        start = min(starts)
        is_json = line[start + 1] == '"'
        try:
            value, position = _JSON.raw_decode(turned, start)
        except (ValueError, RecursionError):
            value, position, whole = parse_flat(line, start)
            if not whole:
                try:
                    value, position = parse_literal(line, start)
                except LiteralError:
                    yield value, False, is_json
                    return
        if isinstance(value, dict):
            yield _unwrapped(value), True, is_json


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(v, dict) for v in value.values()):
        return value
    inner = value.get("data")
    if isinstance(inner, dict):
        value = {**{k: v for k, v in value.items() if k != "data"}, **inner}
    return dict(flatten(value))


class DictionaryLines(Lines):
    """Dictionaries as the Hugging Face trainers, and loggers of JSON, print them."""

    order = 20
    needles = (b"{'", b'{"')
    example = "{'loss': 0.1, ...} (TRL)"
    noun = "dictionaries with metrics"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._track = track
        self._kinds: list[RecordKind] = []  # of rows without a step, lost ones included
        self._stepless: list[int] = []  # row number of each, -1 for a lost one
        self._json_rows = 0
        self._marks = _MARKS | ({options.entropy_key} if options.entropy_key else set())

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the dictionaries of a line that are records of metrics."""
        if len(line) > _LONGEST:
            return False
        before, text = self.rows.n_rows, strip_ansi(line).decode("utf-8", errors="replace")
        for record, whole, is_json in dictionaries(text):
            if whole or not closed:
                pairs = numbers(record)
                if not whole and self._is_lost_record(text):
                    self.cut = "the record it ends with is incomplete, and its unfinished pair was left out"
                if len(pairs) < 2 or not self._is_record(record):
                    continue
                named = any(map(names_step, record))
                if not named and (front := _STEP_IN_FRONT.search(text[: text.find("{")][-80:])):
                    pairs, named = {"step": float(front[1]), **pairs}, True
                self.rows.add_numbers(tuple(pairs), list(pairs.values()))
                self.n_values += len(pairs)
                self._json_rows += is_json
                if not named:
                    self._stepless_record(self.rows.n_rows - 1, kind_of(record))
            elif self._is_lost_record(text):
                self.lost += 1
                self._stepless_record(-1, "train")
        return self.rows.n_rows > before

    def _stepless_record(self, row: int, kind: RecordKind) -> None:
        self._track.event(is_record=True)
        self._kinds.append(kind)
        self._stepless.append(row)

    def _is_record(self, record: Mapping[str, Any]) -> bool:
        keys = record.keys()
        return (
            bool(self._marks & keys)
            or any(map(names_step, record))
            or any(k.startswith("eval_") for k in keys)
        )

    def _is_lost_record(self, line: str) -> bool:
        return sum(f"'{mark}'" in line or f'"{mark}"' in line for mark in (*self._marks, "epoch")) >= 2

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows, with steps from the progress bar where they name none."""
        rows, told = self._stepped()
        if self._json_rows * 2 > self.rows.n_rows:
            return rows, "json-console", "unknown", told
        return rows, "trl-console", "trl" if "loss" in rows.columns else "unknown", told

    def _stepped(self) -> tuple[pd.DataFrame, list[Finding]]:
        rows = self.rows.frame()
        if all(row < 0 for row in self._stepless):  # damaged lines aside, every record names its step
            return rows, []
        found = infer_steps(self._kinds, self._track)
        named = next((a.column for a in find_axes(rows) if names_step(a.column)), None)
        step = rows[named].to_numpy(float, copy=True) if named else np.full(len(rows), np.nan)
        for row, inferred in zip(self._stepless, found.step, strict=True):
            if row >= 0:
                step[row] = inferred
        epochs = epoch_column(rows.columns)
        if found.how == "order" and epochs and goes_back(epoch := rows[epochs].to_numpy(float)):
            step = number_by_epoch(step, epoch)
        rows = rows.drop(columns="step", errors="ignore")
        rows.insert(0, "step", step)
        return rows, [_step_finding(found)]

    def findings(self, chosen: bool) -> list[Finding]:
        """Records that could not be read; in a log of another kind, dictionaries are anything."""
        if not (self.lost and chosen):
            return []
        return [
            Finding(
                "records-unread",
                "warning",
                f"{self.lost} lines look like records and cannot be read; they were left out",
                "the log is damaged, or two processes wrote into one line",
                value=float(self.lost),
            )
        ]


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
