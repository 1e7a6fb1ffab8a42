"""The growth model: against brute-force Gaussian conditioning, its own prior, and what must not change an
answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.law.growth import LONGEST, PRIOR, at_entropy, in_time
from entlaw.law.posterior import LEVELS, from_arcsine, to_arcsine
from entlaw.points import Points

from .common import law_arrays

ONE = replace(PRIOR, middles=(0.4,), powers=(1.0,), wander=(0.3,), surprise=(0.0, 1.0))


def made(n=15, noise=0.01, seed=0, **more):
    return Points.from_arrays(*law_arrays(n=n, noise=noise, seed=seed, **more))


def test_one_shape_and_one_size_of_the_walk_is_gaussian_conditioning():
    """Everything again with dense matrices: prior covariance of the data and the target, then the normal
    formulas."""
    h, at_step, at_h = made(), 120.0, 0.1
    forecast = in_time(h, np.array([at_step]), prior=ONE, entropy=[np.array([at_h])])[0]

    z, n, now = to_arcsine(h.score), h.n, h.step[-1]
    u = np.append(np.maximum(h.step / now, 1e-4), at_step / now)
    x = np.append(np.exp(h.entropy), np.exp(at_h))
    here = x[:n][-(n // 5) :].mean()
    g = 1 / (1 + 0.4 / u)
    columns = np.stack([np.ones(n + 1), g - 1 / 1.4, here - x], axis=1)
    walk = np.log(u + 0.1) - np.log(0.1)
    guess = (n * 0.5 * np.median(np.diff(z) ** 2) / 0.4549 + 0.03**2) / (n + 1)
    mean = np.array([0.7, 0.15, 0.1])
    coefficient = np.diag(np.array([1.0, 0.4, 0.2]) ** 2 / guess)  # in units of the noise's variance
    v = columns @ coefficient @ columns.T + 0.3 * np.minimum(walk[:, None], walk) + np.eye(n + 1)
    prior_mean = columns @ mean
    gain = v[n, :n] @ np.linalg.inv(v[:n, :n])
    off = z - prior_mean[:n]
    centre = prior_mean[n] + gain @ off
    rss = off @ np.linalg.solve(v[:n, :n], off)
    variance = (rss + 0.03**2) / (n + 1) * (v[n, n] - gain @ v[:n, n])

    assert forecast.mean == pytest.approx(centre, abs=1e-9)
    assert forecast.scale == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert forecast.df == n + 1


def test_shapes_are_weighed_by_their_marginal_likelihood():
    h = made(20)
    two = replace(ONE, middles=(0.05, 3.0))
    parts = [in_time(h, np.array([200.0]), prior=replace(ONE, middles=(m,)))[0] for m in two.middles]
    both = in_time(h, np.array([200.0]), prior=two)[0]
    means = np.array([p.mean[0] for p in parts])
    # With what an independent density of the data says about each shape:
    weight = []
    for m in two.middles:
        u = np.maximum(h.step / h.step[-1], 1e-4)
        x = np.exp(h.entropy)
        columns = np.stack([np.ones(20), 1 / (1 + m / u) - 1 / (1 + m), x[-4:].mean() - x], axis=1)
        z = to_arcsine(h.score)
        guess = (20 * 0.5 * np.median(np.diff(z) ** 2) / 0.4549 + 0.03**2) / 21
        walk = np.log(u + 0.1) - np.log(0.1)
        v = columns @ np.diag(np.array([1.0, 0.4, 0.2]) ** 2 / guess) @ columns.T
        v = v + 0.3 * np.minimum(walk[:, None], walk) + np.eye(20)
        off = z - columns @ np.array([0.7, 0.15, 0.1])
        q = off @ np.linalg.solve(v, off) + 0.03**2
        weight.append(-0.5 * np.linalg.slogdet(v)[1] - 0.5 * 21 * np.log(q))
    w = np.exp(np.array(weight) - max(weight))
    w /= w.sum()
    assert len(both.mean) == 2 and 0.05 < w[0] < 0.95
    order = [int(np.argmin(abs(both.mean - m))) for m in means]
    assert both.weight[order] == pytest.approx(w, abs=1e-6)


def test_its_own_prior_is_covered_as_promised():
    """Runs drawn from the model: the intervals hold what they say, up to the guess of the noise's size in the
    prior."""
    rng = np.random.default_rng(11)
    prior = replace(PRIOR, surprise=(0.0, 1.0))
    inside = np.zeros(3)
    runs = 300
    t = np.arange(0.0, 60.0, 3.0)
    at = 150.0
    for _ in range(runs):
        entropy = 0.1 + 0.8 * np.exp(-np.append(t, at) / 20)
        u = np.maximum(np.append(t, at) / t[-1], 1e-4)
        noise = 0.03 * np.sqrt(1.0 / rng.gamma(3.0, 1 / 3.0))
        ratio = rng.choice(prior.wander)
        walk = np.log(u + prior.knee) - np.log(prior.knee)
        steps = np.diff(np.concatenate([[0.0], walk])).clip(0)
        wander = np.cumsum(noise * np.sqrt(ratio * steps) * rng.standard_normal(len(u)))
        g = 1 / (1 + (rng.choice(prior.middles) / u) ** rng.choice(prior.powers))
        x = np.exp(entropy)
        z = rng.normal(0.6, 0.15) + rng.normal(*prior.growth) * g - rng.normal(*prior.law) * (x - x[-1])
        z = z + wander + noise * rng.standard_normal(len(u))
        z = np.clip(z, 0.02, 1.55)
        r = from_arcsine(z)
        h = Points.from_arrays(t, entropy[:-1], r[:-1])
        q = in_time(h, np.array([at]), prior=prior, entropy=[entropy[-1:]])[0]
        p = float(q.cdf(float(r[-1])))
        inside += [abs(p - 0.5) <= 0.25, abs(p - 0.5) <= 0.4, abs(p - 0.5) <= 0.475]
    error = np.sqrt(np.array([0.25, 0.16, 0.0475]) / runs)
    assert np.all(np.abs(inside / runs - [0.5, 0.8, 0.95]) < 3 * error + 0.03)


def test_a_constant_law_is_continued():
    """Much data, no noise to speak of, the entropy given: the law's own value."""
    h = Points.from_arrays(*law_arrays(n=120, every=1.0, noise=0.002, seed=3, tau=40.0))
    told = 0.85 - 0.25 * np.exp(0.05)
    i = in_time(h, np.array([240.0]), entropy=[np.array([0.05])])[0].interval(0.8)
    assert i.lo < told < i.hi and i.width < 0.12


