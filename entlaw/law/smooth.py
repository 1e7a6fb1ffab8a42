"""H(t) without its measurement noise: a cubic smoothing spline whose stiffness the data choose.

The entropy of one step is a mean over one batch. Its error biases the slope of the law towards zero, and no model of
the errors of R repairs that. So the law is fitted on E[exp(H(t)) | entropy log up to the fit window], and what stays
unknown about H goes into the errors of R (Berkson errors: they widen, they do not bias).

The smoother is the usual one: minimise the squared error plus a penalty on curvature, equivalently the posterior mean
under an integrated Wiener process (Wahba 1978, J. R. Statist. Soc. B 40:364). The smoothing level maximises the
restricted likelihood. Entropy often falls steeply at first, so time may be stretched: a curve that is hard to follow in
t is smooth in log(1 + c t). The stretch with the highest marginal likelihood is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Fewer values than this say too little about their own noise: a curve can be bent through nearly any five points.
MIN_VALUES = 6
# Estimated noise below this share of the series' range is rounding: using the values as logged is then exact.
ALREADY_SMOOTH = 1e-3
# A longer log is averaged in time first: eigenvalues of 200 x 200 take 10 ms, and 200 blocks show any trend.
MAX_KNOTS = 200
# Stretches c of time in log(1 + c t), t in [0, 1]; 0 means none.
_STRETCHES = (0.0, 9.0, 99.0)
_LAMBDAS = 10.0 ** np.arange(-4.0, 10.01, 0.25)


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Entropy at the wanted steps.

    Attributes
    ----------
    entropy : ndarray, shape (n,)
        Smoothed H, nats/token.
    error_factor : ndarray, shape (n, k)
        F with F F' the covariance of the remaining error of H; k = 0 when nothing was smoothed. A factor, because the
        covariance of ten thousand points would fill the memory.
    noise_sd : float
        Estimated noise of one logged value.
    changed : bool
        False when the values were taken as logged.
    """

    entropy: np.ndarray
    error_factor: np.ndarray
    noise_sd: float
    changed: bool


def block_means(most: int, *columns: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Columns shortened to a number of values, if they have more: means over blocks of nearly equal size.

    Parameters
    ----------
    most : int
    *columns : ndarray, shape (n,)
        In order of time.

    Returns
    -------
    count : ndarray of int, shape (min(n, most),)
        Values behind each mean.
    means : list of ndarray, shape (min(n, most),)
    """
    n = len(columns[0])
    if n <= most:
        return np.ones(n, dtype=int), list(columns)
    edges = np.linspace(0, n, most + 1).round().astype(int)
    count = np.diff(edges)
    return count, [np.add.reduceat(c, edges[:-1]) / count for c in columns]


def smooth_entropy(step: np.ndarray, entropy: np.ndarray, at: np.ndarray, logged: np.ndarray) -> Smoothed:
    """Smooth an entropy log and read it at given steps.

    Parameters
    ----------
    step, entropy : ndarray, shape (m,)
        The log, steps increasing; the caller leaves out everything after the fit window.
    at : ndarray, shape (n,)
        Steps whose entropy is wanted.
    logged : ndarray, shape (n,)
        Entropy as logged at ``at``, returned unchanged when there is nothing to smooth.

    Returns
    -------
    Smoothed
    """
    as_logged = Smoothed(logged, np.zeros((len(at), 0)), 0.0, False)
    if len(step) < MIN_VALUES or np.ptp(entropy) == 0 or at.min() < step[0] or at.max() > step[-1]:
        return as_logged
    ends = step[[0, -1]]
    count, (step, entropy) = block_means(MAX_KNOTS, step, entropy)
    time = (step - ends[0]) / (ends[1] - ends[0])
    wanted = (at - ends[0]) / (ends[1] - ends[0])
    fits = [_spline(_stretch(time, c), entropy, _stretch(wanted, c)) for c in _STRETCHES]
    best = max(fits, key=lambda f: f.score)
    noise_sd = best.noise_sd * float(np.sqrt(count.mean()))
    if count.max() == 1 and best.noise_sd <= ALREADY_SMOOTH * np.ptp(entropy):
        return as_logged
    read = _interpolation(time, wanted)
    value = np.maximum(best.value, 0.0) if entropy.min() >= 0 else best.value
    return Smoothed(value, best.noise_sd * read @ best.hat_root, noise_sd, True)


@dataclass(frozen=True, eq=False)
class _Spline:
    value: np.ndarray  # at the wanted places
    hat_root: np.ndarray  # its square is the posterior covariance at the knots in units of the noise variance
    noise_sd: float
    score: float  # log marginal likelihood, comparable between stretches


def _stretch(time: np.ndarray, c: float) -> np.ndarray:
    return time if c == 0 else np.log1p(c * time) / np.log1p(c)


def _kernel(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Covariance of an integrated Wiener process on [0, 1]."""
    low, high = np.minimum(s[:, None], t[None, :]), np.maximum(s[:, None], t[None, :])
    return np.asarray(low**2 * (3.0 * high - low) / 6.0)


def _spline(u: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> _Spline:
    m = len(u)
    line = np.column_stack([np.ones(m), u])
    kernel = _kernel(u, u)
    basis = np.linalg.qr(line, mode="complete")[0]
    free = basis[:, 2:]  # contrasts that a straight line does not touch
    inner = free.T @ kernel @ free
    size = np.trace(inner) / (m - 2)
    value, vector = np.linalg.eigh(inner / size)
    value = np.maximum(value, 0.0)
    z = vector.T @ (free.T @ y)
    shrink = 1.0 / (1.0 + _LAMBDAS[:, None] * value)
    variance = np.mean(z**2 * shrink, axis=1) + np.finfo(float).tiny
    restricted = -0.5 * ((m - 2) * np.log(variance) - np.log(shrink).sum(axis=1))
    best = int(np.argmax(restricted))
    lam, keep = _LAMBDAS[best], shrink[best]
    contrast = free @ vector
    residual = contrast @ (keep * z)
    weight = lam / size * residual
    plain = np.linalg.lstsq(line, y - residual - kernel @ weight, rcond=None)[0]
    at_wanted = plain[0] + plain[1] * wanted + _kernel(wanted, u) @ weight
    hat_root = np.concatenate([basis[:, :2], contrast * np.sqrt(1.0 - keep)], axis=1)
    # Contrasts of different stretches are different data; with the line's own volume taken off they compare as if its
    # two ends had a flat prior.
    score = float(restricted[best]) - 0.5 * float(np.linalg.slogdet(line.T @ line)[1])
    return _Spline(at_wanted, hat_root, float(np.sqrt(variance[best])), score)


def _interpolation(knots: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Matrix that reads values between knots; exact at the knots, which is where logged steps are."""
    right = np.clip(np.searchsorted(knots, wanted), 1, len(knots) - 1)
    left = right - 1
    share = np.clip((wanted - knots[left]) / (knots[right] - knots[left]), 0.0, 1.0)
    rows = np.arange(len(wanted))
    matrix = np.zeros((len(wanted), len(knots)))
    matrix[rows, left] = 1.0 - share
    matrix[rows, right] += share
    return matrix
