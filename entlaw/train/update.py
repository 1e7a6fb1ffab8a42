"""One optimiser step of the policy: tokens chosen over the whole mini-batch, gradients in micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from entlaw.train import losses
from entlaw.train.batch import Batch
from entlaw.train.choice import TokenChoice, choose, effective_clip, needs_log_prob
from entlaw.train.controls import Controls, MicroBatch
from entlaw.train.distributed import ALONE, World, whole
from entlaw.train.losses import LOSSES
from entlaw.train.policy import LanguageModel, Scores
from entlaw.train.schema import Loss


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
        policy,
        batch,
        loss,
        controls,
        temperature=temperature,
        entropy_coeff=entropy_coeff,
        norm_length=norm_length,
        generator=generator,
        on_policy=on_policy,
        zero=optimizer.zero_grad,
        world=world,
    )
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
    choice: TokenChoice | None = None
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
            choice.part(piece.rows)
            if choice is not None
            else choose(scores.log_prob_BT.detach(), part, loss, controls, generator)
        )
        part_loss, metrics = objective(
            scores,
            part,
            here,
            loss,
            controls,
            entropy_coeff=entropy_coeff,
            tokens=tokens,
            responses=responses,
            norm_length=norm_length,
            on_policy=on_policy,
        )
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
    choice: TokenChoice,
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
    loss_BT, found = policy_loss(scores.log_prob_BT, batch, loss, controls)
    metrics = dict(found)
    if batch.rollout_weight_BT is not None:
        loss_BT = loss_BT * batch.rollout_weight_BT

    def total(values_BT: Tensor) -> Tensor:
        return losses.aggregate(
            values_BT,
            mask_BT,
            loss.aggregation,
            total_tokens=tokens,
            total_responses=responses,
            norm_length=norm_length,
        )

    chosen = [(control, choice.of(control)) for control in controls.active()]
    for control, chosen_BT in chosen:
        if chosen_BT is not None:
            loss_BT = control.weigh(loss_BT, chosen_BT)
    for control, chosen_BT in chosen:
        idle = on_policy and control.idle_on_policy and not controls.reference_code
        if chosen_BT is not None and not idle:
            pull_BT = control.pull(scores.log_prob_BT, batch.log_prob_BT, chosen_BT)
            loss_BT = loss_BT if pull_BT is None else loss_BT + pull_BT
    result = total(loss_BT)
    part = MicroBatch(scores.log_prob_BT, scores.entropy_BT, batch, total, tokens, entropy_coeff)
    for control in controls.all():
        term = control.term(part, metrics)
        result = result if term is None else result + term
    return result, metrics


def policy_loss(
    log_prob_BT: Tensor, batch: Batch, loss: Loss, controls: Controls
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The policy loss per token that a recipe names; with the authors' code, under the clip that it has instead.

    Raises
    ------
    UsageError
        No policy loss has that name.
    """
    assert batch.log_prob_BT is not None and batch.advantages_BT is not None
    kind = LOSSES[loss.kind]
    if kind.stops and controls.reference_code:
        clip = effective_clip(loss, controls)
        kind = kind if clip is not None else LOSSES["policy_gradient"]
        low, high = clip or (0.0, 0.0)
        loss = replace(loss, clip_ratio_low=low, clip_ratio_high=high)
    return kind(log_prob_BT, batch.log_prob_BT, batch.advantages_BT, batch.mask_BT, loss)
