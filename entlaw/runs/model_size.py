"""How large a run's model is, as far as its configuration or its name shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from entlaw.runs.run import Choice

# Counts that a trainer wrote itself, then what is called a model's name or path; a reward model's size is not meant.
_COUNTS = re.compile(
    r"(^|[._/])(n_)?(num_)?param(eter)?s(_count)?$|(^|[._/])model_size$|(^|[._/])parameter_count$", re.I
)
_NAMES = re.compile(
    r"(^|[._/])(model|policy|actor|pretrain|base_model|model_args|actor_rollout_ref\.model)([._/])?"
    r"(name|path|name_or_path|model_name_or_path|model_name|id|pretrained)?$|pretrained_model_name_or_path$",
    re.I,
)
_NOT_THE_POLICY = re.compile(
    r"(^|[./])(reward\w*|critic\w*|ref|reference\w*|teacher\w*|judge\w*)[./_]|tokenizer", re.I
)
# "7B", "0.5b", "135M", "1_5B"; not "bsz256", "8bit", "A3B" (active parameters of a mixture) or "v0.3".
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:[._]\d+)?)\s?([bBmMkK])(?![A-Za-z0-9])")
_UNIT = {"b": 1e9, "m": 1e6, "k": 1e3}


def size_in(text: str) -> float | None:
    """Parameters named in a text such as ``Qwen2.5-7B-Instruct``; None without exactly one size in it.

    >>> size_in("Qwen/Qwen2.5-0.5B")
    500000000.0
    """
    found = {float(n.replace("_", ".")) * _UNIT[unit.lower()] for n, unit in _SIZE.findall(text)}
    return found.pop() if len(found) == 1 else None


def model_size(config: Mapping[str, Any], name: str = "") -> tuple[float, Choice] | None:
    """The policy's number of parameters.

    Parameters
    ----------
    config : mapping
        Flat configuration.
    name : str
        Of the run: the last resort.

    Returns
    -------
    (parameters, choice) or None
        None where nothing tells, or where two settings disagree.
    """
    counts: dict[float, str] = {}
    for key, value in config.items():
        if not _COUNTS.search(key) or _NOT_THE_POLICY.search(key):
            continue
        number = _number(value)
        if number is not None and number >= 1000:
            counts.setdefault(number, key)
        elif isinstance(value, str) and (named := size_in(value)) is not None:
            counts.setdefault(named, key)
    if len(counts) == 1:
        ((number, key),) = counts.items()
        return number, Choice("model size", f"{number:.4g} parameters", f"the configuration's {key}")
    if counts:
        return None
    named_by: dict[float, str] = {}
    for key, value in config.items():
        if isinstance(value, str) and _NAMES.search(key) and not _NOT_THE_POLICY.search(key):
            size = size_in(value)
            if size is not None:
                named_by.setdefault(size, f"{key} = {value}")
    if len(named_by) == 1:
        ((number, where),) = named_by.items()
        return number, Choice("model size", f"{number:.4g} parameters", f"named in {where}")
    size = None if named_by else size_in(name)
    if size is None:
        return None
    return size, Choice("model size", f"{size:.4g} parameters", f"named in the run's name, {name}")


def parse_size(text: str) -> float | None:
    """A size as a user writes it: ``7e9``, ``7B``, ``135M``; None if it is none."""
    number = _number(text)
    if number is None:
        number = size_in(text.strip())
    return number if number is not None and 0 < number < float("inf") else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
