"""Comparing groups of runs: the run is the unit. Paired t where the seeds are the same, Welch's t otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from entlaw.findings import Finding, worst_first
from entlaw.law.compare_types import Comparison, Difference, Track, Unit, final_mean, spent_entropy
from entlaw.law.results import Interval


def compare_groups(a: Sequence[Track], b: Sequence[Track], level: float) -> Comparison:
    """Compare two sides of which at least one has several runs; see :func:`entlaw.law.compare.compare`."""
    pairs = _pairs(a, b)
    found = []
    if pairs is None:
        found.append(
            Finding(
                "not-paired", "info", "the runs of the two sides have no common seeds: compared as independent groups"
            )
        )  # fmt: skip
    if min(len(a), len(b)) == 1:
        found.append(
            Finding(
                "one-run-on-one-side", "warning", "one side is a single run",
                "how much its seed matters is taken from the other side", "add runs",
            )
        )  # fmt: skip
    end = min(float(t.step[-1]) for t in (*a, *b))
    if any(float(t.step[-1]) > end for t in (*a, *b)):
        found.append(
            Finding("different-lengths", "info", f"final performance is that at step {end:g}, which all reached")
        )  # fmt: skip
    if pairs is not None:
        a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    out = [
        _of_runs(
            "final",
            [final_mean(t, end) for t in a],
            [final_mean(t, end) for t in b],
            pairs is not None,
            level,
        )
    ]
    if all(t.fit is not None for t in (*a, *b)):
        fits_a, fits_b = [t.fit for t in a if t.fit], [t.fit for t in b if t.fit]
        reached = max(f.entropy_range[0] for f in (*fits_a, *fits_b))
        for quantity, x in (("ceiling", 1.0), ("at equal entropy", float(np.exp(reached)))):
            sides = [[f.b - f.a * x for f in fits] for fits in (fits_a, fits_b)]
            out.append(_of_runs(quantity, sides[0], sides[1], pairs is not None, level))
    else:
        found.append(
            Finding("no-fit", "warning", "a run without a fit: ceilings are not compared", "", "see `entlaw fit`")
        )  # fmt: skip
    out.append(
        _of_runs(
            "entropy spent",
            [spent_entropy(t) for t in a],
            [spent_entropy(t) for t in b],
            pairs is not None,
            level,
        )
    )
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
        quantity, float(x.mean()), float(y.mean()), difference,
        Interval(difference - half, difference + half, level), p, unit, n,
    )  # fmt: skip
