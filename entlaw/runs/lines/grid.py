"""Tables drawn with lines: Markdown, boxes of keys and values (AReaL, rich, Stable-Baselines), boxes with a header."""

from __future__ import annotations

import re

import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.keys import canonical
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.physical import plain
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.records import METRIC_NAME
from entlaw.runs.source import ReadOptions
from entlaw.runs.table import parse_number

_BORDERS = "|│┃║"
_SPLIT = re.compile(rf"[{_BORDERS}]")
_RULE = re.compile(r"[\s:=+\-─━═┼╋╪]*")
_BEFORE = 120  # characters of a prefix
_LONGEST = 1 << 15
_STEP = re.compile(
    r"(?i)(?<![\w/])(?:train(?:ing)?[ _]|global[ _])?(?:step|iteration|update)s?\s*[#:=]?\s*(\d{1,12})\b(/\d+)?"
)
_DRAWN = re.compile(rb"\|[ \t\r]*\n(?:[^\n|]{0,400}\n)?[^\n|]{0,120}\|[^\n]*\|[ \t\r]*(?:\n|\Z)")
_EMPTY = {"", "-", "n/a", "na", "none", "null", "no log"}


class GridLines(Lines):
    """Rows of cells between vertical lines."""

    order = 30
    is_fallback = True
    needles = (b"|", "│".encode(), "┃".encode(), "║".encode(), b"tep ", b"tep:", b"teration ", b"pdate ")
    example = "`| step | entropy |` (Markdown) and `│ actor/entropy │ 0.41 │` (AReaL)"
    noun = "rows of drawn tables"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._header: list[str] = []
        self._record: dict[str, float] = {}  # of the box so far
        self._step: float | None = None  # that a line above the box names
        self._of_total = False
        self._known = {options.entropy_key} - {None}

    def looks_for(self, block: bytes) -> tuple[bytes, ...]:
        """Nothing where no two lines in a row stand between vertical lines."""
        if self._header or self._record or self.rows.n_rows:
            return self.needles
        drawn = any(n in block for n in self.needles[1:4]) or _DRAWN.search(block)
        return self.needles if drawn else ()

    def take(self, line: bytes, closed: bool) -> bool:
        """Take a row, or remember the step that a line names."""
        if len(line) > _LONGEST:
            return False
        text = plain(line).strip()
        if text[-1:] not in _BORDERS or not text:
            self._remember(text)
            return False
        start = min(i for i in (text.find(b) for b in _BORDERS) if i >= 0)
        if start == len(text) - 1 or start > _BEFORE or "%" in text[:start]:
            return False
        cells = [cell.strip() for cell in _SPLIT.split(text[start + 1 : -1])]
        if all(_RULE.fullmatch(cell) for cell in cells):
            return False
        return self._row(cells, closed)

    def _remember(self, text: str) -> None:
        """The step that a line names; a trainer's ``3/40`` is surer than the steps of an answer."""
        found = list(_STEP.finditer(text))
        if not found or (self._of_total and found[-1][2] is None):
            return
        self._end_box()
        self._of_total = found[-1][2] is not None
        self._step = float(found[-1][1])

    def _row(self, cells: list[str], closed: bool) -> bool:
        values = [_number(cell) for cell in cells]
        filled = [(cell, value) for cell, value in zip(cells, values, strict=True) if cell]
        if len(cells) == len(self._header) and values.count(None) * 2 < len(cells):
            return self._under_header(values)
        if all(value is None for _, value in filled):
            self._end_box()
            self._header = cells
            return False
        return self._pairs(cells, values)

    def _under_header(self, values: list[float | None]) -> bool:
        record = {
            name: v for name, v in zip(self._header, values, strict=True) if name and v is not None and v == v
        }
        if not self._is_metrics(record) or not any(is_axis(k) or canonical(k) == "epoch" for k in record):
            return False
        self._add(record)
        return True

    def _pairs(self, cells: list[str], values: list[float | None]) -> bool:
        """A row of a box: keys, each with its value behind it."""
        if len(cells) % 2:
            return False
        pairs = [(cells[i], values[i], values[i + 1]) for i in range(0, len(cells), 2) if cells[i]]
        if not pairs or any(of_key is not None for _, of_key, _ in pairs):
            return False
        for key, _, value in pairs:
            if key in self._record:
                self._end_box()
            if value is not None and value == value:
                self._record[key] = value
        self.unread += sum(cell.endswith("…") for cell in cells)
        return True

    def _end_box(self) -> None:
        """The box so far is one record."""
        record, self._record = self._record, {}
        if record and self._is_metrics(record):
            self._add(record)

    def _add(self, record: dict[str, float]) -> None:
        if not any(map(is_axis, record)) and self._step is not None:
            record = {"step": self._step, **record}
        self.rows.add_numbers(tuple(record), list(record.values()))
        self.n_values += len(record)

    def _is_metrics(self, record: dict[str, float]) -> bool:
        return any(key in self._known or METRIC_NAME.search(key.lower()) for key in record)

    def finish(self) -> None:
        """Take the last box."""
        self._end_box()

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """One row a box, or a row of a table with a header."""
        rows = self.rows.frame()
        areal = any(str(column).startswith("ppo_actor/") for column in rows)
        return rows, "drawn-table", "AReaL" if areal else "unknown", []


def _number(cell: str) -> float | None:
    """A cell as a number, NaN for an empty one, None for words and for a number that is cut (``0.9…``)."""
    if cell.lower() in _EMPTY:
        return float("nan")
    return parse_number(cell.removesuffix("%").strip().strip("*`"))
