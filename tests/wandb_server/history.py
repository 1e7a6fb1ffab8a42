"""Histories as the server gives them: pages, samples, and exports as Parquet files."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MOST_ROWS = (
    10_000  # of any one answer, whatever was asked for; what the real server's limit is we do not know
)
_SPELLED = {math.inf: "Infinity", -math.inf: "-Infinity"}
_NUMBERS = frozenset(("NaN", "Infinity", "-Infinity"))


def plain(value: Any) -> Any:
    """A value as JSON that every reader takes: what JSON cannot say is spelt out, as the server does it."""
    if isinstance(value, float) and not math.isfinite(value):
        return _SPELLED.get(value, "NaN")
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a row, nested ones under names joined by dots; media (``_type``) stay one entry."""
    for key, value in row.items():
        if isinstance(value, Mapping) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def keys_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``historyKeys``: each key with how many values of which type, and the last step.

    A value that is null is no value, as on the server; a NaN is a number.
    """
    counts: dict[str, Counter[str]] = {}
    last = -1
    for row in rows:
        last = max(last, int(row["_step"]))
        for key, value in flat(row):
            if value is not None:
                counts.setdefault(key, Counter())[_type(value)] += 1
    keys = {
        key: {"typeCounts": [{"type": kind, "count": n} for kind, n in kinds.items()]}
        for key, kinds in counts.items()
    }
    return {"keys": keys, "sets": [], "lastStep": last}


def _type(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("_type", "map"))
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)) or value in _NUMBERS:
        return "number"
    return "list" if isinstance(value, (list, tuple)) else "string"


def sampled(rows: Sequence[Any], n: int) -> list[Any]:
    """At most ``n`` of the rows, evenly spread over them, first and last among them: what makes samples unfit."""
    n = min(n, MOST_ROWS)
    if len(rows) <= n:
        return list(rows)
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, n).round().astype(int)).tolist()]


def page(rows: Sequence[Mapping[str, Any]], first: int, end: int, size: int) -> list[str]:
    """Rows of all keys with ``first <= _step < end``, each as JSON; thinned out when there are more than ``size``."""
    found = [row for row in rows if first <= row["_step"] < end]
    return [json.dumps(plain(row)) for row in sampled(found, size)]


def keyed(rows: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows that hold every key of a spec (W&B joins keys by AND), cut to them; both ends of the steps belong to it."""
    first, last = spec.get("minStep", 0), spec.get("maxStep", math.inf)
    out = []
    for row in rows:
        if not first <= row["_step"] <= last:
            continue
        entries = dict(flat(row))
        if all(entries.get(key) is not None for key in spec["keys"]):
            out.append({key: plain(entries[key]) for key in spec["keys"]})
    return sampled(out, int(spec.get("samples") or 500))


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as an export: a column a key, nulls where nothing was logged, and no AND over keys.

    Numbers are doubles (``_step`` an integer); a column that holds anything else is text, numbers in it written as
    JSON. Nested entries are columns under names joined by dots.
    """
    entries = [dict(flat(row)) for row in rows]
    columns = {}
    for key in dict.fromkeys(k for row in entries for k in row):
        values = [row.get(key) for row in entries]
        if all(value is None or isinstance(value, (int, float)) or value in _NUMBERS for value in values):
            kind = pa.int64() if key == "_step" else pa.float64()
            numbers = [None if v is None else int(v) if key == "_step" else float(v) for v in values]
            columns[key] = pa.array(numbers, kind)
        else:
            texts = [v if v is None or isinstance(v, str) else json.dumps(plain(v)) for v in values]
            columns[key] = pa.array(texts, pa.string())
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()
