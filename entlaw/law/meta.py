"""Statistics over fits of many runs, behind ``entlaw sizes``: meta-regression, and a test whether groups share one law.

Meta-regression with random effects, of estimates that each come with a variance. One number per unit (a model size),
y_i = x_i' beta + u_i + e_i, with e_i of known variance v_i (the fits' own), and u_i of unknown variance tau^2 (sizes
differ by more than their fits' errors). tau^2 is Paule and Mandel's (1982): the value at which the weighted residual
sum of squares equals its degrees of freedom. Intervals are Hartung's and Knapp's (2001) with t quantiles and their
scale kept at 1 or above, which hold with as few as four or five units (Roever, Knapp and Friede 2015). Assumptions:
normal errors, known v_i, units independent.

Do several groups of runs (algorithms, settings) share one a and one b? An exact test with runs as the units:
checkpoints of one run are not independent; runs are. So each run counts as one observation of the pair (a, b), and
Wilks' Lambda compares the scatter between groups with that within, which holds the fits' errors and what differs from
run to run. With two responses its distribution is an exact F (Rao 1951; Anderson, Multivariate Analysis, 8.4).
Assumptions: runs independent, (a, b) normal with one covariance in all groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.law.shapes import Interval

_MOST_DOUBLINGS = 200


@dataclass(frozen=True, eq=False)
class MetaRegression:
    """A fitted meta-regression.

    Attributes
    ----------
    beta : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
        Of beta, with Hartung's and Knapp's scale.
    tau2 : float
        Variance between units beyond their own errors.
    df : int
        Units less coefficients.
    residual : ndarray, shape (k,)
    standardised : ndarray, shape (k,)
        Residuals over the square root of v + tau^2.
    """

    beta: np.ndarray
    covariance: np.ndarray
    tau2: float
    df: int
    residual: np.ndarray
    standardised: np.ndarray

    def mean(self, x: np.ndarray) -> float:
        """Value of the line at the regressors ``x``, shape (p,)."""
        return float(np.asarray(x, dtype=float) @ self.beta)

    def interval(self, x: np.ndarray, level: float, *, new_unit: bool, extra: float = 0.0) -> Interval:
        """t interval at ``x``.

        Parameters
        ----------
        x : ndarray, shape (p,)
        level : float
        new_unit : bool
            Of the value of one more unit (adds tau^2), not of the line.
        extra : float
            Further variance of what will be observed, e.g. of one run.
        """
        from scipy.special import stdtrit

        x = np.asarray(x, dtype=float)
        variance = float(x @ self.covariance @ x) + (self.tau2 if new_unit else 0.0) + extra
        half = float(stdtrit(self.df, 0.5 * (1.0 + level))) * float(np.sqrt(max(variance, 0.0)))
        return Interval(self.mean(x) - half, self.mean(x) + half, level)

    def p_value(self, j: int) -> float:
        """Two-sided p value of ``beta[j] = 0``."""
        from scipy.special import stdtr

        se = float(np.sqrt(self.covariance[j, j]))
        if se == 0.0:
            return 0.0 if self.beta[j] else 1.0
        return 2.0 * float(stdtr(self.df, -abs(float(self.beta[j])) / se))


def meta_regression(y: np.ndarray, v: np.ndarray, x: np.ndarray) -> MetaRegression:
    """Fit y = x beta + u + e.

    Parameters
    ----------
    y : array_like, shape (k,)
    v : array_like, shape (k,)
        Known variances, at least 0.
    x : array_like, shape (k, p)
        Regressors, k > p, of full rank.

    Returns
    -------
    MetaRegression

    Raises
    ------
    ValueError
        Too few units, a design that is not of full rank, or a negative variance.
    """
    y, v, x = (np.asarray(c, dtype=float) for c in (y, v, x))
    k, p = x.shape
    if k <= p:
        raise ValueError(f"{k} units are too few for {p} coefficients and an error")
    if np.linalg.matrix_rank(x) < p:
        raise ValueError("the regressors are not of full rank")
    if (v < 0).any():
        raise ValueError("a variance is negative")
    size = max(float(np.var(y)), 1e-300)
    # An exact fit must not divide by zero; a variance that is known and small stays as it is, or the errors of a
    # nearly exact fit would be wrong in the sixth digit.
    v = np.maximum(v, 1e-12 * size)
    tau2 = paule_mandel(lambda t: _weighted(y, v + t, x)[2], k - p, size)
    beta, inverse, q = _weighted(y, v + tau2, x)
    scale = max(1.0, q / (k - p))
    residual = y - x @ beta
    return MetaRegression(beta, scale * inverse, tau2, k - p, residual, residual / np.sqrt(v + tau2))


def paule_mandel(q_of: Callable[[float], float], df: float, size: float) -> float:
    """The variance at which the weighted residual sum of squares ``q_of(tau2)`` equals ``df``; 0 if none does.

    Parameters
    ----------
    q_of : callable
        Falls with its argument.
    df : float
    size : float
        Scale of the squared values, from which the search starts.
    """
    from scipy.optimize import brentq

    if q_of(0.0) <= df:
        return 0.0
    high = size
    for _ in range(_MOST_DOUBLINGS):
        if q_of(high) < df:
            return float(brentq(lambda t: q_of(t) - df, 0.0, high, xtol=1e-14 * high, rtol=1e-12))
        high *= 2.0
    return high


def _weighted(y: np.ndarray, variance: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted least squares: coefficients, (X'WX)^-1, weighted residual sum of squares."""
    root = 1.0 / np.sqrt(variance)
    q, r = np.linalg.qr(x * root[:, None])
    target = y * root
    beta = np.linalg.solve(r, q.T @ target)
    r_inverse = np.linalg.inv(r)
    residual = target - (x * root[:, None]) @ beta
    return beta, r_inverse @ r_inverse.T, float(residual @ residual)


