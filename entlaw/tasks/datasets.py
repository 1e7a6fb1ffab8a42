"""Rows of a data set, from a file, a mirror folder or the hub, as problems; what cannot be used is listed."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entlaw.errors import DataError, MissingExtra, MissingSeries, SourceNotFound, UnreadableSource
from entlaw.tasks.answers import last_box, last_hashes
from entlaw.tasks.manifest import DataSet, Layout

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".csv.gz")
"""In order of preference where a set is stored in several formats."""

RawRow = Mapping[str, Any]


@dataclass(frozen=True)
class RawProblem:
    """One problem as its data set has it."""

    row: int
    question: str
    answer: str
    level: str = ""
    solution: str = ""


@dataclass(frozen=True)
class Unusable:
    """A row that makes no problem, and why."""

    row: int
    why: str


@dataclass(frozen=True)
class LoadedDataSet:
    """A data set in memory.

    Attributes
    ----------
    spec : DataSet
    source : str
        The files, or the hub's id.
    layout : Layout
        The column mapping that fitted.
    items : tuple of RawProblem
    unusable : tuple of Unusable
    notes : tuple of str
        What else is worth knowing: rows left out on purpose, a number of rows that is not the manifest's.
    """

    spec: DataSet
    source: str
    layout: Layout
    items: tuple[RawProblem, ...]
    unusable: tuple[Unusable, ...] = ()
    notes: tuple[str, ...] = ()


def load(spec: DataSet, data_dir: Path | None = None) -> LoadedDataSet:
    """A data set from ``data_dir`` (a folder, or the file itself), or from the hub without one.

    Raises
    ------
    SourceNotFound
        No file of this set in the folder; no access to the hub, or none to this set.
    MissingSeries
        No column mapping fits.
    UnreadableSource
        A damaged file, or no usable row in it.
    MissingExtra
        The hub is needed and ``datasets`` is not installed.
    """
    if data_dir is None:
        return from_rows(spec, hub_rows(spec), f"hub: {spec.hub}")
    paths = find(spec, data_dir)
    rows = [row for path in paths for row in read(path)]
    return from_rows(spec, rows, ", ".join(str(p) for p in paths))


# Files -------------------------------------------------------------------------------------------


def patterns(spec: DataSet) -> list[str]:
    """Names under which a set is looked for, without suffix: its own, the manifest's, the hub's folders."""
    roots = (spec.hub, spec.hub.partition("/")[2])
    inner = [f"{spec.config}/{spec.split}*", f"{spec.config}*/*"] if spec.config else []
    inner += [f"data/{spec.split}*", f"{spec.split}*", f"data/{spec.split}/*"]
    named = (spec.name, spec.name.replace("-", "_"), *spec.files)
    return [*dict.fromkeys(named), *(f"{root}/{part}" for root in roots for part in inner)]


def find(spec: DataSet, data_dir: Path) -> list[Path]:
    """The files of a set in a folder; several are parts of one set."""
    if data_dir.is_file():
        return [data_dir]
    if not data_dir.is_dir():
        raise SourceNotFound("the data folder does not exist", where=str(data_dir))
    for pattern in patterns(spec):
        found: dict[str, Path] = {}
        for suffix in SUFFIXES:
            for path in data_dir.glob(pattern + suffix):
                found.setdefault(str(path).removesuffix(suffix), path)
        if found:
            return [found[stem] for stem in sorted(found)]
    present = sorted(p.name for p in data_dir.iterdir() if p.name.endswith(SUFFIXES))
    raise SourceNotFound(
        f"no file of {spec.title} ({spec.name}) in this folder",
        where=str(data_dir),
        why="it holds "
        + (", ".join(present[:12]) + (" ..." if len(present) > 12 else "") if present else "no data files"),
        hint=f"name the file {spec.name}.jsonl (or .parquet, .csv), keep the hub's {spec.hub}/, or give the file",
    )


def read(path: Path) -> list[RawRow]:
    """Rows of a JSON Lines, JSON, Parquet or CSV file, gzipped or not."""
    try:
        return _read(path)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise SourceNotFound(f"cannot be read: {error.strerror or error}", where=str(path)) from error
        raise UnreadableSource(
            "cannot be read as " + path.name.partition(".")[2],
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:300],
        ) from error


def _read(path: Path) -> list[RawRow]:
    kind = path.name.removesuffix(".gz")
    if kind.endswith(".parquet"):
        import pyarrow.parquet as pq

        rows: list[RawRow] = pq.read_table(path).to_pylist()
        return rows
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8-sig")
    if kind.endswith(".csv"):
        import csv
        import io

        return list(csv.DictReader(io.StringIO(text)))
    if kind.endswith((".json", ".jsonl")):
        stripped = text.strip()
        parsed = (
            json.loads(stripped)
            if stripped.startswith("[")
            else [json.loads(s) for s in stripped.splitlines() if s.strip()]
        )
        if not all(isinstance(row, dict) for row in parsed):
            raise ValueError("not one object a line")
        return list(parsed)
    raise ValueError("neither JSON, Parquet nor CSV")


# The hub -----------------------------------------------------------------------------------------


def hub_rows(spec: DataSet) -> list[RawRow]:
    """Rows from the Hugging Face hub, or from its local cache; see :func:`load` for what can go wrong."""
    return list(hub_set(spec))


def hub_set(spec: DataSet) -> Any:
    """The set as a ``datasets.Dataset``."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            f"reading {spec.name} from the hub needs the package datasets",
            hint="pip install 'entlaw[math]', or give a folder that holds the set with --data-dir",
        ) from error
    try:
        return datasets.load_dataset(
            spec.hub, spec.config or None, split=spec.split, revision=spec.revision or None
        )
    except Exception as error:
        raise _explained(spec, error) from error


