"""The history records of a W&B file, decoded side by side into columns of numbers.

A history record is a list of items, each a key (one string, or the path of a nested key) and a value as JSON
text. Nearly all items have the same layout and a plain number inside: those are found with array operations,
their keys told apart as raw bytes (each spelling is decoded once) and their numbers parsed by Arrow, whose
parser is correctly rounded like Python's. Whatever has another layout goes through the item-by-item path at
the end; both give the same numbers.

The training step of such rows is named by the run's own metric definitions, else by a key, else it is ``_step``.
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from entlaw.runs import sparse
from entlaw.runs.axes import names_step
from entlaw.runs.parsing import protobuf_wire as wire
from entlaw.runs.spellings import is_entropy
from entlaw.runs.table import flatten, parse_number

# HistoryItem fields.
_KEY, _NESTED_KEY, _NONE, _BOOLEAN, _INTEGER, _NUMBER, _TEXT, _JSON, _VALUE_JSON = 1, 2, 3, 4, 5, 6, 7, 8, 16
_TAG_KEYS = (0x0A, 0x12)  # tags of key and nested_key
_TAG_VALUE_JSON = (0x82, 0x01)  # tag of value_json, two bytes
_TAG_INTEGER, _TAG_NUMBER = 0x28, 0x31
_MAX_DEPTH = 8  # parts of a nested key on the fast path

_PATTERN = re.compile(r"[*?\[]")
_MOST_PATTERNS = 64
_LITERALS = {
    b"null": math.nan,
    b"NaN": math.nan,
    b"Infinity": math.inf,
    b"-Infinity": -math.inf,
    b"true": 1.0,
    b"false": 0.0,
}


class HistoryColumns:
    """Collects (row, key, number) of batch after batch; ``frame`` puts them side by side.

    Attributes
    ----------
    n_rows : int
        History records that hold at least one number.
    n_bad : int
        Items or records with a sound checksum that could not be decoded.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.n_rows = self.n_bad = 0

    def add(self, buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> None:
        """Decode the history records that lie at ``lo:hi`` of a padded buffer, in order."""
        layer = wire.walk(buf, lo, hi)
        self.n_bad += int(layer.bad.sum())
        items = layer.pick(1)
        record, start, end = layer.message[items], layer.lo[items], layer.hi[items]
        row, column, value = self._items(buf, record, start, end)
        row, column, value = self._own_step(buf, layer, row, column, value)
        used = np.zeros(len(lo), dtype=bool)
        used[row] = True
        number = np.cumsum(used) - 1 + self.n_rows
        self._parts.append((number[row], column, value))
        self.n_rows += int(used.sum())

    def frame(self) -> pd.DataFrame:
        """The records as float64 columns in order of first appearance, index 0..n-1.

        Raises
        ------
        UnreadableSource
            Far more cells than values (:mod:`entlaw.runs.sparse`).
        """
        if not self._parts:
            return pd.DataFrame(index=pd.RangeIndex(0))
        row, column, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return sparse.table(list(self._names), self.n_rows, row, column, value)

    def _column(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _items(
        self, buf: np.ndarray, record: np.ndarray, start: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, column and value of each number, in the order of the file."""
        key_end = _key_end(buf, start, end)
        value_lo, is_text = _value_json(buf, key_end, end)
        number = np.full(len(start), np.nan)
        done = _typed(buf, key_end, end, number)
        done |= _json_numbers(buf, value_lo, end, is_text, number)
        done &= key_end > start
        fast = np.flatnonzero(done)
        column = np.full(len(start), -1, dtype=np.int64)
        column[fast] = self._keys(buf, start[fast], key_end[fast])
        slow = np.flatnonzero(~done)
        more: list[tuple[int, int, float]] = []
        for i in slow.tolist():
            for name, value in self._slow(buf[start[i] : end[i]].tobytes()):
                more.append((i, self._column(name), value))
        at = fast
        if more:
            # Back into file order, so that the last of two equal keys wins on both paths.
            extra = np.array([m[0] for m in more], dtype=np.int64)
            columns = np.concatenate([column[fast], np.array([m[1] for m in more], dtype=np.int64)])
            values = np.concatenate([number[fast], np.array([m[2] for m in more])])
            at = np.concatenate([fast, extra])
            order = np.argsort(at, kind="stable")
            return record[at[order]], columns[order], values[order]
        return record[at], column[at], number[at]

    def _keys(self, buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """Column of each key, distinguished by the raw bytes of the key fields."""
        if len(lo) == 0:
            return np.empty(0, dtype=np.int64)
        coded = pc.dictionary_encode(wire.slices(buf, lo, hi))
        columns = [self._column(_key_name(wire.fields(raw))) for raw in coded.dictionary.to_pylist()]
        return np.array(columns, dtype=np.int64)[coded.indices.to_numpy(zero_copy_only=False)]

    def _slow(self, item: bytes) -> Iterator[tuple[str, float]]:
        """Numbers of one item of any layout: strings, nested JSON, typed values."""
        try:
            parts = list(wire.fields(item))
            name = _key_name(iter(parts))
            value = _value(parts)
            if not name:
                raise wire.ProtobufError("an item without a key")
            # A mapping with a _type is a table, image or histogram: its numbers are not metrics.
            media = isinstance(value, dict) and "_type" in value
            pairs = [] if media else list(flatten({name: value}))
        except (ValueError, RecursionError):  # ProtobufError, bad JSON, an integer of too many digits
            self.n_bad += 1
            return
        for key, leaf in pairs:
            number = parse_number(leaf)
            if number is not None:
                yield key, number

    def _own_step(
        self, buf: np.ndarray, layer: wire.Fields, row: np.ndarray, column: np.ndarray, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take ``_step`` from the record's step field where no item carries it."""
        steps = layer.pick(2)
        has = np.zeros(len(layer.bad), dtype=bool)
        has[row[column == self._names.get("_step", -1)]] = True
        has_numbers = np.zeros(len(layer.bad), dtype=bool)
        has_numbers[row] = True
        missing = steps[~has[layer.message[steps]] & has_numbers[layer.message[steps]]]
        if len(missing) == 0:
            return row, column, value
        inner = wire.walk(buf, layer.lo[missing], layer.hi[missing])
        step = np.zeros(len(missing))
        num = inner.pick(1, wire=0)
        step[inner.message[num]] = wire.read_varints(buf, inner.lo[num])[0]
        at = layer.message[missing]
        columns = np.full(len(at), self._column("_step"), dtype=np.int64)
        return np.concatenate([row, at]), np.concatenate([column, columns]), np.concatenate([value, step])


def _key_end(buf: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Where the key fields at the beginning of each item end (``start`` where there are none)."""
    at = start.copy()
    live = np.arange(len(start))
    for _ in range(_MAX_DEPTH):
        here = at[live]
        tag, size = buf[here], buf[np.minimum(here + 1, len(buf) - 1)]
        after = here + 2 + size
        goes_on = ((tag == _TAG_KEYS[0]) | (tag == _TAG_KEYS[1])) & (size < 0x80) & (after <= end[live])
        live = live[goes_on]
        at[live] = after[goes_on]
        if len(live) == 0:
            break
    return at


def _value_json(buf: np.ndarray, at: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the JSON text begins, and whether the rest of the item is exactly that text."""
    is_text = (at + 3 <= end) & (buf[at] == _TAG_VALUE_JSON[0]) & (buf[at + 1] == _TAG_VALUE_JSON[1])
    size, lo = wire.read_varints(buf, at + 2)
    return lo, is_text & (lo > 0) & (lo + size == end)


def _typed(buf: np.ndarray, at: np.ndarray, end: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Fill in the values that newer writers store as a double or a zigzag integer."""
    tag = buf[at]
    double = np.flatnonzero((tag == _TAG_NUMBER) & (at + 9 == end))
    number[double] = wire.gather(buf, at[double] + 1, "<f8")
    integer = np.flatnonzero((tag == _TAG_INTEGER) & (at + 1 < end))
    raw, stop = wire.read_varints(buf, at[integer] + 1)
    whole = stop == end[integer]
    integer, raw = integer[whole], raw[whole]
    number[integer] = ((raw.view(np.uint64) >> np.uint64(1)).view(np.int64) ^ -(raw & 1)).astype(float)
    done = np.zeros(len(at), dtype=bool)
    done[double] = done[integer] = True
    return done


def _json_numbers(
    buf: np.ndarray, lo: np.ndarray, hi: np.ndarray, is_text: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """Fill in the values whose JSON text is a number, null, a bool, NaN or Infinity, or a list (dropped)."""
    done = np.zeros(len(lo), dtype=bool)
    first, second = buf[lo * is_text], buf[np.minimum(lo + 1, hi) * is_text]
    digit = _is_digit(first) | ((first == ord("-")) & _is_digit(second))
    plain = np.flatnonzero(is_text & digit & (lo < hi) & _is_digit(buf[np.maximum(hi - 1, 0)]))
    if len(plain):
        try:
            text = wire.slices(buf, lo[plain], hi[plain]).cast(pa.string())
            number[plain] = pc.cast(text, pa.float64()).to_numpy()
            done[plain] = True
        except pa.ArrowInvalid:
            pass  # something looks like a number and is not, or overflows: the slow path knows
    words = np.flatnonzero(is_text & ~digit & (hi - lo <= 9) & (lo < hi) & (first != ord('"')))
    for i in words.tolist():
        value = _LITERALS.get(buf[lo[i] : hi[i]].tobytes())
        if value is not None:
            number[i], done[i] = value, True
    return done


def _is_digit(byte: np.ndarray) -> np.ndarray:
    return (byte - np.uint8(ord("0"))) < 10  # wraps around below "0"


def _key_name(parts: Iterator[tuple[int, int, int | bytes]]) -> str:
    """The key of an item: the path in ``nested_key`` joined by ``.``, else ``key``."""
    key, nested = "", []
    for number, kind, value in parts:
        if kind == 2 and isinstance(value, bytes):
            if number == _NESTED_KEY:
                nested.append(value.decode("utf-8", errors="replace"))
            elif number == _KEY:
                key = value.decode("utf-8", errors="replace")
    return ".".join(nested) if nested else key


def _value(parts: list[tuple[int, int, int | bytes]]) -> Any:
    """The value of an item as Python data; an item without a value reads as None."""
    value: Any = None
    for number, kind, raw in parts:
        if kind == 2 and isinstance(raw, bytes):
            if number in (_VALUE_JSON, _JSON):
                value = json.loads(raw) if raw[:1] != b"[" else []  # lists are never metrics
            elif number == _TEXT:
                value = raw.decode("utf-8", errors="replace")
        elif kind == 0 and isinstance(raw, int):
            if number == _BOOLEAN:
                value = bool(raw)
            elif number == _INTEGER:
                value = wire.zigzag(raw)
            elif number == _NONE:
                value = None
        elif kind == 1 and number == _NUMBER and isinstance(raw, bytes):
            value = struct.unpack("<d", raw)[0]
    return value


def resolve_steps(keys: Iterable[str], definitions: Mapping[str, str]) -> dict[str, str]:
    """Step metric of each key that has one; an exact definition beats a glob, a longer glob a shorter one."""
    globs = sorted((d for d in definitions if "*" in d), key=len, reverse=True)
    # The client allows a star at the end only. Those are looked up; of others, which each key is compared with, the
    # first are enough.
    starred = {g[:-1]: g for g in reversed(globs) if g.endswith("*") and not _PATTERN.search(g[:-1])}
    lengths = sorted({len(beginning) for beginning in starred}, reverse=True)
    others = [g for g in globs if g[:-1] not in starred][:_MOST_PATTERNS]
    out = {}
    for key in keys:
        if key in definitions:
            out[key] = definitions[key]
        elif not key.startswith("_"):  # globs do not reach W&B's own keys
            found = [g for g in others if fnmatch.fnmatchcase(key, g)][:1]
            found += [starred[key[:n]] for n in lengths if key[:n] in starred][:1]
            match = max(found, key=len, default=None)
            if match is not None and definitions[match] != key:
                out[key] = definitions[match]
    return out


def with_step(rows: pd.DataFrame, step_metric: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """Add the column ``step`` and say where it is from.

    In order: what all metrics were defined against; a column that is named like a training step, or W&B's own
    counter of ``log`` calls (left for the assembly, which knows those names). An axis of the run's own that the
    entropy was defined against comes before the counter of calls.
    """
    columns = [str(c) for c in rows.columns]
    axes = set(step_metric.values())
    metrics = [c for c in columns if not c.startswith("_") and c not in axes]
    shared = {step_metric.get(c) for c in metrics}
    axis = shared.pop() if len(shared) == 1 else None
    if axis is not None and axis in columns:
        return (rows if axis == "step" else rows.assign(step=rows[axis])), f"{axis} (define_metric)"
    named = next((c for c in columns if names_step(c)), None)
    if named is not None:
        return rows, f"{named} (its name)"
    own = next((step_metric[c] for c in metrics if c in step_metric and is_entropy(c)), None)
    if own is not None and own in columns:
        return rows.assign(step=rows[own]), f"{own} (define_metric, of the entropy)"
    if "_step" in columns:
        return rows, "_step (W&B's counter of log calls)"
    return rows, "none"
