"""PRIME's implicit process reward model (arXiv 2502.01456): trained on outcomes, it rewards every token.

The reward of a token is beta (log pi_phi - log pi_ref), pi_phi a copy of the base policy, pi_ref the base policy
itself. pi_phi learns online by cross-entropy: sigma of a response's total reward is the probability that it is right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from entlaw.train.batch import Batch
from entlaw.train.distributed import ALONE, World
from entlaw.train.failure import require_finite
from entlaw.train.policy import LanguageModel
from entlaw.train.update import clip_gradient


def process_reward(log_prob_BT: Tensor, ref_log_prob_BT: Tensor, mask_BT: Tensor, beta: float) -> Tensor:
    """beta (log pi_phi - log pi_ref) on valid tokens, shape [B, T]."""
    return beta * (log_prob_BT - ref_log_prob_BT) * mask_BT


def outcome_loss(process_reward_BT: Tensor, correct_B: Tensor) -> Tensor:
    """-[r log sigma(s) + (1 - r) log(1 - sigma(s))] with s a response's total process reward; shape [B]."""
    return binary_cross_entropy_with_logits(process_reward_BT.sum(-1), correct_B, reduction="none")


@torch.no_grad()
def score(
    model: LanguageModel,
    batch: Batch,
    beta: float,
    temperature: float,
    micro_batch: int,
    world: World = ALONE,
) -> Tensor:
    """Process reward of every token of a batch that carries ``ref_log_prob_BT``, shape [B, T]."""
    assert batch.ref_log_prob_BT is not None
    (log_prob_BT,) = world.by_rows(
        batch, micro_batch, lambda part: [model.score(part, temperature).log_prob_BT]
    )
    return process_reward(log_prob_BT, batch.ref_log_prob_BT, batch.mask_BT, beta)


def update(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    beta: float,
    temperature: float,
    micro_batch: int,
    grad_clip: float,
    world: World = ALONE,
) -> dict[str, float]:
    """One optimiser step of the reward model on a mini-batch with known outcomes.

    The outcomes are the rewards that are optimised: with random rewards, the truth must not leak in here.

    Raises
    ------
    TrainingFailed
        The gradient is not finite; no weight was changed by it.
    """
    assert batch.ref_log_prob_BT is not None and batch.reward_B is not None
    optimizer.zero_grad()
    out = {"prime/loss": 0.0, "prime/accuracy": 0.0}
    for piece in world.pieces(batch, micro_batch):
        part, weight = piece.batch, float(piece.real)
        assert part.ref_log_prob_BT is not None and part.reward_B is not None
        log_prob_BT = model.score(part, temperature).log_prob_BT
        reward_BT = process_reward(log_prob_BT, part.ref_log_prob_BT, part.mask_BT, beta)
        loss = outcome_loss(reward_BT, part.reward_B.to(reward_BT.dtype)).sum() / len(batch) * weight
        loss.backward()
        out["prime/loss"] += float(loss.detach())
        # In float32, a model that has learned nothing says exactly one half, whatever rounding left of its reward.
        says_right_B = torch.sigmoid(reward_BT.sum(-1).float()) > 0.5
        hits = (says_right_B == (part.reward_B > 0.5)).sum()
        out["prime/accuracy"] += weight * float(hits) / len(batch)
    out = world.total(out)
    norm = clip_gradient(model.model, grad_clip)
    require_finite("reward model", norm, batch)
    optimizer.step()
    return out | {"prime/grad_norm": float(norm)}
