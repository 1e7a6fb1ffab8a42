"""Parquet tables, batch by batch, and runs pulled from W&B, which say all about themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.bounds import CELLS_A_BYTE, CELLS_A_VALUE, check_table
from entlaw.runs.parsing.columns import ColumnTable, repeated_names
from entlaw.runs.parsing.delimited import unique_names
from entlaw.runs.parsing.text import no_records, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.table import parse_number
from entlaw.runs.wandb.stored import decode, is_pulled

_MAGIC = b"PAR1"
_BATCH_ROWS = 1 << 14


def sniff(head: Head) -> bool:
    """Whether the file begins with the magic number."""
    return head.start.startswith(_MAGIC)


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a Parquet file, batch by batch.

    Raises
    ------
    UnreadableSource
        Damaged, or without a column of numbers.
    """
    import pyarrow.parquet as pq  # takes 0.04 s; pyarrow itself comes with pandas

    table: ColumnTable | None = None
    findings: tuple[Finding, ...] = ()
    try:
        size = path.stat().st_size
        with pq.ParquetFile(path) as file:
            pulled = is_pulled(file.metadata.metadata)
            factor = CELLS_A_VALUE if pulled else CELLS_A_BYTE
            check_table(file.metadata.num_rows, file.metadata.num_columns, size, factor, path)
            if pulled:
                return [_pulled(path)]
            words = [f.name for f in file.schema_arrow if _is_text(f.type)]
        # A text that is in all rows is stored once, and must be held once.
        with pq.ParquetFile(path, read_dictionary=words) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                flat = _flattened(pa.Table.from_batches([batch]))
                if table is None:
                    names, repeated = unique_names([str(n) for n in flat.column_names])
                    table = ColumnTable(path, names)
                    findings = repeated_names(repeated)
                _add(table, flat)
    except UnreadableSource:
        raise
    # pyarrow raises its own errors and, on damaged pages and footers, plain OSError, ValueError or KeyError.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise UnreadableSource(
            "damaged Parquet file",
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:300],
            hint="write or copy the file again",
        ) from error
    runs = [] if table is None else table.runs(run_name(path), SOURCE.name, {"rows": table.n_rows}, findings)
    if not runs:
        raise no_records(path, "the table holds no row with a number", "point at the table of metrics")
    return runs


def _pulled(path: Path) -> RawRun:
    """A run that `entlaw pull` wrote, as the server would give it."""
    from entlaw.runs.wandb.pull import stored_run

    entry = decode(path, str(path))
    try:
        return stored_run(entry)
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableSource(
            "a pulled run whose description is not as entlaw writes it",
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:300],
            hint="pull the run again",
        ) from error


def _flattened(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(f.type) for f in table.schema):
        table = table.flatten()
    return table


def _add(table: ColumnTable, batch: pa.Table) -> None:
    words = [None if _is_number(c.type) else _texts(c) for c in batch.columns]
    numbers = [_numbers(c, w) for c, w in zip(batch.columns, words, strict=True)]
    needed = {i for i in (table.run_at, *(table.long or ())) if i is not None}
    told = {i: words[i] or batch.column(i).to_pylist() for i in needed}
    table.add_rows(numbers, {i: ["" if w is None else w for w in cells] for i, cells in told.items()})


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _texts(column: pa.ChunkedArray) -> list[object]:
    """The texts of a column, equal ones as one object; None for what is no text."""
    if _is_text(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_dictionary(column.type):
        return [None] * len(column)
    out: list[object] = []
    for chunk in column.chunks:
        known = [*chunk.dictionary.to_pylist(), None]
        out += [known[i] for i in chunk.indices.fill_null(len(known) - 1).to_pylist()]
    return out


def _numbers(column: pa.ChunkedArray, words: list[object] | None) -> np.ndarray:
    if words is not None:
        parsed: dict[object, float | None] = {w: parse_number(w) for w in set(words) if isinstance(w, str)}
        return np.array([np.nan if (p := parsed.get(w)) is None else p for w in words], dtype=float)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=float)


SOURCE = Source(
    "parquet",
    order=50,
    sniff=sniff,
    read=read,
    reference="https://parquet.apache.org/docs/file-format; written by `entlaw pull` and from data frames",
)
