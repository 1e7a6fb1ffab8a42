"""Passes over the steps of a log: where a run goes back, what a later pass replaces, what is another run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from entlaw.findings import Finding
from entlaw.runs.keys import canonical

# Keys that differ between two passes over one step without meaning a different policy.
_CLOCK = re.compile(
    r"(^|_)(time|timing|timestamp|runtime|seconds|per_sec|per_second|tokens_per_sec|perf|memory|epoch|elapsed|eta|"
    r"throughput|mfu|step_time|wall)(_|$)"
)


def is_clock(key: str) -> bool:
    """Whether a key times the run, by its name."""
    return bool(_CLOCK.search(canonical(key)))


Segment = tuple[int, int]  # rows from, to: one pass over the steps, in logged order


def segments(step: np.ndarray, data: np.ndarray, aside: np.ndarray, several: bool = False) -> list[Segment]:
    """Cut rows where a key goes back over its own steps; a row that is merely printed late cuts nothing.

    Parameters
    ----------
    step : ndarray, shape (n,)
    data : ndarray, shape (n, k)
    aside : ndarray of bool, shape (k,)
        Columns that say nothing of it, such as clocks.
    several : bool
        Several rows of a step hold a key, so that one more of them is no way back.

    Returns
    -------
    list of (int, int)
        Rows from, to. Within each, no key that counts goes back in step.
    """
    used = np.flatnonzero(~aside)
    found: list[Segment] = []
    start, top, known = 0, -np.inf, 0
    last = np.full(len(used), -np.inf)  # latest step of each key in this segment, from rows start..known
    for i, s in enumerate(step.tolist()):
        if s < top:
            there = ~np.isnan(data[known:i][:, used])
            fresh = np.where(there, step[known:i, None], -np.inf).max(axis=0, initial=-np.inf)
            last, known = np.maximum(last, fresh), i
            back = last > s if several else last >= s
            if (~np.isnan(data[i, used]) & back).any():
                found.append((start, i))
                start, top = i, -np.inf
                last = np.full_like(last, -np.inf)
        top = max(top, s)
    return [*found, (start, len(step))] if len(step) else []


def count_clashes(
    step: np.ndarray,
    data: np.ndarray,
    aside: np.ndarray,
    cuts: Iterable[Segment],
    inner: np.ndarray | None = None,
) -> int:
    """Values that were logged again at a step of one segment, and differ.

    Where several optimiser steps share a step, `inner` (shape (n,)) counts them: they may differ.
    """
    within = np.zeros(len(step)) if inner is None else np.nan_to_num(inner, nan=-1.0)
    segment = np.zeros(len(step), dtype=np.int64)
    for number, (a, b) in enumerate(cuts):
        segment[a:b] = number
    clashes = 0
    for column in data.T[~aside]:
        at = np.flatnonzero(~np.isnan(column))
        before, after = at[:-1], at[1:]
        same = (segment[before] == segment[after]) & (step[before] == step[after])
        same &= within[before] == within[after]
        clashes += int((same & (column[before] != column[after])).sum())
    return clashes


@dataclass
class Fold:
    """What some passes logged at a step: bounds of each key, and the value logged first."""

    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    rows: list[int] = field(default_factory=list)

    def merge(self, later: Fold) -> Fold:
        """The same of two passes together."""
        first = np.where(np.isnan(self.first), later.first, self.first)
        self.rows.extend(later.rows)
        low, high = np.minimum(self.low, later.low), np.maximum(self.high, later.high)
        return Fold(low, high, first, self.rows)

    def equals(self, other: Fold, aside: np.ndarray) -> bool:
        """Whether two passes over a step logged the same numbers wherever both logged one."""
        both = ~np.isnan(self.first) & ~np.isnan(other.first) & ~aside
        mine = self.first[both]
        # Many numbers in common, and not all of them zeros or ones, before calling two policies the same.
        return bool(len(mine) >= 2 and (mine == other.first[both]).all() and len(np.unique(mine)) >= 2)


def _changing(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Columns that change within a pass; the others, such as a planned number of steps, are no trace of the policy."""
    return low < high


