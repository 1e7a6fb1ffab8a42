"""Off-policy runs: several optimiser steps share a rollout, and the rollout is the step."""

from __future__ import annotations

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.limits import PAPER_WINDOW
from entlaw.runs.axes import AxisUnit, StepAxis
from entlaw.runs.epochs import count_epochs
from entlaw.runs.spellings import is_entropy, score_rule

_FINER = 1.5  # updates a rollout, from which on a run is off-policy
_MOST_FINER = 64  # more are no updates of one rollout
_LAST_RESORTS: dict[AxisUnit, str] = {
    "calls": "W&B's count of log calls; no other column counts steps",
    "evaluation": "counts evaluations; no other column counts steps",
}
# Units of which several of the first may share one of the others; batches may share any.
_FINER_UNITS: dict[AxisUnit, tuple[AxisUnit, ...]] = {
    "step": ("rollout", "iteration"),
    "update": ("rollout", "iteration", "step"),
}


def rollout_axis(rows: pd.DataFrame, best: StepAxis, axes: list[StepAxis]) -> tuple[StepAxis, str]:
    """The rollouts, where the best axis counts optimiser steps and several share one; else the best axis.

    Parameters
    ----------
    rows : pandas.DataFrame
    best : StepAxis
        The one that stands in the rows of the entropy.
    axes : list of StepAxis
        All, best name first.

    Returns
    -------
    axis : StepAxis
    why : str
    """
    if best.unit in _LAST_RESORTS:
        return best, _LAST_RESORTS[best.unit]
    if best.unit == "rollout":
        return best, "known name of a step"
    if best.unit == "iteration" and not _one_score(rows, best.count):
        within = (a for a in axes if a is not best and count_epochs(a.count, best.count) is not None)
        return next(within, best), "known name of a step"
    for coarse in axes:
        if coarse.unit not in ("rollout", "iteration") or coarse is best or not coarse.counts_up:
            continue
        ratio = _ratio(coarse.count, _counted_beside(rows, coarse.count, best.count))
        if not _FINER <= ratio <= _MOST_FINER:
            continue
        if coarse.unit == "iteration" and not _one_score(rows, coarse.count):
            continue
        return coarse, f"counts rollouts; {best.column} counts the optimiser steps in them"
    return best, "known name of a step"


def _ratio(coarse: np.ndarray, fine: np.ndarray) -> float:
    """How many steps of the fine axis there are to one of the coarse axis; 0 where it is not finer."""
    both = np.isfinite(coarse) & np.isfinite(fine)
    if not both.any():  # each in rows of its own: whatever rollout was logged last
        coarse = pd.Series(coarse).ffill().to_numpy()
        both = np.isfinite(coarse) & np.isfinite(fine)
    if not both.any():
        return 0.0
    pairs = np.unique(np.stack([coarse[both], fine[both]]), axis=1)
    return pairs.shape[1] / len(np.unique(pairs[0]))


def _counted_beside(rows: pd.DataFrame, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """The fine count without the rows of the rollouts, where these have rows of their own that hold the scores.

    Such a row carries the one optimiser step at which it was written, so that rows with both counts say nothing of how
    many there are to a rollout.
    """
    entropy = rows[[c for c in rows.columns if is_entropy(str(c))]].notna().any(axis=1).to_numpy()
    scored = rows[[c for c in rows.columns if _is_training(str(c))]].notna().any(axis=1).to_numpy()
    whole = np.isfinite(coarse)
    if (entropy & (whole | scored)).any() or not scored[whole].any() or not np.isfinite(fine[whole]).any():
        return fine
    if not logged_last(coarse, np.isfinite(fine) & entropy):
        # A rollout that is logged first and carries the count of steps done stands at the last step of the one before.
        own = np.flatnonzero(entropy & np.isfinite(fine))
        values, at = np.unique(fine[own], return_index=True)
        seen = dict(zip(values.tolist(), own[at].tolist(), strict=True))
        if any(seen.get(fine[i], i) < i for i in np.flatnonzero(whole & np.isfinite(fine)).tolist()):
            return fine
    return np.where(whole, np.nan, fine)


def logged_last(coarse: np.ndarray, fine: np.ndarray) -> bool:
    """Whether each rollout is logged after its optimiser steps.

    Then as many of these precede the first rollout as stand between two; else the rollout comes first.

    Parameters
    ----------
    coarse : ndarray, shape (n,)
        The count of rollouts of each row, in logged order; NaN where there is none.
    fine : ndarray of bool, shape (n,)
        Rows of optimiser steps.
    """
    at = np.flatnonzero(np.isfinite(coarse))
    if len(at) < 2:
        return False
    passed = np.cumsum(fine & ~np.isfinite(coarse))[at]
    between = np.diff(passed)
    return bool(0 < between.min() <= passed[0] <= between.max())


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


def inner_steps(
    main: StepAxis, step: np.ndarray, others: list[StepAxis], entropy: np.ndarray
) -> tuple[np.ndarray | None, list[Finding]]:
    """The count of optimiser steps within a rollout, and that there are several.

    Parameters
    ----------
    main : StepAxis
    step : ndarray, shape (n,)
        Of each row.
    others : list of StepAxis
    entropy : ndarray of bool, shape (n,)
        Rows that hold an entropy.

    Returns
    -------
    inner : ndarray, shape (n,), or None
        None where a step is one optimiser step.
    findings : list of Finding
    """
    if main.unit in _LAST_RESORTS:
        return None, []
    filled = pd.Series(step).ffill().to_numpy()
    held = entropy & np.isfinite(filled)
    if not held.any():
        return None, []
    for axis in others:
        if axis.unit not in ("step", "update", "batch") or not np.isfinite(axis.count[held]).all():
            continue
        if axis.unit != "batch" and main.unit not in _FINER_UNITS.get(axis.unit, ()):
            continue
        ratio = _ratio(filled[held], axis.count[held])
        if ratio >= _FINER:
            return axis.count, [_off_policy(main, ratio, f"counted by {axis.column}")]
    if main.unit == "rollout":
        times = pd.Series(held).groupby(filled).sum()
        times = times[times > 0]
        if (times > 1).mean() >= 0.5:
            number = pd.Series(filled).groupby(filled).cumcount().to_numpy(float)
            return number, [_off_policy(main, float(times.mean()), "each with a row of its own")]
    return None, []


def _off_policy(main: StepAxis, ratio: float, how: str) -> Finding:
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
