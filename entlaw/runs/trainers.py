"""Which trainer logs what: ``trainers.toml``, and who wrote a log that has no entropy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from entlaw.runs.keys import canonical

LOGGERS = ("console", "jsonl", "wandb", "tensorboard")


@cache
def trainers() -> tuple[dict[str, Any], ...]:
    """The tables of ``trainers.toml``, in its order."""
    return tuple(tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["trainer"])


def recognise(keys: Iterable[str], config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The trainer of which a log has the most traces; None where it has none.

    Parameters
    ----------
    keys : iterable of str
        As logged.
    config : mapping
        The log's own configuration; ``framework`` there is believed.
    """
    names = [canonical(k) for k in keys]
    told = str(config.get("framework", "")).lower()

    def logged(pattern: str) -> bool:
        return any(re.fullmatch(pattern, name) for name in names)

    def traces(trainer: Mapping[str, Any]) -> int:
        said = bool(told) and trainer["name"].lower().startswith(told)
        together = trainer.get("together", [])
        all_there = bool(together) and all(map(logged, together))
        return 100 * said + sum(map(logged, trainer["footprint"])) + all_there

    counts = [traces(trainer) for trainer in trainers()]
    return trainers()[counts.index(max(counts))] if max(counts) else None


def turn_on_entropy(keys: Iterable[str], config: Mapping[str, Any]) -> str:
    """How to have the entropy logged, in words: by the trainer whose log this seems to be."""
    trainer = recognise(keys, config)
    if trainer is None:
        return "turn entropy logging on in the trainer (docs: Trainers and their keys)"
    return f"the keys look like {trainer['name']}'s; {trainer['turn_on']}"
