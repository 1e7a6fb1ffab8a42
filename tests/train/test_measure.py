"""What is logged of a step, against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from entlaw.train import estimate, measure
from entlaw.train.schema import Algorithm, Controls, Prime
from tests.train.common import tiny_batch, tiny_policy


@pytest.fixture(scope="module")
def batch():
    return tiny_batch(tiny_policy(), groups=6, k=4)


@pytest.fixture(scope="module")
def levels(batch):
    return [["2", "3", "4"][int(g) % 3] for g in batch.group_B]


def per_response(batch, values):
    return [v[m > 0].numpy() for v, m in zip(values, batch.mask_BT, strict=True)]


def test_entropy_in_both_averages(batch, levels):
    record = measure.rollout_record(batch, levels)
    rows = per_response(batch, batch.entropy_BT)
    assert record["actor/entropy"] == pytest.approx(np.concatenate(rows).mean())
    assert record["actor/entropy_response_mean"] == pytest.approx(np.mean([r.mean() for r in rows]))
    assert abs(record["actor/entropy"] - record["actor/entropy_response_mean"]) > 1e-6


def test_rewards_and_lengths(batch, levels):
    record = measure.rollout_record(batch, levels)
    correct, lengths = batch.correct_B.numpy(), batch.mask_BT.sum(1).numpy()
    assert record["train/accuracy"] == pytest.approx(correct.mean())
    assert record["response_length/mean"] == pytest.approx(lengths.mean())
    assert record["response_length/max"] == lengths.max()
    assert record["response_length/clip_ratio"] == pytest.approx(1 - batch.finished_B.double().mean())
    for level in "234":
        here = [c for c, name in zip(correct, levels, strict=True) if name == level]
        assert record[f"reward/level_{level}"] == pytest.approx(np.mean(here))


def test_covariances_against_numpy(batch, levels):
    record = measure.update_record(batch, levels, (0.02, 0.5))
    log_p = per_response(batch, batch.log_prob_BT)
    advantage = per_response(batch, batch.advantages_BT)
    x, a = np.concatenate(log_p), np.concatenate(advantage)
    assert record["cov/mean"] == pytest.approx(np.cov(x, a, bias=True)[0, 1])
    each = np.sort((x - x.mean()) * (a - a.mean()))[::-1]
    assert record["cov/top_0.5"] == pytest.approx(each[: round(len(each) / 2)].mean())
    d = np.concatenate(per_response(batch, batch.ref_log_prob_BT - batch.log_prob_BT))
    assert record["actor/ref_kl"] == pytest.approx(np.mean(np.exp(d) - d - 1))
    mean_log = np.array([row.mean() for row in log_p])
    one = np.array([row[0] for row in advantage])
    group = batch.group_B.numpy()
    by_group = [np.cov(mean_log[group == g], one[group == g], bias=True)[0, 1] for g in range(6)]
    assert record["cov/group"] == pytest.approx(np.mean(by_group))
    scaled = [
        np.cov(mean_log[group == g], (np.exp(mean_log) * one)[group == g], bias=True)[0, 1] for g in range(6)
    ]
    assert record["cov/group_probability"] == pytest.approx(np.mean(scaled))
    assert record["cov/level_2"] == pytest.approx(np.mean([by_group[0], by_group[3]]))
    accuracy = [batch.correct_B.numpy()[group == g].mean() for g in range(6)]
    for value in set(accuracy):
        here = [c for c, a in zip(by_group, accuracy, strict=True) if a == value]
        assert record[f"cov/accuracy_{value:g}"] == pytest.approx(np.mean(here))


def test_means_over_updates_skip_what_was_not_logged():
    assert measure.mean_over_updates([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 2.0}


def test_mixed_groups_are_those_with_more_than_one_reward(batch):
    rewards = torch.tensor(
        [0.0] * 4 + [1.0] * 4 + [0, 1, 0, 0] + [1, 1, 1, 0] + [0.5] * 4 + [0.2, 0.2, 0.2, 0.3]
    )
    rows = estimate.mixed_groups(replace(batch, reward_B=rewards.double()))
    assert rows.tolist() == [8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23]


def test_whole_groups_are_taken_in_order():
    groups = torch.tensor([7, 7, 3, 3, 9, 9])
    assert estimate.whole_groups(groups, 2).tolist() == [0, 1, 2, 3]


def test_a_penalty_in_the_reward_reaches_every_algorithm(batch):
    controls = Controls(kl_coef=0.5, kl_in="reward", kl_kind="k1")
    penalty = 0.5 * (batch.log_prob_BT - batch.ref_log_prob_BT) * batch.mask_BT
    with_values = replace(batch, value_BT=torch.zeros_like(batch.mask_BT))
    for name in ("grpo", "rloo", "reinforce", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "ppo"):
        algorithm = Algorithm(name=name, whiten=False)
        plain = estimate.with_advantages(with_values, algorithm, Controls(), Prime()).advantages_BT
        fined = estimate.with_advantages(with_values, algorithm, controls, Prime()).advantages_BT
        assert not torch.allclose(plain, fined), name
        if name == "rloo":
            reward = batch.reward_B - penalty.sum(1)
            by_hand = estimate.with_advantages(
                replace(with_values, reward_B=reward), algorithm, Controls(), Prime()
            )
            assert torch.allclose(fined, by_hand.advantages_BT)
        if name == "ppo":  # gamma = lambda = 1 and no values: the advantage is the return to go
            to_go = (-penalty).flip(1).cumsum(1).flip(1) + batch.reward_B[:, None]
            assert torch.allclose(fined, to_go * batch.mask_BT)


def test_ppo_with_a_perfect_critic_has_no_advantage(batch):
    values = batch.reward_B[:, None] * batch.mask_BT
    algorithm = Algorithm(name="ppo", whiten=False)
    out = estimate.with_advantages(replace(batch, value_BT=values), algorithm, Controls(), Prime())
    assert out.advantages_BT.abs().max() < 1e-12
    assert torch.allclose(out.return_BT, values)
