"""Does the configuration hold the entropy up by force? The law was shown for runs that let it fall.

``interventions.toml`` lists what acts on the entropy in each trainer: the coefficient, and the switch that makes it
count. A trainer is recognised by names that only it writes; then only its rows count. The configuration of an unknown
trainer is matched by all rows, and a key on which they disagree says nothing. Keys match under any prefix, joined by
dots or slashes.

Not looked at: distillation from a teacher, limits of the ratio for negative advantages (dual clip, TRL's ``delta``),
and penalties between the policy and its own rollouts (prime-rl's ``kl_tau``).
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from entlaw.findings import Finding, Severity

# Below this a reference-KL term left entropy and accuracy as they were (paper, Fig. 10: beta 0.001 against 0).
TINY_KL = 1e-3
# The same for an entropy bonus (paper, Fig. 9: 1e-4 and 1e-3 hardly matter).
TINY_BONUS = 1e-3
# PPO's symmetric clip; clip-higher widens the upper side (DAPO: 0.28).
SYMMETRIC_CLIP = 0.2
# Half a step in the second decimal: 0.2 written as a 32-bit float is still 0.2.
_CLIP_SLACK = 5e-3
# Parts of a configuration that are not about the loss of the policy. PRIME's beta scales its process reward.
_ELSEWHERE = frozenset(
    {"prime", "critic", "ref", "reference", "teacher", "distillation", "reward_model", "optim", "optimizer"}
)
_COVARIANCE = {"clipcov": "Clip-Cov", "klcov": "KL-Cov", "cov": "a covariance mode"}
_MOST_TEXT = 20_000  # characters of nested arguments that a logger wrote as one text


class Kind(NamedTuple):
    """What a control does to the entropy, and how that is reported."""

    code: str
    """Of the finding."""
    acts: Callable[[Any, float], bool]
    """Whether a value (a number, else a word) does it; the second number is the lower clip."""
    what: str
    why: str
    hint: str
    tiny: float = 0.0
    """Up to this size the paper saw hardly any effect: information, not a warning."""
    words: bool = False
    """A name may do it; then the value is no figure."""


KINDS = {
    "bonus": Kind(
        "entropy-bonus",
        lambda value, _: value != 0,
        "{key} = {value:g}: a bonus holds the entropy up",
        "with a bonus the entropy is a set value, not what the run has left to spend",
        "believe the fit only after a back-test on a run with the same bonus",
        tiny=TINY_BONUS,
    ),
    "clip": Kind(
        "clip-higher",
        lambda value, low: value > low + _CLIP_SLACK,
        "{key} = {value:g} above the lower clip {low:g}",
        "clip-higher adds tokens of low covariance and turns the entropy up; the law was not shown for it",
        "believe the fit only after a back-test on a run with the same clip",
    ),
    "kl": Kind(
        "kl-penalty",
        lambda value, _: value != 0,
        "{key} = {value:g}: a penalty ties the policy to a reference",
        "a reference KL holds the entropy up and the score down (paper, Fig. 10)",
        "compare with a run without the penalty before trusting the ceiling",
        tiny=TINY_KL,
    ),
    "covariance": Kind(
        "covariance-control",
        lambda value, _: value > 0 if isinstance(value, float) else value in _COVARIANCE,
        "{key} = {logged}: {name} holds the entropy up",
        "these methods exist to break the law's exchange of entropy for score",
        "do not use a ceiling fitted on such a run as that of a plain run",
        words=True,
    ),
    "few-tokens": Kind(
        "high-entropy-tokens",
        lambda value, _: 0 <= value < 1,
        "{key} = {value:g}: only the tokens of highest entropy are trained",
        "the others keep their entropy, so the run stands at a level that a plain run falls below",
        "do not use a ceiling fitted on such a run as that of a plain run",
    ),
    "target": Kind(
        "entropy-bonus",
        lambda value, _: value > 0,
        "{key} = {logged}: an adaptive bonus holds the entropy near a target",
        "the entropy is a set value then, not what the run has left to spend",
        "believe the fit only after a back-test on a run with the same target",
    ),
    "random-reward": Kind(
        "random-reward",
        lambda value, _: value == "random",
        "{key} = random: the reward says nothing about the answers",
        "entropy can fall under a random reward while accuracy stays",
        "use this run as a control, not for a forecast",
        words=True,
    ),
}


class ControlRule(NamedTuple):
    """A coefficient, and what must hold for it to act."""

    kind: str
    key: str
    lower: tuple[str, ...]
    """Of an upper clip."""
    when: tuple[str, ...]


class TrainerRules(NamedTuple):
    """A trainer's controls, and by which names it is recognised."""

    recognised_by: frozenset[str]
    controls: tuple[ControlRule, ...]


