"""Jupyter notebooks: the console log is in the stream outputs of a cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing.text import LineBlocks, ReadNotes, head_bytes, read_all, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.sources.console import ConsoleParser


def sniff(head: Head) -> bool:
    """A JSON object with cells (nbformat 4); the key may come after the first bytes; then the file name decides."""
    start = head_bytes(head).lstrip()
    if not start.startswith(b"{"):
        return False
    if b'"cells"' in start and (b'"cell_type"' in start or b'"nbformat"' in start):
        return True
    return head.path.name.endswith(".ipynb")


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the run whose log is in the notebook's outputs, in the order of the cells.

    Raises
    ------
    UnreadableSource
        Not a notebook, or no metric line in its outputs.
    """
    notes = ReadNotes()
    cells = _cells(path, read_all(path, notes))
    parser = ConsoleParser(options)
    used = []
    for number, outputs in cells:
        before = parser.n_records
        _feed_cell(parser, outputs, notes)
        if parser.n_records > before:
            used.append({"cell": number, "records": parser.n_records - before})
    return [parser.run(path, notes, run_name(path), {"notebook_cells": used})]


def _cells(path: Path, data: bytes) -> list[tuple[int, list[Any]]]:
    try:
        notebook = json.loads(data.decode("utf-8", errors="replace"))
        cells = notebook["cells"]
        return [
            (i, cell["outputs"])
            for i, cell in enumerate(cells)
            if isinstance(cell, dict) and isinstance(cell.get("outputs"), list)
        ]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UnreadableSource(
            "not a notebook of format 4",
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:200],
            hint="save the notebook again, or save the cell's output as text and read that",
        ) from error


def _feed_cell(parser: ConsoleParser, outputs: list[Any], notes: ReadNotes) -> None:
    """Feed a cell's streams in order; a line may go on in a later output of the same stream."""
    unfinished: dict[str, LineBlocks] = {}
    for name, text in _streams(outputs):
        blocks = unfinished.setdefault(name, LineBlocks(notes))
        parser.feed(blocks.feed(text.encode("utf-8", errors="replace")))
    for blocks in unfinished.values():
        # The cell's output may stop inside a line when the kernel was interrupted.
        parser.feed(blocks.rest(), closed=False)
        parser.end_line()


def _streams(outputs: list[Any]) -> Iterator[tuple[str, str]]:
    for output in outputs:
        if not isinstance(output, dict) or output.get("output_type") != "stream":
            continue
        text = output.get("text")
        if isinstance(text, list):
            text = "".join(part for part in text if isinstance(part, str))
        if isinstance(text, str):
            yield str(output.get("name", "stdout")), text.replace("\0", "")


SOURCE = Source(
    "notebook",
    order=70,
    sniff=sniff,
    read=read,
    reference="https://nbformat.readthedocs.io",
)
