"""The step of each row: one axis for a run whose rows may count rollouts, updates, evaluations and log calls."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.limits import PAPER_WINDOW
from entlaw.runs.axes import EXPLICIT, Axis, Unit, epoch_column, find_axes
from entlaw.runs.epochs import count_epochs, goes_back, number_by_epoch
from entlaw.runs.run import Choice
from entlaw.runs.spellings import is_entropy, score_rule

_ENOUGH = 0.8  # of the rows that the best axis covers
_FINER = 1.5  # updates a rollout, from which on a run is off-policy
_MOST_FINER = 64  # more are no updates of one rollout


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
        unit: Unit = next((a.unit for a in axes if a.column == step_key), "step")
        main = Axis(step_key, -1, unit, rows[step_key].to_numpy(float))
        why = "as told by --step-key"
    else:
        best = _best(axes, entropy)
        if best is None:
            return _by_number(rows)
        main, why = _rollouts(rows, best, axes, entropy)
    others = [a for a in axes if a.column != main.column]
    if main.unit == "calls":
        main, told = _calls(main, rows)
    else:
        main, told = _through_epochs(main, rows)
    step = _place(main, others, rows)
    inner, more = _inner(main, step, others, entropy)
    known = tuple(a.column for a in others)
    choice = Choice("step axis", main.column, "; ".join([why, *(f.what for f in told[:1])]), known)
    return Steps(step, main.column, choice, inner, (*told, *more, *_samples(main, step, entropy)))


def _best(axes: list[Axis], entropy: np.ndarray) -> Axis | None:
    """The axis that stands in the rows of the entropy; of several, the best name."""
    asked = entropy if entropy.any() else np.ones(len(entropy), dtype=bool)
    usable = [a for a in axes if a.unit in EXPLICIT or a.moves]
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
        return (good or some)[0]
    return None


def _rollouts(rows: pd.DataFrame, best: Axis, axes: list[Axis], entropy: np.ndarray) -> tuple[Axis, str]:
    """The rollouts, where the best axis counts optimiser steps and several share one."""
    if best.unit in ("rollout", "calls", "evaluation"):
        return best, "known name of a step"
    for coarse in axes:
        if coarse.unit not in ("rollout", "iteration") or coarse is best or not coarse.moves:
            continue
        ratio = _inner_steps(coarse.count, best.count)
        if not _FINER <= ratio <= _MOST_FINER:
            continue
        if coarse.unit == "iteration" and not _one_score(rows, coarse.count):
            continue
        return coarse, f"counts rollouts; {best.column} counts the optimiser steps in them"
    return best, "known name of a step"


def _inner_steps(coarse: np.ndarray, fine: np.ndarray) -> float:
    """How many steps of the fine axis there are to one of the coarse axis; 0 where it is not finer."""
    both = np.isfinite(coarse) & np.isfinite(fine)
    if not both.any():  # each in rows of its own: whatever rollout was logged last
        coarse = pd.Series(coarse).ffill().to_numpy()
        both = np.isfinite(coarse) & np.isfinite(fine)
    if not both.any():
        return 0.0
    pairs = np.unique(np.stack([coarse[both], fine[both]]), axis=1)
    return pairs.shape[1] / len(np.unique(pairs[0]))


def _one_score(rows: pd.DataFrame, iteration: np.ndarray) -> bool:
    """Whether the training scores stay the same within an iteration: they are then of one rollout."""
    scores = [c for c in rows.columns if _is_training(str(c))]
    if not scores:
        return False
    groups = rows[scores].groupby(pd.Series(iteration).ffill().to_numpy())
    return bool((groups.nunique().max(axis=1) <= 1).mean() >= 0.9)


def _is_training(key: str) -> bool:
    told = score_rule(key)
    return told is not None and told.kind in ("training", "either")


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


def _calls(main: Axis, rows: pd.DataFrame) -> tuple[Axis, list[Finding]]:
    """W&B's count of log calls goes on when a run is resumed; its epoch goes back."""
    column = epoch_column(rows.columns)
    if column is None or not goes_back(rows[column].to_numpy(float)):
        return main, []
    return replace(main, count=number_by_epoch(main.count, rows[column].to_numpy(float))), []


