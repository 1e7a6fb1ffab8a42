"""Lines as a terminal, a logger or a container runtime broke them: which belong together, and how.

A *record line* begins a record; the lines below it may go on with it. What may be joined without a guess is joined: a
piece that begins or ends with the separator, lines broken at one constant width, parts that the runtime itself marks.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from entlaw.runs.parsing.text import strip_ansi

MOST_LINES = 4000  # that one record is looked for in
# Ray says behind a line how many workers printed it.
_REPEATED = re.compile(r"(?<!\s)\s*\[repeated \d+x across cluster\].*$")
# rich prints the place of the call in a column of its own, at the right edge.
_CALLER = re.compile(r"(?<!\s)\s+[\w./-]+\.py:\d+\s*$")
_LABEL = (
    r"(?:\s*\([\w:.-]+ (?:pid|ip)=[^)]*\) ?"  # Ray: (TaskRunner pid=71)
    r"|\s*\[?(?:rank|default)?\d+\]?: ?"  # srun -l, torchrun: 0: [rank0]:
    r"|\[\d+,\d+\]<std(?:out|err)>:"  # mpirun
    r"|\S+ std(?:out|err) [FP] )"  # container runtimes
)
_LABELS = re.compile(_LABEL + "*")
_CRI = re.compile(rb"(?m)^(\d{4}-\d\d-\d\dT\S+) (stdout|stderr) ([FP])(?: |$)(.*)$")
_CRI_NEEDLE = re.compile(rb" std(?:out|err) P ")


def plain(line: bytes) -> str:
    """A line as text, without terminal control sequences and what Ray or rich set behind it."""
    text = strip_ansi(line).decode("utf-8", errors="replace")
    if text.endswith(")") or "[repeated " in text:
        text = _REPEATED.sub("", text)
    return _CALLER.sub("", text) if ".py:" in text[-80:] else text


def unlabelled(text: str) -> str:
    """A line without the labels that launchers set in front of every line of a process."""
    found = _LABELS.match(text)
    return text[found.end() :] if found else text


def label_of(text: str) -> str:
    """The label of a line's process, empty without one."""
    found = _LABELS.match(text)
    return found.group() if found else ""


class ContainerLines:
    """Puts together the parts of lines that a container runtime cut (``P``) and ended (``F``)."""

    def __init__(self) -> None:
        self._parts: dict[bytes, bytes] = {}
        self.joined = 0

    def __call__(self, block: bytes) -> bytes:
        """A block of whole lines with each cut line in one piece, where its end stands."""
        if not self._parts and not _CRI_NEEDLE.search(block):
            return block
        return _CRI.sub(self._part, block).replace(b"\x00\n", b"").replace(b"\x00", b"")

    def _part(self, found: re.Match[bytes]) -> bytes:
        time, stream, flag, content = found.groups()
        whole = self._parts.pop(stream, b"") + content.rstrip(b"\r")
        if flag == b"F":
            return b" ".join((time, stream, flag, whole))
        self._parts[stream] = whole
        self.joined += 1
        return b"\x00"  # readers drop NUL bytes before: this one marks a line that is to go

    def rest(self) -> bytes:
        """Parts whose end never came."""
        left, self._parts = b"\n".join(self._parts.values()), {}
        return left


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
            if self._open and self._begins(body):
                out += [self._open, b"\n"]
                self._open = b""
            elif self._open:
                self.joined += 1
            if displayed(body) == self._width and len(self._open) < 1 << 20:
                self._open += body
            else:
                out += [self._open, line]
                self._open = b""
        return b"".join(out)

    def rest(self) -> bytes:
        """The last line, if it may go on."""
        left, self._open = self._open, b""
        return left


def displayed(line: bytes) -> int:
    """Characters of a line that a terminal shows."""
    line = strip_ansi(line)
    return len(line) if line.isascii() else len(line.decode("utf-8", errors="replace"))
