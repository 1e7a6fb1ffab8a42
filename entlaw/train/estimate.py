"""From rewards to advantages: what a recipe's estimator is given."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from entlaw.train import advantages as adv
from entlaw.train.batch import Batch
from entlaw.train.losses import kl_penalty
from entlaw.train.schema import Algorithm, Controls, Loss, Prime


def group_accuracy(batch: Batch) -> Tensor:
    """Mean reward of each response's group, shape [B]."""
    assert batch.reward_B is not None
    return adv.group_mean(batch.reward_B, batch.group_B)


def mixed_groups(batch: Batch) -> Tensor:
    """Rows of the responses whose group has more than one reward: the others have no advantage to learn from."""
    assert batch.reward_B is not None
    mean_B = group_accuracy(batch)
    spread_B = adv.group_mean((batch.reward_B - mean_B) ** 2, batch.group_B)
    return (spread_B > 1e-12).nonzero().squeeze(1)


def token_penalty(batch: Batch, controls: Controls) -> Tensor | None:
    """The reference KL of a recipe that puts it in the reward, shape [B, T]; None where it does not."""
    if not controls.kl_coef or controls.kl_in != "reward":
        return None
    assert batch.log_prob_BT is not None and batch.ref_log_prob_BT is not None
    return (
        controls.kl_coef
        * kl_penalty(batch.log_prob_BT, batch.ref_log_prob_BT, controls.kl_kind)
        * batch.mask_BT
    )


def with_advantages(
    batch: Batch,
    algorithm: Algorithm,
    controls: Controls,
    prime: Prime,
    process_reward_BT: Tensor | None = None,
) -> Batch:
    """The batch with ``advantages_BT`` (and ``return_BT`` where there is a critic).

    Parameters
    ----------
    process_reward_BT : Tensor, shape [B, T], optional
        PRIME's.

    Raises
    ------
    UsageError
        No estimator has that name.
    """
    assert batch.reward_B is not None
    token_reward_BT, reward_B = adv.at_last_token(batch.reward_B, batch.mask_BT), batch.reward_B
    penalty_BT = token_penalty(batch, controls)
    if penalty_BT is not None:
        token_reward_BT, reward_B = token_reward_BT - penalty_BT, reward_B - penalty_BT.sum(-1)
    rewards = adv.Rewards(
        token_reward_BT, reward_B, batch.group_B, batch.mask_BT, batch.value_BT, process_reward_BT
    )
    advantages_BT, return_BT = adv.ESTIMATORS[algorithm.name](rewards, algorithm, prime)
    return replace(batch, advantages_BT=advantages_BT, return_BT=return_BT)


def whole_groups(group_B: Tensor, limit: int) -> Tensor:
    """Rows of the first ``limit`` groups, in the order the groups first appear."""
    first_seen = torch.unique_consecutive(group_B)
    keep = torch.isin(group_B, first_seen[:limit])
    return keep.nonzero().squeeze(1)


def rollout_weight(batch: Batch, loss: Loss) -> Tensor | None:
    """Truncated importance weight of each token for an engine that is not quite the policy.

    min(p_trainer / p_engine, cap), of the token or of its whole response (then one weight for all its tokens); None
    where it is off or the engine is the policy (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"; truncation after Ionides 2008).
    """
    if loss.rollout_correction == "none" or batch.rollout_log_prob_BT is None:
        return None
    assert batch.log_prob_BT is not None
    gap_BT = (batch.log_prob_BT - batch.rollout_log_prob_BT) * batch.mask_BT
    if loss.rollout_correction == "sequence":
        gap_BT = gap_BT.sum(-1, keepdim=True).expand_as(gap_BT)
    # The cap goes in before the exponential, which could overflow for a long response.
    return gap_BT.clamp(max=math.log(loss.rollout_cap)).exp() * batch.mask_BT
