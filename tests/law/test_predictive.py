"""Mixtures as forecasts: against sampling, closed forms and definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from entlaw.law.posterior import (
    LEVELS,
    Predictive,
    crps_of_quantiles,
    from_arcsine,
    to_arcsine,
)


def two(df=np.inf, **more):
    return Predictive(np.array([0.3, 0.7]), np.array([0.2, 0.5]), np.array([0.05, 0.2]), df, **more)


@pytest.mark.parametrize("df", [2.0, 6.0, np.inf])
def test_a_mixtures_quantiles_invert_its_distribution_function(df):
    p = np.array([0.01, 0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975, 0.99])
    forecast = two(df)
    assert forecast.cdf(forecast.quantile(p)) == pytest.approx(p, abs=1e-3)


def test_one_component_is_students_t():
    forecast = Predictive(np.ones(1), np.array([0.4]), np.array([0.1]), 5.0)
    assert forecast.quantile(LEVELS) == pytest.approx(stats.t(5, 0.4, 0.1).ppf(LEVELS), rel=1e-9)
    assert forecast.interval(0.8).width == pytest.approx(0.2 * stats.t(5).ppf(0.9), rel=1e-9)


def test_components_of_very_different_width_keep_the_narrow_ones_quantiles():
    forecast = Predictive(np.array([0.9, 0.1]), np.array([0.5, 0.5]), np.array([1e-4, 2.0]), 4.0)
    q = forecast.quantile(np.array([0.3, 0.5, 0.7]))
    # The narrow component holds nine tenths: its own quantiles, hardly moved.
    exact = 0.5 + 1e-4 * stats.t(4).ppf(np.array([0.25 / 0.9, 0.5, 0.65 / 0.9]))
    assert q == pytest.approx(exact, abs=2e-5)


def test_bounds_collect_the_probability_beyond_them():
    forecast = two(low=0.0, high=0.6)
    assert forecast.quantile(0.999) == 0.6
    assert forecast.cdf(0.6) == 1.0
    assert forecast.cdf(-1e-9) == 0.0
    assert forecast.cdf(0.59) == pytest.approx(float(two().cdf(0.59)))


def test_arcsine_components_are_those_of_the_transformed_share():
    forecast = Predictive(np.ones(1), np.array([0.7]), np.array([0.1]), np.inf, 0.0, 1.0, arcsine=True)
    share = np.sin(stats.norm(0.7, 0.1).ppf([0.1, 0.5, 0.9])) ** 2
    assert forecast.quantile(np.array([0.1, 0.5, 0.9])) == pytest.approx(share)
    assert forecast.cdf(share) == pytest.approx([0.1, 0.5, 0.9])


def test_the_score_is_the_integral_that_defines_it():
    forecast, seen = two(), 0.47
    below = integrate.quad(lambda y: float(forecast.cdf(y)) ** 2, -2, seen)[0]
    above = integrate.quad(lambda y: (1 - float(forecast.cdf(y))) ** 2, seen, 3)[0]
    assert forecast.crps(seen) == pytest.approx(below + above, rel=0.01)


def test_the_score_of_a_normal_has_a_closed_form():
    z = 0.8
    exact = 0.1 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert Predictive(np.ones(1), np.zeros(1), np.array([0.1])).crps(0.08) == pytest.approx(exact, rel=0.01)


def test_the_score_of_a_claim_without_spread_is_its_error():
    assert Predictive(np.ones(1), np.array([0.4]), np.zeros(1)).crps(0.55) == pytest.approx(0.15)


def test_the_truth_has_the_best_score_on_average():
    rng = np.random.default_rng(0)
    seen = 0.5 + 0.1 * rng.standard_normal(4000)
    scores = [
        np.mean(crps_of_quantiles(stats.norm(m, s).ppf(LEVELS)[None], seen))
        for m, s in [(0.5, 0.1), (0.5, 0.05), (0.5, 0.2), (0.45, 0.1)]
    ]
    assert np.argmin(scores) == 0


@settings(deadline=None, max_examples=50)
@given(st.floats(0.0, 1.0))
def test_the_arcsine_turns_back(share):
    assert from_arcsine(to_arcsine(np.array(share))) == pytest.approx(share, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(-3, 3), st.floats(1e-3, 2)), min_size=2, max_size=8),
    st.sampled_from([1.0, 3.0, 30.0]),
)
def test_quantiles_never_go_down(parts, df):
    w, m, s = np.array(parts).T
    q = Predictive(w / w.sum(), m, s, df).quantile(LEVELS)
    assert np.isfinite(q).all() and (np.diff(q) >= 0).all()
