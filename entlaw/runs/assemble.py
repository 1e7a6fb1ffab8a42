"""From rows in logged order to one row a step: late lines, duplicates, restarts, resumed segments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.keys import STEP_NAMES, canonical
from entlaw.runs.run import Choice

# Keys that differ between two passes over one step without meaning a different policy.
_CLOCK = re.compile(
    r"(^|_)(time|timing|timestamp|runtime|seconds|per_sec|per_second|tokens_per_sec|perf|memory|epoch|elapsed|eta|"
    r"throughput|mfu|step_time|wall)(_|$)"
)


def is_clock(key: str) -> bool:
    """Whether a key times the run and says nothing of the policy."""
    return _CLOCK.search(canonical(key)) is not None


@dataclass(frozen=True)
class Assembled:
    """One row a step.

    Attributes
    ----------
    metrics : pandas.DataFrame
        Index ``step``, unique and increasing.
    first_row : pandas.DataFrame
        Same shape as ``metrics``: position in logged order of the record that first set each value
        (-1 where there is none). Tells a validation made before any training from one made after step 0.
    choices, findings : tuple
    """

    metrics: pd.DataFrame
    first_row: pd.DataFrame
    choices: tuple[Choice, ...]
    findings: tuple[Finding, ...]


def resolve_step(rows: pd.DataFrame, step_key: str | None = None) -> tuple[np.ndarray, str | None, Choice]:
    """The training step of each row.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows in logged order.
    step_key : str, optional
        The user's choice.

    Returns
    -------
    step : ndarray, shape (n,)
    key : str or None
        The column used, None when rows were numbered.
    choice : Choice
    """
    by_name: dict[str, str] = {}
    for column in rows.columns:
        name = "_step" if column == "_step" else canonical(str(column))
        by_name.setdefault(name, str(column))
    if step_key is not None:
        return (
            rows[step_key].to_numpy(float),
            step_key,
            Choice("step axis", step_key, "as told by --step-key"),
        )
    known = [by_name[name] for name in STEP_NAMES if name in by_name and rows[by_name[name]].notna().any()]
    if known:
        best = known[0]
        return (
            rows[best].to_numpy(float),
            best,
            Choice("step axis", best, "known name of a step", tuple(known[1:])),
        )
    number = np.arange(1.0, len(rows) + 1)
    return number, None, Choice("step axis", "row number", "no column names a step")


def assemble(rows: pd.DataFrame, step_key: str | None = None) -> Assembled:
    """Merge rows of one step, put late rows in their place, stitch resumed segments, drop an aborted run.

    Rows may go back in step for three reasons, told apart by whether they *repeat* a value already logged:
    a late row (an evaluation printed after the next step) repeats nothing and is merged; a resumed segment
    repeats steps from some checkpoint on, and replaces what it repeats; a run that starts over from the
    beginning drops what came before as aborted.

    Parameters
    ----------
    rows : pandas.DataFrame
        As in :class:`entlaw.runs.run.RawRun`.
    step_key : str, optional

    Returns
    -------
    Assembled
    """
    found = _passes(rows, step_key)
    findings: list[Finding] = []
    if found.key is None and len(rows):
        findings.append(
            Finding(
                "no-step",
                "warning",
                f"no record names its step; the {len(rows)} records were numbered 1..{len(rows)}",
                "the fit window (--until-step) then counts records, not optimiser steps",
                "name the column with --step-key",
            )
        )
    if without := len(rows) - len(found.order):
        findings.append(
            Finding("rows-without-step", "info", f"{without} records have no step and were left out")
        )
    if found.carried:
        what = f"{found.carried} records without a step took the step of the record before"
        findings.append(Finding("step-carried", "info", what))
    if found.clashes:
        findings.append(
            Finding(
                "duplicate-step",
                "warning",
                f"{found.clashes} values were logged twice at one step with different values; the later one was kept",
                "two different numbers for one step mean that two runs or two passes share this log",
                "check that the file holds one run",
            )
        )
    kept, stitched = _stitch(found.segments, found.data, found.clock)
    return _collect(kept, found, (*findings, *stitched))


Segment = dict[float, list[int]]  # a step to its row numbers in logged order


@dataclass(frozen=True)
class _Passes:
    """Rows by step, one segment for each time that a run goes over its steps.

    Attributes
    ----------
    key, choice
        As :func:`resolve_step` gives them.
    order : ndarray of int, shape (n,)
        Rows that have a step, in logged order.
    data : ndarray, shape (n, k)
    columns : pandas.Index, length k
        All but the step.
    clock : ndarray of bool, shape (k,)
        Columns that time the run.
    segments : list of dict
    carried, clashes : int
        Rows that took their step from the row before; values logged twice at one step that differ.
    """

    key: str | None
    choice: Choice
    order: np.ndarray
    data: np.ndarray
    columns: pd.Index
    clock: np.ndarray
    segments: list[Segment]
    carried: int
    clashes: int


def _passes(rows: pd.DataFrame, step_key: str | None) -> _Passes:
    step, key, choice = resolve_step(rows, step_key)
    values = rows.drop(columns=[key] if key else [])
    step, carried = _carry_step(step)
    order = np.flatnonzero(np.isfinite(step))
    data = values.to_numpy(float)[order]
    clock = np.array([is_clock(str(c)) for c in values.columns], dtype=bool)
    segments, clashes = _segments(step[order], data, clock)
    return _Passes(key, choice, order, data, values.columns, clock, segments, carried, clashes)


# A first pass at least this long, relative to the one that starts over, is a run of its own and not an aborted start.
_OWN_RUN = 0.5


def split_runs(rows: pd.DataFrame, step_key: str | None = None) -> list[pd.DataFrame]:
    """Cut rows in which several complete runs follow each other into one frame a run.

    A run that starts over from the beginning after a short start is one run with an aborted start, which
    :func:`assemble` drops; after a start at least half as long as itself, it is another run.

    Parameters
    ----------
    rows : pandas.DataFrame
        As in :class:`entlaw.runs.run.RawRun`.
    step_key : str, optional

    Returns
    -------
    list of DataFrame
        At least one; indices start at 0 again. Rows of all runs together are those given.
    """
    if step_key is not None and step_key not in rows.columns:
        return [rows]
    found = _passes(rows, step_key)
    if found.key is None or len(found.order) == 0:
        return [rows]
    passes: list[list[Segment]] = []
    for segment in found.segments:
        if passes and min(segment) > min(passes[-1][0]):
            passes[-1].append(segment)  # resumed
        else:
            passes.append([segment])
    lengths = [len({s for segment in p for s in segment}) for p in passes]
    starts = [found.order[min(r for rows_ in p[0].values() for r in rows_)] for p in passes]
    cuts = [int(starts[i + 1]) for i in range(len(passes) - 1) if lengths[i] >= _OWN_RUN * lengths[i + 1]]
    edges = [0, *cuts, len(rows)]
    return [rows.iloc[a:b].reset_index(drop=True) for a, b in pairwise(edges)]


def _carry_step(step: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows without a step take that of the row before, as loggers that print a step once intend."""
    missing = ~np.isfinite(step)
    if not missing.any():
        return step, 0
    filled = pd.Series(np.where(missing, np.nan, step)).ffill().to_numpy()
    return filled, int((missing & np.isfinite(filled)).sum())


