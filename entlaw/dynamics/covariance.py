"""Covariance between log-prob and advantage: over tokens (Eq. 10), within groups (the bandit view), by share.

All functions look at the *whole* batch that is given to them. Which tokens have the highest covariance depends on what
the means are taken over, so a batch cut into micro-batches must be put together before asking.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_covariance(log_prob_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Each token's contribution to the covariance (Eq. 10): (log pi - mean log pi)(A - mean A), zero on padding.

    Means are over all valid tokens of the batch; the mean of the result over them is the covariance.
    """
    n = mask_BT.sum().clamp(min=1)
    centred_log_BT = log_prob_BT - (log_prob_BT * mask_BT).sum() / n
    centred_advantage_BT = advantages_BT - (advantages_BT * mask_BT).sum() / n
    return centred_log_BT * centred_advantage_BT * mask_BT


def top_share_means(covariance_BT: Tensor, mask_BT: Tensor, shares: Sequence[float]) -> dict[float, float]:
    """Mean covariance of the top share of tokens, as in the paper's Table 1.

    Parameters
    ----------
    shares : sequence of float
        Fractions, e.g. 0.0002 for 0.02 %. At least one token is taken.
    """
    values = covariance_BT[mask_BT > 0].sort(descending=True).values
    means = values.cumsum(0) / torch.arange(1, len(values) + 1, device=values.device)
    return {s: float(means[max(round(s * len(values)), 1) - 1]) for s in shares} if len(values) else {}


def group_covariance(
    log_prob_BT: Tensor,
    advantage_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    times_probability: bool = False,
) -> tuple[Tensor, Tensor]:
    """Covariance over the responses of one prompt, of mean log-prob and advantage (the bandit view, Fig. 8).

    With l_j the mean log-prob of a response's tokens (Eq. 9), the covariance over j of (l_j, A_j), or of
    (l_j, exp(l_j) A_j) with ``times_probability`` (Theorem 1, Eq. 8). The paper does not say whether pi(y|x) there is
    the product over tokens or exp(l_j); the product underflows, so exp(l_j) is used. Biased (1/K) moments.

    Returns
    -------
    covariance_G, group_G : Tensor, shape [n_groups]
        One value a group and the group's id.
    """
    length_B = mask_BT.sum(-1).clamp(min=1)
    mean_log_B = (log_prob_BT * mask_BT).sum(-1) / length_B
    value_B = mean_log_B.exp() * advantage_B if times_probability else advantage_B
    group_G, index_B = torch.unique(group_B, return_inverse=True)
    size_G = torch.zeros(len(group_G), dtype=mean_log_B.dtype, device=mean_log_B.device).index_add_(
        0, index_B, torch.ones_like(mean_log_B)
    )

    def mean(values_B: Tensor) -> Tensor:
        return torch.zeros_like(size_G).index_add_(0, index_B, values_B) / size_G

    centred_B = (mean_log_B - mean(mean_log_B)[index_B]) * (value_B - mean(value_B)[index_B])
    return mean(centred_B), group_G
