"""Percent or fraction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.errors import UsageError
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import read
from entlaw.runs.units import ScoreUnit, decide_unit, extremes
from tests.conftest import law_records, write_jsonl
from tests.runs.test_choose import table


def decide(values, accuracy=True):
    unit, findings = decide_unit(np.array(values, float), accuracy)
    return unit.scale, [f.code for f in findings]


def test_fractions_stay():
    assert decide([0.0, 0.5, 1.0]) == (1.0, [])


def test_percent_is_divided_and_said():
    assert decide([15.6, 40.0, np.nan, 47.2]) == (0.01, ["percent"])


def test_small_percentages_at_the_start_are_not_mixed_units():
    assert decide([0.8, 1.5, 4.0, 9.0, 20.0]) == (0.01, ["percent"])


def test_zero_percent_is_not_mixed_units():
    assert decide([0.0, 0.0, 22.0, 35.0]) == (0.01, ["percent"])


@pytest.mark.parametrize(
    "values", [[0.31, 35.0, 38.0, 0.41, 42.0], [30.0, 31.0, 0.32, 33.0], [0.5, 0.52, 53.0, 55.0]]
)
def test_fractions_among_percentages_are_an_error(values):
    scale, found = decide(values)
    assert scale == 1.0 and found == ["mixed-units"]


def test_rewards_are_never_rescaled():
    assert decide([10.0, 50.0, 90.0], accuracy=False) == (1.0, ["not-a-score"])


def test_reward_of_a_few_points_is_not_called_percent():
    assert decide([0.2, 1.4, 2.0]) == (1.0, ["not-a-score"])


@pytest.mark.parametrize("key", ["critic/score/mean", "val/alfworld/test_score", "my_reward_mean"])
def test_a_score_up_to_ten_is_no_percentage(key):
    """Environments that pay 10 for a success are common; an accuracy of 10 % is one all the same."""
    unit, findings = decide_unit(np.array([1.0, 4.0, 9.8]), True, key)
    assert unit == ScoreUnit() and [f.code for f in findings] == ["not-a-score"]
    assert decide_unit(np.array([1.0, 4.0, 9.8]), True, "val/accuracy")[0].scale == 0.01
    assert decide_unit(np.array([1.0, 4.0, 39.8]), True, key)[0].scale == 0.01


def test_the_largest_single_reward_tells_that_it_is_no_percentage():
    unit, (finding,) = decide_unit(np.array([1.0, 4.0, 9.8]), True, "val/accuracy", (0.0, 10.0))
    assert unit == ScoreUnit() and finding.code == "not-a-score" and "0 to 10" in finding.what


@pytest.mark.parametrize("values", [[-0.7, 0.1, 0.6], [0.2, 0.5, 0.8]])
def test_rewards_of_minus_one_and_one_are_offered_as_shares(values):
    known = decide_unit(np.array(values), True, "critic/score/mean", (-1.0, 1.0))
    assert known[0] == ScoreUnit() and [f.code for f in known[1]] == ["signed-score"]
    assert "--score-range=-1,1" in known[1][0].hint
    guessed = decide_unit(np.array(values), True, "critic/score/mean")[1]
    assert [f.code for f in guessed] == (["signed-score"] if min(values) < 0 else [])
    slightly = decide_unit(np.array([-0.01, 0.5]), True, "critic/score/mean")[1]
    assert [f.code for f in slightly] == ["not-a-score"]


def test_extremes_are_those_logged_beside_the_mean():
    frame = table({"critic/score/mean": 1, "critic/score/max": 1, "critic/score/min": 1, "val/x/mean@4": 4})
    frame["critic/score/min"], frame["critic/score/max"] = -1.0, 1.0
    assert extremes(frame, "critic/score/mean") == (-1.0, 1.0)
    assert extremes(frame, "val/x/mean@4") is None and extremes(frame, "critic/score/max") is None


@settings(max_examples=30, deadline=None)
@given(st.floats(-100, 100), st.floats(0.01, 200))
def test_a_range_maps_its_ends_to_0_and_1(low, width):
    unit = ScoreUnit.of_range(low, low + width)
    assert unit.scale * (low - unit.offset) == 0
    assert unit.scale * (low + width - unit.offset) == pytest.approx(1, rel=1e-9)


def signed(tmp_path):
    rows = [
        {**r, "reward/mean": 2 * r["reward/mean"] - 1} if "reward/mean" in r else r for r in law_records()
    ]
    return write_jsonl(tmp_path / "signed.jsonl", rows)


def test_a_score_range_gives_the_run_of_the_shares(tmp_path):
    plain = read(write_jsonl(tmp_path / "plain.jsonl", law_records()), Selection(on="train"))[0]
    run = read(signed(tmp_path), Selection(on="train", score_range=(-1.0, 1.0)))[0]
    np.testing.assert_allclose(run.points, plain.points, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.score_series(), plain.score_series(), rtol=0, atol=1e-12)
    assert (run.performance_scale, run.performance_offset) == (0.5, -1.0)
    assert not {"signed-score", "not-a-score"} & {f.code for f in run.findings}
    mine = entlaw.fit(signed(tmp_path), on="train", score_range=(-1, 1)).law
    assert mine.b == pytest.approx(entlaw.fit(plain).law.b, abs=1e-9)


@pytest.mark.parametrize("bad", [(1.0, -1.0), (0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_none(tmp_path, bad):
    with pytest.raises(UsageError, match="score range"):
        read(signed(tmp_path), Selection(score_range=bad))
    with pytest.raises(UsageError, match="exclude"):
        read(signed(tmp_path), Selection(score_range=(0.0, 1.0), scale=0.5))


def test_negative_scores_are_not_percent():
    assert decide([-1.0, 40.0]) == (1.0, ["not-a-score"])


def test_empty_series():
    assert decide([np.nan]) == (1.0, [])
