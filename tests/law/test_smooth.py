"""The smoother of H(t): removes noise, keeps steep starts, leaves clean and short logs alone, sees no later step."""

import numpy as np
import pytest

from entlaw.law.smooth import MAX_KNOTS, MIN_VALUES, block_means, smooth_entropy


def decay(t, tau=25.0):
    return 0.05 + 0.95 * np.exp(-t / tau)


@pytest.mark.parametrize("tau, sd", [(25.0, 0.05), (4.0, 0.03), (100.0, 0.1)])
def test_error_shrinks_and_the_reported_error_is_honest(tau, sd):
    t = np.arange(0.0, 37.0)
    raw, left, told, noise = [], [], [], []
    for seed in range(60):
        h = decay(t, tau) + sd * np.random.default_rng(seed).standard_normal(len(t))
        s = smooth_entropy(t, h, t, h)
        raw.append(np.mean((h - decay(t, tau)) ** 2))
        left.append(np.mean((s.entropy - decay(t, tau)) ** 2))
        told.append(np.mean(np.sum(s.error_factor**2, axis=1)))
        noise.append(s.noise_sd)
    assert np.mean(left) < 0.45 * np.mean(raw)
    assert np.median(noise) == pytest.approx(sd, rel=0.15)
    assert 0.5 < np.mean(told) / np.mean(left) < 2.0


def test_a_steep_start_is_not_smoothed_away():
    t = np.arange(0.0, 37.0)
    h = 0.05 + 2.0 * np.exp(-t / 2.5)
    noisy = h + 0.01 * np.random.default_rng(0).standard_normal(len(t))
    s = smooth_entropy(t, noisy, t, noisy)
    assert np.abs(s.entropy[:5] - h[:5]).max() < 0.03


def test_clean_short_and_constant_logs_are_left_alone():
    t = np.arange(0.0, 37.0)
    for step, h in (
        (t, decay(t)),
        (t[: MIN_VALUES - 1], decay(t)[: MIN_VALUES - 1] + 0.1),
        (t, np.full(37, 0.4)),
    ):
        s = smooth_entropy(step, h, step, h)
        assert not s.changed and s.entropy is h and s.error_factor.size == 0


def test_steps_outside_the_log_are_left_alone():
    t = np.arange(0.0, 20.0)
    h = decay(t) + 0.05 * np.random.default_rng(1).standard_normal(20)
    at = np.array([3.0, 25.0])
    s = smooth_entropy(t, h, at, np.array([0.7, 0.2]))
    assert not s.changed and s.entropy.tolist() == [0.7, 0.2]


def test_irregular_steps_and_reading_between_them():
    rng = np.random.default_rng(2)
    t = np.sort(rng.choice(np.arange(200.0), 60, replace=False))
    h = decay(t, 60.0) + 0.03 * rng.standard_normal(60)
    at = np.array([t[0], 0.5 * (t[10] + t[11]), t[-1]])
    s = smooth_entropy(t, h, at, np.interp(at, t, h))
    assert np.abs(s.entropy - decay(at, 60.0)).max() < 0.05


def test_a_straight_line_with_noise_becomes_nearly_the_least_squares_line():
    t = np.arange(0.0, 40.0)
    h = 1.0 - 0.01 * t + 0.05 * np.random.default_rng(3).standard_normal(40)
    s = smooth_entropy(t, h, t, h)
    line = np.polyval(np.polyfit(t, h, 1), t)
    assert np.abs(s.entropy - line).max() < 0.03


def test_the_unit_of_time_and_the_level_do_not_matter():
    t = np.arange(0.0, 37.0)
    h = decay(t) + 0.05 * np.random.default_rng(4).standard_normal(37)
    one = smooth_entropy(t, h, t, h)
    two = smooth_entropy(8 * t + 100, h, 8 * t + 100, h)
    np.testing.assert_allclose(one.entropy, two.entropy, atol=1e-9)
    three = smooth_entropy(t, h + 2.0, t, h + 2.0)
    np.testing.assert_allclose(one.entropy + 2.0, three.entropy, atol=1e-7)


def test_long_logs_are_averaged_first():
    rng = np.random.default_rng(5)
    t = np.arange(5000.0)
    h = decay(t, 900.0) + 0.1 * rng.standard_normal(5000)
    s = smooth_entropy(t, h, t[::100], h[::100])
    assert np.abs(s.entropy - decay(t[::100], 900.0)).max() < 0.04
    assert s.noise_sd == pytest.approx(0.1, rel=0.15) and s.error_factor.shape == (50, MAX_KNOTS)


def test_block_means_are_means_of_all_values():
    x = np.arange(23.0)
    count, (mean,) = block_means(5, x)
    assert count.sum() == 23 and count @ mean == pytest.approx(x.sum())
    assert np.ptp(count) <= 1
    count, (mean,) = block_means(23, x)
    assert (count == 1).all() and mean is x
