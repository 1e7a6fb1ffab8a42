"""What a figure or table of the paper is, which there are, and its files.

A module of this package adds one by `figure`; nothing else has to know of it. On disk it is PDF, SVG and PNG, the CSV
of what is plotted, a caption and the findings: the same bytes each time, with nothing of the day or the machine.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import entlaw.paper
from entlaw.errors import UsageError, nearest
from entlaw.paper.library import Library
from entlaw.registry import Registry
from entlaw.report.style import rc

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Picture

SCHEMA = "entlaw.figure/1"
DIGITS = 8
PICTURES = (".pdf", ".svg", ".png")
ROUNDING = 1e-5  # relative
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


@dataclass(frozen=True)
class Drawn:
    """A figure or table before it is written.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        Not yet saved; `render` saves and closes it.
    table : pandas.DataFrame
        Exactly what is plotted, tidy, one row a point: its CSV.
    caption : str
        What is seen and how it was computed, in sentences; run names, command and version are added when written.
    runs : tuple of str
        Names of the runs used.
    findings : mapping
        Numbers a reader takes from it, with intervals as ``x``, ``x_lo``, ``x_hi``; or short texts.
    markdown, latex : str
        Of a table: its text for a page and for a paper.
    """

    figure: Picture
    table: pd.DataFrame
    caption: str
    runs: tuple[str, ...]
    findings: Mapping[str, Any] = field(default_factory=dict)
    markdown: str = ""
    latex: str = ""


Draw = Callable[[Library], Drawn]


@dataclass(frozen=True)
class Figure:
    """A figure or table that can be drawn; the fields are `figure`'s.

    Attributes
    ----------
    name, title, paper, needs : str
    draw : callable
        Of a `Library`, gives a `Drawn`, or raises `NotEnoughRuns`.
    """

    name: str
    title: str
    paper: str
    needs: str
    draw: Draw


_FIGURES: Registry[Figure] = Registry("figure")
_KINDS = {"fig": "Figure ", "table": "Table "}


def figure(name: str, title: str, *, needs: str, paper: str = "") -> Callable[[Draw], Draw]:
    """Register a function that draws; ``entlaw figures`` then knows it.

    Parameters
    ----------
    name : str
        As it is asked for, and of its files: ``fig1``.
    title : str
        Its headline.
    needs : str
        Which runs it is made from, in a few words.
    paper : str
        What of the paper it is; by default as the name says, ``Figure 1`` or ``Table 1``.

    Raises
    ------
    ValueError
        Two are called the same.
    """

    def register(draw: Draw) -> Draw:
        of = paper or re.sub(r"^(fig|table)(?=\d)", lambda m: _KINDS[m[0]], name)
        _FIGURES.add(name, Figure(name, title, of, needs, draw))
        return draw

    return register


def figures() -> dict[str, Figure]:
    """All figures and tables by name, in the paper's order: every module of this package is asked for its own."""
    for module in pkgutil.iter_modules(entlaw.paper.__path__):
        importlib.import_module(f"entlaw.paper.{module.name}")
    return {name: _FIGURES[name] for name in sorted(_FIGURES, key=_order)}


def draw(name: str, library: Library) -> Drawn:
    """Draw one in the style of all.

    Raises
    ------
    UsageError
        There is none of that name.
    NotEnoughRuns
        The library lacks the runs for it.
    """
    import matplotlib

    (known,) = chosen((name,))
    with matplotlib.rc_context(rc()):
        return known.draw(library)


def chosen(names: Sequence[str]) -> list[Figure]:
    """The figures of these names, in the paper's order; of ``all``, all.

    Raises
    ------
    UsageError
        There is none of a name; the nearest names are in the hint.
    """
    known = figures()
    if "all" in names:
        return list(known.values())
    for name in names:
        if name not in known:
            hints = (nearest(name, ["all", *known]), "`entlaw figures --list` shows all")
            raise UsageError(f"no figure is called {name}", hint="; ".join(filter(None, hints)))
    return [known[name] for name in known if name in names]


