"""Fitting the law R = b - a exp(H) to one run.

Two methods. ``paper`` is the paper's: unweighted least squares on the points up to step 36 (Cui et al. 2025, arXiv
2505.22617, Eq. 6 and section 2.4). ``careful`` smooths H first (:mod:`entlaw.law.smooth`) and averages over what is
not known about the noise (:mod:`entlaw.law.noise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from entlaw.errors import FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law import noise
from entlaw.law.results import Fit, FitPoints, Method
from entlaw.law.smooth import block_means, smooth_entropy
from entlaw.runs.run import Run

# The paper's window: 36 training steps, 15 % of the 236 it then predicts.
PAPER_WINDOW = 36.0
# Longer runs are averaged in time to at most this many points: memory and time stay bounded, and nothing is lost that
# a straight line could use.
MAX_POINTS = 200
# exp(H) beyond this is not a number a double can hold.
_MAX_ENTROPY = 700.0
# No entropy per token is near this (ln of a vocabulary is at most 13): a forced fit of such a series takes it as
# logged, because half the variance of its noise, added to H, would overflow the exponential.
_NO_TOKEN_ENTROPY = 20.0

# No score or reward is this large; its square would leave no digit of any other.
_MAX_SCORE = 1e12

Series = tuple[np.ndarray, np.ndarray]


def fit_points(
    step: Sequence[float] | np.ndarray,
    entropy: Sequence[float] | np.ndarray,
    performance: Sequence[float] | np.ndarray,
    *,
    method: Method = "careful",
    until_step: float | None = PAPER_WINDOW,
    level: float = 0.95,
    entropy_series: Series | None = None,
    entropy_step: Sequence[float] | np.ndarray | None = None,
    problems: float | None = None,
    samples: float | None = None,
) -> Fit:
    """Fit the law to arrays, without diagnosing anything.

    Parameters
    ----------
    step, entropy, performance : array_like, shape (n,)
        Steps; entropy in nats/token; performance, in [0, 1] where it is a score. Order does not matter; points with
        a value that is not finite are left out.
    method : {"careful", "paper"}
    until_step : float or None
        Use points with step <= until_step; None uses all.
    level : float
        Level of ``ceiling_interval``.
    entropy_series : (step, entropy), each of shape (m,), optional
        The whole entropy log, for smoothing; by default the points' own. Nothing after the window is looked at.
    entropy_step : array_like, shape (n,), optional
        Step whose entropy each point holds; by default ``step``.
    problems, samples : float, optional
        Size of the test and answers per problem (1 if only ``problems`` is given): makes the binomial noise known.

    Returns
    -------
    Fit
        With empty ``findings``.

    Raises
    ------
    FitRefused
        With ``fit=None``: fewer than two distinct points, or an entropy whose exponential overflows.
    UsageError
        Arrays of different lengths, an unknown method, a level outside (0, 1), sizes that are not positive.
    """
    _check_options(method, level, until_step, problems, samples)
    answers = None if problems is None else float(problems) * float(samples or 1.0)
    t, h, r, s = _columns(step, entropy, performance, entropy_step)
    inside = np.ones(len(t), dtype=bool) if until_step is None else t <= until_step
    t, h, r, s = t[inside], h[inside], r[inside], s[inside]
    _check_fittable(h, r)

    details: dict[str, Any] = {}
    if method == "paper":
        used = h
        regression = noise.least_squares(np.exp(h), r)
    else:
        log = _log_in_window(entropy_series, s, h, until_step)
        smoothed = smooth_entropy(log[0], log[1], s, h)
        if max(float(h.max()), float(log[1].max(initial=0.0))) > _NO_TOKEN_ENTROPY:
            smoothed = replace(smoothed, entropy=h, error_factor=np.zeros((len(h), 0)), changed=False)
        used = smoothed.entropy
        if (
            np.ptp(np.exp(used)) <= 1e-12 * np.exp(used).max()
        ):  # smoothed to a constant: nothing left to fit on
            smoothed = replace(smoothed, entropy=h, error_factor=np.zeros((len(h), 0)), changed=False)
            used = h
        regression = _careful(t, used, r, smoothed.error_factor, answers)
        details = {"entropy_noise_sd": smoothed.noise_sd, "entropy_smoothed": smoothed.changed}
    post = regression.posterior
    residual = r - (post.b - post.a * np.exp(used))
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
        points=FitPoints(t, used, r, h, regression.leverage, regression.ceiling_without),
        r_squared=1.0 - float(residual @ residual) / total if total > 0 else float("nan"),
        residual_sd=float(np.sqrt(variance)),
        residual_autocorrelation=lag_one(residual),
        line_at=post.line_at,
        prediction_at=post.prediction_at,
        noise=regression.details | details | {"curvature_p": regression.curvature_p},
        posterior=post,
    )


def fit(
    run: Run | pd.DataFrame | tuple[Any, ...],
    *,
    until_step: float | None = PAPER_WINDOW,
    method: Method = "careful",
    level: float = 0.95,
    problems: float | None = None,
    samples: float | None = None,
    force: bool = False,
) -> Fit:
    """Fit the law to a run and diagnose whether it may be believed.

    Parameters
    ----------
    run : Run, DataFrame or tuple
        A run; or a frame with columns ``step``, ``entropy``, ``performance`` (``entropy_step`` optional); or these as
        a tuple of arrays.
    until_step, method, level, problems, samples
        As in :func:`fit_points`; the size of the test is taken from the run where the log tells it.
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
        As :func:`fit_points`, or an input of another kind.
    """
    from entlaw.law.diagnose import diagnose_points, evidence_of

    source = run if isinstance(run, Run) else None
    _check_options(method, level, until_step, problems, samples)
    points = run.points if isinstance(run, Run) else _as_frame(run)
    if source is not None and problems is None and _are_shares(points["performance"]):
        problems, samples = source.problems, source.samples  # the log's own word on the size of its test
    columns = {k: points[k].to_numpy(dtype=float) for k in points.columns if k in _COLUMNS}
    read = source.findings if source is not None else ()
    fitted: Fit | None = None
    impossible: FitRefused | None = None
    try:
        fitted = fit_points(
            columns["step"], columns["entropy"], columns["performance"], method=method, until_step=until_step,
            level=level, entropy_series=source.entropy_series() if source is not None else None,
            entropy_step=columns.get("entropy_step"), problems=problems, samples=samples,
        )  # fmt: skip
    except FitRefused as error:
        impossible = error
    evidence = evidence_of(columns, until_step, fitted, source, answers_known=problems is not None)
    diagnosed = diagnose_points(evidence)
    codes = {f.code for f in diagnosed}
    alone = [f for f in (impossible.findings if impossible else ()) if f.code not in codes]
    found = worst_first([*diagnosed, *alone, *read])
    where = source.name if source is not None else None
    if fitted is None:
        assert impossible is not None
        worst = next((f for f in found if f.severity == "error"), None)
        raise FitRefused(
            worst.what if worst else impossible.what, where=where, why=worst.why if worst else impossible.why,
            hint=(worst.hint if worst else "") or impossible.hint, fit=None, findings=found,
        )  # fmt: skip
    fitted = replace(fitted, findings=found)
    if has_error(found) and not force:
        worst = found[0]
        raise FitRefused(
            worst.what, where=where, why=worst.why, fit=fitted, findings=found,
            hint=f"{worst.hint}; --force (force=True) reports the fit all the same" if worst.hint else
            "--force (force=True) reports the fit all the same",
        )  # fmt: skip
    return fitted


_COLUMNS = ("step", "entropy", "performance", "entropy_step")


def _are_shares(performance: pd.Series) -> bool:
    """Whether all scores can be shares of right answers: only then is their noise binomial."""
    known = performance.dropna()
    return bool(((known >= 0.0) & (known <= 1.0)).all())


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
    count, (bt, bx, br) = block_means(t, MAX_POINTS, t, x, r)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    block_error = np.add.reduceat(x_error, first, axis=0) / count[:, None] if x_error.size else x_error[first]
    blocks = noise.careful(bt, bx, br, answers=answers, count=count.astype(float), x_error=block_error)
    # A point is one of `count` equal shares of its block's mean.
    each = np.repeat(blocks.leverage / count, count)
    post = blocks.posterior
    ceiling = post.b - post.a
    residual = r - (post.b - post.a * x)
    moved = np.repeat((blocks.ceiling_without - ceiling) / count, count)
    block_residual = np.repeat(br - (post.b - post.a * bx), count)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = ceiling + np.where(np.abs(block_residual) > 0, moved * residual / block_residual, 0.0)
    return replace(blocks, leverage=each, ceiling_without=without)


def _columns(step: Any, entropy: Any, performance: Any, entropy_step: Any) -> tuple[np.ndarray, ...]:
    """The four columns as float64, finite rows only, ordered by step."""
    try:
        given = [np.asarray(c, dtype=float) for c in (step, entropy, performance)]
        given.append(given[0] if entropy_step is None else np.asarray(entropy_step, dtype=float))
    except (TypeError, ValueError) as error:
        raise UsageError("step, entropy and performance must be numbers", why=str(error)) from error
    if any(c.ndim != 1 or len(c) != len(given[0]) for c in given):
        raise UsageError(
            "step, entropy and performance must be one-dimensional and of equal length",
            why=f"their shapes are {', '.join(str(c.shape) for c in given)}",
        )
    keep = np.all(np.isfinite(given[:3]), axis=0)
    given[3] = np.where(np.isfinite(given[3]), given[3], given[0])
    kept = [c[keep] for c in given]
    order = np.lexsort((kept[2], kept[1], kept[0]))  # all three, so that the order given cannot matter
    return tuple(c[order] for c in kept)


def _log_in_window(
    series: Series | None, entropy_step: np.ndarray, entropy: np.ndarray, until_step: float | None
) -> Series:
    """The entropy log up to the window's end; with "next" pairing that is the last paired entropy, one step later."""
    if series is None:
        step, value = entropy_step, entropy
    else:
        step, value = np.asarray(series[0], dtype=float), np.asarray(series[1], dtype=float)
    end = np.inf if until_step is None else max(until_step, float(entropy_step.max()))
    keep = np.isfinite(step) & np.isfinite(value) & (step <= end)
    step, value = step[keep], value[keep]
    step, at = np.unique(step, return_inverse=True)
    return step, np.bincount(at, weights=value) / np.bincount(at) if len(step) else value


