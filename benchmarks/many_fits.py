"""Many fits at once: closed forms over whole arrays, and bootstrap replicates without refitting.

The fit of one run is four sums, so a thousand runs are the same four sums over the last axis, and resampling residuals
is choosing among numbers that are already there: nothing is ever refitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Replicates are made in slices of about this many numbers, which stay in the cache.
_SLICE = 500_000


@dataclass(frozen=True)
class Batch:
    """Least-squares fits of R = b - a x of many runs; every array has the shape of the leading axes.

    Attributes
    ----------
    a, b, ceiling : ndarray, shape (...)
        Coefficients and b - a.
    ceiling_se : ndarray, shape (...)
        Standard error of the ceiling under independent errors of equal size; NaN with two points.
    residual : ndarray, shape (..., n)
    ceiling_weight : ndarray, shape (..., n)
        The ceiling is ``sum(ceiling_weight * y)``.
    r_squared : ndarray, shape (...)
    """

    a: np.ndarray
    b: np.ndarray
    ceiling: np.ndarray
    ceiling_se: np.ndarray
    residual: np.ndarray
    ceiling_weight: np.ndarray
    r_squared: np.ndarray


def fit_many(x: np.ndarray, y: np.ndarray) -> Batch:
    """Fit many runs by unweighted least squares.

    Parameters
    ----------
    x : array_like, shape (..., n)
        exp(H); broadcast against y.
    y : array_like, shape (..., n)
        Performance. All runs have n points; NaN in a run makes its results NaN and touches no other.

    Returns
    -------
    Batch
        NaN for runs without two distinct x.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    n = x.shape[-1]
    centre, mean = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
    u, v = x - centre, y - mean
    s_uu = np.sum(u * u, axis=-1, keepdims=True)
    s_uu = np.where(s_uu > 0, s_uu, np.nan)
    per = u / s_uu
    slope = np.sum(per * v, axis=-1, keepdims=True)
    residual = v - slope * u
    weight = 1.0 / n + (1.0 - centre) * per
    rss, tss = np.sum(residual**2, axis=-1), np.sum(v**2, axis=-1)
    variance = rss / (n - 2) if n > 2 else np.full(rss.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = 1.0 - rss / tss
    a, intercept = -slope[..., 0], (mean - slope * centre)[..., 0]
    return Batch(
        a=a,
        b=intercept,
        ceiling=intercept - a,
        ceiling_se=np.sqrt(variance * np.sum(weight**2, axis=-1)),
        residual=residual,
        ceiling_weight=weight,
        r_squared=r_squared,
    )


def residual_indices(n: int, replicates: int, rng: np.random.Generator, *, block: int = 1) -> np.ndarray:
    """Which residual each point gets in each replicate.

    Parameters
    ----------
    n : int
        Points per run.
    replicates : int
    rng : numpy.random.Generator
    block : int
        Length of the blocks that are moved together (circular; 1 treats residuals as independent).

    Returns
    -------
    ndarray of int, shape (replicates, n)
    """
    starts = rng.integers(0, n, size=(replicates, -(-n // block)))
    return ((starts[..., None] + np.arange(block)) % n).reshape(replicates, -1)[:, :n]


def bootstrap_ceilings(batch: Batch, indices: np.ndarray) -> np.ndarray:
    """Ceilings of refits to line + resampled residuals, without refitting.

    The ceiling is linear in y, so the refitted one is the old one plus sum_i w_i e_{j(i)}: one gather, multiply and add
    per point, over all runs and replicates at once.

    Parameters
    ----------
    batch : Batch
        Leading axes ``(...)``, n points.
    indices : ndarray of int, shape (replicates, n)
        From :func:`residual_indices`; the same resamples for every run.

    Returns
    -------
    ndarray, shape (..., replicates)
    """
    replicates, n = indices.shape
    shape = batch.ceiling.shape
    w, e = batch.ceiling_weight.reshape(-1, n), batch.residual.reshape(-1, n)
    out = np.empty((len(w), replicates))
    rows = max(1, _SLICE // replicates)
    for start in range(0, len(w), rows):
        part = slice(start, start + rows)
        total = np.broadcast_to(batch.ceiling.reshape(-1, 1)[part], out[part].shape).copy()
        for i in range(n):
            total += w[part, i, None] * e[part][:, indices[:, i]]
        out[part] = total
    return out.reshape(*shape, replicates)


def percentile_intervals(ceilings: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Equal-tailed percentile intervals over the last axis; shape (..., 2)."""
    tail = 0.5 * (1.0 - level)
    return np.moveaxis(np.quantile(ceilings, [tail, 1.0 - tail], axis=-1), 0, -1)
