"""Which keys count steps, and what each of them counts: the registry, one line a spelling.

Keys are compared in the canonical form of :mod:`entlaw.runs.keys`. Earlier lines win where the data do not decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from entlaw.runs.keys import canonical

# step: whatever the trainer calls a step. iteration: an outer loop of any kind. batch: starts over with each epoch or
# rollout. calls: W&B's count of log calls.
Unit = Literal["step", "rollout", "iteration", "update", "batch", "evaluation", "calls"]

# Units that an axis of a run may have; the others count something else beside it.
EXPLICIT = frozenset({"step", "rollout", "iteration", "update"})


@dataclass(frozen=True)
class AxisRule:
    """A spelling of a counter."""

    pattern: re.Pattern[str]
    unit: Unit
    by_name_only: bool = False  # must count up to be believed


def _axis(pattern: str, unit: Unit, by_name_only: bool = False) -> AxisRule:
    return AxisRule(re.compile(pattern), unit, by_name_only)


_LOOP = r"(step|iteration|iter)s?"
_NUMBER = r"(_(num|number|idx|index|id|count|no))?"
_EVALUATION = r"(eval|evaluation|val|valid|validation|test)"

AXIS_RULES: tuple[AxisRule, ...] = (
    _axis(r"step", "step"),
    _axis(r"(training|train|trainer)_global_steps?", "step"),
    _axis(r"global_steps?(_(max|total)_steps)?", "step"),
    _axis(r"current_steps?(_(max|total)_steps)?", "step"),
    _axis(r"progress_batch", "step"),
    _axis(r"(train|training|trainer)_steps?", "step"),
    _axis(rf"(.*_)?(rollout|grpo|ppo|rloo|reinforce|sampling|generation)_({_LOOP}|id)", "rollout"),
    _axis(rf"rollouts?{_NUMBER}", "rollout"),
    _axis(rf"((outer|rl|policy|train|training)_)?(iteration|iter)s?{_NUMBER}", "iteration"),
    _axis(r"outer_steps?", "iteration"),
    _axis(r"(.*_)?(optimizer|optimiser|optim|opt|gradient|grad|learner)_(step|update)s?", "update"),
    _axis(rf"((num|n|policy|train|training|actor)_)?updates?(_step)?{_NUMBER}", "update"),
    _axis(r"step_?(num|number|idx|index|id|count|no)", "step"),
    _axis(rf"(mini_?|micro_?)?(batch|step){_NUMBER}", "batch"),
    _axis(r"(step|update|iter|iteration|batch)_(in|within|of)_(epoch|rollout|iteration)", "batch"),
    _axis(r"(epoch|inner|local)_(step|iter|iteration|batch|update)", "batch"),
    _axis(rf"{_EVALUATION}_(global_|train_|rollout_)?{_LOOP}", "evaluation"),
    _axis(r"(.*_)?(step|iteration|iter|update)s?" + _NUMBER, "step", by_name_only=True),
)
_CALLS = _axis("_step", "calls")
# A key that ends like a counter and is something else: a plan, a duration, a length, a statistic.
_NOT_AXIS = re.compile(
    r"(^|_)(total|max|min|mean|avg|std|sum|median|per|time|timing|times|sec|seconds|ms|warmup|save|saving|log|logging|"
    r"accumulation|remaining|planned|budget|tokens?|samples?|size|lr|rate|ratio|frac|fraction|kl|entropy|reward|loss|"
    r"score|len|length|agent|env|episode|turn|tool|reasoning|thinking|think|inference|denoising|diffusion|last|best|"
    r"norm|clip|skipped|failed|perf|memory|stale|staleness|off|since|every|until|to)(_|$)"
)
_EPOCH = re.compile(r"(.*_)?epochs?" + _NUMBER)


@lru_cache(maxsize=4096)
def axis_rule(key: str) -> tuple[int, AxisRule] | None:
    """Rank and rule of a key that counts steps; None for any other.

    Parameters
    ----------
    key : str
        As logged.
    """
    if key == "_step":
        return len(AXIS_RULES), _CALLS
    name = canonical(key)
    for rank, rule in enumerate(AXIS_RULES):
        if rule.pattern.fullmatch(name):
            return None if rule.by_name_only and _NOT_AXIS.search(name) else (rank, rule)
    return None


def is_axis(key: str) -> bool:
    """Whether a key counts steps, by a spelling that is known."""
    found = axis_rule(key)
    return found is not None and not found[1].by_name_only


def epoch_column(columns: Iterable[Any]) -> str | None:
    """The column that counts epochs, the shortest name if there are several."""
    names = [str(c) for c in columns if _EPOCH.fullmatch(canonical(str(c)))]
    names = [n for n in names if not _NOT_AXIS.search(canonical(n)) and not n.lower().startswith("num")]
    return min(names, key=len, default=None)


_OF_TOTAL = re.compile(r"\s*(\d{1,15})\s*/\s*\d{1,15}\s*")


def count_of_total(key: str, value: str) -> float | None:
    """``5/200`` under a key that counts steps as 5; None for anything else."""
    found = _OF_TOTAL.fullmatch(value)
    return float(found[1]) if found and is_axis(key) else None


@dataclass(frozen=True, eq=False)
class Axis:
    """A column that counts."""

    column: str
    rank: int
    unit: Unit
    count: np.ndarray

    @property
    def moves(self) -> bool:
        """Whether it does not stand still."""
        there = self.count[np.isfinite(self.count)]
        return len(there) < 2 or len(np.unique(there)) > 1


def find_axes(rows: pd.DataFrame) -> list[Axis]:
    """The columns that count, best name first; of two columns of one name the first counts."""
    found: dict[str, Axis] = {}
    for column in map(str, rows.columns):
        told = axis_rule(column)
        name = "_step" if column == "_step" else canonical(column)
        if told is None or name in found:
            continue
        rank, rule = told
        values = rows[column].to_numpy(float)
        there = values[np.isfinite(values)]
        if len(there) and (not rule.by_name_only or _counts_up(there)):
            found[name] = Axis(column, rank, rule.unit, values)
    return sorted(found.values(), key=lambda axis: axis.rank)


def _counts_up(values: np.ndarray) -> bool:
    """Whole numbers that go up, but for a few restarts."""
    moves = np.diff(values)
    ups, downs = int((moves > 0).sum()), int((moves < 0).sum())
    return bool((values == np.round(values)).all() and ups >= 2 and downs <= 0.1 * ups)
