"""Records that are made of two: one process wrote into the line of another, or after a crash into its own.

The numbers of such a record look right and belong to another step. It shows in its keys: all records of a run have
most keys in common, in one order.
"""

from __future__ import annotations

from bisect import bisect_left
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
    known = _Known(c for c, n in zip(columns, counts, strict=True) if n > 1)
    step = rows["step"].to_numpy(float) if "step" in rows else np.zeros(len(rows))
    for i in np.flatnonzero(partial):
        alone = (columns[j] for j in np.flatnonzero(has[i] & (counts == 1)))
        whole[i] = not any(known.made_of_two(key) for key in alone) and not (
            _has_gap(has[i, common]) and _goes_back(step, int(i))
        )
    return whole


class _Known:
    """The keys of a run, in order from either end: what begins, or ends, like a key stands beside it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = sorted(keys)
        self._turned = sorted(key[::-1] for key in self._keys)
        self._longest = max(map(len, self._keys), default=0)

    def made_of_two(self, key: str) -> bool:
        """Whether a key is the beginning of one of them and the end of another."""
        if any(
            sign == ":" and _stands(key[:i], self._keys) for i, sign in enumerate(key[: self._longest + 1])
        ):
            return True
        before, after = _in_common(key, self._keys), _in_common(key[::-1], self._turned)
        return min(before, after) >= _OVERLAP and before + after >= len(key)


def _stands(key: str, ordered: list[str]) -> bool:
    at = bisect_left(ordered, key)
    return at < len(ordered) and ordered[at] == key


def _in_common(key: str, ordered: list[str]) -> int:
    """Letters that a key has in common with the one that begins most like it."""
    at = bisect_left(ordered, key)
    return max((_common(key, other) for other in ordered[max(at - 1, 0) : at + 1]), default=0)


def _common(one: str, two: str) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )


def _has_gap(has: np.ndarray) -> bool:
    """Whether a common key is missing between two that are there."""
    there = np.flatnonzero(has)
    return bool(len(there) > 1 and not has[there[0] : there[-1] + 1].all())


def _goes_back(step: np.ndarray, i: int) -> bool:
    around = step[max(i - 1, 0) : i + 2]
    return bool((np.diff(around) <= 0).any())
