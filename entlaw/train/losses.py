"""Policy losses: pure functions from log-probs to a loss per token, with the metrics each one explains itself by.

Shapes: B responses, T response tokens. ``log_prob_BT`` carries the gradient, ``old_log_prob_BT`` is of the rollout
policy, ``advantages_BT`` and ``mask_BT`` as in :mod:`entlaw.train.advantages`. Every function returns
``(loss_BT, metrics)``; reduce with :func:`aggregate`. Ratios are exp(log pi - log pi_old), the log-ratio clamped to
+-20 so that one freak token cannot make the loss infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
_LOG_RATIO_LIMIT = 20.0


def aggregate(
    loss_BT: Tensor,
    mask_BT: Tensor,
    mode: Aggregation = "token-mean",
    *,
    total_tokens: float | None = None,
    total_responses: float | None = None,
    norm_length: float | None = None,
) -> Tensor:
    """Reduce a loss per token to a scalar whose sum over micro-batches does not depend on how they were cut.

    Parameters
    ----------
    loss_BT, mask_BT : Tensor, shape [B, T]
    mode : str
        ``token-mean``: sum / tokens of the batch (DAPO). ``seq-mean-token-mean``: mean over responses of token means
        (GRPO). ``seq-mean-token-sum``: mean over responses of token sums. ``seq-mean-token-sum-norm``: the same
        divided by a constant length (Dr. GRPO).
    total_tokens, total_responses : float, optional
        Of the whole optimiser step, when this is one micro-batch of it: then the sum of the micro-batches' results is
        the whole batch's loss. Default: of this batch.
    norm_length : float, optional
        The constant of ``seq-mean-token-sum-norm``; default T.
    """
    loss_BT = loss_BT * mask_BT
    tokens = float(mask_BT.sum()) if total_tokens is None else total_tokens
    responses = float((mask_BT.sum(-1) > 0).sum()) if total_responses is None else total_responses
    if mode == "token-mean":
        return loss_BT.sum() / max(tokens, 1.0)
    per_response_B = loss_BT.sum(-1)
    if mode == "seq-mean-token-mean":
        per_response_B = per_response_B / mask_BT.sum(-1).clamp(min=1)
    elif mode == "seq-mean-token-sum-norm":
        per_response_B = per_response_B / (norm_length or mask_BT.shape[1])
    elif mode != "seq-mean-token-sum":
        raise ValueError(f"unknown loss aggregation {mode!r}")
    return per_response_B.sum() / max(responses, 1.0)


def log_ratio(log_prob_BT: Tensor, old_log_prob_BT: Tensor) -> Tensor:
    """log pi - log pi_old, clamped to +-20."""
    return (log_prob_BT - old_log_prob_BT).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over valid tokens."""
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def policy_gradient(
    log_prob_BT: Tensor, old_log_prob_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """-A rho: importance-weighted policy gradient without any clip (GRPO's missing baseline)."""
    ratio_BT = log_ratio(log_prob_BT, old_log_prob_BT).exp()
    return -advantages_BT * ratio_BT, _ratio_metrics(log_prob_BT, old_log_prob_BT, mask_BT)


def ppo_clip(
    log_prob_BT: Tensor,
    old_log_prob_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip_ratio_low: float = 0.2,
    clip_ratio_high: float = 0.2,
    clip_ratio_c: float | None = None,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """PPO's clipped surrogate (arXiv 1707.06347): max(-A rho, -A clip(rho, 1 - low, 1 + high)).

    ``clip_ratio_high > clip_ratio_low`` is clip-higher (DAPO, arXiv 2503.14476). ``clip_ratio_c`` adds dual clip
    (arXiv 1912.09729): for A < 0 the loss is at most -c A.
    """
    ratio_BT = log_ratio(log_prob_BT, old_log_prob_BT).exp()
    plain_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip_ratio_low, 1 + clip_ratio_high)
    loss_BT = torch.maximum(plain_BT, clipped_BT)
    metrics = dict(_ratio_metrics(log_prob_BT, old_log_prob_BT, mask_BT))
    active_BT = (clipped_BT > plain_BT).to(loss_BT.dtype)
    metrics["actor/pg_clipfrac"] = masked_mean(active_BT, mask_BT)
    metrics["actor/pg_clipfrac_high"] = masked_mean(active_BT * (advantages_BT > 0), mask_BT)
    metrics["actor/pg_clipfrac_low"] = masked_mean(active_BT * (advantages_BT < 0), mask_BT)
    if clip_ratio_c is not None:
        bound_BT = -advantages_BT * clip_ratio_c
        dual_BT = (advantages_BT < 0) & (loss_BT > bound_BT)
        loss_BT = torch.where(dual_BT, bound_BT, loss_BT)
        metrics["actor/pg_clipfrac_dual"] = masked_mean(dual_BT.to(loss_BT.dtype), mask_BT)
    return loss_BT, metrics


def gspo(
    log_prob_BT: Tensor,
    old_log_prob_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip_ratio_low: float = 3e-4,
    clip_ratio_high: float = 4e-4,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """GSPO (arXiv 2507.18071): the ratio of a response is s = exp(mean_t log rho), clipped as one.

    Each token carries s with the gradient of its own log-prob (the paper's token form), so that the sum over a
    response has the gradient of s. Reduce with ``seq-mean-token-mean``.
    """
    log_rho_BT = log_prob_BT - old_log_prob_BT
    mean_B = (log_rho_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1)
    token_BT = log_prob_BT - log_prob_BT.detach() + mean_B.detach().unsqueeze(-1)
    ratio_BT = token_BT.clamp(max=_LOG_RATIO_LIMIT).exp()
    plain_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip_ratio_low, 1 + clip_ratio_high)
    metrics = dict(_ratio_metrics(log_prob_BT, old_log_prob_BT, mask_BT))
    metrics["actor/pg_clipfrac"] = masked_mean((clipped_BT > plain_BT).to(plain_BT.dtype), mask_BT)
    return torch.maximum(plain_BT, clipped_BT), metrics


def cispo(
    log_prob_BT: Tensor,
    old_log_prob_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip_ratio_low: float = 1.0,
    clip_ratio_high: float = 5.0,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """CISPO (arXiv 2506.13585): -stopgrad(clip(rho, 1 - low, 1 + high)) A log pi."""
    ratio_BT = log_ratio(log_prob_BT, old_log_prob_BT).exp().detach()
    weight_BT = ratio_BT.clamp(1 - clip_ratio_low, 1 + clip_ratio_high)
    metrics = dict(_ratio_metrics(log_prob_BT, old_log_prob_BT, mask_BT))
    metrics["actor/pg_clipfrac"] = masked_mean((weight_BT != ratio_BT).to(ratio_BT.dtype), mask_BT)
    return -weight_BT * advantages_BT * log_prob_BT, metrics


def _ratio_metrics(log_prob_BT: Tensor, old_log_prob_BT: Tensor, mask_BT: Tensor) -> Mapping[str, Tensor]:
    """Mean of -log rho over the batch: an estimate (k1) of KL(pi_old || pi)."""
    with torch.no_grad():
        return {"actor/ppo_kl": masked_mean(-log_ratio(log_prob_BT, old_log_prob_BT), mask_BT)}


def kl_penalty(
    log_prob_BT: Tensor, ref_log_prob_BT: Tensor, kind: Literal["k1", "abs", "k2", "k3"] = "k3"
) -> Tensor:
    """Estimators of KL(pi || pi_ref) per sampled token, with d = log pi_ref - log pi.

    k1 = -d; abs = ``|d|``; k2 = d^2 / 2; k3 = exp(d) - d - 1. As a *loss* on samples of pi only k2 has the gradient
    of the KL; k1's has mean zero and k3's is that of the reverse divergence. Shape [B, T].
    """
    d_BT = (ref_log_prob_BT - log_prob_BT).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    if kind == "k1":
        return -d_BT
    if kind == "abs":
        return d_BT.abs()
    if kind == "k2":
        return 0.5 * d_BT**2
    if kind == "k3":
        return d_BT.exp() - d_BT - 1
    raise ValueError(f"unknown KL estimator {kind!r}")