def _order(name: str) -> list[tuple[int, str]]:
    """fig2 before fig10."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class Written:
    """A figure as files in memory.

    Attributes
    ----------
    name : str
    files : mapping
        File name to bytes.
    """

    name: str
    files: Mapping[str, bytes]


def render(name: str, title: str, drawn: Drawn, *, command: str, version: str) -> Written:
    """Every file of a figure, and the figure closed.

    Parameters
    ----------
    name, title : str
        ``fig1``, and its headline.
    drawn : Drawn
    command : str
        What makes it again.
    version : str
        Of entlaw.
    """
    files: dict[str, bytes] = {}
    for ending in PICTURES:
        files[f"{name}{ending}"] = _picture(drawn.figure, ending[1:])
    drawn.figure.clear()
    files[f"{name}.csv"] = drawn.table.to_csv(
        index=False, float_format=f"%.{DIGITS}g", lineterminator="\n"
    ).encode()
    told = {
        "schema": SCHEMA,
        "name": name,
        "title": title,
        "caption": drawn.caption,
        "findings": {k: _plain(v) for k, v in drawn.findings.items()},
        "runs": list(drawn.runs),
        "command": command,
        "version": version,
    }
    files[f"{name}.json"] = (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()
    files[f"{name}.md"] = _page(name, title, drawn, command, version).encode()
    if drawn.latex:
        files[f"{name}.tex"] = (drawn.latex.rstrip("\n") + "\n").encode()
    return Written(name, files)


def differences(written: Written, folder: Path, pictures: bool = True) -> list[str]:
    """What of a figure is not in a folder as it should be: ``fig1.csv: line 3 differs``.

    Bytes that are equal are equal. Where they are not, numbers may differ by rounding and pixels by a hair's breadth:
    processors differ in the last bit of exp(), and a coordinate may be rounded the other way.

    Parameters
    ----------
    written : Written
        As the code makes it now.
    folder : Path
        What is committed.
    pictures : bool
        Compare the pictures too; else only that they are there (another release of matplotlib sets type otherwise).
    """
    found = []
    alike = True  # so far: a vector picture is compared by the pixels of its PNG
    for name in sorted(written.files, key=lambda n: (not n.endswith(".png"), n)):
        data, path = written.files[name], folder / name
        try:
            there = path.read_bytes()
        except OSError:
            found.append(f"{name}: missing")
            continue
        if there == data or (path.suffix in PICTURES and not pictures):
            continue
        if path.suffix == ".png":
            alike = _same_pixels(there, data)
        if path.suffix in PICTURES:
            found += [] if alike else [f"{name}: the picture differs"]
        elif (line := _first_difference(there, data)) is not None:
            found.append(f"{name}: {line}")
    return found


def _first_difference(there: bytes, data: bytes) -> str | None:
    one, two = there.decode(errors="replace").splitlines(), data.decode().splitlines()
    if len(one) != len(two):
        return f"{len(one)} lines, not {len(two)}"
    for number, (a, b) in enumerate(zip(one, two, strict=True), 1):
        if a != b and not _same_but_for_rounding(a, b):
            return f"line {number} differs"
    return None


def _same_but_for_rounding(a: str, b: str) -> bool:
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(math.isclose(float(x), float(y), rel_tol=ROUNDING, abs_tol=1e-9) for x, y in pairs)


def _same_pixels(there: bytes, data: bytes) -> bool:
    import numpy as np
    from matplotlib.image import imread

    try:
        one, two = imread(io.BytesIO(there)), imread(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError):
        return False
    if one.shape != two.shape:
        return False
    return bool((np.abs(one - two).max(axis=-1) > 0.1).mean() < 1e-3)


def _picture(figure: Any, format: str) -> bytes:
    import matplotlib

    # No date, no machine: the same figure is the same file.
    metadata = {
        "pdf": {"CreationDate": None, "Producer": None},
        "svg": {"Date": None},
        "png": {"Software": None},
    }
    out = io.BytesIO()
    with matplotlib.rc_context(rc()):
        figure.savefig(out, format=format, metadata=metadata[format], dpi=200)
    return out.getvalue()


def _page(name: str, title: str, drawn: Drawn, command: str, version: str) -> str:
    """The caption as a page: what GitHub shows beside the picture."""
    runs = ", ".join(f"`{run}`" for run in drawn.runs) or "none: the figure is of theory alone"
    body = drawn.markdown.rstrip("\n") + "\n\n" if drawn.markdown else ""
    return (
        f"# {title}\n\n![{name}]({name}.png)\n\n{body}{drawn.caption}\n\n"
        f"Runs: {runs}.\n\nMade by `{command}` with entlaw {version}; the numbers are in [{name}.csv]({name}.csv).\n"
    )


def _plain(value: Any) -> Any:
    """A finding as JSON: rounded numbers, null where there is none."""
    if isinstance(value, str | bool) or value is None:
        return value
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
