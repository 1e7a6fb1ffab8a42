"""Tables as text: CSV and its kin, W&B's chart exports."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.axes import count_of_total
from entlaw.runs.parsing.columns import ColumnTable, repeated_names, wandb_columns
from entlaw.runs.parsing.delimited import Dialect, is_empty, recognise, rows, to_number, unique_names
from entlaw.runs.parsing.text import ReadNotes, head_lines, lines, no_records, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source, cut_line, unread

_LOOK_AT = 30


def sniff(head: Head) -> bool | int:
    """Numbers in the rows of the head below a header of names."""
    seen = head_lines(head, None)
    dialect = recognise(seen[:_LOOK_AT])
    if dialect is None:
        return False
    found = rows(((line, True) for line in seen[dialect.skip + 1 :]), dialect)
    cells = (cell for row, _ in found if row is not None for cell in row if not is_empty(cell))
    return sum(to_number(cell, dialect) is not None for cell in cells)


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a table, in pieces of bounded size.

    Raises
    ------
    UnreadableSource
        Damaged, or without a column of numbers.
    """
    notes = ReadNotes()
    stream = _text_lines(path, notes)
    first = list(itertools.islice(stream, _LOOK_AT))
    dialect = recognise([text for text, _ in first])
    if dialect is None:
        raise UnreadableSource(
            "not a table with a header",
            where=str(path),
            why="no header line has as many names as the rows have cells",
            hint="write the column names into the first line",
        )
    names, repeated = unique_names(dialect.names)
    table = ColumnTable(path, names)
    reader = _RowReader(dialect, table)
    for cells, closed in rows(itertools.chain(first[dialect.skip + 1 :], stream), dialect):
        reader.take(cells, closed)
    exported = wandb_columns(names) is not None
    form = "wandb-export" if exported else {"\t": "tsv", ",": "csv"}.get(dialect.delimiter, "csv")
    details = {"bytes": notes.bytes_read, "rows": table.n_rows, "rows_unread": reader.bad}
    findings = (*notes.findings(), *repeated_names(repeated), *reader.findings())
    runs = table.runs(run_name(path), form, details, findings)
    if not runs:
        raise no_records(path, "the table holds no row with a number", "point at the table of metrics", notes)
    return runs


def _text_lines(path: Path, notes: ReadNotes) -> Iterator[tuple[str, bool]]:
    for line, closed in lines(path, notes):
        text = line.decode("utf-8", errors="replace").rstrip("\r").lstrip("\ufeff")
        if text.strip():
            yield text, closed


class _RowReader:
    """Turns rows of cells into numbers and remembers what it could not read."""

    def __init__(self, dialect: Dialect, table: ColumnTable) -> None:
        self._dialect, self._table = dialect, table
        self._width = len(dialect.names)
        self._told = {i for i in (table.run_at, table.long[0] if table.long else None) if i is not None}
        self._words = [0] * self._width  # cells that are neither numbers nor empty, by column
        self._numbers = [0] * self._width
        self._decimals: set[int] = set()  # of the last column, so far
        self.bad = 0
        self._cut = ""

    def take(self, cells: list[str] | None, closed: bool) -> None:
        """Add one row (None: a line that does not fit the header)."""
        if cells is None:
            self.bad += 1
            return
        if not cells:
            return
        if not closed:
            cells = self._without_cut_cell(cells)
        numbers = []
        for i, cell in enumerate(cells):
            try:
                number = float(cell) if "_" not in cell else None
            except ValueError:
                number = None
            if number is None:
                number = self._unusual(i, cell)
            else:
                self._numbers[i] += 1
            numbers.append(number)
        self._decimals.add(_decimals(cells[-1]))
        self._table.add(numbers, cells)

    def _unusual(self, column: int, cell: str) -> float:
        if is_empty(cell):
            return float("nan")
        number = to_number(cell, self._dialect)
        if number is None:
            number = count_of_total(self._table.names[column], cell)
        if number is None:
            self._words[column] += 1
            return float("nan")
        self._numbers[column] += 1
        return number

    def _without_cut_cell(self, cells: list[str]) -> list[str]:
        """The last line of a file that does not end in a newline: its last cell may be half a number."""
        if len(cells) == self._width:
            digits = _decimals(cells[-1])
            # Written with a fixed number of decimals that it has: nothing is missing.
            if digits > 0 and self._decimals - {-1} == {digits}:
                return cells
            if digits < 0:
                self._cut = "the last line may lack what its last cell was to hold"
                return cells
        missing = self._width - len(cells)
        self._cut = f"the last line's cell {cells[-1][:20]!r} was left out, since it may be half a number"
        return [*cells[:-1], *[""] * (missing + 1)]

    def findings(self) -> list[Finding]:
        """What could not be read."""
        found = unread(
            "rows-unread",
            self.bad,
            "lines have another number of cells than the header and were left out",
            "the file is damaged, or two tables were put into one",
        )
        odd = {
            self._table.names[i]: n
            for i, n in enumerate(self._words)
            if n and self._numbers[i] > n and i not in self._told
        }
        if odd:
            shown = ", ".join(f"{n} in {name}" for name, n in list(odd.items())[:5])
            found.append(
                Finding(
                    "cells-unread",
                    "warning",
                    f"cells that are not numbers were read as missing: {shown}",
                    value=float(sum(odd.values())),
                )
            )
        if self._cut:
            found.append(cut_line(f"the file does not end in a newline; {self._cut}"))
        return found


def _decimals(cell: str) -> int:
    """Digits behind the decimal point; -1 for an empty cell."""
    fraction = cell.strip().partition(".")[2]
    if not cell.strip():
        return -1
    return len(fraction) if fraction.isdigit() else 0


SOURCE = Source(
    "table",
    order=60,
    sniff=sniff,
    read=read,
    reference="CSV, TSV and their kin; W&B's chart export",
)
