"""Which tokens of an optimiser step are treated specially: decided for all of its micro-batches at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from entlaw.dynamics.covariance import token_covariance
from entlaw.train.batch import Batch
from entlaw.train.controls import clip_cov_tokens, high_entropy_tokens, kl_cov_tokens
from entlaw.train.losses import log_ratio
from entlaw.train.schema import Controls, Loss


@dataclass(frozen=True)
class Choice:
    """Bool per token, shape [B, T]; None where the control is off."""

    detached_BT: Tensor | None = None
    """Clip-Cov: no policy gradient."""
    penalised_BT: Tensor | None = None
    """KL-Cov: pulled to the rollout policy."""
    learning_BT: Tensor | None = None
    """The high-entropy filter: only these learn."""

    def part(self, where: slice) -> Choice:
        """The same for some of the responses."""
        return self.map(lambda chosen_BT: chosen_BT[where])

    def map(self, change: Callable[[Tensor], Tensor]) -> Choice:
        """The choice with a change made to each control's tokens."""
        chosen = (self.detached_BT, self.penalised_BT, self.learning_BT)
        return Choice(*(None if t is None else change(t) for t in chosen))

    def metrics(self, mask_BT: Tensor) -> dict[str, float]:
        """The share of tokens each control really acted on: quotas are rounded, and at least one token."""
        names = ("clip_cov/effective_ratio", "kl_cov/effective_ratio", "high_entropy/effective_ratio")
        tokens = (self.detached_BT, self.penalised_BT, self.learning_BT)
        n = float(mask_BT.sum().clamp(min=1))
        return {name: float(t.sum()) / n for name, t in zip(names, tokens, strict=True) if t is not None}


def needs_log_prob(controls: Controls) -> bool:
    """Whether choosing needs the current policy's log-prob of the whole mini-batch before the loss is computed."""
    return (controls.clip_cov.ratio > 0 or controls.kl_cov.ratio > 0) and not controls.reference_code


def effective_clip(loss: Loss, controls: Controls) -> tuple[float, float] | None:
    """Lower and upper clip ratio that apply, None for no clip: the authors' code changes it with its method."""
    if loss.kind != "ppo_clip" or (controls.reference_code and controls.kl_cov.ratio > 0):
        return None
    if controls.reference_code and controls.clip_cov.ratio > 0:
        return 1.0, 1.0
    return loss.clip_ratio_low, loss.clip_ratio_high


def choose(
    log_prob_BT: Tensor, batch: Batch, loss: Loss, controls: Controls, generator: torch.Generator
) -> Choice:
    """The tokens of ``batch`` that the controls act on.

    Parameters
    ----------
    log_prob_BT : Tensor, shape [B, T]
        Of the policy as it is now, without gradient.
    batch : Batch
        All responses of the optimiser step (with ``reference_code``: of one micro-batch).
    generator : torch.Generator
        Of Clip-Cov's draw, on the CPU.
    """
    assert batch.advantages_BT is not None and batch.log_prob_BT is not None
    detached = penalised = learning = None
    clip, kl = controls.clip_cov, controls.kl_cov
    if clip.ratio > 0 or kl.ratio > 0:
        covariance_BT = token_covariance(log_prob_BT, batch.advantages_BT, batch.mask_BT)
        if clip.ratio > 0:
            eligible_BT = (batch.mask_BT > 0) & ~_stopped(log_prob_BT, batch, effective_clip(loss, controls))
            detached = clip_cov_tokens(
                covariance_BT, eligible_BT, int(batch.mask_BT.sum()), clip.ratio, clip.lower, clip.upper,
                generator=generator,
            )  # fmt: skip
        if kl.ratio > 0:
            penalised = kl_cov_tokens(covariance_BT, batch.mask_BT, kl.ratio)
    if controls.high_entropy_share < 1:
        assert batch.entropy_BT is not None
        learning = high_entropy_tokens(batch.entropy_BT, batch.mask_BT, controls.high_entropy_share)
    return Choice(detached, penalised, learning)


def _stopped(log_prob_BT: Tensor, batch: Batch, clip: tuple[float, float] | None) -> Tensor:
    """Tokens that PPO's clip gives no gradient already."""
    assert batch.advantages_BT is not None and batch.log_prob_BT is not None
    if clip is None:
        return torch.zeros_like(batch.mask_BT, dtype=torch.bool)
    ratio_BT = log_ratio(log_prob_BT, batch.log_prob_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip[0], 1 + clip[1])
    return -batch.advantages_BT * clipped_BT > -batch.advantages_BT * ratio_BT
