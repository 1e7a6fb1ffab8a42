"""One log completed with what another log of the same run holds and it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.assemble import Assembled, assemble
from entlaw.runs.axes import is_axis
from entlaw.runs.run import RawRun
from entlaw.runs.steps import resolve_step
from entlaw.runs.trace import folded, tells

_LAST = np.iinfo(np.int64).max


def fill(raw: RawRun, others: Sequence[RawRun], step_key: str | None = None) -> tuple[RawRun, int]:
    """A log with the steps and keys that only the others hold.

    Parameters
    ----------
    raw : RawRun
        Its own values are kept.
    others : sequence of RawRun
        Of the same run by the same steps, the best first.
    step_key : str, optional

    Returns
    -------
    raw : RawRun
        The one given where the others add nothing that tells of the policy.
    filled : int
        Values that were added.
    """
    if not others:
        return raw, 0
    axis = _axis(raw, step_key)
    if axis is None:
        return raw, 0
    own = assemble(raw.rows, axis)
    known = {folded(str(c)): str(c) for c in reversed(own.metrics.columns)}
    metrics, told = own.metrics, 0
    findings: list[Finding] = []
    for other in others:
        key = _axis(other, step_key)
        if key is None:
            continue
        more = assemble(other.rows, key)
        frame = _renamed(more.metrics, known)
        frame = frame.drop(columns=_renamings(metrics, frame))
        wider = metrics.combine_first(frame)
        telling = [c for c in frame.columns if tells(str(c))]
        new = int(wider[telling].notna().sum().sum() - metrics.reindex(columns=telling).notna().sum().sum())
        if new:
            told += new
            metrics = wider.reindex(columns=[*metrics.columns, *wider.columns.difference(metrics.columns)])
            findings += [*other.findings, *more.findings]
    if not told:
        return raw, 0
    rows = in_logged_order(Assembled(metrics, own.first_row, (), ()), axis)
    return replace(raw, rows=rows, findings=(*raw.findings, *own.findings, *findings)), told


def _axis(raw: RawRun, step_key: str | None) -> str | None:
    if len(raw.rows) == 0:
        return None
    return resolve_step(raw.rows, step_key if step_key in raw.rows.columns else None).key


def _renamed(metrics: pd.DataFrame, known: dict[str, str]) -> pd.DataFrame:
    """Another log's frame under the keys of this one; its steps and what would be there twice left out."""
    names: dict[str, str] = {}
    for column in metrics.columns:
        if not is_axis(str(column)):
            names.setdefault(known.get(folded(str(column)), str(column)), column)
    return metrics[list(names.values())].set_axis(list(names), axis=1)


def _renamings(metrics: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """New keys that hold a known series under another name, as tables made by hand do."""
    steps = metrics.index.intersection(frame.index)
    ours, out = metrics.loc[steps].to_numpy(float), []
    for key in frame.columns.difference(metrics.columns):
        theirs = frame.loc[steps, key].to_numpy(float)[:, None]
        both = np.isfinite(ours) & np.isfinite(theirs)
        equal = (np.isclose(ours, theirs, rtol=1e-6, atol=0) & both).sum(axis=0)
        if (equal >= np.maximum(2, 0.95 * np.isfinite(theirs).sum())).any():
            out.append(key)
    return out


def in_logged_order(assembled: Assembled, axis: str) -> pd.DataFrame:
    """Rows again of what was assembled: values of one step that were logged apart stay apart, in their order.

    The order within a step tells a validation made before any training from one made after the first update.
    """
    metrics = assembled.metrics
    values = metrics.to_numpy(float)
    order = assembled.first_row.reindex(index=metrics.index, columns=metrics.columns).to_numpy(float)
    place = np.where(np.isfinite(order) & (order >= 0), order, _LAST)
    at_row, at_column = np.nonzero(~np.isnan(values))
    cells = np.stack([at_row.astype(float), place[at_row, at_column]], axis=1)
    rows, where = np.unique(cells, axis=0, return_inverse=True)
    out = np.full((len(rows), values.shape[1]), np.nan)
    out[where.ravel(), at_column] = values[at_row, at_column]
    frame = pd.DataFrame(out, columns=metrics.columns)
    frame.insert(0, axis, metrics.index.to_numpy(float)[rows[:, 0].astype(int)])
    return frame
