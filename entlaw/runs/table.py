"""From logged values to a float64 frame: number spelling, nested keys, and a builder that stays small."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from entlaw.runs.axes import count_of_total
from entlaw.runs.bounds import may_be_dense
from entlaw.wording import printable_names

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


def parse_under(key: str, value: Any) -> float | None:
    """As :func:`parse_number`; under a key that counts steps, ``5/200`` is 5."""
    number = parse_number(value)
    return count_of_total(key, value) if number is None and isinstance(value, str) else number


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a nested mapping, nested keys joined by ``.`` as W&B joins them."""
    for key, value in record.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, name)
        else:
            yield name, value


def count_numbers(record: Mapping[str, Any]) -> int:
    """How many numbers a record holds, at any depth."""
    return sum(parse_number(value) is not None for _, value in flatten(record))


# How logs spell that there is no value.
_MISSING = frozenset({"", "-", "none", "null", "n/a", "na"})
_MOST_EXAMPLES, _EXAMPLE_LENGTH = 1000, 60
_MOST_SHAPES = 256  # records of one run have few key sequences; beyond that, each key is kept apart


class RowBuilder:
    """Collects records into a float64 frame, holding numbers only (8 to 16 bytes a value).

    Records with the same keys in the same order are kept together, so that a row costs one append. A sparse key
    costs nothing in the rows that lack it, so a log of gigabytes with few numbers fits.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], tuple[array[int], array[float]]] = {}
        self._columns: dict[str, tuple[array[int], array[float]]] = {}
        self._order: dict[str, None] = {}
        self._words: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.n_rows = self.n_values = 0

    def add(self, record: Mapping[str, Any]) -> bool:
        """Append one record; nested mappings are flattened, non-numbers dropped.

        Returns
        -------
        bool
            Whether the record held at least one number (otherwise no row is added).
        """
        keys: list[str] = []
        values: list[float] = []
        for key, value in record.items():
            kind = type(value)
            if kind is float:
                keys.append(key)
                values.append(value)
            elif kind is not str and isinstance(value, Mapping):
                for inner, deep in flatten(value, str(key)):
                    number = parse_under(inner, deep)
                    if number is not None:
                        keys.append(inner)
                        values.append(number)
                    else:
                        self.note_unread(inner, deep)
            else:
                number = parse_under(str(key), value)
                if number is not None:
                    keys.append(str(key))
                    values.append(number)
                else:
                    self._words[str(key)] += kind is str and value.strip().lower() not in _MISSING
                    self.note_unread(str(key), value)
        return self.add_numbers(tuple(keys), values)

    def note_unread(self, key: str, value: Any) -> None:
        """Remember one value that is no number, to show what is logged under a key that holds none."""
        if key in self._examples or len(self._examples) >= _MOST_EXAMPLES:
            return
        if isinstance(value, str) and value.strip().lower() not in _MISSING:
            self._examples[key] = repr(value[:_EXAMPLE_LENGTH])
        elif isinstance(value, list | tuple) and value:
            self._examples[key] = repr(list(value[:4]))[:_EXAMPLE_LENGTH]

    def add_numbers(self, keys: tuple[str, ...], values: Sequence[float]) -> bool:
        """Append one record of numbers; of a key that is there twice, the last one counts.

        Returns
        -------
        bool
            Whether there was a number.
        """
        if not keys:
            return False
        shape = self._shapes.get(keys)
        if shape is None:
            self._order.update(dict.fromkeys(keys))
            if len(self._shapes) < _MOST_SHAPES:
                shape = self._shapes[keys] = (array("q"), array("d"))
        if shape is not None:
            shape[0].append(self.n_rows)
            shape[1].extend(values)
        else:
            for key, value in dict(zip(keys, values, strict=True)).items():
                column = self._columns.setdefault(key, (array("q"), array("d")))
                column[0].append(self.n_rows)
                column[1].append(value)
        self.n_rows += 1
        self.n_values += len(keys)
        return True

    def unread(self) -> dict[str, int]:
        """Values that are words under keys that mostly hold numbers, counted by key."""
        if not any(key in self._order for key in self._words):
            return {}
        numbers: Counter[str] = Counter()
        for keys, (rows, values) in self._shapes.items():
            table = np.frombuffer(values).reshape(len(rows), len(keys))
            for j, key in enumerate(keys):
                if key in self._words:
                    numbers[key] += int(np.count_nonzero(~np.isnan(table[:, j])))
        for key in self._words.keys() & self._columns.keys():
            numbers[key] += int(np.count_nonzero(~np.isnan(np.frombuffer(self._columns[key][1]))))
        return {k: n for k, n in self._words.items() if n < numbers[k]}

    def frame(self) -> pd.DataFrame:
        """The records as float64 columns in order of first appearance, index 0..n-1.

        ``attrs["unread"]`` holds a value of each key under which there was no number, ``attrs["nan"]`` how often NaN or
        null was logged under a key: a key that is missing from a record is NaN in the frame too.

        Raises
        ------
        UnreadableSource
            Far more cells than values (:mod:`entlaw.runs.sparse`).
        """
        if not may_be_dense(self.n_rows, len(self._order), self.n_values):
            from entlaw.runs import sparse

            return sparse.table(printable_names(self._order), self.n_rows, *self._triples())
        nan: Counter[str] = Counter()
        data = {key: np.full(self.n_rows, np.nan) for key in self._order}
        for keys, (rows, values) in self._shapes.items():
            where = np.frombuffer(rows, dtype=np.int64)
            table = np.frombuffer(values, dtype=np.float64).reshape(len(where), len(keys))
            for j, key in enumerate(keys):
                data[key][where] = table[:, j]
            nan.update({keys[j]: int(n) for j, n in enumerate(np.isnan(table).sum(axis=0)) if n})
        for key, (rows, values) in self._columns.items():
            data[key][np.frombuffer(rows, dtype=np.int64)] = np.frombuffer(values, dtype=np.float64)
        # JSON may escape half a character, which no column name can be.
        named = dict(zip(printable_names(data), data.values(), strict=True))
        frame = pd.DataFrame(named, index=pd.RangeIndex(self.n_rows))
        frame.attrs["nan"] = dict(nan)
        frame.attrs["unread"] = {k: v for k, v in self._examples.items() if k not in data}
        return frame

    def _triples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, column and value of each number; of a key that is twice in a record, the last one comes last."""
        number = {key: i for i, key in enumerate(self._order)}
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for keys, (rows, values) in self._shapes.items():
            columns = np.array([number[key] for key in keys], dtype=np.int64)
            where = np.frombuffer(rows, dtype=np.int64)
            parts.append((np.repeat(where, len(keys)), np.tile(columns, len(where)), np.frombuffer(values)))
        for key, (rows, values) in self._columns.items():
            parts.append(
                (np.frombuffer(rows, dtype=np.int64), np.full(len(rows), number[key]), np.frombuffer(values))
            )
        row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return row, column, value
