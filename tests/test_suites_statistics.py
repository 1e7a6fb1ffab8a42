"""Errors of scores: by hand, against statsmodels' cluster-robust regression, and by whether intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.suites.statistics import Estimate, averaged, clustered, paired, upper_bound
from entlaw.suites.table import Column, _best, _row

SIZES = st.tuples(st.integers(2, 30), st.integers(1, 9))


def scores(rng, n, k, a=0.5, b=0.5):
    """Responses to problems whose difficulty is Beta(a, b): intraclass correlation 1 / (a + b + 1)."""
    return (rng.random((n, k)) < rng.beta(a, b, (n, 1))).astype(float)


def naive_error(scores):
    """All responses taken for independent: too small as soon as k > 1."""
    return float(scores.std(ddof=1) / math.sqrt(scores.size))


# By hand -----------------------------------------------------------------------------------------


def test_three_problems_of_two_responses_by_hand():
    # Problems' means 1, 1/2, 0: mean 1/2, variance 1/4, error sqrt(1/4 / 3).
    found = clustered(np.array([[1, 1], [1, 0], [0, 0]], dtype=float))
    assert (found.value, found.problems, found.samples, found.df) == (0.5, 3, 2, 2)
    assert found.se == pytest.approx(math.sqrt(1 / 12))
    # Student's t for 2 degrees of freedom is 4.302653 (any table).
    assert found.interval() == pytest.approx((0.5 - 4.302653 * found.se, 0.5 + 4.302653 * found.se), rel=1e-6)
    # All six taken for independent: sd sqrt(0.3), divided by sqrt(6).
    assert naive_error(np.array([[1, 1], [1, 0], [0, 0]], dtype=float)) == pytest.approx(math.sqrt(0.05))


def test_a_greedy_score_has_the_binomial_error():
    found = clustered(np.array([[1.0]] * 30 + [[0.0]] * 70))
    assert found.se == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_a_difference_by_hand():
    first = np.array([[0, 0], [1, 0], [1, 1]], dtype=float)
    second = np.array([[1], [1], [1]], dtype=float)
    found = paired(first, second)  # 1, 1/2, 0
    assert found.value == pytest.approx(0.5) and found.se == pytest.approx(math.sqrt(1 / 12))
    with pytest.raises(ValueError, match="not pairs"):
        paired(first, second[:2])


def test_averages_by_hand():
    parts = [Estimate(0.2, 0.03, 9.0), Estimate(0.6, 0.04, 19.0)]
    equal = averaged(parts, [1, 1])
    assert equal.value == pytest.approx(0.4) and equal.se == pytest.approx(0.025)  # 3-4-5
    # Welch-Satterthwaite: (a + b)^2 / (a^2 / 9 + b^2 / 19) with a = 9, b = 16 (in any unit).
    assert equal.df == pytest.approx(25**2 / (81 / 9 + 256 / 19))
    rows = averaged(parts, [300, 100])
    assert rows.value == pytest.approx(0.3)
    assert rows.se == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))


def test_what_has_no_error_says_so():
    assert math.isnan(clustered(np.ones((1, 8))).se)
    assert math.isnan(averaged([Estimate(0.5, 0.1, 5), Estimate(0.5)], [1, 1]).se)
    assert all(math.isnan(v) for v in Estimate(0.5).interval()) and math.isnan(Estimate(0.5).p_value())
    assert Estimate(0.5, 0.0, 9).p_value() == 0 and Estimate(0.0, 0.0, 9).p_value() == 1
    assert averaged([Estimate(0.0, 0.0, 9), Estimate(1.0, 0.0, 4)], [1, 1]) == Estimate(0.5, 0.0, 4)
    # The rule of three: no success in 100 is compatible with about 3 %.
    assert upper_bound(100) == pytest.approx(0.03, abs=0.0006)
    assert (1 - upper_bound(30)) ** 30 == pytest.approx(0.05)


def test_p_value_and_interval_say_the_same():
    for value, se, df in ((0.1, 0.04, 12.0), (-0.1, 0.06, 7.5), (0.3, 0.1, 200.0)):
        e = Estimate(value, se, df)
        lo, hi = e.interval(1 - e.p_value())
        assert min(abs(lo), abs(hi)) == pytest.approx(0, abs=1e-9)


# Against statsmodels -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(0, 2**31))
def test_the_error_is_that_of_a_cluster_robust_regression(size, seed):
    sm = pytest.importorskip("statsmodels.api")
    n, k = size
    y = np.random.default_rng(seed).random((n, k))
    groups = np.repeat(np.arange(n), k)
    fit = sm.OLS(y.ravel(), np.ones((n * k, 1))).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    found = clustered(y)
    assert found.value == pytest.approx(fit.params[0])
    assert found.se == pytest.approx(fit.bse[0], rel=1e-9)
    assert found.interval() == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-7)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(0, 2**31))
def test_a_difference_is_that_of_a_regression_on_the_model_with_problems_as_clusters(size, seed):
    """y = a + d model, both models' responses to a problem in one cluster."""
    sm = pytest.importorskip("statsmodels.api")
    n, k = size
    first, second = np.random.default_rng(seed).random((2, n, k))
    y = np.concatenate([first.ravel(), second.ravel()])
    model = np.repeat([0.0, 1.0], n * k)
    groups = np.tile(np.repeat(np.arange(n), k), 2)
    fit = sm.OLS(y, np.column_stack([np.ones_like(model), model])).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
    )
    found = paired(first, second)
    assert found.value == pytest.approx(fit.params[1], abs=1e-12)
    # Without statsmodels' own small-sample factor, ours is sqrt(n / (n - 1)).
    assert found.se == pytest.approx(fit.bse[1] * math.sqrt(n / (n - 1)), rel=1e-7)


