"""Lines as a terminal or a logger broke them: which belong together, and how.

A *record line* begins a record; the lines below it may go on with it. What may be joined without a guess is joined: a
piece that begins or ends with the separator, lines broken at one constant width.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from entlaw.findings import Finding
from entlaw.runs.parsing.text import strip_ansi

MOST_LINES = 4000  # that one record is looked for in
# Ray says behind a line how many workers printed it.
_REPEATED = re.compile(r"(?<!\s)\s*\[repeated \d+x across cluster\].*$")
# rich prints the place of the call in a column of its own, at the right edge.
_CALLER = re.compile(r"(?<!\s)\s+[\w./-]+\.py:\d+\s*$")
_LONGEST_CALLER = 200
_LONGEST_STYLED = 1000  # bytes, with the colours and the link that rich gives it on a terminal
_LABEL = (
    r"(?:\s*\([\w:.-]+ (?:pid|ip)=[^)]*\) ?"  # Ray: (TaskRunner pid=71)
    r"|\s*\[?(?:rank|default)?\d+\]?: ?"  # srun -l, torchrun: 0: [rank0]:
    r"|\[\d+,\d+\]<std(?:out|err)>:"  # mpirun
    r"|\S+ std(?:out|err) [FP] )"  # container runtimes
)
_LABELS = re.compile(_LABEL + "*")
_LABEL_BEHIND = re.compile(rf"(?<=\s){_LABEL}+\s*$")


def plain(line: bytes) -> str:
    """A line as text, without terminal control sequences and what Ray or rich set behind it."""
    text = strip_ansi(line).decode("utf-8", errors="replace")
    if text.endswith(")") or "[repeated " in text:
        text = _REPEATED.sub("", text)
    found = _CALLER.search(text, max(len(text) - _LONGEST_CALLER, 0)) if ".py:" in text[-80:] else None
    return text[: found.start()] if found else text


def without_caller(line: bytes) -> bytes:
    """A physical line without the place of the call at its right edge, and so as it ends in the record.

    rich prints the place on the first line of a message, in front of what it wraps to the next.
    """
    if b".py" not in line[-_LONGEST_STYLED:]:
        return line
    line = strip_ansi(line)
    text = line.decode("utf-8", errors="surrogateescape")
    found = _CALLER.search(text, max(len(text) - _LONGEST_CALLER, 0))
    return text[: found.start()].encode("utf-8", errors="surrogateescape") if found else line


def unlabelled(text: str) -> str:
    """A line without the labels that launchers set in front of every line of a process."""
    found = _LABELS.match(text)
    return text[found.end() :] if found else text


def without_label(text: str) -> str:
    """The end of a line without the label of the line that follows in it."""
    return _LABEL_BEHIND.sub("", text)


def label_of(text: str) -> str:
    """The label of a line's process, empty without one."""
    found = _LABELS.match(text)
    return found.group() if found else ""


class Unwrapped:
    """Puts together lines that were broken at a constant width.

    Parameters
    ----------
    width : int
        Characters of a broken line.
    begins : callable
        Whether a line begins a record, so that it continues none.
    """

    def __init__(self, width: int, begins: Callable[[bytes], bool]) -> None:
        self._width, self._begins = width, begins
        self._open = b""
        self.joined = 0

    def __call__(self, block: bytes) -> bytes:
        """A block of whole lines, as they were before they were broken."""
        out = []
        for line in block.splitlines(keepends=True):
            body = line.rstrip(b"\r\n")
            if self._open and self._begins(body) and not ends_before_step(self._open):
                out += [self._open, b"\n"]
                self._open = b""
            wide = displayed(body) == self._width and len(self._open) < 1 << 20
            if self._open:
                self.joined += 1
                body = _added(self._open, body)
                line = body + b"\n"
            if wide:
                self._open += without_caller(body)
            else:
                out += [self._open, line]
                self._open = b""
        return b"".join(out)

    def findings(self) -> list[Finding]:
        """What to say of lines that were put together."""
        what = f"{self.joined} pieces of lines that were broken at {self._width} characters were put together"
        why = "a terminal wrapped the lines; numbers that stood across a break are read whole"
        return [Finding("lines-joined", "info", what, why, value=float(self.joined))] if self.joined else []

    def rest(self) -> bytes:
        """The last line, if it may go on."""
        left, self._open = self._open, b""
        return left


def _added(line: bytes, following: bytes) -> bytes:
    """What a broken-off piece adds: without its indentation, and with the blank of a separator that was dropped."""
    bare = following.lstrip()
    separated = line.endswith(b" -") or bare.startswith(b"- ") or bare.rstrip() == b"-"
    if separated or len(following) - len(bare) > 1:
        return b" " * separated + bare
    return following


def ends_before_step(line: bytes) -> bool:
    """Whether a line was broken inside ``global_step:4`` or the like, so that a ``step:`` below begins no record."""
    return line.endswith((b"global_", b"timing_s/"))


def displayed(line: bytes) -> int:
    """Characters of a line that a terminal shows."""
    line = strip_ansi(line)
    return len(line) if line.isascii() else len(line.decode("utf-8", errors="replace"))
