"""W&B run files (``run-<id>.wandb``), offline and online ones, read without the SDK.

The container is a LevelDB log (:mod:`.leveldb_log`), each record a protobuf message. Only history records are
decoded in bulk (:mod:`.wandb_history`); of the rest, the few that say what the run was are looked at: header,
run, config, metric definitions, exit. System metrics, console output and summaries are passed over.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.parsing import protobuf_wire as wire
from entlaw.runs.parsing.leveldb_log import LogReader
from entlaw.runs.parsing.wandb_history import HistoryColumns, resolve_steps, with_step
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import (
    Head,
    ReadOptions,
    Source,
    cannot_read,
    corrupt,
    cut_record,
    iso_time,
    undecodable,
)
from entlaw.runs.table import flatten

_IDENT = b":W&B"
_FILE_HEADER = b":W&B\xe1\xbe\x00"  # ident, magic 0xBEE1, version 0
_HISTORY, _CONFIG, _METRIC, _RUN, _EXIT, _HEADER = 2, 5, 12, 17, 18, 21  # fields of Record


@dataclass
class _Facts:
    """What the records other than history say about the run."""

    config: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # of the configuration, sorted
    step_of: dict[str, str] = field(default_factory=dict)  # key or glob -> step metric
    details: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    ended: bool = False
    n_bad: int = 0


def sniff(head: Head) -> bool:
    """Whether the file begins like a W&B run file."""
    return head.start.startswith(_IDENT)


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read the run of a ``.wandb`` file.

    A file that is still written, or whose writer was killed, is read as far as it goes; records in damaged
    blocks are left out and a finding says so.

    Parameters
    ----------
    path : pathlib.Path
    options : ReadOptions
        Not needed: nothing in the file depends on the choice of keys.

    Returns
    -------
    list of RawRun
        One run; with no rows, and the finding ``no-history`` first, if nothing was logged.

    Raises
    ------
    UnreadableSource
        Not a W&B file, or of a version this reader does not know.
    """
    try:
        with path.open("rb") as handle:
            _check_header(handle.read(len(_FILE_HEADER)), path)
            handle.seek(0)
            log = LogReader(handle, header_size=len(_FILE_HEADER))
            columns, facts = HistoryColumns(), _Facts()
            for data, sizes in log:
                _take(data, sizes, columns, facts)
    except OSError as error:
        raise cannot_read(error, path) from error
    rows = columns.frame()
    step_metric = resolve_steps([str(c) for c in rows.columns], facts.step_of)
    rows, axis = with_step(rows, step_metric)
    details = {
        **facts.details,
        "bytes": log.n_bytes,
        "records": log.n_records,
        "history_rows": columns.n_rows,
        "damaged_places": log.damaged,
        "incomplete_tail_bytes": log.tail_bytes,
        "step_axis": axis,
        "step_metric": step_metric,
    }
    findings = _findings(log, columns.n_rows, columns.n_bad + facts.n_bad, facts)
    return [
        RawRun(
            facts.name, rows, facts.config, Provenance(str(path), SOURCE.name, "unknown", details), findings
        )
    ]


def _check_header(start: bytes, path: Path) -> None:
    if start == _FILE_HEADER:
        return
    if not start.startswith(_IDENT):
        what, why = "not a W&B run file", f"it begins with {start[:4]!r}, not {_IDENT!r}"
    elif len(start) < len(_FILE_HEADER):
        what, why = "the W&B file ends inside its header", "nothing had been written to it yet"
    else:
        what, why = "a W&B file of an unknown version", f"header {start.hex()}, known is {_FILE_HEADER.hex()}"
    raise UnreadableSource(what, where=str(path), why=why, hint="point at run-<id>.wandb as the SDK wrote it")


def _take(data: bytes, sizes: list[int], columns: HistoryColumns, facts: _Facts) -> None:
    """Sort the records of one batch: history in bulk, the others one by one."""
    if not sizes:
        return
    buf = wire.padded(data)
    hi = np.cumsum(np.array(sizes, dtype=np.int64))
    layer = wire.walk(buf, hi - sizes, hi)
    facts.n_bad += int(layer.bad.sum())
    for number, reader in _READERS.items():
        for i in layer.pick(number).tolist():
            try:
                reader(data[layer.lo[i] : layer.hi[i]], facts)
            except (ValueError, RecursionError):  # ProtobufError and bad JSON are ValueErrors
                facts.n_bad += 1
    history = layer.pick(_HISTORY)
    columns.add(buf, layer.lo[history], layer.hi[history])


def _text(raw: int | bytes) -> str:
    return raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else str(raw)


def _message(raw: int | bytes) -> dict[int, int | bytes]:
    """The last value of each field of a message."""
    return {number: value for number, _, value in wire.fields(raw if isinstance(raw, bytes) else b"")}


