"""Python literals as logs print them, read without ``eval`` or ``ast``.

``ast.literal_eval`` refuses what trainers print every day (``nan``, ``np.float64(0.5)``, ``tensor(0.5)``,
``<Enum: 1>``), warns on back-slashes in prompts and can exhaust the C stack on hostile nesting.
"""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<punct>[{}\[\](),:])
    | (?P<text>[rbu]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))
    | (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)(?![\w.]))
    | (?P<call>[A-Za-z_][\w.]*\()
    | (?P<name>[-+]?[A-Za-z_][\w.]*)
    | (?P<thing><(?:[^<>]|<[^<>]*>)*>)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BRACKET = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[()\[\]{}]""", re.DOTALL)
_NAMES = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
_DEEPEST = 60
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_PLAIN_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}

# `'key': value` of a flat dictionary; values that hold a comma or a brace are left to the full parser.
_KEY = r"""['"]([^'"\\]*)['"]\s*:\s*"""
_PLAIN_VALUE = r"""("[^"\\]*"|'[^'\\]*'|[^\s,{}'"\[\]()]+(?:\([^(){}'"]*\))?)"""
_PAIR = re.compile(rf"{_KEY}{_PLAIN_VALUE}\s*[,}}]\s*")
_WHOLE = re.compile(
    rf"\{{\s*(?>{_KEY}{_PLAIN_VALUE}\s*,\s*)*+(?>{_KEY}{_PLAIN_VALUE}\s*,?\s*)?+\}}".replace("(['", "(?:['")
)


class LiteralError(ValueError):
    """The text is not a literal."""


class UnfinishedLiteral(LiteralError):
    """The text ends inside a literal."""


def parse_literal(text: str, start: int = 0) -> tuple[Any, int]:
    """Read one literal.

    Parameters
    ----------
    text : str
    start : int
        Where the literal begins.

    Returns
    -------
    value : object
        dict, list (also for tuples and sets), str, int, float, bool or None; what Python itself would have
        to be imported for (``tensor(0.5)``, ``<Enum: 1>``) stays as its text.
    end : int
        Position behind it.

    Raises
    ------
    LiteralError
        Not a literal; :class:`UnfinishedLiteral` where more text might complete it.
    """
    return _value(text, start, 0)


def parse_flat(text: str, start: int) -> tuple[dict[str, str], int, bool]:
    """Read a flat dictionary pair by pair, as far as it goes: ten times faster than the full parser.

    Parameters
    ----------
    text : str
    start : int
        Position of the opening brace.

    Returns
    -------
    pairs : dict
        Values as their text (quotes of strings removed).
    end : int
        Position behind what was read.
    closed : bool
        Whether the closing brace was reached, no key being there twice; if it was not, ``pairs`` holds the pairs
        that a comma completes.
    """
    whole = _WHOLE.match(text, start)
    if whole:
        found = _PAIR.findall(text, start + 1, whole.end())
        once = {k: v[1:-1] if v[0] in "'\"" else v for k, v in found}
        return once, whole.end(), len(once) == len(found)
    pairs: dict[str, str] = {}
    position = start + 1
    while match := _PAIR.match(text, position):
        key, value = match.groups()
        pairs[key] = value[1:-1] if value[0] in "'\"" else value
        position = match.end()
    return pairs, position, False


def _token(text: str, position: int) -> tuple[str, str, int]:
    match = _TOKEN.match(text, position)
    if match is None:
        rest = text[position:].lstrip()
        # An open quote or the end of the text: more lines may complete it.
        raise (UnfinishedLiteral if not rest or rest[0] in "'\"<rbu" else LiteralError)(rest[:20])
    kind = match.lastgroup or ""
    return kind, match.group(kind), match.end()


def _value(text: str, position: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise LiteralError("nested too deeply")
    kind, token, end = _token(text, position)
    if kind == "number":
        return _number(token), end
    if kind == "text":
        return _strings(text, token, end)
    if kind == "name":
        return _NAMES.get(token, token), end
    if kind == "call":
        return _call(text, position, end)
    if kind == "thing":
        return token, end
    if token == "{":
        return _braces(text, end, depth)
    if token in "[(":
        return _sequence(text, end, "]" if token == "[" else ")", depth)
    raise LiteralError(f"unexpected {token!r}")


def _number(token: str) -> int | float:
    if token.lstrip("+-").isdigit() and len(token) < 300:
        return int(token)
    return float(token)


def _strings(text: str, token: str, end: int) -> tuple[str, int]:
    """A string and those that follow it directly: pprint breaks long ones so."""
    parts = [_unquote(token)]
    while True:
        match = _TOKEN.match(text, end)
        if match is None or match.lastgroup != "text":
            return "".join(parts), end
        parts.append(_unquote(match.group("text")))
        end = match.end()


def _unquote(token: str) -> str:
    body = token.lstrip("rbu")[1:-1]
    if "\\" not in body:
        return body
    return _ESCAPE.sub(_escape, body)


def _escape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "ux" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _PLAIN_ESCAPES.get(code, code)


def _call(text: str, start: int, position: int) -> tuple[str, int]:
    """``name(...)`` as its text, up to the matching parenthesis."""
    depth = 1
    for match in _BRACKET.finditer(text, position):
        token = match.group()
        depth += (token in "([{") - (token in ")]}")
        if depth == 0:
            return text[start : match.end()].strip(), match.end()
    raise UnfinishedLiteral(text[start : start + 20])


def _braces(text: str, position: int, depth: int) -> tuple[Any, int]:
    """A dictionary, or a set (as a list)."""
    result: dict[str, Any] = {}
    members: list[Any] = []
    while True:
        kind, token, after = _token(text, position)
        if kind == "punct" and token == "}":
            return (members if members else result), after
        key, position = _value(text, position, depth + 1)
        _, token, after = _token(text, position)
        if token == ":":
            value, position = _value(text, after, depth + 1)
            if str(key) in result:
                raise LiteralError(f"{key!r} is there twice")
            result[str(key)] = value
            _, token, after = _token(text, position)
        else:
            members.append(key)
        if token == "}":
            return (members if members else result), after
        if token != ",":
            raise LiteralError(f"expected , or }} and found {token!r}")
        position = after


def _sequence(text: str, position: int, close: str, depth: int) -> tuple[Any, int]:
    items: list[Any] = []
    comma = False
    while True:
        kind, token, after = _token(text, position)
        if kind == "punct" and token == close:
            break
        item, position = _value(text, position, depth + 1)
        items.append(item)
        _, token, after = _token(text, position)
        if token == close:
            break
        if token != ",":
            raise LiteralError(f"expected , or {close} and found {token!r}")
        comma, position = True, after
    if close == ")" and len(items) == 1 and not comma:
        return items[0], after  # a parenthesised value, as pprint writes a long string
    return items, after
