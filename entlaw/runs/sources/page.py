"""Saved HTML pages: tables of steps, and logs printed on the page (an exported notebook, a report)."""

from __future__ import annotations

import re
from pathlib import Path

from entlaw.runs.parsing.text import ReadNotes, head_bytes, read_all
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.sources.notebook import Outputs

_PAGE = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_PIECE = re.compile(rb"\s*<(?:table|div|style|section|p|h\d)\b", re.IGNORECASE)


def sniff(head: Head) -> bool:
    """Whether the file begins like a page, or like a piece of one with a table in it."""
    start = head_bytes(head)
    return bool(_PAGE.match(start)) or (bool(_PIECE.match(start)) and b"<t" in start.lower())


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the run of a page.

    Raises
    ------
    UnreadableSource
        Neither a table of steps nor a printed log.
    """
    notes = ReadNotes()
    found = Outputs(options, notes)
    found.add_page(read_all(path, notes).decode("utf-8", errors="replace"))
    return [found.run(path)]


SOURCE = Source(
    "page",
    order=58,
    sniff=sniff,
    read=read,
    reference="HTML: exported notebooks, progress tables, saved pages",
)