# Coverage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "a", "b"), [(30, 32, 0.5, 1.5), (83, 32, 1, 1), (200, 1, 1, 2), (500, 4, 0.3, 0.3)]
)
def test_intervals_cover_and_naive_ones_do_not(n, k, a, b):
    """Truth: the mean difficulty of all problems that might have been in the set. 2,000 sets, so ± .01 (two sigma)."""
    rng, truth, trials = np.random.default_rng(n), a / (a + b), 2000
    inside = naive = 0
    for _ in range(trials):
        drawn = scores(rng, n, k, a, b)
        lo, hi = clustered(drawn).interval()
        inside += lo <= truth <= hi
        naive += abs(drawn.mean() - truth) <= 1.96 * naive_error(drawn)
    assert 0.925 < inside / trials < 0.97
    rho = 1 / (a + b + 1)
    if k == 1:
        assert 0.925 < naive / trials < 0.97  # one response a problem: nothing is clustered
    else:
        # 1.96 naive errors are 1.96 / sqrt(1 + (k - 1) rho) true ones.
        expected = math.erf(1.96 / math.sqrt(1 + (k - 1) * rho) / math.sqrt(2))
        assert naive / trials == pytest.approx(expected, abs=0.06) and naive / trials < 0.8


def test_paired_intervals_cover_and_are_narrower_than_unpaired_ones():
    rng, trials, inside, ratio = np.random.default_rng(1), 1500, 0, []
    for _ in range(trials):
        p = rng.beta(0.8, 0.8, (60, 1))
        q = 0.9 * p + 0.08  # the mean rises by 0.03
        first = (rng.random((60, 4)) < p).astype(float)
        second = (rng.random((60, 4)) < q).astype(float)
        found = paired(first, second)
        lo, hi = found.interval()
        inside += lo <= 0.03 <= hi
        ratio.append(found.se / math.hypot(clustered(first).se, clustered(second).se))
    assert 0.93 < inside / trials < 0.97
    assert np.mean(ratio) < 0.75


def test_intervals_of_averages_cover():
    """Sets as unlike as AIME (30 problems x 32) and MATH-500 (500 x 1), by equal and by row weights."""
    rng, trials = np.random.default_rng(2), 1500
    kinds = [(30, 32, 0.4, 1.6), (83, 32, 1, 1), (500, 1, 4, 1)]
    truth = np.array([a / (a + b) for _, _, a, b in kinds])
    for weights in ([1, 1, 1], [960, 2656, 500]):
        target, inside = float(np.average(truth, weights=weights)), 0
        for _ in range(trials):
            lo, hi = averaged([clustered(scores(rng, *kind)) for kind in kinds], weights).interval()
            inside += lo <= target <= hi
        assert 0.93 < inside / trials < 0.97


# What is bold ------------------------------------------------------------------------------------


def best_of(models, columns):
    rows = [_row(str(i), "measured", [clustered(s) for s in of], columns) for i, of in enumerate(models)]
    return _best(rows, models, columns)


def test_among_equal_models_one_is_called_best_at_most_as_often_as_promised():
    rng, columns, trials = np.random.default_rng(3), [Column("a", "a", 0.8), Column("b", "b", 0.2)], 400
    called = np.zeros(4)
    for _ in range(trials):
        p = [rng.beta(1, 1, (40, 1)), rng.beta(1, 2, (60, 1))]
        models = [[(rng.random((len(q), 4)) < q).astype(float) for q in p] for _ in range(3)]
        called += [b is not None for b in best_of(models, columns)]
    assert (called / trials < 0.075).all() and called.sum() > 0


def test_a_clearly_better_model_is_best_and_few_problems_decide_nothing():
    rng, columns = np.random.default_rng(4), [Column("a", "a", 1.0)]
    p = rng.beta(1, 1, (200, 1))
    low, high = (rng.random((200, 4)) < p * 0.5).astype(float), (rng.random((200, 4)) < p).astype(float)
    assert best_of([[low], [high], [low[::-1] * 0]], columns) == (1, 1, 1)
    assert best_of([[low], [low.copy()]], columns) == (None,) * 3
    assert best_of([[np.zeros((9, 1))], [np.ones((9, 1))]], columns) == (None,) * 3
    assert best_of([[np.zeros((10, 1))], [np.ones((10, 1))]], columns) == (1,) * 3
    assert best_of([[high]], columns) == (None,) * 3  # alone, it is the best of nothing
