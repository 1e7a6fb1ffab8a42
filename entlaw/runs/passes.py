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


def segments(step: np.ndarray, data: np.ndarray, aside: np.ndarray) -> list[Segment]:
    """Cut rows where a key goes back over its own steps; a row that is merely printed late cuts nothing.

    Parameters
    ----------
    step : ndarray, shape (n,)
    data : ndarray, shape (n, k)
    aside : ndarray of bool, shape (k,)
        Columns that say nothing of it, such as clocks.

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
            if (~np.isnan(data[i, used]) & (last >= s)).any():
                found.append((start, i))
                start, top = i, -np.inf
                last = np.full_like(last, -np.inf)
        top = max(top, s)
    return [*found, (start, len(step))] if len(step) else []


def count_clashes(step: np.ndarray, data: np.ndarray, aside: np.ndarray, cuts: Iterable[Segment]) -> int:
    """Values that were logged again at a step of one segment, and differ."""
    segment = np.zeros(len(step), dtype=np.int64)
    for number, (a, b) in enumerate(cuts):
        segment[a:b] = number
    clashes = 0
    for column in data.T[~aside]:
        at = np.flatnonzero(~np.isnan(column))
        before, after = at[:-1], at[1:]
        same = (segment[before] == segment[after]) & (step[before] == step[after])
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


def fold(step: np.ndarray, data: np.ndarray, segment: Segment) -> dict[float, Fold]:
    """Each step of a segment, in increasing order."""
    a, b = segment
    order = a + np.argsort(step[a:b], kind="stable")
    cuts = np.flatnonzero(np.diff(step[order])) + 1
    folds = {}
    for rows in np.split(order, cuts):
        values = data[rows]
        gone = np.isnan(values)
        where = (~gone).argmax(axis=0)
        folds[float(step[rows[0]])] = Fold(
            np.where(gone, np.inf, values).min(axis=0),
            np.where(gone, -np.inf, values).max(axis=0),
            values[where, np.arange(values.shape[1])],
            rows.tolist(),
        )
    return folds


def _settings(folds: Iterable[Fold]) -> np.ndarray:
    """Columns that never change within a pass, such as a planned number of steps: no trace of the policy."""
    parts = list(folds)
    low = np.array([f.low for f in parts]).min(axis=0)
    return low >= np.array([f.high for f in parts]).max(axis=0)


def stitch(
    step: np.ndarray, data: np.ndarray, clock: np.ndarray, cuts: Sequence[Segment]
) -> tuple[list[int], list[Finding]]:
    """Join segments: a later one replaces what it repeats.

    Returns
    -------
    rows : list of int
        Those that count, of each step in logged order.
    findings : list of Finding
    """
    if len(cuts) <= 1:
        return list(range(len(step))), []
    findings: list[Finding] = []
    kept: dict[float, Fold] = {}  # steps in increasing order: each segment drops those from its start on
    for segment in cuts:
        new = fold(step, data, segment)
        start = next(iter(new))
        if kept and start <= next(iter(kept)):
            same, told = _started_over(kept, new, clock)
            findings.append(told)
            kept, new = {}, {s: same[s].merge(more) if s in same else more for s, more in new.items()}
        elif kept:
            dropped = 0
            while next(reversed(kept)) >= start:
                kept.popitem()
                dropped += 1
            findings.append(
                Finding(
                    "resumed",
                    "info",
                    f"resumed at step {start:g}; {dropped} steps of the earlier segment were replaced",
                    "steps after the last checkpoint were trained twice; only the later pass led to the final policy",
                )
            )
        kept.update(new)
    return [row for one in kept.values() for row in one.rows], findings


def _started_over(
    kept: dict[float, Fold], new: dict[float, Fold], clock: np.ndarray
) -> tuple[dict[float, Fold], Finding]:
    """What is left of a run that starts over: the steps at which both passes are the same policy."""
    aside = clock | _settings(kept.values()) & _settings(new.values())
    same = {s: old for s, old in kept.items() if s in new and old.equals(new[s], aside)}
    first, last = next(iter(kept)), next(reversed(kept))
    return same, Finding(
        "aborted-run-dropped",
        "warning",
        f"{len(kept)} steps ({first:g}-{last:g}) precede a run that starts over at step "
        f"{next(iter(new)):g}; they were dropped as an aborted run"
        + (f" (values of {len(same)} identical steps kept)" if same else ""),
        "two runs in one file must not be glued together",
        "split the file if the first part is the run you mean",
    )


# A first pass at least this long, relative to the one that starts over, is a run of its own and not an aborted start.
_OWN_RUN = 0.5


def other_runs(step: np.ndarray, cuts: Sequence[Segment]) -> list[int]:
    """Rows at which another run begins.

    Parameters
    ----------
    step : ndarray, shape (n,)
    cuts : sequence of (int, int)

    Returns
    -------
    list of int
    """
    starts: list[int] = []  # of each pass that does not go on from an earlier one
    lengths: list[int] = []
    seen: set[float] = set()
    lowest = np.inf
    for a, b in cuts:
        if not starts or step[a:b].min() <= lowest:
            starts.append(a)
            lengths.append(0)
            seen, lowest = set(), step[a:b].min()
        seen.update(step[a:b].tolist())
        lengths[-1] = len(seen)
    return [starts[i + 1] for i in range(len(starts) - 1) if lengths[i] >= _OWN_RUN * lengths[i + 1]]
