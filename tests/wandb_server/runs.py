"""A run as the server keeps it, and what a trainer, an archivist or an owner does to it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.wandb_server import history

Row = dict[str, Any]


def stamp(seconds: float) -> str:
    """Seconds since 1970 as the server writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def definitions(step_metric: str | Mapping[str, str]) -> list[dict[str, Any]]:
    """``define_metric`` as the client keeps it in ``config["_wandb"]["m"]``: numbered fields, steps by position.

    Parameters
    ----------
    step_metric : str or mapping
        One step metric for all keys, or ``{key or glob of keys: its step metric}``.
    """
    told = {"*": step_metric} if isinstance(step_metric, str) else dict(step_metric)
    steps = list(dict.fromkeys(told.values()))
    out: list[dict[str, Any]] = [{"1": _escaped(name), "6": [3], "7": []} for name in steps]
    for name, step in told.items():
        called = {"2": name} if name.endswith("*") else {"1": _escaped(name)}
        out.append(called | {"5": steps.index(step) + 1, "6": [1], "7": []})
    return out


def _escaped(name: str) -> str:
    """A flat name as ``define_metric`` wants it: an unescaped dot leads into a nested value."""
    return name.replace(".", "\\.")


@dataclass
class Export:
    """What was moved to the archive at one moment: Parquet files, and which steps they hold."""

    files: list[bytes]
    steps: frozenset[int]


