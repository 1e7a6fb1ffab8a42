"""Estimators of evaluation against enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train.evaluate import clustered_error, evaluate, maj_at_k, pass_at_k, validation_record
from entlaw.train.rollout import Sampling
from entlaw.train.rollout.hf import HFEngine
from tests.train.common import tiny_policy


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 6))
def test_pass_at_k_is_the_mean_over_all_subsets(rows, k):
    correct = np.asarray(rows, dtype=float)
    by_hand = np.mean([np.mean([max(subset) for subset in combinations(row, k)]) for row in correct])
    assert pass_at_k(correct, k) == pytest.approx(by_hand)


def test_pass_at_k_bounds():
    correct = np.eye(4)
    assert pass_at_k(correct, 1) == pytest.approx(correct.mean())
    assert pass_at_k(correct, 4) == 1.0
    for k in (0, 5):
        with pytest.raises(ValueError, match="cannot be estimated"):
            pass_at_k(correct, k)


def test_pass_at_k_is_exact_for_many_samples():
    correct = np.zeros((1, 4000))
    correct[0, 0] = 1
    assert pass_at_k(correct, 1000) == pytest.approx(0.25)  # floats of these binomials would overflow


@pytest.mark.parametrize(
    ("answers", "scores", "value"),
    [
        (["7", "7", "3"], [1, 1, 0], 1.0),
        (["7", "3", "3"], [1, 0, 0], 0.0),
        (["7", "3", None], [1, 0, 0], 0.5),
        ([None, None, "7"], [0, 0, 1], 1.0),
        ([None, None, None], [0, 0, 0], 0.0),
    ],
)
def test_majority(answers, scores, value):
    assert maj_at_k([answers], np.asarray([scores], dtype=float)) == value


def test_error_of_the_mean_is_clustered_by_problem():
    rng = np.random.default_rng(0)
    p = rng.random((2000, 50))  # problems of very different difficulty
    means = [(rng.random((50, 8)) < row[:, None]).mean() for row in p]
    one = (rng.random((50, 8)) < p[0][:, None]).astype(float)
    assert clustered_error(one) == pytest.approx(np.std(means), rel=0.2)
    naive = one.std() / np.sqrt(one.size)
    assert naive < 0.6 * clustered_error(one)


def test_evaluation_is_repeatable_and_consistent():
    policy, task = tiny_policy("float32"), Arithmetic()
    problems = task.validation(40, 1)
    found, again = (
        evaluate(policy, HFEngine(policy), task, problems, Sampling(4, 6), seed=9, micro_batch=m)
        for m in (0, 7)
    )
    assert found.mean_at_k == again.mean_at_k
    assert found.entropy == pytest.approx(again.entropy, rel=1e-6)
    assert found.pass_at_k[1] == pytest.approx(found.mean_at_k)
    assert list(found.pass_at_k) == [1, 2, 4]
    assert found.pass_at_k[4] >= found.pass_at_k[2] >= found.pass_at_k[1]
    weights = [sum(p.level == level for p in problems) / 40 for level in found.by_level]
    assert np.dot(weights, list(found.by_level.values())) == pytest.approx(found.mean_at_k)
    assert 1.0 < found.entropy < np.log(16) + 1e-9  # untrained: nearly uniform over 16 tokens
    record = validation_record(found)
    assert record["val/problems"] == 40 and record["val/samples"] == 4
