"""JSON lines: verl's file logger, tinker-cookbook, our own trainer, and anything with one object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from entlaw.runs.parsing.records import RecordSink
from entlaw.runs.parsing.text import (
    ReadNotes,
    head_bytes,
    head_is_whole,
    head_lines,
    lines,
    no_records,
    run_name,
    sibling_config,
)
from entlaw.runs.parsing.whole import WholeRecords, made_of_two
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source, cut_line, unread
from entlaw.runs.table import count_numbers

_SIBLINGS = ("config.json", "run.json")


def sniff(head: Head) -> bool | int:
    """Numbers in the head, most lines of which are JSON objects, each whole in its line."""
    if head_bytes(head).lstrip()[:1] != b"{":
        return False
    seen = head_lines(head, None)
    if len(seen) == 1 and not head_is_whole(head):
        return True  # one line longer than the head; a document over many lines was recognised before
    records = [record for line in seen if (record := _parse(line.encode())) is not None]
    # A file whose last line is being written, or the first lines of which are damaged, is JSON lines still.
    if not records or 2 * len(records) < len(seen):
        return False
    return sum(map(count_numbers, records))


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a file, streamed.

    Raises
    ------
    UnreadableSource
        No line holds a number.
    """
    notes = ReadNotes()
    sink = RecordSink(path)
    shapes = WholeRecords()
    bad = count = torn = 0
    cut = False
    for line, closed in lines(path, notes):
        text = line.strip()
        if not text:
            continue
        count += 1
        record = _parse(text)
        if record is not None:
            shapes.learn(record)
            sink.add(record)
            continue
        inside = shapes.find(text.decode())
        for one in inside:
            sink.add(one)
        if inside:
            torn += 1
        elif closed:
            bad += 1
        else:
            cut = True
    if sink.n_rows == 0:
        raise no_records(
            path,
            f"{count} lines, {bad + cut} of them not JSON objects, none with a number",
            "point at the file with one JSON object a step",
            notes,
        )
    details = {"bytes": notes.bytes_read, "lines": count, "lines_unread": bad + cut}
    config = sibling_config(path, _SIBLINGS) if _owns_folder(path) else {}
    verl = sink.wrapped > 0
    findings = notes.findings() + unread(
        "lines-unread",
        bad,
        "lines are not JSON objects and were left out",
        "a crash while writing, or two processes that write to one file",
    )
    findings += made_of_two(torn, "lines with more than one record, of which the whole ones were read")
    if cut:
        findings.append(cut_line("the last line is incomplete and was left out"))
    return sink.runs(
        run_name(path),
        "verl-jsonl" if verl else "jsonl",
        "verl" if verl else "unknown",
        config,
        tuple(findings),
        details,
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # undecodable bytes and endless integers are ValueErrors too
        return None
    return record if isinstance(record, dict) else None


def _owns_folder(path: Path) -> bool:
    """Whether a configuration beside the file is this run's: not when several logs share the folder."""
    if path.name.startswith("metrics."):
        return True
    logs: set[str] = set()
    with os.scandir(path.parent) as entries:
        for entry in entries:
            name = entry.name.removesuffix(".gz")
            if name.endswith(".jsonl"):
                logs.add(name)
            if len(logs) > 1:  # which a folder of thousands of logs shows at once
                return False
    return True


SOURCE = Source(
    "jsonl",
    order=90,
    sniff=sniff,
    read=read,
    reference="https://jsonlines.org; written by verl's file logger, tinker-cookbook, entlaw",
    files=r"metrics\.jsonl(\.gz)?",
)