def test_later_is_less_sure():
    h = made(20, noise=0.02)
    widths = [p.interval(0.8).width for p in in_time(h, np.array([80.0, 160.0, 600.0]))]
    assert widths == sorted(widths)


def test_known_answers_narrow_what_a_level_may_be():
    t, entropy, r = law_arrays(n=12, noise=0.004)
    some, many = (Points.from_arrays(t, entropy, r, answers=a) for a in (100.0, 10000.0))
    a, b = (in_time(h, np.array([60.0]))[0].interval(0.8).width for h in (some, many))
    assert b < a


def test_one_call_for_many_steps_is_as_many_calls():
    h = made(30)
    steps = np.array([130.0, 200.0, 500.0])
    together = [float(p.quantile(0.9)) for p in in_time(h, steps)]
    alone = [float(in_time(h, np.array([s]))[0].quantile(0.9)) for s in steps]
    assert together == pytest.approx(alone, abs=1e-6)


def test_long_histories_are_averaged_without_moving_the_answer_much():
    dense = Points.from_arrays(*law_arrays(n=400, every=0.25, noise=0.02, seed=5))
    sparse = Points.from_arrays(*law_arrays(n=100, every=1.0, noise=0.01, seed=6))
    a, b = (in_time(h, np.array([200.0]))[0].median for h in (dense, sparse))
    assert a == pytest.approx(b, abs=0.03)


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-3, 1e4), st.integers(5, 60), st.integers(0, 1000))
def test_the_unit_of_time_does_not_matter(factor, n, seed):
    t, entropy, r = law_arrays(n=n, seed=seed)
    a = in_time(Points.from_arrays(t, entropy, r), np.array([3.0 * t[-1]]))[0]
    b = in_time(Points.from_arrays(t * factor, entropy, r), np.array([3.0 * t[-1] * factor]))[0]
    assert a.quantile(LEVELS) == pytest.approx(b.quantile(LEVELS), abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.floats(2.0, 1e4), st.integers(0, 1000))
def test_the_unit_of_a_reward_does_not_matter(factor, seed):
    t, entropy, r = law_arrays(n=12, seed=seed)
    a = in_time(Points.from_arrays(t, entropy, 3.0 * r), np.array([100.0]))[0]
    b = in_time(Points.from_arrays(t, entropy, 3.0 * factor * r), np.array([100.0]))[0]
    assert a.quantile(LEVELS) * factor == pytest.approx(b.quantile(LEVELS), rel=1e-4, abs=1e-3 * factor)


def test_a_given_entropy_is_met_when_it_is_forecast():
    h = Points.from_arrays(*law_arrays(n=20, every=2.0, noise=0.005, tau=40.0))
    forecast, step = at_entropy(h, 0.2)
    assert 0.05 + 0.95 * np.exp(-step / 40) == pytest.approx(0.2, abs=0.06)
    assert forecast.interval(0.8).lo < 0.85 - 0.25 * np.exp(0.2) < forecast.interval(0.8).hi
    assert at_entropy(h, 0.0)[1] == pytest.approx(LONGEST * h.step[-1])


def test_the_level_is_surer_than_its_measurement():
    h = made(15, noise=0.03)
    level, score = (at_entropy(h, 0.1, measured=m)[0].interval(0.8).width for m in (False, True))
    assert level < score
