"""The policy's helpers, critic and reward model: what they learn from, and that nothing ruins them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import critic, prime
from entlaw.train.failure import TrainingFailed
from entlaw.train.loop import Trainer
from entlaw.train.schema import Algorithm, Recipe
from tests.train.common import tiny_batch, tiny_policy


def parameters(module):
    return [p.detach().clone() for p in module.parameters()]


def same(module, before):
    return all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_a_critic_is_not_ruined_by_a_return_that_is_not_finite():
    lm = tiny_policy("float32")
    batch = tiny_batch(lm)
    batch = replace(batch, value_BT=0 * batch.mask_BT, return_BT=batch.mask_BT * float("nan"))
    model = critic.Critic(lm)
    before = parameters(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(TrainingFailed, match="the critic or its gradient is not finite") as error:
        critic.update(model, optimizer, batch, 0.5, 0, 1.0)
    assert same(model, before) and error.value.batch is batch


def test_a_reward_model_is_not_ruined_by_a_loss_that_is_not_finite():
    lm = tiny_policy("float32")
    batch = tiny_batch(lm)
    batch = replace(batch, ref_log_prob_BT=batch.ref_log_prob_BT * float("nan"))
    before = parameters(lm.model)
    optimizer = torch.optim.SGD(lm.model.parameters(), lr=0.1)
    with pytest.raises(TrainingFailed, match="the reward model or its gradient is not finite"):
        prime.update(lm, optimizer, batch, 0.05, 1.0, 0, 1.0)
    assert same(lm.model, before)


def test_a_reward_model_learns_the_rewards_and_not_the_truth():
    """With random rewards (the control) the right answers must not reach the policy by way of the reward model."""
    batch = tiny_batch(tiny_policy("float32"))
    weights = []
    for correct_B in (batch.correct_B, 1 - batch.correct_B):
        lm = tiny_policy("float32")
        optimizer = torch.optim.SGD(lm.model.parameters(), lr=0.1)
        prime.update(lm, optimizer, replace(batch, correct_B=correct_B), 0.05, 1.0, 0, 1.0)
        weights.append(parameters(lm.model))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", ["ppo", "prime"])
def test_helpers_are_in_training_mode_or_they_would_not_checkpoint_their_activations(name):
    base = tiny_policy("float32")
    base.model.eval()  # as a loaded model is
    trainer = Trainer(Recipe(algorithm=Algorithm(name=name)), Arithmetic(), base)
    model = trainer.critic.body if name == "ppo" else trainer.process.model
    assert model.training
    assert trainer.reference is None or not trainer.reference.model.training
