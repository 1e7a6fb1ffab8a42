"""A forecast as a distribution: a mixture of Student t (or normal) components, within bounds, and how to score it.

Everything that forecasts, the law, its rivals and the outlook, says what it says in this form, so that all are judged
by the same rules: coverage and width of central intervals, and the continuous ranked probability score (Gneiting and
Raftery 2007, J. Am. Stat. Assoc. 102:359), which is the absolute error for a forecast without spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entlaw.law.intervals import mixture_cdf, mixture_quantile
from entlaw.law.results import Interval

# Mid-points of equal probability at which the score is integrated: its error is below 1 % of the score.
_LEVELS = (np.arange(50) + 0.5) / 50


@dataclass(frozen=True)
class Predictive:
    """Distribution of one future measurement (or of a level, such as the ceiling).

    Attributes
    ----------
    weight, mean, scale : ndarray, shape (k,)
        Components, in units of performance; a scale of 0 is a point mass.
    df : float
        Degrees of freedom, shared; infinite for normal components.
    low, high : float
        Bounds of what can be measured: probability beyond them sits on them.
    """

    weight: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    df: float = np.inf
    low: float = -np.inf
    high: float = np.inf

    def cdf(self, at: np.ndarray | float) -> np.ndarray:
        """Probability of a value of at most ``at``; same shape as ``at``."""
        at = np.asarray(at, dtype=float)
        flat = at.ravel()
        ones = np.ones(flat.size)
        p = mixture_cdf(flat, self.weight, np.outer(self.mean, ones), np.outer(self.scale, ones), self.df)
        return np.where(flat >= self.high, 1.0, np.where(flat < self.low, 0.0, p)).reshape(at.shape)

    def quantile(self, p: np.ndarray | float) -> np.ndarray:
        """The p-quantiles; same shape as ``p``."""
        p = np.asarray(p, dtype=float)
        flat = p.ravel()
        if len(self.weight) == 1:
            from scipy.special import ndtri, stdtrit

            q = self.mean[0] + self.scale[0] * (ndtri(flat) if np.isinf(self.df) else stdtrit(self.df, flat))
        else:
            ones = np.ones(flat.size)
            q = mixture_quantile(flat, self.weight, np.outer(self.mean, ones), np.outer(self.scale, ones), self.df)
        return np.clip(q, self.low, self.high).reshape(p.shape)

    @property
    def median(self) -> float:
        """The 0.5-quantile."""
        return float(self.quantile(0.5))

    @property
    def expectation(self) -> float:
        """Mean of the distribution, from its quantiles (a t with one degree of freedom has no mean of its own)."""
        return float(self.quantile(_LEVELS).mean())

    def interval(self, level: float) -> Interval:
        """Central interval."""
        lo, hi = self.quantile(np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
        return Interval(float(lo), float(hi), level)

    def crps(self, measured: float) -> float:
        """Continuous ranked probability score, in units of performance; smaller is better.

        Twice the mean pinball loss over equally spaced levels.
        """
        return float(crps_of_quantiles(self.quantile(_LEVELS), measured))


def crps_of_quantiles(quantiles: np.ndarray, measured: np.ndarray | float) -> np.ndarray:
    """Score of forecasts given by quantiles at the mid-points of equal probability.

    Parameters
    ----------
    quantiles : ndarray, shape (..., m)
        At levels (i + 1/2)/m.
    measured : ndarray, shape (...)

    Returns
    -------
    ndarray, shape (...)
    """
    m = quantiles.shape[-1]
    p = (np.arange(m) + 0.5) / m
    off = np.asarray(measured, dtype=float)[..., None] - quantiles
    return 2.0 * np.mean(np.where(off >= 0, p * off, (p - 1.0) * off), axis=-1)


def point_mass(value: float) -> Predictive:
    """A forecast that claims to be exact."""
    return Predictive(np.ones(1), np.array([value]), np.zeros(1))
