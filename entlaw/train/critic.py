"""PPO's value function: the base policy's body with a scalar head, trained beside the policy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from entlaw.train.batch import Batch
from entlaw.train.distributed import ALONE, World
from entlaw.train.failure import require_finite
from entlaw.train.losses import masked_mean
from entlaw.train.policy import LanguageModel
from entlaw.train.update import clip_gradient


class Critic(nn.Module):
    """V(prefix) for the state in front of each response token."""

    def __init__(self, policy: LanguageModel) -> None:
        super().__init__()
        self.policy = policy.trainable_copy()
        self.body = self.policy.model
        weight = self.body.get_output_embeddings().weight
        if weight is not self.body.get_input_embeddings().weight:  # tied, it is what the body reads with
            weight.requires_grad_(False)  # a critic has no use for the vocabulary
        self.head = nn.Linear(weight.shape[1], 1, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.head.weight)  # every state starts at value 0, whatever the body says
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> Tensor:
        """Values, zero on padding, shape [B, T], float32 at least."""
        values_BT = self.head(self.policy.hidden(batch).to(self.head.weight.dtype)).squeeze(-1)
        return values_BT.to(torch.promote_types(values_BT.dtype, torch.float32)) * batch.mask_BT


def value_loss(
    value_BT: Tensor, old_value_BT: Tensor, return_BT: Tensor, value_clip: float
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """PPO's clipped value loss: max((V - R)^2, (clip(V, V_old +- c) - R)^2) / 2 per token, shape [B, T].

    ``value_clip`` 0 leaves the plain squared error.
    """
    plain_BT = (value_BT - return_BT) ** 2
    if value_clip <= 0:
        return 0.5 * plain_BT, {}
    moved_BT = value_BT - old_value_BT
    near_BT = old_value_BT + moved_BT.clamp(-value_clip, value_clip)
    clipped_BT = (near_BT - return_BT) ** 2
    # Inside the limits the two differ by rounding alone, which is no clip.
    acts_BT = (moved_BT.abs() > value_clip) & (clipped_BT > plain_BT)
    return 0.5 * torch.maximum(plain_BT, clipped_BT), {"critic/clipped": acts_BT.float()}


def explained_variance(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor) -> float:
    """1 - var(R - V) / var(R) over the valid tokens; NaN when all returns are equal."""
    valid = mask_BT > 0
    spread = return_BT[valid].var(unbiased=False)
    return (
        float(1 - (return_BT - value_BT)[valid].var(unbiased=False) / spread) if spread > 0 else float("nan")
    )


def update(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    value_clip: float,
    micro_batch: int,
    grad_clip: float,
    world: World = ALONE,
) -> dict[str, float]:
    """One optimiser step on a mini-batch that carries ``value_BT`` and ``return_BT``; token-mean loss.

    Raises
    ------
    TrainingFailed
        The gradient is not finite; no weight was changed by it.
    """
    assert batch.value_BT is not None and batch.return_BT is not None
    tokens = batch.mask_BT.sum().clamp(min=1)
    optimizer.zero_grad()
    out = {"critic/loss": 0.0, "critic/clipfrac": 0.0}
    for piece in world.pieces(batch, micro_batch):
        part = piece.batch
        assert part.value_BT is not None and part.return_BT is not None
        loss_BT, metrics = value_loss(critic(part), part.value_BT, part.return_BT, value_clip)
        loss = (loss_BT * part.mask_BT).sum() / tokens * float(piece.real)
        loss.backward()
        out["critic/loss"] += float(loss.detach())
        if "critic/clipped" in metrics:
            share = part.mask_BT.sum() / tokens * float(piece.real)
            out["critic/clipfrac"] += float(masked_mean(metrics["critic/clipped"], part.mask_BT) * share)
    out = world.total(out)
    norm = clip_gradient(critic, grad_clip)
    require_finite("critic", norm, batch)
    optimizer.step()
    return out | {"critic/grad_norm": float(norm)}
