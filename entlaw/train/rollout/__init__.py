"""Sampling responses: the engine that a recipe names takes prompts and gives a :class:`entlaw.train.batch.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from entlaw.findings import Finding
from entlaw.train.batch import Batch
from entlaw.train.schema import Policy, Recipe, Rollout, Vllm

if TYPE_CHECKING:
    from entlaw.train.policy import LanguageModel
    from entlaw.train.rollout.vllm_core import CoreSettings


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    samples: int = 1
    """Responses a prompt."""
    max_tokens: int = 16
    """Longest response, end-of-sequence token included."""
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    batch: int = 0
    """Responses sampled at once; 0: all."""


class Engine(Protocol):
    """Something that samples from the current policy."""

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, seed: Sequence[int], first: int = 0
    ) -> Batch:
        """``sampling.samples`` responses a prompt, row i * samples + j the j-th of prompt i; ``group_B`` is i.

        ``seed`` and a prompt's number, counted from ``first``, decide its random numbers: they do not depend on what
        else is sampled at the same time.
        """

    def sync(self) -> None:
        """The policy's weights have changed: sample from the new ones."""

    def rest(self) -> None:
        """No sampling until the next :meth:`sync`: memory may be given back."""

    def close(self) -> None:
        """No more sampling: give everything back."""


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


def core_settings(
    vllm: Vllm, weights: Policy, rollout: Rollout, policy: LanguageModel, model: str, seed: int
) -> CoreSettings:
    """What vLLM is started with; see :class:`entlaw.train.rollout.vllm_core.CoreSettings`."""
    from entlaw.train.rollout.vllm_core import CoreSettings

    dtype = vllm.dtype if vllm.dtype != "auto" else ("bfloat16" if weights.autocast else weights.dtype)
    room = (rollout.max_prompt_tokens + rollout.max_tokens) if rollout.max_prompt_tokens else policy.context
    return CoreSettings(
        model=model,
        dtype="float32" if dtype == "float64" else dtype,
        max_length=min(room, policy.context),
        max_sequences=vllm.max_sequences,
        memory_share=vllm.memory_share,
        kv_cache_gb=vllm.kv_cache_gb,
        tensor_parallel=vllm.tensor_parallel,
        eager=vllm.eager,
        seed=seed,
        sleep=vllm.sleep,
    )
