"""Differences of runs: against scipy's t tests, and by simulation with known truth and shared test noise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from entlaw.errors import DataError, UsageError
from entlaw.law.compare import Track, compare, shared_correlation
from entlaw.law.fit import fit_points
from entlaw.points import Points


def track(
    seed,
    *,
    name="run",
    a=0.25,
    b=0.85,
    tau=25.0,
    n=31,
    every=4,
    shared=None,
    white=0.01,
    wander=0.008,
    rho=0.6,
):
    """A run that obeys the law, with an AR(1) wander, white noise, and noise it shares with others."""
    rng = np.random.default_rng(seed)
    step = every * np.arange(n, dtype=float)
    entropy = 0.05 + 0.95 * np.exp(-step / tau)
    ar = np.zeros(n)
    ar[0] = wander * rng.standard_normal()
    for i in range(1, n):
        ar[i] = rho * ar[i - 1] + wander * np.sqrt(1 - rho**2) * rng.standard_normal()
    score = b - a * np.exp(entropy) + ar + white * rng.standard_normal(n) + (0 if shared is None else shared)
    points = Points.from_arrays(step, entropy, score, name=name)
    return Track(points, str(seed), fit_points(points, until_step=None))


def changed(track, name, seed=None, fit=None, **columns):
    """A track of other points."""
    return Track(replace(track.points, name=name, **columns), seed, fit)


def of(comparison, quantity):
    return next(d for d in comparison.differences if d.quantity == quantity)


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_one_against_one_covers_and_seldom_cries_wolf(shift):
    hits = {"final": 0, "ceiling": 0, "at equal entropy": 0}
    n = 120
    for i in range(n):
        rng = np.random.default_rng(10**6 + i)
        shared = 0.02 * rng.standard_normal(31)  # redrawn test problems, the same for both
        found = compare([track(2 * i, shared=shared)], [track(2 * i + 1, b=0.85 + shift, shared=shared)])
        for quantity in hits:
            interval = of(found, quantity).interval
            hits[quantity] += interval.lo <= shift <= interval.hi
    for quantity, count in hits.items():
        assert 0.90 <= count / n <= 1.0, (quantity, count / n)


def test_what_both_runs_share_cancels():
    """The interval of the difference must not grow with noise that moves both alike."""
    rng = np.random.default_rng(0)
    shared = 0.05 * rng.standard_normal(31)
    alone = compare([track(1, wander=0.0)], [track(2, wander=0.0)])
    together = compare([track(1, wander=0.0, shared=shared)], [track(2, wander=0.0, shared=shared)])
    assert of(together, "final").interval.width == pytest.approx(of(alone, "final").interval.width, rel=1e-9)
    apart = compare(
        [track(1, wander=0.0, shared=shared)], [track(2, wander=0.0, shared=0.05 * rng.standard_normal(31))]
    )
    assert of(together, "ceiling").interval.width < 0.6 * of(apart, "ceiling").interval.width


def test_shared_correlation_is_zero_without_common_steps_and_near_one_for_common_noise():
    rng = np.random.default_rng(1)
    shared = 0.05 * rng.standard_normal(31)
    one, two = (track(s, shared=shared, wander=0.0, white=0.001).fit for s in (1, 2))
    assert shared_correlation(one, two) > 0.85
    assert shared_correlation(track(1).fit, track(2, every=7).fit) < 0.5


def test_groups_are_the_t_tests_of_scipy():
    a = [track(s) for s in range(4)]
    b = [track(s + 10, b=0.87) for s in range(3)]
    found = of(compare(a, b), "ceiling")
    theirs = stats.ttest_ind([t.fit.ceiling for t in b], [t.fit.ceiling for t in a], equal_var=False)
    assert found.unit == "runs"
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    ci = theirs.confidence_interval(0.95)
    assert (found.interval.lo, found.interval.hi) == pytest.approx((ci.low, ci.high), rel=1e-9)


def test_runs_of_equal_seeds_are_paired():
    a = [track(s) for s in range(4)]
    b = [changed(t, "b", t.seed, t.fit, score=t.points.score + 0.01 + 0.001 * i) for i, t in enumerate(a)]
    found = of(compare(a, list(reversed(b))), "final")
    assert found.unit == "paired runs" and found.n == 4
    assert found.verdict == "better"
    theirs = stats.ttest_rel(*([t.points.score[-8:].mean() for t in side] for side in (b, a)))
    assert found.difference == pytest.approx(0.0115)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-6)


def test_turning_the_sides_around_turns_the_sign():
    one, two = [track(1)], [track(2, b=0.9)]
    there, back = compare(one, two), compare(two, one)
    for d in there.differences:
        other = of(back, d.quantity)
        assert other.difference == pytest.approx(-d.difference, abs=1e-12)
        if d.interval is not None:
            assert other.interval.lo == pytest.approx(-d.interval.hi, abs=1e-8)
    assert of(there, "final").verdict == "better" and of(back, "final").verdict == "worse"


@pytest.mark.parametrize("by, p, verdict", [(0.0, 1.0, "noise"), (0.25, 0.0, "better")])
def test_a_difference_without_noise_is_certain(by, p, verdict):
    one = track(1)
    score = np.round(one.points.score, 2)
    same = changed(one, "b", entropy=one.points.entropy + 0.1, score=score + by)
    rounded = changed(one, "a", score=score)
    found = of(compare([rounded], [same]), "final")
    assert found.p_value == pytest.approx(p, abs=1e-9) and found.verdict == verdict


def test_bad_calls():
    one = track(1)
    with pytest.raises(UsageError, match="both sides"):
        compare([one], [one])
    copies = {k: getattr(one.points, k).copy() for k in ("step", "entropy", "score")}
    copy = changed(one, "copy", "9", one.fit, **copies)
    with pytest.raises(UsageError, match="both sides") as caught:
        compare([track(2), one], [copy])
    assert one.name in caught.value.where and "copy" in caught.value.where
    earlier = Track(replace(one.points.until(one.points.step[8]), name="earlier"), "9", None)
    with pytest.raises(UsageError, match="both sides"):
        compare([one], [earlier])
    with pytest.raises(UsageError, match="at least one run"):
        compare([one], [])
    other = track(2)
    moved = changed(other, "moved", fit=other.fit, step=other.points.step + 0.5)
    with pytest.raises(DataError, match="no step in common"):
        compare([one], [moved])
    part = Track(replace(one.points.after(one.points.step[6]), name="part"), None, None)
    with pytest.raises(UsageError, match="both sides"):
        compare([one], [part])
    few = Track(replace(other.points.after(other.points.step[-3]), name="few"), None, None)
    assert of(compare([one], [few]), "final").verdict == "cannot tell"
