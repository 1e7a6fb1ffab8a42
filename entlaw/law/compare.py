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
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from entlaw.errors import DataError, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.law.noise import careful
from entlaw.law.posterior import mixture_cdf
from entlaw.law.result import Result
from entlaw.law.shapes import Fit, Interval
from entlaw.points import Points, is_same_run

Unit = Literal["validations", "paired runs", "runs", "runs of one side", "fits"]

# "Final" is the mean over this last share of the common steps.
FINAL_SHARE = 0.25
# Its noise is measured over this last share: a quarter of ten validations cannot show how they wander.
_NOISE_SHARE = 0.5
_LEAST = 5
_SEED_KEY = re.compile(r"(^|[._/])(seed|data_seed|random_seed)$", re.I)
_SEED_NAME = re.compile(r"(?:seed|_s|-s|rl|run)[_-]?(\d+)$", re.I)


@dataclass(frozen=True, eq=False)
class Track:
    """One run as a comparison sees it.

    Attributes
    ----------
    points : Points
    seed : str or None
        What pairs it with a run of the other side.
    fit : Fit or None
        None where nothing can be fitted: then only final performance is compared.
    """

    points: Points
    seed: str | None
    fit: Fit | None

    def __repr__(self) -> str:
        return f"<Track: {self.points!r}>"

    @property
    def name(self) -> str:
        """Of the run."""
        return self.points.name

    @property
    def spent_entropy(self) -> float:
        """Entropy at the first point less that at the last, nats/token."""
        return float(self.points.entropy[0] - self.points.entropy[-1])

    def final_mean(self, end: float) -> float:
        """Mean score over the last quarter of the steps up to ``end``."""
        step = self.points.step
        inside = (step <= end) & (step >= _from(step[0], end, FINAL_SHARE))
        return float(self.points.score[inside].mean()) if inside.any() else float("nan")


def track_of(result: Result, *, paired: bool = True) -> Track:
    """A run as a comparison sees it; a refused law has no ceiling to compare.

    Parameters
    ----------
    result : Result
    paired : bool
        Whether its seed pairs it with a run of the other side.
    """
    config = {} if result.run is None else result.run.config
    return Track(result.points, seed_of(config, result.name) if paired else None, result.law)


def seed_of(config: Mapping[str, Any], name: str) -> str | None:
    """The seed that pairs a run: from its configuration where all seeds in it agree, else from the end of its name."""
    if "seed" in config:
        return str(config["seed"])
    seeds = {str(v) for k, v in config.items() if _SEED_KEY.search(k) and isinstance(v, (int, str))}
    if len(seeds) == 1:
        return seeds.pop()
    match = _SEED_NAME.search(name)
    return match.group(1) if match else None


