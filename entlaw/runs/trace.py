"""Whether two logs are of one run: equal numbers at equal steps, as far as both print them.

Names do not tell. Seeds share them, a copy has another. What tells are many values of the policy (entropy, scores,
losses, gradients) that agree wherever both logs hold one. Settings, counters and clocks are left out: runs of one
sweep share them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from entlaw.runs.axes import is_axis
from entlaw.runs.keys import canonical
from entlaw.runs.passes import is_clock
from entlaw.runs.run import RawRun
from entlaw.runs.steps import resolve_step

# What two different runs may share step by step: plans, counters, the data's order, bounds of a 0/1 score.
_SHARED_BY_SEEDS = re.compile(
    r"(^|_)(lr|learning_rate|epochs?|coef|coeff|beta|alpha|temperature|seed|prompts?|tokens|num|n|count|total|samples|"
    r"problems|size|batch|max|min|steps?|progress|version|rank|id|index|groups?|flos|rows|examples|processed)(_|$)"
)
_TELLING = (re.compile(r"entropy"), re.compile(r"reward|score|acc|correct|pass"), re.compile(r"loss|grad|kl"))
_MOST_KEYS = 24
_FLOAT32 = 1.2e-7  # TensorBoard keeps single precision
SINGLE = 7.0  # its digits
_DIGITS = 9  # a value that needs more is written in full

AGREE = 0.95  # share of equal values: a writer may lose or round a few
_LEAST_CELLS = 4
_LEAST_DIGITS = 16.0  # decimal digits that agree, over all cells: chance gives no so many


@lru_cache(maxsize=1 << 14)
def folded(key: str) -> str:
    """One name for what a trainer's writers spell apart: ``train/reward`` on TensorBoard, ``reward`` in its state."""
    name = "_step" if key == "_step" else canonical(key)
    return name.removeprefix("train_") if not is_axis(key) else name


@lru_cache(maxsize=1 << 14)
def tells(key: str) -> bool:
    """Whether a key's values tell one run from another."""
    name = folded(key)
    return not (is_axis(key) or name.startswith("_") or _SHARED_BY_SEEDS.search(name) or is_clock(key))


def _rank(key: str) -> tuple[int, str]:
    name = folded(key)
    return next((i for i, kind in enumerate(_TELLING) if kind.search(name)), len(_TELLING)), name


@dataclass(frozen=True, eq=False)
class Trace:
    """What of a log can be compared with another's.

    Attributes
    ----------
    axis : str or None
        Folded name of the step; None where records are only numbered.
    step : ndarray, shape (n,)
        Unique and increasing; 1..n without an axis.
    names : tuple of str
        Folded keys, the most telling first.
    table : ndarray, shape (n, k)
        Values; of a step logged twice the later value.
    digest : bytes or None
        Equal for logs that are equal in every number; None for logs of fewer than two records.
    """

    axis: str | None
    step: np.ndarray
    names: tuple[str, ...]
    table: np.ndarray
    digest: bytes | None

    @cached_property
    def column(self) -> dict[str, int]:
        """Position of each name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def error(self) -> np.ndarray:
        """Half a unit of the last printed digit of each value, shape (n, k)."""
        return np.stack([_half_unit(v) for v in self.table.T], axis=1) if self.names else self.table

    @property
    def first(self) -> float:
        """The first step."""
        return float(self.step[0])

    @property
    def last(self) -> float:
        """The last step."""
        return float(self.step[-1])

    @cached_property
    def digits(self) -> float:
        """Digits as printed, the median over keys; 7 for single precision, 17 in full."""
        if not self.names:
            return 0.0
        found = [_significant(v) for v in self.table.T]
        level = float(np.median(found))
        return SINGLE if level > _DIGITS and self.is_single else level

    @cached_property
    def is_single(self) -> bool:
        """Whether all values are of single precision."""
        return bool(np.array_equal(self.table, self.table.astype(np.float32), equal_nan=True))


def trace_of(raw: RawRun, step_key: str | None = None) -> Trace:
    """The trace of a log.

    Parameters
    ----------
    raw : RawRun
    step_key : str, optional
        The user's choice of the step.
    """
    rows = raw.rows
    if len(rows) == 0 or rows.shape[1] == 0:
        return Trace(None, np.zeros(0), (), np.zeros((0, 0)), None)
    step, key, *_ = resolve_step(rows, step_key if step_key in rows.columns else None)
    chosen: dict[str, int] = {}
    for column in sorted((str(c) for c in rows.columns if c != key and tells(str(c))), key=_rank):
        if len(chosen) < _MOST_KEYS:
            chosen.setdefault(folded(column), rows.columns.get_loc(column))
    values = rows.iloc[:, list(chosen.values())].to_numpy(float)
    step = pd.Series(step).ffill().to_numpy(float)
    at = np.isfinite(step)
    step, values = step[at], values[at]
    if len(step) and not (np.diff(step) > 0).all():
        latest = pd.DataFrame(values).groupby(step).last()
        step, values = latest.index.to_numpy(float), latest.to_numpy(float)
    telling = np.array(
        [_is_measured(step, v, _rank(name)[0]) for name, v in zip(chosen, values.T, strict=True)], dtype=bool
    )
    names = tuple(name for name, yes in zip(chosen, telling, strict=True) if yes)
    axis = None if key is None else folded(key)
    return Trace(axis, step, names, values[:, telling], _digest(rows))


def _is_measured(step: np.ndarray, values: np.ndarray, rank: int) -> bool:
    """Whether a key's values are no constant, no counter and no line: what a plan gives all runs alike."""
    at = np.isfinite(values)
    v, t = values[at], step[at]
    if len(v) == 0 or np.ptp(v) == 0:
        return False
    if rank < 2 or len(v) < 3:  # an entropy or a score
        return True
    if (v == np.round(v)).all() and (np.diff(v) >= 0).all():
        return False
    slope = np.diff(v) / np.diff(t)
    return bool(np.ptp(slope) > 1e-3 * np.abs(slope).max())


