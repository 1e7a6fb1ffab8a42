"""Lines over model sizes: against statsmodels, against known truth by simulation, and on the paper's own curves."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.multivariate.manova import MANOVA
from statsmodels.stats.meta_analysis import combine_effects

from entlaw.errors import DataError, UsageError
from entlaw.law.meta import equal_coefficients, meta_regression
from entlaw.law.sizes import SizedFit, fit_sizes, forecast_size

# The paper's Qwen2.5 family on mathematics, read off its first figure (R in percent); sizes without embeddings.
PAPER = [
    (0.36e9, 4.36, 19.22),
    (1.31e9, 9.53, 34.99),
    (2.77e9, 17.54, 47.90),
    (6.53e9, 20.96, 59.62),
    (31e9, 23.57, 68.96),
]


def made(seed, sizes=(0.5e9, 1.5e9, 3e9, 7e9, 32e9), runs=2, tau=0.015, between=0.01, error=0.01, rho=0.95):
    """Runs whose a and b are lines in ln N, with the three layers of variation."""
    rng = np.random.default_rng(seed)
    covariance = error**2 * np.array([[1.0, rho], [rho, 1.0]])
    found = []
    for n in sizes:
        truth = np.array([0.02 + 0.05 * np.log(n / 1e8), 0.2 + 0.09 * np.log(n / 1e8)])
        of_size = truth + tau * rng.standard_normal(2)
        for j in range(runs):
            a, b = of_size + between * rng.standard_normal(2) + rng.multivariate_normal([0, 0], covariance)
            found.append(SizedFit(f"{n:g}-{j}", n, a, b, covariance))
    return found


def test_without_a_slope_it_is_statsmodels_meta_analysis():
    rng = np.random.default_rng(3)
    v = rng.uniform(0.5, 2.0, 9) ** 2
    y = 4.0 + 4.0 * rng.standard_normal(9) + np.sqrt(v) * rng.standard_normal(9)
    ours = meta_regression(y, v, np.ones((9, 1)))
    theirs = combine_effects(y, v, method_re="iterated", use_t=True, atol=1e-12)
    assert theirs.tau2 > 0
    assert ours.tau2 == pytest.approx(theirs.tau2, rel=1e-5)
    assert ours.beta[0] == pytest.approx(theirs.mean_effect_re, rel=1e-6)
    hartung_knapp = np.sqrt(theirs.var_hksj_re)
    # theirs keeps a scale below 1; at Paule and Mandel's tau^2 the scale is 1
    assert np.sqrt(ours.covariance[0, 0]) == pytest.approx(hartung_knapp, rel=1e-4)


def test_where_units_agree_it_is_weighted_least_squares():
    x = np.column_stack([np.ones(6), np.arange(6.0)])
    v = np.array([1.0, 4.0, 1.0, 9.0, 2.0, 1.0])
    y = x @ [2.0, 0.5] + 0.3 * np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    ours = meta_regression(y, v, x)
    theirs = sm.WLS(y, x, weights=1 / v).fit(cov_type="fixed scale")
    assert ours.tau2 == 0.0
    np.testing.assert_allclose(ours.beta, theirs.params, rtol=1e-9)
    np.testing.assert_allclose(ours.covariance, theirs.cov_params(), rtol=1e-9)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_units_of_measurement_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(6), np.sort(rng.uniform(0, 5, 6))])
    y, v = rng.standard_normal(6), rng.uniform(0.01, 0.5, 6)
    one = meta_regression(y, v, x)
    two = meta_regression(scale * y + shift, scale**2 * v, x)
    np.testing.assert_allclose(two.beta, scale * one.beta + [shift, 0], rtol=1e-6, atol=1e-8 * scale)
    np.testing.assert_allclose(two.covariance, scale**2 * one.covariance, rtol=1e-5)


def test_an_exact_line_is_found_exactly():
    fits = [
        SizedFit(str(n), n, 0.1 * np.log(n), 1 + 0.2 * np.log(n), np.zeros((2, 2)))
        for n in (1e6, 1e7, 1e8, 1e9)
    ]
    sizes = fit_sizes(fits, entropies=[0.5])
    assert sizes.lines["a"].slope == pytest.approx(0.1)
    assert sizes.lines["a"].intercept == pytest.approx(0.0, abs=1e-9)
    assert sizes.lines["ceiling"].intercept == pytest.approx(1.0)
    value, interval = forecast_size(sizes, 1e10).values["R(H=0.5)"]
    truth = 1 + (0.2 - 0.1 * np.exp(0.5)) * np.log(1e10)
    assert value == pytest.approx(truth)
    assert interval.lo == pytest.approx(truth, abs=1e-4) and interval.hi == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize(
    ("runs", "tau", "between"), [(1, 0.015, 0.0), (2, 0.015, 0.01), (3, 0.0, 0.02), (2, 0.0, 0.0)]
)
def test_intervals_hold_what_is_true_as_often_as_they_say(runs, tau, between):
    n, level = 300, 0.9
    slope = forecast = ceiling = 0
    for seed in range(n):
        fits = made(seed, runs=runs, tau=tau, between=between)
        sizes = fit_sizes(fits)
        interval = sizes.lines["a"].slope_interval(level)
        slope += interval.lo <= 0.05 <= interval.hi
        rng = np.random.default_rng(10**6 + seed)
        for quantity, (c0, c1) in {"b": (0.2, 0.09), "ceiling": (0.18, 0.04)}.items():
            spread = tau * (1.0 if quantity == "b" else np.sqrt(2))
            truth = c0 + c1 * np.log(70e9 / 1e8) + spread * rng.standard_normal()
            _, interval = sizes.lines[quantity].at(70e9, level)
            inside = interval.lo <= truth <= interval.hi
            forecast += inside if quantity == "b" else 0
            ceiling += inside if quantity == "ceiling" else 0
    for found in (slope, forecast, ceiling):
        assert found / n >= level - 0.04  # two standard errors are 0.035


def test_the_correlation_of_a_and_b_reaches_the_ceiling():
    """With errors of a and b that move together the ceiling is known much better than either."""
    alike = fit_sizes(made(1, rho=0.99, tau=0.0, between=0.0))
    apart = fit_sizes(made(1, rho=-0.99, tau=0.0, between=0.0))
    v = lambda s: float(s.lines["ceiling"].variance.mean())  # noqa: E731
    assert v(alike) < 0.02 * v(apart)


def test_the_papers_family_bends_and_its_largest_model_is_missed_by_five_points():
    fits = [SizedFit(f"{n:g}", n, a, b, np.diag([0.3, 0.3]) ** 2) for n, a, b in PAPER]
    sizes = fit_sizes(fits)
    ceiling = next(o for o in sizes.left_out if o.quantity == "ceiling")
    by_hand = np.polyval(
        np.polyfit(np.log([p[0] for p in PAPER[:4]]), [p[2] - p[1] for p in PAPER[:4]], 1), np.log(31e9)
    )
    assert ceiling.forecast == pytest.approx(by_hand, abs=0.4)  # weights are nearly equal
    assert ceiling.forecast - ceiling.found == pytest.approx(5.3, abs=0.8)
    assert not forecast_size(sizes, 1e15).trust
    assert {f.code for f in forecast_size(sizes, 1e15).findings} >= {"far-from-trained-sizes"}


def test_what_cannot_be_a_line_is_refused():
    two = [f for f in made(0) if f.parameters < 2e9]
    with pytest.raises(DataError, match="2 model sizes"):
        fit_sizes(two)
    bad = made(0)
    with pytest.raises(UsageError, match="no model size"):
        fit_sizes([*bad, SizedFit("x", -1.0, 0.1, 0.2, np.zeros((2, 2)))])
    with pytest.raises(UsageError, match="not finite"):
        fit_sizes([*bad, SizedFit("x", 1e9, 0.1, np.nan, np.zeros((2, 2)))])
    with pytest.raises(UsageError, match="no model size"):
        forecast_size(fit_sizes(bad), 0.0)


def test_a_bend_is_found():
    fits = [
        SizedFit(str(n), n, 0.1, 0.5 - 0.02 * np.log(n / 1e8) ** 2, 1e-6 * np.eye(2))
        for n in 10.0 ** np.arange(6, 12)
    ]
    assert "bent-over-sizes" in {f.code for f in fit_sizes(fits).findings}


def test_equality_is_the_wilks_test_of_statsmodels():
    rng = np.random.default_rng(0)
    group = ["grpo"] * 3 + ["rloo"] * 4 + ["ppo"] * 3
    shift = {"grpo": 0.0, "rloo": 0.8, "ppo": -0.3}
    y = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], len(group)) + np.array(
        [[shift[g], 0] for g in group]
    )
    ours = equal_coefficients(group, y[:, 0], y[:, 1])
    dummies = np.column_stack([np.ones(10), *(np.array(group) == g for g in ("rloo", "ppo"))]).astype(float)
    contrast = np.array([[0.0, 1, 0], [0, 0, 1]])
    table = MANOVA(y, dummies).mv_test([("groups", contrast)]).results["groups"]["stat"]
    wilks = table.loc["Wilks' lambda"]
    assert ours.wilks == pytest.approx(float(wilks["Value"]), rel=1e-8)
    assert ours.f == pytest.approx(float(wilks["F Value"]), rel=1e-8)
    assert ours.p_value == pytest.approx(float(wilks["Pr > F"]), rel=1e-6)


def test_equality_is_wrong_as_seldom_as_it_says():
    rng = np.random.default_rng(5)
    group = ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    p = []
    for _ in range(1500):
        y = rng.multivariate_normal([0.2, 0.7], [[1e-4, 1.8e-4], [1.8e-4, 4e-4]], 9)
        p.append(equal_coefficients(group, y[:, 0], y[:, 1]).p_value)
    for nominal in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) < nominal) == pytest.approx(nominal, abs=0.04)


def test_equality_says_when_it_cannot_tell():
    assert not equal_coefficients(["a", "b", "c"], [1, 2, 3], [1, 2, 3]).testable
    assert not equal_coefficients(["a", "a"], [1, 2], [1, 2]).testable


def test_equality_within_sizes_takes_the_sizes_out():
    """Statsmodels' two-way table: algorithm in size, against size alone."""
    rng = np.random.default_rng(2)
    size = np.repeat(["s", "m"], 6)
    group = ["grpo", "grpo", "grpo", "rloo", "rloo", "rloo"] * 2
    y = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 12) + 50.0 * (size == "m")[:, None]
    ours = equal_coefficients(group, y[:, 0], y[:, 1], within=size.tolist())
    cell = np.array([f"{s}{g}" for s, g in zip(size, group, strict=True)])
    x = np.column_stack([cell == c for c in ("sgrpo", "srloo", "mgrpo", "mrloo")]).astype(float)
    contrast = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    wilks = MANOVA(y, x).mv_test([("algorithm", contrast)]).results["algorithm"]["stat"].loc["Wilks' lambda"]
    assert ours.wilks == pytest.approx(float(wilks["Value"]), rel=1e-8)
    assert ours.p_value == pytest.approx(float(wilks["Pr > F"]), rel=1e-6)
    assert equal_coefficients(group, y[:, 0], y[:, 1]).wilks != pytest.approx(ours.wilks)
