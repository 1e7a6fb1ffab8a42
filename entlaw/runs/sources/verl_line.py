"""verl's console line: ``step:4 - actor/entropy:0.410 - critic/score/mean:0.094``, behind any prefix."""

from __future__ import annotations

import re

from entlaw.runs.table import parse_number

# Not the tail of another key: `training/global_step:4` and `timing_s/step:4` are values of a record.
_START = re.compile(r"(?<![A-Za-z_/])step:[ ]?(\d{1,15})\s+-\s")
# A value printed as a call, whose arguments may hold a colon: loss:tensor(0.5, device='cuda:0')
_CALLED = re.compile(r"(.*?):\s*((?:\w+\.)*[A-Za-z]\w*\(.*\))")


def is_verl(line: str) -> bool:
    """Whether a line has the beginning of a record."""
    return _START.search(line) is not None


def verl_records(line: str, closed: bool = True) -> tuple[list[dict[str, float]], int]:
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
    records : list of dict
        Key ``step`` and the pairs as logged.
    unread : int
        Pairs whose value is not a number.
    """
    records, unread = [], 0
    starts = list(_START.finditer(line))
    for i, start in enumerate(starts):
        last = i + 1 == len(starts)
        body = line[start.end() : len(line) if last else starts[i + 1].start()]
        pieces = body.split(" - ")
        if last and not closed:
            pieces.pop()
        record, bad = _pairs(pieces)
        if record:
            records.append({"step": float(start.group(1)), **record})
            unread += bad
    return records, unread


def _pairs(pieces: list[str]) -> tuple[dict[str, float], int]:
    record: dict[str, float] = {}
    unread, open_key = 0, ""
    for piece in pieces:
        key, colon, text = piece.rpartition(":")
        if not colon:  # a key with " - " in it
            open_key += piece + " - "
            continue
        try:
            value: float | None = float(text) if "_" not in text else None
        except ValueError:
            value = None
        if value is None:
            key, value = _unusual(piece, key, text)
        key = (open_key + key).strip()
        open_key = ""
        # Prose after "step:1 - " is not a key; a data set's name with a space in it is.
        if value is None or not key or ("/" not in key and " " in key):
            unread += 1
        else:
            record[key] = value
    return record, unread


def _unusual(piece: str, key: str, text: str) -> tuple[str, float | None]:
    called = _CALLED.fullmatch(piece.strip())
    return (called.group(1), parse_number(called.group(2))) if called else (key, parse_number(text))