def _digest(rows: pd.DataFrame) -> bytes | None:
    if len(rows) < 2:
        return None
    content = hashlib.blake2b("\n".join(str(c) for c in rows.columns).encode(), digest_size=16)
    content.update(rows.to_numpy(float).tobytes())
    return content.digest()


def _significant(values: np.ndarray) -> int:
    """Significant digits that all values of a key need; 17 for more than nine."""
    v = values[np.isfinite(values) & (values != 0)]
    if len(v) == 0:
        return 1
    size = 10.0 ** np.floor(np.log10(np.abs(v)))
    for digits in range(1, _DIGITS + 1):
        scaled = v / size * 10.0 ** (digits - 1)
        if (np.abs(scaled - np.round(scaled)) < 1e-6).all():
            return digits
    return 17


def _half_unit(values: np.ndarray) -> np.ndarray:
    """How far each printed value may be from the number behind it."""
    digits = _significant(values)
    if digits > _DIGITS:
        return np.zeros(len(values))
    v = np.abs(np.where(np.isfinite(values) & (values != 0), values, 1.0))
    by_digits = 10.0 ** (np.floor(np.log10(v)) + 1 - digits)
    given = values[np.isfinite(values)]
    decimals = next((d for d in range(13) if (np.abs(given - np.round(given, d)) < 1e-13).all()), None)
    by_decimals = 10.0**-decimals if decimals is not None else 0.0
    return np.asarray(0.5 * np.maximum(by_digits, by_decimals))


@dataclass(frozen=True)
class Agreement:
    """Values that two traces have in common.

    Attributes
    ----------
    cells, equal : int
        Values that both hold, and those that are equal as printed.
    digits : float
        Decimal digits in the equal ones: what chance would have to hit.
    leading : float
        Share of equal values in the first quarter of the common steps.
    overlap : float
        Share of the shorter log's steps that both have. Less than half: one continues the other.
    """

    cells: int = 0
    equal: int = 0
    digits: float = 0.0
    leading: float = 1.0
    overlap: float = 1.0

    @property
    def same(self) -> bool:
        """Whether the values are of one run."""
        enough = self.cells >= _LEAST_CELLS and self.digits >= _LEAST_DIGITS
        return enough and self.equal >= AGREE * self.cells

    @property
    def differ(self) -> bool:
        """Whether they are of two: they differ from the start."""
        return self.cells >= _LEAST_CELLS and self.leading < 0.5


