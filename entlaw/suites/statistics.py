"""Errors of benchmark scores: problems are the sample, responses to one problem are copies of one draw.

A score is the mean over problems of each problem's mean over its responses. Responses to one problem share its
difficulty, so n k responses are no n k independent observations: with intraclass correlation rho the variance of the
mean is 1 + (k - 1) rho times the naive one. Here problems are the clusters, and two models on the same problems are
compared pair by pair (Miller 2024, arXiv 2411.00640). ``scores`` below is an array of shape [problems, k], each in
[0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of means, with its error.

    Attributes
    ----------
    value : float
        Fraction.
    se : float
        Standard error, clustered by problem; NaN where it cannot be estimated (one problem, published numbers).
    df : float
        Degrees of freedom of ``se``.
    problems, samples : int
        Clusters, and responses a problem; 0 for an average over sets.
    """

    value: float
    se: float = math.nan
    df: float = math.nan
    problems: int = 0
    samples: int = 0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval by Student's t; not cut at 0 and 1."""
        half = quantile(0.5 + level / 2, self.df) * self.se if math.isfinite(self.se) else math.nan
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Two-sided, of the hypothesis that the value is 0; NaN without an error."""
        if not math.isfinite(self.se):
            return math.nan
        if self.se == 0:
            return float(self.value == 0)
        from scipy.special import stdtr

        return float(2 * stdtr(self.df, -abs(self.value) / self.se))


def quantile(p: float, df: float) -> float:
    """Of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def clustered(scores: np.ndarray) -> Estimate:
    """Mean over problems, with the sandwich error for clusters of equal size: sd of the problems' means / sqrt(n).

    Parameters
    ----------
    scores : array, shape [problems, k]
    """
    n, k = scores.shape
    means = scores.mean(1)
    se = float(means.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Estimate(float(means.mean()), se, float(n - 1), n, k)


def paired(first: np.ndarray, second: np.ndarray) -> Estimate:
    """``second`` minus ``first`` on the same problems, row by row: what the problems share cancels.

    Parameters
    ----------
    first, second : array, shape [problems, k] and [problems, k']

    Raises
    ------
    ValueError
        Not the same number of problems.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} problems are not pairs")
    found = clustered((second.mean(1) - first.mean(1))[:, None])
    return Estimate(found.value, found.se, found.df, len(first), min(first.shape[1], second.shape[1]))


def averaged(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Weighted mean over data sets; se^2 = sum w_s^2 se_s^2 / (sum w_s)^2, as their problems are different ones.

    Degrees of freedom by Welch and Satterthwaite. A set without an error leaves the average without one.

    Parameters
    ----------
    weights : sequence of float
        Any scale.
    """
    w = np.asarray(weights, dtype=float)
    w = w / w.sum()
    value = float(w @ [p.value for p in parts])
    variances = (w * [p.se for p in parts]) ** 2
    total = float(variances.sum())
    if not math.isfinite(total):
        return Estimate(value)
    if total == 0:
        return Estimate(value, 0.0, float(min(p.df for p in parts)))
    df = total**2 / sum(v**2 / p.df for v, p in zip(variances, parts, strict=True) if v)
    return Estimate(value, math.sqrt(total), float(df))


def upper_bound(n: int, level: float = 0.95) -> float:
    """Largest share of other outcomes that n equal ones are compatible with: 1 - (1 - level)^(1/n), one-sided."""
    return float(1 - (1 - level) ** (1 / n))
