"""What is left to gain: the distribution of R at the end of a run, of the ceiling, and of the gain from here.

The one place where a watcher asks for a forecast. Two witnesses are heard about the gain, and the one that expects more
is believed, because a run that is stopped too early is lost and one that is stopped too late is only dear:

- the law: gain = a (exp(H now) - exp(H at the end)), in which b and the level of the scores cancel;
- the scores themselves: their trend over the last third of the points, going on for as long again as it was seen (or to
  the end of the run). Accuracy often still grows where entropy has stopped falling, and then the law alone says
  "nothing left" and is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entlaw.errors import DataError
from entlaw.law.forecast import entropy_curve, forecast_at_step
from entlaw.law.intervals import mixture_cdf, mixture_quantile
from entlaw.law.results import Fit, Forecast

_NODES = (np.arange(21) + 0.5) / 21
# The trend of the scores is read off this last share of the points, and at least so many.
_RECENT = 1 / 3
_LEAST_RECENT = 5


@dataclass(frozen=True)
class Outlook:
    """A run's future as seen from one of its points.

    Attributes
    ----------
    fit : Fit
    final : Forecast or None
        R at the end; None when the end is not known or H cannot be forecast.
    entropy_now : float
        H as the fit sees it at the last point, nats/token.
    entropy_end : ndarray, shape (m,)
        Equally likely entropies at the end; 0 alone when the end is not known (the gain is then to the ceiling).
    trend, trend_error : float
        Performance per step over the last points, and its standard error.
    horizon : float
        Steps over which the trend is taken to go on.
    degrees : float
        Degrees of freedom of the trend.
    """

    fit: Fit
    final: Forecast | None
    entropy_now: float
    entropy_end: np.ndarray
    trend: float
    trend_error: float
    horizon: float
    degrees: float

    def probability(self, quantity: str, above: float) -> float | None:
        """P(quantity > above).

        Parameters
        ----------
        quantity : {"gain", "final", "ceiling"}
        above : float
            Fraction.

        Returns
        -------
        float or None
            None where the end of the run is not known (``final``).
        """
        if quantity == "gain":
            return max(self._law_gain(above), self._trend_gain(above))
        post = self.fit.posterior
        if quantity == "ceiling":
            nodes = np.zeros(1)
        elif self.final is None:
            return None
        else:
            nodes = self.entropy_end
        mean, scale = post.at(np.exp(nodes), measured=False)
        below = mixture_cdf(np.full(len(nodes), above), post.weight, mean, scale, post.df)
        return 1.0 - float(np.mean(below))

    def _law_gain(self, above: float) -> float:
        post = self.fit.posterior
        fall = np.exp(self.entropy_now) - np.exp(self.entropy_end)
        u = fall / post.size
        mean = post.slope[:, None] * u[None, :]
        scale = np.sqrt(np.maximum(post.scale[:, 0, 0], 0.0))[:, None] * np.abs(u)[None, :]
        return 1.0 - float(np.mean(mixture_cdf(np.full(len(u), above), post.weight, mean, scale, post.df)))

    def _trend_gain(self, above: float) -> float:
        from scipy.special import stdtr

        if self.degrees < 1:
            return 0.0
        gain, error = self.trend * self.horizon, self.trend_error * self.horizon
        if error <= 0:
            return float(gain > above)
        return float(stdtr(self.degrees, (gain - above) / error))


def outlook(
    fit: Fit, entropy_series: tuple[np.ndarray, np.ndarray], total_steps: float | None, level: float
) -> Outlook:
    """Look ahead from the last point of a fit.

    Parameters
    ----------
    fit : Fit
        On the points up to now.
    entropy_series : (step, entropy)
        The entropy log up to now.
    total_steps : float or None
        Where the run will end.
    level : float
        Of the interval of ``final``.

    Returns
    -------
    Outlook
    """
    points = fit.points
    now, entropy_now = float(points.step[-1]), float(points.entropy[-1])
    end = total_steps if total_steps is not None and total_steps > now else None
    final: Forecast | None = None
    entropy_end = np.zeros(1)
    if end is not None:
        try:
            final = forecast_at_step(fit, end, entropy_series, level, until_step=np.inf)
            entropy_end = _entropy_nodes(entropy_series, end)
        except DataError:
            final = None
    elif total_steps is not None:  # at its end: nothing is left
        entropy_end = np.array([entropy_now])
    n = max(_LEAST_RECENT, int(np.ceil(_RECENT * fit.n)))
    t, r = points.step[-n:], points.performance[-n:]
    slope, error, degrees = trend(t, r)
    seen = float(t[-1] - t[0])
    left = seen if total_steps is None else max(total_steps - now, 0.0)
    return Outlook(fit, final, entropy_now, entropy_end, slope, error, min(seen, left), degrees)


def trend(step: np.ndarray, performance: np.ndarray) -> tuple[float, float, float]:
    """Least-squares slope, its standard error (with the residuals' lag-1 correlation), degrees of freedom."""
    n = len(step)
    if n < 3 or np.ptp(step) == 0:
        return 0.0, 0.0, 0.0
    u, v = step - step.mean(), performance - performance.mean()
    s = float(u @ u)
    slope = float(u @ v) / s
    residual = v - slope * u
    power = float(residual @ residual)
    r1 = float(np.clip(residual[1:] @ residual[:-1] / power, 0.0, 0.9)) if power > 0 else 0.0
    return slope, float(np.sqrt(power / (n - 2) / s * (1 + r1) / (1 - r1))), float(n - 2)


def _entropy_nodes(series: tuple[np.ndarray, np.ndarray], end: float) -> np.ndarray:
    """Equally likely entropies at a step."""
    t, h = (np.asarray(c, dtype=float) for c in series)
    weight, mean, scale, df = entropy_curve(t, h, end)
    column = np.ones(len(_NODES))
    nodes = mixture_quantile(_NODES, weight, np.outer(mean, column), np.outer(scale, column), df)
    return np.clip(nodes, 0.0, 700.0)
