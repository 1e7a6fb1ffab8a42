"""Dictionaries behind their step: ``rollout 3: {...}`` (slime), ``Global step 3: {...}`` (OpenRLHF)."""

from __future__ import annotations

import re
from array import array

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.lines import Lines
from entlaw.runs.lines.dictionary import dictionaries, numbers
from entlaw.runs.parsing.physical import plain
from entlaw.runs.parsing.pretty import OpenDictionary
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.records import METRIC_NAME
from entlaw.runs.source import ReadOptions

_LONGEST = 1 << 18
_LABEL = re.compile(
    r"(?<![A-Za-z/])(?P<word>(?:global|train|training)?[ _]?(?:step|iteration|iter|update)|rollout|eval|perf)"
    r"s?\s*[#=\[]?\s*(?P<n>\d{1,12})\]?(?:\s*/\s*\d{1,12})?\s*(?:[:|,-]|->|metrics:?|stats:?|\s)*\s*(?=\{)",
    re.IGNORECASE,
)
_ROLLOUTS = {"rollout", "eval", "perf"}


class LabelledLines(Lines):
    """Dictionaries whose step, or rollout, stands in front of them."""

    order = 15
    weight = 2  # the same numbers without their step weigh less
    needles = (b" {'", b' {"', b":{'", b':{"', b" {\n")
    example = "`step 4: {'train/loss': 0.1, ...}` (slime, OpenRLHF)"
    noun = "dictionaries behind a step"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._open = OpenDictionary()
        self._at: array[int] = array("q")  # the number in front of each row
        self._of_rollout: array[int] = array("b")  # whether it counts rollouts

    def begins(self, line: bytes) -> bool:
        """Whether a line opens a dictionary behind a step, and does not close it."""
        return self._open.opens(line, self.rows.n_rows) and _LABEL.search(plain(line)) is not None

    def glue(self, line: bytes, following: bytes) -> bytes | None:
        """What the next line adds to an open dictionary."""
        return self._open.goes_on(line, following)

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the dictionary behind the step."""
        if len(line) > _LONGEST:
            return False
        text = plain(line)
        label = _LABEL.search(text)
        if label is None:
            return False
        for record, whole, _ in dictionaries(text[label.end() :]):
            pairs = numbers(record)
            if not any(METRIC_NAME.search(key.lower()) for key in pairs):
                return False
            if not whole:
                self.lost += closed
                self.cut = "" if closed else "the record it ends with is incomplete and was left out"
                return False
            self.rows.add_numbers(tuple(pairs), list(pairs.values()))
            self.n_values += len(pairs)
            self._at.append(int(label["n"]))
            self._of_rollout.append(label["word"].lower() in _ROLLOUTS)
            return True
        return False

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows on one axis: the rollout, where several optimiser steps are made on each."""
        rows = self.rows.frame()
        at = np.frombuffer(self._at, dtype=np.int64)
        of_rollout = np.frombuffer(self._of_rollout, dtype=np.int8) > 0
        each = _steps_a_rollout(at[~of_rollout], at[of_rollout])
        kept = of_rollout | (at % each == 0)
        step = np.where(of_rollout, at, at // each).astype(float)
        rows = rows.drop(columns="step", errors="ignore")
        rows.insert(0, "step", step)
        framework = "slime" if of_rollout.any() else "OpenRLHF" if "policy_loss" in rows else "unknown"
        found = []
        if each > 1:
            found.append(
                Finding(
                    "steps-a-rollout",
                    "info",
                    f"{each} optimiser steps on each rollout: the axis counts rollouts, each with its first step",
                    "on later steps the policy is no longer the one that wrote the rollout",
                    value=float(each),
                )
            )
        return rows[kept].reset_index(drop=True), "labelled-console", framework, found

    def findings(self, chosen: bool) -> list[Finding]:
        """Records that were cut."""
        if not (chosen and self.lost):
            return []
        what = f"{self.lost} records behind a step are not whole; they were left out"
        why = "the log is damaged, or two processes wrote into one line"
        return [Finding("records-unread", "warning", what, why, value=float(self.lost))]


def _steps_a_rollout(steps: np.ndarray, rollouts: np.ndarray) -> int:
    """Optimiser steps between two rollouts, where both are counted."""
    steps, rollouts = np.unique(steps), np.unique(rollouts)
    if len(steps) < 2 or len(rollouts) < 2:
        return 1
    return max(round(float(steps[-1] - steps[0] + 1) / float(rollouts[-1] - rollouts[0] + 1)), 1)
