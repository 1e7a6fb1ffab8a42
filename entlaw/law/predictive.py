"""A forecast as a distribution: a mixture of Student t (or normal) components, within bounds, and how to
score it.

Everything that forecasts, the law, its rivals and the outlook, says what it says in this form, so that all
are judged
by the same rules: coverage and width of central intervals, and the continuous ranked probability score
(Gneiting and
Raftery 2007, J. Am. Stat. Assoc. 102:359), which is the absolute error for a forecast without spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from entlaw.law.intervals import mixture_cdf
from entlaw.law.results import Interval

# Mid-points of equal probability at which the score is integrated: its error is below 1 % of the score.
LEVELS = (np.arange(50) + 0.5) / 50
# Quantiles are read off the distribution function on this many places, chosen among this many quantiles of
# each component.
_PLACES, _NODES = 160, 25
# Where the t distribution is tabulated, in its own scale, evenly: a place in the table is then a
# multiplication away.
_FAR, _STEP = 60.0, 0.02
_TABLE = np.arange(-_FAR, _FAR + _STEP, _STEP)


@dataclass(frozen=True)
class Predictive:
    """Distribution of one future measurement (or of a level, such as the ceiling).

    Attributes
    ----------
    weight, mean, scale : ndarray, shape (k,)
        Components, in units of performance (of its arcsine where ``arcsine``); a scale of 0 is a point mass.
    df : float
        Degrees of freedom, shared; infinite for normal components.
    low, high : float
        Bounds of what can be measured: probability beyond them sits on them.
    arcsine : bool
        Components are those of asin(sqrt(R)), in which the noise of a share does not depend on the share.
    """

    weight: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    df: float = np.inf
    low: float = -np.inf
    high: float = np.inf
    arcsine: bool = False

    def cdf(self, at: np.ndarray | float) -> np.ndarray:
        """Probability of a value of at most ``at``; same shape as ``at``."""
        at = np.asarray(at, dtype=float)
        flat = at.ravel()
        ones = np.ones(flat.size)
        z = to_arcsine(flat) if self.arcsine else flat
        p = mixture_cdf(z, self.weight, np.outer(self.mean, ones), np.outer(self.scale, ones), self.df)
        return np.where(flat >= self.high, 1.0, np.where(flat < self.low, 0.0, p)).reshape(at.shape)

    def quantile(self, p: np.ndarray | float) -> np.ndarray:
        """The p-quantiles, 0 < p < 1; same shape as ``p``. Of a mixture accurate to about 1e-3 of its
        spread."""
        p = np.asarray(p, dtype=float)
        flat = p.ravel()
        if len(self.weight) == 1:
            from scipy.special import ndtri, stdtrit

            q = self.mean[0] + self.scale[0] * (ndtri(flat) if np.isinf(self.df) else stdtrit(self.df, flat))
        else:
            q = self._mixed(flat)
        if self.arcsine:
            q = from_arcsine(q)
        return np.clip(q, self.low, self.high).reshape(p.shape)

    def _mixed(self, p: np.ndarray) -> np.ndarray:
        """Places where the components' own quantiles crowd, the distribution function there, and between them
        straight lines."""
        from scipy.special import ndtr, ndtri, stdtr, stdtrit

        normal = np.isinf(self.df)
        scale = np.maximum(self.scale, 1e-12)
        tail = min(float(p.min()), float(1.0 - p.max()), 1e-3)
        each = max(_NODES, 2 * _PLACES // len(scale))
        odds = np.log(1.0 / (0.25 * tail) - 1.0)
        of = 1.0 / (1.0 + np.exp(-np.linspace(-odds, odds, each)))
        nodes = ndtri(of) if normal else stdtrit(self.df, of)
        share = np.diff(np.concatenate([[0.0], 0.5 * (of[1:] + of[:-1]), [1.0]]))
        places = (self.mean[:, None] + scale[:, None] * nodes).ravel()
        order = np.argsort(places)
        mass = np.cumsum((self.weight[:, None] * share).ravel()[order])
        wanted = 1.0 / (1.0 + np.exp(-np.linspace(-odds, odds, _PLACES)))
        chosen = np.unique(np.clip(np.searchsorted(mass, wanted), 0, len(order) - 1))
        grid = places[order[np.concatenate([[0], chosen, [len(order) - 1]])]]
        z = (grid[:, None] - self.mean) / scale
        if z.size <= len(_TABLE):
            return np.interp(p, (ndtr(z) if normal else stdtr(self.df, z)) @ self.weight, grid)
        table = ndtr(_TABLE) if normal else stdtr(self.df, _TABLE)
        place = np.clip((z + _FAR) / _STEP, 0.0, len(_TABLE) - 2.0)
        left = place.astype(np.intp)
        cdf = (table[left] + (place - left) * np.diff(table)[left]) @ self.weight
        return np.interp(p, cdf, grid)

    def stretched(self, factor: float) -> Predictive:
        """All quantiles ``factor`` times as far from the median, where the components live."""
        if factor == 1.0:
            return self
        mid = self.median
        centre = float(to_arcsine(np.array([mid]))[0]) if self.arcsine else mid
        return replace(
            self, mean=centre + factor * (self.mean - centre), scale=factor * np.asarray(self.scale)
        )

    @property
    def median(self) -> float:
        """The 0.5-quantile."""
        return float(self.quantile(0.5))

    @property
    def expectation(self) -> float:
        """Mean of the distribution, from its quantiles (a t with one degree of freedom has no mean of its
        own)."""
        return float(self.quantile(LEVELS).mean())

    def interval(self, level: float) -> Interval:
        """Central interval."""
        lo, hi = self.quantile(np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
        return Interval(float(lo), float(hi), level)

    def crps(self, measured: float) -> float:
        """Continuous ranked probability score, in units of performance; smaller is better.

        Twice the mean pinball loss over equally spaced levels.
        """
        return float(crps_of_quantiles(self.quantile(LEVELS), measured))


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


def to_arcsine(share: np.ndarray) -> np.ndarray:
    """asin(sqrt(R)): the variance of a share of n answers is 1/(4n) here, whatever the share."""
    return np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0)))


def from_arcsine(value: np.ndarray) -> np.ndarray:
    """The share whose arcsine this is; beyond the ends, the ends."""
    return np.sin(np.clip(value, 0.0, 0.5 * np.pi)) ** 2
