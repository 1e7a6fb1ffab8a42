"""The settings of model, data, rollout and validation, as verl's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entlaw.engines.verl.names import named
from entlaw.findings import Finding
from entlaw.train.schema import MODEL as _MODEL
from entlaw.train.schema import ROLLOUT as _ROLLOUT
from entlaw.train.schema import Recipe

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat template that is none, for base models: verl sends every prompt through one."""
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def refusals(recipe: Recipe) -> Iterator[str]:
    """What verl cannot do, one sentence each."""
    task, policy, rollout = recipe.task, recipe.policy, recipe.rollout
    if task.name == "arithmetic":
        yield 'task.name = "arithmetic": made-up sums are for the small models of `entlaw train`; name data sets'
    if not policy.path:
        yield "policy.path is empty: verl trains models of the hub or of a folder, not ours of the ladder"
    if policy.dtype == "float64":
        yield 'policy.dtype = "float64": verl\'s engines take float32 and bfloat16'
    if rollout.engine != "vllm":
        yield f'rollout.engine = "{rollout.engine}": verl samples by servers of its own; set rollout.engine="vllm"'
    if not rollout.max_prompt_tokens:
        yield "rollout.max_prompt_tokens = 0: verl wants a number; set it to the longest prompt, such as 2048"
    if not (recipe.run.device == "auto" or recipe.run.device == "cuda"):
        yield f'run.device = "{recipe.run.device}": verl places itself on all GPUs it is given'


def findings(recipe: Recipe, adds_bos: bool | None) -> Iterator[Finding]:
    """What verl does otherwise."""
    scaled = recipe.loss.aggregation in ("seq-mean-token-sum", "seq-mean-token-sum-norm")
    yield Finding(
        "verl-entropy", "warning" if scaled else "info",
        "verl's actor/entropy is at the rollout temperature and averaged as the loss is"
        + (", so that with this loss.aggregation it is not in nats per token" if scaled else ""),
        "entropies of other definitions are not comparable",
        "actor/entropy_kept, which the trainer adds, is a mean over tokens",
    )  # fmt: skip
    yield Finding(
        "verl-cut-responses", "info",
        "a response that was cut off is checked as it stands: verl does not tell a reward function that it was",
    )  # fmt: skip
    if not recipe.task.chat and adds_bos is None:
        yield Finding(
            "verl-bos", "warning",
            "the model's tokenizer is not at hand, so prompts are written without a beginning-of-sequence token",
            "Llama and Mistral base models expect one; Qwen models have none",
            "put the model's folder into policy.path, or give access to the hub",
        )  # fmt: skip


def translate(
    recipe: Recipe, data: tuple[Path, Path | None], adds_bos: bool | None
) -> Iterator[tuple[str, Any]]:
    """verl's settings and their values."""
    task, policy, rollout, vllm = recipe.task, recipe.policy, recipe.rollout, recipe.vllm
    train, validation = data
    yield "data.train_files", str(train)
    yield "data.val_files", str(validation or train)
    yield from named(recipe, "rollout.prompts", "rollout.max_prompt_tokens", "rollout.max_tokens")
    yield "data.filter_overlong_prompts", True
    yield "data.truncation", "error"
    yield "data.shuffle", True
    yield "data.seed", recipe.run.seed
    # Rewards
    yield "reward.custom_reward_function.path", "pkg://entlaw.engines.verl.reward"
    yield "reward.custom_reward_function.name", "compute_score"
    if task.format_weight:
        yield "+reward.custom_reward_function.reward_kwargs.format", task.format
        yield "+reward.custom_reward_function.reward_kwargs.format_weight", task.format_weight
    yield from named(recipe, "task.workers")
    # Model
    yield from named(recipe, "policy.path", "policy.gradient_checkpointing")
    if not task.chat:
        yield f"{_MODEL}.custom_chat_template", ("{{ bos_token }}" if adds_bos else "") + PLAIN
    compute = "bfloat16" if policy.autocast or policy.dtype == "bfloat16" else "float32"
    for role in ("actor", "ref"):
        yield f"actor_rollout_ref.{role}.fsdp_config.model_dtype", DTYPES[policy.dtype]
        yield f"actor_rollout_ref.{role}.fsdp_config.dtype", compute
    # Sampling
    yield f"{_ROLLOUT}.name", "vllm"
    yield from named(recipe, "rollout.group_size", "rollout.temperature", "rollout.top_p")
    yield f"{_ROLLOUT}.top_k", rollout.top_k or -1
    yield f"{_ROLLOUT}.seed", recipe.run.seed
    yield f"{_ROLLOUT}.dtype", compute if vllm.dtype == "auto" else vllm.dtype
    yield from named(recipe, "vllm.memory_share", "vllm.tensor_parallel", "vllm.max_sequences")
    yield from named(recipe, "vllm.eager", "vllm.sleep")
    # Validation
    yield from named(recipe, "validation.samples", "validation.temperature", "validation.top_p")
    yield f"{_ROLLOUT}.val_kwargs.do_sample", recipe.validation.temperature > 0
