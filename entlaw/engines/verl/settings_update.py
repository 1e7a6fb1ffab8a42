"""The settings of algorithm, loss, controls and optimiser, as verl's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from entlaw.engines.verl.names import LossName, estimator_name, named
from entlaw.findings import Finding
from entlaw.train.recipe import show
from entlaw.train.schema import ACTOR as _ACTOR
from entlaw.train.schema import ROLLOUT as _ROLLOUT
from entlaw.train.schema import Recipe

_REF = "actor_rollout_ref.ref"
_KL = {"k1": "kl", "abs": "abs", "k2": "mse", "k3": "low_var_kl"}
_NO_CLIPPING = 1e9  # a norm no gradient has


def rows_a_gpu(recipe: Recipe, gpus: int) -> float:
    """Responses of an optimiser step on one GPU."""
    return recipe.rollout.prompts / recipe.loss.mini_batches * recipe.rollout.group_size / gpus


def micro_batch(recipe: Recipe, gpus: int) -> int:
    """Responses a forward pass on one GPU."""
    rows = int(rows_a_gpu(recipe, gpus))
    return min(recipe.loss.micro_batch or rows, rows)


def loss_mode(recipe: Recipe) -> str:
    """The registered policy loss of a recipe: ours, or verl's own where the authors' code is asked for."""
    controls = recipe.controls
    clip, kl = controls.clip_cov.ratio > 0, controls.kl_cov.ratio > 0
    if controls.reference_code and (clip or kl):
        return "clip_cov" if clip else "kl_cov"
    control = next((c.name for c in controls.active() if c.marks), "")
    return str(LossName(recipe.policy_loss.name, control, controls.kl_cov.penalty))  # type: ignore[arg-type]  # as it is


def refusals(recipe: Recipe, gpus: int) -> Iterator[str]:
    """What verl cannot do, one sentence each."""
    algorithm, loss, controls, optimizer = recipe.algorithm, recipe.loss, recipe.controls, recipe.optimizer
    clip, kl = controls.clip_cov, controls.kl_cov
    if recipe.estimator.reward_model:
        yield f'algorithm.name = "{algorithm.name}": verl has no online reward model of this kind'
    elif recipe.estimator.critic and not recipe.estimator.verl:
        yield f'algorithm.name = "{algorithm.name}": verl gives estimators of others no values of its critic'
    if clip.ratio > 0 and kl.ratio > 0:
        yield "controls.clip_cov.ratio and controls.kl_cov.ratio are both above 0: verl's loss takes one choice"
    if controls.reference_code:
        if kl.ratio > 0 and kl.penalty != "abs":
            yield f'controls.kl_cov.penalty = "{kl.penalty}": the authors\' code has |log ratio| alone (abs)'
        if controls.high_entropy_share < 1:
            yield "controls.high_entropy_share < 1 with controls.reference_code: verl's own losses have no such filter"
        if loss.kind != "ppo_clip":
            yield f'loss.kind = "{loss.kind}": the authors\' code starts from ppo_clip'
    if recipe.rollout.prompts % loss.mini_batches:
        yield (
            f"loss.mini_batches = {loss.mini_batches} does not divide rollout.prompts = {recipe.rollout.prompts}: "
            "verl's mini-batches are whole prompts"
        )
    elif (rows := rows_a_gpu(recipe, gpus)) != int(rows):
        yield (
            f"an optimiser step has {int(rows * gpus)} responses (rollout.prompts / loss.mini_batches x "
            f"rollout.group_size), and {gpus} GPUs do not divide them"
        )
    elif int(rows) % micro_batch(recipe, gpus):
        yield f"loss.micro_batch = {loss.micro_batch} does not divide the {int(rows)} responses of a GPU's mini-batch"
    if recipe.vllm.tensor_parallel > gpus or gpus % recipe.vllm.tensor_parallel:
        yield f"vllm.tensor_parallel = {recipe.vllm.tensor_parallel} does not divide {gpus} GPUs"
    if controls.entropy_coeff and loss.aggregation != "token-mean":
        yield (
            f'controls.entropy_coeff = {show(controls.entropy_coeff)} with loss.aggregation = "{loss.aggregation}": '
            "verl averages the entropy as it does the loss, ours is per token"
        )
    if optimizer.warmup_steps % (loss.mini_batches * loss.epochs):
        yield (
            f"optimizer.warmup_steps = {optimizer.warmup_steps} optimiser steps are not whole rollouts of "
            f"{loss.mini_batches * loss.epochs}: verl's learning rate moves once a rollout"
        )
    if recipe.estimator.critic and not recipe.critic.value_clip:
        yield "critic.value_clip = 0: verl's critic always clips; set a large number"


def findings(recipe: Recipe) -> Iterator[Finding]:
    """What verl does otherwise."""
    algorithm, loss, controls = recipe.algorithm, recipe.loss, recipe.controls
    if algorithm.filter_groups and algorithm.max_refills:
        yield Finding(
            "verl-refills",
            "warning",
            f"algorithm.max_refills = {algorithm.max_refills} is no limit in verl: it samples until the batch is full",
            "and its actor/entropy and critic/score/mean are then those of the prompts that are left",
        )
    if algorithm.filter_groups and not algorithm.max_refills:
        yield Finding(
            "verl-filter",
            "info",
            "prompts of one reward are masked, not removed: mini-batches keep their responses and differ in tokens"
            + ("" if loss.aggregation == "token-mean" else f"; {loss.aggregation} divides by all responses"),
        )
    if (controls.clip_cov.ratio > 0 or controls.kl_cov.ratio > 0) and not controls.reference_code:
        yield Finding(
            "verl-old-log-probs",
            "info",
            "tokens are chosen by the rollout policy's log-probs; `entlaw train` uses those before each optimiser step",
            "verl has them without another forward pass",
            "append +trainer.v1.entlaw.choose_from=current behind -- for the latter",
        )
    if recipe.optimizer.warmup_steps:
        yield Finding(
            "verl-warmup", "info", "verl's learning rate rises once a rollout, not once an optimiser step"
        )
    if controls.kl_coef and controls.kl_kind == "k3" and controls.kl_in == "loss":
        yield Finding("verl-k3", "info", "verl limits the k3 estimate of a token to [-10, 10]")


def translate(recipe: Recipe, gpus: int) -> Iterator[tuple[str, Any]]:
    """verl's settings and their values."""
    yield from _algorithm(recipe)
    yield from _loss(recipe, gpus)
    yield from _controls(recipe)
    yield from _optimizer(recipe, gpus)


