"""What is left to gain: consistent with the forecast it belongs to, and calibrated on the model's own kind of runs."""

import numpy as np
import pytest

from entlaw.law.growth import Gain, gain_until, in_time
from entlaw.law.posterior import Predictive, from_arcsine
from entlaw.points import Points


def run(seed, *, n=25, tau=30.0, growth=0.0, noise=0.01, wander=0.0):
    rng = np.random.default_rng(seed)
    t = 4.0 * np.arange(n)
    h = 0.1 + 0.9 * np.exp(-t / tau)
    r = 0.75 - 0.2 * np.exp(h) + growth * np.log1p(t / 20) + noise * rng.standard_normal(n)
    return Points.from_arrays(t, h, np.clip(r + wander * rng.standard_normal(n).cumsum(), 0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_level_and_gain_add_up_to_the_forecast(seed):
    """Median of the level now, plus the gain's, is the median of the level then."""
    history = run(seed, growth=0.05)
    gain = gain_until(history, 300.0)
    (then,) = in_time(history, np.array([300.0]), measured=False)
    z = np.arcsin(np.sqrt(gain.now)) + gain.change.median
    assert from_arcsine(np.array([z]))[0] == pytest.approx(then.median, abs=0.01)


def test_probabilities_fall_with_the_amount_and_end_at_one():
    gain = gain_until(run(0, growth=0.05), 300.0)
    p = [gain.above(x) for x in (-0.2, 0.0, 0.01, 0.05, 0.2, 1.0)]
    assert p == sorted(p, reverse=True) and p[0] > 0.9 and p[-1] == 0.0


def test_hardly_anything_is_gained_in_no_time_and_more_in_more():
    history = run(1, growth=0.05)
    near, far, farther = (gain_until(history, s).above(0.02) for s in (96.5, 200.0, 800.0))
    assert near < 0.2 < far < farther


def test_a_known_answer():
    """A level of 0.25 is pi/6 in the arcsine; 0.5 is pi/4: the change between them is pi/12."""
    sure = Predictive(np.ones(1), np.array([np.pi / 12]), np.array([1e-9]))
    gain = Gain(0.25, sure, True)
    assert gain.above(0.2499) == pytest.approx(1.0) and gain.above(0.2501) == pytest.approx(0.0)
    plain = Gain(3.0, Predictive(np.ones(1), np.array([0.5]), np.array([1e-9])), False)
    assert plain.above(0.49) == pytest.approx(1.0) and plain.above(0.51) == pytest.approx(0.0)


def test_where_runs_go_on_as_they_began_the_probabilities_hold():
    """Of simulated runs that grow or do not, about as many gain two points as the probabilities say; no side is sure
    of what does not come.
    """
    p, came = [], []
    for seed in range(120):
        growth = (0.0, 0.03, 0.08)[seed % 3]
        history = run(seed, growth=growth, tau=(15.0, 40.0)[seed % 2])
        t = np.array([96.0, 300.0])
        h = 0.1 + 0.9 * np.exp(-t / (15.0, 40.0)[seed % 2])
        level = 0.75 - 0.2 * np.exp(h) + growth * np.log1p(t / 20)
        p.append(gain_until(history, 300.0).above(0.02))
        came.append(level[1] - level[0] > 0.02)
    p, came = np.array(p), np.array(came)
    assert abs(p.mean() - came.mean()) < 0.15
    assert came[p > 0.8].mean() > 0.7 and came[p < 0.2].mean() < 0.3 if (p < 0.2).any() else True
    assert np.mean((p - came) ** 2) < 0.2  # a coin has 0.25
