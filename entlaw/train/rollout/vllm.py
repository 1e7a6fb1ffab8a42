"""Rollouts by vLLM: the trainer's prompts in, a :class:`Batch` with vLLM's own log-probs out.

vLLM computes with other kernels and often in another precision than the trainer, so its log-probs are not the
trainer's. The trainer recomputes them, logs the difference, and can weight it away (``loss.rollout_correction``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from entlaw.train.batch import Batch
from entlaw.train.policy import LanguageModel
from entlaw.train.rollout import Sampling
from entlaw.train.rollout.hf import encode
from entlaw.train.rollout.vllm_core import Core, CoreSettings, SampledResponse


class SamplerCore(Protocol):
    """A core, here or in another process."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: dict[str, Any], seeds: Sequence[int]
    ) -> list[list[SampledResponse]]:
        """As :meth:`Core.generate`."""

    def sleep(self) -> None:
        """As :meth:`Core.sleep`."""

    def close(self) -> None:
        """As :meth:`Core.close`."""


class VllmEngine:
    """Samples with vLLM; an :class:`entlaw.train.rollout.Engine`.

    Parameters
    ----------
    policy : LanguageModel
        Whose tokenizer, stop tokens and weights are used.
    core : Core or RemoteCore
    push : callable
        Brings the policy's weights to the core.
    sleep : bool
        Free the core's memory between rollouts.
    """

    def __init__(
        self, policy: LanguageModel, core: SamplerCore, push: Callable[[], None], *, sleep: bool = False
    ) -> None:
        self.policy, self.core, self.push, self.sleeping = policy, core, push, sleep

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, seed: Sequence[int], first: int = 0
    ) -> Batch:
        """As :class:`entlaw.train.rollout.Engine`."""
        ids_BP, mask_BP = encode(self.policy, prompts)
        rows = [row[mask].tolist() for row, mask in zip(ids_BP.cpu(), mask_BP.cpu(), strict=True)]
        asked = {
            "samples": sampling.samples,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop_ids": list(self.policy.stop_ids),
        }
        step = max(sampling.batch // sampling.samples, 1) if sampling.batch else len(rows)
        answers: list[list[SampledResponse]] = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            answers += self.core.generate(part, asked, seeds_of(seed, first + start, len(part)))
        flat = [answer for group in answers for answer in group]
        return _batch(self.policy, ids_BP, mask_BP, flat, sampling.samples)

    def sync(self) -> None:
        """Bring the policy's present weights to vLLM."""
        self.push()

    def rest(self) -> None:
        """Give memory to the update, where the recipe says so."""
        if self.sleeping:
            self.core.sleep()

    def close(self) -> None:
        """Stop vLLM."""
        self.core.close()


def seeds_of(seed: Sequence[int], start: int, n: int) -> list[int]:
    """A seed for each of ``n`` prompts from number ``start`` on, far enough apart for vLLM's seed + j of a group."""
    return [
        int(np.random.SeedSequence([*seed, start + i]).generate_state(1, np.uint32)[0]) * 4096
        for i in range(n)
    ]


def _batch(
    policy: LanguageModel, ids_BP: Tensor, mask_BP: Tensor, answers: Sequence[SampledResponse], samples: int
) -> Batch:
    device, width = policy.device, max((len(a.tokens) for a in answers), default=1)
    response_BT = torch.full((len(answers), width), policy.pad_id)
    mask_BT = torch.zeros(len(answers), width)
    log_prob_BT = torch.zeros(len(answers), width)
    for i, answer in enumerate(answers):
        n = len(answer.tokens)
        response_BT[i, :n] = torch.tensor(answer.tokens)
        mask_BT[i, :n] = 1.0
        log_prob_BT[i, :n] = torch.tensor(answer.log_probs)
    return Batch(
        prompt_BP=ids_BP.repeat_interleave(samples, 0),
        prompt_mask_BP=mask_BP.repeat_interleave(samples, 0),
        response_BT=response_BT.to(device),
        mask_BT=mask_BT.to(device),
        finished_B=torch.tensor([a.ended for a in answers], device=device),
        group_B=torch.arange(len(ids_BP), device=device).repeat_interleave(samples),
        rollout_log_prob_BT=log_prob_BT.to(device),
    )


def weights(policy: LanguageModel, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The policy's weights in Hugging Face's names, whole where they are sharded, one after the other."""
    for name, tensor in policy.model.state_dict().items():
        whole = getattr(tensor, "full_tensor", None)
        yield name, (whole() if whole is not None else tensor).detach().to(dtype)


def in_process(policy: LanguageModel, settings: CoreSettings, sleep: bool) -> VllmEngine:
    """vLLM in this process, its weights replaced in place after each update."""
    core, dtype = Core(settings), getattr(torch, settings.dtype)
    if settings.tensor_parallel == 1:
        return VllmEngine(policy, core, lambda: core.load_weights(weights(policy, dtype)), sleep=sleep)
    # Its workers are processes of their own then, and tensors do not cross.
    folder = shared_folder()
    return VllmEngine(
        policy, core, lambda: core.load_folder(write_weights(policy, dtype, folder)), sleep=sleep
    )


def shared_folder() -> Path:
    """A new folder in shared memory where there is some; removed when this process ends."""
    import atexit
    import shutil
    import tempfile

    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="entlaw-weights-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_weights(policy: LanguageModel, dtype: torch.dtype, folder: Path) -> str:
    """The weights as one safetensors file, for vLLM's workers to read; returns the folder."""
    from safetensors.torch import save_file

    # Tied weights are written twice: without the second one vLLM keeps the old output head. The format wants copies.
    kept = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in weights(policy, dtype)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)
