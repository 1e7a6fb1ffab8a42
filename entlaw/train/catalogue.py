"""Recipes by name: whole ones, the parts they are put together from, and the paper's experiments.

``A+B+C`` is one recipe: what A sets, changed by B, then by C. Each is a file, a whole recipe that ships, a part that
ships (a model, a data set, an algorithm, a control), or one of the paper's experiments, which is itself such a sum.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from entlaw.errors import UsageError, closest

_FOLDER = Path(__file__).parent / "recipes"
_EXPERIMENTS = _FOLDER / "parts" / "experiments.toml"


@dataclass(frozen=True)
class CatalogueEntry:
    """A recipe, part or experiment that ships.

    Attributes
    ----------
    says : str
        One line: the comment that opens its file, or the experiment's place in the paper.
    files : tuple of Path
        What it is read from, later files winning.
    overrides : tuple of str
        ``table.key=value``, applied after the files.
    made_of : str
        The sum that an experiment stands for; empty for the others.
    """

    name: str
    kind: Literal["recipe", "experiment", "part"]
    says: str
    files: tuple[Path, ...]
    overrides: tuple[str, ...] = ()
    made_of: str = ""


@functools.cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """Everything that ships, by name: whole recipes, then experiments in the paper's order, then parts."""
    whole = {
        p.stem: CatalogueEntry(p.stem, "recipe", _first_line(p), (p,)) for p in sorted(_FOLDER.glob("*.toml"))
    }
    parts = {
        p.stem: CatalogueEntry(p.stem, "part", _first_line(p), (p,))
        for p in sorted((_FOLDER / "parts").glob("*.toml"))
        if p != _EXPERIMENTS
    }
    found = dict(whole)
    for figure in tomllib.loads(_EXPERIMENTS.read_text("utf-8")).values():
        for name, sum_of in figure["runs"].items():
            made_of, *overrides = [sum_of] if isinstance(sum_of, str) else sum_of
            files = tuple(parts[part].files[0] for part in made_of.split("+"))
            found[name] = CatalogueEntry(
                name, "experiment", figure["title"], files, tuple(overrides), made_of
            )
    return MappingProxyType(found | parts)


@dataclass(frozen=True)
class Layer:
    """What one summand of a recipe contributes: files, then overrides."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...] = ()


def layers(path: Path) -> tuple[Layer, ...]:
    """What a recipe's path or name means, in the order in which later ones win.

    Parameters
    ----------
    path : Path
        A file as it is; else names and files joined by ``+``. A file wins over a name that ships.

    Raises
    ------
    UsageError
        A summand is neither.
    """
    if _exists(path):
        return (Layer((path,)),)
    pieces = str(path).split("+")
    if "" in pieces:
        raise UsageError(
            "a recipe is missing beside a +",
            where=str(path),
            hint="write NAME+NAME, as in law+qwen2.5-7b+rloo",
        )
    found = tuple(_layer(Path(piece)) for piece in pieces)
    name = name_of(path)
    entry = catalogue().get(str(path))
    if len(found) > 1 or (entry is not None and entry.kind == "experiment"):
        found = (*found, Layer((), (f"run.name={name}",)))
    return found


def name_of(path: Path) -> str:
    """What a run of a recipe is called: file names without folder and suffix, joined as they were given."""
    if _exists(path):
        return path.name.removesuffix(".toml")
    return "+".join(Path(piece).name.removesuffix(".toml") for piece in str(path).split("+"))


def _layer(piece: Path) -> Layer:
    entry = catalogue().get(str(piece))
    if _exists(piece) or entry is None:
        return Layer((piece,))  # a missing file is told by whoever reads it, with its neighbours
    return Layer(entry.files, entry.overrides)


def similar(path: Path) -> str:
    """Files beside a missing one, and recipes that ship, that look like it."""
    try:
        beside = [p.name for p in path.parent.iterdir() if p.suffix == ".toml"]
    except (OSError, ValueError):
        beside = []
    known = catalogue()
    near = [str(path.parent / name) for name in closest(path.name, beside)] + closest(path.stem, known)
    # A model's name is full of dots, which look like a suffix.
    near += [name for name in closest(path.name, known) if name not in near]
    if near:
        return f"nearest: {', '.join(near)}"
    whole = [e.name for e in known.values() if e.kind == "recipe"]
    return f"shipped recipes: {', '.join(whole)}; `entlaw train --list` shows the paper's experiments"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the system, a NUL in it
        return False


def _first_line(path: Path) -> str:
    return path.read_text("utf-8").split("\n", 1)[0].lstrip("# ").rstrip()
