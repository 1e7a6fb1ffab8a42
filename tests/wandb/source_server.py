"""The reading half of a W&B server on loopback, as far as the real client asks for it, with faults to order.

Rows are served from lists that a test may change between two requests. ``faults`` is a list of functions that get
(handler, operation, variables); the first that returns True has answered in place of the server.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@dataclass
class ServedRun:
    """A run as the server has it."""

    entity: str
    project: str
    id: str
    rows: list[dict[str, Any]]
    state: str = "finished"
    name: str = ""
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    exported: int = 0  # rows that are in the Parquet export; the others are live
    hide: int = 0  # rows that are counted and never given
    created: str = "2026-11-01T00:00:00"

    def node(self) -> dict[str, Any]:
        counts: dict[str, Counter[str]] = {}
        for row in self.rows:
            for key, value in row.items():
                if value is None:
                    continue
                number = isinstance(value, (int, float)) or value in ("NaN", "Infinity")
                counts.setdefault(key, Counter())["number" if number else "string"] += 1
        keys = {k: {"typeCounts": [{"type": t, "count": n} for t, n in c.items()]} for k, c in counts.items()}
        last = int(self.rows[-1]["_step"]) if self.rows else -1
        return {
            "id": f"storage-{self.id}",
            "projectId": 1,
            "tags": self.tags,
            "name": self.id,
            "displayName": self.name or self.id,
            "sweepName": None,
            "state": self.state,
            "config": json.dumps({k: v if k == "_wandb" else {"value": v} for k, v in self.config.items()}),
            "group": self.group,
            "jobType": None,
            "commit": None,
            "readOnly": False,
            "createdAt": self.created,
            "heartbeatAt": "2026-11-01T00:00:00",
            "description": "",
            "notes": "",
            "systemMetrics": "{}",
            "summaryMetrics": '{"_step": 5, "best": NaN, "_wandb": {"runtime": 3}}',
            "historyLineCount": len(self.rows),
            "user": {"name": "u", "username": "u"},
            "historyKeys": {"lastStep": last, "keys": keys},
        }

    @property
    def given(self) -> list[dict[str, Any]]:
        return self.rows[: len(self.rows) - self.hide]


class SourceServer:
    """A W&B server on a port of its own."""

    def __init__(self) -> None:
        self.runs: list[ServedRun] = []
        self.reports: list[dict[str, Any]] = []
        self.faults: list[Callable[[Any, str, dict[str, Any]], bool]] = []
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.latency = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                outer.log.append(("GET", {}))
                data = outer.files.get(self.path)
                self.reply(404 if data is None else 200, data or b"", "application/octet-stream")

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    raw = gzip.decompress(raw)
                if self.path != "/graphql":
                    return self.reply(200, b"{}")
                asked = json.loads(raw)
                found = re.search(r"query\s+(\w+)", asked["query"])
                operation, variables = found.group(1) if found else "", asked.get("variables") or {}
                outer.log.append((operation, variables))
                time.sleep(outer.latency)
                if not any(fault(self, operation, variables) for fault in list(outer.faults)):
                    self.reply(200, json.dumps({"data": outer.answer(operation, variables)}).encode())
                return None

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that hang up are part of the tests

        self._httpd = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def clear(self) -> None:
        self.runs, self.reports, self.faults, self.log, self.latency = [], [], [], [], 0.0

    def add(self, path: str, rows: list[dict[str, Any]], **about: Any) -> ServedRun:
        run = ServedRun(*path.split("/"), rows, **about)
        self.runs.append(run)
        return run

    def asked(self, *operations: str) -> int:
        return sum(one in operations or not operations for one, _ in self.log)

    def answer(self, operation: str, v: dict[str, Any]) -> dict[str, Any]:
        if operation in ("Viewer", "GetViewer", "GetDefaultEntity"):
            return {
                "viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
            }
        here = [r for r in self.runs if (r.entity, r.project) == (v.get("entity"), v.get("project"))]
        if operation == "Runs":
            return {"project": self._listing(here, v) if here else None}
        if operation == "ProjectViews":
            page = {"endCursor": None, "hasNextPage": False}
            return {
                "project": {
                    "allViews": {
                        "edges": [{"node": r, "cursor": "1"} for r in self.reports],
                        "pageInfo": page,
                    }
                }
            }
        name = v.get("name") or v.get("run") or v.get("runName")
        run = next((r for r in here if r.id == name), None)
        if operation in ("Run", "RunHistoryKeys") or run is None:
            return {"project": {"run": run and run.node()}}
        return {"project": {"run": self._history(operation, run, v)}}

    def _listing(self, runs: list[ServedRun], v: dict[str, Any]) -> dict[str, Any]:
        filters = json.loads(v.get("filters") or "{}")
        fitting = [r for r in runs if fits(r, filters)]
        at, size = int(v.get("cursor") or 0), v.get("perPage") or 50
        edges = [{"node": r.node(), "cursor": str(at + i + 1)} for i, r in enumerate(fitting[at : at + size])]
        page = {"endCursor": str(at + len(edges)), "hasNextPage": at + size < len(fitting)}
        return {
            "internalId": "1",
            "runCount": len(fitting),
            "readOnly": False,
            "runs": {"edges": edges, "pageInfo": page},
        }

    def _history(self, operation: str, run: ServedRun, v: dict[str, Any]) -> dict[str, Any]:
        if operation == "RunParquetHistory":
            urls = []
            if run.exported:
                path = f"/files/{run.id}-{len(self.files)}.parquet"
                self.files[path] = parquet(run.rows[: run.exported])
                urls = [self.url + path]
            live = [{"_step": row["_step"]} for row in run.rows[run.exported :]]
            return {"parquetHistory": {"parquetUrls": urls, "liveData": live}}
        if operation == "HistoryPage":
            rows = [r for r in run.given if v["minStep"] <= r["_step"] < v["maxStep"]]
            return {"history": [json.dumps(r) for r in rows[: v["pageSize"]]]}
        if operation == "SampledHistoryPage":
            spec = json.loads(v["spec"])
            keys = spec["keys"]
            rows = [
                r
                for r in run.given
                if spec["minStep"] <= r["_step"] <= spec["maxStep"] and all(k in r for k in keys)
            ]
            return {"sampledHistory": [[{k: r[k] for k in keys} for r in rows[: spec["samples"]]]]}
        raise AssertionError(f"the client asks {operation}, which reading a history does not need")


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as an export: columns of doubles and of strings, nulls where nothing was logged."""
    keys = dict.fromkeys(k for row in rows for k in row)
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{k: row.get(k) for k in keys} for row in rows]), out)
    return out.getvalue()


