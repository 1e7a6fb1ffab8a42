"""The step of each row: one axis for a run whose rows may count rollouts, updates, evaluations and log calls."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.limits import PAPER_WINDOW
from entlaw.runs.axes import EXPLICIT, AxisUnit, StepAxis, epoch_column, find_axes, outer_columns
from entlaw.runs.epochs import count_epochs, goes_back, number_by_epoch
from entlaw.runs.rollouts import inner_steps, logged_last, rollout_axis
from entlaw.runs.run import Choice
from entlaw.runs.spellings import is_entropy, score_rule

_ENOUGH = 0.8  # of the rows that the best axis covers


class Steps(NamedTuple):
    """Where each row stands.

    Attributes
    ----------
    step : ndarray, shape (n,)
        NaN for rows that have no place.
    key : str or None
        The column of it; None where the rows were numbered.
    choice : Choice
    inner : ndarray, shape (n,), or None
        Counts within a step, where several optimiser steps share a rollout.
    findings : tuple of Finding
    """

    step: np.ndarray
    key: str | None
    choice: Choice
    inner: np.ndarray | None = None
    findings: tuple[Finding, ...] = ()


def entropy_columns(columns: pd.Index) -> np.ndarray:
    """Whether each column is an entropy by its name."""
    return np.array([is_entropy(str(c)) for c in columns], dtype=bool)


def resolve_step(rows: pd.DataFrame, step_key: str | None = None) -> Steps:
    """The step of each row, on one axis.

    An axis counts updates or rollouts, and stands in the rows that hold the entropy. Where several optimiser steps
    share a rollout it is the rollout. Rows that stand on another axis are brought to this one: by rows that hold
    both, by their number where both count alike, else by their place in the log.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows in logged order.
    step_key : str, optional
        The user's choice.

    Returns
    -------
    Steps
    """
    axes = find_axes(rows)
    entropy = rows.loc[:, entropy_columns(rows.columns)].notna().any(axis=1).to_numpy()
    if step_key is not None:
        unit: AxisUnit = next((a.unit for a in axes if a.column == step_key), "step")
        main = StepAxis(step_key, -1, unit, rows[step_key].to_numpy(float))
        why = "as told by --step-key"
    else:
        best = _best(axes, entropy, rows)
        if best is None:
            return _by_number(rows)
        main, why = rollout_axis(rows, best, axes)
    others = [a for a in axes if a.column != main.column]
    if main.unit == "calls":
        main, told = _calls(main, rows)
    else:
        main, told = _through_epochs(main, rows)
    step, shifted = _place(main, others, rows)
    epochs = epoch_column(rows.columns)  # those of a rollout, where they start over with each
    more_axes = [StepAxis(epochs, -1, "batch", rows[epochs].to_numpy(float))] if epochs else []
    inner, more = inner_steps(main, step, [*others, *more_axes], entropy)
    known = tuple(a.column for a in others)
    choice = Choice("step axis", main.column, "; ".join([why, *(f.what for f in told[:1])]), known)
    return Steps(step, main.column, choice, inner, (*told, *shifted, *more, *_samples(main, step, entropy)))


def _best(axes: list[StepAxis], entropy: np.ndarray, rows: pd.DataFrame) -> StepAxis | None:
    """The axis that stands in the rows of the entropy; of several, the best name that does not count samples."""
    asked = entropy if entropy.any() else np.ones(len(entropy), dtype=bool)
    usable = [a for a in axes if a.unit in EXPLICIT or (a.moves and (a.unit != "batch" or _goes_on(a, rows)))]
    for units in (EXPLICIT, {"batch"}, {"calls"}, {"evaluation"}):
        some = [a for a in usable if a.unit in units]
        if not some:
            continue
        covered = [float(np.isfinite(a.count[asked]).mean()) for a in some]
        moving = any(a.moves for a in some)
        good = [
            a
            for a, share in zip(some, covered, strict=True)
            if share >= _ENOUGH * max(covered) and a.moves == moving
        ]
        first, *more = good or some
        if not _starts_over(first, rows) and _stride(first.count) <= PAPER_WINDOW:
            return first
        return next((a for a in more if a.counts_up and _stride(a.count) <= PAPER_WINDOW), first)
    return None


def _goes_on(batch: StepAxis, rows: pd.DataFrame) -> bool:
    """Whether a count of batches goes up through the log, or starts over with something that does."""
    there = batch.count[np.isfinite(batch.count)]
    return bool((np.diff(there) >= 0).all()) or _starts_over(batch, rows)


def _starts_over(axis: StepAxis, rows: pd.DataFrame) -> bool:
    """Whether an axis starts over whenever an epoch, or a loop around it, goes up."""
    outer = (rows[c].to_numpy(float) for c in outer_columns(rows.columns) if c != axis.column)
    return any(count_epochs(axis.count, o) is not None for o in outer)


def _stride(count: np.ndarray) -> float:
    """By how much an axis goes up at a time."""
    gaps = np.diff(np.unique(count[np.isfinite(count)]))
    return float(np.median(gaps)) if len(gaps) else 0.0


def _by_number(rows: pd.DataFrame) -> Steps:
    """Rows that name no step, by their place; the epoch tells where a run was resumed."""
    number = np.arange(1.0, len(rows) + 1)
    why = "no column names a step"
    column = epoch_column(rows.columns)
    if column is not None:
        epoch = rows[column].to_numpy(float)
        if goes_back(epoch):
            number, why = number_by_epoch(number, epoch), f"{why}; {column} tells where the run was resumed"
    return Steps(number, None, Choice("step axis", "row number", why))


def _calls(main: StepAxis, rows: pd.DataFrame) -> tuple[StepAxis, list[Finding]]:
    """W&B's count of log calls goes on when a run is resumed; its epoch goes back."""
    column = epoch_column(rows.columns)
    if column is None or not goes_back(rows[column].to_numpy(float)):
        return main, []
    return replace(main, count=number_by_epoch(main.count, rows[column].to_numpy(float))), []


