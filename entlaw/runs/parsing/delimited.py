"""Delimited text: recognising it, and its rows as lists of cells, one damaged line at a time."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entlaw.runs.table import parse_number

DELIMITERS = ",\t;|"
_BAR = re.compile(r"\d%\|.*\|\s*\d+/\d+")  # a progress bar has cells of its own
_MOST_JOINED = 1000  # lines that one quoted cell may span
_MOST_JOINED_CHARS = 1 << 20
# Characters that may be looked at to close open quotes, for each character of the table: each is read again once
# where a quoted cell spans lines, and a table of open quotes would be read again for every line.
_JOINED_AGAIN = 16
_LOOK_AT = 12
EMPTY = {"", "-", "na", "n/a", "null", "none", "<na>", "#n/a"}


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes
    ----------
    delimiter : str
    names : tuple of str
        Column names as in the header.
    skip : int
        Lines before the header (comments).
    """

    delimiter: str
    names: tuple[str, ...]
    skip: int = 0

    @property
    def decimal_comma(self) -> bool:
        """Whether ``0,5`` is a half: only where the comma does not part the cells."""
        return self.delimiter != ","


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
        that holds nothing but numbers. Log lines with commas in them fail at one of these.
    """
    skip = 0
    while skip < len(lines) and (
        lines[skip].lstrip().startswith("#") or lines[skip].lower().startswith("sep=")
    ):
        skip += 1
    lines = [line.lstrip("\ufeff") for line in lines[skip:]]
    if len(lines) < 2 or len(lines[0]) > 1 << 20 or lines[0].lstrip()[:1] in ("{", "["):
        return None
    for delimiter in DELIMITERS:
        if delimiter in lines[0] and not _BAR.search(lines[0]):
            names = split_cells(lines[0], delimiter)
            if (
                names is not None
                and _is_header(names)
                and _is_table(names, lines[1 : 1 + _LOOK_AT], delimiter)
            ):
                return Dialect(delimiter, tuple(name.strip() for name in names), skip)
    return None


def _is_header(names: list[str]) -> bool:
    filled = [name.strip() for name in names if name.strip()]
    return (
        len(filled) >= 2
        and len(filled) >= len(names) - 1  # a table written with its index has one name less
        and all(len(name) <= 300 and any(map(str.isalpha, name)) for name in filled)
        and all(parse_number(name) is None for name in filled)
    )


def _is_table(names: list[str], lines: Sequence[str], delimiter: str) -> bool:
    dialect = Dialect(delimiter, tuple(names))
    found = [cells for cells, _ in rows(((line, True) for line in lines), dialect)]
    fit = [row for row in found if row is not None and len(row) == len(names)]
    if not fit or 2 * len(fit) < len(found):
        return False
    for column in zip(*fit, strict=True):
        numbers = [to_number(cell, dialect) for cell in column if not is_empty(cell)]
        if numbers and sum(n is not None for n in numbers) * 4 >= 3 * len(numbers):
            return True
    return False


def split_cells(line: str, delimiter: str) -> list[str] | None:
    """Cells of one line, None where a quote stays open."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(iter(csv.reader([line], delimiter=delimiter, strict=True)), None)
    except csv.Error:
        return None


def rows(lines: Iterator[tuple[str, bool]], dialect: Dialect) -> Iterator[tuple[list[str] | None, bool]]:
    """Rows as cells, with whether the line was closed; None for a line that does not fit the header.

    A quoted cell may span lines; one whose quote is never closed costs its own line and not the rest of the file.
    """
    width, delimiter = len(dialect.names), dialect.delimiter
    waiting: deque[tuple[str, bool]] = deque()
    budget = 2 * _MOST_JOINED_CHARS
    while True:
        if waiting:
            line, closed = waiting.popleft()
        else:
            following = next(lines, None)
            if following is None:
                return
            line, closed = following
        cells = split_cells(line, delimiter)
        budget += _JOINED_AGAIN * len(line)
        if cells is None and budget > 0:
            cells, closed, looked_at = _joined(line, closed, lines, waiting, dialect)
            budget -= looked_at
        if cells is None or len(cells) > width:
            # Trailing delimiters make empty cells beyond the header.
            extra = cells[width:] if cells else ["?"]
            yield (cells[:width] if cells and all(not c.strip() for c in extra) else None), closed
        elif len(cells) < width and closed:
            yield (None if line.strip() else []), closed
        else:
            yield cells, closed


def _joined(
    line: str,
    closed: bool,
    lines: Iterator[tuple[str, bool]],
    waiting: deque[tuple[str, bool]],
    dialect: Dialect,
) -> tuple[list[str] | None, bool, int]:
    """Try to close an open quote with the lines that follow; they go back to `waiting` if that fails.

    The last value returned counts the characters looked at.
    """
    used: list[tuple[str, bool]] = []
    parts, size, quotes, looked_at = [line], len(line), line.count('"'), 0
    while len(used) < _MOST_JOINED and size < _MOST_JOINED_CHARS:
        following = waiting.popleft() if waiting else next(lines, None)
        if following is None:
            break
        used.append(following)
        parts.append(following[0])
        size += len(following[0]) + 1
        more = following[0].count('"')
        quotes += more
        if more and quotes % 2 == 0:  # an odd number leaves one open
            looked_at += size
            cells = split_cells("\n".join(parts), dialect.delimiter)
            if cells is not None:
                if len(cells) == len(dialect.names):
                    return cells, following[1], looked_at + size
                break
    waiting.extendleft(reversed(used))
    return None, closed, looked_at + size


def is_empty(cell: str) -> bool:
    """Whether a cell means a missing value."""
    return cell.strip().lower() in EMPTY


def to_number(cell: str, dialect: Dialect) -> float | None:
    """A cell as a number; None if it is not one."""
    if dialect.decimal_comma and re.fullmatch(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*", cell):
        cell = cell.replace(",", ".")
    return parse_number(cell.strip().strip('"').removesuffix("%"))


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
