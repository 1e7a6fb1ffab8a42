"""A table of rows and keys from single values, where it can be made: logs of many keys are mostly holes.

A dense table costs rows times keys, whatever it holds: 28,000 rows with a key of their own (0.5 MB of text) are 784
million cells. Where the table would be out of proportion to its values, rows of one step are put together, then keys
with so few values that no law could use them are left out, and a table that is too large still is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import epoch_column, is_axis
from entlaw.runs.bounds import FEWEST_VALUES, MOST_KEYS, may_be_dense, too_large

_LEFT_OUT = "keys_left_out"


def table(
    names: Sequence[str],
    n_rows: int,
    row: np.ndarray,
    column: np.ndarray,
    value: np.ndarray,
    one_row_a_step: bool = False,
) -> pd.DataFrame:
    """Put values into a table of float64 columns.

    Parameters
    ----------
    names : sequence of str, length k
        Keys, in order of their columns.
    n_rows : int
    row, column : ndarray of int64, shape (m,)
    value : ndarray of float64, shape (m,)
        Of a cell that is named twice, the last value counts.
    one_row_a_step : bool
        The rows are steps already: none are put together.

    Returns
    -------
    DataFrame
        Index 0..n-1. Rows of one step may have been put together, and keys left out: :func:`left_out` says so.

    Raises
    ------
    UnreadableSource
        The table would be too large.
    """
    if not one_row_a_step and not may_be_dense(n_rows, len(names), len(value)):
        n_rows, row, column, value = _by_step(names, n_rows, row, column, value)
    kept = np.arange(len(names))
    if not may_be_dense(n_rows, len(names), len(value)):
        kept = _often(names, column)
        number = np.full(len(names), -1)
        number[kept] = np.arange(len(kept))
        there = number[column] >= 0
        row, column, value = row[there], number[column[there]], value[there]
        if not may_be_dense(n_rows, len(kept), len(value)):
            raise _refusal(n_rows, len(kept), len(value))
    cells = np.full((len(kept), n_rows), np.nan)
    cells[column, row] = value
    frame = pd.DataFrame(cells.T, columns=[names[i] for i in kept.tolist()], index=pd.RangeIndex(n_rows))
    if len(kept) < len(names):
        frame.attrs[_LEFT_OUT] = len(names) - len(kept)
    return frame


def left_out(frame: pd.DataFrame) -> list[Finding]:
    """A finding about the keys that :func:`table` left out, if any; the frame forgets them."""
    n = frame.attrs.pop(_LEFT_OUT, 0)
    if not n:
        return []
    what = f"{n:,} keys with fewer than {FEWEST_VALUES} values each were left out"
    why = f"a table of all {n + frame.shape[1]:,} keys would take more memory than the log is worth"
    hint = "a number that belongs to the name of a key, such as a sample's, is better logged as a value"
    return [Finding("keys-left-out", "warning", what, why, hint, float(n))]


def _often(names: Sequence[str], column: np.ndarray) -> np.ndarray:
    """Columns with enough values for a law; names of a step always."""
    keep = np.bincount(column, minlength=len(names)) >= FEWEST_VALUES
    for i in np.flatnonzero(~keep)[:MOST_KEYS].tolist():
        keep[i] = is_axis(names[i])
    return np.flatnonzero(keep)


def _by_step(
    names: Sequence[str], n_rows: int, row: np.ndarray, column: np.ndarray, value: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Put neighbouring rows of one step together where no key is in both.

    Rows of the first step stay apart: a validation in front of the first entropy was made before any training. So do
    those of a step that is behind another: each of their keys decides whether the run goes over its steps again.
    """
    epoch = epoch_column(names)
    axes = [i for i, name in enumerate(names) if is_axis(name) or name == epoch]
    if not axes or n_rows < 2:
        return n_rows, row, column, value
    steps = np.full((len(axes), n_rows), np.nan)
    for j, i in enumerate(axes):
        mine = column == i
        steps[j, row[mine]] = value[mine]
    same = (steps[:, 1:] == steps[:, :-1]) | (np.isnan(steps[:, 1:]) & np.isnan(steps[:, :-1]))
    fresh = np.ones(n_rows, dtype=bool)
    fresh[1:] = ~(same.all(axis=0) & ~np.isnan(steps[:, 1:]).all(axis=0))
    fresh |= (steps < np.fmax.accumulate(steps, axis=1)).any(axis=0)
    group = np.cumsum(fresh) - 1
    of_axis = np.isin(column, axes)
    # Two values of one key within a group: it stays as it was.
    cell = group[row[~of_axis]] * len(names) + column[~of_axis]
    cells, times = np.unique(cell, return_counts=True)
    apart = np.zeros(group[-1] + 1, dtype=bool)
    apart[cells[times > 1] // len(names)] = True
    apart[0] = True
    number = np.cumsum(fresh | apart[group]) - 1
    return int(number[-1]) + 1, number[row], column, value


def _refusal(n_rows: int, n_keys: int, n_values: int) -> Exception:
    return too_large(
        f"{n_keys:,} keys in {n_rows:,} rows make too large a table",
        f"it would hold {n_rows * n_keys:,} cells for {n_values:,} values",
        "log one row a step and few keys, or read a part of the file",
    )
