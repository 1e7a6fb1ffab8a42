"""Widths of forecasts calibrated on a library of one's own finished runs.

How the forecast is made stays as it is; on the public runs learning more than its width from other runs lost to not
learning (LOG.md). What a library does tell is whether intervals have been too wide or too narrow on runs like these.
Each finished run is forecast from several of its steps, and for each forecast the factor is found by which its central
80 % interval had to be stretched to just hold what came. The conformal 80 % quantile of these factors, runs counting
alike (Vovk et al. 2005; Barber et al. 2023 for weights), is what makes the intervals right on runs that are
exchangeable with the library's. With few runs it is shrunk toward 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.errors import DataError
from entlaw.law.backtest import Plan, origins_of
from entlaw.law.forecast import Outlook
from entlaw.law.posterior import Predictive, to_arcsine
from entlaw.points import Points, is_same_run

LEVEL = 0.8
MIN_RUNS = 5
# So many runs count as much as the belief that the intervals are right as they are.
PRIOR_RUNS = 10.0
# No library stretches or shrinks intervals by more.
LARGEST = 4.0
PLAN = Plan(rivals=False)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one finished run tells.

    Attributes
    ----------
    points : Points
        The whole run.
    needed : ndarray, shape (k,)
        By which factor the 80 % interval of each forecast that would have been given had to be stretched.
    """

    points: Points
    needed: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """What a library says about the widths of forecasts.

    Attributes
    ----------
    factor : float
        By which widths are multiplied.
    raw : float
        The same before it was shrunk toward 1 and bounded.
    runs, forecasts : int
        Behind it.
    """

    factor: float
    raw: float
    runs: int
    forecasts: int


def learn(runs: Iterable[Points], plan: Plan = PLAN) -> list[Lesson]:
    """The factors that each run of a library would have needed.

    Parameters
    ----------
    runs : iterable of Points
        Finished runs.
    plan : Plan
        From where they are looked at; each forecast is of their last score.

    Returns
    -------
    list of Lesson
        Runs of which no forecast would have been given are left out.
    """
    out = []
    for points in runs:
        needed = []
        for origin in origins_of(points, plan):
            outlook = Outlook.of(points, origin)
            if not outlook.can_answer or outlook.points.n == points.n:
                continue
            forecast = outlook.at_step(float(points.step[-1]))
            needed.append(needed_factor(forecast, float(points.score[-1])))
        if needed:
            out.append(Lesson(points, np.array(needed)))
    return out


def needed_factor(forecast: Predictive, truth: float) -> float:
    """By how much the central 80 % interval must be stretched around the median to just hold a value, at least 0.

    Measured where the components live (in asin(sqrt R) for shares), as `Predictive.stretched` does.
    """
    lo, mid, hi = forecast.quantile(np.array([0.5 - 0.5 * LEVEL, 0.5, 0.5 + 0.5 * LEVEL]))
    if forecast.arcsine:
        lo, mid, hi, at = to_arcsine(np.array([lo, mid, hi, truth]))
    else:
        at = truth
    side = hi - mid if at >= mid else mid - lo
    return float(abs(at - mid) / max(side, 1e-9))


def calibrate_for(run: Points, lessons: Sequence[Lesson]) -> Calibration:
    """As :func:`calibrate`, from all runs but the one to forecast, which may lie in the library too."""
    return calibrate([one.needed for one in lessons if not is_same_run(one.points, run)])


def calibrate(needed: Sequence[np.ndarray]) -> Calibration:
    """The factor from those that past runs needed.

    Parameters
    ----------
    needed : sequence of ndarray
        One array a run.

    Returns
    -------
    Calibration

    Raises
    ------
    DataError
        Fewer than `MIN_RUNS` runs.
    """
    n = len(needed)
    if n < MIN_RUNS:
        raise DataError(
            f"the library has {n} runs to learn from, the one to forecast not counted, and {MIN_RUNS} are needed",
            why="a run counts if forecasts from its early steps are not refused; from fewer, a factor would be chance",
            hint="give more finished runs, or leave out --library",
        )
    values = np.concatenate(needed)
    # Runs count alike, and the new run, of which nothing is known, as one more that lies beyond all: of `MIN_RUNS` and
    # more the others still reach the level.
    weight = np.concatenate([np.full(len(run), 1.0 / len(run)) for run in needed]) / (n + 1)
    order = np.argsort(values)
    raw = float(values[order][np.argmax(np.cumsum(weight[order]) >= LEVEL - 1e-12)])
    shrunk = max(raw, 1e-6) ** (n / (n + PRIOR_RUNS))
    return Calibration(float(np.clip(shrunk, 1.0 / LARGEST, LARGEST)), raw, n, len(values))
