"""The data sets that are known by name: what each is, where it is, and how it is read, asked and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any, Literal

from entlaw.errors import UsageError, nearest

Take = Literal["text", "number", "number-unit", "hashes", "boxed", "list", "columns"]
TAKES = ("text", "number", "number-unit", "hashes", "boxed", "list", "columns")


@dataclass(frozen=True)
class Layout:
    """Which columns hold what; a path such as ``prompt.-1.content`` goes into structs and lists."""

    question: tuple[str, ...]
    """Joined by a blank."""
    answer: str
    take: Take = "text"
    """How the reference is got from the answer column."""
    solution: str = ""
    level: str = ""
    """Difficulty group, or source."""
    strip: tuple[str, ...] = ()
    """Text in the question that the template replaces."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """Of a programming task: name and path of what its checker needs."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All paths that must exist."""
        wanted = (*self.question, self.answer, self.solution, self.level, *self.tests.values())
        return tuple(dict.fromkeys(path for path in wanted if path))

    def __str__(self) -> str:
        told = [f"question <- {' + '.join(self.question)}", f"answer <- {self.answer} ({self.take})"]
        told += [
            f"{name} <- {path}" for name, path in (("solution", self.solution), ("level", self.level)) if path
        ]
        return ", ".join(told)


@dataclass(frozen=True)
class Decode:
    """How responses are sampled in evaluation: the paper takes 32 at 0.6 for AIME and AMC, one greedy elsewhere."""

    temperature: float = 0.0
    """0: greedy."""
    samples: int = 1


@dataclass(frozen=True)
class DataSet:
    """One data set; the head of ``datasets.toml`` explains each entry."""

    name: str
    title: str
    use: Literal["train", "eval"]
    kind: Literal["math", "code"]
    hub: str
    split: str
    license: str
    files: tuple[str, ...]
    layouts: tuple[Layout, ...]
    template: str
    """The text itself; ``{question}`` is replaced."""
    config: str = ""
    revision: str = ""
    rows: int = 0
    """0: not known."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Rows are kept if these columns hold these values."""
    distinct: bool = False
    """Equal questions are taken once."""
    where: Literal["boxed", "any"] = "boxed"
    rounded: bool = False
    decode: Decode = Decode()
    note: str = ""
    unverified: str = ""

    def prompt(self, question: str) -> str:
        """The question as it is asked."""
        return self.template.replace("{question}", question, 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        told: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        told["layouts"] = [
            {f.name: getattr(layout, f.name) for f in fields(layout)} | {"tests": dict(layout.tests)}
            for layout in self.layouts
        ]
        return told | {"decode": self.decode.__dict__, "only": dict(self.only)}


def load() -> dict[str, DataSet]:
    """All data sets by name, in the manifest's order."""
    text = resources.files("entlaw.tasks").joinpath("datasets.toml").read_text(encoding="utf-8")
    return parse(text)


def parse(text: str) -> dict[str, DataSet]:
    """A manifest from its TOML.

    Raises
    ------
    ValueError
        An unknown entry, an unknown template, or one that is missing: a defect of the manifest, not of its user.
    """
    tables = tomllib.loads(text)
    templates = tables.pop("templates")
    return {name: _data_set(name, table, templates) for name, table in tables.items()}


def _data_set(name: str, table: dict[str, Any], templates: dict[str, str]) -> DataSet:
    unknown = set(table) - {f.name for f in fields(DataSet)}
    if unknown or table["template"] not in templates:
        raise ValueError(f"{name}: unknown entries {sorted(unknown)} or template {table['template']!r}")
    layouts = tuple(_layout(name, each) for each in table["layouts"])
    changed = {
        "layouts": layouts,
        "files": tuple(table["files"]),
        "template": templates[table["template"]],
        "decode": Decode(**table.get("decode", {})),
    }
    return DataSet(name=name, **(table | changed))


def _layout(name: str, table: dict[str, Any]) -> Layout:
    question = table["question"]
    if table.get("take", "text") not in TAKES:
        raise ValueError(f"{name}: take = {table['take']!r}")
    changed = {
        "question": (question,) if isinstance(question, str) else tuple(question),
        "strip": tuple(table.get("strip", ())),
    }
    return Layout(**(table | changed))


def get(name: str) -> DataSet:
    """One data set.

    Raises
    ------
    UsageError
        No data set has this name.
    """
    known = load()
    spelled = {_spelled(key): key for key in known}
    if _spelled(name) in spelled:
        return known[spelled[_spelled(name)]]
    hints = (nearest(name, known), "`entlaw data list` shows all")
    raise UsageError(f"no data set is called {name!r}", hint="; ".join(filter(None, hints)))


def _spelled(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())  # MATH500, math_500 and math-500 are one
