"""Distributions as mixtures of Student t (or normal) components: of the fitted line, and of what will be measured.

One component per set of parameters that could have made the data. A quantile of a mixture is the point where the
weighted distribution functions sum to p; no sampling is involved, so equal input gives equal output.

:class:`Posterior` is what is known of a fitted line. Everything that forecasts says what it says as a
:class:`Predictive`, so that all are judged by the same rules: coverage and width of central intervals, and the
continuous ranked probability score (Gneiting and Raftery 2007, J. Am. Stat. Assoc. 102:359), which is the absolute
error for a forecast without spread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from entlaw.law.shapes import Band, Interval

# Components below this weight move no printed digit of a 99.9 % quantile and cost time.
_NEGLIGIBLE = 1e-9
# Mid-points of equal probability at which the score is integrated: its error is below 1 % of the score.
LEVELS = (np.arange(50) + 0.5) / 50
# Quantiles are read off the distribution function on this many places, chosen among this many quantiles of
# each component.
_PLACES, _NODES = 160, 25
# Where the t distribution is tabulated, in its own scale, evenly: a place in the table is then a
# multiplication away.
_FAR, _STEP = 60.0, 0.02
_TABLE = np.arange(-_FAR, _FAR + _STEP, _STEP)


def mixture_cdf(
    at: np.ndarray, weight: np.ndarray, mean: np.ndarray, scale: np.ndarray, df: float
) -> np.ndarray:
    """Distribution function of a mixture of location-scale t distributions (normal when ``df`` is infinite).

    Parameters
    ----------
    at : ndarray, shape (m,)
    weight : ndarray, shape (k,)
        Sums to 1.
    mean, scale : ndarray, shape (k, m)
        One mixture per column; a scale of 0 is a point mass.
    df : float

    Returns
    -------
    ndarray, shape (m,)
    """
    from scipy.special import ndtr, stdtr

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = (at[None, :] - mean) / scale
    z = np.where(scale > 0, z, np.where(at[None, :] >= mean, np.inf, -np.inf))
    return np.asarray(weight @ (ndtr(z) if np.isinf(df) else stdtr(df, z)))


def mixture_quantile(
    p: float | np.ndarray, weight: np.ndarray, mean: np.ndarray, scale: np.ndarray, df: float
) -> np.ndarray:
    """The p-quantile of each mixture, by bracketed root finding (Illinois), deterministic.

    Parameters
    ----------
    p : float or ndarray, shape (m,)
    weight : ndarray, shape (k,)
    mean, scale : ndarray, shape (k, m)
    df : float

    Returns
    -------
    ndarray, shape (m,)
        Accurate to about 1e-10 of the mixture's spread; infinite where no finite quantile exists (``df`` 0).
    """
    from scipy.special import ndtri, stdtrit

    p = np.broadcast_to(np.asarray(p, dtype=float), mean.shape[1:]).copy()
    if df <= 0 or not np.isfinite(scale).all():
        return np.where(p < 0.5, -np.inf, np.inf)
    keep = weight > _NEGLIGIBLE * weight.max()
    weight, mean, scale = weight[keep] / weight[keep].sum(), mean[keep], scale[keep]
    each = mean + scale * (ndtri(p) if np.isinf(df) else stdtrit(df, p))
    # The mixture's quantile lies between the smallest and the largest of its components' quantiles.
    lo, hi = each.min(axis=0), each.max(axis=0)
    spread = np.maximum(hi - lo, np.finfo(float).tiny)
    f_lo, f_hi = mixture_cdf(lo, weight, mean, scale, df) - p, mixture_cdf(hi, weight, mean, scale, df) - p
    side = np.zeros(len(p))
    for _ in range(60):
        if np.all(hi - lo <= 1e-11 * spread):
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            mid = (lo * f_hi - hi * f_lo) / (f_hi - f_lo)
        mid = np.where(np.isfinite(mid), np.clip(mid, lo, hi), 0.5 * (lo + hi))
        f_mid = mixture_cdf(mid, weight, mean, scale, df) - p
        below = f_mid < 0
        # Illinois: halve the value at an end that was kept twice, so that both ends close in.
        f_hi = np.where(below & (side < 0), 0.5 * f_hi, f_hi)
        f_lo = np.where(~below & (side > 0), 0.5 * f_lo, f_lo)
        lo, f_lo = np.where(below, mid, lo), np.where(below, f_mid, f_lo)
        hi, f_hi = np.where(below, hi, mid), np.where(below, f_hi, f_mid)
        side = np.where(below, -1.0, 1.0)
        done = np.abs(f_mid) < 1e-13
        lo, hi = np.where(done, mid, lo), np.where(done, mid, hi)
    return np.asarray(0.5 * (lo + hi))


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the data say about the line, one component per set of noise parameters.

    Written as R = m - s u, u = (x - centre)/size with x = exp(H): a and b alone are almost perfectly correlated and
    would lose digits, and x of an entropy in the wrong unit would overflow when squared.

    Attributes
    ----------
    weight : ndarray, shape (k,)
    slope, level : ndarray, shape (k,)
        s and m of each component.
    scale : ndarray, shape (k, 2, 2)
        Squared scale matrix of (s, m) in each component.
    centre, size : float
        Mean and range of the fitted x.
    df : float
        Degrees of freedom of the t distributions; infinite when the noise's size is known.
    wander : ndarray, shape (k,)
        Variance of the autocorrelated part, which a measurement far away in time draws anew.
    nugget : ndarray, shape (k,)
        Variance of the white part of one measurement.
    answers : float or None
        Independent answers behind one score (problems x samples); the nugget is then p(1 - p)/answers instead.
    misfit : float
        Standard deviation of the law's own deviation from the truth, per unit of extrapolation in x. Zero here: an
        error model that knows better sets it with :meth:`with_misfit`.
    """

    weight: np.ndarray
    slope: np.ndarray
    level: np.ndarray
    scale: np.ndarray
    centre: float
    size: float
    df: float
    wander: np.ndarray
    nugget: np.ndarray
    answers: float | None = None
    misfit: float = 0.0

    def __repr__(self) -> str:
        return f"<Posterior: a {self.a:.3f}, b {self.b:.3f}, {len(self.weight)} components>"

    @property
    def a(self) -> float:
        """Mean of the slope."""
        return float(self.weight @ self.slope) / self.size

    @property
    def b(self) -> float:
        """Mean of the intercept at x = 0."""
        return float(self.weight @ (self.level + self.slope * (self.centre / self.size)))

    def covariance(self) -> np.ndarray:
        """Covariance of (a, b), shape (2, 2): squared standard errors within components plus spread between."""
        if not np.isfinite(self.scale).all():  # two points: a line, and no idea how sure
            return np.full((2, 2), np.inf)
        to_ab = np.array([[1.0 / self.size, 0.0], [self.centre / self.size, 1.0]])
        means = np.stack([self.slope, self.level], axis=1) @ to_ab.T
        off = means - self.weight @ means
        within = np.einsum("k,kij->ij", self.weight, self.scale)
        return np.asarray(to_ab @ within @ to_ab.T + np.einsum("k,ki,kj->ij", self.weight, off, off))

    def with_misfit(self, misfit: float) -> Posterior:
        """The same, with a standard deviation of model error per unit of extrapolation in x."""
        return replace(self, misfit=float(misfit))

    def at(self, x: np.ndarray, *, measured: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale of R at ``x`` in every component.

        Parameters
        ----------
        x : ndarray, shape (m,)
            exp(H).
        measured : bool
            Add the noise of one measurement made far away in time.

        Returns
        -------
        mean, scale : ndarray, shape (k, m)
        """
        u = (np.asarray(x, dtype=float)[None, :] - self.centre) / self.size
        mean = self.level[:, None] - self.slope[:, None] * u
        c = self.scale
        variance = c[:, 1, 1, None] - 2 * u * c[:, 0, 1, None] + u**2 * c[:, 0, 0, None]
        variance = np.maximum(variance, 0.0) + (self.misfit * self.size * u) ** 2
        if measured:
            if self.answers is None:
                white = np.broadcast_to(self.nugget[:, None], mean.shape)
            else:
                white = binomial_variance(mean, self.answers)
            variance = variance + white + self.wander[:, None]
        return mean, np.sqrt(variance)

    def interval(
        self, x: np.ndarray, level: float, *, measured: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Equal-tailed interval of R at each ``x``; lo and hi of shape (m,)."""
        mean, scale = self.at(x, measured=measured)
        tail = 0.5 * (1.0 - level)
        return (
            mixture_quantile(tail, self.weight, mean, scale, self.df),
            mixture_quantile(1.0 - tail, self.weight, mean, scale, self.df),
        )

    def ceiling(self, noise: float = 0.0) -> Predictive:
        """Distribution of R at H = 0, measured with a noise of this variance."""
        mean, scale = self.at(np.ones(1), measured=False)
        return ExactPredictive(self.weight, mean[:, 0], np.sqrt(scale[:, 0] ** 2 + noise), self.df)

    def ceiling_interval(self, level: float) -> Interval:
        """Interval of R at H = 0, that is x = 1."""
        lo, hi = self.interval(np.ones(1), level)
        return Interval(float(lo[0]), float(hi[0]), level)

    def slope_interval(self, level: float) -> Interval:
        """Interval of a."""
        mean, scale = self.slope[:, None], np.sqrt(self.scale[:, 0, 0])[:, None]
        tail = 0.5 * (1.0 - level)
        lo, hi = (mixture_quantile(p, self.weight, mean, scale, self.df) for p in (tail, 1.0 - tail))
        return Interval(float(lo[0]) / self.size, float(hi[0]) / self.size, level)

    def line_at(self, entropy: np.ndarray, level: float) -> Band:
        """Band of the mean curve at given entropies."""
        return self._band(entropy, level, measured=False)

    def prediction_at(self, entropy: np.ndarray, level: float) -> Band:
        """Band of one new measurement, far from the fitted points in time, at given entropies."""
        return self._band(entropy, level, measured=True)

    def _band(self, entropy: np.ndarray, level: float, *, measured: bool) -> Band:
        entropy = np.atleast_1d(np.asarray(entropy, dtype=float))
        x = np.exp(entropy)
        lo, hi = self.interval(x, level, measured=measured)
        mean = self.b - self.a * x
        return Band(entropy, mean, lo, hi, level, "prediction" if measured else "line")


def binomial_variance(p: np.ndarray, answers: float) -> np.ndarray:
    """Variance p(1 - p)/answers of a mean of right-or-wrong answers.

    p is first drawn a little towards 1/2, as by half a pseudo-answer on either side: a score of exactly 0 or 1 from
    finitely many answers does not prove that the variance is zero.
    """
    p = (np.clip(p, 0.0, 1.0) * answers + 0.5) / (answers + 1.0)
    return p * (1.0 - p) / answers


@dataclass(frozen=True, eq=False)
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

    def __repr__(self) -> str:
        i = self.interval(0.8)
        return f"<{type(self).__name__}: {self.median:.3g}, 80% [{i.lo:.3g}, {i.hi:.3g}]>"

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
        return np.asarray(np.clip(q, self.low, self.high).reshape(p.shape))

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
            return np.asarray(np.interp(p, (ndtr(z) if normal else stdtr(self.df, z)) @ self.weight, grid))
        table = ndtr(_TABLE) if normal else stdtr(self.df, _TABLE)
        place = np.clip((z + _FAR) / _STEP, 0.0, len(_TABLE) - 2.0)
        left = place.astype(np.intp)
        cdf = (table[left] + (place - left) * np.diff(table)[left]) @ self.weight
        return np.asarray(np.interp(p, cdf, grid))

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


@dataclass(frozen=True, eq=False, repr=False)
class ExactPredictive(Predictive):
    """The same with quantiles by root finding, to 1e-10 of the spread: slower, for single forecasts of the law.

    Infinite quantiles where the data leave no degree of freedom; the median is then the mean.
    """

    def quantile(self, p: np.ndarray | float) -> np.ndarray:
        """The p-quantiles, 0 < p < 1; same shape as ``p``."""
        p = np.asarray(p, dtype=float)
        flat, ones = p.ravel(), np.ones(p.size)
        q = mixture_quantile(
            flat, self.weight, np.outer(self.mean, ones), np.outer(self.scale, ones), self.df
        )
        if not np.isfinite(q).all():
            q = np.where(flat == 0.5, float(self.weight @ self.mean), q)
        return np.asarray(np.clip(q, self.low, self.high).reshape(p.shape))


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
    return np.asarray(2.0 * np.mean(np.where(off >= 0, p * off, (p - 1.0) * off), axis=-1))


def to_arcsine(share: np.ndarray) -> np.ndarray:
    """asin(sqrt(R)): the variance of a share of n answers is 1/(4n) here, whatever the share."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def from_arcsine(value: np.ndarray) -> np.ndarray:
    """The share whose arcsine this is; beyond the ends, the ends."""
    return np.asarray(np.sin(np.clip(value, 0.0, 0.5 * np.pi)) ** 2)
