"""Numbers as people and spreadsheets write them: which mark parts the decimals, and which the thousands.

``1,200`` is 1200 or 1.2. One cell cannot tell; the other cells of the file can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from entlaw.runs.table import parse_number

DecimalMark = Literal[".", ","]

_EXPONENT = r"(?:[eE][-+]?\d+)?"
_COMMA_DECIMAL = re.compile(rf"[-+]?\d*,\d+{_EXPONENT}")
_POINT_DECIMAL = re.compile(rf"[-+]?\d*\.\d+{_EXPONENT}")
_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(\.\d+)?")
_POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+(,\d+)?")
# Spaces of all widths and apostrophes are never decimal marks.
_OTHER_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:([ '\u2019\u00a0\u2009\u202f])\d{3})(?:\1\d{3})*([.,]\d+)?")


def _shows(cell: str) -> DecimalMark | None:
    """The decimal mark that a cell proves; None where it may be either."""
    commas, points = cell.count(","), cell.count(".")
    if _COMMA_GROUPS.fullmatch(cell):
        return "." if commas > 1 or points else None
    if _POINT_GROUPS.fullmatch(cell):
        return "," if points > 1 or commas else None
    if _COMMA_DECIMAL.fullmatch(cell):
        return ","
    return "." if _POINT_DECIMAL.fullmatch(cell) else None


class Numerals:
    """Reads the cells of one file.

    Parameters
    ----------
    mark : {".", ","}
        The decimal mark until a cell proves another.
    proven : bool
        Whether that is more than the usual.

    Attributes
    ----------
    doubtful : bool
        A cell was read that means something else with the other mark.
    contradicted : bool
        After such a cell another one proved the other mark: the file must be read again with it.
    """

    def __init__(self, mark: DecimalMark, proven: bool = False) -> None:
        self.mark, self.proven = mark, proven
        self.doubtful = self.contradicted = False

    @classmethod
    def of(cls, cells: Iterable[str], delimiter: str) -> Numerals:
        """What the first cells of a file show; a comma that parts cells is no decimal mark unless they prove it."""
        shown = {_shows(cell.strip()) for cell in cells}
        if "," in shown:
            return cls(",", proven=True)
        if "." in shown or delimiter == ",":
            return cls(".", proven="." in shown)
        return cls(",")

    def read(self, cell: str) -> float | None:
        """A cell as a number; None if it is not one."""
        text = cell.strip()
        if text[:1] == text[-1:] == '"':
            text = text.strip('"')
        text = text.removesuffix("%").rstrip()
        shown = _shows(text)
        if shown is not None:
            self._prove(shown)
        if self.mark == "," and self.proven and _POINT_GROUPS.fullmatch(text):
            return parse_number(text.replace(".", "").replace(",", "."))
        number = parse_number(text)
        if number is not None:
            return number
        if other := _OTHER_GROUPS.fullmatch(text):
            return parse_number(text.replace(other.group(1), "").replace(",", "."))
        if shown is None and _COMMA_GROUPS.fullmatch(text):
            self.doubtful = True
            return parse_number(text.replace(",", "." if self.mark == "," else ""))
        if shown == "," and self.mark == ",":
            return parse_number(text.replace(".", "").replace(",", "."))
        return parse_number(text.replace(",", "")) if _COMMA_GROUPS.fullmatch(text) else None

    def _prove(self, shown: DecimalMark) -> None:
        """A comma among digits is stronger than a point, which every program writes somewhere."""
        if shown == self.mark:
            self.proven = True
        elif shown == "," or not self.proven:
            self.contradicted = self.contradicted or self.doubtful
            self.mark, self.proven = shown, True
