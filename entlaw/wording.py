"""Hints name options of the command line; to a caller in Python they name keywords.

Findings and errors are written once, with the command line's spelling. :func:`in_python` says them anew for Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePath
from typing import TypeVar

from entlaw.errors import EntlawError, FitRefused

T = TypeVar("T")

# What options are called in Python; a value that follows one becomes the keyword's.
KEYWORDS = {
    name: name.replace("-", "_")
    for name in (
        "until-step",
        "method",
        "model",
        "level",
        "problems",
        "samples",
        "total-steps",
        "step",
        "entropy",
        "width",
        "on",
        "align",
        "scale",
        "score-range",
        "step-key",
        "entropy-key",
        "like",
        "margin",
        "replicates",
        "library",
        "size",
        "filter",
        "group",
        "tag",
        "sweep",
        "limit",
        "refresh",
    )
}
# Options without a value, and those that have no keyword of their own.
SWITCHES = {
    "force": "force=True",
    "join": "join=True",
    "all": "until_step=None",
    "yes": "confirm",
}
_WORDS = "paper|careful|law|growth|train|val|next|same|previous"
_VALUE = rf"(?:[= ](?P<value>'[^']*'|[A-Z]{{2,}}\b|\d[\d.]*\b|(?:{_WORDS})\b))?"
_COMMAND = re.compile(rf"`[^`]*`|--(?P<option>[a-z][a-z-]*){_VALUE}")
_PHRASES = (("--until-step, --all", "until_step=..., or None for all steps"),)
_TEXTS = ("what", "where", "why", "hint", "chosen", "alternatives", "findings", "choices", "error")


def _reword(match: re.Match[str]) -> str:
    option, value = match["option"], match["value"]
    if option is None:
        return match[0]  # a command in back-ticks is one to type
    if option in SWITCHES:
        return SWITCHES[option] + (f" {value}" if value and option == "all" else "")
    keyword = KEYWORDS.get(option, option.replace("-", "_"))
    if not value:
        return keyword
    return f"{keyword}={value if value[0] in chr(39) + '0123456789' or value.isupper() else repr(value)}"


def reword(text: str) -> str:
    """A text with the command line's options as Python's keywords.

    Examples
    --------
    >>> reword("fit a longer window (--until-step), or --method paper")
    "fit a longer window (until_step), or method='paper'"
    """
    for phrase, better in _PHRASES:
        text = text.replace(phrase, better)
    return _COMMAND.sub(_reword, text)


# Control characters (a terminal obeys them), signs that turn the direction of writing, and halves of characters.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """A text from outside without what a terminal would obey or no encoding can hold; lines and tabs stay.

    Examples
    --------
    >>> printable("run\\x1b[2J") == "run\\ufffd[2J"
    True
    """
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)


def printable_names(names: Iterable[object]) -> list[str]:
    """Names as :func:`printable` gives them, those that would become equal told apart."""
    out: dict[str, None] = {}
    for name in map(str, names):
        clean = printable(name)
        while clean in out:
            clean += "'"
        out[clean] = None
    return list(out)


def describe_suffix(path: PurePath) -> str:
    """How a file's name ends, for an error about it."""
    return repr(path.suffix) if path.suffix else "a file without suffix"


def shorten(text: str, most: int = 40) -> str:
    """A text of at most so many characters, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    head = (most - 3) // 2
    return f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"


def in_python(said: T) -> T:
    """An error, a finding, or what holds findings, in Python's words; the same object where nothing changes.

    Parameters
    ----------
    said : str, EntlawError, tuple, list, dict or dataclass
        An error is changed in place, so that its traceback stays.

    Returns
    -------
    As given.
    """
    if isinstance(said, str):
        return reword(said)  # type: ignore[return-value]
    if isinstance(said, EntlawError):
        for name in ("what", "why", "hint", "findings"):
            if getattr(said, name, None):
                setattr(said, name, in_python(getattr(said, name)))
        said.args = (said.what, *said.args[1:])
        if isinstance(said, FitRefused):
            said.fit = in_python(said.fit)
        return said
    if isinstance(said, (tuple, list)):
        new = [in_python(one) for one in said]
        return said if all(a is b for a, b in zip(said, new, strict=True)) else type(said)(new)
    if is_dataclass(said) and not isinstance(said, type):
        told = {f.name: getattr(said, f.name) for f in fields(said) if f.name in _TEXTS}
        changed = {
            name: new for name, old in told.items() if old is not None and (new := in_python(old)) != old
        }
        return replace(said, **changed) if changed else said
    return said
