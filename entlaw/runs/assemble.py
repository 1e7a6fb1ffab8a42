"""From rows in logged order to one row a step: late lines, duplicates, restarts, resumed segments."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.passes import Segment, count_clashes, is_clock, other_runs, segments, stitch
from entlaw.runs.renamed import join_renamed
from entlaw.runs.run import Choice
from entlaw.runs.steps import Steps, entropy_columns, resolve_step


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
    findings = list(found.steps.findings)
    if found.steps.key is None and len(rows):
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
    kept, stitched = stitch(found.step, found.data, found.aside, found.segments)
    return _collect(kept, found, (*findings, *stitched))


@dataclass(frozen=True, eq=False)
class _Passes:
    """Rows by step, one segment for each time that a run goes over its steps.

    Attributes
    ----------
    steps
        As :func:`resolve_step` gives them.
    order : ndarray of int, shape (n,)
        Rows that have a step, in logged order.
    step : ndarray, shape (n,)
    data : ndarray, shape (n, k)
    columns : pandas.Index, length k
        All but the step.
    aside : ndarray of bool, shape (k,)
        Columns that time the run or count its steps.
    segments : list of (int, int)
    carried, clashes : int
        Rows that took their step from the row before; values logged twice at one step that differ.
    """

    steps: Steps
    order: np.ndarray
    step: np.ndarray
    data: np.ndarray
    columns: pd.Index
    aside: np.ndarray
    segments: list[Segment]
    carried: int
    clashes: int


def _passes(rows: pd.DataFrame, step_key: str | None) -> _Passes:
    steps = resolve_step(rows, step_key)
    values = rows.drop(columns=[steps.key] if steps.key else [])
    step, carried = _carry_step(steps.step)
    order = np.flatnonzero(np.isfinite(step))
    data, step = values.to_numpy(float)[order], step[order]
    aside = np.array([is_clock(str(c)) or is_axis(str(c)) for c in values.columns], dtype=bool)
    cuts = segments(step, data, aside, several=steps.inner is not None)
    inner = None if steps.inner is None else steps.inner[order]
    clashes = count_clashes(step, data, aside, cuts, inner)
    return _Passes(steps, order, step, data, values.columns, aside, cuts, carried, clashes)


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
    if len(found.order) == 0:
        return [rows]
    cuts = [int(found.order[row]) for row in other_runs(found.step, found.data, found.aside, found.segments)]
    edges = [0, *cuts, len(rows)]
    return [rows.iloc[a:b].reset_index(drop=True) for a, b in pairwise(edges)]


def _carry_step(step: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows without a step take that of the row before, as loggers that print a step once intend."""
    missing = ~np.isfinite(step)
    if not missing.any():
        return step, 0
    filled = pd.Series(np.where(missing, np.nan, step)).ffill().to_numpy()
    return filled, int((missing & np.isfinite(filled)).sum())


def _collect(kept: list[int], found: _Passes, findings: tuple[Finding, ...]) -> Assembled:
    """Merge the rows of each step: the last value of a key wins; remember who set it first."""
    rows = np.array(kept, dtype=np.int64)
    steps, at = np.unique(found.step[rows], return_inverse=True)
    data = found.data[rows]
    where, column = np.nonzero(~np.isnan(data))  # row by row: of a step's values the last one stays
    out = np.full((len(steps), data.shape[1]), np.nan)
    out[at[where], column] = data[where, column]
    first = np.full(out.shape, -1, dtype=np.int64)
    back, turned = where[::-1], column[::-1]
    first[at[back], turned] = found.order[rows[back]]
    if found.steps.inner is not None:  # of the entropies the first stays: the policy that made the rollout
        mine = entropy_columns(found.columns)[turned]
        out[at[back[mine]], turned[mine]] = data[back[mine], turned[mine]]
    index = pd.Index(steps, name="step", dtype=float)
    metrics, first_row, renamed = join_renamed(
        pd.DataFrame(out, index=index, columns=found.columns, copy=False),
        pd.DataFrame(first, index=index, columns=found.columns, copy=False),
    )
    return Assembled(metrics, first_row, (found.steps.choice,), (*findings, *renamed))
