"""Records that are made of two: one process wrote into the line of another, or after a crash into its own.

The numbers of such a record look right and belong to another step. It shows in its keys: all records of a run have
most keys in common, in one order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile

import numpy as np
import pandas as pd

from entlaw.findings import Finding

_COMMON = 0.8
_FEWEST = 6  # records that it takes to know what is common
_MOST_SHAPES = 256  # a run has few
_OVERLAP = 3  # letters that each part of a key made of two must have


class Shapes:
    """The keys of records in their order, and which records have which."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], array[int]] = {}

    def add(self, keys: tuple[str, ...], row: int) -> None:
        """Take the keys of one record."""
        found = self._rows.get(keys)
        if found is None and len(self._rows) < _MOST_SHAPES:
            found = self._rows[keys] = array("q")
        if found is not None:
            found.append(row)

    def cut_short(self) -> list[tuple[int, str]]:
        """Row and last key of the records that stop before others of their kind do.

        Such a record was cut, by a crash say, and its last number may be half of one. It is one of few, whose keys
        are the first ones of records that are many.
        """
        found = []
        many = [k for k, rows in self._rows.items() if len(rows) >= _FEWEST]
        for keys, rows in self._rows.items():
            longer = (len(self._rows[k]) for k in many if len(k) > len(keys) and k[: len(keys)] == keys)
            if len(rows) * _FEWEST <= max(longer, default=0):
                found += [(row, keys[-1]) for row in rows]
        return found


def broken_records(n: int) -> Finding:
    """What to say of records that were not used."""
    return Finding(
        "records-broken",
        "warning",
        f"records that are not whole and were not used, or only as far as they are: {n}",
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
        A record is not whole if it lacks a key that nearly all others have, and holds one that no other has: the
        beginning of one key and the end of another, or the key it lacks with something in between. Nor is it if it
        alone lacks common keys between others that it has, and the steps around it go back; or if another record
        begins inside one of its keys, or its second step differs from the first one.
    """
    whole = np.ones(len(rows), dtype=bool)
    columns = [c for c in rows.columns if c != "step"]
    has = rows[columns].notna().to_numpy()
    counts = has.sum(axis=0)
    common = _find_common(counts)
    if len(rows) < _FEWEST or common.sum() < 2:
        return whole
    partial = has[:, common].any(axis=1) & ~has[:, common].all(axis=1)
    known = _Known(c for c, n in zip(columns, counts, strict=True) if n > 1)
    step = rows["step"].to_numpy(float) if "step" in rows else np.arange(float(len(rows)))
    patterns = Counter(row.tobytes() for row in has[:, common])
    for j, column in enumerate(columns):
        if column.endswith("global_step") and "step" in rows:
            same = rows[column].to_numpy(float) == step
            if same.sum() >= _COMMON * counts[j]:
                whole &= same | ~has[:, j]  # of two steps in one record, one is another record's
    for at in np.flatnonzero((counts == 1) & [c.endswith("step") for c in columns]):
        begun = columns[at].removesuffix("step")
        if begun[-1:].isalpha() and known.begins_one(begun):
            whole[has[:, at]] = False
    for i in np.flatnonzero(partial & whole):
        alone = [columns[j] for j in np.flatnonzero(has[i] & (counts == 1))]
        missing = [columns[j] for j in np.flatnonzero(~has[i] & common)]
        written_over = (_is_written_into(key, other) for key in alone for other in missing)
        gap = (
            patterns[has[i, common].tobytes()] == 1 and _has_gap(has[i, common]) and _goes_back(step, int(i))
        )
        whole[i] = not (gap or any(written_over) or any(map(known.made_of_two, alone)))
    return whole


def have_common(rows: pd.DataFrame) -> np.ndarray:
    """Which records have all keys that nearly all have, the step aside: bool, shape (n,)."""
    has = rows.drop(columns="step", errors="ignore").notna().to_numpy()
    common = _find_common(has.sum(axis=0))
    return has[:, common].all(axis=1) & (common.sum() > 1) & (len(rows) >= _FEWEST)


def _find_common(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts >= _COMMON * max(counts.max(initial=0), 1))


class _Known:
    """The keys of a run, in order from either end: what begins, or ends, like a key stands beside it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = sorted(keys)
        self._turned = sorted(key[::-1] for key in self._keys)
        self._longest = max(map(len, self._keys), default=0)

    def begins_one(self, text: str) -> bool:
        """Whether one of them begins with a text."""
        at = bisect_left(self._keys, text)
        return at < len(self._keys) and self._keys[at].startswith(text)

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
    return sum(1 for _ in takewhile(_are_equal, zip(one, two, strict=False)))


def _is_written_into(key: str, other: str) -> bool:
    before, after = _overlap(key, other)
    return min(before, after) > 0 and before + after >= len(other)


def _overlap(key: str, other: str) -> tuple[int, int]:
    """How many letters two keys have in common at their beginning and at their end."""
    return _common(key, other), _common(key[::-1], other[::-1])


def _are_equal(letters: tuple[str, str]) -> bool:
    """Whether two letters are the same."""
    return letters[0] == letters[1]


def _has_gap(has: np.ndarray) -> bool:
    """Whether a common key is missing between two that are there."""
    there = np.flatnonzero(has)
    return bool(len(there) > 1 and not has[there[0] : there[-1] + 1].all())


def _goes_back(step: np.ndarray, i: int) -> bool:
    around = step[max(i - 1, 0) : i + 2]
    return bool((np.diff(around) <= 0).any())