class StepPass:
    """What counts of the passes so far: each step in increasing order, with the bounds of each key."""

    def __init__(self, step: np.ndarray, data: np.ndarray, segment: Segment) -> None:
        a, b = segment
        order = a + np.argsort(step[a:b], kind="stable")
        begins = np.flatnonzero(np.diff(step[order], prepend=np.nan))
        values = data[order]
        gone = np.isnan(values)
        low = np.minimum.reduceat(np.where(gone, np.inf, values), begins, axis=0)
        high = np.maximum.reduceat(np.where(gone, -np.inf, values), begins, axis=0)
        number = np.where(gone, len(order), np.arange(len(order))[:, None])
        where = np.minimum.reduceat(number, begins, axis=0)
        padded = np.vstack([values, np.full(values.shape[1], np.nan)])
        first = padded[where, np.arange(values.shape[1])]
        rows = [part.tolist() for part in np.split(order, begins[1:])]
        parts = zip(low, high, first, rows, strict=True)
        self.folds = {s: Fold(*part) for s, part in zip(step[order[begins]].tolist(), parts, strict=True)}
        self.low, self.high = low.min(axis=0), high.max(axis=0)

    @property
    def start(self) -> float:
        """Its first step."""
        return next(iter(self.folds))

    def resume(self, new: StepPass) -> int:
        """Go on with another pass; the number of steps that it replaced."""
        replaced = 0
        while next(reversed(self.folds)) >= new.start:
            self.folds.popitem()
            replaced += 1
        self.folds.update(new.folds)
        self._widen(new)
        return replaced

    def repeats(self, new: StepPass, aside: np.ndarray) -> int:
        """How many steps another pass logged again, if every number of these is the same; else 0."""
        common = (
            self.folds.keys() & new.folds.keys() if len(self.folds) < len(new.folds) else new.folds.keys()
        )
        steps = [s for s in common if s in self.folds]
        if len(steps) < 2:
            return 0
        # Two settings may differ; whether a number is one is decided by both passes.
        aside = aside | ~(_changing(self.low, self.high) | _changing(new.low, new.high))
        mine = np.array([self.folds[s].first for s in steps])[:, ~aside]
        theirs = np.array([new.folds[s].first for s in steps])[:, ~aside]
        both = ~np.isnan(mine) & ~np.isnan(theirs)
        enough = both.sum() >= 2 and len(np.unique(mine[both])) >= 2
        return len(steps) if enough and (mine[both] == theirs[both]).all() else 0

    def repeat(self, new: StepPass) -> None:
        """Take the values of a pass that repeats this one."""
        again = {s: self.folds[s].merge(f) for s, f in new.folds.items() if s in self.folds}
        fresh = {s: f for s, f in new.folds.items() if s not in again}
        inside = bool(fresh) and next(iter(fresh)) < next(reversed(self.folds))
        self.folds |= again | fresh
        if inside:
            self.folds = dict(sorted(self.folds.items()))
        self._widen(new)

    def start_over(self, new: StepPass, aside: np.ndarray) -> int:
        """Replace this by another pass; the number of steps that are of one policy and whose values were kept."""
        low, high = _bounds(self.folds.values())
        aside = aside | ~_changing(low, high) & ~_changing(new.low, new.high)
        same = {s for s, old in self.folds.items() if s in new.folds and old.equals(new.folds[s], aside)}
        kept = {s: self.folds[s].merge(f) if s in same else f for s, f in new.folds.items()}
        self.folds, (self.low, self.high) = kept, _bounds(kept.values())
        return len(same)

    def _widen(self, new: StepPass) -> None:
        self.low, self.high = np.minimum(self.low, new.low), np.maximum(self.high, new.high)


def _bounds(folds: Iterable[Fold]) -> tuple[np.ndarray, np.ndarray]:
    parts = list(folds)
    return np.array([f.low for f in parts]).min(axis=0), np.array([f.high for f in parts]).max(axis=0)


def stitch(
    step: np.ndarray, data: np.ndarray, aside: np.ndarray, cuts: Sequence[Segment]
) -> tuple[list[int], list[Finding]]:
    """Join segments: a later one replaces what it repeats.

    Parameters
    ----------
    step : ndarray, shape (n,)
    data : ndarray, shape (n, k)
    aside : ndarray of bool, shape (k,)
    cuts : sequence of (int, int)

    Returns
    -------
    rows : list of int
        Those that count, of each step in logged order.
    findings : list of Finding
    """
    if len(cuts) <= 1:
        return list(range(len(step))), []
    kept = StepPass(step, data, cuts[0])
    findings: list[Finding] = []
    for segment in cuts[1:]:
        new = StepPass(step, data, segment)
        if new.start > kept.start:
            findings.append(_resumed(new.start, kept.resume(new)))
        elif same := kept.repeats(new, aside):
            kept.repeat(new)
            findings.append(_repeated(same))
        else:
            first, last, count = kept.start, next(reversed(kept.folds)), len(kept.folds)
            same = kept.start_over(new, aside)
            findings.append(_aborted(first, last, count, new.start, same))
    return [row for one in kept.folds.values() for row in one.rows], findings


def _resumed(start: float, replaced: int) -> Finding:
    return Finding(
        "resumed",
        "info",
        f"resumed at step {start:g}; {replaced} steps of the earlier segment were replaced",
        "steps after the last checkpoint were trained twice; only the later pass led to the final policy",
    )


def _repeated(steps: int) -> Finding:
    return Finding(
        "repeated-pass",
        "info",
        f"{steps} steps are logged again with the same numbers; both passes were read as one run",
        "the same run twice is no second run",
    )


def _aborted(first: float, last: float, count: int, start: float, same: int) -> Finding:
    return Finding(
        "aborted-run-dropped",
        "warning",
        f"{count} steps ({first:g}-{last:g}) precede a run that starts over at step {start:g}; they were dropped "
        "as an aborted run" + (f" (values of {same} identical steps kept)" if same else ""),
        "two runs in one file must not be glued together",
        "split the file if the first part is the run you mean",
    )


# A first pass at least this long, relative to the one that starts over, is a run of its own and not an aborted start.
_OWN_RUN = 0.5


def other_runs(step: np.ndarray, data: np.ndarray, aside: np.ndarray, cuts: Sequence[Segment]) -> list[int]:
    """Rows at which another run begins: a long pass that starts over with other numbers.

    Parameters
    ----------
    step : ndarray, shape (n,)
    data : ndarray, shape (n, k)
    aside : ndarray of bool, shape (k,)
    cuts : sequence of (int, int)

    Returns
    -------
    list of int
    """
    if len(cuts) <= 1:
        return []
    starts: list[int] = []  # of each run, and the steps that it logged
    seen: list[set[float]] = []
    run: StepPass | None = None
    for segment in cuts:
        new = StepPass(step, data, segment)
        steps = set(new.folds)
        if run is not None and new.start > run.start:
            run.resume(new)
        elif run is not None and run.repeats(new, aside):
            run.repeat(new)
        else:
            run = new
            starts.append(segment[0])
            seen.append(set())
        seen[-1] |= steps
    lengths = [len(steps) for steps in seen]
    return [starts[i + 1] for i in range(len(starts) - 1) if lengths[i] >= _OWN_RUN * lengths[i + 1]]
