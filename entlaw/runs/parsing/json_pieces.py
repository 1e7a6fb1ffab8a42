"""JSON that is not one whole document: what is whole of a cut one, and values written one after another."""

from __future__ import annotations

import json
import re
from typing import Any

_MOST_BAD = 200  # places of a text that are no JSON, after which it is none
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[{}\[\]]', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}


def whole_part(text: str) -> Any:
    """What a cut or damaged document holds in front of the damage: whole records and lists only; None for nothing."""
    open_ones: list[str] = []
    end, closing = 0, ""
    for token in _TOKEN.finditer(text):
        mark = token.group()[0]
        if mark in "{[":
            open_ones.append(mark)
        elif mark in "}]":
            if not open_ones or _CLOSING[open_ones.pop()] != mark:
                break
            end, closing = token.end(), "".join(_CLOSING[o] for o in reversed(open_ones))
            if not open_ones:
                break
    try:
        return json.loads(text[:end] + closing) if end else None
    except (ValueError, RecursionError):
        return None


def values_in(text: str) -> tuple[list[Any], int]:
    """JSON values written one after another, over lines or not, and the number of places that are none."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    bad = position = 0
    blank = re.compile(r"[\s,;\x1e]*")
    opening = re.compile(r"\n[\s\x1e]*(?=[{\[])|(?<=\})(?=\{)")
    while bad < _MOST_BAD and (position := blank.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        try:
            value, position = decoder.raw_decode(text, position)
            found.append(value)
        except (ValueError, RecursionError):
            bad += 1
            following = opening.search(text, position + 1)
            if following is None:
                break
            position = following.end()
    return found, bad
