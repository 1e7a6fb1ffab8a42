"""Delimited text: recognising it, and its rows as lists of cells, one damaged line at a time."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entlaw.runs.axes import names_step
from entlaw.runs.parsing.numerals import Numerals
from entlaw.runs.table import parse_number

DELIMITERS = ",\t;|"
SPACES = "  "  # columns that stand apart by two spaces or more, as a terminal or a chat shows a table
_BAR = re.compile(r"\d%\|.*\|\s*\d+/\d+")  # a progress bar has cells of its own
_COMMENT = re.compile(r"^\s*#+\s*")
_MOST_JOINED = 1000  # lines that one quoted cell may span
_MOST_JOINED_CHARS = 1 << 20
# Characters that may be looked at to close open quotes, for each character of the table: each is read again once
# where a quoted cell spans lines, and a table of open quotes would be read again for every line.
_JOINED_AGAIN = 16
_LOOK_AT = 12
_LONGEST_NAME = 300
_LONGEST_HEADER = 1 << 20
EMPTY = {"", "-", "--", "\u2013", "\u2014", "na", "n/a", "null", "none", "<na>", "#n/a", "no log"}
# What says that a line below other text is a header: the name of a step, or of what a trainer measures.
_MEASURED = re.compile(r"epoch|entropy|reward|score|acc|loss|kl")


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes
    ----------
    delimiter : str
    names : tuple of str
        Column names as in the header.
    skip : int
        Lines before the header (comments, other text).
    """

    delimiter: str
    names: tuple[str, ...]
    skip: int = 0


def recognise(lines: Sequence[str]) -> Dialect | None:
    """The dialect of a table, or None if the lines are not one.

    Parameters
    ----------
    lines : sequence of str
        The first lines that are not blank.

    Returns
    -------
    Dialect or None
        A table has a header of at least two names, none of them a number; rows of as many cells; and a column
        that holds nothing but numbers. Log lines with commas in them fail at one of these. A header below other text
        names a step or something measured as well; it goes before a first line that does not name a step.
    """
    first = next((i for i, line in enumerate(lines) if not _is_comment(line)), len(lines))
    found = _dialect_at(lines, first) or (_dialect_at(lines, first - 1) if first else None)
    if found is not None and any(names_step(name) for name in found.names):
        return found
    for at in range(first + 1, len(lines) - 1):
        below = _dialect_at(lines, at, below_text=True)
        if below is not None:
            return below
    return found


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#") or line.lower().startswith("sep=")


def _dialect_at(lines: Sequence[str], at: int, below_text: bool = False) -> Dialect | None:
    """The dialect of the table whose header is this line."""
    if at + 1 >= len(lines):
        return None
    line = _COMMENT.sub("", lines[at])
    if len(line) > _LONGEST_HEADER or line.lstrip()[:1] in ("{", "[") or _BAR.search(line):
        return None
    for delimiter in (*DELIMITERS, SPACES):
        if delimiter not in line.strip():
            continue
        names = split_cells(line, delimiter)
        if (
            delimiter == SPACES
            and names is not None
            and len(split_cells(lines[at + 1], SPACES) or ()) == len(names) + 1
        ):
            names = ["", *names]  # a frame's index has no name
        if names is None or not is_header(names) or (below_text and not _is_telling(names)):
            continue
        if _is_table(names, lines[at + 1 : at + 1 + _LOOK_AT], delimiter, below_text or delimiter == SPACES):
            return Dialect(delimiter, tuple(name.strip() for name in names), at)
    return None


def is_header(cells: Sequence[str]) -> bool:
    """Whether cells can be names of columns."""
    filled = [name.strip() for name in cells if name.strip()]
    return (
        len(filled) >= 2
        and len(filled) >= len(cells) - 1  # a table written with its index has one name less
        and all(len(name) <= _LONGEST_NAME and any(map(str.isalpha, name)) for name in filled)
        and all(parse_number(name) is None and not is_empty(name) for name in filled)
    )


