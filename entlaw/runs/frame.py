"""A pandas frame as runs: the columns of any log that is read, as if it had been a table in a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from entlaw.errors import MissingSeries
from entlaw.runs.parsing.columns import ColumnTable
from entlaw.runs.run import RawRun
from entlaw.runs.steps import resolve_step
from entlaw.runs.table import parse_number


def runs_in_frame(frame: pd.DataFrame, name: str = "frame") -> list[RawRun]:
    """The runs that a frame holds, unread as yet.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a record. A column may name the run, and there may be one number a row, as in tables that are read from
        files. Where no column is a step, a numeric index is, unless it only counts the rows.
    name : str
        Of the run where no column names it.

    Returns
    -------
    list of RawRun
        At least one.

    Raises
    ------
    MissingSeries
        There is not one number in it.
    """
    given = frame.copy(deep=False)
    given.columns = [str(c) for c in frame.columns]
    table = ColumnTable(Path(name), list(given.columns))
    for row in given.itertuples(index=False, name=None):
        numbers = [float("nan") if (x := parse_number(v)) is None else x for v in row]
        table.add(numbers, row)
    runs = table.runs(name, "frame", {}, ())
    if not runs:
        raise MissingSeries("the frame holds no numbers", where=name)
    index = given.index
    if len(runs) == 1 and len(runs[0].rows) == len(index) and _is_step(index, runs[0].rows):
        runs[0].rows.insert(0, "step", index.to_numpy(dtype=float))
    return runs


def _is_step(index: pd.Index, rows: pd.DataFrame) -> bool:
    """Whether the index says more than the number of a row, and no column is the step."""
    counts = isinstance(index, pd.RangeIndex) and index.name is None and index.start == 0 and index.step == 1
    return not counts and pd.api.types.is_numeric_dtype(index) and resolve_step(rows).key is None