def _algorithm(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    algorithm, loss = recipe.algorithm, recipe.loss
    yield "algorithm.adv_estimator", estimator_name(recipe.estimator, algorithm.baseline)
    yield "critic.enable", recipe.estimator.critic
    yield from named(recipe, "algorithm.gamma", "algorithm.lam")
    refill = algorithm.filter_groups and algorithm.max_refills > 0
    yield "algorithm.filter_groups.enable", refill
    yield "algorithm.filter_groups.metric", "reward"
    yield "+trainer.v1.entlaw.drop_uniform_groups", algorithm.filter_groups and not refill
    if loss.rollout_correction != "none":
        yield "algorithm.rollout_correction.rollout_is", loss.rollout_correction
        yield from named(recipe, "loss.rollout_cap")
    if recipe.estimator.critic:
        yield from named(recipe, "critic.warmup_steps")


def _loss(recipe: Recipe, gpus: int) -> Iterator[tuple[str, Any]]:
    loss, reference = recipe.loss, recipe.controls.reference_code
    widened = reference and recipe.controls.clip_cov.ratio > 0
    low, high = (1.0, 1.0) if widened else (loss.clip_ratio_low, loss.clip_ratio_high)
    yield f"{_ACTOR}.policy_loss.loss_mode", loss_mode(recipe)
    yield f"{_ACTOR}.clip_ratio", low
    yield f"{_ACTOR}.clip_ratio_low", low
    yield f"{_ACTOR}.clip_ratio_high", high
    yield from named(recipe, "loss.clip_ratio_c", "loss.aggregation")
    if loss.aggregation == "seq-mean-token-sum-norm":
        yield f"{_ACTOR}.loss_scale_factor", recipe.rollout.max_tokens
    yield f"{_ACTOR}.ppo_mini_batch_size", recipe.rollout.prompts // loss.mini_batches
    yield from named(recipe, "loss.epochs")
    yield f"{_ACTOR}.shuffle", False
    size = micro_batch(recipe, gpus)
    yield f"{_ACTOR}.ppo_micro_batch_size_per_gpu", size
    yield f"{_ROLLOUT}.log_prob_micro_batch_size_per_gpu", size
    yield f"{_REF}.log_prob_micro_batch_size_per_gpu", size
    yield f"{_ACTOR}.data_loader_seed", recipe.run.seed


def _controls(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    controls = recipe.controls
    yield from named(recipe, "controls.entropy_coeff")
    if controls.clip_cov.on:
        table = "controls.clip_cov"
        yield from named(recipe, f"{table}.ratio", f"{table}.lower", f"{table}.upper")
    if controls.kl_cov.on:
        yield from named(recipe, "controls.kl_cov.ratio", "controls.kl_cov.coef")
    if controls.high_entropy_share < 1:
        yield "+trainer.v1.entlaw.high_entropy_share", controls.high_entropy_share
    in_loss = bool(controls.kl_coef) and controls.kl_in == "loss"
    in_reward = bool(controls.kl_coef) and controls.kl_in == "reward"
    yield f"{_ACTOR}.use_kl_loss", in_loss
    yield "algorithm.use_kl_in_reward", in_reward
    if in_loss:
        yield f"{_ACTOR}.kl_loss_coef", controls.kl_coef
        yield f"{_ACTOR}.kl_loss_type", _KL[controls.kl_kind]
    if in_reward:
        yield "algorithm.kl_ctrl.kl_coef", controls.kl_coef
        yield "algorithm.kl_penalty", _KL[controls.kl_kind]


def _optimizer(recipe: Recipe, gpus: int) -> Iterator[tuple[str, Any]]:
    optimizer, critic = recipe.optimizer, recipe.critic
    clip = optimizer.grad_clip or _NO_CLIPPING
    roles = [(_ACTOR, optimizer.lr)]
    if recipe.estimator.critic:
        roles.append(("critic", critic.lr))
        yield "critic.model.path", recipe.policy.path
        yield "critic.ppo_micro_batch_size_per_gpu", micro_batch(recipe, gpus)
        yield from named(recipe, "critic.value_clip", "critic.epochs")
        yield "trainer.max_critic_ckpt_to_keep", recipe.checkpoint.keep
    for role, lr in roles:
        yield f"{role}.optim.lr", lr
        yield f"{role}.optim.betas", list(optimizer.betas)
        yield f"{role}.optim.weight_decay", optimizer.weight_decay
        yield f"{role}.optim.clip_grad", clip
        yield f"{role}.grad_clip", clip
        if optimizer.eps != 1e-8:
            yield f"{role}.optim.override_optimizer_config", {"eps": optimizer.eps}
    rollouts = optimizer.warmup_steps // (recipe.loss.mini_batches * recipe.loss.epochs)
    yield f"{_ACTOR}.optim.lr_warmup_steps", rollouts or -1
    yield f"{_ACTOR}.optim.lr_scheduler_type", "constant"
