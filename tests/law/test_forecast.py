"""Forecasts: given an entropy, and at a step with the entropy forecast too."""

import numpy as np
import pytest

from entlaw.errors import DataError, UsageError
from entlaw.law.entropy_curve import entropy_curve
from entlaw.law.fit import fit_points
from entlaw.law.forecast import law_forecast
from entlaw.points import Points
from tests.law.common import A, B, law_arrays


def log_of(seed=0, noise=0.01, last=36.0, tau=25.0):
    t = np.arange(0.0, last + 1)
    h = 0.05 + 0.95 * np.exp(-t / tau) + noise * np.random.default_rng(seed).standard_normal(len(t))
    return t, h


def fitted(log=None, until_step=36.0, answers=None, **arrays):
    return fit_points(
        Points.from_arrays(*law_arrays(**arrays), log=log, answers=answers), until_step=until_step
    )


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("entropy", [0.0, 0.1, 0.7, 2.0])
def test_at_an_entropy_it_is_the_prediction_band(entropy, level):
    fit = fitted(answers=500)
    f = law_forecast(fit, entropy=entropy, level=level)
    band = fit.prediction_at(np.array([entropy]), level)
    assert (f.interval.lo, f.interval.hi) == pytest.approx((band.lo[0], band.hi[0]), abs=1e-9)
    assert f.model == "law" and f.entropy == entropy and f.step is None and f.entropy_interval is None
    assert (f.until_step, f.n) == (36.0, 10)
    assert f.interval.lo < f.median < f.interval.hi
    assert f.median == pytest.approx(band.mean[0], abs=0.003)


def test_extrapolation_is_in_units_of_the_fitted_range():
    fit = fit_points(Points.from_arrays(*law_arrays()), method="paper")
    low, high = np.exp(fit.entropy_range)
    beyond = [law_forecast(fit, entropy=h).extrapolation for h in (0.5, 0.0, 2.0)]
    assert beyond == pytest.approx(
        [0.0, (low - 1) / (high - low), (np.exp(2.0) - high) / (high - low)], abs=1e-12
    )


def test_at_a_step_it_is_wider_than_given_the_entropy():
    fit = fitted(log_of(), noise=0.005)
    for target in (60.0, 236.0):
        f = law_forecast(fit, step=target)
        given = law_forecast(fit, entropy=f.entropy)
        assert f.entropy_interval.lo <= f.entropy <= f.entropy_interval.hi
        assert f.interval.width >= given.interval.width - 1e-9
        assert f.entropy_interval.lo >= 0.0


@pytest.mark.parametrize("target", [50.0, 100.0, 236.0])
def test_the_entropy_interval_holds_the_entropy_of_an_exponential_run(target):
    truth = 0.05 + 0.95 * np.exp(-target / 25.0)
    hits = []
    for seed in range(100):
        f = law_forecast(fitted(log_of(seed, 0.03), noise=0.01, seed=seed), step=target)
        hits.append(f.entropy_interval.lo <= truth <= f.entropy_interval.hi)
    assert np.mean(hits) >= 0.85


def test_the_interval_at_a_step_covers_the_next_measurement():
    hits = []
    for seed in range(120):
        rng = np.random.default_rng(1000 + seed)
        step, _, _ = law_arrays()
        log_step, log_entropy = log_of(seed, 0.02)
        r = rng.binomial(500, B - A * np.exp(0.05 + 0.95 * np.exp(-step / 25))) / 500
        fit = fit_points(
            Points.from_arrays(
                step, log_entropy[step.astype(int)], r, log=(log_step, log_entropy), answers=500
            )
        )
        f = law_forecast(fit, step=100.0)
        got = rng.binomial(500, B - A * np.exp(0.05 + 0.95 * np.exp(-4.0))) / 500
        hits.append(f.interval.lo <= got <= f.interval.hi)
    assert np.mean(hits) >= 0.9


def test_nothing_after_the_window_is_used():
    step, h, r = law_arrays(noise=0.01, n=26)
    log_step, log_h = log_of(last=100.0)
    changed = Points.from_arrays(
        step,
        np.where(step > 36, 5.0, h),
        np.where(step > 36, 0.1, r),
        log=(log_step, np.where(log_step > 36, 5.0, log_h)),
    )
    plain = Points.from_arrays(step, h, r, log=(log_step, log_h))
    one, two = (law_forecast(fit_points(p), step=200.0) for p in (plain, changed))
    assert one.to_dict() == two.to_dict()
    assert law_forecast(fit_points(plain, until_step=100.0), step=200.0).to_dict() != one.to_dict()


def test_power_law_decay_is_followed_too():
    t = np.arange(0.0, 37.0)
    h = 1.0 / (1.0 + t / 12.0)
    weight, mean, scale, _ = entropy_curve(t, h + 0.005 * np.random.default_rng(0).standard_normal(37), 100.0)
    assert weight @ mean == pytest.approx(1.0 / (1.0 + 100.0 / 12.0), abs=0.06)
    assert weight.sum() == pytest.approx(1.0) and np.all(scale > 0)


def test_going_further_is_less_sure():
    fit = fitted(log_of(0, 0.03, tau=60.0), noise=0.01, n=10, tau=60.0)
    widths = [law_forecast(fit, step=s).entropy_interval.width for s in (37.0, 80.0, 160.0)]
    assert widths[0] < widths[1] < widths[2]


def test_long_logs_and_steps_inside_or_before_the_log():
    t = np.arange(5000.0)
    fit = fitted((t, 0.05 + 0.95 * np.exp(-t / 800)), None, noise=0.01)
    for target in (-10.0, 0.0, 2500.0, 20_000.0):
        f = law_forecast(fit, step=target)
        assert np.isfinite([f.median, f.interval.lo, f.interval.hi, f.entropy]).all()


@pytest.mark.parametrize("entropy", [-0.1, np.nan, np.inf, 1e4])
def test_impossible_entropies(entropy):
    with pytest.raises(UsageError):
        law_forecast(fitted(), entropy=entropy)


def test_impossible_steps_levels_and_short_logs():
    fit = fitted(log_of())
    with pytest.raises(UsageError):
        law_forecast(fit, step=np.nan)
    with pytest.raises(UsageError):
        law_forecast(fit, step=100.0, level=1.5)
    with pytest.raises(DataError) as caught:
        law_forecast(fitted(([0.0, 1.0, 2.0], [1.0, 0.9, 0.8])), step=100.0)
    assert caught.value.exit_code == 3 and caught.value.hint


def test_a_misfit_term_widens_with_distance():
    fit = fitted(noise=0.01)
    wide = fit.posterior.with_misfit(0.05)
    at = np.array([0.0, 0.5])
    plus = wide.prediction_at(at, 0.95).hi - fit.posterior.prediction_at(at, 0.95).hi
    assert np.all(plus > 0) and fit.posterior.misfit == 0.0
