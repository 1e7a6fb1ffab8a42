"""What to say of a log without entropy or score: which keys it has, what its trainer must be told to log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from entlaw.errors import MissingSeries, nearest
from entlaw.runs.axes import is_axis
from entlaw.runs.bounds import LONGEST_KEY
from entlaw.runs.keys import canonical
from entlaw.runs.score_keys import NOT_SCORE, OTHER_LEARNING, spelled_score

NOTHING_UNREAD: Mapping[str, str] = MappingProxyType({})
_SHOWN = 12
_SHOWN_OF_LONG = 60  # characters of a key that is too long to be one
# Names that are worth reading first in a list of keys, best first.
_USEFUL = (
    re.compile(r"entropy"),
    re.compile(r"acc|correct|success|pass_\d|solve|score"),
    re.compile(r"reward|return"),
    re.compile(r"eval|val|test"),
)
_REWARD = re.compile(r"(^|_)(rewards?|scores?|acc|accuracy|correct|success|pass_?\d+|returns?|solved?)(_|$)")


def list_keys(known: Iterable[str]) -> str:
    """The keys of a log in a sentence, those that may be an entropy or a score first."""
    keys = list(known)
    if not keys:
        return "the log holds no numeric key"
    ranked = sorted(keys, key=lambda key: _usefulness(canonical(key)))  # stable: else as logged
    more = f" ... ({len(keys)} in all)" if len(keys) > _SHOWN else ""
    shown = (key if len(key) <= LONGEST_KEY else f"{key[:_SHOWN_OF_LONG]}..." for key in ranked[:_SHOWN])
    return f"keys in this log: {', '.join(shown)}{more}"


def _usefulness(name: str) -> int:
    for rank, pattern in enumerate(_USEFUL):
        if pattern.search(name):
            return rank + len(_USEFUL) * bool(NOT_SCORE.search(name))
    return 2 * len(_USEFUL) + is_axis(name)


def suggest_keys(key: str, known: list[str]) -> str:
    """A sentence naming the keys most like ``key``, and the ones there are."""
    return "; ".join(filter(None, (nearest(key, known, cutoff=0.5), list_keys(known))))


def as_if_read(metrics: pd.DataFrame, unread: Mapping[str, str]) -> pd.DataFrame:
    """One row of ones under every key of the log, those without a number too: to ask what the keys would spell."""
    return pd.DataFrame(1.0, index=[0], columns=[*metrics.columns, *unread])


def without_values(key: str, metrics: pd.DataFrame, unread: Mapping[str, str], option: str) -> MissingSeries:
    """The key is there, and holds nothing that can be used."""
    if key in unread:
        return MissingSeries(
            f"{key!r} holds no plain number",
            why=f"its values look like {unread[key]}",
            hint=f"log one number a record under it (or convert the log), or name another key with {option}",
        )
    if key in metrics.columns and metrics[key].notna().any():
        return MissingSeries(
            f"{key!r} is 0 in every record",
            why="a trainer that does not compute the entropy may log 0 in its place; no policy that samples has it",
            hint=f"turn its computation on in the trainer, or name another key with {option}",
        )
    return MissingSeries(
        f"{key!r} holds no number",
        why="every value logged under it is NaN or null, or is missing",
        hint=f"look for what went wrong in the trainer, or name another key with {option}",
    )


def other_learning(names: list[str]) -> MissingSeries | None:
    """The refusal of a log of another kind of learning: what it logs, and no reward."""
    for pattern, learning, what in OTHER_LEARNING:
        keys = [n for n in names if pattern.search(canonical(n))]
        if keys and not any(_spells_reward(n) for n in names if n not in keys):
            return MissingSeries(
                f"this is a log of {learning}: it holds {what} ({keys[0]!r}) and no reward",
                why="the law is about reinforcement learning (RL), where entropy is spent for reward; "
                "it says nothing of other learning",
                hint="give the log of the RL run; if this is one, name its score with --on KEY",
            )
    return None


def _spells_reward(key: str) -> bool:
    name = canonical(key)
    if any(pattern.search(name) for pattern, _, _ in OTHER_LEARNING):
        return False
    return bool(_REWARD.search(name)) or spelled_score(name) is not None


def no_entropy(metrics: pd.DataFrame, config: Mapping[str, Any]) -> MissingSeries:
    """The refusal of a log in which no key is an entropy."""
    from entlaw.runs.trainers import turn_on_entropy

    names = [str(c) for c in metrics.columns]
    if error := other_learning(names):
        return error
    turn_on = turn_on_entropy(names, config)
    return MissingSeries(
        "no entropy in this log",
        why="none of its keys is a known spelling of the policy's entropy",
        hint=f"{turn_on}. Or name the key with --entropy-key; {list_keys(names)}",
    )


def no_score(metrics: pd.DataFrame, on: str | None) -> MissingSeries:
    """The refusal of a log in which no key is a score of the wanted kind."""
    names = [str(c) for c in metrics.columns]
    if on not in ("val", "train") and (error := other_learning(names)):
        return error
    wanted = {"val": "validation score", "train": "training score"}.get(on or "", "performance score")
    reward = any(_spells_reward(name) for name in names)
    return MissingSeries(
        f"no {wanted} in this log",
        why="none of its keys is a known spelling of one"
        + ("" if reward else ", and none names a reward (a supervised run has none)"),
        hint=f"name the key with --on KEY; {list_keys(names)}",
    )