def _read_header(raw: bytes, facts: _Facts) -> None:
    version = _message(_message(raw).get(1, b""))
    if version.get(1):
        facts.details["producer"] = _text(version[1])


def _read_run(raw: bytes, facts: _Facts) -> None:
    run = _message(raw)
    for number, name in ((1, "run_id"), (2, "entity"), (3, "project"), (6, "group"), (7, "job_type")):
        if run.get(number):
            facts.details[name] = _text(run[number])
    facts.name = _text(run.get(8) or run.get(1) or facts.name.encode())
    if 17 in run:
        start = _message(run[17])  # Timestamp: seconds, nanoseconds
        seconds = wire.signed(int(start.get(1, 0))) + int(start.get(2, 0)) / 1e9
        if started := iso_time(seconds):
            facts.details["started"] = started
    if 4 in run:
        _read_config(run[4] if isinstance(run[4], bytes) else b"", facts)


def _read_config(raw: bytes, facts: _Facts) -> None:
    """Apply one config record: updates, then removals."""
    updates: dict[str, Any] = {}
    removed: list[str] = []
    for number, _, item in wire.fields(raw):
        if number not in (1, 2):
            continue
        key, nested, text = "", [], b"null"
        for part, _, value in wire.fields(item if isinstance(item, bytes) else b""):
            if part == 1:
                key = _text(value)
            elif part == 2:
                nested.append(_text(value))
            elif part == 16 and isinstance(value, bytes):
                text = value
        name = ".".join(nested) if nested else key
        if number == 2:
            removed.append(name)
        elif name.split(".")[0] != "_wandb":  # the SDK's notes about itself
            updates[name] = json.loads(text)
    if updates and all(
        isinstance(v, dict) and {"value"} <= v.keys() <= {"value", "desc"} for v in updates.values()
    ):
        updates = {key: v["value"] for key, v in updates.items()}  # wrapped as in config.yaml
    for name in (*removed, *updates):
        _remove(name, facts)
    for key, value in flatten(updates):
        if key not in facts.config:
            insort(facts.keys, key)
        facts.config[key] = value


def _remove(name: str, facts: _Facts) -> None:
    """Take a setting out of the configuration, with all below it."""
    for first, behind in ((name, f"{name}\0"), (f"{name}.", f"{name}/")):  # "/" comes right after "."
        lo, hi = bisect_left(facts.keys, first), bisect_left(facts.keys, behind)
        for old in facts.keys[lo:hi]:
            del facts.config[old]
        del facts.keys[lo:hi]


def _read_metric(raw: bytes, facts: _Facts) -> None:
    metric = _message(raw)
    name, step = metric.get(1) or metric.get(2), metric.get(4)
    if name and step:
        facts.step_of[_text(name)] = _text(step)


def _read_exit(raw: bytes, facts: _Facts) -> None:
    facts.ended = True
    facts.details["exit_code"] = wire.signed(int(_message(raw).get(1, 0)))


_READERS = {
    _HEADER: _read_header,
    _RUN: _read_run,
    _CONFIG: _read_config,
    _METRIC: _read_metric,
    _EXIT: _read_exit,
}


def _findings(log: LogReader, n_rows: int, n_bad: int, facts: _Facts) -> tuple[Finding, ...]:
    out = []
    if n_rows == 0:
        out.append(
            Finding(
                "no-history",
                "warning",
                f"the W&B file holds no history: {log.n_records} records, none of them a logged metric",
                "without metrics there is nothing to fit",
                "look for another file of the same run (a resumed run has one folder per start), or the console log",
            )
        )
    if log.damaged or log.lost:
        what = f"{log.damaged} damaged places in the file; the records there were left out"
        hint = "copy the file again from where it was written, or pull the run from the server"
        out.append(corrupt("corrupt-blocks", log.damaged, what, hint))
    hint = "report the SDK version: " + str(facts.details.get("producer", "unknown"))
    out += undecodable(n_bad, "records or values", hint)
    out += cut_record(log.tail_bytes)
    if not facts.ended:
        out.append(
            Finding(
                "crashed-or-running",
                "info",
                "the file has no exit record",
                "the run is still going or was killed; up to 32 KiB of its last records may not be in the file",
            )
        )
    elif facts.details.get("exit_code"):
        out.append(
            Finding("ended-with-error", "info", f"the run ended with exit code {facts.details['exit_code']}")
        )
    return tuple(out)


SOURCE = Source(
    "wandb-file",
    order=10,
    sniff=sniff,
    read=read,
    reference="https://github.com/wandb/wandb/blob/main/wandb/proto/wandb_internal.proto (written by wandb.init)",
    files=r".*\.wandb",
)
