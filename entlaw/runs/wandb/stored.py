"""A pulled run as a Parquet file that says all about itself, and its rows as they grow from pull to pull.

The rows are float64 columns as fetched; the key-value metadata hold what the server said (``entlaw.run``, JSON) and
a checksum over both (``entlaw.sha256``), so the file alone is enough to read the run offline.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entlaw.errors import UnreadableSource

SCHEMA = "entlaw.pull/1"
_SCHEMA_KEY, _RUN_KEY, _CHECK_KEY = b"entlaw.schema", b"entlaw.run", b"entlaw.sha256"


@dataclass(frozen=True)
class Identity:
    """What makes a run on a server one and the same, whatever it is called today.

    Attributes
    ----------
    host : str
        Base URL of the server.
    entity, project, run_id : str
    """

    host: str
    entity: str
    project: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.run_id}"


@dataclass(frozen=True)
class CachedRun:
    """One run as it is stored in the cache.

    Attributes
    ----------
    identity : Identity
    name : str
        As shown on the server; two runs may share it.
    rows : pandas.DataFrame
        As fetched: one row per ``log`` call in logged order, float64 columns, index 0..n-1.
    about : mapping
        What else the server and the fetch said, as JSON can hold it: see :mod:`entlaw.runs.wandb.pull`.
    """

    identity: Identity
    name: str
    rows: pd.DataFrame
    about: Mapping[str, Any]


def encode(entry: CachedRun) -> bytes:
    """The Parquet file of an entry: zstd, missing values as nulls, a checksum over all that is read back."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"identity": entry.identity.__dict__, "name": entry.name, "rows": len(entry.rows), **entry.about}
    text = json.dumps(about).encode()
    # Half a surrogate pair, which JSON can spell, is no text that Parquet could hold.
    columns = {
        str(key).encode(errors="replace").decode(): entry.rows[key].to_numpy(dtype=np.float64)
        for key in entry.rows.columns
    }
    table = pa.table({key: pa.array(values, from_pandas=True) for key, values in columns.items()})
    table = table.replace_schema_metadata(
        {_SCHEMA_KEY: SCHEMA.encode(), _RUN_KEY: text, _CHECK_KEY: _check(text, columns).encode()}
    )
    buffer = io.BytesIO()
    # Floats do not repeat, so a dictionary only costs; split bytes let zstd see the slowly changing ones.
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, use_byte_stream_split=True)
    return buffer.getvalue()


def _check(text: bytes, columns: Mapping[str, np.ndarray]) -> str:
    """Checksum of what a reader gets: Parquet's own, of pages, leaves out names and metadata."""
    digest = hashlib.sha256(text)
    for key, values in columns.items():
        digest.update(f"\0{key}\0".encode())
        digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()


def is_pulled(metadata: Mapping[bytes, bytes] | None) -> bool:
    """Whether a Parquet file's key-value metadata are those of a pulled run, of whatever version."""
    return (metadata or {}).get(_SCHEMA_KEY, b"").startswith(b"entlaw.pull/")


def decode(source: Path | io.BytesIO, where: str) -> CachedRun:
    """Read a Parquet file of :func:`encode`.

    Parameters
    ----------
    source : pathlib.Path or io.BytesIO
    where : str
        Its path, for messages.

    Raises
    ------
    UnreadableSource
        Damaged, not a pulled run, or written by a later version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            metadata = file.metadata.metadata or {}
            if not is_pulled(metadata):
                raise UnreadableSource(
                    "not a run pulled by entlaw", where=where, hint="it may still be read as a table"
                )
            if metadata[_SCHEMA_KEY] != SCHEMA.encode():
                raise UnreadableSource(
                    f"written as {metadata[_SCHEMA_KEY].decode(errors='replace')}, known is {SCHEMA}",
                    where=where,
                    hint="update entlaw, or pull the run again into another folder",
                )
            table = file.read()
            data = {name: table.column(i).to_numpy() for i, name in enumerate(table.column_names)}
            if metadata.get(_CHECK_KEY) != _check(metadata[_RUN_KEY], data).encode():
                raise ValueError("the checksum of its contents is not the one written with them")
            about = json.loads(metadata[_RUN_KEY])
            rows = pd.DataFrame(data, index=pd.RangeIndex(int(about.pop("rows"))), dtype=np.float64)
            return CachedRun(Identity(**about.pop("identity")), str(about.pop("name")), rows, about)
    except UnreadableSource:
        raise
    # pyarrow raises its own errors and, on damaged pages and footers, plain OSError, ValueError or KeyError.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise UnreadableSource(
            "damaged file of a pulled run",
            where=where,
            why=f"{type(error).__name__}: {error}"[:300],
            hint="`entlaw pull` it again; a damaged file is noticed and replaced",
        ) from error


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
