"""Recipes: read from TOML with overrides, checked setting by setting, written back, compared.

Combinations of settings are the business of :mod:`entlaw.train.rules`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from entlaw.errors import UsageError, closest
from entlaw.train.advantages import ESTIMATORS
from entlaw.train.catalogue import catalogue, layers, similar
from entlaw.train.controls import CONTROLS
from entlaw.train.losses import LOSSES
from entlaw.train.schema import Recipe
from entlaw.train.settings import Setting, SettingProblem, describe, read, settings_of


def settings() -> Mapping[str, Setting]:
    """All settings by full name, in the schema's order."""
    return _known(tuple(ESTIMATORS), tuple(LOSSES), tuple(CONTROLS))[0]


def tables() -> Mapping[str, str]:
    """All tables by full name with their description; ``""`` is the recipe itself."""
    return _known(tuple(ESTIMATORS), tuple(LOSSES), tuple(CONTROLS))[1]


@functools.cache
def _known(*registered: tuple[str, ...]) -> tuple[Mapping[str, Setting], Mapping[str, str]]:
    """Settings and tables, as long as nothing more is registered."""
    found: dict[str, Setting] = {}
    named: dict[str, str] = {}

    def walk(table: Any, name: str) -> None:
        named[name] = inspect.getdoc(type(table)) or ""
        prefix = f"{name}." if name else ""
        own = {s.key: s for s in settings_of(type(table), prefix)}
        for f in fields(table):
            key, value = f"{prefix}{f.name}", getattr(table, f.name)
            if is_dataclass(value):
                walk(value, key)
            else:
                found[key] = own[key]

    walk(Recipe(), "")
    return MappingProxyType(found), MappingProxyType(named)


MAY_CHANGE = frozenset(key for key, s in settings().items() if s.resumes)
"""Settings that may differ when a run goes on from a checkpoint: they change only how many steps there are, where, and
what is kept of them."""

_Given = tuple[str, str, Any]
"""Full name, where it was written (``line 3``, ``--set loss.kind=x``, or nothing), value."""


def shipped() -> dict[str, Path]:
    """The files of the whole recipes that come with the package, by name; see also :mod:`entlaw.train.catalogue`."""
    return {name: entry.files[0] for name, entry in catalogue().items() if entry.kind == "recipe"}


