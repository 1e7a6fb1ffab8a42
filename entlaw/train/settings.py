"""Every setting of a recipe by its full name: type, default, range, description; and reading one value strictly.

All of it but the ranges is read off :mod:`entlaw.train.schema`. A full name joins the tables by dots, as in
``controls.clip_cov.ratio``.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from entlaw.train import schema

# Intervals as mathematicians write them. What is not here and is no number has no range.
RANGES: Mapping[str, str] = MappingProxyType({
    "run.seed": "[0, 2**63)", "run.steps": "[1, inf)", "run.threads": "[0, 4096]",
    "task.operations": "[1, 1000]", "task.train_operations": "[1, 1000]",
    "task.pass_low": "[0, 1]", "task.pass_high": "[0, 1]",
    "task.workers": "[1, 4096]", "task.format_weight": "[0, 1]",
    "policy.seed": "[0, 2**63)",
    "warmup.clean_steps": "[0, inf)", "warmup.clean_lr": "(0, inf)", "warmup.noisy_steps": "[0, inf)",
    "warmup.lr_warmup": "[0, inf)", "warmup.betas": "[0, 1)",
    "warmup.noisy_lr": "(0, inf)", "warmup.batch_size": "[1, inf)", "warmup.chain_share": "[0, 1]",
    "warmup.slip": "[0, 1]",
    "rollout.prompts": "[1, inf)", "rollout.group_size": "[1, inf)", "rollout.temperature": "(0, inf)",
    "rollout.top_p": "(0, 1]", "rollout.top_k": "[0, inf)", "rollout.max_tokens": "[1, inf)",
    "rollout.max_prompt_tokens": "[0, inf)", "rollout.batch": "[0, inf)",
    "vllm.memory_share": "(0, 1]", "vllm.kv_cache_gb": "(0, inf)", "vllm.tensor_parallel": "[1, 4096]",
    "vllm.max_sequences": "[1, inf)",
    "algorithm.max_refills": "[0, inf)", "algorithm.gamma": "[0, 1]", "algorithm.lam": "[0, 1]",
    "critic.lr": "(0, inf)", "critic.warmup_steps": "[0, inf)", "critic.value_clip": "[0, inf)",
    "critic.epochs": "[1, inf)",
    "prime.lr": "(0, inf)", "prime.beta": "(0, inf)", "prime.process_weight": "[0, inf)",
    "prime.outcome_weight": "[0, inf)",
    "loss.clip_ratio_low": "[0, 1]", "loss.clip_ratio_high": "[0, inf)", "loss.clip_ratio_c": "[0, inf)",
    "loss.mini_batches": "[1, inf)", "loss.epochs": "[1, inf)", "loss.micro_batch": "[0, inf)",
    "loss.rollout_cap": "(0, inf)",
    "controls.entropy_coeff": "(-inf, inf)", "controls.entropy_target": "[0, inf)",
    "controls.entropy_step": "[0, inf)", "controls.entropy_max": "(0, inf)", "controls.kl_coef": "[0, inf)",
    "controls.high_entropy_share": "(0, 1]",
    "controls.clip_cov.ratio": "[0, 1]", "controls.clip_cov.lower": "(-inf, inf)",
    "controls.clip_cov.upper": "(-inf, inf)",
    "controls.kl_cov.ratio": "[0, 1]", "controls.kl_cov.coef": "[0, inf)",
    "optimizer.lr": "(0, inf)", "optimizer.betas": "[0, 1)", "optimizer.eps": "(0, inf)",
    "optimizer.weight_decay": "[0, inf)", "optimizer.grad_clip": "[0, inf)", "optimizer.warmup_steps": "[0, inf)",
    "validation.every": "[0, inf)", "validation.problems": "[1, inf)", "validation.samples": "[1, inf)",
    "validation.temperature": "[0, inf)", "validation.top_p": "(0, 1]", "validation.seed": "[0, 2**63)",
    "checkpoint.every": "[1, inf)", "checkpoint.keep": "[1, inf)",
    "log.covariance_shares": "(0, 1]",
    "watch.every": "[1, inf)", "watch.target": "[0, 1]", "watch.level": "(0, 1)",
})  # fmt: skip

_NAME = r"[A-Za-z0-9_.\-]+"
_TEXTS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "run.device": (r"auto|cpu|(cuda|mps|xpu)(:\d+)?", "auto, cpu, cuda, cuda:1 ..."),
    "task.operators": (r"[+*|^&-]+", "one or more of + - * | ^ &"),
    "task.train_operators": (r"[+*|^&-]*", "some of + - * | ^ &, or nothing"),
    "task.name": (rf"{_NAME}(\s*,\s*{_NAME})*", "arithmetic, or names of data sets, separated by commas"),
    "task.validation": (rf"({_NAME}(\s*,\s*{_NAME})*)?", "names of data sets, separated by commas"),
    "vllm.devices": (r"(\d+(,\d+)*)?", "numbers of CUDA devices, separated by commas"),
})  # fmt: skip
_NOT_EMPTY = ("task.operations",)

# What verl, TRL and the paper's scripts call it.
_ELSEWHERE: Mapping[str, str] = MappingProxyType({
    "learning_rate": "optimizer.lr", "num_generations": "rollout.group_size", "n": "rollout.group_size",
    "max_steps": "run.steps", "total_training_steps": "run.steps", "max_new_tokens": "rollout.max_tokens",
    "max_completion_length": "rollout.max_tokens", "test_freq": "validation.every",
    "save_freq": "checkpoint.every", "max_grad_norm": "optimizer.grad_clip", "ppo_epochs": "loss.epochs",
    "loss_agg_mode": "loss.aggregation", "adv_estimator": "algorithm.name", "model": "policy.path",
    "kl_loss_coef": "controls.kl_coef", "ppo_kl_coef": "controls.kl_cov.coef",
    "clip_cov_lb": "controls.clip_cov.lower", "clip_cov_ub": "controls.clip_cov.upper",
    "clip_cov_ratio": "controls.clip_cov.ratio", "kl_cov_ratio": "controls.kl_cov.ratio",
    "k_percent": "controls.kl_cov.ratio (a fraction: percent / 100)",
})  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    key : str
        Full name.
    kind : type
        Its annotation: ``str``, ``bool``, ``int``, ``float``, a ``Literal`` of texts or a tuple of numbers.
    doc : str
        Its docstring in the schema; may be empty.
    """

    key: str
    kind: Any
    default: Any
    doc: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe."""

    what: str
    hint: str = ""


@functools.cache
def settings() -> Mapping[str, Setting]:
    """All settings by full name, in the schema's order."""
    return MappingProxyType({s.key: s for s in _walk(schema.Recipe(), "")})


