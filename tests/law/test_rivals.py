"""Rivals: each against an independent derivation, and all against the interface's promises."""

import numpy as np
import pytest
from scipy import optimize, stats

from entlaw.errors import UsageError
from entlaw.law.backtest import Plan, backtest
from entlaw.law.entropy_curve import entropy_nodes
from entlaw.law.rivals import KINDS, LAST_VALUE, PAPER, RIVALS, last_level, rival, variogram
from entlaw.points import Points

from .common import as_run, law_arrays


def made(n=20, noise=0.01, seed=0, **more):
    return Points.from_arrays(*law_arrays(n=n, noise=noise, seed=seed, **more))


@pytest.mark.parametrize("rival", RIVALS.values(), ids=list(RIVALS))
def test_every_rival_gives_a_distribution_on_few_and_many_points(rival):
    for n in (4, 5, 12, 400):
        h = made(n)
        forecast = rival.forecast(h, float(h.step[-1] * 2 + 4))
        q = forecast.quantile(np.array([0.025, 0.25, 0.5, 0.75, 0.975]))
        assert np.isfinite(q).all() and (np.diff(q) >= 0).all()
        assert q[0] >= 0.0 and q[-1] <= 1.0  # scores so far are shares
        assert forecast.weight.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("rival", RIVALS.values(), ids=list(RIVALS))
def test_no_rival_looks_beyond_the_history(rival):
    whole = made(40)
    t, h, r = whole.step.copy(), whole.entropy.copy(), whole.score.copy()
    late = t > 60
    other = Points.from_arrays(t, np.where(late, 3.0, h), np.where(late, 0.1, r))
    a, b = (rival.forecast(x.until(60.0), 120.0).quantile(0.3) for x in (whole, other))
    assert a == b


@pytest.mark.parametrize("rival", RIVALS.values(), ids=list(RIVALS))
def test_a_constant_score_is_forecast_to_stay(rival):
    h = Points.from_arrays(np.arange(10.0), np.linspace(1, 0.2, 10), np.full(10, 0.4))
    assert rival.forecast(h, 30.0).median == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("rival", RIVALS.values(), ids=list(RIVALS))
def test_rewards_beyond_one_are_not_cut(rival):
    rng = np.random.default_rng(1)
    h = Points.from_arrays(np.arange(20.0), np.linspace(1, 0.4, 20), 2.0 + 0.01 * rng.standard_normal(20))
    assert rival.forecast(h, 30.0).median > 1.5


def test_a_function_of_each_kind_is_all_that_a_rival_takes():
    same = {
        "stays": lambda r: (float(r[-1]), 1),
        "curve in the step": lambda u, at: (-u[None], np.array([-at]), np.array([np.nan])),
        "law in the entropy": lambda h: np.exp(h)[:, None],
        "own": PAPER.forecast,
    }
    assert set(same) == set(KINDS)
    points = made(20)
    try:
        for kind, function in same.items():
            assert rival(f"a new one that {kind}", kind, "as it says")(function) is function
        rows = backtest([points], Plan((), (36.0,)))
        at_end = rows[rows["horizon"] == "end"].set_index("forecaster")["median"]
        assert at_end["a new one that stays"] == at_end[LAST_VALUE.name]
        assert (
            at_end["a new one that law in the entropy"] == at_end["a new one that own"] == at_end[PAPER.name]
        )
        past = points.until(36.0)
        line = stats.linregress(past.step, past.score)
        expected = line.intercept + line.slope * float(points.step[-1])
        assert at_end["a new one that curve in the step"] == pytest.approx(min(expected, 1.0), abs=0.01)
    finally:
        for kind in same:
            RIVALS.pop(f"a new one that {kind}", None)


def test_unknown_and_taken_names_are_errors():
    with pytest.raises(UsageError, match="no rival 'last valu'"):
        RIVALS["last valu"]
    with pytest.raises(UsageError, match="no kind of rival 'stay'"):
        rival("another", "stay", "")(last_level)
    with pytest.raises(ValueError, match="two of the rival 'isotonic'"):
        rival("isotonic", "stays", "")(last_level)
    assert "another" not in RIVALS


def test_the_last_value_is_the_last_value():
    h = made(15)
    assert LAST_VALUE.forecast(h, 200.0).median == h.score[-1]
    assert RIVALS["mean of last 5"].forecast(h, 200.0).median == pytest.approx(h.score[-5:].mean())


def test_the_variogram_finds_noise_and_random_walk():
    rng = np.random.default_rng(3)
    t = np.arange(4000.0)
    r = np.cumsum(0.01 * rng.standard_normal(4000)) + 0.05 * rng.standard_normal(4000)
    white, drift = variogram(t, r)
    assert white == pytest.approx(0.05**2, rel=0.15)
    assert drift == pytest.approx(0.01**2, rel=0.5)
    white, drift = variogram(t, 0.05 * rng.standard_normal(4000))
    assert white == pytest.approx(0.05**2, rel=0.1) and drift * 25 < 0.1 * white