def fits(run: ServedRun, filters: dict[str, Any]) -> bool:
    """The few operators that the tests use."""
    field_of = {"group": run.group, "state": run.state, "display_name": run.name, "name": run.id}
    for key, wanted in filters.items():
        if key == "$and":
            ok = all(fits(run, one) for one in wanted)
        elif key == "tags":
            ok = wanted in run.tags
        else:
            value = run.config.get(key[7:]) if key.startswith("config.") else field_of[key]
            op, target = next(iter(wanted.items())) if isinstance(wanted, dict) else ("$eq", wanted)
            ok = {
                "$eq": lambda a, b: a == b,
                "$ne": lambda a, b: a != b,
                "$in": lambda a, b: a in b,
                "$nin": lambda a, b: a not in b,
                "$lte": lambda a, b: a is not None and a <= b,
                "$regex": lambda a, b: re.search(b, a or "") is not None,
            }[op](value, target)
        if not ok:
            return False
    return True


def status(code: int, body: bytes = b'{"errors": [{"message": "no"}]}', only: tuple[str, ...] = ()) -> Any:
    """A fault: this status in place of an answer."""

    def fault(handler: Any, operation: str, v: dict[str, Any]) -> bool:
        if only and operation not in only:
            return False
        handler.reply(code, body)
        return True

    return fault


def slow(seconds: float, only: tuple[str, ...] = ()) -> Any:
    """A fault: the answer comes late."""

    def fault(handler: Any, operation: str, v: dict[str, Any]) -> bool:
        if not only or operation in only:
            time.sleep(seconds)
        return False

    return fault


def cut(only: tuple[str, ...], times: int) -> Any:
    """A fault: the connection ends in the middle of the answer, so many times."""
    left = [times]

    def fault(handler: Any, operation: str, v: dict[str, Any]) -> bool:
        if operation not in only or left[0] == 0:
            return False
        left[0] -= 1
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data": {"project"')
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return fault


@pytest.fixture(scope="session")
def _one_server() -> Any:
    server = SourceServer()
    yield server
    server.close()


@pytest.fixture(name="wb")
def wb_fixture(_one_server: SourceServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> SourceServer:
    """The server, empty, with the real client turned to it and no folder of the user's in reach."""
    for name in (
        "WANDB_ENTITY",
        "WANDB_PROJECT",
        "WANDB_MODE",
        "WANDB_HTTP_TIMEOUT",
        "WANDB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    told = {
        "WANDB_BASE_URL": _one_server.url,
        "WANDB_API_KEY": "k" * 40,
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        "WANDB_DIR": str(home),
        "WANDB_CACHE_DIR": str(home / "wandb-cache"),
        "ENTLAW_CACHE_DIR": str(home / "entlaw"),
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("entlaw.runs.wandb.client.RETRIES", 1)
    monkeypatch.setattr("entlaw.runs.wandb.client.WAIT", (0.1, 0.1))
    _forget_login()
    _one_server.clear()
    return _one_server


def _forget_login() -> None:
    """The SDK keeps the key of an earlier test's run, and its server, for as long as the process lives."""
    from wandb.sdk.lib import wbauth

    wbauth.unauthenticate_session(update_settings=True)