@dataclass
class ServedRun:
    """A run as the server has it now. Tests change it as a trainer would, also while somebody reads it.

    Attributes
    ----------
    rows : list of dict
        The history, a row a line of it; None where a line of the stream has not come.
    raw_config : dict
        As sent: ``{key: {"value": ...}}``, the client's own notes under ``_wandb``.
    lines : dict
        The other files of the stream (``output.log``, ``wandb-events.jsonl`` ...) by line.
    files : dict
        Uploaded files, name to content.
    exports : list of Export
        Oldest first; the last one is what is served, unless a fault orders an older one.
    """

    entity: str
    project: str
    id: str
    rows: list[Row | None] = field(default_factory=list)
    display_name: str = ""
    state: str = "finished"
    raw_config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    sweep: str | None = None
    created: float = 1.7e9
    heartbeat: float | None = None
    exit_code: int | None = None
    deleted: bool = False
    lines: dict[str, list[str | None]] = field(default_factory=dict)
    files: dict[str, bytes | None] = field(default_factory=dict)
    exports: list[Export] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _keys: tuple[Any, dict[str, Any]] | None = field(default=None, repr=False)

    # What a test does to it -----------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any], step: int | None = None) -> Row:
        """Append a row, as ``wandb.log`` does: ``_step`` counts on, ``_runtime`` and ``_timestamp`` come with it."""
        with self.lock:
            kept = self.history()
            at = step if step is not None else row.get("_step", kept[-1]["_step"] + 1 if kept else 0)
            made = {"_runtime": float(at), "_timestamp": self.created + float(at), **row, "_step": at}
            self.rows.append(made)
            self.summary |= made
            self.heartbeat = self.created + float(at)
            return made

    def export(self, up_to: int | None = None, parts: int = 1) -> Export:
        """Archive the rows with ``_step < up_to`` (all without it) as Parquet; later rows are live until the next."""
        with self.lock:
            rows = [row for row in self.history() if up_to is None or row["_step"] < up_to]
            size = max(1, -(-len(rows) // parts))
            chunks = [rows[i : i + size] for i in range(0, len(rows), size)] or [[]]
            made = Export([history.parquet(c) for c in chunks if c], frozenset(int(r["_step"]) for r in rows))
            self.exports.append(made)
            return made

    def finish(self, state: str = "finished") -> None:
        """End it: ``finished``, ``crashed``, ``failed`` or ``killed``."""
        self.state = state

    def rewind(self, step: int) -> None:
        """Forget every row after a step, as rewinding or a fork does."""
        with self.lock:
            self.rows[:] = [row for row in self.history() if row["_step"] <= step]

    def delete(self) -> None:
        """Delete it on the server; whoever asks for it from now on gets null."""
        self.deleted = True

    # What the server knows of it ------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def storage_id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.id}:{self.project}:{self.entity}".encode()).decode()

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as the user gave it."""
        return {
            key: entry["value"] if isinstance(entry, Mapping) and "value" in entry else entry
            for key, entry in self.raw_config.items()
            if key not in ("_wandb", "wandb_version")
        }

    def history(self) -> list[Row]:
        """The rows that have come, in the order they were logged."""
        with self.lock:
            return [row for row in self.rows if row is not None]

    def live(self, export: Export | None) -> list[Row]:
        """The rows that an export does not hold."""
        return [row for row in self.history() if export is None or row["_step"] not in export.steps]

    def write(self, offset: int, rows: Sequence[Row]) -> None:
        """Put lines of history at an offset; those that were there are replaced."""
        with self.lock:
            _overwrite(self.rows, offset, list(rows))
            self._keys = None

    def write_lines(self, file: str, offset: int, content: Sequence[str]) -> None:
        """The same for another file of the stream."""
        with self.lock:
            _overwrite(self.lines.setdefault(file, []), offset, list(content))

    def history_keys(self) -> dict[str, Any]:
        """``historyKeys``, kept while nothing is added: a listing of many long runs asks for all of them."""
        with self.lock:
            rows = self.history()
            mark = (len(rows), id(rows[-1]) if rows else 0)
            if self._keys is None or self._keys[0] != mark:
                self._keys = (mark, history.keys_of(rows))
            return self._keys[1]

    def searchable(self) -> dict[str, Any]:
        """What a filter may name, besides configuration and summary."""
        return {
            "name": self.id,
            "displayName": self.display_name or self.id,
            "state": self.state,
            "group": self.group,
            "jobType": self.job_type,
            "tags": self.tags,
            "sweepName": self.sweep,
            "createdAt": stamp(self.created),
            "heartbeatAt": stamp(self.beat),
            "user": "me",
            "notes": self.notes,
        }

    @property
    def beat(self) -> float:
        return self.created if self.heartbeat is None else self.heartbeat

    def node(self) -> dict[str, Any]:
        """The run as GraphQL shows it, all that any query of the client names."""
        with self.lock:
            keys = self.history_keys()
            rows = self.history()
            return {
                "id": self.storage_id,
                "name": self.id,
                "projectId": 1,
                "displayName": self.display_name or self.id,
                "tags": self.tags,
                "sweepName": self.sweep,
                "state": self.state,
                "group": self.group,
                "jobType": self.job_type,
                "commit": None,
                "readOnly": False,
                "createdAt": stamp(self.created),
                "heartbeatAt": stamp(self.beat),
                "description": self.notes or "",
                "notes": self.notes,
                "config": json.dumps(self.raw_config),
                "systemMetrics": "{}",
                "historyKeys": keys,
                # The summary holds NaN as a bare word, which is not JSON and what the server sends.
                "summaryMetrics": json.dumps(self.summary),
                "historyLineCount": len(rows),
                "logLineCount": len(self.lines.get("output.log", ())),
                "eventsLineCount": len(self.lines.get("wandb-events.jsonl", ())),
                "historyTail": json.dumps([json.dumps(history.plain(row)) for row in rows[-1:]]),
                "eventsTail": json.dumps(self.lines.get("wandb-events.jsonl", [])[-1:]),
                "wandbConfig": json.dumps(
                    {"t": self.raw_config.get("_wandb", {}).get("value", {}).get("t", {})}
                ),
                "user": {"name": "me", "username": "me"},
                "project": {"id": "p", "name": self.project, "entity": {"id": "e", "name": self.entity}},
            }


def _overwrite(kept: list[Any], offset: int, new: list[Any]) -> None:
    kept.extend([None] * (offset - len(kept)))
    kept[offset : offset + len(new)] = new


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether something comes true in time: what a client sends in the background arrives when it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