def agree_by_step(a: Trace, b: Trace) -> Agreement:
    """Compare values at equal steps."""
    _, at_a, at_b = np.intersect1d(a.step, b.step, assume_unique=True, return_indices=True)
    pairs = []
    for name in a.names:
        if name in b.column:
            i, j = a.column[name], b.column[name]
            pairs.append(
                (
                    a.table[at_a, i],
                    a.error[at_a, i],
                    b.table[at_b, j],
                    b.error[at_b, j],
                    np.arange(len(at_a)),
                )
            )
    shorter = max(min(len(a.step), len(b.step)), 1)
    return replace(_agreement(pairs, len(at_a)), overlap=len(at_a) / shorter)


def agree_by_order(a: Trace, b: Trace) -> Agreement:
    """Compare the values of each key one by one, as far as the shorter goes."""
    pairs, longest = [], 0
    for name in a.names:
        if name in b.column:
            x, y = a.table[:, a.column[name]], b.table[:, b.column[name]]
            i, j = np.flatnonzero(~np.isnan(x)), np.flatnonzero(~np.isnan(y))
            n = min(len(i), len(j))
            longest = max(longest, n)
            e, f = a.error[:, a.column[name]], b.error[:, b.column[name]]
            pairs.append((x[i[:n]], e[i[:n]], y[j[:n]], f[j[:n]], np.arange(n)))
    return _agreement(pairs, longest)


def _agreement(pairs: Sequence[tuple[np.ndarray, ...]], length: int) -> Agreement:
    cells = equal = early = early_equal = 0
    digits = 0.0
    for x, e, y, f, place in pairs:
        both = np.isfinite(x) & np.isfinite(y)
        if not both.any():
            continue
        x, y, place = x[both], y[both], place[both]
        tolerance = np.maximum(e[both], f[both])
        spread = max(float(np.ptp(x)), float(np.ptp(y)))
        slack = 1.02 * tolerance + _FLOAT32 * np.maximum(np.abs(x), np.abs(y)) + 1e-300
        known = np.clip(np.log10(spread / slack) if spread > 0 else np.zeros(len(x)), 0.0, 6.0)
        tell = known >= 1.0  # printed too coarsely, seeds agree by chance
        hit = np.abs(x - y) <= slack
        cells += int(tell.sum())
        equal += int((tell & hit).sum())
        digits += float(known[tell & hit].sum())
        first = tell & (place <= length // 4)
        early += int(first.sum())
        early_equal += int((first & hit).sum())
    return Agreement(cells, equal, digits, early_equal / early if early else 1.0)


def agreement(a: Trace, b: Trace) -> tuple[Agreement, bool]:
    """How far two traces agree, and whether their steps do.

    Logs with one name for the step are compared by it. Others are compared by order too: a console without steps, a
    logger that counts its own calls.
    """
    known = a.axis is not None and b.axis is not None
    by_step = agree_by_step(a, b) if known else Agreement()
    if by_step.same or (known and a.axis == b.axis):
        return by_step, True
    by_order = agree_by_order(a, b)
    return (by_order, False) if by_order.same else (by_step, True)


def is_same(a: Trace, b: Trace) -> bool:
    """Whether two logs hold one run, by their values: a copy, a beginning, another writer."""
    return is_copy(a, b) or ((found := agreement(a, b)[0]).same and found.overlap >= 0.5)


def is_copy(a: Trace, b: Trace) -> bool:
    """Whether two logs are equal in every number."""
    return a.digest is not None and a.digest == b.digest


def goes_on(a: Trace, b: Trace) -> bool:
    """Whether the second log repeats the last steps of the first and goes on."""
    found, by_step = agreement(a, b)
    return by_step and found.same and found.overlap < 0.5 and b.first > a.first and b.last > a.last


def is_single_of(single: Trace, other: Trace) -> bool:
    """Whether a log in single precision holds another's decimals, and so knows no more than it."""
    _, at_a, at_b = np.intersect1d(single.step, other.step, assume_unique=True, return_indices=True)
    cells = equal = 0
    for name in single.names:
        if name in other.column:
            x, y = single.table[at_a, single.column[name]], other.table[at_b, other.column[name]]
            both = np.isfinite(x) & np.isfinite(y)
            cells += int(both.sum())
            equal += int((x[both] == y[both].astype(np.float32)).sum())
    return cells > 0 and equal >= AGREE * cells
