"""One optimiser step of the policy: tokens chosen over the whole mini-batch, gradients in micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from entlaw.train import losses
from entlaw.train.batch import Batch
from entlaw.train.choice import Choice, choose, effective_clip, needs_log_prob
from entlaw.train.distributed import ALONE, World, whole
from entlaw.train.policy import LanguageModel, Scores
from entlaw.train.schema import Controls, Loss


def update(
    policy: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss: Loss,
    controls: Controls,
    *,
    temperature: float,
    entropy_coeff: float,
    grad_clip: float,
    norm_length: float,
    generator: torch.Generator,
    on_policy: bool = False,
    world: World = ALONE,
) -> dict[str, float]:
    """Improve the policy on one mini-batch.

    Parameters
    ----------
    batch : Batch
        With ``log_prob_BT`` of the rollout policy and ``advantages_BT``.
    entropy_coeff : float
        Of this step (an adaptive one changes).
    norm_length : float
        The constant of ``seq-mean-token-sum-norm``, in tokens.
    on_policy : bool
        The policy still is the rollout policy, so its log-probs are known.
    world : World
        The ranks that share the work; each is given the whole mini-batch.

    Returns
    -------
    dict of str to float
        ``actor/loss`` is not finite when the step must not be taken; then no weight was changed.
    """
    gradient_metrics = backward(
        policy, batch, loss, controls,
        temperature=temperature, entropy_coeff=entropy_coeff, norm_length=norm_length,
        generator=generator, on_policy=on_policy, zero=optimizer.zero_grad, world=world,
    )  # fmt: skip
    norm = clip_gradient(policy.model, grad_clip)
    metrics = {**gradient_metrics, "actor/grad_norm": float(norm)}
    if not torch.isfinite(norm):
        metrics["actor/loss"] = float("nan")
    if metrics["actor/loss"] == metrics["actor/loss"]:
        optimizer.step()
    return metrics


def backward(
    policy: LanguageModel,
    batch: Batch,
    loss: Loss,
    controls: Controls,
    *,
    temperature: float,
    entropy_coeff: float,
    norm_length: float,
    generator: torch.Generator,
    on_policy: bool = False,
    zero: Any = lambda: None,
    world: World = ALONE,
) -> dict[str, float]:
    """Gradients of the whole mini-batch, however it is cut into micro-batches and ranks; returns the metrics."""
    zero()
    choice: Choice | None = None
    if not controls.reference_code:
        assert batch.log_prob_BT is not None
        current_BT = batch.log_prob_BT
        if needs_log_prob(controls) and not on_policy:
            with torch.no_grad():
                (current_BT,) = world.by_rows(
                    batch, loss.micro_batch, lambda part: [policy.score(part, temperature).log_prob_BT]
                )
        choice = choose(current_BT, batch, loss, controls, generator).map(world.same)
    tokens, responses = float(batch.mask_BT.sum()), float((batch.mask_BT.sum(-1) > 0).sum())
    out: dict[str, float] = {}
    for piece in world.pieces(batch, loss.micro_batch):
        part = piece.batch
        scores = policy.score(part, temperature)
        here = (
            choice.part(piece.rows) if choice is not None
            else choose(scores.log_prob_BT.detach(), part, loss, controls, generator)
        )  # fmt: skip
        part_loss, metrics = objective(
            scores, part, here, loss, controls,
            entropy_coeff=entropy_coeff, tokens=tokens, responses=responses, norm_length=norm_length,
            on_policy=on_policy,
        )  # fmt: skip
        weight = float(piece.real)
        (part_loss if piece.real else part_loss * 0.0).backward()
        share = weight * float(part.mask_BT.sum()) / max(tokens, 1.0)
        numbers = {key: float(value.detach()) for key, value in metrics.items()} | here.metrics(part.mask_BT)
        for key, number in numbers.items():
            out[key] = out.get(key, 0.0) + share * number
        out["actor/loss"] = out.get("actor/loss", 0.0) + weight * float(part_loss.detach())
    return world.total(out)


def clip_gradient(model: nn.Module, limit: float) -> Tensor:
    """Scale a model's gradient down to a norm of ``limit`` (0: leave it); returns the norm, over all ranks."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit or float("inf"))
    return whole(norm.detach())


def objective(
    scores: Scores,
    batch: Batch,
    choice: Choice,
    loss: Loss,
    controls: Controls,
    *,
    entropy_coeff: float,
    tokens: float,
    responses: float,
    norm_length: float,
    on_policy: bool = False,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of one micro-batch: policy loss, penalties, bonus. Micro-batches' losses add up to the mini-batch's."""
    assert batch.log_prob_BT is not None and batch.advantages_BT is not None
    mask_BT = batch.mask_BT
    loss_BT, metrics = policy_loss(scores.log_prob_BT, batch, loss, controls)
    metrics = dict(metrics)
    if batch.rollout_weight_BT is not None:
        loss_BT = loss_BT * batch.rollout_weight_BT
    if choice.detached_BT is not None:
        loss_BT = torch.where(choice.detached_BT, loss_BT.detach(), loss_BT)
    if choice.learning_BT is not None:
        loss_BT = loss_BT * choice.learning_BT
    kl = controls.kl_cov
    # On policy only k1's pull has a gradient; left to rounding, that of |log ratio| would be noise of full size.
    idle = on_policy and kl.penalty != "k1" and not controls.reference_code
    if choice.penalised_BT is not None and not idle:
        # Eq. 14's KL(pi_old || pi), estimated on samples of pi_old.
        pull_BT = losses.kl_penalty(batch.log_prob_BT, scores.log_prob_BT, kl.penalty)
        loss_BT = loss_BT + kl.coef * torch.where(choice.penalised_BT, pull_BT, torch.zeros_like(pull_BT))

    def total(values_BT: Tensor) -> Tensor:
        return losses.aggregate(
            values_BT, mask_BT, loss.aggregation,
            total_tokens=tokens, total_responses=responses, norm_length=norm_length,
        )  # fmt: skip

    result = total(loss_BT)
    if controls.kl_coef and controls.kl_in == "loss":
        assert batch.ref_log_prob_BT is not None
        kl_BT = losses.kl_penalty(scores.log_prob_BT, batch.ref_log_prob_BT, controls.kl_kind)
        result = result + controls.kl_coef * total(kl_BT)
        metrics["actor/kl_loss"] = losses.masked_mean(kl_BT.detach(), mask_BT)
    if entropy_coeff:
        # Per token of the whole step for every aggregation, so that one coefficient means one thing.
        result = result - entropy_coeff * (scores.entropy_BT * mask_BT).sum() / max(tokens, 1.0)
    return result, metrics


def policy_loss(
    log_prob_BT: Tensor, batch: Batch, loss: Loss, controls: Controls
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The policy loss per token that a recipe names."""
    assert batch.log_prob_BT is not None and batch.advantages_BT is not None
    arguments = (log_prob_BT, batch.log_prob_BT, batch.advantages_BT, batch.mask_BT)
    if loss.kind == "gspo":
        return losses.gspo(*arguments, loss.clip_ratio_low, loss.clip_ratio_high)
    if loss.kind == "cispo":
        return losses.cispo(*arguments, loss.clip_ratio_low, loss.clip_ratio_high)
    clip = effective_clip(loss, controls)
    if clip is None:
        return losses.policy_gradient(*arguments)
    return losses.ppo_clip(*arguments, *clip, loss.clip_ratio_c or None)
