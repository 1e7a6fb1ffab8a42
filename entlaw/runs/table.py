"""From logged values to a float64 frame: number spelling, nested keys, and a builder that stays small."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

# Values as logs spell them: 0.5, np.float64(0.5), tensor(0.5, device='cuda:0'), array(0.5), Infinity.
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
_WRAPPED = re.compile(
    rf"(?:(?:np|numpy|torch|jnp)\.)?(?:tensor|array|float\d*|int\d*|Tensor|bfloat16)\(\s*({_NUMBER})\s*[,)]",
    re.IGNORECASE,
)
_PLAIN = re.compile(_NUMBER, re.IGNORECASE)


def parse_number(value: Any) -> float | None:
    """Read one logged value as a float.

    Parameters
    ----------
    value : object
        A number, a bool, None, a string in any spelling that trainers print, or a 0-d array.

    Returns
    -------
    float or None
        NaN for None and ``nan``; None when the value is not a scalar number.
    """
    if value is None:
        return math.nan
    if isinstance(value, float):
        return value
    if isinstance(value, int):  # bool included: True is 1.0
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        text = value.strip().replace("_", "x")  # float() accepts 1_0; no logger means ten by that
        if _PLAIN.fullmatch(text):
            return float(text)
        wrapped = _WRAPPED.match(text)
        return float(wrapped.group(1)) if wrapped else None
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    return None


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a nested mapping, nested keys joined by ``.`` as W&B joins them."""
    for key, value in record.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, name)
        else:
            yield name, value


class RowBuilder:
    """Collects records into a float64 frame, holding numbers only (16 bytes a value).

    A sparse key costs nothing in the rows that lack it, so a log of gigabytes with few numbers fits.
    """

    def __init__(self) -> None:
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        self.n_rows = 0

    def add(self, record: Mapping[str, Any]) -> bool:
        """Append one record; nested mappings are flattened, non-numbers dropped.

        Returns
        -------
        bool
            Whether the record held at least one number (otherwise no row is added).
        """
        row, any_number = self.n_rows, False
        for key, value in flatten(record):
            number = parse_number(value)
            if number is None:
                continue
            column = self._columns.get(key)
            if column is None:
                column = self._columns[key] = (array("q"), array("d"))
            if column[0] and column[0][-1] == row:  # a key twice in one record: the last one counts
                column[1][-1] = number
            else:
                column[0].append(row)
                column[1].append(number)
            any_number = True
        self.n_rows += any_number
        return any_number

    def frame(self) -> pd.DataFrame:
        """The records as float64 columns in order of first appearance, index 0..n-1."""
        data = {}
        for key, (rows, values) in self._columns.items():
            column = np.full(self.n_rows, np.nan)
            column[np.frombuffer(rows, dtype=np.int64)] = np.frombuffer(values, dtype=np.float64)
            data[key] = column
        return pd.DataFrame(data, index=pd.RangeIndex(self.n_rows))
