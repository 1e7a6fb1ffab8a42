"""Forecasts: given an entropy, and at a step with the entropy forecast too."""

import numpy as np
import pytest

from entlaw.errors import DataError, UsageError
from entlaw.law.entropy_curve import entropy_curve
from entlaw.law.fit import fit_points
from entlaw.law.forecast import forecast_at_step, predict_at_entropy
from entlaw.points import Points
from tests.law.common import A, B, law_arrays


def log_of(seed=0, noise=0.01, last=36.0, tau=25.0):
    t = np.arange(0.0, last + 1)
    h = 0.05 + 0.95 * np.exp(-t / tau) + noise * np.random.default_rng(seed).standard_normal(len(t))
    return log_alone(t, h)


def log_alone(t, h):
    return Points.from_arrays([], [], [], log=(t, h))


def test_at_an_entropy_it_is_the_prediction_band():
    fit = fit_points(Points.from_arrays(*law_arrays(), answers=500))
    f = predict_at_entropy(fit, 0.1, 0.9)
    band = fit.prediction_at(np.array([0.1]), 0.9)
    assert (f.interval.lo, f.interval.hi) == pytest.approx((band.lo[0], band.hi[0]))
    assert f.kind == "at-entropy" and f.entropy == f.target == 0.1 and f.entropy_interval is None
    assert f.interval.lo < f.performance < f.interval.hi
    assert f.performance == pytest.approx(band.mean[0], abs=0.003)


def test_extrapolation_is_in_units_of_the_fitted_range():
    fit = fit_points(Points.from_arrays(*law_arrays()), method="paper")
    low, high = np.exp(fit.entropy_range)
    assert predict_at_entropy(fit, 0.5).extrapolation == 0.0
    assert predict_at_entropy(fit, 0.0).extrapolation == pytest.approx((low - 1) / (high - low))
    assert predict_at_entropy(fit, 2.0).extrapolation == pytest.approx((np.exp(2.0) - high) / (high - low))


def test_at_a_step_it_is_wider_than_given_the_entropy():
    step, h, r = law_arrays(noise=0.005)
    fit = fit_points(Points.from_arrays(step, h, r))
    for target in (60.0, 236.0):
        f = forecast_at_step(fit, target, log_of())
        given = predict_at_entropy(fit, f.entropy)
        assert f.entropy_interval.lo <= f.entropy <= f.entropy_interval.hi
        assert f.interval.width >= given.interval.width - 1e-9
        assert f.entropy_interval.lo >= 0.0


@pytest.mark.parametrize("target", [50.0, 100.0, 236.0])
def test_the_entropy_interval_holds_the_entropy_of_an_exponential_run(target):
    truth = 0.05 + 0.95 * np.exp(-target / 25.0)
    hits = []
    for seed in range(100):
        fit = fit_points(Points.from_arrays(*law_arrays(noise=0.01, seed=seed)))
        f = forecast_at_step(fit, target, log_of(seed, 0.03))
        hits.append(f.entropy_interval.lo <= truth <= f.entropy_interval.hi)
    assert np.mean(hits) >= 0.85


def test_the_interval_at_a_step_covers_the_next_measurement():
    hits = []
    for seed in range(120):
        rng = np.random.default_rng(1000 + seed)
        step, _, _ = law_arrays()
        log = log_of(seed, 0.02)
        r = rng.binomial(500, B - A * np.exp(0.05 + 0.95 * np.exp(-step / 25))) / 500
        fit = fit_points(
            Points.from_arrays(
                step, log.log_entropy[step.astype(int)], r, log=(log.log_step, log.log_entropy), answers=500
            )
        )
        f = forecast_at_step(fit, 100.0, log)
        got = rng.binomial(500, B - A * np.exp(0.05 + 0.95 * np.exp(-4.0))) / 500
        hits.append(f.interval.lo <= got <= f.interval.hi)
    assert np.mean(hits) >= 0.9


def test_nothing_after_the_window_is_used():
    fit = fit_points(Points.from_arrays(*law_arrays(noise=0.01)))
    log = log_of(last=100.0)
    changed = log_alone(log.log_step, np.where(log.log_step > 36, 5.0, log.log_entropy))
    assert forecast_at_step(fit, 200.0, log) == forecast_at_step(fit, 200.0, changed)
    assert forecast_at_step(fit, 200.0, log, until_step=100.0) != forecast_at_step(fit, 200.0, log)


def test_power_law_decay_is_followed_too():
    t = np.arange(0.0, 37.0)
    h = 1.0 / (1.0 + t / 12.0)
    weight, mean, scale, _ = entropy_curve(t, h + 0.005 * np.random.default_rng(0).standard_normal(37), 100.0)
    assert weight @ mean == pytest.approx(1.0 / (1.0 + 100.0 / 12.0), abs=0.06)
    assert weight.sum() == pytest.approx(1.0) and np.all(scale > 0)


def test_going_further_is_less_sure():
    step, h, r = law_arrays(noise=0.01, n=10, tau=60.0)
    fit = fit_points(Points.from_arrays(step, h, r))
    log = log_of(0, 0.03, tau=60.0)
    widths = [forecast_at_step(fit, s, log).entropy_interval.width for s in (37.0, 80.0, 160.0)]
    assert widths[0] < widths[1] < widths[2]


def test_long_logs_and_steps_inside_or_before_the_log():
    fit = fit_points(Points.from_arrays(*law_arrays(noise=0.01)), until_step=None)
    t = np.arange(5000.0)
    log = log_alone(t, 0.05 + 0.95 * np.exp(-t / 800))
    for target in (-10.0, 0.0, 2500.0, 20_000.0):
        f = forecast_at_step(fit, target, log)
        assert np.isfinite([f.performance, f.interval.lo, f.interval.hi, f.entropy]).all()


@pytest.mark.parametrize("entropy", [-0.1, np.nan, np.inf, 1e4])
def test_impossible_entropies(entropy):
    with pytest.raises(UsageError):
        predict_at_entropy(fit_points(Points.from_arrays(*law_arrays())), entropy)


def test_impossible_steps_levels_and_short_logs():
    fit = fit_points(Points.from_arrays(*law_arrays()))
    with pytest.raises(UsageError):
        forecast_at_step(fit, np.nan, log_of())
    with pytest.raises(UsageError):
        forecast_at_step(fit, 100.0, log_of(), 1.5)
    with pytest.raises(DataError) as caught:
        forecast_at_step(fit, 100.0, log_alone([0.0, 1.0, 2.0], [1.0, 0.9, 0.8]))
    assert caught.value.exit_code == 3 and caught.value.hint


def test_a_misfit_term_widens_with_distance():
    fit = fit_points(Points.from_arrays(*law_arrays(noise=0.01)))
    wide = fit.posterior.with_misfit(0.05)
    at = np.array([0.0, 0.5])
    plus = wide.prediction_at(at, 0.95).hi - fit.posterior.prediction_at(at, 0.95).hi
    assert np.all(plus > 0) and fit.posterior.misfit == 0.0
