"""Other ways to forecast a run, registered by name, so that the law has somebody to beat.

Every rival sees the same points and answers with a distribution of the score that will be measured at a later step. To
add one, write a function here under :func:`rival`: the back-test, the paper's figure 5 and the docs find it. Its kind
says what the function returns:

- ``stays``: the level that stays (last value, mean of the last values, isotonic); its spread is the run's
  own variogram;
- ``curve in the step`` (logarithm, power law, exponential, ScaleRL's sigmoid): least squares, with the shape averaged
  over a grid;
- ``law in the entropy`` (linear, quadratic in exp(H), logarithm, and the paper's): least squares, with the entropy
  predicted by :func:`entlaw.law.entropy_curve.entropy_nodes`, or given, as in the paper;
- ``own``: the whole forecast, as :attr:`Rival.forecast`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from entlaw.law.entropy_curve import MAX_ENTROPY, entropy_nodes
from entlaw.law.posterior import Predictive
from entlaw.law.smooth import block_means
from entlaw.points import Points
from entlaw.registry import Registry

# Scores averaged by "mean of the last".
LAST_K = 5
# Longer runs are averaged in time to this many points: a forecast's cost stays bounded.
MAX_POINTS = 100


class Forecaster(Protocol):
    """Forecasts the score measured at a step."""

    def __call__(self, points: Points, step: float, entropy: np.ndarray | None = None) -> Predictive:
        """Distribution of the score measured at ``step``.

        Parameters
        ----------
        points : Points
            What is known; at least :data:`entlaw.limits.FEWEST_POINTS` points.
        step : float
            Later than the last point.
        entropy : ndarray, shape (m,), optional
            Equally likely entropies at that step, nats/token; one where it is given. By default rivals in the entropy
            predict it (:func:`entlaw.law.entropy_curve.entropy_nodes`).

        Returns
        -------
        Predictive
        """
        ...


@dataclass(frozen=True)
class Rival:
    """A registered forecaster.

    Attributes
    ----------
    name : str
        As tables show it.
    kind : str
        Of :data:`KINDS`.
    formula : str
        One line for tables.
    reference : str
        Where it is from; empty for common knowledge.
    forecast : Forecaster
    """

    name: str
    kind: str
    formula: str
    reference: str
    forecast: Forecaster


RIVALS: Registry[Rival] = Registry("rival")
KINDS: Registry[Callable[[Any], Forecaster]] = Registry("kind of rival")


def rival(
    name: str, kind: str, formula: str, reference: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a rival; it stays as it is. The parameters are the fields of :class:`Rival`.

    Raises
    ------
    ValueError
        The name is taken.
    UsageError
        There is no such kind.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RIVALS.add(name, Rival(name, kind, formula, reference, KINDS[kind](function)))
        return function

    return register


def _stays(level: Callable[[np.ndarray], tuple[float, int]]) -> Forecaster:
    """Forecasts from ``level(scores)``: the level that stays, and how many of the last scores it averages."""

    def forecast(points: Points, step: float, entropy: np.ndarray | None = None) -> Predictive:
        mean, size = level(points.score)
        white, drift = variogram(points.step, points.score)
        ahead = step - float(points.step[-size:].mean())
        low, high = _bounds(points)
        variance = max(white * (1.0 + 1.0 / size) + drift * ahead, 0.0)
        df = float(max(len(points.score) - 1, 1))
        return Predictive(np.ones(1), np.array([mean]), np.array([np.sqrt(variance)]), df, low, high)

    return forecast


def _curve(basis: Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Forecaster:
    """Forecasts R = m + c g(step; shape) by least squares; shapes are averaged by their restricted likelihood.

    ``basis(u, u_at)`` maps steps, in units of the points' span and counted from the first, to the values of g at the
    points, shape (k, n), and at the target, shape (k,). Its third array, shape (k,), is where g goes in the end, and
    NaN where it goes nowhere: shapes whose end lies outside [0, 1] are dropped for shares.
    """

    def forecast(points: Points, step: float, entropy: np.ndarray | None = None) -> Predictive:
        _, (t, r) = block_means(MAX_POINTS, points.step, points.score)
        span = float(np.ptp(t)) or 1.0
        g, at, limit = basis((t - t[0]) / span, (step - t[0]) / span)
        return _regressed(g, at, limit, r, points)

    return forecast


def _entropy_law(columns: Callable[[np.ndarray], np.ndarray]) -> Forecaster:
    """Forecasts R linear in one or two functions of H, ``columns(H)``, by unweighted least squares."""

    def forecast(points: Points, step: float, entropy: np.ndarray | None = None) -> Predictive:
        keep = points.entropy <= MAX_ENTROPY
        h, r = points.entropy[keep], points.score[keep]
        nodes = entropy_nodes(points, step) if entropy is None else np.asarray(entropy, dtype=float)
        return regress(columns(h), r, columns(np.minimum(nodes, MAX_ENTROPY)), points)

    return forecast


def _own(forecast: Forecaster) -> Forecaster:
    return forecast


KINDS |= {"stays": _stays, "curve in the step": _curve, "law in the entropy": _entropy_law, "own": _own}


def regress(design: np.ndarray, r: np.ndarray, at: np.ndarray, points: Points) -> Predictive:
    """Least squares with Student t prediction, averaged over equally likely places of the target.

    Parameters
    ----------
    design : ndarray, shape (n, p)
        Without the constant.
    r : ndarray, shape (n,)
    at : ndarray, shape (m, p)
    points : Points

    Returns
    -------
    Predictive
    """
    n, p = design.shape
    if n < p + 2:
        return RIVALS["last value"].forecast(points, float(points.step[-1]))
    centre = design.mean(axis=0)
    size = np.maximum(np.ptp(design, axis=0), 1e-12)
    x, x_at = (design - centre) / size, (at - centre) / size
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    keep = s > 1e-10 * max(float(s[0]), 1e-300)
    u, s, vt = u[:, keep], s[keep], vt[keep]
    y = r - r.mean()
    beta = vt.T @ ((u.T @ y) / s)
    residual = y - x @ beta
    df = max(n - 1 - len(s), 1)
    variance = float(residual @ residual) / df
    lever = 1.0 + 1.0 / n + np.sum(((x_at @ vt.T) / s) ** 2, axis=1)
    mean = r.mean() + x_at @ beta
    low, high = _bounds(points)
    return Predictive(np.full(len(at), 1.0 / len(at)), mean, np.sqrt(variance * lever), float(df), low, high)


def variogram(t: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """Noise of one score and variance gained per step, from squared differences at one and several lags.

    E (r_j - r_i)^2 = 2 white + drift (t_j - t_i), least squares over lags up to half of the points, both kept at or
    above zero.

    Returns
    -------
    white, drift : float
    """
    n = len(r)
    lags = np.arange(1, max(2, min(n // 2 + 1, 25)))
    lags = lags[lags < n]
    if not len(lags):
        return 0.0, 0.0
    gap = np.array([float(np.mean(t[k:] - t[:-k])) for k in lags])
    square = np.array([float(np.mean((r[k:] - r[:-k]) ** 2)) for k in lags])
    count = (n - lags).astype(float)
    drift = 0.0
    if len(lags) > 1:
        g = gap - np.average(gap, weights=count)
        drift = max(float(np.sum(count * g * square) / max(np.sum(count * g**2), 1e-300)), 0.0)
    white = 0.5 * float(np.average(square - drift * gap, weights=count))
    if white < 0.0:
        white, drift = 0.0, float(np.sum(count * gap * square) / np.sum(count * gap**2))
    return white, drift


def _regressed(g: np.ndarray, at: np.ndarray, limit: np.ndarray, r: np.ndarray, points: Points) -> Predictive:
    n = len(r)
    g_mean, y = g.mean(axis=1), r - r.mean()
    gc = g - g_mean[:, None]
    s_gg = np.maximum(np.sum(gc**2, axis=1), 1e-300)
    slope = gc @ y / s_gg
    residual = y - slope[:, None] * gc
    rss = np.sum(residual**2, axis=1) + 1e-12 * max(float(y @ y), 1e-12)
    df = float(max(n - 2, 1))
    log_weight = -0.5 * df * np.log(rss) - 0.5 * np.log(s_gg) + np.log(np.ptp(g, axis=1) + 1e-300)
    if points.shares:
        end = r.mean() + slope * (limit - g_mean)
        possible = ~((end < 0.0) | (end > 1.0))
        if possible.any():
            log_weight = np.where(possible, log_weight, -np.inf)
    weight = np.exp(log_weight - log_weight.max())
    keep = weight > 1e-6 * weight.sum()
    weight = weight[keep] / weight[keep].sum()
    lever = 1.0 + 1.0 / n + (at - g_mean)[keep] ** 2 / s_gg[keep]
    mean = r.mean() + slope[keep] * (at - g_mean)[keep]
    low, high = _bounds(points)
    return Predictive(weight, mean, np.sqrt(rss[keep] / df * lever), df, low, high)


def _bounds(points: Points) -> tuple[float, float]:
    return (0.0, 1.0) if points.shares else (-np.inf, np.inf)


@rival("last value", "stays", "R(t) = last score")
def _last_value(r: np.ndarray) -> tuple[float, int]:
    return float(r[-1]), 1


@rival(f"mean of last {LAST_K}", "stays", f"R(t) = mean of the last {LAST_K} scores")
def _mean_of_last(r: np.ndarray) -> tuple[float, int]:
    last = r[-LAST_K:]
    return float(last.mean()), len(last)


@rival("isotonic", "stays", "R(t) = last level of the best increasing step function", "Ayer et al. 1955")
def last_level(r: np.ndarray) -> tuple[float, int]:
    """Last level of the increasing least-squares fit (pool adjacent violators), and how many scores it averages."""
    sums: list[float] = []
    sizes: list[int] = []
    for value in r:
        total, size = float(value), 1
        while sums and sums[-1] / sizes[-1] >= total / size:
            total, size = total + sums.pop(), size + sizes.pop()
        sums.append(total)
        sizes.append(size)
    return sums[-1] / sizes[-1], sizes[-1]


@rival("linear in H", "law in the entropy", "R = b - a H")
def _linear(h: np.ndarray) -> np.ndarray:
    return h[:, None]


@rival("quadratic in exp(H)", "law in the entropy", "R = b - a exp(H) + c exp(2 H)")
def _exp_and_square(h: np.ndarray) -> np.ndarray:
    return np.stack([np.exp(h), np.exp(2.0 * h)], axis=1)


@rival("log H", "law in the entropy", "R = b - a log H")
def _log(h: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(h, 1e-3))[:, None]


@rival("log of step", "curve in the step", "R = m + c log(t + t_0)")
def _logarithm(u: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    c = np.array([0.003, 0.01, 0.03, 0.1, 0.3])[:, None]
    return np.log(u[None] + c), np.log(at + c[:, 0]), np.full(len(c), np.nan)


@rival("power law in step", "curve in the step", "R = m - c (1 + t / t_0)^-p")
def _power(u: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    c, p = (a.reshape(-1, 1) for a in np.meshgrid([0.01, 0.03, 0.1, 0.3, 1.0], [0.25, 0.5, 1.0, 2.0]))
    return (u[None] / c + 1.0) ** -p, (at / c[:, 0] + 1.0) ** -p[:, 0], np.zeros(len(c))


@rival("exponential in step", "curve in the step", "R = m - c exp(-t / tau)")
def _exponential(u: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tau = np.geomspace(0.03, 10.0, 20)[:, None]
    return np.exp(-u[None] / tau), np.exp(-at / tau[:, 0]), np.zeros(len(tau))


@rival(
    "sigmoid in step (ScaleRL)",
    "curve in the step",
    "R = R_0 + (A - R_0) / (1 + (C_mid / C)^B), compute C taken as steps",
    "arXiv 2510.13786, Eq. 1",
)
def _sigmoid(u: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    middle, b = (
        a.reshape(-1, 1) for a in np.meshgrid(np.geomspace(0.03, 10.0, 12), [0.5, 1.0, 1.5, 2.0, 3.0])
    )
    with np.errstate(divide="ignore"):
        g = 1.0 / (1.0 + (middle / u[None]) ** b)
    return g, 1.0 / (1.0 + (middle[:, 0] / at) ** b[:, 0]), np.ones(len(b))


@rival("paper's law", "law in the entropy", "R = b - a exp(H)", "arXiv 2505.22617")
def _exp(h: np.ndarray) -> np.ndarray:
    return np.exp(h)[:, None]


LAST_VALUE = RIVALS["last value"]
PAPER = RIVALS["paper's law"]
