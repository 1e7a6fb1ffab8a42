"""Tables as text: CSV and its kin, W&B's chart exports."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing.columns import wandb_columns
from entlaw.runs.parsing.delimited import Dialect, Rows, is_empty, recognise, split_cells
from entlaw.runs.parsing.numerals import DecimalMark, Numerals
from entlaw.runs.parsing.run_tables import check_history
from entlaw.runs.parsing.table_rows import TableReader
from entlaw.runs.parsing.text import ReadNotes, head_lines, lines, no_records, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions, Source

_FORMS = {"\t": "tsv"}
_LOOK_AT = 200  # rows, for the decimal mark
_FEWEST_LINES = 30


def sniff(head: Head) -> bool | int:
    """Numbers in the rows of the head below a header of names."""
    seen = head_lines(head, None)
    dialect = recognise(seen)
    if dialect is None:
        return False
    rows = Rows(((line, True) for line in seen[dialect.skip + 1 :]), dialect)
    fit = [cells for cells, _ in rows if cells is not None and len(cells) == rows.width]
    numerals = _numerals(seen, dialect)
    return sum(numerals.read(cell) is not None for cells in fit for cell in cells if not is_empty(cell))


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a table, in pieces of bounded size.

    Raises
    ------
    UnreadableSource
        Damaged, a table of runs, or without a column of numbers.
    """
    reader, notes, dialect = _taken(path, None)
    if reader.contradicted:  # the decimal mark is not the one that the first rows show
        reader, notes, dialect = _taken(path, reader.mark)
    for table in reader.tables:
        check_history(table)
    exported = wandb_columns(reader.tables[0].names) is not None
    form = "wandb-export" if exported else _FORMS.get(dialect.delimiter, "csv")
    details = {"bytes": notes.bytes_read, "rows": reader.n_rows, "rows_unread": reader.bad + reader.torn}
    runs = reader.runs(run_name(path), form, details, tuple(notes.findings()))
    if not runs:
        raise no_records(path, "the table holds no row with a number", "point at the table of metrics", notes)
    return runs


def _taken(path: Path, mark: DecimalMark | None) -> tuple[TableReader, ReadNotes, Dialect]:
    """The rows of a table, read with this decimal mark, or the one that its first rows show."""
    notes = ReadNotes()
    stream = _text_lines(path, notes)
    first: list[tuple[str, bool]] = []
    size = 0
    for line in stream:
        first.append(line)
        size += len(line[0]) + 1
        if size > HEAD_BYTES and len(first) > _FEWEST_LINES:
            break
    seen = [text for text, _ in first]
    dialect = recognise(seen)
    if dialect is None:
        raise UnreadableSource(
            "not a table with a header",
            where=str(path),
            why="no header line has as many names as the rows have cells",
            hint="write the column names into the first line",
        )
    numerals = _numerals(seen, dialect) if mark is None else Numerals(mark, proven=True)
    reader = TableReader(path, dialect, numerals)
    reader.read(Rows(itertools.chain(first[dialect.skip + 1 :], stream), dialect))
    return reader, notes, dialect


def _numerals(lines: list[str], dialect: Dialect) -> Numerals:
    below = (split_cells(line, dialect.delimiter) for line in lines[dialect.skip + 1 :][:_LOOK_AT])
    return Numerals.of((cell for cells in below for cell in cells or ()), dialect.delimiter)


def _text_lines(path: Path, notes: ReadNotes) -> Iterator[tuple[str, bool]]:
    for line, closed in lines(path, notes):
        text = line.decode("utf-8", errors="replace")
        if text.strip():
            yield text, closed


SOURCE = Source(
    "table",
    order=60,
    sniff=sniff,
    read=read,
    reference="CSV, TSV and their kin; W&B's chart export",
)