def test_the_spread_of_the_last_value_grows_with_the_horizon_on_a_random_walk():
    rng = np.random.default_rng(4)
    h = Points.from_arrays(
        np.arange(200.0), np.linspace(1, 0.5, 200), 0.5 + np.cumsum(0.003 * rng.standard_normal(200))
    )
    near, far = (LAST_VALUE.forecast(h, t).interval(0.8).width for t in (205.0, 245.0))
    assert far / near > 1.5


def test_pooling_adjacent_violators_agrees_with_a_bounded_least_squares():
    rng = np.random.default_rng(5)
    for _ in range(20):
        r = np.cumsum(rng.standard_normal(9)) * 0.1 + 0.3
        # Levels as a first one plus steps that are not negative: least squares by another algorithm.
        steps = np.tril(np.ones((9, 9)))
        bounds = (np.array([-np.inf] + [0.0] * 8), np.full(9, np.inf))
        best = steps @ optimize.lsq_linear(steps, r, bounds=bounds, tol=1e-13).x
        level, size = last_level(r)
        assert level == pytest.approx(best[-1], abs=1e-5)
        assert r[-size:].mean() == pytest.approx(level)


def test_the_papers_law_given_the_entropy_is_the_textbook_prediction():
    h = made(12, seed=7)
    at = 0.07
    x = np.exp(h.entropy)
    line = stats.linregress(x, h.score)
    residual = h.score - line.intercept - line.slope * x
    s2 = residual @ residual / 10
    se = np.sqrt(s2 * (1 + 1 / 12 + (np.exp(at) - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)))
    i = PAPER.forecast(h, 200.0, np.array([at])).interval(0.95)
    middle = line.intercept + line.slope * np.exp(at)
    assert (i.lo, i.hi) == pytest.approx(
        (middle - stats.t(10).ppf(0.975) * se, middle + stats.t(10).ppf(0.975) * se)
    )


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("linear in H", lambda h: 0.8 - 0.3 * h),
        ("quadratic in exp(H)", lambda h: 0.9 - 0.1 * np.exp(h) - 0.05 * np.exp(2 * h)),
        ("log H", lambda h: 0.3 - 0.1 * np.log(h)),
        ("paper's law", lambda h: 0.85 - 0.25 * np.exp(h)),
    ],
)
def test_laws_in_the_entropy_continue_their_own_kind_exactly(name, of):
    t = np.arange(0.0, 60.0, 4.0)
    h = 0.1 + 0.9 * np.exp(-t / 25)
    forecast = RIVALS[name].forecast(Points.from_arrays(t, h, of(h)), 200.0, np.array([0.12]))
    assert forecast.median == pytest.approx(float(of(np.array(0.12))), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("log of step", lambda t: 0.2 + 0.08 * np.log(t / 60 + 0.03)),
        ("power law in step", lambda t: 0.7 - 0.5 * (t / 60 / 0.1 + 1) ** -0.5),
        ("exponential in step", lambda t: 0.6 - 0.4 * np.exp(-t / 30)),
        ("sigmoid in step (ScaleRL)", lambda t: 0.1 + 0.5 / (1 + (23.0 / np.maximum(t, 1e-9)) ** 2.0)),
    ],
)
def test_curves_in_the_step_continue_their_own_kind(name, of):
    t = np.arange(0.0, 61.0, 2.0)
    h = np.linspace(1, 0.3, len(t))
    forecast = RIVALS[name].forecast(Points.from_arrays(t, h, of(t)), 180.0)
    # Shapes are a grid: off by two fifths of what is still to come at most, where staying is off by all of it.
    to_come = abs(float(of(180.0)) - float(of(60.0)))
    assert abs(forecast.median - float(of(180.0))) < max(0.4 * to_come, 0.004)


def test_the_forecast_entropy_is_between_zero_and_what_it_was():
    h = made(30)
    nodes = entropy_nodes(h, 300.0)
    assert (np.diff(nodes) >= 0).all() and nodes.min() >= 0 and nodes.max() < 1.0
    assert np.median(nodes) == pytest.approx(0.05, abs=0.02)


def test_a_history_is_cut_where_it_is_looked_at_from():
    step, entropy, r = law_arrays(n=12)
    log = (np.arange(0.0, 60.0), np.linspace(1, 0.1, 60))
    h = Points.from_run(as_run(step, entropy, r, log=log, entropy_step=step + 1))
    cut = h.until(16.0)
    assert cut.step[-1] == 16.0 and cut.n == 5
    assert cut.log_step[-1] == 17.0  # the entropy paired with the last score, and nothing after it
    assert h.until(1e9).n == 12


def test_values_that_are_not_finite_are_left_out_and_order_is_restored():
    h = Points.from_arrays([3, 1, 2, 4], [0.3, 0.5, np.nan, 0.2], [0.6, 0.4, 0.5, np.inf])
    assert h.step.tolist() == [1.0, 3.0] and h.score.tolist() == [0.4, 0.6]
    assert h.log_step.tolist() == [
        1.0,
        3.0,
    ]
