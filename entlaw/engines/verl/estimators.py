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

from entlaw.engines.verl.names import estimators
from entlaw.train.advantages import Rewards
from entlaw.train.schema import Algorithm

Estimator = Callable[..., tuple[Tensor, Tensor]]


def groups(index: Sequence[Any] | np.ndarray, response_mask: Tensor) -> Tensor:
    """Prompt ids as integers, shape [B]; a response without a token (padding) is a group of its own."""
    _, number_B = np.unique(np.asarray(index, dtype=object).astype(str), return_inverse=True)
    group_B = torch.as_tensor(number_B, dtype=torch.int64, device=response_mask.device).reshape(-1)
    empty_B = response_mask.sum(-1) == 0
    alone_B = -1 - torch.arange(len(group_B), device=group_B.device)
    return torch.where(empty_B, alone_B, group_B)


def estimator(name: str) -> Estimator:
    """The function that verl calls for one of :func:`entlaw.engines.verl.names.estimators`.

    Returns advantages twice: without a critic, verl's second value ("returns") is only logged.
    """
    ours, baseline = estimators()[name]

    def estimate(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        index: Any = None,
        config: Any = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        if index is None and ours.groups:
            raise ValueError(f"{name} needs each response's prompt id (uid)")
        mask_BT = response_mask.to(token_level_rewards.dtype)
        reward_BT = token_level_rewards * mask_BT
        gamma = 1.0 if config is None else float(config.get("gamma", 1.0))
        settings = Algorithm(ours.name, baseline=baseline, gamma=gamma)  # type: ignore[arg-type]
        with torch.no_grad():
            group_B = groups(index, mask_BT) if ours.groups else None
            advantages_BT = ours(Rewards(reward_BT, reward_BT.sum(-1), group_B, mask_BT), settings)[0]
        return advantages_BT, advantages_BT

    estimate.__name__ = name
    return estimate
