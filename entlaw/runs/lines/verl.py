"""verl's console line: ``step:4 - actor/entropy:0.410 - critic/score/mean:0.094``, behind any prefix."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.cuts import LineEnds, goes_on, is_rest, keys_of_rest
from entlaw.runs.parsing.physical import displayed, ends_before_step, plain, unlabelled, without_label
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.text import strip_ansi
from entlaw.runs.parsing.torn import Shapes, are_whole, broken_records
from entlaw.runs.source import ReadOptions
from entlaw.runs.table import parse_number

# Not the tail of another key: `training/global_step:4` and `timing_s/step:4` are values of a record.
_START = re.compile(r"step:[ ]?(\d{1,15})\s+-\s")
_OPENING = re.compile(rb"(?<![A-Za-z_/])step:[ ]?\d{1,15}(?:\s+-\s|\s*-?\s*$)")
# A record line the beginning of which another process wrote over, or into.
_TORN = re.compile(r"[A-Za-z]step:[ ]?\d{1,15} - [^\s:]+:\S")
_TORN_INSIDE = re.compile(r"(?:^|\s)[^\s:/]{1,16}:[ ]?(?=\S*\d)\S{1,15}$")
# Pieces on lines of their own; prose has a blank behind its colon.
_DASHED = re.compile(r"-(?:$| [^\s:][^:]*:[^\s:])")
_PAIR = re.compile(r"[^\s:-][^\s:]*(?::[^\s:]+)*:[^\s:]")
_HOLDS_NUMBER = re.compile(r"\d\.\d+\Z|:[-+]?\d")
_CALL = re.compile(r"[A-Za-z_][\w.]*\(")
_OPEN_END = re.compile(r"\s-\s*$")
_INSIDE_KEY = re.compile(r"[A-Za-z_/]")
# A value printed as a call, whose arguments may hold a colon: loss:tensor(0.5, device='cuda:0')
_CALLED = re.compile(r"(.*?):\s*((?:\w+\.)*[A-Za-z]\w*\(.*\))")


def _starts(line: str) -> list[re.Match[str]]:
    # The character before is checked later: a pattern that begins with fixed text is searched much faster.
    return [m for m in _START.finditer(line) if not m.start() or not _INSIDE_KEY.match(line, m.start() - 1)]


def _is_cut(body: str) -> bool:
    """Whether a record does not end where the next one of its line begins: its last number may be half of one."""
    value = body[body.rfind(":") + 1 :]
    blank = value[-1:].isspace() and value[:1].strip() != ""
    return not blank or parse_number(without_label(value)) is None


def _lacks_its_start(line: str) -> bool:
    """Whether a line without a start would be a record with one."""
    head, _, rest = line.partition(" - ")
    inside = _TORN_INSIDE.search(head[-40:]) is not None and len(_PAIR.findall(rest[:2000])) >= 3
    return inside or _TORN.search(line) is not None


def _is_torn(line: str, starts: list[re.Match[str]]) -> bool:
    """Whether a record of the line begins before the one in front of it has ended."""
    return any(_is_cut(line[a.end() : b.start()]) for a, b in pairwise(starts))


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
        pieces = (body if last else without_label(body)).split(" - ")
        if not closed if last else _is_cut(body):
            pieces.pop()
            unread += not last
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
    names: list[str] = []
    values: list[float] = []
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
            names.append(key)
            values.append(value)
    return tuple(names), values, unread


def _called(piece: str) -> tuple[str, float | None]:
    called = _CALLED.fullmatch(piece.strip())
    return (called.group(1), parse_number(called.group(2))) if called else ("", None)


class _End(NamedTuple):
    """How a line ends: with the number of a key, or inside a pair; and where its last piece begins."""

    key: str
    broken: bool
    offset: int

    @classmethod
    def of(cls, line: str, last: str) -> _End:
        """The end of a line whose last pair that could be read has the key ``last``."""
        offset = line.rfind(" - ") + 3
        key, colon, value = line[offset:].strip().rpartition(":")
        is_number = key == last
        # A piece with a number in it is damaged and not cut, whatever stands where its colon was.
        inside = (not colon or not value) and not _HOLDS_NUMBER.search(key + value)
        in_call = _CALL.match(value) is not None and value.count("(") > value.count(")")
        return cls(last if is_number else "", not is_number and (inside or in_call), offset)


class VerlLines(Lines):
    """Lines of verl's console logger."""

    order = 10
    weight = 4  # a verl log also prints dictionaries, which repeat its numbers
    needles = (b"step:",)
    example = "`step:4 - actor/entropy:0.41 - ...` (verl)"
    noun = "lines like `step:N - key:value`"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._ends = LineEnds()
        self._shapes = Shapes()
        self._broken = 0  # records of which pieces are another record's, or may be

    def begins(self, line: bytes) -> bool:
        """Whether a line begins a record, perhaps with its step alone."""
        return b"step:" in line and bool(_OPENING.search(strip_ansi(line)))

    def glue(self, line: bytes, following: bytes) -> bytes | None:
        """Pieces below a record line are its own where they begin with the separator, or where it ends with one."""
        if ends_before_step(line) and following.startswith(b"step:"):
            return following
        if self.begins(following):
            return None
        text = unlabelled(plain(following)).strip()
        if _DASHED.match(text):
            return b" " + text.encode()
        if _OPEN_END.search(plain(line)) and _PAIR.match(text):
            return b" " + text.encode()
        return None

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the records of a line."""
        text = plain(line)
        starts = _starts(text)
        records, unread = verl_records(text, closed)
        self.unread += unread
        if starts and not closed:
            self.cut = "the value it ends with was left out, since it may be half a number"
        if not records:
            if starts and closed and is_rest(text[starts[-1].end() :]) and goes_on(self.below, True):
                self._add_end(line, -1, _End("", True, -1))  # cut inside its first pair
            # A record line whose beginning is damaged.
            self._broken += not starts and _lacks_its_start(text)
            return False
        torn = _is_torn(text, starts)
        end = _End.of(text, records[-1][0][-1])
        if self._is_mixed(torn, len(starts) > 1, self.last_line != line, end.broken, records[-1][0]):
            self._broken += len(records)
            return False
        self._broken += torn
        row = -1
        for keys, values in records:
            row = -1
            if len(set(keys)) < len(keys):
                self._broken += 1
                continue
            row = self.rows.n_rows
            self.n_values += len(keys) - 1
            if closed and keys is records[-1][0]:  # of the others the last pair was left out
                self._shapes.add(keys, self.rows.n_rows)
            self.rows.add_numbers(keys, values)
        if closed:
            self._add_end(line, row, end)
        return True

    def _add_end(self, line: bytes, row: int, end: _End) -> None:
        # What Ray or rich set behind the last number shows that it is whole.
        as_read = self.last_line == line and displayed(line.rstrip()) <= len(plain(line))
        offset = end.offset if as_read else -1
        lengths = len(self.last_line), displayed(self.last_line)
        self._ends.add(row, end.key, *lengths, offset, end.broken, goes_on(self.below, end.broken))

    def _is_mixed(
        self, torn: bool, several: bool, is_joined: bool, broken: bool, keys: tuple[str, ...]
    ) -> bool:
        """Whether two processes wrote at once, so that it cannot be told what belongs to whom.

        The rest of one record then stands below: a second newline at least, where one began inside the other.
        """
        if torn or several:
            return is_joined or (is_rest(self.below) if torn else bool(keys_of_rest(self.below)))
        below = keys_of_rest(self.below)
        return not set(below).isdisjoint(keys) or (
            not broken and len(below) == 1 and keys[-1].endswith(below[0])
        )

    @property
    def n_lost(self) -> int:
        """Record lines that were cut or torn."""
        return self._broken + self._ends.cut().lines

    @property
    def wrapped_at(self) -> int:
        """The width at which record lines were broken, 0 if they were not."""
        return self._ends.wrapped_at()

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows as logged, without numbers at a cut and without records that are not whole."""
        rows, found = self.rows.frame(), self._ends.cut()
        short = self._shapes.cut_short()
        for row, key in (*found.numbers, *short):
            rows.loc[row, key] = np.nan
        whole = are_whole(rows)
        self._broken += int((~whole).sum()) + len(set(short) - set(found.numbers))
        return rows[whole].reset_index(drop=True), "verl-console", "verl", found.findings()

    def findings(self, chosen: bool) -> list[Finding]:
        """Values that are not numbers, and records that were not used."""
        found = []
        if self.unread:
            found.append(
                Finding(
                    "values-unread",
                    "info",
                    f"{self.unread} values in metric lines are not numbers and were left out",
                    "several processes write to this log at once, or it is damaged",
                    value=float(self.unread),
                )
            )
        if chosen and self._broken:
            found.append(broken_records(self._broken))
        return found
