"""Tables and printed text of an HTML page: a notebook's output, or a saved page."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

from entlaw.runs.axes import is_axis
from entlaw.runs.keys import canonical
from entlaw.runs.parsing.delimited import unique_names
from entlaw.runs.parsing.records import METRIC_NAME
from entlaw.runs.table import RowBuilder, parse_number

CellRows = list[list[str]]


class Page(HTMLParser):
    """Collects the tables of a page, and the text that stands in ``pre``.

    Attributes
    ----------
    tables : list of list of list of str
        Cells by row.
    printed : list of str
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[CellRows] = []
        self.printed: list[str] = []
        self._open: list[CellRows] = []  # a table may stand in a cell of another
        self._cell: list[str] | None = None
        self._pre: list[str] | None = None
        self.feed(text)
        self.close()
        self._end_cell()
        self.tables += self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Open a table, a row, a cell."""
        if tag == "table":
            self._end_cell()
            self._open.append([])
        elif tag == "tr" and self._open:
            self._end_cell()
            self._open[-1].append([])
        elif tag in ("td", "th") and self._open:
            self._end_cell()
            self._cell = []
        elif tag == "pre":
            self._pre = []
        elif tag == "br" and self._pre is not None:
            self._pre.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """Close a table or a cell."""
        if tag in ("td", "th", "tr"):
            self._end_cell()
        elif tag == "table" and self._open:
            self._end_cell()
            self.tables.append(self._open.pop())
        elif tag == "pre" and self._pre is not None:
            self.printed.append("".join(self._pre))
            self._pre = None

    def handle_data(self, data: str) -> None:
        """Text of a cell, or printed text."""
        if self._pre is not None:
            self._pre.append(data)
        if self._cell is not None:
            self._cell.append(data)

    def _end_cell(self) -> None:
        if self._cell is None or not self._open:
            return
        if not self._open[-1]:
            self._open[-1].append([])
        self._open[-1][-1].append(" ".join("".join(self._cell).split()))
        self._cell = None


class StepTables:
    """Rows of the tables that have a column of steps; of others only where there are none of these.

    Attributes
    ----------
    n_values : int
    elided : int
        Rows that a table leaves out (``...``).
    """

    def __init__(self) -> None:
        self._stepped, self._others = RowBuilder(), RowBuilder()
        self._counts = {True: 0, False: 0}
        self.elided = 0

    def add(self, table: CellRows) -> None:
        """Take a table, if its columns are those of a training."""
        names, body = _split(table)
        if len(names) < 2 or not any(METRIC_NAME.search(name.lower()) for name in names):
            return
        has_step = any(is_axis(name) or canonical(name) == "epoch" for name in names)
        rows = self._stepped if has_step else self._others
        for cells in body:
            self.elided += any(cell in ("...", "…", "⋮") for cell in cells)
            values = {name: _number(cell) for name, cell in zip(names, cells, strict=False) if name}
            numbers = {name: value for name, value in values.items() if value is not None}
            if len(numbers) > 1:
                rows.add(numbers)
                self._counts[has_step] += len(numbers)

    @property
    def rows(self) -> RowBuilder:
        """The rows to use."""
        return self._stepped if self._stepped.n_rows else self._others

    @property
    def n_values(self) -> int:
        """Numbers in these rows."""
        return self._counts[self.rows is self._stepped]


def _split(table: CellRows) -> tuple[list[str], CellRows]:
    """Names of the columns, and the rows below; pandas puts the index' name into a second header row."""
    rows = [row for row in table if any(row)]
    if not rows or _has_numbers(rows[0]):
        return [], []
    names, body = list(rows[0]), rows[1:]
    if body and not _has_numbers(body[0]) and len(body[0]) == len(names):
        second = body[0]
        if all(not a or not b for a, b in zip(names, second, strict=True)):
            names, body = [a or b for a, b in zip(names, second, strict=True)], body[1:]
    found, _ = unique_names(names)
    return [unique if name else "" for name, unique in zip(names, found, strict=True)], body


def _has_numbers(row: list[str]) -> bool:
    return any(cell and _number(cell) is not None for cell in row)


def _number(cell: str) -> float | None:
    return parse_number(cell.removesuffix("%").strip()) if cell else None
