"""What a trainer logs, as far as a watcher needs it: entropies, scores, and what helps to choose among them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import pandas as pd

from entlaw.runs.axes import is_axis
from entlaw.runs.keys import ENTROPY_RULES, NOT_SCORE, SCORE_RULES, canonical
from entlaw.runs.prepare import Selection

_OWN = "entlaw/"
# The log is read anew after so many records whatever they hold: the choice among several scores may have changed.
_LOOK_AGAIN = 100


class ObservedLog:
    """Rows in the order in which they were logged.

    Parameters
    ----------
    selection : Selection
        Keys that the user named are kept whatever they are called.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._rows: list[dict[str, float]] = []
        self._kinds: dict[str, str] = {}
        self._seen: set[str] = set()  # keys of scores
        self._used: str | None = None  # the one that is the performance; None: any may be
        self._score_step, self._last = math.nan, -math.inf
        self._waiting, self._unread = False, 0

    def take(self, step: float, metrics: Mapping[str, Any]) -> bool:
        """Take what was logged at a step; whether a point may be complete now."""
        numbers = ((str(k), _number(v)) for k, v in metrics.items() if self._kind(str(k)))
        row = {k: v for k, v in numbers if v is not None}
        if not row:
            return False
        self._rows.append({**row, "step": float(step)})
        scores = {k for k in row if self._kind(k) == "score"}
        if scores and (self._used is None or self._used in scores or scores - self._seen):
            self._score_step, self._waiting = float(step), True
        if step < self._last:  # a run that goes back changes points
            self._waiting = True
        self._last, self._seen = float(step), self._seen | scores
        self._unread += 1
        logged = bool(scores) or any(self._kind(k) == "entropy" for k in row)
        return logged and bool(self._seen) and (self._waiting or self._unread >= _LOOK_AGAIN)

    def settle(self, key: str, step: float) -> None:
        """The log was read: scores of this key have their entropy up to this step.

        Most records complete no point: those between two validations. To read the whole log anew at each of them
        would cost more than the fits.
        """
        self._used = key if key in self._seen else None
        self._waiting, self._unread = self._score_step != step, 0

    def frame(self) -> pd.DataFrame:
        """One row a record, NaN where a key was not logged."""
        return pd.DataFrame(self._rows, dtype=float)

    def _kind(self, key: str) -> str:
        """``entropy``, ``score``, ``other`` (needed to choose or align), or nothing."""
        if key not in self._kinds:
            self._kinds[key] = _kind_of(key, self._selection)
        return self._kinds[key]


def _number(value: Any) -> float | None:
    """A number, NumPy's and torch's scalars too; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Real) or getattr(value, "ndim", None) == 0:
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            return None
    return None


def _kind_of(key: str, selection: Selection) -> str:
    if key.startswith(_OWN):
        return ""
    if key == selection.entropy_key:
        return "entropy"
    if key == selection.on:
        return "score"
    name = canonical(key)
    if "entropy" in name or any(rule.pattern.fullmatch(name) for rule in ENTROPY_RULES):
        return "entropy"
    if any(
        rule.pattern.fullmatch(name) and not (rule.by_name_only and NOT_SCORE.search(name))
        for rule in SCORE_RULES
    ):
        return "score"
    on = selection.on or ""
    if any(c in on for c in "*?[") and fnmatch.fnmatchcase(key, on):
        return "score"
    if any(rule.beside is not None and rule.beside.fullmatch(name) for rule in ENTROPY_RULES):
        return "other"
    needed = is_axis(key) or name in ("val_problems", "val_samples") or key == selection.step_key
    return "other" if needed else ""
