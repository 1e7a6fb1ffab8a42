"""A loopback W&B server to read from: histories by page, by key, sampled, and as exported Parquet.

It answers the questions of the real client that pulling asks, and counts them. Writing has a server of its own
(:mod:`tests.wandb.write_server`).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest


@dataclass
class KeptRun:
    """A run as the server has it now; tests change its rows and state as a trainer would."""

    name: str
    rows: list[dict[str, Any]]
    state: str = "finished"
    display: str = ""
    project: str = "proj"
    group: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exported: bool = False
    withheld: frozenset[int] = (
        frozenset()
    )  # steps that are counted and not given, as while a history is archived

    def node(self) -> dict[str, Any]:
        """The run as GraphQL shows it."""
        count = Counter(key for row in self.rows for key in row)
        keys = {key: {"typeCounts": [{"type": "number", "count": n}]} for key, n in count.items()}
        last = int(self.rows[-1]["_step"]) if self.rows else -1
        return {
            "id": self.name,
            "projectId": 1,
            "tags": [],
            "name": self.name,
            "displayName": self.display or self.name,
            "sweepName": None,
            "state": self.state,
            "group": self.group,
            "jobType": None,
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T01:00:00",
            "description": "",
            "notes": None,
            "systemMetrics": "{}",
            "user": {"name": "u", "username": "u"},
            "config": json.dumps({k: {"value": v} for k, v in self.config.items()}),
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.rows),
            "historyKeys": {"keys": keys, "sets": [], "lastStep": last},
        }


@dataclass(frozen=True)
class Asked:
    """One request."""

    operation: str
    variables: dict[str, Any]


class ReadServer:
    """The server, on a port of its own of 127.0.0.1."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], KeptRun] = {}
        self.asked: list[Asked] = []
        self.latency = 0.0  # seconds before each answer: the round trip to a real server
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def environment(self, folder: Path) -> dict[str, str]:
        """What sends the real client here, and keeps what it writes in a folder."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "a" * 40,
            "WANDB_CACHE_DIR": str(folder / "cache"),
            "WANDB_CONFIG_DIR": str(folder / "config"),
            "HOME": str(folder),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "ENTLAW_CACHE_DIR": str(folder / "entlaw"),
        }

    def add(self, name: str, rows: list[dict[str, Any]], **facts: Any) -> KeptRun:
        run = KeptRun(name, rows, **facts)
        self.runs[run.project, name] = run
        return run

    def clear(self) -> None:
        self.runs.clear()
        self.asked.clear()
        self.latency, self.most_at_once = 0.0, 0

    def since(self, mark: int) -> list[Asked]:
        """What was asked since ``mark = len(server.asked)``."""
        return self.asked[mark:]

    def first_steps(self, mark: int = 0) -> list[int]:
        """The first step of every page of all keys that was asked for."""
        return [one.variables["minStep"] for one in self.since(mark) if one.operation == "HistoryPage"]

    def parquet(self, project: str, name: str) -> bytes:
        buffer = io.BytesIO()
        pd.DataFrame(self.runs[project, name].rows).to_parquet(buffer)
        return buffer.getvalue()

    def answer(self, operation: str, v: dict[str, Any]) -> Any:
        with self._lock:
            self.asked.append(Asked(operation, v))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.latency)
            return self._answer(operation, v)
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, operation: str, v: dict[str, Any]) -> Any:
        if operation in ("Viewer", "GetDefaultEntity"):
            return {
                "viewer": {
                    "id": "u",
                    "username": "u",
                    "entity": "team",
                    "flags": "{}",
                    "email": "",
                    "admin": False,
                    "teams": {"edges": []},
                    "apiKeys": {"edges": []},
                },
                "serverInfo": {},
            }
        project = v.get("project") or v.get("projectName") or ""
        if operation == "Runs":
            here = [run for (p, _), run in self.runs.items() if p == project]
            return {
                "project": {
                    "internalId": "1",
                    "runCount": len(here),
                    "readOnly": False,
                    "runs": {
                        "edges": [{"node": run.node(), "cursor": run.name} for run in here],
                        "pageInfo": {"endCursor": None, "hasNextPage": False},
                    },
                }
                if here
                else None
            }
        name = next((v[key] for key in ("name", "run", "runId", "runName") if v.get(key)), "")
        run = self.runs.get((project, name))
        return {"project": {"run": None if run is None else self._of_run(operation, v, run)}}

    def _of_run(self, operation: str, v: dict[str, Any], run: KeptRun) -> Any:
        rows = run.rows
        if operation == "Run":
            return run.node()
        if operation == "RunHistoryKeys":
            return {"historyKeys": run.node()["historyKeys"]}
        if operation == "RunParquetHistory":
            urls = [f"{self.url}/export/{run.project}/{run.name}.parquet"] if run.exported else []
            return {"parquetHistory": {"parquetUrls": urls, "liveData": []}}
        if operation == "HistoryPage":
            first, end = v["minStep"], v["maxStep"]
            page = [row for row in rows if first <= row["_step"] < end and row["_step"] not in run.withheld]
            return {"history": [json.dumps(row) for row in page]}
        if operation == "SampledHistoryPage":
            spec = v["spec"] if isinstance(v["spec"], dict) else json.loads(v["spec"])
            first, last = spec["minStep"], spec["maxStep"]
            page = [row for row in _with(rows, spec["keys"]) if first <= row["_step"] <= last]
            return {"sampledHistory": [[{k: row[k] for k in spec["keys"]} for row in page]]}
        if operation == "RunFullHistory":
            return {"history": [json.dumps(row) for row in _sampled(rows, v["samples"])]}
        if operation == "RunSampledHistory":
            spec = json.loads(v["specs"][0])
            page = _sampled(_with(rows, spec["keys"]), spec["samples"])
            return {"sampledHistory": [[{k: row[k] for k in spec["keys"]} for row in page]]}
        raise NotImplementedError(operation)


def _with(rows: list[dict[str, Any]], keys: list[str]) -> list[dict[str, Any]]:
    """The rows that hold every key: W&B joins by AND."""
    return [row for row in rows if all(key in row for key in keys)]


def _sampled(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    chosen = np.random.default_rng(0).choice(len(rows), min(n, len(rows)), replace=False)
    return [rows[i] for i in sorted(chosen.tolist())]


class _Handler(BaseHTTPRequestHandler):
    server_of: ReadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "graphql" not in self.path:  # telemetry
            self._send(200, b"{}")
            return
        asked = json.loads(body)
        named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
        try:
            told = {"data": self.server_of.answer(named[1] if named else "", asked.get("variables") or {})}
        except NotImplementedError as error:
            told = {"data": None, "errors": [{"message": f"this server does not answer {error}"}]}
        self._send(200, json.dumps(told).encode())

    def do_GET(self) -> None:
        """An export, whole or the range asked for."""
        found = re.fullmatch(r"/export/([^/]+)/([^/]+)\.parquet", self.path)
        if found is None:
            self._send(404, b"")
            return
        server = self.server_of
        server.asked.append(Asked("GET", {}))
        time.sleep(server.latency)
        data = server.parquet(*found.groups())
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            self._send(200, data)
            return
        first = int(part[1]) if part[1] else len(data) - int(part[2])
        last = min(int(part[2]), len(data) - 1) if part[1] and part[2] else len(data) - 1
        self._send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Accept-Ranges": "bytes",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadServer]:
    """One server a module: the SDK keeps its service and its connections for the length of a process."""
    made = ReadServer()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield made
    made.close()


@pytest.fixture
def server(one_server: ReadServer) -> ReadServer:
    """The server, empty, and the environment that leads the real client to it."""
    one_server.clear()
    return one_server


@pytest.fixture
def client(server: ReadServer) -> Any:
    """A fresh client of ours."""
    from entlaw.runs.wandb.client import Client

    return Client()
