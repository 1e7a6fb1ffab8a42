"""Which data sets stand in a table: the suites of ``suites.toml``, or any list of known data sets."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, Literal

from entlaw.errors import UsageError
from entlaw.tasks import manifest

ARITHMETIC = "arithmetic"
"""The made-up sums of the ladder's runs: no data set, but known here by this name."""
_LIST_MAX_TOKENS = 2048


@dataclass(frozen=True)
class SuiteColumn:
    """One column."""

    name: str
    label: str
    rows: int = 0
    """Weight in the row-weighted average; 0: problems x samples."""
    part: Literal["all", "held-out"] = "all"


@dataclass(frozen=True)
class Published:
    """A row that others reported; fractions in [0, 1]."""

    model: str
    scores: tuple[float, ...]
    printed: float
    """Their own average."""


@dataclass(frozen=True)
class Suite:
    """The columns of a table."""

    name: str
    title: str
    sets: tuple[SuiteColumn, ...]
    max_tokens: int
    note: str = ""
    published: tuple[Published, ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether the suite itself says how many rows each set counts for."""
        return all(member.rows for member in self.sets)


def load() -> dict[str, Suite]:
    """All suites by name."""
    return parse(resources.files("entlaw.tasks").joinpath("suites.toml").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Suite]:
    """Suites from their TOML.

    Raises
    ------
    ValueError
        An unknown entry, an unknown data set, rows for some sets only, a published row of another length: a defect of
        the file, not of its user.
    """
    known = manifest.load()
    return {name: _suite(name, table, known) for name, table in tomllib.loads(text).items()}


def _suite(name: str, table: dict[str, Any], known: dict[str, manifest.DataSet]) -> Suite:
    unknown = set(table) - {f.name for f in fields(Suite)}
    sets = tuple(SuiteColumn(**each) for each in table["sets"])
    strange = [m.name for m in sets if m.name not in known or m.part not in ("all", "held-out")]
    given = [bool(m.rows) for m in sets]
    published = tuple(
        Published(
            row["model"], tuple(round(s / 100, 6) for s in row["scores"]), round(row["printed"] / 100, 6)
        )
        for row in table.get("published", ())
    )
    uneven = any(given) != all(given) or any(len(row.scores) != len(sets) for row in published)
    if unknown or strange or uneven:
        raise ValueError(f"{name}: unknown entries {sorted(unknown)}, sets {strange}, or uneven rows")
    return Suite(name=name, **(table | {"sets": sets, "published": published}))


def get(text: str) -> Suite:
    """A suite by its name, or made of data sets named with commas between.

    Raises
    ------
    UsageError
        No suite and no data set has such a name; one is named twice.
    """
    known = load()
    if text.strip() in known:
        return known[text.strip()]
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError("--suite names nothing", hint=f"{', '.join(known)}, or data sets: svamp,mawps")
    members = tuple(_member(name, len(names) == 1, known) for name in names)
    doubled = sorted({m.name for m in members if sum(m.name == n.name for n in members) > 1})
    if doubled:
        raise UsageError(f"--suite names {', '.join(doubled)} twice")
    return Suite(",".join(m.name for m in members), "", members, _LIST_MAX_TOKENS)


def _member(name: str, alone: bool, known: dict[str, Suite]) -> SuiteColumn:
    if name == ARITHMETIC:
        return SuiteColumn(name, "arithmetic")
    if name in known:
        raise UsageError(
            f"{name} is a suite, which cannot be combined",
            hint=f"name its data sets instead: {','.join(m.name for m in known[name].sets)}",
        )
    try:
        spec = manifest.get(name)
    except UsageError as error:
        what = f"no suite or data set is called {name!r}" if alone else error.what
        raise UsageError(what, hint=f"suites: {', '.join(known)}. {error.hint}") from error
    # Whoever names a training set means the part that was not trained on.
    return SuiteColumn(spec.name, spec.name, part="held-out" if spec.use == "train" else "all")
