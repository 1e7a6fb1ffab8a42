"""Records that are made of two: one process wrote into the line of another, or after a crash into its own.

The numbers of such a record look right and belong to another step. It shows in its keys: all records of a run have
most keys in common, in one order.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import pandas as pd

from entlaw.findings import Finding

_COMMON = 0.8
_FEWEST = 6  # records that it takes to know what is common
_OVERLAP = 3  # letters that each part of a key made of two must have


def broken_records(n: int) -> Finding:
    """What to say of records that were not used."""
    return Finding(
        "records-broken",
        "warning",
        f"{n} records are not whole and were not used, or only as far as they are",
        "two processes wrote into one line, or a process was killed while it wrote and another one went on",
        "give each process a log of its own; read what the trainer itself logs if one of these steps matters",
        float(n),
    )


def are_whole(rows: pd.DataFrame) -> np.ndarray:
    """Which records are not made of two.

    Parameters
    ----------
    rows : DataFrame
        Records in logged order, with a column ``step`` or without one.

    Returns
    -------
    ndarray of bool, shape (n,)
        A record is not whole if it lacks a key that nearly all others have, and holds one that no other has and that
        is the beginning of one key and the end of another; or if it lacks common keys between others that it has,
        and the steps around it go back.
    """
    whole = np.ones(len(rows), dtype=bool)
    if len(rows) < _FEWEST:
        return whole
    columns = [c for c in rows.columns if c != "step"]
    has = rows[columns].notna().to_numpy()
    counts = has.sum(axis=0)
    common = counts >= _COMMON * max(counts.max(initial=0), 1)
    if common.sum() < 2:
        return whole
    partial = has[:, common].any(axis=1) & ~has[:, common].all(axis=1)
    known = [c for c, n in zip(columns, counts, strict=True) if n > 1]
    step = rows["step"].to_numpy(float) if "step" in rows else np.zeros(len(rows))
    for i in np.flatnonzero(partial):
        alone = (columns[j] for j in np.flatnonzero(has[i] & (counts == 1)))
        whole[i] = not _is_made_of_two(alone, known) and not (
            _has_gap(has[i, common]) and _goes_back(step, int(i))
        )
    return whole


def _is_made_of_two(keys: Iterable[str], known: list[str]) -> bool:
    for key in keys:
        if any(key.startswith(f"{other}:") for other in known):
            return True
        before = max((len(os.path.commonprefix((key, other))) for other in known), default=0)
        turned = key[::-1]
        after = max((len(os.path.commonprefix((turned, other[::-1]))) for other in known), default=0)
        if min(before, after) >= _OVERLAP and before + after >= len(key):
            return True
    return False


def _has_gap(has: np.ndarray) -> bool:
    """Whether a common key is missing between two that are there."""
    there = np.flatnonzero(has)
    return bool(len(there) > 1 and not has[there[0] : there[-1] + 1].all())


def _goes_back(step: np.ndarray, i: int) -> bool:
    around = step[max(i - 1, 0) : i + 2]
    return bool((np.diff(around) <= 0).any())
