"""The engine that a recipe names."""

from __future__ import annotations

import torch

from entlaw.findings import Finding
from entlaw.train.policy import LanguageModel
from entlaw.train.rollout import Engine
from entlaw.train.schema import Policy, Recipe, Rollout, Vllm


def engine_of(recipe: Recipe, policy: LanguageModel, model: str) -> Engine:
    """The recipe's engine for a policy.

    Parameters
    ----------
    model : str
        Folder or hub id of a model of the policy's architecture; vLLM starts from it.

    Raises
    ------
    MissingExtra, UsageError, UnreadableSource
        vLLM is missing or does not start.
    """
    name, seed = recipe.rollout.engine, recipe.run.seed
    if name == "hf":
        from entlaw.train.rollout.hf import HFEngine

        return HFEngine(policy)
    settings = core_settings(recipe.vllm, recipe.policy, recipe.rollout, policy, model, seed)
    if name == "vllm":
        from entlaw.train.rollout.vllm import in_process

        return in_process(policy, settings, recipe.vllm.sleep)
    from entlaw.train.rollout.vllm_process import own_process

    return own_process(policy, settings, recipe.vllm)


def engine_findings(recipe: Recipe) -> list[Finding]:
    """What is doubtful about the installed engine.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    if recipe.rollout.engine == "hf":
        return []
    from entlaw.train.rollout.vllm_core import version_warning

    told = version_warning()
    why = "the calls that replace its weights change between releases"
    hint = "watch rollout/log_prob_difference: it must stay as small as it is at step 1"
    return [Finding("vllm-untested", "warning", told, why, hint)] if told else []


def core_settings(  # type: ignore[no-untyped-def]  # its class needs no vLLM, but is only wanted with it
    vllm: Vllm, weights: Policy, rollout: Rollout, policy: LanguageModel, model: str, seed: int
):
    """What vLLM is started with; see :class:`entlaw.train.rollout.vllm_core.CoreSettings`."""
    from entlaw.train.rollout.vllm_core import CoreSettings

    dtype = vllm.dtype if vllm.dtype != "auto" else ("bfloat16" if weights.autocast else weights.dtype)
    room = (rollout.max_prompt_tokens + rollout.max_tokens) if rollout.max_prompt_tokens else policy.context
    return CoreSettings(
        model=model,
        dtype=dtype if dtype != "float64" else str(torch.float32).removeprefix("torch."),
        max_length=min(room, policy.context),
        max_sequences=vllm.max_sequences,
        memory_share=vllm.memory_share,
        kv_cache_gb=vllm.kv_cache_gb,
        tensor_parallel=vllm.tensor_parallel,
        eager=vllm.eager,
        seed=seed,
        sleep=vllm.sleep,
    )
