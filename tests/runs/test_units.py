"""Percent or fraction."""

import numpy as np
import pytest

from entlaw.runs.units import decide_unit


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


def test_negative_scores_are_not_percent():
    assert decide([-1.0, 40.0]) == (1.0, ["not-a-score"])


def test_empty_series():
    assert decide([np.nan]) == (1.0, [])
