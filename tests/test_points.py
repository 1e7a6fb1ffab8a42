"""Points: one order, one rule of what may be seen from a step, whatever they are made from."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.errors import UsageError
from entlaw.points import Points, answers_behind, common_start
from tests.law.common import as_run

ARRAYS = ("step", "entropy", "score", "entropy_step", "log_step", "log_entropy")
numbers = st.floats(0, 50) | st.sampled_from([np.nan, np.inf, 3.0, 7.0])
rows = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=12)


def equal(a, b):
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ARRAYS)


def run_of(n=6, every=5.0):
    log_step = np.arange(1.0, every * n + 1)
    log = 1.0 / log_step
    step = every * np.arange(n)
    return as_run(
        step,
        log[step.astype(int)],
        0.1 + 0.01 * step,
        log=(log_step, log),
        entropy_step=log_step[step.astype(int)],
    )


def test_of_a_run_a_frame_and_arrays_they_are_the_same():
    run = run_of()
    one = Points.from_run(run, "here")
    assert (one.name, one.source, one.answers, one.n) == ("made", "here", None, 6)
    frame = run.points.sample(frac=1, random_state=0)
    assert equal(one, Points.from_frame(frame, log=run.entropy_series()))
    columns = [run.points[c].to_numpy() for c in ("step", "entropy", "performance", "entropy_step")]
    assert equal(Points.of(frame), Points.of(tuple(columns))) and Points.of(one) is one
    assert Points.from_run(replace(run, problems=50, samples=4)).answers == 200 == answers_behind(50, 4)
    assert Points.from_run(replace(run, problems=50)).answers == 50
    assert entlaw.fit(one, until_step=None).a == entlaw.fit(run, until_step=None).a


@settings(max_examples=60, deadline=None)
@given(rows, st.randoms())
def test_the_order_given_does_not_matter_and_all_is_finite(given_rows, random):
    shuffled = random.sample(given_rows, len(given_rows))
    one, two = (Points.from_arrays(*np.reshape(r, (-1, 4)).T[:3]) for r in (given_rows, shuffled))
    assert equal(one, two)
    assert all(np.isfinite(getattr(one, k)).all() for k in ARRAYS)
    assert (np.diff(one.step) >= 0).all() and (np.diff(one.log_step) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(rows, st.lists(st.tuples(numbers, numbers), max_size=20), st.floats(0, 50))
def test_until_and_after_share_out_all_there_is(given_rows, log, step):
    t, h, r, lag = np.reshape(given_rows, (-1, 4)).T
    points = Points.from_arrays(t, h, r, entropy_step=t + lag, log=tuple(np.reshape(log, (-1, 2)).T))
    seen, later = points.until(step), points.after(step)
    assert equal(points, Points(*(np.concatenate([getattr(p, k) for p in (seen, later)]) for k in ARRAYS)))
    assert (seen.step <= step).all() and (later.step > step).all()
    end = max([step, *seen.entropy_step])
    assert (seen.log_step <= end).all() and (later.log_step > end).all()


def test_the_first_points_are_those_of_their_step_even_where_two_share_one():
    points = Points.from_arrays([0.0, 10.0, 10.0, 20.0], [1.0, 0.8, 0.7, 0.5], [0.1, 0.2, 0.3, 0.4])
    assert [points.first(n).n for n in range(5)] == [0, 1, 2, 3, 4]
    assert points.first(2).log_step.max() == 10.0 and equal(points.first(3), points.until(10.0))


def test_the_log_goes_up_to_the_last_entropy_that_belongs_to_a_score():
    points = Points.from_run(run_of())
    assert (
        points.until(10.0).log_step.max() == 11.0
    )  # "next" pairing: the score of step 10 has that of step 11
    assert points.until(12.0).log_step.max() == 12.0
    assert points.until(-1.0).n == 0 and not len(points.until(-1.0).log_step)
    assert points.until(None) is points and points.after(None).n == 0


def test_without_a_log_it_is_the_points_own_entropies_at_their_steps():
    points = Points.from_arrays([4, 0], [0.5, 1.0], [0.4, 0.2], entropy_step=[5, np.nan])
    assert points.log_step.tolist() == [0.0, 5.0] and points.log_entropy.tolist() == [1.0, 0.5]


def test_scores_are_shares_up_to_rounding():
    of = [Points.from_arrays([0, 1], [1, 0.5], r).shares for r in ([0, 1 + 1e-12], [0, 1.1], [-0.1, 1])]
    assert of == [True, False, False] and not Points.from_arrays([], [], []).shares


def test_how_much_two_logs_have_in_common():
    one = Points.from_run(run_of(6))
    assert common_start(one, one.until(12.0)) == 3 and common_start(one.after(0.0), one) == 0
    other = replace(one, score=np.where(one.step == 20.0, 0.9, one.score))
    assert common_start(one, other) == 4


@pytest.mark.parametrize(
    "given_",
    [
        pd.DataFrame({"step": [1.0]}),
        pd.DataFrame({"step": ["a"], "entropy": ["b"], "performance": ["c"]}),
        ([0, 1], [1.0], [0.1, 0.2]),
        ([0, 1], [1.0, 2.0]),
        "run",
    ],
)
def test_what_holds_no_points_is_a_usage_error(given_):
    with pytest.raises(UsageError):
        Points.of(given_)
