"""A loopback W&B server to write to: what the real client sends is kept, and given back when it is asked for.

It answers what `entlaw push` needs (runs, summaries, file stream, uploads, artifacts) and nothing else; histories to
read are those of the runs put into it with :meth:`WriteServer.add`.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_TIME = "2026-11-01T00:00:00"


@dataclass
class KeptRun:
    """A run as the server has it."""

    entity: str
    project: str
    name: str
    display: str
    state: str = "finished"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    job_type: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def storage_id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:{self.entity}".encode()).decode()


@dataclass
class KeptArtifact:
    """One version of an artifact."""

    id: str
    sequence: str
    type: str
    digest: str
    state: str = "PENDING"
    version: int = 0
    manifest: str = ""
    entity: str = ""
    project: str = ""


class WriteServer:
    """The server; ``fault(operation, variables)`` may give an HTTP status, or ``"drop"``, instead of an answer."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str, str], KeptRun] = {}
        self.artifacts: dict[str, KeptArtifact] = {}
        self.storage: dict[str, bytes] = {}
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.fault: Callable[[str, dict[str, Any]], int | str | None] | None = None
        self.unknown: list[str] = []
        self._lock = threading.RLock()
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def clear(self) -> None:
        (
            self.runs.clear(),
            self.artifacts.clear(),
            self.storage.clear(),
            self.log.clear(),
            self.unknown.clear(),
        )
        self.fault = None

    def add(self, name: str, rows: list[dict[str, Any]], **facts: Any) -> KeptRun:
        run = KeptRun(
            "team", facts.pop("project", "proj"), name, facts.pop("display", name), rows=rows, **facts
        )
        self.runs[run.entity, run.project, run.name] = run
        return run

    def asked(self, operation: str) -> int:
        """How often an operation was asked for."""
        return sum(op == operation for op, _ in self.log)

    # What a request means -------------------------------------------------------------------------------------------

    def graphql(self, op: str, v: dict[str, Any], text: str) -> Any:
        with self._lock:
            answer = getattr(self, f"_{op}", None)
            if answer is None:
                self.unknown.append(f"{op} {v} {text}")
                return {}
            return answer(v)

    def _Viewer(self, v: dict[str, Any]) -> Any:
        viewer = {
            "id": "v",
            "entity": "team",
            "username": "me",
            "email": "",
            "flags": "{}",
            "admin": False,
            "teams": {"edges": [{"node": {"name": "team"}}]},
            "name": "me",
            "deletedAt": None,
            "apiKeys": {"edges": []},
        }
        return {"viewer": viewer}

    _GetViewer = _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, v: dict[str, Any]) -> Any:
        return {"serverInfo": {"features": []}}

    def _find(self, v: dict[str, Any]) -> KeptRun | None:
        entity = v.get("entity") or v.get("entityName") or "team"
        project = v.get("project") or v.get("projectName") or v.get("model")
        return self.runs.get((entity, str(project), str(v.get("name") or v.get("run") or v.get("runName"))))

    def _Run(self, v: dict[str, Any]) -> Any:
        run = self._find(v)
        return {"project": {"run": None if run is None else _node(run)}}

    _RunHistoryKeys = _Run

    def _RunParquetHistory(self, v: dict[str, Any]) -> Any:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}

    def _HistoryPage(self, v: dict[str, Any]) -> Any:
        run = self._find(v)
        assert run is not None
        page = [json.dumps(row) for row in run.rows if v["minStep"] <= row["_step"] < v["maxStep"]]
        return {"project": {"run": {"history": page[: v["pageSize"]]}}}

    def _UpsertBucket(self, v: dict[str, Any]) -> Any:
        storage_id = v.get("id")
        run = next((r for r in self.runs.values() if r.storage_id == storage_id), None)
        inserted = False
        if run is None:
            entity, project, name = v.get("entity") or "team", v["project"], v["name"]
            run = self.runs.get((entity, project, name))
            if run is None:
                inserted = True
                run = KeptRun(entity, project, name, v.get("displayName") or name, "running")
                self.runs[entity, project, name] = run
        if v.get("config"):
            told = json.loads(v["config"])
            run.config = {
                k: e["value"] if isinstance(e, dict) and "value" in e else e for k, e in told.items()
            }
        if v.get("summaryMetrics"):
            run.summary = json.loads(v["summaryMetrics"])
        run.job_type = v.get("jobType") or run.job_type
        run.display = v.get("displayName") or run.display
        if v.get("name"):
            run.state = "running"
        return {"upsertBucket": {"bucket": _node(run), "inserted": inserted}}

    def _RunResumeStatus(self, v: dict[str, Any]) -> Any:
        run = self._find(v)
        bucket = None
        if run is not None:
            bucket = _node(run) | {
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in run.rows[-1:]]),
                "eventsTail": "[]",
                "wandbConfig": json.dumps({"t": {}}),
            }
        place = {"id": "e", "name": v.get("entity") or "team"}
        return {"model": {"id": "p", "name": v["project"], "entity": place, "bucket": bucket}}

    def _CreateRunFiles(self, v: dict[str, Any]) -> Any:
        run = self._find(v)
        assert run is not None
        files = []
        for name in v["files"]:
            run.files[name] = key = f"run/{run.entity}/{run.project}/{run.name}/{name}"
            files.append({"name": name, "uploadUrl": f"{self.url}/storage/{key}"})
        return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}

    def _RunFiles(self, v: dict[str, Any]) -> Any:
        run = self._find(v)
        assert run is not None
        there = [(name, key) for name, key in run.files.items() if key in self.storage]
        edges = [
            {
                "cursor": str(i),
                "node": {
                    "id": key,
                    "name": name,
                    "url": f"{self.url}/storage/{key}",
                    "directUrl": f"{self.url}/storage/{key}",
                    "sizeBytes": len(self.storage[key]),
                    "mimetype": "",
                    "updatedAt": _TIME,
                    "md5": "",
                },
            }
            for i, (name, key) in enumerate(there)
            if not v.get("fileNames") or name in v["fileNames"]
        ]
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "project": {
                "internalId": "1",
                "run": {"fileCount": len(edges), "files": {"edges": edges, "pageInfo": page}},
            }
        }

    # The client sends what the run logs as lines at offsets of files ------------------------------------------------

    def stream(self, entity: str, project: str, name: str, body: dict[str, Any]) -> Any:
        with self._lock:
            run = self.runs[entity, project, name]
            for file, chunk in (body.get("files") or {}).items():
                if file not in ("wandb-history.jsonl", "wandb-summary.json"):
                    continue  # the console's lines and the machine's figures: output.log is no JSON
                lines = [json.loads(line) for line in chunk["content"] if line]
                if file == "wandb-history.jsonl":
                    run.rows += lines
                else:
                    run.summary = lines[-1]
            if body.get("complete"):
                run.state = "finished" if body.get("exitcode", 0) == 0 else "failed"
        return {"exitcode": None, "limits": {}}

    # Artifacts: a version is new only when its digest is ------------------------------------------------------------

    def _ArtifactType(self, v: dict[str, Any]) -> Any:
        found = self._artifact(v["name"])
        return {"project": {"artifact": None if found is None else {"artifactType": {"name": found.type}}}}

    def _artifact(self, name: str) -> KeptArtifact | None:
        """A committed version by ``name:latest``, ``name:v0`` or its id."""
        if name in self.artifacts:
            return self.artifacts[name]
        sequence, _, alias = name.partition(":")
        found = self.versions(sequence)
        if alias.startswith("v") and alias[1:].isdigit():
            found = [one for one in found if one.version == int(alias[1:])]
        return found[-1] if found else None

    def versions(self, sequence: str) -> list[KeptArtifact]:
        """The committed versions of an artifact, oldest first."""
        return [a for a in self.artifacts.values() if a.sequence == sequence and a.state == "COMMITTED"]

    def _CreateArtifact(self, v: dict[str, Any]) -> Any:
        told = v["input"]
        name = told.get("artifactCollectionName") or (told.get("artifactCollectionNames") or [""])[0]
        known = self.versions(name)
        made = next((a for a in known if a.digest == told["digest"]), None)
        if made is None:
            number = len(self.artifacts)
            made = KeptArtifact(
                base64.b64encode(f"Artifact:{number}".encode()).decode(),
                name,
                told["artifactTypeName"],
                told["digest"],
                version=len(known),
                entity=told["entityName"],
                project=told["projectName"],
            )
            self.artifacts[made.id] = made
        latest = {"id": known[-1].id, "versionIndex": known[-1].version} if known else None
        sequence = {"id": f"seq-{name}", "latestArtifact": latest}
        return {
            "createArtifact": {"artifact": {"id": made.id, "state": made.state, "artifactSequence": sequence}}
        }

    def _CreateArtifactManifest(self, v: dict[str, Any]) -> Any:
        made = self.artifacts[v["artifactID"]]
        made.manifest = f"manifest/{made.id}"
        return {"createArtifactManifest": {"artifactManifest": self._manifest(made)}}

    def _UpdateArtifactManifest(self, v: dict[str, Any]) -> Any:
        made = self.artifacts[v["artifactManifestID"].removeprefix("m-")]
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(made)}}

    def _manifest(self, made: KeptArtifact) -> Any:
        file = {"id": f"f-{made.id}", "uploadUrl": f"{self.url}/storage/{made.manifest}", "uploadHeaders": []}
        return {"id": f"m-{made.id}", "file": file}

    def _CreateArtifactFiles(self, v: dict[str, Any]) -> Any:
        edges = []
        for one in v["input"]["artifactFiles"]:
            key = f"artifact/{one['artifactID']}/{one['name']}"
            node = {
                "storagePath": key,
                "uploadUrl": f"{self.url}/storage/{key}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": one["artifactID"]},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, v: dict[str, Any]) -> Any:
        made = self.artifacts[v["artifactID"]]
        made.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": made.id, "digest": made.digest}}}

    def _ArtifactByID(self, v: dict[str, Any]) -> Any:
        return {"artifact": self._shown(self.artifacts[v["id"]])}

    def _ArtifactByName(self, v: dict[str, Any]) -> Any:
        found = self._artifact(v["name"])
        return {"project": {"artifact": None if found is None else self._shown(found)}}

    def _ArtifactMembershipByName(self, v: dict[str, Any]) -> Any:
        found = self._artifact(v["name"])
        if found is None:
            return {"project": {"artifactCollectionMembership": None}}
        shown = self._shown(found)
        member = {
            "__typename": "ArtifactCollectionMembership",
            "id": "m",
            "versionIndex": found.version,
            "createdAt": _TIME,
            "aliases": [{k: a[k] for k in ("__typename", "id", "alias")} for a in shown["aliases"]],
            "artifactCollection": shown["artifactSequence"],
            "artifact": shown,
        }
        return {"project": {"artifactCollectionMembership": member}}

    def _shown(self, made: KeptArtifact) -> dict[str, Any]:
        entity = {"name": made.entity}
        project = {
            "id": "p",
            "internalId": base64.b64encode(b"Project:1").decode(),
            "name": made.project,
            "entity": entity,
        }
        place = {"__typename": "ArtifactSequence", "name": made.sequence, "project": project}
        latest = self.versions(made.sequence)[-1:] == [made]
        alias = {"__typename": "ArtifactAlias", "id": "a1", "alias": "latest", "artifactCollection": place}
        return {
            "__typename": "Artifact",
            "id": made.id,
            "artifactSequence": place,
            "versionIndex": made.version,
            "artifactType": {"name": made.type},
            "description": None,
            "metadata": "{}",
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": made.state,
            "size": 1,
            "digest": made.digest,
            "commitHash": "c",
            "fileCount": 1,
            "createdAt": _TIME,
            "updatedAt": None,
            "aliases": [alias] if latest else [],
        }

    def _ArtifactManifest(self, v: dict[str, Any]) -> Any:
        made = self.artifacts[v["artifact_id" if "artifact_id" in v else "id"]]
        return {
            "artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/storage/{made.manifest}"}}}
        }

    _FetchArtifactManifest = _ArtifactManifest

    def contents(self, made: KeptArtifact) -> dict[str, bytes]:
        """The files of a version by name, as uploaded."""
        entries = json.loads(self.storage[made.manifest])["contents"]
        return {name: self.storage[f"artifact/{e['birthArtifactID']}/{name}"] for name, e in entries.items()}


