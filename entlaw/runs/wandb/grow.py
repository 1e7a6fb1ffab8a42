"""Rows pulled before and rows pulled now, as one pull would have given them."""

from __future__ import annotations

import numpy as np
import pandas as pd

STEP = "_step"  # W&B's counter of log calls; one row each, increasing


def last_step(rows: pd.DataFrame) -> int | None:
    """The highest ``_step`` of some rows; None without rows."""
    if STEP not in rows.columns or not rows[STEP].notna().any():
        return None
    return int(rows[STEP].max())


def grown(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame | None:
    """Put rows that begin with the last known one behind those known.

    The last known row is fetched again for two reasons: it may have been written only in part, and it tells
    whether the history behind it is still the same. A run that was rewound, or deleted and logged anew, has
    another row there, or none.

    Parameters
    ----------
    old : pandas.DataFrame
        Rows known, at least one, with ``_step``.
    new : pandas.DataFrame
        Rows of the server from the last known ``_step`` on, that one included.

    Returns
    -------
    pandas.DataFrame or None
        None when the two do not belong to one history: then all has to be fetched anew.
    """
    last = last_step(old)
    if last is None or last_step(new) is None:
        return None
    tail, again = old[old[STEP] == last], new[new[STEP] == last]
    if len(tail) != 1 or len(again) != 1 or float(new[STEP].min()) < last:
        return None
    known = tail.iloc[0].dropna()
    if not set(known.index) <= set(new.columns) or not known.equals(again.iloc[0][known.index]):
        return None
    return ordered(pd.concat([old[old[STEP] < last], new], ignore_index=True))


def joined(known: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Add columns fetched later to the rows that are there; rows that only they have are put in their place."""
    both = known.set_index(STEP).combine_first(more.set_index(STEP)).sort_index().reset_index()
    return ordered(both)


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns in the order in which they first have a value, ``_step`` first, those of one row by name.

    Servers send the keys of a row in any order, and a run pulled in parts must give what one pull gives.
    """
    never = np.ones(rows.shape[1], dtype=bool)  # a column without a value comes behind the last row
    filled = np.vstack([rows.notna().to_numpy(), never])
    first = filled.argmax(axis=0)
    rank = sorted(zip(first.tolist(), map(str, rows.columns), strict=True), key=lambda r: (r[1] != STEP, *r))
    return rows[[name for _, name in rank]].reset_index(drop=True).astype(np.float64)
