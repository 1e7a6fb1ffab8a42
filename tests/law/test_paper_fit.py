"""The paper's method against other least-squares codes, certified values and algebra."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from entlaw.law import noise
from entlaw.law.fit import fit_points
from entlaw.points import Points
from tests.law.common import law_arrays

# NIST StRD, linear regression, "Norris": (y, x) and certified values.
NORRIS = np.fromstring(
    """0.1 0.2 338.8 337.4 118.1 118.2 888.0 884.6 9.2 10.1 228.1 226.5 668.5 666.3 998.5 996.3 449.1 448.6 778.9 777.0
    559.2 558.2 0.3 0.4 0.1 0.6 778.1 775.5 668.8 666.9 339.3 338.0 448.9 447.5 10.8 11.6 557.7 556.0 228.3 228.1
    998.0 995.8 888.8 887.6 119.6 120.2 0.3 0.3 0.6 0.3 557.6 556.8 339.3 339.1 888.0 887.2 998.5 999.0 778.9 779.0
    10.2 11.1 117.6 118.3 228.9 229.2 668.4 669.1 449.2 448.9 0.2 0.5""",
    sep=" ",
).reshape(-1, 2)


def test_certified_values_of_nist():
    post = noise.least_squares(NORRIS[:, 1], NORRIS[:, 0]).posterior
    assert len(NORRIS) == 36
    assert post.b == pytest.approx(-0.262323073774029, rel=1e-11)
    assert -post.a == pytest.approx(1.00211681802045, rel=1e-13)
    error = np.sqrt(np.diag(post.covariance()))
    assert error[0] == pytest.approx(0.429796848199937e-03, rel=1e-10)
    assert error[1] == pytest.approx(0.232818234301152, rel=1e-10)
    assert np.sqrt(post.nugget[0]) == pytest.approx(0.884796396144373, rel=1e-11)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_numpy_and_statsmodels(seed):
    t, h, r = law_arrays(n=9 + seed, noise=0.03, seed=seed)
    fit = fit_points(Points.from_arrays(t, h, r), method="paper", until_step=None)
    x = np.exp(h)
    (a, b), *_ = np.linalg.lstsq(np.column_stack([-x, np.ones_like(x)]), r, rcond=None)
    assert fit.a == pytest.approx(a, abs=1e-10) and fit.b == pytest.approx(b, abs=1e-10)
    ols = sm.OLS(r, np.column_stack([-x, np.ones_like(x)])).fit()
    np.testing.assert_allclose(fit.covariance, ols.cov_params(), rtol=1e-9, atol=1e-14)
    assert fit.r_squared == pytest.approx(ols.rsquared, abs=1e-12)
    assert fit.residual_sd == pytest.approx(np.sqrt(ols.scale), rel=1e-10)
    at = np.array([0.0, 0.3, 1.2])
    theirs = ols.get_prediction(np.column_stack([-np.exp(at), np.ones(3)])).summary_frame(alpha=0.1)
    for band, lo, hi in (
        (fit.line_at(at, 0.9), "mean_ci_lower", "mean_ci_upper"),
        (fit.prediction_at(at, 0.9), "obs_ci_lower", "obs_ci_upper"),
    ):
        np.testing.assert_allclose(band.lo, theirs[lo], atol=1e-9)
        np.testing.assert_allclose(band.hi, theirs[hi], atol=1e-9)
        np.testing.assert_allclose(band.mean, theirs["mean"], atol=1e-10)
    influence = ols.get_influence()
    np.testing.assert_allclose(fit.points.leverage, influence.hat_matrix_diag, atol=1e-10)
    full = fit_points(
        Points.from_arrays(t, h, r), method="paper", until_step=None, level=0.9
    ).ceiling_interval
    c = ols.t_test([[-1.0, 1.0]]).conf_int(alpha=0.1)[0]
    assert (full.lo, full.hi) == pytest.approx(tuple(c), abs=1e-9)


def test_leaving_a_point_out_equals_refitting_without_it():
    t, h, r = law_arrays(noise=0.03, seed=3)
    fit = fit_points(Points.from_arrays(t, h, r), method="paper")
    for i in range(len(t)):
        keep = np.arange(len(t)) != i
        again = fit_points(Points.from_arrays(t[keep], h[keep], r[keep]), method="paper")
        assert fit.points.ceiling_without[i] == pytest.approx(again.ceiling, abs=1e-10)


def test_the_curvature_p_value_is_the_t_test_of_an_added_square():
    t, h, r = law_arrays(n=14, noise=0.02, seed=5)
    x = np.exp(h)
    theirs = sm.OLS(r, np.column_stack([np.ones_like(x), x, x**2])).fit().pvalues[2]
    fit = fit_points(Points.from_arrays(t, h, r), method="paper", until_step=None)
    assert fit.noise["curvature_p"] == pytest.approx(theirs, rel=1e-7)


def test_only_the_window_counts_and_the_default_is_36_steps():
    t, h, r = law_arrays(n=20)
    fit = fit_points(Points.from_arrays(t, h, r), method="paper")
    assert fit.until_step == 36.0 and fit.n == 10 and fit.points.step.max() == 36.0
    assert fit_points(Points.from_arrays(t, h, r), method="paper", until_step=None).n == 20
    short = fit_points(Points.from_arrays(t[:10], h[:10], r[:10]), method="paper", until_step=None)
    assert (fit.a, fit.b) == (short.a, short.b)


def test_ceiling_is_b_minus_a_and_its_interval_is_student_t():
    t, h, r = law_arrays(seed=1)
    fit = fit_points(Points.from_arrays(t, h, r), method="paper")
    c = np.array([-1.0, 1.0])
    half = stats.t.ppf(0.975, 8) * np.sqrt(c @ fit.covariance @ c)
    assert fit.ceiling == fit.b - fit.a
    assert fit.ceiling_interval.hi - fit.ceiling == pytest.approx(half, rel=1e-8)
    assert fit.ceiling - fit.ceiling_interval.lo == pytest.approx(half, rel=1e-8)


def test_huge_entropies_do_not_lose_the_line():
    # A forced fit of a sequence sum: exp(120) squared overflows a naive sum of squares.
    t = np.arange(8.0)
    h = np.linspace(420.0, 400.0, 8)
    r = np.linspace(0.1, 0.2, 8)
    fit = fit_points(Points.from_arrays(t, h, r), method="paper")
    assert np.isfinite([fit.a, fit.b, fit.ceiling]).all() and fit.a > 0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(4, 40),
    st.floats(0.01, 100.0),
    st.floats(-50.0, 50.0),
    st.sampled_from(["paper", "careful"]),
)
def test_affine_change_of_r_changes_the_fit_alike(seed, n, c, d, method):
    t, h, r = law_arrays(n=n, noise=0.02, seed=seed)
    one = fit_points(Points.from_arrays(t, h, r), method=method, until_step=None)
    two = fit_points(Points.from_arrays(t, h, c * r + d), method=method, until_step=None)
    scale = c * one.ceiling_interval.width
    tight = {"abs": 1e-6 * scale + 1e-9 * (abs(d) + c)}
    assert two.a == pytest.approx(c * one.a, **tight)
    assert two.b == pytest.approx(c * one.b + d, **tight)
    assert two.ceiling_interval.lo == pytest.approx(c * one.ceiling_interval.lo + d, **tight)
    assert two.ceiling_interval.hi == pytest.approx(c * one.ceiling_interval.hi + d, **tight)
    assert two.r_squared == pytest.approx(one.r_squared, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 25), st.sampled_from(["paper", "careful"]))
def test_the_order_of_the_points_does_not_matter(seed, n, method):
    t, h, r = law_arrays(n=n, noise=0.02, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    one = fit_points(Points.from_arrays(t, h, r), method=method, until_step=None)
    two = fit_points(Points.from_arrays(t[order], h[order], r[order]), method=method, until_step=None)
    assert (one.a, one.b, one.ceiling_interval) == (two.a, two.b, two.ceiling_interval)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["paper", "careful"]))
def test_nothing_after_the_window_is_looked_at(seed, method):
    rng = np.random.default_rng(seed)
    t, _, r = law_arrays(n=30, noise=0.02, seed=seed)
    log_t = np.arange(0.0, 117.0)
    log_h = 0.05 + 0.95 * np.exp(-log_t / 25) + 0.02 * rng.standard_normal(len(log_t))
    one = fit_points(Points.from_arrays(t, log_h[t.astype(int)], r, log=(log_t, log_h)), method=method)
    later, log_later = t > 36, log_t > 36
    h2, r2, log2 = log_h[t.astype(int)].copy(), r.copy(), log_h.copy()
    h2[later], r2[later] = rng.uniform(0, 3, later.sum()), rng.uniform(0, 1, later.sum())
    log2[log_later] = rng.uniform(0, 3, log_later.sum())
    two = fit_points(Points.from_arrays(t, h2, r2, log=(log_t, log2)), method=method)
    assert (one.a, one.b, one.ceiling_interval) == (two.a, two.b, two.ceiling_interval)
    np.testing.assert_array_equal(one.points.entropy, two.points.entropy)
