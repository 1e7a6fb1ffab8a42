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
AxisUnit = Literal["step", "rollout", "iteration", "update", "batch", "evaluation", "calls"]

# Units that an axis of a run may have; the others count something else beside it.
EXPLICIT = frozenset({"step", "rollout", "iteration", "update"})


@dataclass(frozen=True)
class AxisRule:
    """A spelling of a counter."""

    pattern: re.Pattern[str]
    unit: AxisUnit
    by_name_only: bool = False  # must count up to be believed


def _axis(pattern: str, unit: AxisUnit, by_name_only: bool = False) -> AxisRule:
    return AxisRule(re.compile(pattern), unit, by_name_only)


_ANY = "(.*_)?"  # any key may end so
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
    _axis(rf"{_ANY}(rollout|grpo|ppo|rloo|reinforce|sampling|generation)_({_LOOP}|id)", "rollout"),
    _axis(rf"rollouts?{_NUMBER}", "rollout"),
    _axis(rf"orchestrator_{_LOOP}", "rollout"),  # what makes the rollouts, beside the trainer
    _axis(rf"((outer|rl|policy|train|training)_)?(iteration|iter)s?{_NUMBER}", "iteration"),
    _axis(r"outer_steps?", "iteration"),
    _axis(rf"{_ANY}(optimizer|optimiser|optim|opt|gradient|grad|learner)_(step|update)s?", "update"),
    _axis(rf"((num|n|policy|train|training|actor)_)?updates?(_step)?{_NUMBER}", "update"),
    _axis(r"step_?(num|number|idx|index|id|count|no)", "step"),
    _axis(rf"(mini_?|micro_?)?(batch|step){_NUMBER}", "batch"),
    _axis(r"(step|update|iter|iteration|batch)_(in|within|of)_(epoch|rollout|iteration)", "batch"),
    _axis(r"(epoch|inner|local)_(step|iter|iteration|batch|update)", "batch"),
    _axis(rf"{_EVALUATION}_(global_|train_|rollout_)?{_LOOP}", "evaluation"),
    _axis(rf"{_ANY}(step|iteration|iter|update)s?{_NUMBER}", "step", by_name_only=True),
)
_CALLS = _axis("_step", "calls")
# A key that ends like a counter and is something else: a plan, a duration, a length, a statistic.
_NOT_AXIS = re.compile(
    r"(^|_)(total|max|min|mean|avg|std|sum|median|per|time|timing|times|sec|seconds|ms|warmup|save|saving|log|logging|"
    r"accumulation|remaining|planned|budget|tokens?|samples?|size|lr|rate|ratio|frac|fraction|kl|entropy|reward|loss|"
    r"score|len|length|agent|env|episode|turn|tool|reasoning|thinking|think|inference|denoising|diffusion|last|best|"
    r"norm|clip|skipped|failed|perf|memory|stale|staleness|off|since|every|until|to)(_|$)|(^|_)(num|n)_[a-z]"
)
_EPOCH = re.compile(r"(.*_)?epochs?" + _NUMBER)
_OUTER = re.compile(r"(.*_)?(epoch|episode|round|cycle|stage|phase)s?" + _NUMBER)


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
            may_be_else = rule.pattern.pattern.startswith(_ANY) and _NOT_AXIS.search(name)
            return None if may_be_else else (rank, rule)
    return None


def is_axis(key: str) -> bool:
    """Whether a key counts steps, by a spelling that is known."""
    found = axis_rule(key)
    return found is not None and not found[1].by_name_only


def names_step(key: str) -> bool:
    """Whether a key is known to count the steps of a run."""
    found = axis_rule(key)
    return found is not None and found[1].unit in EXPLICIT and not found[1].by_name_only


def outer_columns(columns: Iterable[Any]) -> list[str]:
    """The columns whose going up may start a step over, epochs first."""
    names = [str(c) for c in columns]
    known = [n for n in names if _OUTER.fullmatch(canonical(n)) and not n.lower().startswith("num")]
    epoch = epoch_column(columns)
    loops = [n for n in names if (told := axis_rule(n)) and told[1].unit in ("iteration", "rollout")]
    return list(dict.fromkeys([*([epoch] if epoch else []), *known, *loops]))


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
class StepAxis:
    """A column that counts."""

    column: str
    rank: int
    unit: AxisUnit
    count: np.ndarray

    @property
    def moves(self) -> bool:
        """Whether it does not stand still."""
        there = self.count[np.isfinite(self.count)]
        return len(there) < 2 or len(np.unique(there)) > 1

    @property
    def counts_up(self) -> bool:
        """Whether it holds whole numbers that go up, but for a few restarts."""
        return _counts_up(self.count[np.isfinite(self.count)])


def find_axes(rows: pd.DataFrame) -> list[StepAxis]:
    """The columns that count, best name first; of two columns of one name the first counts."""
    found: dict[str, StepAxis] = {}
    for column in map(str, rows.columns):
        told = axis_rule(column)
        name = "_step" if column == "_step" else canonical(column)
        if told is None or name in found:
            continue
        rank, rule = told
        values = rows[column].to_numpy(float)
        there = values[np.isfinite(values)]
        whole = rank == 0 or bool((there == np.round(there)).all())
        if len(there) and whole and (not rule.by_name_only or _counts_up(there)):
            found[name] = StepAxis(column, rank, rule.unit, values)
    return sorted(found.values(), key=lambda axis: axis.rank)


def _counts_up(values: np.ndarray) -> bool:
    moves = np.diff(values)
    ups, downs = int((moves > 0).sum()), int((moves < 0).sum())
    return bool((values == np.round(values)).all() and ups >= 1 and downs <= 0.1 * ups)
