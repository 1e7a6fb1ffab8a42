"""One JSON document: ``trainer_state.json`` of the Hugging Face trainers, lists of records, columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.bounds import check_runs
from entlaw.runs.parsing.documents import HISTORIES, KeyedRecords, histories
from entlaw.runs.parsing.json_pieces import values_in, whole_part
from entlaw.runs.parsing.records import RecordSink
from entlaw.runs.parsing.text import ReadNotes, head_bytes, head_lines, no_records, read_all, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source, unread
from entlaw.runs.table import count_numbers, flatten

_BLANK = b" \t\r\n\x1e"  # a JSON text sequence has the last one in front of each value
_LIST_OF_RECORDS = re.compile(rb'\[\s*\{\s*(?:"|\})')
_OBJECT = re.compile(rb'\{\s*(?:"|\})')


def sniff(head: Head) -> bool | int:
    """Numbers in the head of one JSON document, or of several one after another; not one object a line."""
    start = head_bytes(head).lstrip(_BLANK)
    is_list = _LIST_OF_RECORDS.match(start) is not None
    if not is_list and not _OBJECT.match(start):
        return False
    text = start.decode("utf-8", errors="replace")
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        # Longer than the head, or damaged: an indented document opens on its first line and does not close there.
        first = text.split("\n", 1)[0].rstrip()
        opens = first[-1:] in "{[," or (first == text.rstrip() and _opens_section(first))
        return _count(whole_part(text)) if is_list or opens or '"log_history"' in text else False
    rest = text[end:].lstrip()
    if rest:
        # Objects written one after another over many lines, or all on one line.
        spans = "\n" in text[:end].strip() or "\n" not in text[end : len(text) - len(rest)]
        seen = head_lines(head)
        if not (spans or is_list) or 2 * sum(map(_is_object, seen)) > len(seen):
            return False
        return _count(_in_a_row(values_in(text)[0]))
    return _count(value) if histories(value) else False


def _count(value: Any) -> int:
    found = histories(value).values()
    return sum(
        count_numbers(record) for records in found for record in records if isinstance(record, Mapping)
    )


def _in_a_row(values: list[Any]) -> list[Any]:
    """Values written one after another as one list."""
    return [v for value in values for v in (value if isinstance(value, list) else [value])]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _opens_section(line: str) -> bool:
    return re.match(r'\{\s*"[^"]*"\s*:\s*[\[{]', line) is not None


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a document.

    Raises
    ------
    UnreadableSource
        Not JSON, or no records in it.
    """
    notes = ReadNotes()
    text = read_all(path, notes).decode("utf-8-sig", errors="replace")
    value, findings = _parsed(path, text)
    found = histories(value)
    check_runs(len(found), "tables in the document", "keep the runs that you mean", path)
    runs = [
        run for name, records in found.items() for run in _runs(path, name, records, value, notes, findings)
    ]
    if not runs:
        raise no_records(
            path,
            "looked for log_history, a list of records, columns of equal length, objects by step, series by metric",
            "point at trainer_state.json or at a list of records",
            notes,
        )
    return runs


def _parsed(path: Path, text: str) -> tuple[Any, list[Finding]]:
    """The document; several one after another are a list; of a damaged one, what is whole."""
    try:
        return json.loads(text), []
    except RecursionError as error:
        raise UnreadableSource("nested too deeply", where=str(path), hint="not a run log") from error
    except ValueError as error:
        problem = str(error)
    value = whole_part(text)
    values, bad = values_in(text) if value is None or _is_whole(text) else ([], 0)
    if len(values) > 1:
        found = unread(
            "records-unread", bad, "places are not JSON and were left out", "the file is cut or damaged"
        )
        return _in_a_row(values), found
    if not value:
        raise UnreadableSource(
            "not valid JSON", where=str(path), why=problem, hint="the file is cut or damaged: copy it again"
        )
    told = Finding(
        "truncated-tail",
        "warning",
        "the JSON is cut or damaged; only what is whole in front of the damage was read",
        problem,
        "copy the file again, or take the previous checkpoint's",
    )
    return value, [told]


def _is_whole(text: str) -> bool:
    """Whether the first value is whole, so that what follows it is another one."""
    try:
        json.JSONDecoder().raw_decode(text.lstrip(_BLANK.decode()))
    except (ValueError, RecursionError):
        return False
    return True


def _runs(
    path: Path, name: str, records: list[Any], value: Any, notes: ReadNotes, told: list[Finding]
) -> list[RawRun]:
    sink = RecordSink(path)
    bad = 0
    for record in records:
        if isinstance(record, Mapping):
            sink.add(record)
        else:
            bad += 1
    state = isinstance(value, Mapping) and "log_history" in value
    config = _config(value) if isinstance(value, Mapping) else {}
    findings = [*notes.findings(), *told]
    if bad:
        findings.append(
            Finding("records-unread", "warning", f"{bad} entries are not records and were left out")
        )
    if isinstance(records, KeyedRecords):
        findings.append(
            Finding(
                "step-from-keys", "info", "the records stand under their step, which was taken from there"
            )
        )
    own = run_name(path) if name in ("", *HISTORIES) else name
    return sink.runs(
        own,
        "trainer-state" if state else "json",
        "trl" if state else "unknown",
        config,
        tuple(findings),
        {"bytes": notes.bytes_read, "records": len(records)},
    )


def _config(value: Mapping[str, Any]) -> dict[str, Any]:
    sections = {k: v for k, v in value.items() if isinstance(v, (str, int, float, bool)) or v is None}
    for name in ("config", "args", "hparams", "trial_params"):
        if isinstance(value.get(name), Mapping):
            sections.update(flatten(value[name]))
    return sections


SOURCE = Source(
    "trainer-state",
    order=80,
    sniff=sniff,
    read=read,
    reference="trainer_state.json of transformers.TrainerState; JSON lists of records",
    files=r"trainer_state\.json",
)
