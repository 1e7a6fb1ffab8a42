"""Rows and lines that are made of two records: after a crash, or by two processes that write to one file.

A number cut in two and joined with another is a number. What tells is its surroundings: a step that no step before or
after fits, a line that ends in a whole record, a cell unlike all others of its column.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from entlaw.findings import Finding

_LOOK_BACK = 16
_FEWEST = 4  # steps that it takes to know how they go on
_TAIL_ROWS = 64  # so many rows later the rest of a row may follow
_MOST_SHAPES = 256
_MOST_DIGITS = 18
_LONGEST = 1 << 20  # characters of a line that is looked into
_MOST_TRIES = 100


def made_of_two(n: int, what: str) -> list[Finding]:
    """What to say of rows and lines that are made of two records; nothing without any."""
    why = "a process was killed while it wrote and another one went on, or two processes wrote to one file"
    hint = "give each process a log of its own; look at these steps if they matter"
    return [Finding("records-broken", "warning", f"{what}: {n}", why, hint, float(n))] if n else []


class JoinedSteps:
    """Watches the integers in the first column of a table, row after row, each with the one that follows."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=_LOOK_BACK)
        self._tails: dict[str, int] = {}
        self._row = 0
        self._stride = 1

    def is_joined(self, text: str, after: str | None) -> bool:
        """Whether the step of this row is made of two, or is what another row has left of its own.

        Parameters
        ----------
        text : str
            The cell.
        after : str or None
            The first cell of the next whole row; None at the end of the file.
        """
        self._row += 1
        text = text.strip()
        if not _is_count(text):
            return False
        number = int(text)
        if self._seen:
            last = self._seen[-1]
            if number > last + self._stride and len(self._seen) > 1 and self._is_made_of_two(text, after):
                return True
            if self._tails and text in self._tails and self._is_tail(text, number - last):
                return True
            if number - last != self._stride:
                self._seen.append(number)
                ups = Counter(b - a for a, b in pairwise(self._seen) if b > a)
                self._stride = ups.most_common(1)[0][0] if ups else 1
                return False
        self._seen.append(number)
        return False

    def _is_tail(self, text: str, further: int) -> bool:
        """Whether this is what stands behind the beginning of an earlier row's step."""
        if further in (0, self._stride) or self._row - self._tails[text] >= _TAIL_ROWS:
            return False
        del self._tails[text]
        return True

    def _is_made_of_two(self, text: str, after: str | None) -> bool:
        last, stride = self._seen[-1], self._stride
        after = after.strip() if after is not None else None
        expected = {str(last), str(last + stride)}
        for i in range(1, len(text)):
            left, right = text[:i], text[i:]
            if right != str(int(right)) or not any(one.startswith(left) for one in expected):
                continue
            if self._fits(int(text), int(right), after, last, stride):
                for one in expected:
                    if one.startswith(left) and one != left:
                        self._tails[one[len(left) :]] = self._row
                return True
        return False

    def _fits(self, whole: int, right: int, after: str | None, last: int, stride: int) -> bool:
        """Whether the second half is a step that can stand here, and the whole is none."""
        if after is None or not _is_count(after):  # the end of the file, or the rest of a broken row
            steady = {b - a for a, b in pairwise(self._seen)} <= {0, stride}
            far = whole >= 5 * (last + stride) and right <= last + 3 * stride
            return len(self._seen) >= _FEWEST and steady and far
        following = int(after)
        near = last <= right <= last + 3 * stride
        return following < whole and (right in (following, following - stride) or near)


def _is_count(text: str) -> bool:
    return len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()


class WholeRecords:
    """Finds records in lines of JSON that hold more than one, or one and a part of another."""

    def __init__(self) -> None:
        self._shapes: set[frozenset[str]] = set()

    def learn(self, record: Collection[str]) -> None:
        """A record that stood alone in its line: whole ones have its keys."""
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes.add(frozenset(record))

    def find(self, line: str) -> list[dict[str, Any]]:
        """The records in a line that are whole: those with the keys of one that stood alone in its line."""
        found: list[dict[str, Any]] = []
        decoder = json.JSONDecoder()
        at, tries = line.find("{") if len(line) <= _LONGEST else -1, 0
        while at >= 0 and tries < _MOST_TRIES:
            tries += 1
            try:
                value, end = decoder.raw_decode(line, at)
            except (ValueError, RecursionError):
                at = line.find('{"', at + 1)
                continue
            if isinstance(value, dict) and frozenset(value) in self._shapes:
                found.append(value)
            at = line.find("{", end)
        return found
