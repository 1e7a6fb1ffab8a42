"""Widths learned from finished runs: by simulation, against their definition, and at their limits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from entlaw.errors import DataError
from entlaw.law import library
from entlaw.law.forecast import Outlook
from entlaw.law.library import Lesson, calibrate, calibrate_for, learn, needed_factor
from entlaw.law.posterior import Predictive, to_arcsine
from entlaw.points import Points, is_same_run
from tests.law.common import law_arrays


def normal(mean=0.5, sd=0.02, **more):
    return Predictive(np.ones(1), np.array([mean]), np.array([sd]), np.inf, **more)


@pytest.mark.parametrize("truth", [0.41, 0.5, 0.53, 0.7])
def test_the_factor_needed_puts_the_interval_end_on_the_truth(truth):
    forecast = normal()
    k = needed_factor(forecast, truth)
    assert k == pytest.approx(abs(truth - 0.5) / (0.02 * stats.norm.ppf(0.9)), rel=1e-6, abs=1e-9)
    if k > 0:
        interval = forecast.stretched(k).interval(0.8)
        assert (interval.lo if truth < 0.5 else interval.hi) == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("truth", [0.3, 0.62, 0.97])
def test_shares_are_stretched_on_the_arcsine_scale(truth):
    forecast = normal(0.9, 0.08, low=0.0, high=1.0, arcsine=True)
    k = needed_factor(forecast, truth)
    at = float(to_arcsine(np.array([truth]))[0])
    assert k == pytest.approx(abs(at - 0.9) / (0.08 * stats.norm.ppf(0.9)), rel=1e-5)
    interval = forecast.stretched(k).interval(0.8)
    assert (interval.lo if at < 0.9 else interval.hi) == pytest.approx(truth, abs=1e-6)


def test_stretching_keeps_the_median_and_scales_every_quantile():
    forecast = Predictive(np.array([0.3, 0.7]), np.array([0.2, 0.5]), np.array([0.05, 0.2]), 5.0)
    p = np.array([0.025, 0.1, 0.5, 0.75, 0.975])
    before, after = forecast.quantile(p), forecast.stretched(1.7).quantile(p)
    mid = forecast.median
    assert after - mid == pytest.approx(1.7 * (before - mid), abs=1e-4)
    assert forecast.stretched(1.0) is forecast


@pytest.mark.parametrize("truth_is", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("runs", [8, 60])
def test_intervals_of_a_wrong_width_come_right_on_fresh_runs(truth_is, runs):
    """What comes is spread ``truth_is`` times as widely as forecast, alike within a run; 2,000 fresh runs."""
    rng = np.random.default_rng(7)

    def needed(n):
        miss = rng.standard_normal(n)[:, None] + 0.3 * rng.standard_normal((n, 5))
        return np.abs(truth_is * miss / np.sqrt(1.09)) / stats.norm.ppf(0.9)

    held = []
    for _ in range(40):
        learned = calibrate(list(needed(runs)))
        held.append((needed(50) <= learned.factor).mean())
    plain = (needed(2000) <= 1.0).mean()
    assert abs(np.mean(held) - 0.8) < abs(plain - 0.8) + 0.05
    if runs == 60:
        assert 0.72 < np.mean(held) < 0.88


def test_few_runs_move_the_width_less_than_many():
    few, many = (calibrate([np.array([3.0])] * n) for n in (5, 90))
    assert few.raw == many.raw == 3.0
    assert few.factor == pytest.approx(3.0 ** (1 / 3)) and many.factor == pytest.approx(3.0**0.9)


@pytest.mark.parametrize("runs, rank", [(5, 5), (9, 8), (10, 9), (14, 12), (99, 80)])
def test_the_factor_is_the_conformal_quantile(runs, rank):
    """Of exchangeable runs it is the one of rank ceil(0.8 (n + 1)): Vovk et al. 2005."""
    needed = [np.array([float(i)]) for i in np.random.default_rng(0).permutation(runs) + 1]
    assert calibrate(needed).raw == rank


def test_runs_count_alike_however_many_forecasts_they_gave():
    short = [np.array([1.0])] * 9
    long = [np.full(500, 4.0)]
    assert calibrate(short + long).raw == 1.0


@pytest.mark.parametrize("value, factor", [(1e9, library.LARGEST), (0.0, 1 / library.LARGEST)])
def test_no_library_moves_a_width_without_bound(value, factor):
    assert calibrate([np.array([value])] * 400).factor == pytest.approx(factor)


def test_too_few_runs_are_no_library():
    with pytest.raises(DataError, match=r"has 4 runs to learn from.* 5 are needed") as caught:
        calibrate([np.ones(3)] * 4)
    assert caught.value.exit_code == 3


def history(seed, name="r", n=16):
    step, entropy, performance = law_arrays(n=n, seed=seed)
    return Points.from_arrays(step, entropy, performance, name=name)


def test_learning_forecasts_the_last_score_from_the_past_alone():
    whole = history(3)
    (lesson,) = learn([whole])
    assert lesson.points is whole and len(lesson.needed) > 3
    first = Outlook.of(whole, float(whole.step[-1]) * 0.4).at_step(float(whole.step[-1]))
    assert needed_factor(first, float(whole.score[-1])) in lesson.needed


def test_runs_that_are_never_answered_teach_nothing():
    flat = Points.from_arrays(np.arange(20.0), np.full(20, 0.3), np.full(20, 0.5), name="flat")
    lone = Points.from_arrays([0.0], [1.0], [0.2], name="lone")
    good = [history(1), history(2)]
    assert [lesson.points for lesson in learn([flat, good[0], lone, good[1]])] == good


@pytest.mark.parametrize("step", [24.0, 1e9])
def test_the_run_itself_teaches_nothing_and_runs_of_its_name_do(step):
    """Under whatever name it lies in the library, and at whatever step it was copied from there."""
    lessons = [Lesson(history(seed, "same name"), np.array([2.0])) for seed in range(7)]
    own = [Lesson(replace(history(3), name="another name"), np.array([100.0]))]
    found = calibrate_for(history(3).until(step), [*lessons[:3], *own, *lessons[4:]])
    assert (found.runs, found.raw) == (6, 2.0)


def test_one_run_is_known_by_its_points():
    run = history(3)
    assert is_same_run(run, run) and is_same_run(run, run.until(24.0)) and is_same_run(run.until(24.0), run)
    assert not is_same_run(run, history(4))
    assert not is_same_run(run.until(0.0), run)  # one point is too little to know it by
    for column, change in (("step", 0.5), ("step", 4.0), ("entropy", 1e-3), ("score", 1e-3)):
        other = replace(run, **{column: getattr(run, column) + change})
        assert not is_same_run(run, other) and not is_same_run(other, run), column


@pytest.mark.parametrize("column", ["entropy", "score"])
def test_a_copy_in_fewer_digits_is_the_same_run(column):
    """A writer of single precision, one that rounds, and one that loses a value."""
    run = history(3)
    values = getattr(run, column)
    lost = np.delete(np.arange(run.n), 5)
    for copy in (
        replace(run, **{column: values.astype(np.float32).astype(float)}),
        replace(run, **{column: values.round(4)}),
        Points.from_arrays(run.step[lost], run.entropy[lost], run.score[lost]),
    ):
        assert is_same_run(run, copy) and is_same_run(copy, run)


def test_an_outlook_with_a_width_stretches_all_its_forecasts():
    plain = Outlook.of(history(4), 40.0)
    wide = replace(plain, width=2.0)
    a, b = plain.at_step(60.0), wide.at_step(60.0)
    assert b.median == pytest.approx(a.median, abs=1e-3)
    assert b.interval(0.5).width == pytest.approx(2 * a.interval(0.5).width, rel=0.1)
    (c,) = wide.at_steps(np.array([60.0]))
    assert c.quantile(np.array([0.1, 0.9])) == pytest.approx(b.quantile(np.array([0.1, 0.9])), abs=2e-3)
