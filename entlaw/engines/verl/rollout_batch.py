"""verl's rollout, as its driver sees it, as our :class:`~entlaw.train.batch.Batch`; and what is logged of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entlaw.engines.verl.functions import groups
from entlaw.engines.verl.names import LossName, loss_names
from entlaw.errors import UsageError
from entlaw.train.batch import Batch
from entlaw.train.estimate import mixed_groups
from entlaw.train.measure import Metrics, response_mean, update_record
from entlaw.train.schema import ClipCov, Controls, KlCov, Log, Loss


@dataclass(frozen=True)
class WholeBatch:
    """What our trainer does beside verl's: read from verl's configuration.

    Attributes
    ----------
    name : LossName or None
        The policy loss, None if it is not one of ours: then only metrics are added.
    loss, controls : Loss, Controls
        As our own trainer's settings.
    choose_from : {"old", "current"}
        Whose log-probs Clip-Cov and KL-Cov look at: those of the rollout policy, which verl has anyway; or those of the
        policy as it is before each optimiser step, as the paper and `entlaw train` do, for one more forward pass each.
    drop_uniform_groups : bool
        Prompts whose responses all have one reward are masked from the update.
    seed : int
        Of Clip-Cov's draw.
    shares : tuple of float
        Top shares of tokens whose mean covariance is logged.
    """

    name: LossName | None
    loss: Loss
    controls: Controls
    choose_from: str = "old"
    drop_uniform_groups: bool = False
    seed: int = 0
    shares: tuple[float, ...] = Log().covariance_shares

    @property
    def chooses(self) -> bool:
        """Whether tokens are chosen at all."""
        return self.name is not None and (bool(self.name.control) or self.controls.high_entropy_share < 1)


_OWN = {"seed", "shares", "choose_from", "drop_uniform_groups", "high_entropy_share"}


def settings(actor: Any, own: Mapping[str, Any]) -> WholeBatch:
    """What verl's configuration asks of our trainer.

    Parameters
    ----------
    actor : mapping
        ``actor_rollout_ref.actor``.
    own : mapping
        ``trainer.v1.entlaw``.

    Raises
    ------
    UsageError
        An unknown entry; an order of rows that the driver cannot foresee.
    """
    if unknown := sorted(set(own) - _OWN):
        raise UsageError(
            f"trainer.v1.entlaw has no {', '.join(unknown)}", hint=f"it has {', '.join(sorted(_OWN))}"
        )
    name = loss_names().get(actor.policy_loss.loss_mode)
    control = name.control if name is not None else ""
    cov = actor.policy_loss
    controls = Controls(
        high_entropy_share=float(own.get("high_entropy_share", 1.0)),
        clip_cov=ClipCov(float(cov.clip_cov_ratio), float(cov.clip_cov_lb), float(cov.clip_cov_ub))
        if control == "clip_cov"
        else ClipCov(),
        kl_cov=KlCov(float(cov.kl_cov_ratio), float(cov.ppo_kl_coef), name.penalty)
        if control == "kl_cov" and name is not None
        else KlCov(),
    )
    found = WholeBatch(
        name,
        Loss(
            kind=name.kind if name is not None else "ppo_clip",
            clip_ratio_low=float(actor.clip_ratio_low),
            clip_ratio_high=float(actor.clip_ratio_high),
            epochs=int(actor.ppo_epochs),
        ),
        controls,
        str(own.get("choose_from", "old")),
        bool(own.get("drop_uniform_groups", False)),
        int(own.get("seed", 0)),
        tuple(float(share) for share in own.get("shares", WholeBatch.shares)),
    )
    if found.choose_from not in ("old", "current"):
        raise UsageError(
            f"trainer.v1.entlaw.choose_from = {found.choose_from!r}", hint="it is old or current"
        )
    if controls.high_entropy_share < 1 and name is None:
        raise UsageError(
            f"the high-entropy filter needs one of our losses, and loss_mode is {cov.loss_mode!r}",
            hint="set actor_rollout_ref.actor.policy_loss.loss_mode=entlaw_ppo_clip",
        )
    if found.chooses and actor.shuffle:
        raise UsageError(
            "actor_rollout_ref.actor.shuffle=true hides from the driver which responses make up an optimiser step",
            hint="set it to false: verl has shuffled the prompts already",
        )
    return found


def to_batch(data: Mapping[str, Any], uid: Sequence[Any]) -> Batch:
    """Our batch from verl's padded response tensors.

    Parameters
    ----------
    data : mapping of str to Tensor, shape [B, T]
        ``response_mask`` and ``rm_scores``; ``old_log_probs``, ``entropy``, ``advantages``, ``ref_log_prob`` and
        ``rollout_is_weights`` where verl has them.
    uid : sequence, length B
        Prompt of each response.
    """

    def get(name: str) -> Tensor | None:
        return data[name].float() if name in data.keys() else None  # noqa: SIM118  # a TensorDict iterates over rows

    mask_BT = data["response_mask"].float()
    reward_B = data["rm_scores"].float().sum(-1)
    nothing = torch.zeros(len(mask_BT), 1, dtype=torch.int64)
    return Batch(
        prompt_BP=nothing,
        prompt_mask_BP=nothing > 0,
        response_BT=torch.zeros_like(mask_BT, dtype=torch.int64),
        mask_BT=mask_BT,
        finished_B=mask_BT.sum(-1) > 0,
        group_B=groups(uid, mask_BT),
        correct_B=reward_B,
        reward_B=reward_B,
        log_prob_BT=get("old_log_probs"),
        entropy_BT=get("entropy"),
        ref_log_prob_BT=get("ref_log_prob"),
        advantages_BT=get("advantages"),
        rollout_weight_BT=get("rollout_is_weights"),
    )


def real_rows(batch: Batch) -> Tensor:
    """Rows that have a response token: padding has none."""
    return (batch.mask_BT.sum(-1) > 0).nonzero().squeeze(1)


def uniform_rows(batch: Batch) -> Tensor:
    """Rows whose prompt's responses all have one reward; bool, shape [B]."""
    uniform_B = torch.ones(len(batch), dtype=torch.bool)
    uniform_B[mixed_groups(batch)] = False
    return uniform_B


def all_record(batch: Batch, temperature: float) -> Metrics:
    """Of all sampled responses, before any filter."""
    real = batch.rows(real_rows(batch))
    assert real.reward_B is not None
    record: Metrics = {"reward/mean": float(real.reward_B.double().mean())}
    if real.entropy_BT is not None:
        tail = "" if temperature == 1 else "_at_rollout_temperature"
        record[f"actor/entropy_response_mean{tail}"] = response_mean(real.entropy_BT, real.mask_BT)
    return record


def kept_record(batch: Batch, levels: Sequence[str], shares: Sequence[float], temperature: float) -> Metrics:
    """Of the responses that train, in the keys of our own trainer (:func:`entlaw.train.measure.update_record`)."""
    rows = real_rows(batch)
    if not len(rows):
        return {}
    kept = batch.rows(rows)
    record = update_record(kept, [levels[int(row)] for row in rows], shares)
    assert kept.reward_B is not None
    if bool(((kept.reward_B < 0) | (kept.reward_B > 1)).any()):
        # Rewards that are no scores: a group's mean is no accuracy, and there would be a key for each of them.
        record = {key: value for key, value in record.items() if not key.startswith("cov/accuracy_")}
    if temperature != 1:
        # verl's entropy is of the distribution that was sampled from; ours of these names is at temperature 1.
        record = {
            f"{key}_at_rollout_temperature" if key.startswith("actor/entropy") else key: value
            for key, value in record.items()
        }
    return record
