"""Choosing the tokens that Clip-Cov and KL-Cov act on: over the whole batch of one optimiser step.

The choice is a step of its own, before the loss is computed in micro-batches, so it is the same for any micro-batch
size and any number of ranks. (Choosing within each micro-batch, as the reference code does, makes the algorithm depend
on memory settings: with one sequence a micro-batch the advantage is constant, its covariance zero, and Clip-Cov never
acts.) Shares are fractions, not percent.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip_cov_tokens(
    covariance_BT: Tensor,
    eligible_BT: Tensor,
    n_tokens: int,
    clip_ratio: float = 2e-4,
    lower: float = 1.0,
    upper: float = 5.0,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Tokens that Clip-Cov detaches from the gradient (Eq. 11-12).

    Among the tokens whose covariance lies in [lower, upper], ``clip_ratio * n_tokens`` (at least one) are drawn
    uniformly at random.

    Parameters
    ----------
    covariance_BT : Tensor, shape [B, T]
        Of the whole batch (:func:`entlaw.dynamics.covariance.token_covariance`).
    eligible_BT : Tensor, shape [B, T]
        1 on response tokens that the PPO clip does not already stop.
    n_tokens : int
        Response tokens of the whole batch, the N of the quota.
    generator : torch.Generator
        On the CPU; the same seed gives the same choice on any device.

    Returns
    -------
    Tensor, shape [B, T]
        Bool, True on the chosen tokens.
    """
    inside = (eligible_BT > 0) & (covariance_BT >= lower) & (covariance_BT <= upper)
    candidates = inside.flatten().nonzero().squeeze(1)
    quota = max(int(clip_ratio * n_tokens), 1) if clip_ratio > 0 else 0
    order = torch.randperm(len(candidates), generator=generator)[:quota].to(candidates.device)
    chosen = torch.zeros_like(inside).flatten()
    chosen[candidates[order]] = True
    return chosen.view_as(inside)


def kl_cov_tokens(covariance_BT: Tensor, mask_BT: Tensor, kl_cov_ratio: float = 2e-3) -> Tensor:
    """Tokens that KL-Cov penalises (Eq. 13-14): the top ``kl_cov_ratio`` of all response tokens by covariance.

    At least one. Ties at the border are broken by position, so that the choice is reproducible.

    Returns
    -------
    Tensor, shape [B, T]
        Bool, True on the chosen tokens.
    """
    valid = (mask_BT > 0).flatten()
    quota = max(int(kl_cov_ratio * int(valid.sum())), 1) if kl_cov_ratio > 0 and valid.any() else 0
    score = torch.where(valid, covariance_BT.flatten(), torch.full_like(covariance_BT.flatten(), -torch.inf))
    chosen = torch.zeros_like(valid)
    chosen[torch.sort(score, descending=True, stable=True).indices[:quota]] = True
    return chosen.view_as(mask_BT)


def high_entropy_tokens(entropy_BT: Tensor, mask_BT: Tensor, share: float = 0.2) -> Tensor:
    """The top ``share`` of response tokens by entropy (arXiv 2506.01939, the 80/20 rule); bool, shape [B, T]."""
    return kl_cov_tokens(entropy_BT, mask_BT, share)
