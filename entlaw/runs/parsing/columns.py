"""A table of columns as runs: split by the column that names the run, W&B's chart headers, long form."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import names_step
from entlaw.runs.bounds import check_runs
from entlaw.runs.keys import canonical
from entlaw.runs.parsing.records import METRIC_FIELDS, NUMBERED_RUN_FIELDS, RUN_FIELDS
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.table import RowBuilder

_WANDB_AXES = {
    "step",
    "_step",
    "relative time (wall)",
    "relative time (process)",
    "wall time",
    "_runtime",
    "_timestamp",
    "global_step",
    "trainer/global_step",
    "training/global_step",
}
LOOK_AT = 30  # rows in which cells that are no numbers are remembered
_WANDB_BOUND = re.compile(r"__(MIN|MAX)$")


_VALUES = ("value", "metric_value", "scalar_value", "scalar", "val")
_METRICS = (*METRIC_FIELDS, "title", "measure", "scalar_name", "metric_key")
_VARIANTS = ("variant", "series", "sub_metric")
_TRIALS = ("trial_id", "trial_name", "experiment_key")  # name a run in tables of runs; constant in a history
_MOST_KNOWN = 100  # names that are compared with a new one
_TELLING = 3  # letters of a name that do not end another one by chance; rows of a metric that is no slip
_BESIDE = re.compile(r"step|iter|epoch|time|date|run|experiment|task|unit|id$|index|^$")


def _spelling(name: str) -> str:
    """A column's name, however it is spelt: metricName, Metric Name, metric_name."""
    return canonical(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(one) for one in wanted if one in names), None)


def run_column(names: Sequence[str], long: bool) -> int | None:
    """Position of the column that distinguishes runs; in the long form ``name`` may name the metric."""
    spelt = [_spelling(n) for n in names]
    trials = () if any(map(names_step, names)) else _TRIALS
    return _first(spelt, (*RUN_FIELDS, *(() if long else ("name",)), *trials))


def metric_column(names: Sequence[str]) -> tuple[int, ...] | None:
    """Positions of a metric's name, its value and, where it has one, its variant, for one number a row.

    Columns that are called ``value`` and, say, ``metric`` are enough. Other spellings count where all other columns are
    steps, times and names of runs.
    """
    spelt = [_spelling(n) for n in names]
    value, metric, variant = (_first(spelt, wanted) for wanted in (_VALUES, _METRICS, _VARIANTS))
    if metric is None:
        metric, variant = variant, None
    if value is None or metric is None:
        return None
    found = (metric, value) if variant is None else (metric, value, variant)
    if spelt[value] == "value" and spelt[metric] in METRIC_FIELDS:
        return found
    rest = (name for i, name in enumerate(spelt) if i not in found)
    return found if all(_BESIDE.search(name) for name in rest) else None


def wandb_columns(names: Sequence[str]) -> dict[str, list[tuple[int, str]]] | None:
    """Columns of W&B's chart export by run: headers are ``runname - key``, ``... - key__MIN`` and ``__MAX``.

    Returns
    -------
    dict or None
        Run name to (position, key); the bounds of a smoothed line are left out. None for other tables.
    """
    if len(names) < 2 or names[0].strip('"').lower() not in _WANDB_AXES:
        return None
    runs: dict[str, list[tuple[int, str]]] = {}
    for position, name in enumerate(names[1:], 1):
        run, dash, key = name.rpartition(" - ")
        if not dash or not run or not key:
            return None
        if not _WANDB_BOUND.search(key):
            runs.setdefault(run, []).append((position, key))
    return runs


def repeated_names(repeated: list[str]) -> tuple[Finding, ...]:
    """A finding about columns of one name."""
    if not repeated:
        return ()
    shown = ", ".join(dict.fromkeys(repeated))
    return (
        Finding(
            "duplicate-column",
            "warning",
            f"several columns are named {shown}; the first keeps the name, later ones end in .1, .2, ...",
            "two series under one name: which one is meant is not known",
            "name the one to use with --entropy-key or --on",
        ),
    )


def _is_made_of(text: str, known: Collection[str]) -> bool:
    """Whether a text is the beginning of a known name, or all of it, and a whole one."""
    return any(
        len(name) >= _TELLING and text.endswith(name) and any(k.startswith(text[: -len(name)]) for k in known)
        for name in known
        if name != text
    )


