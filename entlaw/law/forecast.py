"""Forecasts of performance: given the entropy you will reach, or at a step, with the entropy forecast too.

The two are different promises. The first is the paper's claim. The second also has to say how the entropy goes on, and
that is where most of the uncertainty is.

H(t) = floor + (H0 - floor) g(t), where g is one of two families that fall quickly and then slowly: exponential,
exp(-t/tau), and power, 1/(1 + t/tau). Given g the curve is linear in floor and H0, with closed-form t intervals; the
family and tau are averaged over by their restricted likelihood, the floor is kept at or above zero. The forecast of R
is the mixture of the fit's predictions over the quantiles of the forecast of H: deterministic, no sampling.
"""

from __future__ import annotations

import numpy as np

from entlaw.errors import DataError, UsageError
from entlaw.law.intervals import mixture_quantile
from entlaw.law.results import Fit, Forecast, Interval
from entlaw.law.smooth import block_means

# Time constants, in units of the observed span: from "over long before" to "hardly begun".
_TAUS = np.geomspace(0.02, 20.0, 24)
# Quantile nodes over which R is averaged; midpoints of equal probability.
_NODES = (np.arange(41) + 0.5) / 41
# Entropy logs are averaged to at most this many points before the curve is fitted.
_MAX_POINTS = 200
# The curve has three parameters, floor, H0 and tau: with fewer values nothing is left to judge it by.
_MIN_LOG = 4


def predict_at_entropy(fit: Fit, entropy: float, level: float = 0.95) -> Forecast:
    """Forecast one measured score, given the entropy the policy will have.

    Parameters
    ----------
    fit : Fit
    entropy : float
        nats/token, finite and at least 0.
    level : float

    Returns
    -------
    Forecast
        ``kind="at-entropy"``.

    Raises
    ------
    UsageError
        A negative or non-finite entropy, a level outside (0, 1).
    """
    entropy = float(entropy)
    _check_level(level)
    if not (np.isfinite(entropy) and 0.0 <= entropy <= 700.0):
        raise UsageError(f"entropy {entropy:g} is not possible", hint="give nats per token, at least 0")
    x = np.array([np.exp(entropy)])
    mean, scale = fit.posterior.at(x, measured=True)
    middle = mixture_quantile(0.5, fit.posterior.weight, mean, scale, fit.posterior.df)
    lo, hi = fit.posterior.interval(x, level, measured=True)
    best = float(middle[0]) if np.isfinite(middle[0]) else fit.b - fit.a * float(x[0])
    return Forecast(
        "at-entropy", entropy, best, Interval(float(lo[0]), float(hi[0]), level), entropy, None,
        _extrapolation(fit, entropy),
    )  # fmt: skip


def forecast_at_step(
    fit: Fit,
    step: float,
    entropy_series: tuple[np.ndarray, np.ndarray],
    level: float = 0.95,
    *,
    until_step: float | None = None,
) -> Forecast:
    """Forecast one measured score at a step, the entropy being forecast from its log.

    Parameters
    ----------
    fit : Fit
    step : float
        The step asked for.
    entropy_series : (step, entropy), each of shape (m,)
        The entropy log. Only what lies in the fit's window (or ``until_step``) is used.
    level : float
    until_step : float, optional
        Use the entropy log up to here instead of up to the end of the fit's window.

    Returns
    -------
    Forecast
        ``kind="at-step"``; ``entropy`` and ``entropy_interval`` hold the forecast of H.

    Raises
    ------
    UsageError
        A step or level that is not possible.
    DataError
        Fewer than 4 logged entropies in the window.
    """
    step = float(step)
    _check_level(level)
    if not np.isfinite(step):
        raise UsageError("the step must be a finite number")
    end = until_step if until_step is not None else fit.until_step
    t, h = (np.asarray(c, dtype=float) for c in entropy_series)
    keep = np.isfinite(t) & np.isfinite(h) & (t <= (np.inf if end is None else end))
    order = np.argsort(t[keep], kind="stable")
    t, h = t[keep][order], h[keep][order]
    if len(t) < _MIN_LOG or np.ptp(t) == 0:
        raise DataError(
            f"{len(t)} logged entropies in the fit window: too few to forecast H(t)",
            why=f"the entropy's own curve needs at least {_MIN_LOG} values",
            hint="forecast at a given entropy instead (--entropy), or fit a longer window",
        )
    weight, mean, scale, df = entropy_curve(t, h, step)
    tail = 0.5 * (1.0 - level)
    p = np.concatenate([[tail, 0.5, 1.0 - tail], _NODES])
    column = np.ones(len(p))
    quantiles = mixture_quantile(p, weight, np.outer(mean, column), np.outer(scale, column), df)
    quantiles = np.clip(quantiles, 0.0, 700.0)  # a policy's entropy is not negative
    lo_h, middle_h, hi_h, nodes = quantiles[0], float(quantiles[1]), quantiles[2], quantiles[3:]

    m, s = fit.posterior.at(np.exp(nodes), measured=True)
    weights = np.outer(fit.posterior.weight, np.full(len(nodes), 1.0 / len(nodes))).ravel()
    at = np.array([tail, 0.5, 1.0 - tail])
    lo, middle, hi = mixture_quantile(
        at, weights, np.outer(m.ravel(), np.ones(3)), np.outer(s.ravel(), np.ones(3)), fit.posterior.df
    )
    best = float(middle) if np.isfinite(middle) else fit.b - fit.a * float(np.exp(middle_h))
    return Forecast(
        "at-step", step, best, Interval(float(lo), float(hi), level), middle_h,
        Interval(float(lo_h), float(hi_h), level), _extrapolation(fit, middle_h),
    )  # fmt: skip


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
    if len(t) > _MAX_POINTS:
        _, (t, h) = block_means(t, _MAX_POINTS, t, h)
    span = float(t[-1] - t[0])
    u, u_at = (t - t[0]) / span, (at - t[0]) / span
    grid = u[:, None] / _TAUS
    g = np.concatenate([np.exp(-grid), 1.0 / (1.0 + grid)], axis=1).T  # (k, m)
    with np.errstate(over="ignore"):
        past = (
            np.maximum(u_at, -0.5 * _TAUS) / _TAUS
        )  # before the log the power curve has a pole; stop short of it
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


def _extrapolation(fit: Fit, entropy: float) -> float:
    x = np.exp(np.array([*fit.entropy_range, entropy]))
    outside = max(x[0] - x[2], x[2] - x[1], 0.0)
    width = x[1] - x[0]
    return float(outside / width) if width > 0 else float("inf")


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise UsageError(f"level {level:g} is not between 0 and 1", hint="0.95 is usual")