def _segments(step: np.ndarray, data: np.ndarray, clock: np.ndarray) -> tuple[list[Segment], int]:
    """Split rows into segments; each maps a step to its row numbers in logged order."""
    segments: list[Segment] = []
    current: Segment = {}
    top, clashes = -np.inf, 0
    has = ~np.isnan(data) & ~clock
    last = np.full(data.shape[1], -np.inf)  # latest step of each key in this segment
    for i, s in enumerate(step):
        mine = has[i]
        if (
            s < top and (mine & (last >= s)).any()
        ):  # a key goes back over its own steps: not merely printed late
            segments.append(current)
            current, top = {}, -np.inf
            last = np.full_like(last, -np.inf)
        again = mine & (last == s)
        if again.any():
            before = data[current[s]][:, again]
            latest = np.array([column[~np.isnan(column)][-1] for column in before.T])
            clashes += int((latest != data[i][again]).sum())
        top = max(top, s)
        current.setdefault(s, []).append(i)
        last[mine] = np.maximum(last[mine], s)
    segments.append(current)
    return [s for s in segments if s], clashes


def _stitch(segments: list[Segment], data: np.ndarray, clock: np.ndarray) -> tuple[Segment, list[Finding]]:
    """Join segments: a later one replaces what it repeats."""
    findings: list[Finding] = []
    kept: Segment = {}
    for segment in segments:
        start = min(segment)
        if kept and start <= min(kept):
            aside = clock | _settings(kept, data) & _settings(segment, data)
            carried = _same_policy(kept, segment, data, aside)
            findings.append(
                Finding(
                    "aborted-run-dropped",
                    "warning",
                    f"{len(kept)} steps ({min(kept):g}-{max(kept):g}) precede a run that starts over at step "
                    f"{start:g}; they were dropped as an aborted run"
                    + (f" (values of {carried} identical steps kept)" if carried else ""),
                    "two runs in one file must not be glued together",
                    "split the file if the first part is the run you mean",
                )
            )
            if carried == 0:
                kept = {}
            else:
                kept = {s: r for s, r in kept.items() if s in segment and _equal(r, segment[s], data, aside)}
        elif kept:
            overlap = [s for s in kept if s >= start]
            findings.append(
                Finding(
                    "resumed",
                    "info",
                    f"resumed at step {start:g}; {len(overlap)} steps of the earlier segment were replaced",
                    "steps after the last checkpoint were trained twice; only the later pass led to the final policy",
                )
            )
            for s in overlap:
                del kept[s]
        for s, rows in segment.items():
            kept[s] = [*kept.get(s, []), *rows]
    return kept, findings