class ColumnTable:
    """Takes rows of numbers with two possible words, the run's and the metric's; gives the runs.

    Holds eight bytes a cell.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = list(names)
        self.long = metric_column(names)
        self.run_at = run_column(names, self.long is not None)
        self._cells: list[array[float]] = [array("d") for _ in names]
        self._run_of: array[int] = array("q")
        self._run_ids: dict[str, int] = {}
        self._pivot: dict[int, RowBuilder] = {}
        self._words: dict[int, str] = {}  # a cell of each column that is no number
        self.texts: dict[int, list[str]] = {}  # such cells of the first rows
        self._metrics: Counter[str] = Counter()
        self.n_rows = 0

    @property
    def n_runs(self) -> int:
        """Runs that the column which names them distinguishes."""
        return len(self._run_ids)

    def values(self, column: int) -> np.ndarray:
        """The numbers of a column, NaN where there is none; of the long form, none at all."""
        return np.frombuffer(self._cells[column], dtype=np.float64)

    def is_joined(self, run: str) -> bool:
        """Whether a run's name that is new is made of two known ones."""
        return run not in self._run_ids and _is_made_of(run, list(self._run_ids)[-_MOST_KNOWN:])

    def joined_metrics(self) -> list[str]:
        """Names of metrics that stand in one row and are made of two others."""
        often = [name for name, n in self._metrics.most_common(_MOST_KNOWN) if n > _TELLING]
        once = [name for name, n in self._metrics.items() if n == 1]
        return [name for name in once[:_MOST_KNOWN] if _is_made_of(name, often)]

    def _id(self, run: str) -> int:
        number = self._run_ids.setdefault(run, len(self._run_ids))
        column = self.names[self.run_at or 0]
        check_runs(number + 1, f"names in column {column!r}", "rename or drop that column", self.path)
        return number

    def add(self, numbers: Sequence[float], words: Sequence[Any] | dict[int, Any]) -> None:
        """Append one row: NaN where a cell is not a number; `words` are the cells as they were."""
        run = self._id(str(words[self.run_at]).strip()) if self.run_at is not None else 0
        self.n_rows += 1
        if self.n_rows <= LOOK_AT:
            for i, x in enumerate(numbers):
                if x != x and str(words[i]).strip():
                    text = str(words[i]).strip()
                    self._words.setdefault(i, text)
                    self.texts.setdefault(i, []).append(text)
        if self.long is not None:
            metric, value, *variant = self.long
            record = {
                n: x
                for i, (n, x) in enumerate(zip(self.names, numbers, strict=True))
                if i not in (*self.long, self.run_at) and x == x
            }
            if numbers[value] == numbers[value]:
                parts = dict.fromkeys(str(words[i]).strip() for i in (metric, *variant))
                name = "/".join(part for part in parts if part)
                record[name] = numbers[value]
                self._metrics[name] += 1
                self._pivot.setdefault(run, RowBuilder()).add(record)
            return
        self._run_of.append(run)
        for column, x in zip(self._cells, numbers, strict=True):
            column.append(x)

    def add_rows(self, numbers: Sequence[np.ndarray], words: dict[int, list[Any]]) -> None:
        """Append many rows: columns of numbers, and the cells as they were of the columns that hold words."""
        n = len(numbers[0]) if numbers else 0
        if self.long is not None:
            for i in range(n):
                cells = {j: column[i] for j, column in words.items()}
                self.add([float(column[i]) for column in numbers], cells)
            return
        runs = [self._id(str(w).strip()) for w in words[self.run_at]] if self.run_at is not None else [0] * n
        self.n_rows += n
        self._run_of.extend(runs)
        for column, values in zip(self._cells, numbers, strict=True):
            column.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())

    def runs(
        self, name: str, form: str, details: dict[str, Any], findings: tuple[Finding, ...]
    ) -> list[RawRun]:
        """The runs, in order of first appearance; columns without a number are left out."""
        frames = self._frames(name)
        provenance = Provenance(str(self.path), form, "unknown", details)
        return [
            RawRun(run or name, frame, {}, provenance, findings)
            for run, frame in frames
            if len(frame) and frame.shape[1]
        ]

    def _frames(self, name: str) -> list[tuple[str, pd.DataFrame]]:
        labels = list(self._run_ids) or [name]
        if self.long is not None:
            return [(labels[i], rows.frame()) for i, rows in sorted(self._pivot.items())]
        data = [np.frombuffer(column, dtype=np.float64) for column in self._cells]
        exported = wandb_columns(self.names)
        if exported is not None:
            check_runs(len(exported), "columns of runs", "export fewer runs of the chart", self.path)
            return [(run, self._exported(data, columns)) for run, columns in exported.items()]
        numeric = [i for i, c in enumerate(data) if i != self.run_at or not self._distinguishes_runs(i)]
        numeric = [i for i in numeric if not np.isnan(data[i]).all()]
        if self.run_at is None or not self._distinguishes_runs(self.run_at):
            return [(name, self._frame(data, numeric, slice(None)))]
        run_of = np.frombuffer(self._run_of, dtype=np.int64)
        numeric = [i for i in numeric if i != self.run_at]
        return [(label, self._frame(data, numeric, run_of == i)) for i, label in enumerate(labels)]

    def _distinguishes_runs(self, column: int) -> bool:
        """Whether the run column distinguishes runs: texts do, and so do numbers in a column named for them."""
        if self.names[column].lower() in NUMBERED_RUN_FIELDS:
            return True
        return bool(np.isnan(np.frombuffer(self._cells[column], dtype=np.float64)).any())

    def _frame(self, data: list[np.ndarray], columns: list[int], rows: Any) -> pd.DataFrame:
        frame = pd.DataFrame({self.names[i]: data[i][rows].copy() for i in columns})
        frame = frame.dropna(how="all").reset_index(drop=True)
        unread = {self.names[i]: word for i, word in self._words.items() if i not in columns}
        frame.attrs["unread"] = {key: repr(word[:60]) for key, word in unread.items()}
        return frame

    def _exported(self, data: list[np.ndarray], columns: list[tuple[int, str]]) -> pd.DataFrame:
        axis = self.names[0].strip('"')
        frame = pd.DataFrame({key: data[i] for i, key in columns})
        there = frame.notna().any(axis=1)  # a run without a value at a step has an empty cell there
        if axis not in frame:
            frame.insert(0, "step" if axis.lower() == "step" else axis, data[0])
        return frame[there].reset_index(drop=True)
