"""Our advantage estimators with the signature of verl's ``register_adv_est``.

verl calls them on the driver with the whole rollout. Rewards arrive per token: a response's score on its last token,
less a KL penalty on each where verl is told to put one into the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entlaw.train import advantages as adv

Estimator = Callable[..., tuple[Tensor, Tensor]]


def groups(index: Sequence[Any] | np.ndarray, response_mask: Tensor) -> Tensor:
    """Prompt ids as integers, shape [B]; a response without a token (padding) is a group of its own."""
    _, number_B = np.unique(np.asarray(index, dtype=object).astype(str), return_inverse=True)
    group_B = torch.as_tensor(number_B, dtype=torch.int64, device=response_mask.device).reshape(-1)
    empty_B = response_mask.sum(-1) == 0
    alone_B = -1 - torch.arange(len(group_B), device=group_B.device)
    return torch.where(empty_B, alone_B, group_B)


def estimator(name: str) -> Estimator:
    """The function that verl calls for one of :data:`entlaw.engines.verl.names.ESTIMATORS`.

    Returns advantages twice: without a critic, verl's second value ("returns") is only logged.
    """

    def estimate(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Any = None,
        config: Any = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        mask_BT = response_mask.to(token_level_rewards.dtype)
        with torch.no_grad():
            advantages_BT = _advantages(name, token_level_rewards * mask_BT, mask_BT, index, config)
        return advantages_BT, advantages_BT

    estimate.__name__ = name
    return estimate


def _advantages(name: str, token_reward_BT: Tensor, mask_BT: Tensor, index: Any, config: Any) -> Tensor:
    reward_B = token_reward_BT.sum(-1)
    if name == "reinforce":
        return adv.reinforce(reward_B, mask_BT)
    if name == "reinforce_batch_mean":
        real_B = mask_BT.sum(-1) > 0
        return adv.reinforce(reward_B, mask_BT, float(reward_B[real_B].mean()))
    if name == "reinforce_plus_plus":
        gamma = 1.0 if config is None else float(config.get("gamma", 1.0))
        return adv.masked_whiten(adv.returns_to_go(token_reward_BT, mask_BT, gamma), mask_BT)
    if index is None:
        raise ValueError(f"entlaw_{name} needs each response's prompt id (uid)")
    group_B = groups(index, mask_BT)
    if name == "rloo":
        return adv.rloo(reward_B, group_B, mask_BT)
    if name == "reinforce_plus_plus_baseline":
        return adv.reinforce_plus_plus_baseline(reward_B, group_B, mask_BT)
    return adv.grpo(reward_B, group_B, mask_BT, norm_by_std=name != "dr_grpo")