def _node(run: KeptRun) -> dict[str, Any]:
    keys: dict[str, int] = {}
    for row in run.rows:
        for key, value in row.items():
            if isinstance(value, (int, float)):
                keys[key] = keys.get(key, 0) + 1
    return {
        "id": run.storage_id,
        "projectId": 1,
        "tags": [],
        "name": run.name,
        "displayName": run.display,
        "sweepName": None,
        "state": run.state,
        "config": json.dumps({k: {"value": x} for k, x in run.config.items()}),
        "group": None,
        "jobType": run.job_type,
        "commit": None,
        "readOnly": False,
        "createdAt": _TIME,
        "heartbeatAt": _TIME,
        "description": "",
        "notes": "",
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary),
        "historyLineCount": len(run.rows),
        "user": {"name": "me", "username": "me"},
        "historyKeys": {
            "lastStep": int(run.rows[-1]["_step"]) if run.rows else -1,
            "keys": {k: {"typeCounts": [{"type": "number", "count": n}]} for k, n in keys.items()},
        },
        "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": run.entity}},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: WriteServer

    def log_message(self, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            raw = b"".join(parts)
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _faulty(self, op: str, variables: dict[str, Any]) -> bool:
        state = self.server_state
        state.log.append((op, variables))
        fault = state.fault(op, variables) if state.fault else None
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault is not None:
            self._send(int(fault), json.dumps({"errors": [{"message": f"told to answer {fault}"}]}).encode())
        return fault is not None

    def do_POST(self) -> None:
        raw, path = self._body(), urlsplit(self.path).path
        stream = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path)
        if stream:
            body = json.loads(raw)
            if not self._faulty("file_stream", body):
                told = self.server_state.stream(*map(unquote, stream.groups()), body)
                self._send(200, json.dumps(told).encode())
            return
        if path != "/graphql":
            self._send(200, b"{}")  # telemetry
            return
        request = json.loads(raw)
        text, variables = request.get("query", ""), request.get("variables") or {}
        named = re.search(r"(?:query|mutation)\s+(\w+)", text)
        op = named.group(1) if named else ""
        if not self._faulty(op, variables):
            self._send(200, json.dumps({"data": self.server_state.graphql(op, variables, text)}).encode())

    def do_PUT(self) -> None:
        raw, key = self._body(), unquote(urlsplit(self.path).path).removeprefix("/storage/")
        if not self._faulty("PUT", {"key": key}):
            self.server_state.storage[key] = raw
            self._send(200, b"")

    def do_GET(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix("/storage/")
        if not self._faulty("GET", {"key": key}):
            data = self.server_state.storage.get(key)
            self._send(404 if data is None else 200, data or b"", "application/octet-stream")
