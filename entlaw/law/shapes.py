"""What a fit and its held-out error are: frozen and plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from entlaw.findings import Finding
from entlaw.limits import check_level
from entlaw.points import Points

Method = Literal["paper", "careful"]

# Scores at the end of a run whose mean is compared with the ceiling: single ones are mostly noise.
LATE = 5
PASSED = 0.025
# exp(H) beyond this is not a number a double can hold.
MOST_ENTROPY = 700.0


def law(a: float, b: float, entropy: Any) -> Any:
    """The law's value b - a exp(H) at an entropy (nats/token), or at an array of them."""
    return b - a * np.exp(entropy)


def plain_data(value: Any) -> Any:
    """Data as JSON can hold it: arrays as lists, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(k): plain_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_data(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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

    def __repr__(self) -> str:
        return f"<FitPoints: {self.given!r}>"

    @property
    def step(self) -> np.ndarray:
        """Optimiser steps as logged."""
        return self.given.step

    @property
    def score(self) -> np.ndarray:
        """Scores, as fractions."""
        return self.given.score


@dataclass(frozen=True, eq=False)
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

    def __repr__(self) -> str:
        i = self.ceiling_interval
        ceiling = f"ceiling {self.ceiling:.3f} [{i.lo:.3f}, {i.hi:.3f}]"
        return f"<Fit: b {self.b:.3f}, a {self.a:.3f}, {ceiling}, {self.n} points, {self.method}>"

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

    def at_level(self, level: float) -> Fit:
        """The same fit with the ceiling's interval at another level; nothing is fitted anew."""
        check_level(level)
        return replace(self, ceiling_interval=self.posterior.ceiling_interval(level))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the arrays under ``points`` have length ``n``."""
        p = self.points
        plain = (
            "method",
            "until_step",
            "n",
            "a",
            "b",
            "covariance",
            "ceiling",
            "r_squared",
            "residual_sd",
            "residual_autocorrelation",
            "entropy_range",
            "noise",
        )
        return {name: getattr(self, name) for name in plain} | {
            "ceiling_interval": asdict(self.ceiling_interval),
            "points": {
                "step": p.step,
                "entropy": p.entropy,
                "entropy_logged": p.given.entropy,
                "score": p.score,
                "leverage": p.leverage,
                "ceiling_without": p.ceiling_without,
            },
        }

    @property
    def residual(self) -> np.ndarray:
        """Scores less the law's values, shape (n,)."""
        return np.asarray(self.points.score - self.value_at(self.points.entropy))


@dataclass(frozen=True)
class HeldOut:
    """Errors of the law on the points after its window, beside the baseline "no change".

    Attributes
    ----------
    n : int
        Number of points after the window.
    rmse : float
        Of the law given the entropy that was reached, as the paper reports it (fraction).
    rmse_baseline : float
        Of the window's last score, unchanged.
    final_error, final_error_baseline : float
        Predicted minus observed, at the last point.
    above_ceiling : float
        Share of these points above the fitted ceiling.
    late_mean : float
        Mean of the last :data:`LATE` points, or of all where there are fewer.
    late_error : float
        Its standard error, from the scatter of these points or the size of the test, whichever is larger.
    p_within : float
        Probability that the ceiling, as uncertain as the fit says and with that error, is at least the late mean.
    """

    n: int
    rmse: float
    rmse_baseline: float
    final_error: float
    final_error_baseline: float
    above_ceiling: float
    late_mean: float
    late_error: float
    p_within: float

    @property
    def passed(self) -> bool:
        """Whether the run is above the law's ceiling by more than noise, 2.5 % at one side as of a 95 % interval."""
        return self.p_within < PASSED


def hold_out(fit: Fit, points: Points) -> HeldOut | None:
    """Score a fit on the points after its window.

    Parameters
    ----------
    fit : Fit
    points : Points
        All of the run.

    Returns
    -------
    HeldOut or None
        None when no point lies after the window.
    """
    rest = points.after(fit.until_step)
    if rest.n == 0:
        return None
    # A forced fit on a sequence sum may overflow; infinity is the honest error.
    with np.errstate(over="ignore"):
        off = fit.value_at(rest.entropy) - rest.score
    stay = fit.points.score[-1] - rest.score
    late = rest.score[-LATE:]
    mean = float(late.mean())
    variance = float(late.var(ddof=1)) if len(late) > 2 else fit.residual_sd**2
    if points.answers is not None and points.shares:
        variance = max(variance, mean * (1.0 - mean) / points.answers)
    return HeldOut(
        n=rest.n,
        rmse=float(np.sqrt(np.mean(off**2))),
        rmse_baseline=float(np.sqrt(np.mean(stay**2))),
        final_error=float(off[-1]),
        final_error_baseline=float(stay[-1]),
        above_ceiling=float(np.mean(rest.score > fit.ceiling)),
        late_mean=mean,
        late_error=float(np.sqrt(variance / len(late))),
        p_within=float(1.0 - fit.posterior.ceiling(variance / len(late)).cdf(mean)),
    )