def _through_epochs(main: Axis, rows: pd.DataFrame) -> tuple[Axis, list[Finding]]:
    """Count on where the step starts over with each epoch; say where an epoch goes back and the step does not."""
    column = epoch_column(rows.columns)
    if column is None:
        return main, []
    epoch = rows[column].to_numpy(float)
    through = count_epochs(main.count, epoch)
    if through is not None:
        told = Finding(
            "step-within-epoch",
            "info",
            f"{main.column} starts over with each {column}; both were counted through to one step "
            f"({np.nanmin(through):g} to {np.nanmax(through):g})",
            "the same number in two epochs is not the same step",
        )
        return replace(main, count=through), [told]
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
        return main, [told]
    return main, []


def _place(main: Axis, others: list[Axis], rows: pd.DataFrame) -> np.ndarray:
    """The step of rows that stand on another axis; NaN where nothing but the place in the log tells."""
    step = main.count.copy()
    before = pd.Series(main.count).ffill().to_numpy()
    for axis in others:
        if axis.unit in ("calls", "batch"):
            continue
        open_ = np.isnan(step) & np.isfinite(axis.count)
        if not open_.any():
            continue
        table = _table(main.count, axis.count)
        found = np.array([table.get(v, np.nan) for v in axis.count[open_].tolist()])
        if _alike(axis.count[open_], before[open_]):
            found = np.where(np.isnan(found), axis.count[open_], found)
        step[open_] = found
    first = int(np.isfinite(step).argmax())
    early = [c for c in rows.columns if score_rule(str(c))]
    if first and early:  # an evaluation before the first step
        start = max(step[first] - 1, min(step[first], 0.0))
        step[:first] = np.where(rows[early].iloc[:first].notna().any(axis=1), start, np.nan)
    return step


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


def _inner(
    main: Axis, step: np.ndarray, others: list[Axis], entropy: np.ndarray
) -> tuple[np.ndarray | None, list[Finding]]:
    """The count of optimiser steps within a rollout, and that there are several."""
    if main.unit in ("update", "calls", "evaluation"):
        return None, []
    filled = pd.Series(step).ffill().to_numpy()
    held = entropy & np.isfinite(filled)
    if not held.any():
        return None, []
    for axis in others:
        if axis.unit not in ("step", "update", "batch") or not np.isfinite(axis.count[held]).all():
            continue
        if axis.unit == "step" and main.unit not in ("rollout", "iteration"):
            continue
        ratio = _inner_steps(filled[held], axis.count[held])
        if ratio >= _FINER:
            return axis.count, [_off_policy(main, ratio, f"counted by {axis.column}")]
    if main.unit == "rollout":
        times = pd.Series(held).groupby(filled).sum()
        times = times[times > 0]
        if (times > 1).mean() >= 0.5:
            number = pd.Series(filled).groupby(filled).cumcount().to_numpy(float)
            return number, [_off_policy(main, float(times.mean()), "each with a row of its own")]
    return None, []


def _off_policy(main: Axis, ratio: float, how: str) -> Finding:
    return Finding(
        "off-policy-steps",
        "info",
        f"{ratio:.3g} optimiser steps a rollout ({how}); steps are rollouts as {main.column} counts them, and "
        "the entropy of each is that of its first optimiser step",
        "later optimiser steps move away from the policy that made the rollout; the window of "
        f"{PAPER_WINDOW:g} steps then is {PAPER_WINDOW:g} rollouts",
        "name the optimiser's own count with --step-key to see every step",
        ratio,
    )


def _samples(main: Axis, step: np.ndarray, entropy: np.ndarray) -> list[Finding]:
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
