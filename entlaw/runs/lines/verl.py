"""verl's console line: ``step:4 - actor/entropy:0.410 - critic/score/mean:0.094``, behind any prefix."""

from __future__ import annotations

import re

import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.text import strip_ansi
from entlaw.runs.table import parse_number

# Not the tail of another key: `training/global_step:4` and `timing_s/step:4` are values of a record.
_START = re.compile(r"step:[ ]?(\d{1,15})\s+-\s")
_INSIDE_KEY = re.compile(r"[A-Za-z_/]")
# A value printed as a call, whose arguments may hold a colon: loss:tensor(0.5, device='cuda:0')
_CALLED = re.compile(r"(.*?):\s*((?:\w+\.)*[A-Za-z]\w*\(.*\))")


def _starts(line: str) -> list[re.Match[str]]:
    # The character before is checked later: a pattern that begins with fixed text is searched much faster.
    return [m for m in _START.finditer(line) if not m.start() or not _INSIDE_KEY.match(line, m.start() - 1)]


KeysAndValues = tuple[tuple[str, ...], list[float]]  # keys and values


def verl_records(line: str, closed: bool = True) -> tuple[list[KeysAndValues], int]:
    """Read the records of one line.

    Parameters
    ----------
    line : str
        Without terminal control sequences. Lines of several processes may run into one another, so a line
        can hold more than one record.
    closed : bool
        Whether the line is whole. The last pair of a cut line is left out: half a number is a number too.

    Returns
    -------
    records : list of (keys, values)
        Key ``step`` and the pairs as logged.
    unread : int
        Pairs whose value is not a number.
    """
    records, unread = [], 0
    starts = _starts(line)
    for i, start in enumerate(starts):
        last = i + 1 == len(starts)
        body = line[start.end() : len(line) if last else starts[i + 1].start()]
        pieces = body.split(" - ")
        if last and not closed:
            pieces.pop()
        keys, values, bad = _pairs(pieces)
        if keys:
            records.append((("step", *keys), [float(start.group(1)), *values]))
            unread += bad
    return records, unread


def _pairs(pieces: list[str]) -> tuple[tuple[str, ...], list[float], int]:
    """Keys and values of ``key:value`` pieces, and the number of those that cannot be read."""
    if not pieces:
        return (), [], 0
    keys, _, texts = zip(*[piece.rpartition(":") for piece in pieces], strict=True)
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return _pairs_one_by_one(pieces)
    # Blanks elsewhere than around the separators, or digits grouped by "_": look at each piece on its own.
    if "" in keys or " " in "".join(keys) or "_" in "".join(texts):
        return _pairs_one_by_one(pieces)
    return keys, values, 0


def _pairs_one_by_one(pieces: list[str]) -> tuple[tuple[str, ...], list[float], int]:
    record: dict[str, float] = {}
    unread, open_key = 0, ""
    for piece in pieces:
        key, colon, text = piece.rpartition(":")
        if not colon:  # a key with " - " in it
            open_key += piece + " - "
            continue
        value = parse_number(text)
        if value is None:
            key, value = _called(piece)
        key = (open_key + key).strip()
        open_key = ""
        # Prose after "step:1 - " is not a key; a data set's name with a space in it is.
        if value is None or not key or ("/" not in key and " " in key):
            unread += 1
        else:
            record[key] = value
    return tuple(record), list(record.values()), unread


def _called(piece: str) -> tuple[str, float | None]:
    called = _CALLED.fullmatch(piece.strip())
    return (called.group(1), parse_number(called.group(2))) if called else ("", None)


class VerlLines(Lines):
    """Lines of verl's console logger."""

    order = 10
    weight = 4  # a verl log also prints dictionaries, which repeat its numbers
    needles = (b"step:",)
    example = "`step:4 - actor/entropy:0.41 - ...` (verl)"
    noun = "lines like `step:N - key:value`"

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the records of a line."""
        text = strip_ansi(line).decode("utf-8", errors="replace")
        records, unread = verl_records(text, closed)
        for keys, values in records:
            self.n_values += len(keys) - 1
            self.rows.add_numbers(keys, values)
        self.unread += unread
        if not closed and _starts(text):
            self.cut = "the value it ends with was left out, since it may be half a number"
        return bool(records)

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows as logged."""
        return self.rows.frame(), "verl-console", "verl", []

    def findings(self, chosen: bool) -> list[Finding]:
        """Values that are not numbers."""
        if not self.unread:
            return []
        return [
            Finding(
                "values-unread",
                "info",
                f"{self.unread} values in metric lines are not numbers and were left out",
                "several processes write to this log at once, or it is damaged",
                value=float(self.unread),
            )
        ]
