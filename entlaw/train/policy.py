"""The policy: a causal language model with its tokenizer, and what is asked of it.

Shapes: B responses, P prompt tokens (padded on the left), T response tokens (padded on the right), N valid response
tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from entlaw.dynamics.entropy import token_statistics
from entlaw.errors import UnreadableSource, UsageError
from entlaw.train import hub
from entlaw.train.batch import Batch
from entlaw.train.packing import Pack, pack, pays
from entlaw.train.schema import Policy as PolicySettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Rotary positions and a mask, nothing else that depends on where a token stands; SmolLM2 and DeepSeek-Math are Llamas.
_PACKABLE = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma"})


class Scores(NamedTuple):
    """Per response token, zero on padding, shape [B, T]."""

    log_prob_BT: Tensor
    entropy_BT: Tensor
    sum_p_squared_BT: Tensor


@dataclass(frozen=True)
class LanguageModel:
    """A model, its tokenizer, and how its passes run.

    Attributes
    ----------
    stop_ids : tuple of int
        Tokens that end a response.
    root : Module or None
        Where the weights are spread over several ranks: the module whose forward gathers them for :meth:`score`.
    plain : PreTrainedModel or None
        Then also a model of the same make without weights (:mod:`entlaw.train.distributed_model`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: tuple[int, ...]
    pad_id: int
    autocast: bool = False
    root: torch.nn.Module | None = field(default=None, repr=False, compare=False)
    plain: PreTrainedModel | None = field(default=None, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def context(self) -> int:
        """Longest sequence, prompt and response together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 2**31)

    @property
    def parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.model.parameters())

    def frozen_copy(self) -> LanguageModel:
        """The same model, never trained: a reference policy."""
        return self._with(copy.deepcopy(self.model).requires_grad_(False).eval())

    def trainable_copy(self) -> LanguageModel:
        """The same model with weights of its own."""
        return self._with(copy.deepcopy(self.model).requires_grad_(True))

    def _with(self, model: PreTrainedModel) -> LanguageModel:
        return LanguageModel(model, self.tokenizer, self.stop_ids, self.pad_id, self.autocast)

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states in front of each response token, shape [B, T, D]; of no meaning on padding."""
        with autocast(self.device, self.autocast):
            if self._can_pack(batch) and pays(batch, self.model.config.hidden_size):
                return self._hidden_packed(pack(batch, self.pad_id))
            return self._hidden_padded(batch)

    def _hidden_packed(self, packed: Pack) -> Tensor:
        out = self.model.base_model(
            input_ids=packed.tokens_GL,
            attention_mask=packed.mask_G1LL,
            position_ids=packed.position_GL,
            use_cache=False,
        )
        flat = out.last_hidden_state.flatten(0, 1).index_select(0, packed.source_BT.flatten())
        return flat.view(*packed.source_BT.shape, -1)

    def _hidden_padded(self, batch: Batch) -> Tensor:
        tokens = torch.cat([batch.prompt_BP, batch.response_BT], 1)
        mask = torch.cat([batch.prompt_mask_BP, batch.mask_BT > 0], 1)
        out = self.model.base_model(
            input_ids=tokens,
            attention_mask=mask.long(),
            position_ids=position_ids(mask),
            use_cache=False,
        )
        width = batch.prompt_BP.shape[1]
        return out.last_hidden_state[:, width - 1 : -1]

    def _can_pack(self, batch: Batch) -> bool:
        """Whether the model knows order by mask and positions alone, and no response reaches beyond its window."""
        config = self.model.config
        window = getattr(config, "sliding_window", None) or math.inf
        length = batch.prompt_BP.shape[1] + batch.response_BT.shape[1]
        plain = config.model_type in _PACKABLE and config._attn_implementation == "sdpa"
        return bool(plain and length <= window)

    def score(self, batch: Batch, temperature: float = 1.0) -> Scores:
        """Log-prob of the response tokens and the exact entropy in front of them, with gradient where enabled."""
        if self.root is not None:
            sharded: Scores = self.root(batch, temperature)
            return sharded
        valid = batch.mask_BT > 0
        hidden_ND = self.hidden(batch)[valid]
        head = self.model.get_output_embeddings()
        with autocast(self.device, self.autocast):
            weight_VD = head.weight.to(torch.bfloat16) if self.autocast else head.weight
            statistics = token_statistics(
                hidden_ND.to(weight_VD.dtype), weight_VD, batch.response_BT[valid], temperature
            )
        return Scores(*(_spread(values_N, valid) for values_N in statistics))


def _spread(values_N: Tensor, valid_BT: Tensor) -> Tensor:
    out_BT = torch.zeros(valid_BT.shape, dtype=values_N.dtype, device=values_N.device)
    return out_BT.masked_scatter(valid_BT, values_N)


def position_ids(mask_BL: Tensor) -> Tensor:
    """Position of each token counted from the first that is not padding, shape [B, L]."""
    return (mask_BL.long().cumsum(-1) - 1).clamp(min=0)


@contextlib.contextmanager
def autocast(device: torch.device, enabled: bool) -> Iterator[None]:
    """Matrix products in bfloat16, or nothing."""
    if not enabled:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        yield


def device_of(name: str) -> torch.device:
    """The device a recipe names.

    Raises
    ------
    UsageError
        There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"run.device = {name!r} cannot be used: {str(error).splitlines()[0]}",
            hint="use run.device = 'auto' or 'cpu'",
        ) from error
    return device


def load(path: str | Path, settings: PolicySettings, device: torch.device) -> LanguageModel:
    """A Hugging Face causal language model from a folder or the hub.

    Raises
    ------
    SourceNotFound, UnreadableSource, MissingExtra
        No such model, or no access to it (:mod:`entlaw.train.hub`); no tokenizer beside it; nothing to pad with; a head
        this trainer cannot score.
    """
    where = str(path)
    hub.load_config(where)
    tokenizer = hub.load_tokenizer(where)
    model = hub.load_model(where, getattr(torch, settings.dtype))
    if settings.gradient_checkpointing:
        checkpoint_activations(model)
    _without_dropout(model)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps the method without its type
    return wrap(model, tokenizer, settings.autocast, where)


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep the input of each layer alone and make the rest again in the backward pass."""
    # transformers 5.23 has renamed it and warns of the old name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _without_dropout(model: PreTrainedModel) -> None:
    """Switch off what makes a model in training mode random.

    With it the ratio to the rollout policy would not be 1 before the first update, and a resumed run would not repeat.
    """
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("drop" in name or "jitter" in name):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, autocast: bool = False, where: str = ""
) -> LanguageModel:
    """A model and a tokenizer as a policy, after checking that both can be trained with.

    Raises
    ------
    UnreadableSource
    """
    stop = _stop_ids(model, tokenizer)
    if not stop:
        raise UnreadableSource(
            "neither tokenizer nor model names an end-of-sequence token",
            where=where,
            hint="set eos_token in the tokenizer's configuration: without it no response ever ends",
        )
    # Padding is always masked, so any token will do; models of base type often name none.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    odd = [
        name for name in ("final_logit_softcapping", "logit_scale", "logits_scaling") if _odd(config, name)
    ]
    if head is None or getattr(head, "bias", None) is not None or odd:
        raise UnreadableSource(
            f"the output head of {type(model).__name__} is more than a matrix ({', '.join(odd) or 'a bias'})",
            where=where,
            why="log-prob and entropy are computed from hidden states and the head's weight alone",
            hint="Llama, Qwen2/2.5/3, Mistral, DeepSeek, SmolLM2, Gemma 1 and Gemma 3 heads are plain",
        )
    return LanguageModel(model, tokenizer, stop, int(pad), autocast)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save(policy: LanguageModel, folder: Path) -> None:
    """Weights, configuration and tokenizer as a Hugging Face folder."""
    with quiet():
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)


def _odd(config: object, name: str) -> bool:
    return getattr(config, name, None) not in (None, 1, 1.0)


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    named = [tokenizer.eos_token_id]
    generation = getattr(model.generation_config, "eos_token_id", None) if model.generation_config else None
    named += generation if isinstance(generation, list) else [generation]
    return tuple(dict.fromkeys(int(i) for i in named if i is not None))