def _settings(segment: Segment, data: np.ndarray) -> np.ndarray:
    """Columns that never change within a segment, such as a planned number of steps: no trace of the policy."""
    rows = data[[r for rows in segment.values() for r in rows]]
    low = np.where(np.isnan(rows), np.inf, rows).min(axis=0)
    high = np.where(np.isnan(rows), -np.inf, rows).max(axis=0)
    return low >= high


def _equal(one: list[int], two: list[int], data: np.ndarray, aside: np.ndarray) -> bool:
    """Whether two passes over a step logged the same numbers wherever both logged one (clocks and settings aside)."""
    a = pd.DataFrame(data[one]).bfill().iloc[0].to_numpy()
    b = pd.DataFrame(data[two]).bfill().iloc[0].to_numpy()
    both = ~np.isnan(a) & ~np.isnan(b) & ~aside
    # Many numbers in common, and not all of them zeros or ones, before calling two policies the same.
    return bool(both.sum() >= 2 and (a[both] == b[both]).all() and len(np.unique(a[both])) >= 2)


def _same_policy(old: Segment, new: Segment, data: np.ndarray, aside: np.ndarray) -> int:
    """Number of steps at which the aborted run and its repetition are the same policy."""
    return sum(s in new and _equal(rows, new[s], data, aside) for s, rows in old.items())


def _collect(kept: Segment, found: _Passes, findings: tuple[Finding, ...]) -> Assembled:
    """Merge the rows of each step: the last value of a key wins; remember who set it first."""
    steps = np.array(sorted(kept))
    data = found.data
    out = np.full((len(steps), data.shape[1]), np.nan)
    first = np.full(out.shape, -1, dtype=np.int64)
    for i, s in enumerate(steps):
        for row in kept[s]:
            there = ~np.isnan(data[row])
            out[i, there] = data[row, there]
            first[i, there & (first[i] < 0)] = found.order[row]
    index = pd.Index(steps, name="step", dtype=float)
    return Assembled(
        pd.DataFrame(out, index=index, columns=found.columns),
        pd.DataFrame(first, index=index, columns=found.columns),
        (found.choice,),
        findings,
    )
