"""The shape of a language model: what its parameters, memory and arithmetic follow from, without its weights.

Known models are the table ``models.toml``; any other is read from its ``config.json``.
"""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from entlaw.train.schema import Policy

# Decoders of RMS norms, rotary attention and a gated feed-forward net; what differs is said by Shape.bias and qk_norm.
_KNOWN_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    Attributes
    ----------
    heads, kv_heads, head_dim : int
        Query heads, key and value heads, and the width of one.
    inner : int
        Width of the gated feed-forward net.
    tied : bool
        The output head is the embedding.
    qkv_bias, out_bias, mlp_bias, qk_norm : bool
        Which small vectors a layer has beside its matrices and two norms.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool
    context: int
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def head(self) -> int:
        """Numbers in the output head's matrix, and in the embedding's."""
        return self.vocabulary * self.hidden

    @property
    def layer_matrices(self) -> int:
        """Numbers in the matrices of one layer: queries and output, keys and values, the feed-forward net's three."""
        return 2 * self.hidden * (self.queries + self.keys) + 3 * self.hidden * self.inner

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        vectors = 2 * self.hidden
        vectors += (self.queries + 2 * self.keys) * self.qkv_bias + self.hidden * self.out_bias
        vectors += (2 * self.inner + self.hidden) * self.mlp_bias + 2 * self.head_dim * self.qk_norm
        return self.layer_matrices + vectors

    @property
    def parameters(self) -> int:
        """All parameters; a tied head is counted once."""
        return self.layers * self.layer + self.hidden + self.head * (1 if self.tied else 2)


def from_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a ``config.json`` describes; None where the architecture is none of the plain decoders.

    Raises
    ------
    KeyError, TypeError, ValueError
        A size is missing or is none.
    """
    kind = config.get("model_type")
    if kind not in _KNOWN_TYPES:
        return None
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    attention_bias = bool(config.get("attention_bias", False))
    return Shape(
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or (128 if kind == "qwen3" else hidden // heads)),
        inner=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        context=int(config.get("max_position_embeddings") or 2**31),
        qkv_bias=kind == "qwen2" or attention_bias,
        out_bias=kind in ("llama", "qwen3") and attention_bias,
        mlp_bias=kind == "llama" and bool(config.get("mlp_bias", False)),
        qk_norm=kind == "qwen3",
    )


@functools.cache
def known() -> Mapping[str, Mapping[str, Any]]:
    """Configurations of the models in ``models.toml``, by hub id."""
    table = tomllib.loads((Path(__file__).parent / "models.toml").read_text("utf-8"))
    return MappingProxyType(
        {name: {**table.get(facts.get("like", ""), {}), **facts} for name, facts in table.items()}
    )


def shape_of(policy: Policy) -> Shape | None:
    """The shape of the model that a recipe names, without network; None where it cannot be known so.

    A folder's ``config.json``, the table, the local cache of the hub, or the ladder (which needs torch).
    """
    if not policy.path:
        return _of_ladder(policy)
    folder = Path(policy.path)
    try:
        if folder.is_dir():
            return from_config(json.loads((folder / "config.json").read_text("utf-8")))
        names = {name.lower(): name for name in known()}
        if policy.path.lower() in names:
            return from_config(known()[names[policy.path.lower()]])
        cached = _cached_config(policy.path)
        return None if cached is None else from_config(json.loads(cached.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # what is wrong with a model is told when it is loaded


def _of_ladder(policy: Policy) -> Shape | None:
    try:
        from entlaw.tasks.arithmetic import CHARACTERS
        from entlaw.train.ladder import SIZES
    except ImportError:
        return None
    hidden, layers, heads, inner = SIZES[policy.size]
    return Shape(
        layers,
        hidden,
        heads,
        heads,
        hidden // heads,
        inner,
        len(CHARACTERS) + 2,
        False,
        128,
        qkv_bias=policy.family == "qwen2",
    )


def _cached_config(repository: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, "config.json")
    return Path(found) if isinstance(found, str) else None
