"""Dictionaries printed over several lines, by pprint or as indented JSON: which lines go on with which."""

from __future__ import annotations

import re

from entlaw.runs.parsing.physical import plain, unlabelled

_LONGEST = 1 << 17  # bytes; a longer one is a dump of something else
_MOST_TRIES = 5000
_BEFORE = 200  # characters in front of the brace
_MARK = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[{}\[\]()]""")
_OPENING = re.compile(r"""\{\s*(?:['"]|$)""")
# A pair, a value, what ends in a comma or closes a bracket.
_TEXT = r"""(?:'[^'\\\r\n]*'|"[^"\\\r\n]*")"""
_CONTINUED = re.compile(rf"\s+{_TEXT}\s*:.*|\s+(?:{_TEXT}|[-+.\w]+)|\s+[^\r\n]*[,\])}}]|\s*[}}\])]+,?")


def _depth(text: str) -> int:
    """Brackets that a text opens and does not close."""
    marks = _MARK.findall(text)
    return sum((mark in "{[(") - (mark in "}])") for mark in marks)


class OpenDictionary:
    """Follows the dictionary that a line opens and does not close."""

    def __init__(self) -> None:
        self._size = self._depth = 0  # bytes so far, and the brackets open behind them
        self._tries = 0

    def opens(self, line: bytes, n_records: int) -> bool:
        """Whether a line ends inside a dictionary, at a place where printers break the line.

        Code has many such lines: where nearly none came to one of ``n_records`` records, they are not looked at.
        """
        self._size, self._depth = len(line), 0
        end = line.rstrip()[-1:]
        if end not in (b"{", b",") or len(line) > _LONGEST or self._tries > _MOST_TRIES + 50 * n_records:
            return False
        self._tries += 1
        text = plain(line)
        found = _OPENING.search(text, 0, _BEFORE)
        if found is not None:
            self._depth = _depth(text[found.start() :])
        return self._depth > 0

    def goes_on(self, line: bytes, below: bytes) -> bytes | None:
        """What the line below the last one adds to the dictionary; None if it adds nothing."""
        if self._depth <= 0 or self._size > _LONGEST:
            return None
        text = unlabelled(plain(below))
        if not _CONTINUED.fullmatch(text.rstrip()):
            return None
        piece = text.strip()
        added = (b"" if line.rstrip().endswith(b"{") else b" ") + piece.encode()
        self._size += len(added)
        self._depth += _depth(piece)
        return added
