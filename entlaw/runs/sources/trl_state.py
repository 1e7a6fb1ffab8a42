"""One JSON document: ``trainer_state.json`` of the Hugging Face trainers, lists of records, columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.parsing.records import RecordSink
from entlaw.runs.parsing.text import ReadNotes, head_bytes, no_records, read_all, run_name
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.sources import jsonl
from entlaw.runs.table import count_numbers, flatten

_LARGEST = 1 << 30
_HISTORIES = ("log_history", "history", "metrics", "logs", "records", "rows", "data", "steps")
_LIST_OF_RECORDS = re.compile(rb'\[\s*\{\s*(?:"|\})')
_OBJECT = re.compile(rb'\{\s*(?:"|\})')
_SOME_HISTORY = re.compile(r'":\s*\[(?=\s*\{\s*")')
_HISTORY = re.compile(r'"log_history"\s*:\s*\[')


def sniff(head: Head) -> bool | int:
    """Numbers in the head of one JSON document: a list of objects, or an object that is not one of many lines."""
    start = head_bytes(head).lstrip()
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
        is_document = is_list or opens or '"log_history"' in text
        return max(_count(_whole_records(text)), 1) if is_document else False
    if text[end:].strip():
        return False
    return (
        _count([r for records in _histories(value).values() for r in records]) if _histories(value) else False
    )


def _count(records: list[Any]) -> int:
    return sum(count_numbers(record) for record in records if isinstance(record, Mapping))


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
    text = read_all(path, _LARGEST, notes).decode("utf-8-sig", errors="replace")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UnreadableSource("nested too deeply", where=str(path), hint="not a run log") from error
    except ValueError as error:
        if str(error).startswith("Extra data"):
            return jsonl.read(path, options)
        return _salvaged(path, text, str(error), notes)
    found = _histories(value)
    sink_runs = [run for name, records in found.items() for run in _runs(path, name, records, value, notes)]
    if not sink_runs:
        raise no_records(
            path,
            "looked for log_history, a list of records, or columns of equal length",
            "point at trainer_state.json or at a list of records",
            notes,
        )
    return sink_runs


def _runs(path: Path, name: str, records: list[Any], value: Any, notes: ReadNotes) -> list[RawRun]:
    sink = RecordSink(path)
    bad = 0
    for record in records:
        if isinstance(record, Mapping):
            sink.add(record)
        else:
            bad += 1
    state = isinstance(value, Mapping) and "log_history" in value
    config = _config(value) if isinstance(value, Mapping) else {}
    findings = notes.findings()
    if bad:
        findings.append(
            Finding("records-unread", "warning", f"{bad} entries are not records and were left out")
        )
    own = run_name(path) if name in ("", *_HISTORIES) else name
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


def _histories(value: Any) -> dict[str, list[Any]]:
    """Lists of records by the name of the run (empty: the file's)."""
    if isinstance(value, list):
        return {"": value}
    if not isinstance(value, Mapping):
        return {}
    for name in _HISTORIES:
        if _is_records(value.get(name)):
            return {name: value[name]}
        if isinstance(value.get(name), Mapping) and _columns(value[name]):
            return {name: _columns(value[name])}
    lists = {str(k): v for k, v in value.items() if _is_records(v)}
    if lists:
        return lists
    columns = _columns(value)
    if columns:
        return {"": columns}
    nested = {str(k): _columns(v) for k, v in value.items() if isinstance(v, Mapping)}
    return {k: v for k, v in nested.items() if v}


def _is_records(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and sum(isinstance(v, Mapping) for v in value) * 2 > len(value)
    )


def _is_index(value: Mapping[str, Any]) -> bool:
    """Whether the keys are a row index 0, 1, ... (pandas' ``to_json``)."""
    return len(value) > 0 and all(str(k).isdigit() for k in value)


def _columns(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records from ``{"step": [...], "entropy": [...]}``; columns of another length are not of this table."""
    columns = {}
    for key, column in value.items():
        if isinstance(column, Mapping) and _is_index(column):
            column = list(column.values())
        if isinstance(column, list) and column and not isinstance(column[0], (list, Mapping)):
            columns[str(key)] = column
    if len(columns) < 2:
        return []
    lengths = [len(c) for c in columns.values()]
    length = len(columns["step"]) if "step" in columns else max(set(lengths), key=lengths.count)
    kept = {k: c for k, c in columns.items() if len(c) == length}
    return [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)]


def _whole_records(text: str) -> list[Any]:
    """The records of a document that is cut or broken, up to there."""
    is_list = text.lstrip().startswith("[")
    opening = _HISTORY.search(text) or (None if is_list else _SOME_HISTORY.search(text))
    position = opening.end() if opening else (text.index("[") + 1 if is_list else -1)
    records: list[Any] = []
    decoder = json.JSONDecoder()
    while position >= 0:
        try:
            while text[position : position + 1] in set(" \t\r\n,"):
                position += 1
            record, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        records.append(record)
    return records


def _salvaged(path: Path, text: str, problem: str, notes: ReadNotes) -> list[RawRun]:
    """The records before the damage, when the document is cut or broken."""
    records = _whole_records(text)
    state: dict[str, Any] | None = {"log_history": []} if _HISTORY.search(text) else None
    runs = _runs(path, "", records, state, notes) if records else []
    if not runs:
        raise UnreadableSource(
            "not valid JSON", where=str(path), why=problem, hint="the file is cut or damaged: copy it again"
        )
    told = Finding(
        "truncated-tail",
        "warning",
        f"the JSON is cut or damaged after {len(records)} records; only those were read",
        problem,
        "copy the file again, or take the previous checkpoint's",
    )
    return [RawRun(r.name, r.rows, r.config, r.provenance, (*r.findings, told)) for r in runs]


SOURCE = Source(
    "trainer-state",
    order=80,
    sniff=sniff,
    read=read,
    reference="trainer_state.json of transformers.TrainerState; JSON lists of records",
    files=r"trainer_state\.json",
)