def _through_epochs(main: StepAxis, rows: pd.DataFrame) -> tuple[StepAxis, list[Finding]]:
    """Count on where the step starts over with each epoch; say where an epoch goes back and the step does not."""
    for column in outer_columns(rows.columns):
        if column == main.column:
            continue
        through = count_epochs(main.count, rows[column].to_numpy(float))
        if through is None:
            continue
        told = Finding(
            "step-within-epoch",
            "info",
            f"{main.column} starts over with each {column}; both were counted through to one step "
            f"({np.nanmin(through):g} to {np.nanmax(through):g})",
            "the same number in two epochs is not the same step",
        )
        return replace(main, count=through), [told]
    epochs = epoch_column(rows.columns)
    return main, _epoch_goes_back(main, epochs, rows[epochs].to_numpy(float)) if epochs else []


def _epoch_goes_back(main: StepAxis, column: str, epoch: np.ndarray) -> list[Finding]:
    """An epoch that goes back where the step does not: a resumed run whose steps were counted on."""
    there = np.isfinite(main.count)
    if (np.diff(main.count[there]) >= 0).all() and goes_back(epoch[there]):
        held = epoch[there][np.isfinite(epoch[there])]
        at = int(np.flatnonzero(np.diff(held) < 0)[0])
        told = Finding(
            "epoch-goes-back",
            "warning",
            f"{column} goes back from {held[at]:g} to {held[at + 1]:g} while {main.column} goes on",
            "a run that was resumed from a checkpoint trained these steps twice, and both passes are counted",
            "look at what restarted there; split the file if these are two runs",
        )
        return [told]
    return []


def _place(main: StepAxis, others: list[StepAxis], rows: pd.DataFrame) -> tuple[np.ndarray, list[Finding]]:
    """The step of rows that stand on another axis; NaN where nothing but the place in the log tells."""
    step = main.count.copy()
    findings: list[Finding] = []
    before = pd.Series(main.count).ffill().to_numpy()
    after = pd.Series(main.count).bfill().to_numpy()
    for axis in others:
        if axis.unit in ("calls", "batch"):
            continue
        open_ = np.isnan(step) & np.isfinite(axis.count)
        if not open_.any():
            continue
        table = _table(main.count, axis.count)
        found = np.array([table.get(v, np.nan) for v in axis.count[open_].tolist()])
        if _alike(axis.count[open_], before[open_]):
            ahead = _ahead(main, axis, open_, before, after)
            found = np.where(np.isnan(found), axis.count[open_] - ahead, found)
            findings += [_counted_apart(main, axis, ahead)] if ahead else []
        elif axis.unit != "evaluation":
            # The row of a rollout carries one optimiser step, which may be of the next or the last rollout: so by
            # the number of each, and then by the place, before what rows with both counts tell.
            divided = _by_division(main, axis, before, after)
            if np.isnan(divided[open_]).all() and main.unit in ("rollout", "iteration"):
                divided = after if logged_last(main.count, open_) else divided
            found = np.where(np.isnan(divided[open_]), found, divided[open_])
        step[open_] = found
    first = int(np.isfinite(step).argmax())
    early = [c for c in rows.columns if score_rule(str(c))]
    if first and early:  # an evaluation before the first step
        start = max(step[first] - 1, min(step[first], 0.0))
        step[:first] = np.where(rows[early].iloc[:first].notna().any(axis=1), start, np.nan)
    return step, findings


