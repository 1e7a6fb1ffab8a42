"""Rows of a table of text as numbers: headers that come again, rows that are not whole, cells that are no numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.axes import count_of_total, names_step
from entlaw.runs.parsing.columns import ColumnTable, repeated_names
from entlaw.runs.parsing.delimited import Dialect, Rows, is_empty, is_header
from entlaw.runs.parsing.headed_rows import FULL, HeadedRows, decimals, is_number
from entlaw.runs.parsing.numerals import DecimalMark, Numerals
from entlaw.runs.parsing.whole import JoinedSteps, made_of_two
from entlaw.runs.run import RawRun
from entlaw.runs.source import cut_line, unread

_NAN = float("nan")
_MOST_LAYOUTS = 500
_HALF_NUMBER = re.compile(r'[-+.,"\d]+(?:[eE][-+]?\d*)?')
_AFTER_DAMAGE = 64  # rows after a broken one in which the rest of it may follow


class TableReader:
    """Takes the rows of a table of text.

    Parameters
    ----------
    path : pathlib.Path
    dialect : Dialect
    numerals : Numerals
    """

    def __init__(self, path: Path, dialect: Dialect, numerals: Numerals) -> None:
        self._path, self._numerals = path, numerals
        self._layouts = [HeadedRows(path, dialect.names)]
        self._known = {name.lower(): name for name in self._layouts[0].header if name}  # as spelt first
        self._joined = JoinedSteps()
        self._held: tuple[list[str], bool] | None = None
        self._damage_at = -_AFTER_DAMAGE
        self.bad = self.torn = 0
        self._cut = ""

    @property
    def mark(self) -> DecimalMark:
        """The decimal mark."""
        return self._numerals.mark

    @property
    def contradicted(self) -> bool:
        """Whether rows were read with a decimal mark that later ones show to be wrong."""
        return self._numerals.contradicted

    @property
    def n_rows(self) -> int:
        """Rows that were taken."""
        return sum(layout.table.n_rows for layout in self._layouts)

    @property
    def tables(self) -> list[ColumnTable]:
        """What stands below each header."""
        return [layout.table for layout in self._layouts]

    def read(self, rows: Rows) -> None:
        """Take all rows; ends early when the decimal mark turns out to be another."""
        for cells, closed in rows:
            self._sort(cells, closed, rows)
            if self._numerals.contradicted:
                return
        self._release(None)

    def _sort(self, cells: list[str] | None, closed: bool, rows: Rows) -> None:
        """One line: a row, a header, or neither."""
        if cells is not None and len(cells) == 1 and not cells[0].strip():
            return
        header = self._header_in(cells) if cells is not None else None
        if header is not None:
            self._release(None)
            self._begin(header, rows)
        elif cells is None or len(cells) > rows.width or (len(cells) < rows.width and closed):
            self.bad += 1
            self._damage_at = self.n_rows
        else:
            self._release(cells)
            self._held = cells, closed

    def _header_in(self, cells: list[str]) -> list[str] | None:
        """The names in a line that is a header, or ends in one: what was written before a crash stands before it."""
        if is_number(cells[-1]):
            return None
        names = [cell.strip() for cell in cells]
        start = len(names)
        while start and names[start - 1] and not is_number(names[start - 1]):
            start -= 1
        if len(names) - start < 2 or not self._names_column(names[start:]):
            return None
        header = list(self._layouts[-1].header)
        behind = len(names) - len(header)
        if behind >= 0 and names[behind + 1 :] == header[1:] and names[behind].endswith(header[0]):
            self.torn += names != header  # the same header again, behind whatever
            return header
        for at in range(len(names) - 2, start - 1, -1):
            rest = [self._behind_half(names[at], names[at + 1 :]), *names[at + 1 :]]
            if rest[0] != names[at] and is_header(rest):
                self.torn += 1
                return rest
        whole = start == 0 or (start == 1 and not names[0])  # a frame's index has no name
        self.torn += not whole
        rest = names if whole else names[start:]
        return rest if is_header(rest) else None

    def _names_column(self, names: Iterable[str]) -> bool:
        """Whether some name is that of a known column, or of a step."""
        return any(name.lower() in self._known or names_step(name) for name in names)

    def _behind_half(self, name: str, others: list[str]) -> str:
        """A known name that stands behind half a cell; the name as it is otherwise."""
        if name.lower() in self._known or names_step(name):
            return name
        digits = _HALF_NUMBER.match(name)
        # Half a word is known for one where all the other names are known.
        most = (
            len(name)
            if all(other.lower() in self._known for other in others)
            else digits.end() + 1
            if digits
            else 0
        )
        for i in range(1, most):
            if (name[i].isalpha() or name[i] == "_") and self._names_column([name[i:]]):
                return name[i:]
        return name

    def _begin(self, header: list[str], rows: Rows) -> None:
        """A header: rows below it are read by its names."""
        names = tuple(self._known.get(name.lower(), name) for name in header)
        names = names if len(set(names)) == len(set(header)) else tuple(header)
        self._known |= {name.lower(): name for name in names if name}
        rows.width = len(names)
        if names == self._layouts[-1].header:
            return
        if len(self._layouts) >= _MOST_LAYOUTS:
            raise UnreadableSource(
                f"more than {_MOST_LAYOUTS} headers of different columns in one table",
                where=str(self._path),
                hint="give each run a table of its own",
            )
        if names[0] != self._layouts[-1].header[0]:
            self._joined = JoinedSteps()
        self._layouts.append(HeadedRows(self._path, names))

    def _release(self, following: list[str] | None) -> None:
        """Add the row that waited for the one that follows it."""
        if self._held is None:
            return
        cells, closed = self._held
        self._held = None
        layout = self._layouts[-1]
        text = closed and self._is_text(cells, layout)
        if text or (closed and not self._is_whole(cells, following, layout)):
            self.bad, self.torn = self.bad + text, self.torn + (not text)
            self._damage_at = self.n_rows
            return
        if not closed:
            cells = self._without_cut_cell(cells, layout)
        layout.table.add(self._numbers_of(cells, layout), cells)
        layout.decimals.add(decimals(cells[-1]))
        if layout.step_at:
            if layout.numbers[0] and layout.words[0] and not is_empty(cells[0]) and not is_number(cells[0]):
                self._damage_at = self.n_rows
            layout.learn(cells[0].strip(), self._step(cells, layout))

    def _is_text(self, cells: list[str], layout: HeadedRows) -> bool:
        """Whether a word stands where every row has its step."""
        step = cells[layout.step_at or 0]
        if not layout.has_steps or is_empty(step) or is_number(step):
            return False
        return self._read(layout, layout.step_at or 0, step) is None

    def _is_whole(self, cells: list[str], following: list[str] | None, layout: HeadedRows) -> bool:
        """Whether a row with the right number of cells is one row: a cut in its first cell does not show there."""
        at = layout.step_at
        if layout.counts and self._joined.is_joined(cells[0], following[0] if following else None):
            return False
        if layout.table.n_rows < FULL:
            return True
        if layout.table.run_at == 0 and layout.table.is_joined(cells[0].strip()):
            return False
        if at == 0 and layout.has_steps and is_empty(cells[0]):
            return False  # the rest of a row whose beginning stands elsewhere
        return not at or not layout.is_odd(
            cells[0].strip(), self.n_rows - self._damage_at < _AFTER_DAMAGE, self._step(cells, layout)
        )

    def _step(self, cells: list[str], layout: HeadedRows) -> float:
        at = layout.step_at
        number = None if at is None else self._read(layout, at, cells[at])
        return _NAN if number is None else number

    def _read(self, layout: HeadedRows, column: int, cell: str) -> float | None:
        """A cell as a number; ``5/200`` where steps are counted."""
        number = self._numerals.read(cell)
        return count_of_total(layout.table.names[column], cell) if number is None else number

    def _numbers_of(self, cells: list[str], layout: HeadedRows) -> list[float]:
        numbers = []
        usual = self._numerals.mark == "."
        for i, cell in enumerate(cells):
            try:
                number = float(cell) if usual and "_" not in cell else None
            except ValueError:
                number = None
            if number is None:
                number = self._unusual(i, cell, layout)
            else:
                layout.numbers[i] += 1
            numbers.append(number)
        return numbers

    def _unusual(self, column: int, cell: str, layout: HeadedRows) -> float:
        if is_empty(cell):
            return _NAN
        number = self._read(layout, column, cell)
        if number is None:
            layout.words[column] += 1
            return _NAN
        layout.numbers[column] += 1
        return number

    def _without_cut_cell(self, cells: list[str], layout: HeadedRows) -> list[str]:
        """The last line of a file that does not end in a newline: its last cell may be half a number."""
        width = len(layout.header)
        if len(cells) == width:
            digits = decimals(cells[-1])
            # Written with a fixed number of decimals that it has: nothing is missing.
            if digits > 0 and layout.decimals - {-1} == {digits}:
                return cells
            if digits < 0:
                self._cut = "the last line may lack what its last cell was to hold"
                return cells
        missing = width - len(cells)
        self._cut = f"the last line's cell {cells[-1][:20]!r} was left out, since it may be half a number"
        return [*cells[:-1], *[""] * (missing + 1)]

    def runs(
        self, name: str, form: str, details: dict[str, Any], findings: tuple[Finding, ...]
    ) -> list[RawRun]:
        """The runs of all layouts, those of one name as one, in order of first appearance."""
        told = (*findings, *self._findings())
        found: dict[str, list[RawRun]] = {}
        for layout in self._layouts:
            for run in layout.table.runs(name, form, details, told):
                found.setdefault(run.name, []).append(run)
        return [_together(parts) for parts in found.values()]

    def _findings(self) -> list[Finding]:
        """What could not be read."""
        found = list(repeated_names(sorted({n for layout in self._layouts for n in layout.repeated})))
        found += unread(
            "rows-unread",
            self.bad,
            "lines are no rows of the table and were left out",
            "text was printed among them, the file is damaged, or two processes wrote to it",
        )
        found += made_of_two(self.torn, "rows that are made of two records and were not used")
        joined = [name for layout in self._layouts for name in layout.table.joined_metrics()]
        what = f"names of metrics that are made of two, as are their rows ({', '.join(joined[:3])})"
        found += made_of_two(len(joined), what)
        odd: Counter[str] = Counter()
        for layout in self._layouts:
            for i, n in enumerate(layout.words):
                if n and layout.numbers[i] > n and i not in layout.told:
                    odd[layout.table.names[i]] += n
        if odd:
            shown = ", ".join(f"{n} in {name}" for name, n in list(odd.items())[:5])
            what = f"cells that are not numbers were read as missing: {shown}"
            found.append(Finding("cells-unread", "warning", what, value=float(sum(odd.values()))))
        if len(self._layouts) > 1:
            what = f"{len(self._layouts)} headers of different columns; each row was read by the one above it"
            found.append(
                Finding("header-changed", "info", what, "a restart logged other columns, or in another order")
            )
        if self._cut:
            found.append(cut_line(f"the file does not end in a newline; {self._cut}"))
        return found


def _together(parts: list[RawRun]) -> RawRun:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    return RawRun(first.name, rows, first.config, first.provenance, first.findings)