def _explained(spec: DataSet, error: Exception) -> DataError:
    """What went wrong at the hub, and what to do: its exceptions change with its versions, so text is read too."""
    told = f"{type(error).__name__}: {error}"
    words = told.lower()
    folder = f"give a folder that holds it with --data-dir (as {spec.name}.jsonl or .parquet, or the hub's {spec.hub}/)"
    if "gated" in words or "401" in words or "403" in words:
        return SourceNotFound(
            f"{spec.title} is gated or needs a login",
            where=spec.hub,
            why=told[:300],
            hint=f"accept its terms at https://huggingface.co/datasets/{spec.hub} and run `hf auth login`, or {folder}",
        )
    network = (
        "connection",
        "resolve",
        "offline",
        "timeout",
        "timed out",
        "unreachable",
        "proxy",
        "ssl",
        "couldn't reach",
        "network",
        "name or service",
    )
    if any(word in words for word in network):
        return SourceNotFound(
            f"no access to the hub, where {spec.title} lies",
            where=spec.hub,
            why=told[:300],
            hint=f"{folder}; `entlaw data fetch {spec.name} -o FOLDER` on a machine with access makes one",
        )
    return SourceNotFound(
        f"{spec.title} cannot be loaded from the hub", where=spec.hub, why=told[:300], hint=folder
    )


# Rows to problems --------------------------------------------------------------------------------


def from_rows(spec: DataSet, rows: Sequence[RawRow], source: str) -> LoadedDataSet:
    """Problems from rows, by the first column mapping that fits."""
    if not rows:
        raise UnreadableSource("holds no row", where=source)
    layout = fitting(spec, rows[0], source)
    items: list[RawProblem] = []
    unusable: list[Unusable] = []
    seen: set[str] = set()
    other = repeated = 0
    for i, row in enumerate(rows):
        if any(str(value(row, path)) != wanted for path, wanted in spec.only.items()):
            other += 1
            continue
        made = _item(layout, row, i)
        if isinstance(made, Unusable):
            unusable.append(made)
        elif spec.distinct and made.question in seen:
            repeated += 1
        else:
            items.append(made)
            seen.add(made.question)
    if not items:
        why = (
            unusable[0].why
            if unusable
            else "no row has " + ", ".join(f"{k} = {v}" for k, v in spec.only.items())
        )
        raise UnreadableSource(
            f"none of its {len(rows)} rows can be used", where=source, why=why, hint=f"read as: {layout}"
        )
    notes = [f"{other} rows of other kinds left out"] * bool(other) + [
        f"{repeated} repeated questions left out"
    ] * bool(repeated)
    if spec.rows and len(items) + len(unusable) != spec.rows:
        notes.append(f"{len(items) + len(unusable)} rows where {spec.hub} ({spec.split}) has {spec.rows}")
    return LoadedDataSet(spec, source, layout, tuple(items), tuple(unusable), tuple(notes))