@functools.cache
def trainers() -> dict[str, TrainerRules]:
    """The table, by trainer; ``others`` are names that belong to none."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    found = {}
    for name, rows in table.items():
        controls = []
        for kind, keys, *when in rows["controls"]:
            key, _, lower = keys.partition(" > ")
            controls.append(ControlRule(kind, key, tuple(lower.split()), tuple(when)))
        found[name] = TrainerRules(frozenset(rows["recognised_by"]), tuple(controls))
    return found


def interventions(config: Mapping[str, Any]) -> list[Finding]:
    """What in a configuration acts on the entropy.

    Parameters
    ----------
    config : mapping
        Flat configuration, keys joined by ``.`` (nested mappings are taken too).

    Returns
    -------
    list of Finding
        Of each kind the largest; of Clip-Cov and KL-Cov one for each key. Warnings; tiny coefficients, which left the
        paper's curves as they were, are information.
    """
    keys = _Keys(config)
    table = trainers()
    known = [name for name, trainer in table.items() if trainer.recognised_by & keys.parts] or list(table)
    # What each trainer makes of a coefficient that it has.
    said: dict[tuple[str, str], dict[str, Finding | None]] = {}
    for name in dict.fromkeys([*known, "others"]):
        for control in table[name].controls:
            for entry in keys.named(control.key):
                by_trainer = said.setdefault((control.kind, entry.key), {})
                by_trainer[name] = by_trainer.get(name) or _finding(control, entry, keys)
    found: dict[tuple[str, str], Finding] = {}
    for (kind, key), by_trainer in said.items():
        agreed = [finding for finding in by_trainer.values() if finding is not None]
        if len(agreed) == len(by_trainer):
            place = (kind, key if kind == "covariance" else "")
            found[place] = max(found.get(place, agreed[0]), agreed[0], key=_size)
    return [finding for kind in KINDS for (of, _), finding in found.items() if of == kind]


def _size(finding: Finding) -> float:
    return abs(finding.value or 0.0)


class _Entry(NamedTuple):
    path: str
    key: str  # as the configuration writes it
    value: Any


class _Keys:
    """A configuration's keys by their last part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.parts: set[str] = set()
        self._by_last: dict[str, list[_Entry]] = {}
        for key, value in _flatten(config):
            path = key.replace("/", ".").replace("-", "_").lower()
            parts = path.split(".")
            self.parts.update(parts)
            self._by_last.setdefault(parts[-1], []).append(_Entry(path, key, value))

    def named(self, name: str) -> list[_Entry]:
        """The keys that end in a name."""
        ends = [
            e for e in self._by_last.get(name.rpartition(".")[2], ()) if f".{e.path}".endswith(f".{name}")
        ]
        return [e for e in ends if _ELSEWHERE.isdisjoint(e.path.removesuffix(name).split("."))]

    def nearest(self, name: str, path: str) -> _Entry | None:
        """Of several keys that end in a name, the one that shares most of a path."""
        return max(self.named(name), key=lambda e: (_shared(e.path, path), _is_set(e.value)), default=None)


def _shared(one: str, other: str) -> int:
    """How many parts two paths have in common from their beginning."""
    both = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], both))


def _finding(control: ControlRule, entry: _Entry, keys: _Keys) -> Finding | None:
    kind, number = KINDS[control.kind], _as_number(entry.value)
    value = _word(entry.value) if number is None and kind.words else number
    if value is None or not all(_holds(condition, entry.path, keys) for condition in control.when):
        return None
    lower = (keys.nearest(name, entry.path) for name in control.lower)
    numbers = (_as_number(setting.value) for setting in lower if setting is not None)
    low = next((n for n in numbers if n is not None and n > 0), SYMMETRIC_CLIP)
    if not kind.acts(value, low):
        return None
    words = value if isinstance(value, str) else control.key.replace("_", "")
    name = next((name for word, name in _COVARIANCE.items() if word in words), "")
    what = kind.what.format(key=entry.key, value=value, logged=entry.value, low=low, name=name)
    tiny = number is not None and 0 < abs(number) <= kind.tiny
    why = f"{kind.why}; at this size the paper saw hardly any effect" if tiny else kind.why
    severity: Severity = "info" if tiny else "warning"
    return Finding(kind.code, severity, what, why, kind.hint, None if kind.words else number)


def _holds(condition: str, path: str, keys: _Keys) -> bool:
    """Whether what a row of the table asks of another setting is so."""
    key, _, rest = condition.removeprefix("not ").partition(" ")
    setting = keys.nearest(key, path)
    on = setting is not None and _is_set(setting.value)
    if condition.startswith("not "):
        return not on
    if rest.startswith("is none of "):
        return setting is None or _word(setting.value) not in rest.removeprefix("is none of ").split(", ")
    return {
        "": on,
        "by default": on or setting is None,
        "is false": not on and setting is not None,
        "is given": setting is not None,
        "is absent": setting is None,
    }[rest]


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        inner = _unpacked(value)
        if isinstance(inner, list | tuple) and len(inner) == 2:  # a lower and an upper clip
            inner = {"0": inner[0], "1": inner[1]}
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _unpacked(value: Any) -> Any:
    """The value, or what a text holds that a logger made of a pair or of nested arguments (OpenRLHF's on W&B)."""
    written = isinstance(value, str) and len(value) <= _MOST_TEXT
    if not written or not re.match(r"[\[(]|(Simple)?[Nn]amespace\(", value):
        return value
    try:
        with warnings.catch_warnings(action="ignore"):  # a text that is no list may hold what Python warns of
            return _literal(ast.parse(value, mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return value


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return {a.arg: _literal(a.value) for a in node.keywords if a.arg is not None}
    return ast.literal_eval(node)


def _is_set(value: Any) -> bool:
    """Not zero, not off, not empty."""
    number = _as_number(value)
    if number is not None:
        return number != 0
    return str(value).strip().lower() not in ("", "none", "null", "false", "no", "off", "nan")


def _word(value: Any) -> str:
    """A name in letters and digits alone: ``GRPOLossType.cispo`` is ``cispo``, ``clip-cov`` is ``clipcov``."""
    return re.sub(r"[^a-z0-9]", "", str(value).lower().rpartition(".")[2])


def _as_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None
