"""What an earlier run says about the next: its law, its entropy's curve and its noise, as a plan needs them."""

from __future__ import annotations

import numpy as np

from entlaw.errors import FitRefused
from entlaw.law.fit import fit
from entlaw.law.plan import Assumed
from entlaw.runs.run import Run


def assumed_from(run: Run) -> Assumed:
    """Read off a finished run what :mod:`entlaw.law.plan` assumes.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Assumed

    Raises
    ------
    FitRefused
        Nothing can be fitted, entropy does not fall, or its scores are none.
    """
    fitted = fit(run, until_step=None, force=True)
    step, entropy = run.entropy_series()
    first, floor, tau = exponential(step, entropy)
    post = fitted.posterior
    wander = float(np.sqrt(post.weight @ post.wander))
    residual = entropy - (floor + (first - floor) * np.exp(-(step - step[0]) / tau))
    # Successive differences: what is logged, not what the curve misses.
    noise = float(np.std(np.diff(residual)) / np.sqrt(2)) if len(residual) > 2 else 0.0
    a, b = fitted.a, fitted.b
    ends = b - a * np.exp([first, floor])
    if not (first > floor and a > 0 and ends.min() >= 0 and ends.max() <= 1):
        raise FitRefused(
            "this run is no model for a plan", where=run.name,
            why=f"R = {b:.3f} - {a:.3f} exp(H) over H {first:.3f} -> {floor:.3f} is not a score that rises",
            hint="choose a run that obeys the law, or leave --like out",
        )  # fmt: skip
    spacing = float(np.median(np.diff(fitted.points.step))) if fitted.n > 1 else 1.0
    r = fitted.residual_autocorrelation
    memory = -spacing / float(np.log(r)) if 0.05 < r < 0.95 else spacing
    return Assumed(a, b, first, floor, tau, wander, max(memory, 0.5), noise)


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
