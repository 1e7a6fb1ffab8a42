"""Jupyter notebooks: the log is in the outputs of a cell, as printed text or as an HTML table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.parsing.html_tables import Page, StepTables
from entlaw.runs.parsing.text import LineBlocks, ReadNotes, head_bytes, read_all, run_name
from entlaw.runs.run import Provenance, RawRun
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
    found = Outputs(options, notes)
    used = []
    for number, outputs in cells:
        before = found.n_records
        _feed_cell(found, outputs, notes)
        if found.n_records > before:
            used.append({"cell": number, "records": found.n_records - before})
    return [found.run(path, {"notebook_cells": used})]


class Outputs:
    """Printed text and tables of cells or of a page: the run is in the one that holds more numbers."""

    def __init__(self, options: ReadOptions, notes: ReadNotes) -> None:
        self.parser = ConsoleParser(options)
        self._tables = StepTables()
        self._notes = notes

    @property
    def n_records(self) -> int:
        """Records so far."""
        return self.parser.n_records + self._tables.rows.n_rows

    def add_page(self, text: str) -> None:
        """Take the tables and the printed text of HTML."""
        page = Page(text)
        for table in page.tables:
            self._tables.add(table)
        for printed in page.printed:
            self.parser.feed(printed.encode("utf-8", errors="replace") + b"\n")
            self.parser.end_line()

    def run(self, path: Path, details: Mapping[str, Any] | None = None) -> RawRun:
        """What was found, as one run.

        Raises
        ------
        UnreadableSource
            No record.
        """
        tables = self._tables
        if tables.n_values <= self.parser.n_values:
            return self.parser.run(path, self._notes, run_name(path), details)
        findings = self._notes.findings()
        if tables.elided:
            what = f"a table leaves {tables.elided} rows out (...); the steps there are missing"
            hint = "read the file that the trainer wrote, or show all rows (pandas.options.display.max_rows)"
            findings.append(Finding("rows-elided", "warning", what, "", hint, float(tables.elided)))
        if self.parser.n_records:
            what = f"{self.parser.n_records} printed records were not read as records of this run"
            findings.append(Finding("other-records", "info", what))
        told = {"bytes": self._notes.bytes_read, "records": tables.rows.n_rows, **(details or {})}
        provenance = Provenance(str(path), "html-table", "unknown", told)
        return RawRun(run_name(path), tables.rows.frame(), {}, provenance, tuple(findings))


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


def _feed_cell(found: Outputs, outputs: list[Any], notes: ReadNotes) -> None:
    """Feed a cell's outputs in order; a line may go on in a later output of the same stream."""
    parser = found.parser
    unfinished: dict[str, LineBlocks] = {}
    for name, text in _streams(outputs):
        blocks = unfinished.setdefault(name, LineBlocks(notes))
        parser.feed(blocks.feed(text.encode("utf-8", errors="replace")))
    for blocks in unfinished.values():
        # The cell's output may stop inside a line when the kernel was interrupted.
        parser.feed(blocks.rest(), closed=False)
        parser.end_line()

    for output in outputs:
        page = _text(output.get("data", {}).get("text/html")) if _is_shown(output) else ""
        if page:
            found.add_page(page)


def _streams(outputs: list[Any]) -> Iterator[tuple[str, str]]:
    """Printed text by stream; the value of a cell is text too, where it is not shown as a page."""
    for output in outputs:
        if not isinstance(output, dict):
            continue
        if output.get("output_type") == "stream":
            yield str(output.get("name", "stdout")), _text(output.get("text"))
        elif _is_shown(output) and "text/html" not in output["data"]:
            yield "result", _text(output["data"].get("text/plain")) + "\n"


def _is_shown(output: Any) -> bool:
    return isinstance(output, dict) and isinstance(output.get("data"), dict)


def _text(text: Any) -> str:
    if isinstance(text, list):
        text = "".join(part for part in text if isinstance(part, str))
    return text.replace("\0", "") if isinstance(text, str) else ""


SOURCE = Source(
    "notebook",
    order=70,
    sniff=sniff,
    read=read,
    reference="https://nbformat.readthedocs.io",
)