@functools.cache
def tables() -> Mapping[str, str]:
    """All tables by full name with their description; ``""`` is the recipe itself."""
    found = {"": inspect.getdoc(schema.Recipe) or ""}
    for name, part in _parts(schema.Recipe(), ""):
        found[name] = inspect.getdoc(type(part)) or ""
    return MappingProxyType(found)


def _walk(table: Any, prefix: str) -> Iterator[Setting]:
    kinds, docs = get_type_hints(type(table)), _docs().get(type(table).__name__, {})
    for f in fields(table):
        value = getattr(table, f.name)
        if is_dataclass(value):
            yield from _walk(value, f"{prefix}{f.name}.")
        else:
            yield Setting(f"{prefix}{f.name}", kinds[f.name], value, docs.get(f.name, ""))


def _parts(table: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for f in fields(table):
        value = getattr(table, f.name)
        if is_dataclass(value):
            yield f"{prefix}{f.name}", value
            yield from _parts(value, f"{prefix}{f.name}.")


@functools.cache
def _docs() -> Mapping[str, Mapping[str, str]]:
    """Text under each attribute of each class of the schema, which Python itself does not keep."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(schema)).body:
        if isinstance(node, ast.ClassDef):
            for attribute, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(attribute, ast.AnnAssign)
                    and isinstance(attribute.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                ):
                    words = " ".join(text.value.value.split())
                    found.setdefault(node.name, {})[attribute.target.id] = words
    return found


def read(setting: Setting, value: Any) -> Any:
    """The value as the schema wants it, or what is wrong with it.

    Whole numbers are taken for floats, lists for tuples; nothing else is converted.

    Returns
    -------
    object or Problem
    """
    converted = _convert(setting.kind, value)
    if converted is _WRONG:
        return Problem(
            f"{setting.key} must be {describe(setting.kind)}, not {_shown(value)}",
            _remedy(setting.kind, value),
        )
    if isinstance(converted, str) and not _encodable(converted):
        return Problem(f"{setting.key} is not valid Unicode text: {converted!a}")
    if setting.key in _TEXTS and not re.fullmatch(_TEXTS[setting.key][0], converted):
        return Problem(f"{setting.key} must be {_TEXTS[setting.key][1]}, not {_shown(value)}")
    if setting.key in _NOT_EMPTY and not converted:
        return Problem(f"{setting.key} is empty")
    if setting.key in RANGES:
        for number in converted if isinstance(converted, tuple) else (converted,):
            if not within(number, RANGES[setting.key]):
                return Problem(f"{setting.key} must be {says(RANGES[setting.key])}, not {number!r}")
    return converted


_WRONG = object()


def _convert(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        return value if isinstance(value, str) and value in get_args(kind) else _WRONG
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        if not isinstance(value, list | tuple) or (rest != [...] and len(value) != 1 + len(rest)):
            return _WRONG
        items = tuple(_convert(item, v) for v in value)
        return _WRONG if any(v is _WRONG for v in items) else items
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value) + 0.0  # -0.0 is 0.0, or two equal recipes would have two fingerprints
        except OverflowError:
            return _WRONG
        return number if math.isfinite(number) else _WRONG
    if kind is int and isinstance(value, bool):
        return _WRONG
    return value if kind is not float and isinstance(value, kind) else _WRONG


def describe(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        plural = {int: "whole numbers", float: "numbers"}[item]
        return f"a list of {plural}" if rest == [...] else f"a list of {1 + len(rest)} {plural}"
    words = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a finite number"}
    return words[kind]


def _shown(value: Any) -> str:
    """A value as it is written in TOML, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 200:
        return "so large a number"
    text = "a table" if isinstance(value, dict) else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _remedy(kind: Any, value: Any) -> str:
    """What was probably meant."""
    if get_origin(kind) is Literal:
        close = closest(str(value), get_args(kind))
        return f"nearest: {', '.join(close)}" if close else ""
    if get_origin(kind) is tuple and not isinstance(value, list | tuple | dict):
        return "write a list, as in [2, 3]"
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"write {value.lower()} without quotes"
    if kind in (int, float) and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        if kind is float and math.isfinite(number):
            return f"write {number} without quotes"
        return f"write {int(number)} without quotes" if number.is_integer() else ""
    if kind is int and isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return f"write {int(value)}"
    return ""


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _bounds(interval: str) -> tuple[float, float]:
    low, high = (part.strip() for part in interval[1:-1].split(","))
    return tuple(2**63 if part == "2**63" else float(part) for part in (low, high))  # type: ignore[return-value]


def within(number: float, interval: str) -> bool:
    """Whether a number lies in an interval written like ``(0, 1]``."""
    low, high = _bounds(interval)
    above = number >= low if interval[0] == "[" else number > low
    return above and (number <= high if interval[-1] == "]" else number < high)


def says(interval: str) -> str:
    """An interval in words."""
    low, high = interval[1:-1].split(", ")
    first = "" if low == "-inf" else f"at least {low}" if interval[0] == "[" else f"above {low}"
    last = "" if high == "inf" else f"at most {high}" if interval[-1] == "]" else f"below {high}"
    return " and ".join(part for part in (first, last) if part)


def closest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Known names that look like ``name``, best first, whatever the case."""
    spelled = {k.lower(): k for k in known}
    return [spelled[k] for k in difflib.get_close_matches(name.lower(), list(spelled), n=n, cutoff=0.6)]


def unknown(path: tuple[str, ...], is_table: bool) -> Problem:
    """What to say of a name that the schema does not have; everything in front of its last part exists."""
    *where, name = path
    table = ".".join(where)
    if is_table:
        what = f"there is no table [{'.'.join(path)}]"
        known = [t for t in tables() if t]
        homes = [t for t in known if t.rpartition(".")[2] == name] or closest(".".join(path), known)
        return Problem(
            what, _list_of("nearest", homes) or _list_of("the tables are", [t for t in known if "." not in t])
        )
    what = (
        f"there is no setting {name} in [{table}]"
        if table
        else f"there is no setting {name} outside the tables"
    )
    if name in settings():
        return Problem(what, "write it without quotes")
    homes = [key for key in settings() if key.rpartition(".")[2] == name]
    if homes:
        return Problem(what, f"write it as {' or '.join(homes)}")
    if name in _ELSEWHERE:
        return Problem(what, f"here it is called {_ELSEWHERE[name]}")
    beside = [key for key in settings() if key.rpartition(".")[0] == table]
    near = closest(name, [key.rpartition(".")[2] for key in beside])
    if near:
        return Problem(what, _list_of("nearest", [f"{table}.{leaf}" if table else leaf for leaf in near]))
    near = closest(name, {key.rpartition(".")[2] for key in settings()})
    elsewhere = [key for leaf in near for key in settings() if key.rpartition(".")[2] == leaf]
    listed = (
        [key.rpartition(".")[2] for key in beside] if table else [t for t in tables() if t and "." not in t]
    )
    return Problem(
        what, _list_of("nearest", elsewhere) or _list_of("it has" if table else "the tables are", listed)
    )


def _list_of(label: str, names: list[str]) -> str:
    return f"{label}: {', '.join(names)}" if names else ""
