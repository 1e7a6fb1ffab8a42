"""Is B better than A, or is it noise? Differences of final performance, ceiling, and performance at equal entropy.

Two runs that are validated on the same problems at the same steps share the luck of that test: which problems are in it
moves both alike and cancels in the difference at each step, which is why the difference is taken first and its noise
measured afterwards (Miller 2024, arXiv 2411.00640, section 4, on paired evaluation). What remains wanders like any run
and is treated so (:mod:`entlaw.law.noise`).

One run against one says nothing of what another seed would have done. With several runs a side the run is the unit:
paired t where the two sides have the same seeds, Welch's t otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from entlaw.errors import DataError, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.law.compare_groups import compare_groups
from entlaw.law.compare_types import (
    FINAL_SHARE,
    Comparison,
    Difference,
    share_begins,
    spent_entropy,
)
from entlaw.law.compare_types import Track as Track
from entlaw.law.history import is_same_run
from entlaw.law.intervals import mixture_cdf
from entlaw.law.noise import careful
from entlaw.law.results import Fit, Interval

# The noise of "final" is measured over this last share: a quarter of ten validations cannot show how they wander.
_NOISE_SHARE = 0.5
_LEAST = 5


def compare(a: Sequence[Track], b: Sequence[Track], level: float = 0.95) -> Comparison:
    """Compare two sides of one or more runs each.

    Parameters
    ----------
    a, b : sequence of Track
    level : float

    Returns
    -------
    Comparison

    Raises
    ------
    UsageError
        A side without a run, or one run on both sides.
    DataError
        Two single runs without common steps.
    """
    if not a or not b:
        raise UsageError("a comparison needs at least one run on either side")
    for left, right in itertools.product(a, b):
        if is_same_run(left, right):
            raise UsageError(
                "one run is on both sides",
                where=left.name if left.name == right.name else f"{left.name}, {right.name}",
                why="all values are equal, or those of one are the beginning of the other's", hint="give each run once",
            )  # fmt: skip
    if len(a) == len(b) == 1:
        return _single(a[0], b[0], level)
    return compare_groups(a, b, level)


# One run against one ------------------------------------------------------------------------------


def _single(a: Track, b: Track, level: float) -> Comparison:
    found = [
        Finding(
            "one-run-a-side", "warning", "one run on either side",
            "the intervals hold the noise of these two runs, not what other seeds would have given",
            "compare groups of seeds",
        )
    ]  # fmt: skip
    differences = [_final_of_pair(a, b, level)]
    if a.fit is not None and b.fit is not None:
        differences += [_ceilings(a, b, level), _at_equal_entropy(a, b, level)]
    spent = [spent_entropy(t) for t in (a, b)]
    differences.append(
        Difference(
            "entropy spent", spent[0], spent[1], spent[1] - spent[0], None, float("nan"), "validations", 1
        )
    )
    return Comparison(tuple(differences), worst_first(found))


def _final_of_pair(a: Track, b: Track, level: float) -> Difference:
    """Difference at common steps, averaged over the last quarter; its wander is measured over the last half."""
    step, at_a, at_b = np.intersect1d(a.step, b.step, return_indices=True)
    if len(step) == 0:
        raise DataError(
            "the two runs have no step in common", where=f"{a.name}, {b.name}",
            why="validations of one step are compared, so that what they share cancels",
            hint="validate both at the same steps",
        )  # fmt: skip
    r_a, r_b = a.performance[at_a], b.performance[at_b]
    last = step >= share_begins(step[0], step[-1], FINAL_SHARE)
    mean_a, mean_b = float(r_a[last].mean()), float(r_b[last].mean())
    used = step >= share_begins(step[0], step[-1], _NOISE_SHARE)
    if used.sum() < _LEAST:
        used = np.arange(len(step)) >= len(step) - _LEAST
    n = int(used.sum())
    if n < 3:
        return Difference("final", mean_a, mean_b, mean_b - mean_a, None, float("nan"), "validations", n)
    d, t = (r_b - r_a)[used], step[used]
    post = careful(t, t, d).posterior
    centre = np.array([float(step[last].mean())])
    interval = post.interval(centre, level)
    mean, scale = post.at(centre, measured=False)
    below = float(mixture_cdf(np.zeros(1), post.weight, mean, scale, post.df)[0])
    # Where the difference never varies nothing is left to be distributed.
    p = float(np.clip(2 * min(below, 1 - below), 0.0, 1.0)) if np.ptp(d) > 0 else float(not d.any())
    return Difference(
        "final", mean_a, mean_b, float(post.weight @ mean[:, 0]),
        Interval(float(interval[0][0]), float(interval[1][0]), level), p, "validations", n,
    )  # fmt: skip


def _ceilings(a: Track, b: Track, level: float) -> Difference:
    assert a.fit is not None and b.fit is not None
    return _of_fits("ceiling", a, b, 0.0, level)


def _at_equal_entropy(a: Track, b: Track, level: float) -> Difference:
    """At the lowest entropy that both have reached: who bought more performance for what was spent."""
    assert a.fit is not None and b.fit is not None
    entropy = max(a.fit.entropy_range[0], b.fit.entropy_range[0])
    return _of_fits("at equal entropy", a, b, entropy, level)


def _of_fits(quantity: str, a: Track, b: Track, entropy: float, level: float) -> Difference:
    """Difference of two fitted lines at an entropy, with what their residuals share taken out."""
    from scipy.special import stdtr, stdtrit

    assert a.fit is not None and b.fit is not None
    x = float(np.exp(entropy))
    values, variances = [], []
    for fit in (a.fit, b.fit):
        c = np.array([-x, 1.0])
        values.append(float(fit.b - fit.a * x))
        variances.append(float(c @ fit.covariance @ c))
    shared = shared_correlation(a.fit, b.fit, x)
    variance = variances[0] + variances[1] - 2.0 * shared * float(np.sqrt(variances[0] * variances[1]))
    n = min(a.fit.n, b.fit.n)
    df = max(n - 2, 1)
    difference = values[1] - values[0]
    if not np.isfinite(variance):
        return Difference(quantity, values[0], values[1], difference, None, float("nan"), "fits", n)
    se = float(np.sqrt(max(variance, 0.0)))
    half = float(stdtrit(df, 0.5 * (1 + level))) * se
    p = 2.0 * float(stdtr(df, -abs(difference) / se)) if se > 0 else float(difference == 0)
    return Difference(
        quantity,
        values[0],
        values[1],
        difference,
        Interval(difference - half, difference + half, level),
        p,
        "fits",
        n,
    )


def shared_correlation(a: Fit, b: Fit, x: float = 1.0) -> float:
    """Correlation of two lines' values at x that comes from what their residuals share, step by step.

    A line's value is a weighted sum of its scores. The correlation of the residuals at common steps, drawn towards
    zero by as many pseudo-pairs as a line has coefficients, is carried through these weights. Never below zero: noise
    that happens to run against each other is no reason for a wider interval than that of independent runs, nor one
    for a narrower.

    Returns
    -------
    float
        In [0, 1).
    """
    step, at_a, at_b = np.intersect1d(a.points.step, b.points.step, return_indices=True)
    if len(step) < 4:
        return 0.0
    e_a, e_b = _residual(a)[at_a], _residual(b)[at_b]
    power = float(np.sqrt((e_a @ e_a) * (e_b @ e_b)))
    if power == 0:
        return 0.0
    correlation = max(float(e_a @ e_b) / power, 0.0) * (len(step) - 2) / len(step)
    w_a, w_b = _weights(a, x), _weights(b, x)
    overlap = float(w_a[at_a] @ w_b[at_b]) / float(np.sqrt((w_a @ w_a) * (w_b @ w_b)))
    return float(np.clip(correlation * overlap, 0.0, 0.99))


def _residual(fit: Fit) -> np.ndarray:
    p = fit.points
    return p.performance - (fit.b - fit.a * np.exp(p.entropy))


def _weights(fit: Fit, x: float) -> np.ndarray:
    """Weights of the scores in the least-squares line's value at x."""
    xs = np.exp(fit.points.entropy)
    u = xs - xs.mean()
    return 1.0 / len(xs) + (x - xs.mean()) * u / float(u @ u)
