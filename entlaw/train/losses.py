"""Policy losses: pure functions from log-probs to a loss per token, with the metrics each one explains itself by.

To add one, write it here with :func:`policy_loss`: recipes, rules, ``entlaw verl`` and the docs know it by its
decorator. It is called with the four tensors below, and with those settings of ``[loss]`` that its other parameters
are named after.

Shapes: B responses, T response tokens. ``log_prob_BT`` carries the gradient, ``old_log_prob_BT`` is of the rollout
policy, ``advantages_BT`` and ``mask_BT`` as in :mod:`entlaw.train.advantages`. Every function returns
``(loss_BT, metrics)``; reduce with :func:`aggregate`. Ratios are exp(log pi - log pi_old), the log-ratio clamped to
+-20 so that one freak token cannot make the loss infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from entlaw.findings import Finding
from entlaw.registry import Function, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from entlaw.train import lazy_torch as torch

_F = TypeVar("_F", bound=Callable[..., Any])
Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
_LOG_RATIO_LIMIT = 20.0


@dataclass(frozen=True)
class PolicyLoss(Function):
    """A registered policy loss.

    Attributes
    ----------
    stops : bool
        Its clip takes the gradient of a token away, so that Clip-Cov need not choose that token.
    aggregation, why_aggregation : str
        The ``loss.aggregation`` that it is defined with (empty: any), and what another one does to it.
    rule : callable, optional
        Findings of its own about a recipe that uses it.
    """

    stops: bool = False
    aggregation: str = ""
    why_aggregation: str = ""
    rule: Callable[[Any], Iterator[Finding]] = lambda recipe: iter(())

    @property
    def clips(self) -> bool:
        """It has a clip range."""
        return "clip_ratio_low" in self.wants

    @property
    def dual_clips(self) -> bool:
        """It has a dual clip."""
        return "clip_ratio_c" in self.wants

    def __call__(
        self,
        log_prob_BT: Tensor,
        old_log_prob_BT: Tensor,
        advantages_BT: Tensor,
        mask_BT: Tensor,
        settings: object,
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss per token and metrics; ``settings`` has those of ``[loss]`` as attributes."""
        tensors = (log_prob_BT, old_log_prob_BT, advantages_BT, mask_BT)
        found: tuple[Tensor, Mapping[str, Tensor]] = self.call(*tensors, **self.given(settings, after=4))
        return found


LOSSES: Registry[PolicyLoss] = Registry("policy loss")


def policy_loss(reference: str, formula: str, **more: Any) -> Callable[[_F], _F]:
    """Register a function as the loss of its name; see :class:`PolicyLoss` for what else can be said of it."""

    def add(function: _F) -> _F:
        LOSSES.add(function.__name__, PolicyLoss(function, reference, formula, **more))
        return function

    return add


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


@policy_loss("arXiv 1707.06347", "clip-higher by `clip_ratio_high`, dual clip by `clip_ratio_c`", stops=True)
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
    (arXiv 1912.09729): for A < 0 the loss is at most -c A; None or 0 for none.
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
    if clip_ratio_c:
        bound_BT = -advantages_BT * clip_ratio_c
        dual_BT = (advantages_BT < 0) & (loss_BT > bound_BT)
        loss_BT = torch.where(dual_BT, bound_BT, loss_BT)
        metrics["actor/pg_clipfrac_dual"] = masked_mean(dual_BT.to(loss_BT.dtype), mask_BT)
    return loss_BT, metrics


@policy_loss("GRPO without its clip", "no clip at all")
def policy_gradient(
    log_prob_BT: Tensor, old_log_prob_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """-A rho: importance-weighted policy gradient without any clip (GRPO's missing baseline)."""
    ratio_BT = log_ratio(log_prob_BT, old_log_prob_BT).exp()
    return -advantages_BT * ratio_BT, _ratio_metrics(log_prob_BT, old_log_prob_BT, mask_BT)


def _gspo_rule(recipe: Any) -> Iterator[Finding]:
    low, high = recipe.loss.clip_ratio_low, recipe.loss.clip_ratio_high
    if max(low, high) > 0.05:
        yield Finding(
            "gspo-clip-range",
            "warning",
            f"loss.kind = gspo with clip ratios {low:g} and {high:g}",
            "its ratio is a mean over the response and moves far less than a token's: the clip would hardly act",
            "set loss.clip_ratio_low = 3e-4 and loss.clip_ratio_high = 4e-4, as in its paper",
        )


@policy_loss(
    "arXiv 2507.18071",
    "one ratio for each response",
    aggregation="seq-mean-token-mean",
    why_aggregation="GSPO has one ratio for each response and weighs responses alike; other means weigh them by length",
    rule=_gspo_rule,
)
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


def _cispo_rule(recipe: Any) -> Iterator[Finding]:
    high = recipe.loss.clip_ratio_high
    if high < 1:
        yield Finding(
            "cispo-clip-range",
            "warning",
            f"loss.kind = cispo with loss.clip_ratio_high = {high:g}",
            "CISPO's clip truncates importance weights; so tight, it takes away most of the correction",
            "set loss.clip_ratio_low = 1 and loss.clip_ratio_high = 4 or more",
        )


@policy_loss("arXiv 2506.13585", "truncated importance weights", rule=_cispo_rule)
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
