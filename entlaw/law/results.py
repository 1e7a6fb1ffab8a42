"""What a fit, a forecast and a held-out error are: frozen, plain, serialisable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from entlaw.findings import Finding
from entlaw.points import Points

Method = Literal["paper", "careful"]

# exp(H) beyond this is not a number a double can hold.
MOST_ENTROPY = 700.0


def law(a: float, b: float, entropy: Any) -> Any:
    """The law's value b - a exp(H) at an entropy (nats/token), or at an array of them."""
    return b - a * np.exp(entropy)


@dataclass(frozen=True)
class Interval:
    """A two-sided interval.

    Attributes
    ----------
    lo, hi : float
    level : float
        Nominal coverage, e.g. 0.95.
    """

    lo: float
    hi: float
    level: float

    @property
    def width(self) -> float:
        """``hi - lo``."""
        return self.hi - self.lo


@dataclass(frozen=True)
class Band:
    """Curves over a grid of entropies: the mean and one interval per point.

    Attributes
    ----------
    entropy, mean, lo, hi : ndarray, shape (m,)
        Entropy in nats/token; the others in units of performance (fraction).
    level : float
    kind : {"line", "prediction"}
        ``line``: where the mean curve is. ``prediction``: where the next measured R will fall.
    """

    entropy: np.ndarray
    mean: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    level: float
    kind: Literal["line", "prediction"]


@dataclass(frozen=True)
class FitPoints:
    """What a fit made of the points that it used.

    Attributes
    ----------
    given : Points
        Those of the fit's window, entropy as logged.
    entropy : ndarray, shape (n,)
        The entropy that the fit used, nats/token: smoothed by the careful method.
    leverage : ndarray, shape (n,)
        Diagonal of the (generalised) hat matrix; sums to 2.
    ceiling_without : ndarray, shape (n,)
        The ceiling refitted without each point in turn.
    """

    given: Points
    entropy: np.ndarray
    leverage: np.ndarray
    ceiling_without: np.ndarray

    @property
    def step(self) -> np.ndarray:
        """Optimiser steps as logged."""
        return self.given.step

    @property
    def score(self) -> np.ndarray:
        """Scores, as fractions."""
        return self.given.score


@dataclass(frozen=True)
class Fit:
    """A fitted law R = b - a exp(H).

    Attributes
    ----------
    a, b : float
        Coefficients, in units of performance (fraction).
    covariance : ndarray, shape (2, 2)
        Covariance of (a, b).
    ceiling : float
        R at H = 0, which is b - a (not b).
    ceiling_interval : Interval
    method : {"paper", "careful"}
    until_step : float or None
        Points with step <= until_step were used; None means all.
    points : FitPoints
    r_squared : float
        In-sample; of two trending series, so it proves nothing by itself.
    residual_sd : float
        Standard deviation of one residual (fraction).
    residual_autocorrelation : float
        Lag-1 autocorrelation of the residuals.
    line_at, prediction_at : callable
        ``f(entropy, level) -> Band``: the two kinds of band. The prediction band is for one new measurement
        made far from the fitted points in time.
    noise : dict
        The noise model's figures (rho, s, binomial variance, weights ...), for the curious.
    findings : tuple of Finding
        Worst first; empty until diagnosed.
    posterior : entlaw.law.posterior.Posterior
        The distribution behind all of the above; forecasts and other error models start from it.
    """

    a: float
    b: float
    covariance: np.ndarray
    ceiling: float
    ceiling_interval: Interval
    method: Method
    until_step: float | None
    points: FitPoints
    r_squared: float
    residual_sd: float
    residual_autocorrelation: float
    line_at: Callable[[np.ndarray, float], Band] = field(repr=False)
    prediction_at: Callable[[np.ndarray, float], Band] = field(repr=False)
    noise: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    posterior: Any = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of points used."""
        return self.points.given.n

    @property
    def entropy_range(self) -> tuple[float, float]:
        """Lowest and highest entropy among the points used, nats/token."""
        return float(self.points.entropy.min()), float(self.points.entropy.max())

    def value_at(self, entropy: Any) -> Any:
        """The law's value at an entropy (nats/token), or at an array of them."""
        return law(self.a, self.b, entropy)

    @property
    def residual(self) -> np.ndarray:
        """Scores less the law's values, shape (n,)."""
        return np.asarray(self.points.score - self.value_at(self.points.entropy))


@dataclass(frozen=True)
class Forecast:
    """A forecast of performance, either at a given entropy or at a given step.

    Attributes
    ----------
    kind : {"at-entropy", "at-step"}
        ``at-entropy``: R given the entropy you will reach (the paper's claim).
        ``at-step``: R at step T, with the entropy forecast and its uncertainty inside.
    target : float
        The entropy (nats/token) or the step asked for.
    performance : float
        Median of the forecast (fraction).
    interval : Interval
        For one measurement.
    entropy : float
        The entropy used or forecast, nats/token.
    entropy_interval : Interval or None
        None when the entropy was given.
    extrapolation : float
        How far exp(entropy) lies outside the fitted range, in units of that range; 0 inside.
    model : {"law", "outlook"}
        The fitted law alone, or the law with what it leaves out (:mod:`entlaw.law.growth`).
    """

    kind: Literal["at-entropy", "at-step"]
    target: float
    performance: float
    interval: Interval
    entropy: float
    entropy_interval: Interval | None
    extrapolation: float
    model: Literal["law", "outlook"] = "law"


@dataclass(frozen=True)
class Holdout:
    """Errors on the points after the fit window, in units of performance.

    Attributes
    ----------
    n : int
        Number of points after the window.
    rmse : float
        Of the law given the entropy that was reached, as the paper reports it.
    rmse_last_value : float
        Of "the last value of the window stays".
    final_error, final_error_last_value : float
        Forecast minus observed, at the last point.
    above_ceiling : float
        Fraction of later points above the fitted ceiling.
    """

    n: int
    rmse: float
    rmse_last_value: float
    final_error: float
    final_error_last_value: float
    above_ceiling: float


def holdout(fit: Fit, points: Points) -> Holdout | None:
    """Score a fit on the points after its window, next to the simplest forecast there is.

    Parameters
    ----------
    fit : Fit
    points : Points
        All of the run.

    Returns
    -------
    Holdout or None
        None when no point lies after the window.
    """
    rest = points.after(fit.until_step)
    if rest.n == 0:
        return None
    # A forced fit on a sequence sum may overflow; infinity is the honest error.
    with np.errstate(over="ignore"):
        off = fit.value_at(rest.entropy) - rest.score
    stay = fit.points.score[-1] - rest.score
    return Holdout(
        n=rest.n,
        rmse=float(np.sqrt(np.mean(off**2))),
        rmse_last_value=float(np.sqrt(np.mean(stay**2))),
        final_error=float(off[-1]),
        final_error_last_value=float(stay[-1]),
        above_ceiling=float(np.mean(rest.score > fit.ceiling)),
    )