def load(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a TOML file (None: the defaults) and ``table.key=value`` overrides, later ones winning.

    Parameters
    ----------
    path : Path or None
        A file, the name of something that ships, or several of both joined by ``+``, later ones winning; see
        :mod:`entlaw.train.catalogue`.
    overrides : sequence of str
        The value is TOML where it parses (``0.28``, ``true``, ``[2, 3]``) and the setting is not text, else text.

    Raises
    ------
    UsageError
        Everything that is wrong with the file and the overrides, in one message.
    """
    problems: list[tuple[str, SettingProblem]] = []
    given: list[_Given] = []
    where = "--set"
    if path is not None:
        stack = layers(Path(path))
        files = [file for layer in stack for file in layer.files]
        where = str(files[0]) if len(files) == 1 else str(path)
        for layer in stack:
            for file in layer.files:
                given += _read(file, problems, f"{file.name}, " if len(files) > 1 else "")
            given += _overridden(layer.overrides, problems)
    given += _overridden(overrides, problems)
    return _build(given, problems, where)


def _read(path: Path, problems: list[tuple[str, SettingProblem]], prefix: str) -> Iterator[_Given]:
    """The settings of one file; ``prefix`` precedes their lines in messages."""
    text, where = _text(path)
    document = _parse(text, where)
    lines = _lines(text)
    found: list[tuple[str, SettingProblem]] = []
    for names, value in _leaves(document, (), found, lines):
        yield ".".join(names), (prefix + _line(lines, names)).rstrip(", "), value
    problems += [((prefix + place).rstrip(", "), problem) for place, problem in found]


def _overridden(overrides: Sequence[str], problems: list[tuple[str, SettingProblem]]) -> Iterator[_Given]:
    for override in overrides:
        for key, value in _override(override, problems):
            yield key, f"--set {override}", value


def from_dict(plain: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The inverse of :func:`to_dict`; what is missing takes its default.

    Parameters
    ----------
    where : str
        Where the dict is from, for messages.

    Raises
    ------
    UsageError
        As :func:`load`.
    """
    problems: list[tuple[str, SettingProblem]] = []
    given = [(".".join(names), "", value) for names, value in _leaves(plain, (), problems, {})]
    return _build(given, problems, where)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested plain data: dicts, lists, numbers, text."""
    return asdict(recipe, dict_factory=lambda items: {k: _plain(v) for k, v in items})


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every setting by its full name, as plain data."""

    def walk(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in table.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(walk(to_dict(recipe), ""))


def put(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed, by full name; they are taken as they are."""

    def filled(table: Any, prefix: str) -> Any:
        new = {}
        for f in fields(table):
            value, key = getattr(table, f.name), f"{prefix}{f.name}"
            new[f.name] = filled(value, f"{key}.") if is_dataclass(value) else values.get(key, value)
        return type(table)(**new)

    found: Recipe = filled(recipe, "")
    return found


def changes(recipe: Recipe) -> dict[str, Any]:
    """The settings that differ from their defaults, by full name."""
    return {key: new for key, _, new in diff(Recipe(), recipe)}


def diff(old: Recipe, new: Recipe) -> list[tuple[str, Any, Any]]:
    """The settings in which two recipes differ, as (full name, old, new); see :data:`MAY_CHANGE`."""
    before, after = flat(old), flat(new)
    return [(key, before[key], after[key]) for key in before if before[key] != after[key]]


def fingerprint(recipe: Recipe) -> str:
    """SHA-256, in hex, of the settings that must stay the same when a run goes on."""
    fixed = {key: value for key, value in flat(recipe).items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def to_toml(recipe: Recipe) -> str:
    """The recipe as a complete TOML file, every setting with its description and, where it differs, its default."""
    out = _comment(tables()[""] + " Shares and ratios are fractions, never percent.")
    values = flat(recipe)
    for table in [t for t in tables() if t]:
        out += ["", *_comment(tables()[table]), f"[{table}]"]
        for s in settings().values():
            home, _, leaf = s.key.rpartition(".")
            if home != table:
                continue
            default = _plain(s.default)
            notes = [s.doc] if s.doc else []
            notes += [f"{describe(s.kind)}.".capitalize()] if describe(s.kind).startswith("one of") else []
            notes += [f"Default {_toml(default)}."] if values[s.key] != default else []
            out += [*_comment(" ".join(notes)), f"{leaf} = {_toml(values[s.key])}"]
    return "\n".join(out) + "\n"


def show(value: Any) -> str:
    """A setting's value as it is written in a recipe."""
    return _toml(_plain(value))


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _toml(value: Any) -> str:
    """A setting's value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's text is TOML's, but for the delete character, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# What a name that does not exist is answered with -----------------------------------------------------


def unknown(path: tuple[str, ...], is_table: bool) -> SettingProblem:
    """What to say of a name that the schema does not have; everything in front of its last part exists."""
    *where, name = path
    table = ".".join(where)
    if is_table:
        what = f"there is no table [{'.'.join(path)}]"
        known = [t for t in tables() if t]
        homes = [t for t in known if t.rpartition(".")[2] == name] or closest(".".join(path), known)
        return SettingProblem(
            what, _list_of("nearest", homes) or _list_of("the tables are", [t for t in known if "." not in t])
        )
    what = (
        f"there is no setting {name} in [{table}]"
        if table
        else f"there is no setting {name} outside the tables"
    )
    if name in settings():
        return SettingProblem(what, "write it without quotes")
    homes = [key for key in settings() if key.rpartition(".")[2] == name]
    if homes:
        return SettingProblem(what, f"write it as {' or '.join(homes)}")
    for key, setting in settings().items():
        for alias, _, remark in (text.partition(" ") for text in setting.aliases):
            if alias == name:
                return SettingProblem(what, f"here it is called {key} {remark}".rstrip())
    beside = [key for key in settings() if key.rpartition(".")[0] == table]
    near = closest(name, [key.rpartition(".")[2] for key in beside])
    if near:
        return SettingProblem(
            what, _list_of("nearest", [f"{table}.{leaf}" if table else leaf for leaf in near])
        )
    near = closest(name, {key.rpartition(".")[2] for key in settings()})
    elsewhere = [key for leaf in near for key in settings() if key.rpartition(".")[2] == leaf]
    listed = (
        [key.rpartition(".")[2] for key in beside] if table else [t for t in tables() if t and "." not in t]
    )
    return SettingProblem(
        what, _list_of("nearest", elsewhere) or _list_of("it has" if table else "the tables are", listed)
    )


def _list_of(label: str, names: list[str]) -> str:
    return f"{label}: {', '.join(names)}" if names else ""


# Reading ---------------------------------------------------------------------------------------------


def _text(path: Path) -> tuple[str, str]:
    """The file's text and its name for messages."""
    try:
        return path.read_text("utf-8-sig"), str(path)
    except FileNotFoundError as error:
        raise UsageError("no such recipe", where=str(path), hint=similar(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            "not a text file in UTF-8", where=str(path), hint="a recipe is a TOML file"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the recipe cannot be read: {reason}", where=str(path), hint="give a TOML file"
        ) from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = f"line {found[1]}: " if found else ""
        written = text.split("\n")[int(found[1]) - 1].strip() if found else ""
        raise UsageError(
            f"{line}broken TOML: {error}",
            where=where,
            why=f"the line is: {written}" if written else None,
            hint='text needs quotes (name = "grpo"), a table is [table], a setting is key = value',
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists nested without end
        raise UsageError(
            f"broken TOML: {error}", where=where, hint="a value is too large to be read"
        ) from error


_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"""\s*([\w."'\- ]+?)\s*=""")


def _lines(text: str) -> dict[str, int]:
    """Line of each table and setting. By eye, not by grammar: good enough to point at, no more."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = re.sub(r"""["' ]""", "", header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            name = re.sub(r"""["' ]""", "", key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found


def _line(lines: Mapping[str, int], names: tuple[str, ...]) -> str:
    """``line 3`` for a setting, or for what it is written inside of."""
    for depth in range(len(names), 0, -1):
        if number := lines.get(".".join(names[:depth])):
            return f"line {number}"
    return ""


def _leaves(
    table: Mapping[str, Any],
    path: tuple[str, ...],
    problems: list[tuple[str, SettingProblem]],
    lines: Mapping[str, int],
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Settings of a nested dict that the schema has; the others become problems."""
    for name, value in table.items():
        here = (*path, str(name))
        key = ".".join(here)
        quoted = "." in str(name)  # a dot inside quotes is part of the name, so it names nothing
        if key in tables() and not quoted:
            if isinstance(value, Mapping):
                yield from _leaves(value, here, problems, lines)
            else:
                problems.append(
                    (_line(lines, here), SettingProblem(f"{key} is a table, not a setting", f"write [{key}]"))
                )
        elif key in settings() and not quoted:
            yield here, value
        else:
            problems.append((_line(lines, here), unknown(here, isinstance(value, Mapping))))


def _override(override: str, problems: list[tuple[str, SettingProblem]]) -> Iterator[tuple[str, Any]]:
    """The settings that one ``table.key=value`` sets: one, or several by an inline table."""
    key, equals, text = (part.strip() for part in override.partition("="))
    source = f"--set {override}"
    names = tuple(key.split("."))
    if not equals or not key:
        problems.append((source, SettingProblem("an override is written table.key=value", "")))
        return
    try:
        parsed = tomllib.loads(f"value = {text}")
        value: Any = parsed["value"] if set(parsed) == {"value"} else text
    except (ValueError, RecursionError):
        value = text
    nested: Any = value
    for name in reversed(names):
        nested = {name: nested}
    found: list[tuple[str, SettingProblem]] = []
    for leaf, leaf_value in _leaves(nested, (), found, {}):
        is_text = settings()[".".join(leaf)].kind is str
        # For a setting that is text, 12 and true mean "12" and "true": the shell took the quotes away.
        yield ".".join(leaf), text if is_text and leaf == names and not isinstance(value, str) else leaf_value
    problems += [(source, problem) for _, problem in found]


def _build(given: Sequence[_Given], problems: list[tuple[str, SettingProblem]], where: str) -> Recipe:
    """The recipe, or one error that lists all problems; of a setting that is given twice the later value counts."""
    values: dict[str, Any] = {}
    for key, place, value in given:
        result = read(settings()[key], value)
        if isinstance(result, SettingProblem):
            problems.append((place, result))
        else:
            values[key] = result
    if problems:
        raise _error(problems, where)
    return put(Recipe(), values)


def _error(problems: Sequence[tuple[str, SettingProblem]], where: str) -> UsageError:
    def line_number(item: tuple[str, SettingProblem]) -> int:
        found = re.match(r"line (\d+)$", item[0])
        return int(found[1]) if found else 10**9  # overrides come after the file, as they are read

    ordered = sorted(dict.fromkeys(problems), key=line_number)
    said = [(f"{place}: " if place else "") + problem.what for place, problem in ordered]
    if len(ordered) == 1:
        return UsageError(said[0], where=where, hint=ordered[0][1].hint or None)
    hints = [f" ({problem.hint})" if problem.hint else "" for _, problem in ordered]
    listed = "".join(f"\n  {what}{hint}" for what, hint in zip(said, hints, strict=True))
    return UsageError(
        f"{len(ordered)} problems in the recipe{listed}",
        where=where,
        hint="`entlaw train --print-recipe` prints every setting with its description",
    )