def fitting(spec: DataSet, row: RawRow, source: str) -> Layout:
    """The first column mapping whose columns are all in a row."""
    for layout in spec.layouts:
        if all(has(row, path) for path in (*layout.columns, *spec.only)):
            return layout
    wanted = "; or ".join(str(layout) for layout in spec.layouts)
    absent = [p for p in (*spec.layouts[0].columns, *spec.only) if not has(row, p)]
    raise MissingSeries(
        f"no column {', '.join(absent)} as {spec.title} has",
        where=source,
        why=f"the columns are {', '.join(_names(row))}",
        hint=f"{spec.name} is read as: {wanted}; rename the columns, or take the set that this file is",
    )


def _names(row: RawRow) -> Iterable[str]:
    for name, held in row.items():
        yield name if not isinstance(held, dict) else f"{name} ({', '.join(held)})"


def has(row: RawRow, path: str) -> bool:
    """Whether a path exists in a row, whatever it holds."""
    try:
        value(row, path)
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return True


def value(row: RawRow, path: str) -> Any:
    """What a path such as ``prompt.-1.content`` leads to; KeyError, IndexError or the like if nowhere."""
    if path in row:
        return row[path]
    held: Any = row
    for step in path.split("."):
        held = held[int(step)] if isinstance(held, (list, tuple)) else held[step]
    return held


def _item(layout: Layout, row: RawRow, i: int) -> RawProblem | Unusable:
    try:
        question = _joined([str(value(row, path)).strip() for path in layout.question])
        given = value(row, layout.answer)
        level = _text(value(row, layout.level)) if layout.level else ""
        solution = _text(value(row, layout.solution)) if layout.solution else ""
        tests = {name: value(row, path) for name, path in layout.tests.items()}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return Unusable(i, f"{type(error).__name__}: {error}")
    for extra in layout.strip:
        question = question.replace(extra.strip(), "").strip()
    if not question:
        return Unusable(i, "the question is empty")
    answer = (
        json.dumps(tests, ensure_ascii=False, default=str)
        if layout.take == "columns"
        else taken(layout.take, given)
    )
    if not answer:
        shown = _text(given)
        return Unusable(
            i,
            f"no answer in {layout.answer} ({layout.take}): {shown[:60] + ' ...' if len(shown) > 60 else shown!r}",
        )
    return RawProblem(i, question, answer, level, solution)


def _joined(parts: list[str]) -> str:
    """Sentences put together; SVAMP's bodies often lack their full stop."""
    return " ".join(
        p if p[-1:] in ".!?:," or i == len(parts) - 1 else p + "." for i, p in enumerate(parts) if p
    )


def _text(held: Any) -> str:
    if isinstance(held, (list, tuple)):
        return "\n".join(_text(each) for each in held)
    return "" if held is None else str(held)


def taken(how: str, given: Any) -> str | None:
    """The reference answer in a column's value, None if there is none.

    Parameters
    ----------
    how : str
        One of :data:`entlaw.tasks.manifest.TAKES`, but ``columns``.
    """
    if given is None or (isinstance(given, float) and not math.isfinite(given)):
        return None
    if how == "list":
        parts = given if isinstance(given, (list, tuple)) else [given]
        return ", ".join(str(p).strip() for p in parts if str(p).strip()) or None
    text = str(given).strip()
    if how == "hashes":
        return last_hashes(text)
    if how == "boxed":
        return last_box(text)
    if how == "number-unit":
        text = re.sub(r"\s*\([^()]*\)\s*$", "", text)
        return text or None
    if how == "number":
        return re.sub(r"(?<=\d)\.0+$", "", text) or None
    return text or None
