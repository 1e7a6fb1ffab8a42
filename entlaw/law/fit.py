"""Fitting the law R = b - a exp(H) to one run.

Two methods. ``paper`` is the paper's: unweighted least squares on the points up to step 36 (Cui et al. 2025, arXiv
2505.22617, Eq. 6 and section 2.4). ``careful`` smooths H first (:mod:`entlaw.law.smooth`) and averages over what is
not known about the noise (:mod:`entlaw.law.noise`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from entlaw.errors import FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law import noise
from entlaw.law.checks import fit_findings
from entlaw.law.checks_entropy import Evidence
from entlaw.law.shapes import MOST_ENTROPY, Fit, FitPoints, Method, law
from entlaw.law.smooth import block_means, smooth_entropy
from entlaw.limits import PAPER_WINDOW, check_level
from entlaw.points import Points
from entlaw.runs.run import Run

# Longer runs are averaged in time to at most this many points: memory and time stay bounded, and nothing is lost that
# a straight line could use.
MAX_POINTS = 200
# No entropy per token is near this (ln of a vocabulary is at most 13): a forced fit of such a series takes it as
# logged, because half the variance of its noise, added to H, would overflow the exponential.
_NO_TOKEN_ENTROPY = 20.0

# No score or reward is this large; its square would leave no digit of any other.
_MAX_SCORE = 1e12


def fit_points(
    points: Points,
    *,
    method: Method = "careful",
    until_step: float | None = PAPER_WINDOW,
    level: float = 0.95,
) -> Fit:
    """Fit the law to points, without diagnosing anything.

    Parameters
    ----------
    points : Points
        Scores in [0, 1] where they are shares. Where ``points.answers`` is known the noise is binomial.
    method : {"careful", "paper"}
    until_step : float or None
        Use points with step <= until_step; None uses all. Nothing after the window is looked at.
    level : float
        Level of ``ceiling_interval``.

    Returns
    -------
    Fit
        With empty ``findings``.

    Raises
    ------
    FitRefused
        With ``fit=None``: fewer than two distinct points, or an entropy whose exponential overflows.
    UsageError
        An unknown method, a level outside (0, 1), a window that is no number.
    """
    check_fit_options(method, level, until_step)
    seen = points.until(until_step)
    h, r = seen.entropy, seen.score
    _check_fittable(h, r)

    details: dict[str, Any] = {}
    if method == "paper":
        used = h
        regression = noise.least_squares(np.exp(h), r)
    else:
        used, error, details = _smoothed(seen)
        regression = _careful(seen.step, used, r, error, points.answers)
    post = regression.posterior
    residual = r - law(post.a, post.b, used)
    total = float(np.sum((r - r.mean()) ** 2))
    variance = float(post.weight @ (post.wander + post.nugget))
    return Fit(
        a=post.a,
        b=post.b,
        covariance=post.covariance(),
        ceiling=post.b - post.a,
        ceiling_interval=post.ceiling_interval(level),
        method=method,
        until_step=until_step,
        points=FitPoints(seen, used, regression.leverage, regression.ceiling_without),
        r_squared=1.0 - float(residual @ residual) / total if total > 0 else float("nan"),
        residual_sd=float(np.sqrt(variance)),
        residual_autocorrelation=lag_one(residual),
        line_at=post.line_at,
        prediction_at=post.prediction_at,
        noise=regression.details | details | {"curvature_p": regression.curvature_p},
        posterior=post,
    )


def fit_law(
    points: Points,
    *,
    run: Run | None = None,
    until_step: float | None = PAPER_WINDOW,
    method: Method = "careful",
    level: float = 0.95,
    force: bool = False,
) -> Fit:
    """Fit the law to points and diagnose whether it may be believed.

    Parameters
    ----------
    points : Points
    run : Run, optional
        Where they come from: its configuration and the reader's findings are then heard too.
    until_step, method, level
        As in :func:`fit_points`.
    force : bool
        Return a fit that the diagnostics refuse, its findings attached.

    Returns
    -------
    Fit
        ``findings`` holds what the reader and the diagnostics have to say, worst first.

    Raises
    ------
    FitRefused
        A finding is of severity error and ``force`` is not set (the error carries the fit), or nothing can be fitted
        at all (``fit=None``, even with ``force``).
    UsageError
        As :func:`fit_points`.
    """
    check_fit_options(method, level, until_step)
    fitted: Fit | None = None
    impossible: FitRefused | None = None
    try:
        fitted = fit_points(points, method=method, until_step=until_step, level=level)
    except FitRefused as error:
        impossible = error
    diagnosed = fit_findings(Evidence(points, until_step, fitted, run, points.answers is not None))
    codes = {f.code for f in diagnosed}
    alone = [f for f in (impossible.findings if impossible else ()) if f.code not in codes]
    found = worst_first([*diagnosed, *alone, *(run.findings if run is not None else ())])
    where = run.name if run is not None else None
    if fitted is None:
        assert impossible is not None
        worst = next((f for f in found if f.severity == "error"), None)
        raise FitRefused(
            worst.what if worst else impossible.what,
            where=where,
            why=worst.why if worst else impossible.why,
            hint=(worst.hint if worst else "") or impossible.hint,
            fit=None,
            findings=found,
        )
    fitted = replace(fitted, findings=found)
    if has_error(found) and not force:
        worst = found[0]
        forced = "--force shows the fit all the same"
        raise FitRefused(
            worst.what,
            where=where,
            why=worst.why,
            hint=f"{worst.hint}; {forced}" if worst.hint else forced,
            fit=fitted,
            findings=found,
        )
    return fitted


def _smoothed(seen: Points) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The entropy that a careful fit uses, a factor of its error's covariance, and what is worth telling of it."""
    h = seen.entropy
    log_step, log_entropy = seen.own_log
    step, at = np.unique(log_step, return_inverse=True)
    value = np.bincount(at, weights=log_entropy) / np.bincount(at) if len(step) else log_entropy
    smoothed = smooth_entropy(step, value, seen.entropy_step, h)
    impossible = max(float(h.max()), float(value.max(initial=0.0))) > _NO_TOKEN_ENTROPY
    # Of an entropy that was smoothed to a constant nothing would be left to fit on.
    if impossible or np.ptp(x := np.exp(smoothed.entropy)) <= 1e-12 * x.max():
        smoothed = replace(smoothed, entropy=h, error_factor=np.zeros((len(h), 0)), changed=False)
    details = {"entropy_noise_sd": smoothed.noise_sd, "entropy_smoothed": smoothed.changed}
    return smoothed.entropy, smoothed.error_factor, details