def _check_options(
    method: str, level: float, until_step: float | None, problems: float | None, samples: float | None
) -> None:
    if method not in ("careful", "paper"):
        raise UsageError(f"no method {method!r}", hint="use 'careful' or 'paper'")
    if not 0.0 < level < 1.0:
        raise UsageError(f"level {level:g} is not between 0 and 1", hint="0.95 is usual")
    if until_step is not None and not np.isfinite(until_step):
        raise UsageError("until_step must be a number", hint="None uses all points")
    if samples is not None and problems is None:
        raise UsageError("samples without problems", hint="give problems, the number of test problems, too")
    for name, value in (("problems", problems), ("samples", samples)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be positive, not {value:g}")


def _check_fittable(h: np.ndarray, r: np.ndarray) -> None:
    """Raise FitRefused(fit=None) where no line exists."""
    if len(h) and h.max() > _MAX_ENTROPY:
        raise _impossible(
            "entropy-not-per-token", f"entropy reaches {h.max():.4g}: its exponential overflows", float(h.max()),
            "this is a sum over the response, or not an entropy at all", "log the mean entropy per token",
        )  # fmt: skip
    if len(r) and np.abs(r).max() > _MAX_SCORE:
        worst = float(r[np.abs(r).argmax()])
        raise _impossible(
            "performance-not-a-score", f"performance reaches {worst:.4g}", worst,
            "no score or reward is that large: the record is damaged, or the key is something else",
            "drop that record, or choose another key (--on KEY)",
        )  # fmt: skip
    if len(h) < 2:
        raise _impossible(
            "too-few-evaluations", f"{len(h)} usable points in the fit window", float(len(h)),
            "a line needs at least two, and an honest interval four", "fit a longer window (--until-step, --all)",
        )  # fmt: skip
    x = np.exp(h)
    if np.ptp(x) <= 1e-13 * x.max():
        raise _impossible(
            "entropy-constant", f"entropy is {h[0]:.4g} at all {len(h)} points", 0.0,
            "the law says how R follows H; where H does not move there is nothing to fit",
            "check that the key is the policy's entropy, or fit a window in which it falls",
        )  # fmt: skip


def _impossible(code: str, what: str, value: float, why: str, hint: str) -> FitRefused:
    finding = Finding(code, "error", what, why, hint, value)
    return FitRefused(what, why=why, hint=hint, fit=None, findings=(finding,))


def _as_frame(given: Any) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        missing = [c for c in _COLUMNS[:3] if c not in given.columns]
        if missing:
            raise UsageError(
                f"the frame lacks {', '.join(missing)}", hint=f"it has {', '.join(map(str, given.columns))}"
            )
        try:
            return given[[c for c in _COLUMNS if c in given.columns]].astype(float)
        except (TypeError, ValueError) as error:
            raise UsageError("step, entropy and performance must be numbers", why=str(error)) from error
    if isinstance(given, tuple) and len(given) in (3, 4):
        t, h, r, *rest = given
        return pd.DataFrame(dict(zip(_COLUMNS, _columns(t, h, r, rest[0] if rest else None), strict=True)))
    raise UsageError(
        f"cannot fit a {type(given).__name__}", hint="give a Run, a DataFrame or (step, entropy, performance)"
    )
