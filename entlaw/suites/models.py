"""A model as evaluation meets it: what it is, how it is spoken to, and the engine that samples from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from entlaw.errors import MissingExtra, UnreadableSource, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from entlaw.train.batch import Batch
    from entlaw.train.rollout import Engine
    from entlaw.train.schema import Recipe

EngineName = Literal["hf", "vllm"]
# Files up to this size are read whole for the identity of a model's weights; of larger ones evenly spread blocks.
_WHOLE = 2 << 30
_BLOCK = 1 << 20
_BLOCKS = 512
_IDENTIFYING = ("*.safetensors", "pytorch_model*.bin", "config.json", "generation_config.json")


@dataclass(frozen=True)
class Responder:
    """Something that answers prompts: an engine, and how its batches become text."""

    engine: Engine
    decode: Callable[[Batch], list[str]]


@dataclass(frozen=True)
class Model:
    """A checkpoint, known well enough to ask it without its weights being in memory.

    Attributes
    ----------
    checkpoint : str
        As the user named it.
    label : str
        Row of the table.
    path : str
        Folder of the model, or hub id.
    identity : str
        Checksum of weights and configuration, or the hub's commit.
    recipe : Recipe
        Of its run; device and precision are taken from it.
    tokenizer : PreTrainedTokenizerBase
    context : int
        Tokens that prompt and response may have together.
    """

    checkpoint: str
    label: str
    path: str
    identity: str
    recipe: Recipe
    tokenizer: PreTrainedTokenizerBase
    context: int

    @property
    def folder(self) -> str:
        """Name of the folder of its responses: readable, and its own even where two models are called alike."""
        name = Path(self.checkpoint).name
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "model"
        place = str(Path(self.path).resolve()) if Path(self.path).exists() else self.path
        return f"{plain[-60:]}-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"


def describe(checkpoint: str, label: str, path: str, recipe: Recipe) -> Model:
    """A model's identity, tokenizer and context.

    Raises
    ------
    SourceNotFound, UnreadableSource, MissingExtra
        As :mod:`entlaw.train.hub` has it.
    """
    from entlaw.train import hub

    there = Path(path).is_dir()
    config, tokenizer = hub.load_config(path), hub.load_tokenizer(path)
    identity = weights_identity(Path(path)) if there else f"commit {getattr(config, '_commit_hash', None)}"
    context = int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 2**31)
    return Model(checkpoint, label, path, identity, recipe, tokenizer, context)


def weights_identity(folder: Path) -> str:
    """A checksum of weights and configuration: the same for a copy, another after any training.

    Files above 2 GiB are known by their size and 512 blocks of 1 MiB, evenly spread from the first to the last byte.

    Raises
    ------
    UnreadableSource
        There are no weights.
    """
    found = sorted({path for pattern in _IDENTIFYING for path in folder.glob(pattern)})
    if not any(path.suffix in (".safetensors", ".bin") for path in found):
        raise UnreadableSource(
            "no weights in this folder",
            where=str(folder),
            why="neither *.safetensors nor pytorch_model*.bin is there",
        )
    total = hashlib.blake2b(digest_size=12)
    for path in found:
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for block in _blocks(path):
            total.update(block)
    return total.hexdigest()


def _blocks(path: Path) -> Any:
    size = path.stat().st_size
    with open(path, "rb") as held:
        if size <= _WHOLE:
            while block := held.read(_BLOCK):
                yield block
            return
        for i in range(_BLOCKS):
            held.seek((size - _BLOCK) * i // (_BLOCKS - 1))
            yield held.read(_BLOCK)


# Prompts -----------------------------------------------------------------------------------------


def chat_wrap(tokenizer: PreTrainedTokenizerBase, chat: bool | None) -> Callable[[str], str] | None:
    """What puts a question into a model's chat template, None if it is asked bare.

    Parameters
    ----------
    chat : bool, optional
        None: where the tokenizer has a template.

    Raises
    ------
    UsageError
        A template is wanted and there is none.
    """
    template = getattr(tokenizer, "chat_template", None)
    if chat and not template:
        raise UsageError(
            "--chat: this tokenizer has no chat template", hint="leave it out, or give --no-chat"
        )
    if chat is False or not template:
        return None

    from entlaw.train import tasks

    return tasks.chat_wrap(tokenizer)


def lengths(model: Model, prompts: Sequence[str]) -> list[int]:
    """Tokens of each prompt.

    Raises
    ------
    UsageError
        The tokenizer cannot spell one of them.
    """
    try:
        return [len(row) for row in model.tokenizer(list(prompts))["input_ids"]] if prompts else []
    except Exception as error:
        raise UsageError(
            "the tokenizer cannot spell these problems",
            where=model.checkpoint,
            why=f"{type(error).__name__}: {error}"[:200],
            hint="a model of the ladder knows digits and operators alone: --suite arithmetic",
        ) from error


# Engines -----------------------------------------------------------------------------------------


def engine_for(name: EngineName, model: Model, max_tokens: int) -> Responder:
    """The model in memory, ready to sample.

    Parameters
    ----------
    max_tokens : int
        Longest response that will be asked for.

    Raises
    ------
    SourceNotFound, UnreadableSource
        As :func:`entlaw.train.policy.load`.
    MissingExtra
        vLLM is wanted and not installed.
    """
    from functools import partial

    from entlaw.train.policy import device_of, load
    from entlaw.train.rollout.hf import texts
    from entlaw.train.tasks import with_stop

    recipe = model.recipe
    policy = load(model.path, recipe.policy, device_of(recipe.run.device))
    policy = with_stop(policy, recipe.rollout.stop)
    if name == "hf":
        from entlaw.train.rollout.hf import HFEngine

        return Responder(HFEngine(policy), partial(texts, policy))
    need_vllm()
    from entlaw.train.rollout import engine_of

    rollout = replace(recipe.rollout, engine="vllm", max_tokens=max_tokens, max_prompt_tokens=0)
    return Responder(engine_of(replace(recipe, rollout=rollout), policy, model.path), partial(texts, policy))


def need_vllm() -> None:
    """Raise MissingExtra unless vLLM is installed; does not import it, which takes seconds."""
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise MissingExtra(
            "--engine vllm needs vLLM", hint="pip install 'entlaw[vllm]', or sample with --engine hf"
        )
