"""Dictionaries in a line of a log: ``{'loss': 0.1, 'entropy': 0.4}`` as Python prints it, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from entlaw.runs.parsing.literal import LiteralError, parse_flat, parse_literal
from entlaw.runs.parsing.progress import Kind
from entlaw.runs.table import flatten, parse_number

_MOST_IN_A_LINE = 8
_JSON = json.JSONDecoder()


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The pairs whose value is a number."""
    pairs = ((k, v if type(v) is float else parse_number(v)) for k, v in record.items())
    return {k: v for k, v in pairs if v is not None}


def kind_of(record: Mapping[str, Any]) -> Kind:
    """Which of the records the Hugging Face trainers print this is."""
    if "train_runtime" in record:
        return "summary"
    own = [k for k in record if k not in ("epoch", "step")]
    return "eval" if own and all(k.startswith("eval_") for k in own) else "train"


def dictionaries(line: str) -> Iterator[tuple[dict[str, Any], bool, bool]]:
    """Dictionaries in a line, each with whether it is whole and whether it is JSON.

    One that is not whole holds the pairs that a comma completes.
    """
    # With the quotes turned, most printed dictionaries are JSON, which is read in C; `nan` and calls are not.
    turned = line if '"' in line or "\\" in line else line.replace("'", '"')
    position = 0
    for _ in range(_MOST_IN_A_LINE):
        starts = [p for p in (line.find("{'", position), line.find('{"', position)) if p >= 0]
        if not starts:
            return
        start = min(starts)
        is_json = line[start + 1] == '"'
        try:
            value, position = _JSON.raw_decode(turned, start)
        except (ValueError, RecursionError):
            value, position, whole = parse_flat(line, start)
            if not whole:
                try:
                    value, position = parse_literal(line, start)
                except LiteralError:
                    yield value, False, is_json
                    return
        if isinstance(value, dict):
            yield _unwrapped(value), True, is_json


def _unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(v, dict) for v in value.values()):
        return value
    inner = value.get("data")
    if isinstance(inner, dict):
        value = {**{k: v for k, v in value.items() if k != "data"}, **inner}
    return dict(flatten(value))
