"""Where lines were cut: a number at the end of such a line may be the first half of another one.

A line that ends in a number looks whole. It was cut when the line below begins like the rest of one; when the longest
lines of a log have one length and some of them end inside a pair; when they have one length although what stands
before their last number differs in length; or when that length is a limit that loggers have (a power of two).
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from entlaw.findings import Finding

# The second half of a number, and what follows one.
_HALF_A_NUMBER = re.compile(r"(?:\d|\.\d|[eE][-+]?\d|[-+]\d)[-+.\deE]*\s*(?:$| -)")
# Pieces and separators, and nothing else: prose has blanks.
_REST = re.compile(r" ?(?:- )?\S*(?: - \S*)* ?-? ?")
_FEWEST = 3
_MOST_SHARE = 0.8
_LEAST_LIMIT = 1024  # bytes; below, lines have that length by chance
_NUMBER_AT_END, _BROKEN, _REST_BELOW = 1, 2, 4


def is_rest(line: str | None) -> bool:
    """Whether a line may be the rest of one that was cut: pieces and separators, or nothing."""
    return line is not None and _REST.fullmatch(line) is not None


def unindented(line: str | None) -> str | None:
    """A line without the indentation of a logger that puts what it breaks below the message."""
    return line.lstrip() if line is not None and line.startswith("  ") else line


def goes_on(line: str | None, broken: bool) -> bool:
    """Whether a line holds what was cut off the line above, which ends inside a pair (``broken``) or in a number."""
    line = unindented(line)
    if not line or not is_rest(line):
        return False
    return broken or _HALF_A_NUMBER.match(line) is not None


def keys_of_rest(line: str | None) -> list[str]:
    """Keys of the pairs in a line that may be the rest of a record; of the first one perhaps the end only."""
    line = unindented(line)
    if not line or not is_rest(line):
        return []
    pieces = (piece.rpartition(":") for piece in line.split(" - "))
    return [key for key, colon, value in pieces if colon and value.strip()]


def _is_limit(n: int) -> bool:
    return n + 1 >= _LEAST_LIMIT and ((n & (n - 1)) == 0 or (n & (n + 1)) == 0)


@dataclass(frozen=True)
class Cut:
    """What was cut.

    Attributes
    ----------
    numbers : list of (int, str)
        Row and key of each number at a cut.
    lines : int
        Lines that were cut.
    width : int
        Bytes of the longest of them where they share a length, else 0.
    """

    numbers: list[tuple[int, str]]
    lines: int
    width: int

    def findings(self) -> list[Finding]:
        """What to say of them; nothing without a cut."""
        where = f" at {self.width:,} bytes" if self.width else ""
        lost = f"; numbers at a cut, which were not used: {len(self.numbers)}" if self.numbers else ""
        return lines_cut(self.lines, f"{where}; what stood behind the cut is lost{lost}")


def lines_cut(n: int, what: str) -> list[Finding]:
    """The finding of lines that were cut; nothing without one."""
    return [
        Finding(
            "lines-cut",
            "warning",
            f"lines of records that are cut off: {n}{what}",
            "a terminal or a logger broke or shortened the lines: W&B keeps 4,096 bytes of each in files/output.log",
            "read what the trainer itself logs (the run-*.wandb file beside files/, metrics.jsonl, TensorBoard), "
            "or save the console without wrapping",
            float(n),
        )
    ] * (n > 0)


class LineEnds:
    """Remembers how the record lines of a log end, in a few bytes each."""

    def __init__(self) -> None:
        self._table = array("q")  # row, key, bytes, characters, offset of the last piece, marks
        self._keys: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._table) // 6

    def add(
        self, row: int, key: str, n_bytes: int, n_chars: int, offset: int, broken: bool, rest: bool
    ) -> None:
        """Take the end of one record line.

        Parameters
        ----------
        row : int
            Row of its record, -1 if it was not used.
        key : str
            Key of the number that the line ends with; empty if it ends with none.
        n_bytes, n_chars : int
            Length of the line in the file, and as shown.
        offset : int
            Where its last piece begins; -1 if the line was put together.
        broken : bool
            Whether it ends inside a pair.
        rest : bool
            Whether the line below holds what was cut off.
        """
        marks = (_NUMBER_AT_END if key else 0) | (_BROKEN if broken else 0) | (_REST_BELOW if rest else 0)
        self._table.extend(
            (row, self._keys.setdefault(key, len(self._keys)), n_bytes, n_chars, offset, marks)
        )

    def wrapped_at(self) -> int:
        """The constant width at which lines were broken, in characters; 0 if there is none."""
        table = np.frombuffer(self._table, dtype=np.int64).reshape(-1, 6)
        broken = table[(table[:, 5] & _REST_BELOW) > 0, 3]
        if len(broken) < _FEWEST:
            return 0
        width, count = Counter(broken.tolist()).most_common(1)[0]
        return int(width) if count >= _MOST_SHARE * len(broken) and width >= table[:, 3].max() else 0

    def cut(self) -> Cut:
        """The lines that were cut."""
        table = np.frombuffer(self._table, dtype=np.int64).reshape(-1, 6)
        if not len(table):
            return Cut([], 0, 0)
        marks = table[:, 5]
        at_cut = (marks & (_BROKEN | _REST_BELOW)) > 0
        for column in (2, 3):
            for length in self._lengths(table, column):
                at_cut |= (table[:, column] == length) & (table[:, 4] >= 0)
        names = list(self._keys)
        values = [(int(r), names[k]) for r, k in table[at_cut & ((marks & _NUMBER_AT_END) > 0), :2] if r >= 0]
        lengths = set(table[at_cut, 2].tolist())
        return Cut(values, int(at_cut.sum()), lengths.pop() if len(lengths) == 1 and at_cut.sum() > 1 else 0)

    def n_shortened(self) -> int:
        """Lines that end inside a record and were cut by length: others may be torn or damaged."""
        table = np.frombuffer(self._table, dtype=np.int64).reshape(-1, 6)
        broken = (table[:, 5] & _BROKEN) > 0
        if not broken.any():
            return 0
        at_cut = np.zeros(len(table), dtype=bool)
        for column in (2, 3):
            longest = table[:, column] == table[:, column].max()
            if (broken & longest).sum() > 1 or _is_limit(int(table[:, column].max())):
                at_cut |= broken & longest
        if self.wrapped_at():
            at_cut |= broken
        return int(at_cut.sum())

    def _lengths(self, table: np.ndarray, column: int) -> Iterator[int]:
        """Lengths at which lines were cut although they may end in a number."""
        whole = table[table[:, 4] >= 0]
        if not len(whole):
            return
        length = int(whole[:, column].max())
        longest = whole[whole[:, column] == length]
        if _is_limit(length) or (len(longest) > 1 and (longest[:, 5] & _BROKEN).any()):
            yield length
        for key in np.unique(whole[:, 1]):
            own = whole[whole[:, 1] == key]
            same = own[own[:, column] == own[:, column].max()]
            # Numbers in front differ in length and the line does not. Lines that were not cut can be so by chance
            # of their last number, but not line after line.
            others = len(same) - max(Counter(same[:, 4].tolist()).values())
            if len(same) >= 2 * _FEWEST and len(same) >= 0.9 * len(own) and others >= 0.1 * len(same):
                yield int(own[:, column].max())