def _by_division(main: StepAxis, other: StepAxis, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Rollouts of optimiser steps that were logged apart, where each rollout has the same number of them.

    The rollout was logged before its steps, or right after the last of them.
    """
    fine, coarse = (np.unique(a.count[np.isfinite(a.count)]) for a in (other, main))
    none = np.full(len(before), np.nan)
    each = round(len(fine) / len(coarse))
    if each < 2 or abs(len(fine) - each * len(coarse)) >= each or len(fine) != fine[-1] - fine[0] + 1:
        return none
    number = (other.count - fine[0]) // each
    at = np.clip(np.nan_to_num(number), 0, len(coarse) - 1).astype(int)
    rollout = np.where(np.isfinite(number), coarse[at], np.nan)
    own = np.isfinite(number) & np.isnan(main.count)
    first, last = own & np.isfinite(before), own & np.isfinite(after)
    if first.any() and np.mean(rollout[first] <= before[first]) >= 0.95:
        return rollout
    return rollout if last.any() and np.mean(rollout[last] == after[last]) >= 0.95 else none


def _ahead(main: StepAxis, other: StepAxis, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """By how much one axis is ahead of the other where one counts from 0 and the other from 1; else 0."""
    ahead = float(np.nanmin(other.count) - np.nanmin(main.count))
    if abs(ahead) != 1 or other.unit == "evaluation":
        return 0.0
    near = (before, after)  # its own step was logged right before it, or comes right after it
    return ahead if any(np.mean((other.count - at)[rows] == ahead) >= _ENOUGH for at in near) else 0.0


def _counted_apart(main: StepAxis, other: StepAxis, ahead: float) -> Finding:
    first = np.nanmin(main.count)
    return Finding(
        "axes-counted-apart",
        "info",
        f"{other.column} {first + ahead:g} is {main.column} {first:g}: one counts from 0, the other from 1",
        "rows of the same rollout carry numbers that differ by one",
    )


def _table(main: np.ndarray, other: np.ndarray) -> dict[float, float]:
    """The first step of the main axis that was logged with each of the other's."""
    both = np.isfinite(main) & np.isfinite(other)
    return dict(zip(other[both][::-1].tolist(), main[both][::-1].tolist(), strict=True))


def _alike(other: np.ndarray, before: np.ndarray) -> bool:
    """Whether two axes count the same: the numbers of one are near those of the other logged last before them."""
    known = np.isfinite(before)
    if not known.any():
        return True
    a, b = other[known], before[known]
    if len(a) >= 3 and np.ptp(b) > 0:
        slope = float(np.polyfit(b - b.mean(), a, 1)[0])
        return 0.8 <= slope <= 1.25 and float(np.median(np.abs(a - b))) <= max(2.0, 0.25 * np.ptp(b))
    return bool((np.abs(a - b) <= np.maximum(2.0, 0.1 * np.abs(b))).mean() >= _ENOUGH)


def _samples(main: StepAxis, step: np.ndarray, entropy: np.ndarray) -> list[Finding]:
    """Steps that go up by so much at a time that they may count samples or tokens."""
    at = np.unique(step[(entropy if entropy.any() else True) & np.isfinite(step)])
    gaps = np.diff(at)
    if len(gaps) < 3 or np.median(gaps) <= PAPER_WINDOW:
        return []
    stride = float(np.median(gaps))
    whole = bool((at == np.round(at)).all() and (np.abs(at) < 2**53).all())
    common = float(np.gcd.reduce(at.astype(np.int64))) if whole else 0.0
    regular = common > PAPER_WINDOW
    by = f"{common if regular and common == stride else stride:,.12g}".replace(",", "")
    told = f"{main.column} goes up by {by} at a time" if regular else f"{main.column} goes up by about {by}"
    return [
        Finding(
            "step-counts-samples",
            "warning",
            f"{told}: it may count samples or tokens and not updates, or only every {by}th step was logged",
            f"a window of {PAPER_WINDOW:g} steps holds no point of such a run",
            f"if {by} make one update, multiply: --until-step {PAPER_WINDOW * stride:.12g} is the window of "
            f"{PAPER_WINDOW:g} updates; or name a column that counts updates with --step-key",
            stride,
        )
    ]