def _is_telling(names: Sequence[str]) -> bool:
    """Whether names are those of a table of metrics, and not words of a sentence."""
    if any(len(name) > 80 or ": " in name or "=" in name for name in names):
        return False
    return (
        any(names_step(name) for name in names) or sum(bool(_MEASURED.search(n.lower())) for n in names) >= 2
    )


def _is_table(names: list[str], lines: Sequence[str], delimiter: str, strict: bool) -> bool:
    """Whether rows of numbers stand below the names; where `strict`, from the next line on and no single one."""
    dialect = Dialect(delimiter, tuple(names))
    found = [cells for cells, _ in Rows(((line, True) for line in lines), dialect)]
    fit = [row for row in found if row is not None and len(row) == len(names)]
    if not fit or 2 * len(fit) < len(found):
        return False
    if strict and (found[0] is None or len(found[0]) != len(names)):
        return False
    numerals = Numerals.of((cell for row in fit for cell in row), delimiter)
    for column in zip(*fit, strict=True):
        numbers = [numerals.read(cell) for cell in column if not is_empty(cell)]
        if numbers and sum(n is not None for n in numbers) * 4 >= 3 * len(numbers):
            return True
    return False


def split_cells(line: str, delimiter: str) -> list[str] | None:
    """Cells of one line, None where a quote stays open."""
    if delimiter == SPACES:
        return re.split(r" {2,}|\t", line.strip())
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(iter(csv.reader([line], delimiter=delimiter, strict=True)), None)
    except csv.Error:
        return None


class Rows:
    """Rows as cells, with whether the line was closed; None for a line that is no row of cells.

    A quoted cell may span lines; one whose quote is never closed costs its own line and not the rest of the file.
    Empty cells beyond the width are left out, as trailing delimiters make them.

    Attributes
    ----------
    width : int
        Cells of a row. It changes with the header.
    """

    def __init__(self, lines: Iterator[tuple[str, bool]], dialect: Dialect) -> None:
        self._lines, self._delimiter = lines, dialect.delimiter
        self._waiting: deque[tuple[str, bool]] = deque()
        self._budget = 2 * _MOST_JOINED_CHARS
        self.width = len(dialect.names)

    def __iter__(self) -> Iterator[tuple[list[str] | None, bool]]:
        while (following := self._next()) is not None:
            line, closed = following
            cells = split_cells(line, self._delimiter)
            self._budget += _JOINED_AGAIN * len(line)
            if cells is None and self._budget > 0:
                cells, closed = self._joined(line, closed)
            if cells is not None and len(cells) > self.width and not any(map(str.strip, cells[self.width :])):
                cells = cells[: self.width]
            yield cells, closed

    def _next(self) -> tuple[str, bool] | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _joined(self, line: str, closed: bool) -> tuple[list[str] | None, bool]:
        """Try to close an open quote with the lines that follow; they wait for their turn if that fails."""
        used: list[tuple[str, bool]] = []
        parts, size, quotes = [line], len(line), line.count('"')
        while len(used) < _MOST_JOINED and size < _MOST_JOINED_CHARS:
            following = self._next()
            if following is None:
                break
            used.append(following)
            parts.append(following[0])
            size += len(following[0]) + 1
            more = following[0].count('"')
            quotes += more
            if more and quotes % 2 == 0:  # an odd number leaves one open
                self._budget -= size
                cells = split_cells("\n".join(parts), self._delimiter)
                if cells is not None:
                    if len(cells) == self.width:
                        self._budget -= size
                        return cells, following[1]
                    break
        self._waiting.extendleft(reversed(used))
        self._budget -= size
        return None, closed


def is_empty(cell: str) -> bool:
    """Whether a cell means a missing value."""
    return cell.strip().lower() in EMPTY


def unique_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Column names made unique (``loss``, ``loss.1``), and those that were not."""
    seen: dict[str, int] = {}
    out: dict[str, None] = {}
    repeated = []
    for position, name in enumerate(names):
        name = name or f"column_{position}"
        if name in seen:
            repeated.append(name)
        count = seen.get(name, 0)
        fresh = f"{name}.{count}" if count else name
        while fresh in out:
            count += 1
            fresh = f"{name}.{count}"
        out[fresh] = None
        seen[name] = count + 1
    return list(out), repeated
