"""The settings of model, data, rollout and validation, as verl's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entlaw.findings import Finding
from entlaw.train.schema import Recipe

_MODEL, _ROLLOUT, _ACTOR = "actor_rollout_ref.model", "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
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
    yield "data.train_batch_size", rollout.prompts
    yield "data.max_prompt_length", rollout.max_prompt_tokens
    yield "data.max_response_length", rollout.max_tokens
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
    yield "reward.num_workers", task.workers
    # Model
    yield f"{_MODEL}.path", policy.path
    yield f"{_MODEL}.enable_gradient_checkpointing", policy.gradient_checkpointing
    if not task.chat:
        yield f"{_MODEL}.custom_chat_template", ("{{ bos_token }}" if adds_bos else "") + PLAIN
    compute = "bfloat16" if policy.autocast or policy.dtype == "bfloat16" else "float32"
    for role in ("actor", "ref"):
        yield f"actor_rollout_ref.{role}.fsdp_config.model_dtype", DTYPES[policy.dtype]
        yield f"actor_rollout_ref.{role}.fsdp_config.dtype", compute
    # Sampling
    yield f"{_ROLLOUT}.name", "vllm"
    yield f"{_ROLLOUT}.n", rollout.group_size
    yield f"{_ROLLOUT}.temperature", rollout.temperature
    yield f"{_ROLLOUT}.top_p", rollout.top_p
    yield f"{_ROLLOUT}.top_k", rollout.top_k or -1
    yield f"{_ROLLOUT}.seed", recipe.run.seed
    yield f"{_ROLLOUT}.dtype", compute if vllm.dtype == "auto" else vllm.dtype
    yield f"{_ROLLOUT}.gpu_memory_utilization", vllm.memory_share
    yield f"{_ROLLOUT}.tensor_model_parallel_size", vllm.tensor_parallel
    yield f"{_ROLLOUT}.max_num_seqs", vllm.max_sequences
    yield f"{_ROLLOUT}.enforce_eager", vllm.eager
    yield f"{_ROLLOUT}.free_cache_engine", vllm.sleep
    # Validation
    check = recipe.validation
    yield f"{_ROLLOUT}.val_kwargs.n", check.samples
    yield f"{_ROLLOUT}.val_kwargs.temperature", check.temperature
    yield f"{_ROLLOUT}.val_kwargs.top_p", check.top_p
    yield f"{_ROLLOUT}.val_kwargs.do_sample", check.temperature > 0
