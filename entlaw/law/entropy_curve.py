"""How the entropy goes on, forecast from its log alone.

H(t) = floor + (H0 - floor) g(t), where g is one of two families that fall quickly and then slowly: exponential,
exp(-t/tau), and power, 1/(1 + t/tau). Given g the curve is linear in floor and H0, with closed-form t intervals; the
family and tau are averaged over by their restricted likelihood, the floor is kept at or above zero.
"""

from __future__ import annotations

import numpy as np

from entlaw.law.posterior import ExactPredictive, Predictive
from entlaw.law.smooth import block_means
from entlaw.limits import FEWEST_POINTS
from entlaw.points import Points

# A policy's entropy per token is below this; an exponential of more carries no fit.
MAX_ENTROPY = 12.0
# Time constants, in units of the observed span: from "over long before" to "hardly begun".
_TAUS = np.geomspace(0.02, 20.0, 24)
# Longer logs are averaged in time to this many values before the curve is fitted.
_MAX_POINTS = 200
# Quantile nodes over which an uncertain entropy is averaged.
_NODES = (np.arange(9) + 0.5) / 9


def entropy_at(points: Points, step: float) -> Predictive:
    """Distribution of the entropy at a step, from the entropy log, between 0 and :data:`MAX_ENTROPY` nats/token.

    A log too short for a curve stays where it is. Where the points' entropies are another series than the log, that
    series is predicted, because the law is in terms of it.
    """
    t, h = points.own_log
    h = np.minimum(h, MAX_ENTROPY)
    if len(t) < FEWEST_POINTS or np.ptp(t) == 0:
        last = float(h[-1]) if len(h) else float(points.entropy[-1])
        return Predictive(np.ones(1), np.array([last]), np.zeros(1))
    return ExactPredictive(*entropy_curve(t, h, step), low=0.0, high=MAX_ENTROPY)


def entropy_nodes(points: Points, step: float) -> np.ndarray:
    """Equally likely entropies at a step, from the entropy log; nats/token, shape (m,)."""
    there = entropy_at(points, step)
    return there.quantile(_NODES) if there.scale.any() else there.mean


def entropy_curve(
    t: np.ndarray, h: np.ndarray, at: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mixture that forecasts the entropy at one step.

    Parameters
    ----------
    t, h : ndarray, shape (m,)
        Entropy log, steps increasing, at least 4 values.
    at : float
        Step of the forecast.

    Returns
    -------
    weight, mean, scale : ndarray, shape (k,)
        Components (family and time constant), location-scale t.
    df : float
    """
    _, (t, h) = block_means(_MAX_POINTS, t, h)
    span = float(t[-1] - t[0])
    u, u_at = (t - t[0]) / span, (at - t[0]) / span
    grid = u[:, None] / _TAUS
    g = np.concatenate([np.exp(-grid), 1.0 / (1.0 + grid)], axis=1).T  # (k, m)
    with np.errstate(over="ignore"):
        # Before the log the power curve has a pole; stop short of it.
        past = np.maximum(u_at, -0.5 * _TAUS) / _TAUS
        g_at = np.concatenate([np.exp(-past), 1.0 / (1.0 + past)])
    m = len(t)
    g_mean, h_mean = g.mean(axis=1), float(h.mean())
    gc, hc = g - g_mean[:, None], h - h_mean
    s_gg = np.maximum(np.sum(gc**2, axis=1), 1e-300)
    drop = gc @ hc / s_gg  # H0 - floor
    floor = h_mean - drop * g_mean
    # The policy cannot have negative entropy: where the best floor is below zero, it is zero and one parameter less.
    negative = floor < 0
    drop = np.where(negative, (g @ h) / np.sum(g**2, axis=1), drop)
    floor = np.where(negative, 0.0, floor)
    residual = h - floor[:, None] - drop[:, None] * g
    rss = np.sum(residual**2, axis=1) + 1e-20 * max(float(h @ h), 1e-300)
    df = float(m - 2)
    log_weight = -0.5 * df * np.log(rss) - 0.5 * np.log(s_gg)
    # Each family has weight 1/2 before the data; the volume term makes tau with hardly any curve in it comparable.
    log_weight = log_weight + np.log(np.abs(g[:, 0] - g[:, -1]) + 1e-300)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    # Residuals of a log wander: their lag-1 correlation shrinks the number of independent values.
    r1 = np.clip(np.sum(residual[:, 1:] * residual[:, :-1], axis=1) / rss, 0.0, 0.95)
    variance = rss / df
    spread = variance * (1.0 + (1.0 + r1) / (1.0 - r1) * (1.0 / m + (g_at - g_mean) ** 2 / s_gg))
    return weight, floor + drop * g_at, np.sqrt(spread), df


def exponential(step: np.ndarray, entropy: np.ndarray) -> tuple[float, float, float]:
    """H(t) = floor + (first - floor) exp(-t/tau) by least squares over a grid of tau.

    Returns
    -------
    first, floor, tau : float
        nats/token, nats/token (at least 0), steps.
    """
    t = step - step[0]
    span = float(t[-1]) or 1.0
    best = (np.inf, float(entropy[0]), float(entropy[-1]), span)
    for tau in np.geomspace(0.02, 5.0, 120) * span:
        g = np.exp(-t / tau)
        x = np.column_stack([np.ones_like(g), g])
        floor, drop = np.linalg.lstsq(x, entropy, rcond=None)[0]
        if floor < 0:
            floor, drop = 0.0, float(g @ entropy) / float(g @ g)
        rss = float(np.sum((entropy - floor - drop * g) ** 2))
        if rss < best[0]:
            best = (rss, float(floor + drop), float(floor), float(tau))
    return best[1], best[2], best[3]
