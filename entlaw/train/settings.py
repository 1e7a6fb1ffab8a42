"""What one setting of a recipe is: its field holds all that is known of it, written by :func:`setting`.

Reading one value strictly, and saying what is wrong with it. The tables are :mod:`entlaw.train.schema`; whole recipes
are read by :mod:`entlaw.train.recipe`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from entlaw.errors import nearest

T = TypeVar("T")
AnyRecipe = Any
"""A :class:`entlaw.train.schema.Recipe`, which is made of what is defined here."""


@dataclass(frozen=True)
class When:
    """When a setting has an effect.

    Attributes
    ----------
    code : str
        Of the finding where it has none.
    used : callable
        Whether it has one in a recipe.
    why : str or callable
        What to say of a recipe where not.
    """

    code: str
    used: Callable[[AnyRecipe], bool]
    why: str | Callable[[AnyRecipe], str]


@dataclass(frozen=True)
class Verl:
    """What becomes of a setting in verl.

    Attributes
    ----------
    how : str
        named: one of verl's settings takes the value as it is. translated: :mod:`entlaw.engines.verl` works out what
        to write. data: it is in the files that verl is given. unused: it has no meaning there, which is said. refused:
        it must be at its default. idle: it matters only together with one that is refused.
    text : str
        verl's name, or why.
    """

    how: Literal["named", "translated", "data", "unused", "refused", "idle"]
    text: str = ""


TRANSLATED, IN_THE_DATA, IDLE = Verl("translated"), Verl("data"), Verl("idle")


def not_used(why: str) -> Verl:
    """Without a meaning in verl."""
    return Verl("unused", why)


def refused(why: str) -> Verl:
    """Nothing that verl has."""
    return Verl("refused", why)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    key : str
        Full name, as in ``controls.clip_cov.ratio``.
    kind : type
        Its annotation: ``str``, ``bool``, ``int``, ``float``, a ``Literal`` of texts or a tuple of numbers.
    doc : str
        What it is, for recipes and tables; may be empty.
    range : str
        Of a number, or of each of a list: an interval as mathematicians write it.
    unit : str
        Of a number; empty: a plain number, or said by ``doc``.
    text : tuple of str
        Of a text: a regular expression and what it says in words.
    choices : callable, optional
        The names that are allowed, where they are those of a registry.
    filled : bool
        An empty list is refused.
    aliases : tuple of str
        What others call it (verl, TRL, the paper's scripts); what stands behind a space is a remark.
    used : tuple of When
    verl : Verl
    resumes : bool
        May differ when a run goes on: it does not change what a step does.
    """

    key: str
    kind: Any
    default: Any
    doc: str = ""
    range: str = ""
    unit: str = ""
    text: tuple[str, str] = ("", "")
    choices: Callable[[], Iterable[str]] | None = None
    filled: bool = False
    aliases: tuple[str, ...] = ()
    used: tuple[When, ...] = ()
    verl: Verl = dataclasses.field(default_factory=lambda: refused("verl has no such setting"))
    resumes: bool = False

    def has_effect(self, recipe: AnyRecipe) -> bool:
        """Whether changing it changes anything in a recipe."""
        return all(use.used(recipe) for use in self.used)


def setting(
    default: T,
    doc: str = "",
    *,
    range: str = "",
    unit: str = "",
    text: tuple[str, str] = ("", ""),
    choices: Callable[[], Iterable[str]] | None = None,
    filled: bool = False,
    aliases: str = "",
    used: When | tuple[When, ...] = (),
    verl: str | Verl | None = None,
    resumes: bool = False,
) -> T:
    """A field of a table, with all that is known of it (:class:`Setting`).

    Parameters
    ----------
    aliases : str
        Separated by commas.
    verl : str or Verl
        A name: verl's setting, which takes the value as it is.
    """
    facts = {
        "doc": doc,
        "range": range,
        "unit": unit,
        "text": text if text[1] else None,
        "choices": choices,
        "filled": filled,
        "aliases": tuple(aliases.split(", ")) if aliases else (),
        "used": _several(used),
        "verl": Verl("named", verl) if isinstance(verl, str) else verl,
        "resumes": resumes,
    }
    # What a field does not say, its table may.
    found: T = dataclasses.field(default=default, metadata={k: v for k, v in facts.items() if v})
    return found


def table(
    *, used: When | tuple[When, ...] = (), verl: Verl | None = None, resumes: bool = False
) -> Callable[[type[T]], type[T]]:
    """Facts of every setting of a table that does not say otherwise; ``used`` holds beside its own."""
    facts = {"used": _several(used), "verl": verl, "resumes": resumes}

    def mark(cls: type[T]) -> type[T]:
        cls.__facts__ = {k: v for k, v in facts.items() if v}  # type: ignore[attr-defined]
        return cls

    return mark


def _several(used: When | tuple[When, ...]) -> tuple[When, ...]:
    return used if isinstance(used, tuple) else (used,)


def settings_of(cls: type, prefix: str = "") -> Iterator[Setting]:
    """The settings of a table, a dataclass whose fields are made by :func:`setting`; tables in it are left out."""
    kinds, of_table = get_type_hints(cls), getattr(cls, "__facts__", {})
    for f in dataclasses.fields(cls):
        if f.default is dataclasses.MISSING:
            continue
        facts = {**of_table, **f.metadata}
        facts["used"] = (*of_table.get("used", ()), *f.metadata.get("used", ()))
        names = facts.get("choices")
        kind = Literal[tuple(names())] if names else kinds[f.name]
        yield Setting(prefix + f.name, kind, f.default, **facts)


@dataclass(frozen=True)
class SettingProblem:
    """One thing wrong with a recipe."""

    what: str
    hint: str = ""


def read(setting: Setting, value: Any) -> Any:
    """The value as the schema wants it, or what is wrong with it.

    Whole numbers are taken for floats, lists for tuples; nothing else is converted.

    Returns
    -------
    object or Problem
    """
    converted = _convert(setting.kind, value)
    if converted is _WRONG:
        return SettingProblem(
            f"{setting.key} must be {describe(setting.kind)}, not {_shown(value)}",
            _remedy(setting.kind, value),
        )
    if isinstance(converted, str) and not _encodable(converted):
        return SettingProblem(f"{setting.key} is not valid Unicode text: {converted!a}")
    pattern, words = setting.text
    if words and not re.fullmatch(pattern, converted):
        return SettingProblem(f"{setting.key} must be {words}, not {_shown(value)}")
    if setting.filled and not converted:
        return SettingProblem(f"{setting.key} is empty")
    if setting.range:
        for number in converted if isinstance(converted, tuple) else (converted,):
            if not within(number, setting.range):
                return SettingProblem(
                    f"{setting.key} must be {describe_interval(setting.range)}, not {number!r}"
                )
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
        return nearest(str(value), get_args(kind))
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
    """Whether a number is in an interval written like ``(0, 1]``."""
    low, high = _bounds(interval)
    above = number >= low if interval[0] == "[" else number > low
    return above and (number <= high if interval[-1] == "]" else number < high)


def describe_interval(interval: str) -> str:
    """An interval in words."""
    low, high = interval[1:-1].split(", ")
    first = "" if low == "-inf" else f"at least {low}" if interval[0] == "[" else f"above {low}"
    last = "" if high == "inf" else f"at most {high}" if interval[-1] == "]" else f"below {high}"
    return " and ".join(part for part in (first, last) if part)