def lag_one(residual: np.ndarray) -> float:
    """Lag-1 autocorrelation of residuals in order of steps; NaN for fewer than 3 or when all are zero."""
    e = residual - residual.mean()
    power = float(e @ e)
    return float(e[1:] @ e[:-1]) / power if len(e) >= 3 and power > 1e-28 else float("nan")


def _careful(
    t: np.ndarray, h: np.ndarray, r: np.ndarray, h_error: np.ndarray, answers: float | None
) -> noise.Regression:
    """The careful regression, long runs averaged in time first."""
    # E[exp(H)] for a normal error of H: the regressor must be the expectation of x, not x of the expectation.
    x = np.exp(h + 0.5 * np.sum(h_error**2, axis=1))
    x_error = x[:, None] * h_error
    if len(t) <= MAX_POINTS:
        return noise.careful(t, x, r, answers=answers, x_error=x_error)
    count, (bt, bx, br) = block_means(MAX_POINTS, t, x, r)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    block_error = np.add.reduceat(x_error, first, axis=0) / count[:, None] if x_error.size else x_error[first]
    blocks = noise.careful(bt, bx, br, answers=answers, count=count.astype(float), x_error=block_error)
    # A point is one of `count` equal shares of its block's mean.
    each = np.repeat(blocks.leverage / count, count)
    post = blocks.posterior
    ceiling = post.b - post.a
    residual = r - (post.b - post.a * x)  # of the law in x, the expectation of exp(H)
    moved = np.repeat((blocks.ceiling_without - ceiling) / count, count)
    block_residual = np.repeat(br - (post.b - post.a * bx), count)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = ceiling + np.where(np.abs(block_residual) > 0, moved * residual / block_residual, 0.0)
    return replace(blocks, leverage=each, ceiling_without=without)


def check_fit_options(method: str, level: float, until_step: float | None) -> None:
    """Raise UsageError for an unknown method, a level outside (0, 1), a window that is no number."""
    if method not in ("careful", "paper"):
        raise UsageError(f"no method {method!r}", hint="use 'careful' or 'paper'")
    check_level(level)
    if until_step is not None and not np.isfinite(until_step):
        raise UsageError("until_step must be a number", hint="None uses all points")


def _check_fittable(h: np.ndarray, r: np.ndarray) -> None:
    """Raise FitRefused(fit=None) where no line exists."""
    if len(h) and h.max() > MOST_ENTROPY:
        raise _impossible(
            "entropy-not-per-token",
            f"entropy reaches {h.max():.4g}: its exponential overflows",
            float(h.max()),
            "this is a sum over the response, or not an entropy at all",
            "log the mean entropy per token",
        )
    if len(r) and np.abs(r).max() > _MAX_SCORE:
        worst = float(r[np.abs(r).argmax()])
        raise _impossible(
            "performance-not-a-score",
            f"performance reaches {worst:.4g}",
            worst,
            "no score or reward is that large: the record is damaged, or the key is something else",
            "drop that record, or choose another key (--on KEY)",
        )
    if len(h) < 2:
        raise _impossible(
            "too-few-evaluations",
            f"{len(h)} usable points in the fit window",
            float(len(h)),
            "a line needs at least two, and an honest interval four",
            "wait for more, or fit a longer window (--until-step, --all)",
        )
    x = np.exp(h)
    if np.ptp(x) <= 1e-13 * x.max():
        raise _impossible(
            "entropy-constant",
            f"entropy is {h[0]:.4g} at all {len(h)} points",
            0.0,
            "the law says how R follows H; where H does not move there is nothing to fit",
            "check that the key is the policy's entropy, or fit a window in which it falls",
        )


def _impossible(code: str, what: str, value: float, why: str, hint: str) -> FitRefused:
    finding = Finding(code, "error", what, why, hint, value)
    return FitRefused(what, why=why, hint=hint, fit=None, findings=(finding,))
