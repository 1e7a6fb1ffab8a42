"""The unit of a score: a fraction, percent, or rewards of another range; and numbers that stand for no score."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.keys import canonical

# A mean of 0/1 scores may exceed 1 by rounding only.
_TOLERANCE = 1e-6
# One-per-cent scores exist ("0.8 %"), so values below 1 are suspicious only when their neighbours are this much larger.
_JUMP = 20.0
# An accuracy that never exceeds this may be a small percentage or a reward of a few points: not decided silently.
_SURE_PERCENT = 5.0
# A score may be a reward too; environments that pay 10 for a success are common.
_SURE_PERCENT_OF_A_SCORE = 10.0
_MAY_BE_REWARD = re.compile(r"score|reward|return")
# A mean below this hints at rewards of -1 and +1; a small penalty takes a score slightly below 0.
_CLEARLY_SIGNED = -0.2
# What trainers log where there was nothing to score.
_PLACEHOLDERS = (-1.0, -100.0, -999.0, -9999.0)


@dataclass(frozen=True)
class ScoreUnit:
    """How a logged score becomes a fraction: ``scale * (score - offset)``."""

    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of_range(cls, low: float, high: float) -> ScoreUnit:
        """The unit of scores from ``low`` (worst) to ``high`` (best)."""
        return cls(1.0 / (high - low), low)


def extremes(metrics: pd.DataFrame, key: str) -> tuple[float, float] | None:
    """Smallest and largest single reward behind a mean, where ``.../min`` and ``.../max`` are logged beside it."""
    name = canonical(key)
    if not re.search(r"(^|_)mean(_|$)", name):
        return None
    found = []
    for word, pick in (("min", np.nanmin), ("max", np.nanmax)):
        wanted = re.sub(r"(^|_)mean(?=_|$)", rf"\1{word}", name)
        columns = [c for c in metrics.columns if canonical(str(c)) == wanted]
        values = metrics[columns[0]].to_numpy(float) if columns else np.array([])
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return None
        found.append(float(pick(values)))
    return found[0], found[1]


def drop_placeholders(
    scores: pd.Series, single: tuple[float, float] | None
) -> tuple[pd.Series, list[Finding]]:
    """Leave out numbers that a trainer logs where there is no score, such as -1 among scores from 0 to 1.

    Parameters
    ----------
    scores : pandas.Series
    single : tuple of float, optional
        Smallest and largest single reward (:func:`extremes`): what such a reward can be is no placeholder.
    """
    v = scores.to_numpy(float)
    finite = v[np.isfinite(v)]
    for value in _PLACEHOLDERS:
        rest = finite[finite != value]
        n = len(finite) - len(rest)
        real = single is not None and single[0] <= value and single[1] > value
        if n == 0 or len(rest) == 0 or rest.min() < -_TOLERANCE or real:
            continue
        at = scores.index[v == value]
        return scores.where(v != value), [
            Finding(
                "placeholder-scores",
                "warning",
                f"{n} scores of exactly {value:g} were left out (the first at step {at[0]:g}); all others are at "
                f"least {max(rest.min(), 0.0):.4g}",
                "trainers log such a number where nothing could be scored; it is no score",
                "see what happened at these steps",
                float(n),
            )
        ]
    return scores, []


def decide_unit(
    values: np.ndarray, is_accuracy: bool, key: str = "", single: tuple[float, float] | None = None
) -> tuple[ScoreUnit, list[Finding]]:
    """What makes a fraction of a logged score.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Scores as logged, in order of step; NaN ignored.
    is_accuracy : bool
        Whether the key names an accuracy-like score; a reward is never rescaled.
    key : str
        The key; one that names a score may hold rewards after all.
    single : tuple of float, optional
        Smallest and largest single reward behind the means.

    Returns
    -------
    unit : ScoreUnit
        A scale of 1 or 0.01.
    findings : list of Finding
        ``percent`` (info), ``mixed-units`` (error), ``signed-score`` or ``not-a-score`` (warning).
    """
    v = values[np.isfinite(values)]
    if len(v) == 0:
        return ScoreUnit(), []
    signed = single is not None and single[0] == -1.0 and single[1] == 1.0
    if signed or (-1 - _TOLERANCE <= v.min() < _CLEARLY_SIGNED and v.max() <= 1 + _TOLERANCE):
        return ScoreUnit(), [_signed(v, signed)]
    if v.max() <= 1 + _TOLERANCE and v.min() >= -_TOLERANCE:
        return ScoreUnit(), []
    sure = _SURE_PERCENT_OF_A_SCORE if _MAY_BE_REWARD.search(canonical(key)) else _SURE_PERCENT
    small_range = single is not None and single[1] <= _SURE_PERCENT_OF_A_SCORE
    percent = is_accuracy and not small_range and v.min() >= -_TOLERANCE and sure < v.max() <= 100 + 1e-4
    if not percent:
        return ScoreUnit(), [_no_score(v, single)]
    if odd := _count_fractions(v):
        return ScoreUnit(), [
            Finding(
                "mixed-units",
                "error",
                f"{odd} scores look like fractions among percentages (median of the others "
                f"{np.median(v[v > 1]):.4g})",
                "percent and fraction in one series make any fit meaningless",
                "convert the log to one unit",
                float(odd),
            )
        ]
    what = f"scores run to {v.max():.4g}: read as percent and divided by 100"
    return ScoreUnit(0.01), [Finding("percent", "info", what)]


def _signed(v: np.ndarray, known: bool) -> Finding:
    of_answers = (
        "the smallest and largest single reward are -1 and +1"
        if known
        else "single rewards may be two-valued, -1 and +1"
    )
    return Finding(
        "signed-score",
        "warning",
        f"performance runs from {v.min():.4g} to {v.max():.4g}; {of_answers}",
        "if every reward is -1 or +1, (x + 1) / 2 is the share of right answers; as logged, a, b and the ceiling are "
        "in the unit of the reward, and bounds cannot be checked",
        "say --score-range=-1,1 if they are two-valued, or use an accuracy if the log has one (--on KEY)",
        float(v.min()),
    )


def _no_score(v: np.ndarray, single: tuple[float, float] | None) -> Finding:
    one = "" if single is None else f" (single rewards from {single[0]:.4g} to {single[1]:.4g})"
    return Finding(
        "not-a-score",
        "warning",
        f"performance runs from {v.min():.4g} to {v.max():.4g}{one}, so it is not a score in [0, 1]",
        "the numbers a, b and the ceiling are then in the unit of that reward, and bounds cannot be checked",
        "use an accuracy if the log has one (--on KEY); if it is a percentage, say --scale 0.01; of a reward from "
        "LOW to HIGH, --score-range=LOW,HIGH",
        float(v.max()),
    )


def _count_fractions(v: np.ndarray) -> int:
    """How many values among percentages look like fractions.

    Read as percent, a small value must be near its neighbours; read as a fraction, 100 v would be.
    """
    large = np.flatnonzero(v > 1)
    odd = 0
    for i in np.flatnonzero((v > 0) & (v <= 1)):
        at = int(np.searchsorted(large, i))
        around = large[max(at - 3, 0) : at + 3]
        reference = float(np.median(v[around[np.argsort(np.abs(around - i), kind="stable")[:3]]]))
        odd += bool(v[i] * _JUMP < reference and abs(np.log(100 * v[i] / reference)) < np.log(3))
    return odd
