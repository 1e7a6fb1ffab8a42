"""Our policy losses and advantage estimators with the signatures that verl calls.

The tokens of Clip-Cov and KL-Cov are not chosen here, where only a micro-batch is seen: the choice arrives in the signs
of ``rollout_is_weights`` (see :mod:`entlaw.engines.whole_batch`). Aggregation is over the counts of the whole optimiser
step, so micro-batches add up to it; verl's FSDP averages gradients over ranks, so each rank's part is times their
number.

verl calls estimators on the driver with the whole rollout. Rewards arrive per token: a response's score on its last
token, less a KL penalty on each where verl is told to put one into the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entlaw.engines.verl.names import TRAINER, LossName, estimators
from entlaw.engines.whole_batch import read, weight_metrics
from entlaw.train import losses
from entlaw.train.advantages import Rewards
from entlaw.train.controls import Controls, KlCov
from entlaw.train.losses import LOSSES
from entlaw.train.schema import Algorithm, Loss

VerlLoss = Callable[..., tuple[Tensor, dict[str, Any]]]
VerlEstimator = Callable[..., tuple[Tensor, Tensor]]


def policy_loss(name: LossName) -> VerlLoss:
    """The function that verl calls for one of our losses."""
    kind = LOSSES[name.kind]

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        mask_BT = response_mask.to(log_prob.dtype)
        loss_BT, metrics = kind(log_prob, old_log_prob, advantages, mask_BT, _clip(config))
        found: dict[str, Tensor] = dict(metrics)
        if rollout_is_weights is None:
            if name.control:
                raise ValueError(
                    f"policy loss {name} was given no choice of tokens: set trainer.v1.trainer_mode={TRAINER}, whose "
                    "driver makes it over the whole optimiser step"
                )
        else:
            weight_BT, chosen_BT = read(rollout_is_weights.to(log_prob.dtype))
            loss_BT = loss_BT * weight_BT
            found |= weight_metrics(rollout_is_weights, mask_BT)
            if name.control:
                control = getattr(_controls(name, config), name.control)
                loss_BT = control.weigh(loss_BT, chosen_BT)
                pull_BT = control.pull(log_prob, old_log_prob, chosen_BT)
                loss_BT = loss_BT if pull_BT is None else loss_BT + pull_BT
        total = aggregated(loss_BT, mask_BT, loss_agg_mode, dict(config.global_batch_info))
        return total, {key: float(value.detach()) for key, value in found.items()}

    loss.__name__ = str(name)
    loss.__doc__ = f"{name.kind} as in entlaw.train.losses" + (
        f", {name.control} on the tokens that the driver chose." if name.control else "."
    )
    return loss


def _clip(config: Any) -> Loss:
    """verl's clip range as ours; where it has one number, it is both ends."""
    low = config.clip_ratio if config.clip_ratio_low is None else config.clip_ratio_low
    high = config.clip_ratio if config.clip_ratio_high is None else config.clip_ratio_high
    return Loss(clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=config.clip_ratio_c or 0.0)


def _controls(name: LossName, config: Any) -> Controls:
    if name.control != "kl_cov":
        return Controls()
    return Controls(kl_cov=KlCov(coef=float(config.policy_loss.ppo_kl_coef), penalty=name.penalty))


def aggregated(loss_BT: Tensor, mask_BT: Tensor, mode: str, info: Mapping[str, Any]) -> Tensor:
    """This micro-batch's part of the optimiser step's loss, times the number of ranks.

    Parameters
    ----------
    info : mapping
        verl's ``global_batch_info``: ``dp_size``, ``batch_num_tokens`` and ``global_batch_size`` of the whole step,
        ``loss_scale_factor`` as the constant length. ``global_batch_size`` counts padding responses too.

    Raises
    ------
    ValueError
        A constant length is needed and not given: the longest response of a micro-batch would take its place, and the
        loss would depend on how the batch is cut.
    """
    if mode not in ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"):
        raise ValueError(f"entlaw's losses have no aggregation {mode!r}")
    length = info.get("loss_scale_factor")
    if mode == "seq-mean-token-sum-norm" and length is None:
        raise ValueError("seq-mean-token-sum-norm needs actor_rollout_ref.actor.loss_scale_factor, in tokens")
    tokens, responses = info.get("batch_num_tokens"), info.get("global_batch_size")
    part = losses.aggregate(
        loss_BT,
        mask_BT,
        mode,  # type: ignore[arg-type]  # checked above
        total_tokens=None if tokens is None else float(tokens),
        total_responses=None if responses is None else float(responses),
        norm_length=None if length is None else float(length),
    )
    return part * (info.get("dp_size") or 1)


# The settings of an estimator that its name in verl, or verl's configuration, holds.
_OF_VERL = {"baseline", "gamma"}

# Estimators -------------------------------------------------------------------------------------------


def groups(index: Sequence[Any] | np.ndarray, response_mask: Tensor) -> Tensor:
    """Prompt ids as integers, shape [B]; a response without a token (padding) is a group of its own."""
    _, number_B = np.unique(np.asarray(index, dtype=object).astype(str), return_inverse=True)
    group_B = torch.as_tensor(number_B, dtype=torch.int64, device=response_mask.device).reshape(-1)
    empty_B = response_mask.sum(-1) == 0
    alone_B = -1 - torch.arange(len(group_B), device=group_B.device)
    return torch.where(empty_B, alone_B, group_B)


def estimator(name: str) -> VerlEstimator:
    """The function that verl calls for one of :func:`entlaw.engines.verl.names.estimators`.

    Returns advantages twice: without a critic, verl's second value ("returns") is only logged.
    """
    ours, baseline = estimators()[name]
    if stray := sorted(set(ours.wants) & set(asdict(Algorithm())) - _OF_VERL):
        raise ValueError(
            f"{name} needs algorithm.{', algorithm.'.join(stray)}, for which verl's configuration has no place"
        )

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
