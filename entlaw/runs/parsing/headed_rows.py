"""One header of a table, and what is known of the rows below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from entlaw.runs.axes import names_step
from entlaw.runs.parsing.columns import ColumnTable
from entlaw.runs.parsing.delimited import unique_names

FULL = 3  # rows that it takes to know that a column is always filled
_NAN = float("nan")


class HeadedRows:
    """A header, the rows below it, and what their cells are."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.header = tuple(name.strip() for name in names)
        made, self.repeated = unique_names(self.header)
        self.table = ColumnTable(path, made)
        self.words = [0] * len(made)  # cells that are neither numbers nor empty, by column
        self.numbers = [0] * len(made)
        self.decimals: set[int] = set()  # of the last column, so far
        self.step_at = next((i for i, name in enumerate(made) if names_step(name)), None)
        told = {self.table.run_at, *(self.table.long or ())}
        self.told = {i for i in told if i is not None}
        self.counts = names_step(made[0]) or not self.header[0] or "step" in made[0].lower()
        # Of the first column, in which a cut does not show in the number of cells.
        self._pointed = True
        self._most_digits = 0
        self._last_step = _NAN

    @property
    def has_steps(self) -> bool:
        """Whether every row so far has its step."""
        rows = self.table.n_rows
        return self.step_at is not None and rows >= FULL and self.numbers[self.step_at] == rows

    def learn(self, first: str, step: float) -> None:
        """The first cell and the step of a row that was taken."""
        if first:
            self._pointed = self._pointed and "." in first
            self._most_digits = max(self._most_digits, len(first.partition(".")[0]))
        self._last_step = step

    def is_odd(self, first: str, after_damage: bool, step: float) -> bool:
        """Whether a first cell that is a number is one half, or two: unlike all others where a writer began anew."""
        if not first or self._most_digits == 0 or not is_number(first):
            return False
        if first.startswith(("00", "-00")) or (after_damage and self._pointed and "." not in first):
            return True
        return step < self._last_step and len(first.partition(".")[0]) > self._most_digits


def is_number(cell: str) -> bool:
    """Whether Python reads a cell as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def decimals(cell: str) -> int:
    """Digits behind the decimal point; -1 for an empty cell."""
    fraction = cell.strip().partition(".")[2]
    if not cell.strip():
        return -1
    return len(fraction) if fraction.isdigit() else 0