@dataclass(frozen=True)
class Difference:
    """B less A in one quantity.

    Attributes
    ----------
    quantity : {"final", "ceiling", "at equal entropy", "entropy spent"}
    a, b : float
        The sides' values (fractions; entropy in nats/token).
    difference : float
    interval : Interval or None
        None where nothing tells how sure it is.
    p_value : float
        Two-sided, of no difference; NaN without an interval.
    unit : str
        What was counted as independent: validations (of one run a side), fits, or runs.
    n : int
        How many.
    """

    quantity: str
    a: float
    b: float
    difference: float
    interval: Interval | None
    p_value: float
    unit: Unit
    n: int

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` (B; of the entropy spent ``more`` or ``less``), ``noise``, or ``cannot tell``."""
        if self.interval is None or not np.isfinite([self.interval.lo, self.interval.hi]).all():
            return "cannot tell"
        up, down = ("more", "less") if self.quantity == "entropy spent" else ("better", "worse")
        return up if self.interval.lo > 0 else down if self.interval.hi < 0 else "noise"


@dataclass(frozen=True)
class Comparison:
    """Differences of two sides, and what to bear in mind."""

    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return f"<Comparison: B is {', '.join(f'{d.verdict} ({d.quantity})' for d in self.differences)}>"

    def to_frame(self) -> pd.DataFrame:
        """One row a quantity, indexed by it."""
        rows = [
            {
                "a": d.a,
                "b": d.b,
                "difference": d.difference,
                "lo": d.interval.lo if d.interval else float("nan"),
                "hi": d.interval.hi if d.interval else float("nan"),
                "p_value": d.p_value,
                "b_is": d.verdict,
                "n": d.n,
                "unit": d.unit,
            }
            for d in self.differences
        ]
        return pd.DataFrame(rows, index=pd.Index([d.quantity for d in self.differences], name="quantity"))


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
    a, in_a = _without_copies(a, "A")
    b, in_b = _without_copies(b, "B")
    for left, right in itertools.product(a, b):
        if is_same_run(left.points, right.points):
            raise UsageError(
                "one run is on both sides",
                where=left.name if left.name == right.name else f"{left.name}, {right.name}",
                why="all values are equal, or those of one are a part of the other's",
                hint="give each run once",
            )
    found = _single(a[0], b[0], level) if len(a) == len(b) == 1 else _groups(a, b, level)
    return replace(found, findings=worst_first((*in_a, *in_b, *found.findings)))


def _without_copies(side: Sequence[Track], label: str) -> tuple[list[Track], list[Finding]]:
    """The runs of one side, each once: copies have no spread, and would look like seeds that agree."""
    kept: list[Track] = []
    copies: list[str] = []
    for track in side:
        twin = next((one for one in kept if is_same_run(one.points, track.points)), None)
        if twin is None:
            kept.append(track)
        else:
            copies.append(track.name if track.name == twin.name else f"{track.name} (is {twin.name})")
    if not copies:
        return kept, []
    what = f"side {label} holds a run several times; left out: {', '.join(copies)}"
    why = "their values are equal: they are copies or parts of one run, not other seeds"
    return kept, [Finding("same-run", "warning", what, why, "give each run once", float(len(copies)))]


# One run against one ------------------------------------------------------------------------------


def _single(a: Track, b: Track, level: float) -> Comparison:
    found = [
        Finding(
            "one-run-a-side",
            "warning",
            "one run on either side",
            "the intervals hold the noise of these two runs, not what other seeds would have given",
            "compare groups of seeds",
        )
    ]
    differences = [_final_of_pair(a, b, level)]
    if a.fit is not None and b.fit is not None:
        differences += [_ceilings(a, b, level), _at_equal_entropy(a, b, level)]
    spent = a.spent_entropy, b.spent_entropy
    differences.append(
        Difference("entropy spent", *spent, spent[1] - spent[0], None, float("nan"), "validations", 1)
    )
    return Comparison(tuple(differences), worst_first(found))


def _final_of_pair(a: Track, b: Track, level: float) -> Difference:
    """Difference at common steps, averaged over the last quarter; its wander is measured over the last half."""
    step, at_a, at_b = np.intersect1d(a.points.step, b.points.step, return_indices=True)
    if len(step) == 0:
        raise DataError(
            "the two runs have no step in common",
            where=f"{a.name}, {b.name}",
            why="validations of one step are compared, so that what they share cancels",
            hint="validate both at the same steps",
        )
    r_a, r_b = a.points.score[at_a], b.points.score[at_b]
    last = step >= _from(step[0], step[-1], FINAL_SHARE)
    mean_a, mean_b = float(r_a[last].mean()), float(r_b[last].mean())
    used = step >= _from(step[0], step[-1], _NOISE_SHARE)
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
        "final",
        mean_a,
        mean_b,
        float(post.weight @ mean[:, 0]),
        Interval(float(interval[0][0]), float(interval[1][0]), level),
        p,
        "validations",
        n,
    )


def _from(first: float, last: float, share: float) -> float:
    return last - share * (last - first)


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
        values.append(float(fit.value_at(entropy)))
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
    e_a, e_b = a.residual[at_a], b.residual[at_b]
    power = float(np.sqrt((e_a @ e_a) * (e_b @ e_b)))
    if power == 0:
        return 0.0
    correlation = max(float(e_a @ e_b) / power, 0.0) * (len(step) - 2) / len(step)
    w_a, w_b = _weights(a, x), _weights(b, x)
    overlap = float(w_a[at_a] @ w_b[at_b]) / float(np.sqrt((w_a @ w_a) * (w_b @ w_b)))
    return float(np.clip(correlation * overlap, 0.0, 0.99))


def _weights(fit: Fit, x: float) -> np.ndarray:
    """Weights of the scores in the least-squares line's value at x."""
    xs = np.exp(fit.points.entropy)
    u = xs - xs.mean()
    return np.asarray(1.0 / len(xs) + (x - xs.mean()) * u / float(u @ u))


# Groups: the run is the unit -------------------------------------------------------------------------


def _groups(a: Sequence[Track], b: Sequence[Track], level: float) -> Comparison:
    """Two sides of which at least one has several runs."""
    pairs = _pairs(a, b)
    found = []
    if pairs is None:
        found.append(
            Finding(
                "not-paired",
                "info",
                "the runs of the two sides have no common seeds: compared as independent groups",
            )
        )
    if min(len(a), len(b)) == 1:
        found.append(
            Finding(
                "one-run-on-one-side",
                "warning",
                "one side is a single run",
                "how much its seed matters is taken from the other side",
                "add runs",
            )
        )
    end = min(float(t.points.step[-1]) for t in (*a, *b))
    if any(float(t.points.step[-1]) > end for t in (*a, *b)):
        found.append(
            Finding(
                "different-lengths", "info", f"final performance is that at step {end:g}, which all reached"
            )
        )
    if pairs is not None:
        a, b = [p[0] for p in pairs], [p[1] for p in pairs]

    def of_runs(quantity: str, value: Callable[[Track], float]) -> Difference:
        return _of_runs(quantity, [value(t) for t in a], [value(t) for t in b], pairs is not None, level)

    out = [of_runs("final", lambda t: t.final_mean(end))]
    fits = [t.fit for t in (*a, *b) if t.fit is not None]
    if len(fits) == len(a) + len(b):
        reached = max(fit.entropy_range[0] for fit in fits)
        for quantity, entropy in (("ceiling", 0.0), ("at equal entropy", reached)):
            values = [float(fit.value_at(entropy)) for fit in fits]
            out.append(_of_runs(quantity, values[: len(a)], values[len(a) :], pairs is not None, level))
    else:
        found.append(
            Finding(
                "no-fit", "warning", "a run without a fit: ceilings are not compared", "", "see `entlaw fit`"
            )
        )
    out.append(of_runs("entropy spent", lambda t: t.spent_entropy))
    return Comparison(tuple(out), worst_first(found))


def _pairs(a: Sequence[Track], b: Sequence[Track]) -> list[tuple[Track, Track]] | None:
    """Runs of equal seed, where every run of both sides has exactly one partner and there are two pairs or more."""
    by_seed = [{t.seed: t for t in side} for side in (a, b)]
    if None in by_seed[0] or len(a) < 2 or len(by_seed[0]) != len(a) or len(by_seed[1]) != len(b):
        return None
    if set(by_seed[0]) != set(by_seed[1]):
        return None
    return [(t, by_seed[1][t.seed]) for t in a]


def _of_runs(quantity: str, a: list[float], b: list[float], paired: bool, level: float) -> Difference:
    from scipy.special import stdtr, stdtrit

    x, y = np.array(a), np.array(b)
    difference = float(y.mean() - x.mean())
    unit: Unit
    if paired:
        d = y - x
        unit, n, df, se = "paired runs", len(d), float(len(d) - 1), float(d.std(ddof=1) / np.sqrt(len(d)))
    elif min(len(x), len(y)) == 1:
        many = x if len(x) > 1 else y
        unit, n, df = "runs of one side", len(many), float(len(many) - 1)
        se = float(many.std(ddof=1) * np.sqrt(1 / len(x) + 1 / len(y)))
    else:
        v = [float(s.var(ddof=1)) / len(s) for s in (x, y)]
        unit, n, se = "runs", len(x) + len(y), float(np.sqrt(sum(v)))
        bottom = v[0] ** 2 / (len(x) - 1) + v[1] ** 2 / (len(y) - 1)
        df = sum(v) ** 2 / bottom if bottom > 0 else float(n - 2)
    half = float(stdtrit(df, 0.5 * (1 + level))) * se
    p = 2.0 * float(stdtr(df, -abs(difference) / se)) if se > 0 else float(difference == 0)
    return Difference(
        quantity,
        float(x.mean()),
        float(y.mean()),
        difference,
        Interval(difference - half, difference + half, level),
        p,
        unit,
        n,
    )
