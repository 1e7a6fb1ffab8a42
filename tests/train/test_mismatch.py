"""An engine that is not quite the policy: how far it is, and the weights that correct for it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from entlaw.train.choice import TokenChoice
from entlaw.train.estimate import rollout_weight
from entlaw.train.measure import mismatch_record
from entlaw.train.schema import Controls, Loss
from entlaw.train.update import objective
from tests.train.common import tiny_batch, tiny_policy

# Two responses of two and of one token: p_trainer / p_engine is 3, 1/2 and 2.
RATIO = [[3.0, 0.5], [2.0, 1.0]]
ENGINE = [[0.2, 0.8], [0.3, 0.9]]


@pytest.fixture
def batch():
    made = tiny_batch(tiny_policy(), groups=1, k=2, max_tokens=2)
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    engine, ratio = (torch.tensor(x, dtype=torch.float64) for x in (ENGINE, RATIO))
    return replace(
        made, mask_BT=mask, rollout_log_prob_BT=engine.log() * mask, log_prob_BT=(engine * ratio).log() * mask
    )


@pytest.mark.parametrize(
    ("correction", "expected"),
    [("token", [[2.0, 0.5], [2.0, 0.0]]), ("sequence", [[1.5, 1.5], [2.0, 0.0]])],
)
def test_weights_by_hand(batch, correction, expected):
    weight = rollout_weight(batch, Loss(rollout_correction=correction, rollout_cap=2.0))
    assert torch.allclose(weight, torch.tensor(expected, dtype=torch.float64))


def test_no_weight_without_a_correction_or_without_another_engine(batch):
    assert rollout_weight(batch, Loss()) is None
    own = replace(batch, rollout_log_prob_BT=None)
    assert rollout_weight(own, Loss(rollout_correction="token")) is None
    assert mismatch_record(own) == {}


def test_what_is_logged_by_hand(batch):
    found = mismatch_record(batch)
    ratios = [3.0, 0.5, 2.0]
    assert found["rollout/ratio_mean"] == pytest.approx(5.5 / 3)
    assert (found["rollout/ratio_max"], found["rollout/ratio_min"]) == pytest.approx((3.0, 0.5))
    assert found["rollout/log_prob_difference"] == pytest.approx(sum(abs(math.log(r)) for r in ratios) / 3)
    assert found["rollout/probability_difference"] == pytest.approx((0.4 + 0.4 + 0.3) / 3)
    assert found["rollout/probability_difference_max"] == pytest.approx(0.4)
    assert found["rollout/kl"] == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 3)


def test_the_loss_of_a_token_is_weighted():
    """Doubling every weight doubles loss and gradient; a weight of nought takes the token out."""
    policy = tiny_policy()
    batch = tiny_batch(policy, groups=2, k=2)

    def gradient(weight_BT):
        policy.model.zero_grad()
        weighted = replace(batch, rollout_weight_BT=weight_BT)
        tokens = float(batch.mask_BT.sum())
        loss, _ = objective(
            policy.score(batch),
            weighted,
            TokenChoice(),
            Loss(),
            Controls(),
            entropy_coeff=0.0,
            tokens=tokens,
            responses=4.0,
            norm_length=6.0,
        )
        loss.backward()
        return float(loss.detach()), torch.cat([p.grad.flatten() for p in policy.model.parameters()])

    plain, ones = gradient(None), gradient(torch.ones_like(batch.mask_BT))
    double, none = gradient(2 * torch.ones_like(batch.mask_BT)), gradient(torch.zeros_like(batch.mask_BT))
    assert plain[0] == ones[0] and torch.equal(plain[1], ones[1])
    assert double[0] == pytest.approx(2 * plain[0]) and torch.allclose(double[1], 2 * plain[1])
    assert none[0] == 0 and not none[1].any() and plain[1].any()