@dataclass(frozen=True, eq=False)
class Equality:
    """Result of a test of equal (a, b).

    Attributes
    ----------
    groups : tuple of str
    runs : tuple of int
        Runs in each group.
    means : ndarray, shape (g, 2)
        Mean a and b of each group.
    wilks : float
        Share of the scatter that is within groups; 1 when the groups agree perfectly.
    f : float
    df : (float, float)
    p_value : float
        NaN when no group has two runs: then nothing says how much runs of one group differ.
    spread : ndarray, shape (2,)
        Standard deviation of a and b from run to run within groups.
    """

    groups: tuple[str, ...]
    runs: tuple[int, ...]
    means: np.ndarray
    wilks: float
    f: float
    df: tuple[float, float]
    p_value: float
    spread: np.ndarray

    @property
    def testable(self) -> bool:
        """Whether there were runs enough to say anything."""
        return bool(np.isfinite(self.p_value))


def equal_coefficients(
    group: Sequence[str],
    a: Sequence[float],
    b: Sequence[float],
    within: Sequence[object] | None = None,
) -> Equality:
    """Test whether groups of runs share one (a, b).

    Parameters
    ----------
    group : sequence of str, length n
    a, b : sequence of float, length n
        Each run's coefficients.
    within : sequence of hashable, length n, optional
        Compare groups only among runs equal in this, e.g. of one model size; each such set has a level of its own.

    Returns
    -------
    Equality
        ``means`` are over all runs of a group. ``p_value`` is NaN where no set holds two groups, or with fewer than
        two runs more than groups in sets (two responses need two degrees of freedom within).
    """
    y = np.column_stack([np.asarray(a, dtype=float), np.asarray(b, dtype=float)])
    sets = [0] * len(y) if within is None else list(within)
    names = tuple(dict.fromkeys(group))
    members = [y[[g == name for g in group]] for name in names]
    cells = list(zip(sets, group, strict=True))
    inner, outer = _scatter(y, cells), _scatter(y, sets)
    inside, between = len(y) - len(set(cells)), len(set(cells)) - len(set(sets))
    spread = np.sqrt(np.diag(inner) / inside) if inside > 0 else np.full(2, np.nan)
    sizes = tuple(len(m) for m in members)
    means = np.array([m.mean(axis=0) for m in members])
    nan = float("nan")
    if between < 1 or inside < 2:
        return Equality(names, sizes, means, nan, nan, (nan, nan), nan, spread)
    wilks = _determinant_ratio(inner, outer)
    df = (2.0 * between, 2.0 * (inside - 1))
    root = np.sqrt(wilks)
    f = float("inf") if root == 0 else float((1 - root) / root * df[1] / df[0])
    from scipy.special import fdtrc

    return Equality(names, sizes, means, wilks, f, df, float(fdtrc(df[0], df[1], f)), spread)


def _scatter(y: np.ndarray, label: Sequence[object]) -> np.ndarray:
    """Sum of squares and products about the means of equal labels, shape (2, 2)."""
    total = np.zeros((2, 2))
    for value in dict.fromkeys(label):
        part = y[[other == value for other in label]]
        centred = part - part.mean(axis=0)
        total += centred.T @ centred
    return total


def _determinant_ratio(within: np.ndarray, total: np.ndarray) -> float:
    """det(within)/det(total), after scaling: a and b are almost perfectly correlated within a run."""
    size = np.sqrt(np.diag(total))
    if (size == 0).any():
        return 1.0
    scaled = np.outer(size, size)
    top, bottom = np.linalg.det(within / scaled), np.linalg.det(total / scaled)
    return float(np.clip(top / bottom, 0.0, 1.0)) if bottom > 0 else 1.0
