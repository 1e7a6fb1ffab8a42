"""What the client sends when it writes: runs, the stream of their lines, files, summaries, alerts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.wandb_server.runs import ServedRun
from tests.wandb_server.trouble import NotThere

if TYPE_CHECKING:
    from tests.wandb_server.reading import Answer, Variables
    from tests.wandb_server.server import WandbServer


def upsert(server: WandbServer, v: Variables, text: str) -> Any:
    """Make a run, or change one: by its id of storage (``run.update()``) or by its name (``wandb.init``).

    What a request does not name stays as it is; what it names is replaced whole.
    """
    with server.lock:
        if v.get("id"):
            run = next((r for r in server.runs if r.storage_id == v["id"] and not r.deleted), None)
            if run is None:
                raise NotThere("no run of this id")
            inserted = False
        else:
            run, inserted = _by_name(server, v)
    with run.lock:
        if v.get("config"):
            run.raw_config = _loaded(v["config"])
        if v.get("summaryMetrics"):
            run.summary = _loaded(v["summaryMetrics"])
        for name, keys in {
            "display_name": ("displayName", "display_name"),
            "group": ("groupName",),
            "job_type": ("jobType",),
            "notes": ("notes",),
            "tags": ("tags",),
            "sweep": ("sweep",),
            "state": ("state",),
        }.items():
            told = next((v[key] for key in keys if v.get(key) is not None), None)
            if told is not None:
                setattr(run, name, told)
        if not v.get("id") and not v.get("state"):
            run.state = "running"
    return {"upsertBucket": {"bucket": run.node(), "inserted": inserted}}


def _loaded(told: Any) -> Any:
    return json.loads(told) if isinstance(told, str) else dict(told)


def _by_name(server: WandbServer, v: Variables) -> tuple[ServedRun, bool]:
    entity, project = v.get("entity") or server.entity, v.get("project") or "uncategorized"
    run = server.find({"entity": entity, "project": project, "run": v["name"]})
    if run is not None:
        return run, False
    now = time.time()
    run = ServedRun(str(entity), str(project), str(v["name"]), state="running", created=now, heartbeat=now)
    server.runs.append(run)
    server.projects.add((run.entity, run.project))
    return run, True


def resume_status(server: WandbServer, v: Variables, text: str) -> Any:
    """What a client has to know that goes on with a run: how many lines there are of each file."""
    entity, name = server.place({**v, "name": None})
    if not server.has_project(entity, name):
        return {"model": None}
    run = server.find(v)
    place = {"id": "e", "name": entity}
    return {
        "model": {"id": "p", "name": name, "entity": place, "bucket": None if run is None else run.node()}
    }


def stream(server: WandbServer, v: Mapping[str, Any]) -> Any:
    """Lines at offsets of files. A line that comes again replaces the one that was there.

    Raises
    ------
    NotThere
        No such run: it was deleted while it wrote.
    """
    run = server.find(v)
    if run is None:
        raise NotThere("no such run")
    with run.lock:
        for file, chunk in (v.get("files") or {}).items():
            offset, content = int(chunk.get("offset") or 0), chunk["content"]
            if file == "wandb-history.jsonl":
                run.write(offset, [json.loads(line) for line in content])
            elif file == "wandb-summary.json":
                run.summary = json.loads(content[-1])
            else:
                run.write_lines(file, offset, content)
        run.heartbeat = time.time()
        if v.get("complete"):
            run.exit_code = int(v.get("exitcode") or 0)
            run.state = "finished" if run.exit_code == 0 else "failed"
    return {"exitcode": None, "limits": {}}


def create_files(server: WandbServer, v: Variables, text: str) -> Any:
    run = server.find(v)
    if run is None:
        raise NotThere("no such run")
    for name in v["files"]:
        run.files.setdefault(name, None)
    files = [{"name": name, "uploadUrl": server.file_url(run, name)} for name in v["files"]]
    return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}


def files_uploaded(server: WandbServer, v: Variables, text: str) -> Any:
    return {"markRunFilesUploaded": {"success": True}}


def store(server: WandbServer, key: str, data: bytes) -> Any:
    """Keep an upload: a file of a run, or a part of an artifact."""
    kind, *rest = key.split("/", 4)
    if kind == "run":
        run = server.run("/".join(rest[:3]))
        with run.lock:
            run.files[rest[3]] = data
    else:
        with server.lock:
            server.storage[key] = data
    return {}


def stored(server: WandbServer, key: str) -> bytes:
    """What was uploaded.

    Raises
    ------
    NotThere
    """
    kind, *rest = key.split("/", 4)
    found = server.run("/".join(rest[:3])).files.get(rest[3]) if kind == "run" else server.storage.get(key)
    if found is None:
        raise NotThere(f"no file {key}")
    return found


def alert(server: WandbServer, v: Variables, text: str) -> Any:
    with server.lock:
        server.alerts.append(dict(v))
    return {"notifyScriptableRunAlert": {"success": True}}


def delete(server: WandbServer, v: Variables, text: str) -> Any:
    for run in server.runs:
        if run.storage_id == v.get("id"):
            run.delete()
    return {"deleteRun": {"clientMutationId": None}}


def stop_flag(server: WandbServer, v: Variables, text: str) -> Any:
    return {"project": {"run": {"stopped": False}}}


def create_project(server: WandbServer, v: Variables, text: str) -> Any:
    told = v["input"]
    entity, name = told.get("entityName") or server.entity, told["name"]
    server.projects.add((entity, name))
    made = {"id": f"project-{name}", "name": name, "entityName": entity, "description": None, "access": None}
    return {"upsertModel": {"model": {**made, "views": None}, "project": made, "inserted": True}}


ANSWERS: dict[str, Answer] = {
    "UpsertBucket": upsert,
    "RunResumeStatus": resume_status,
    "CreateRunFiles": create_files,
    "MarkRunFilesUploaded": files_uploaded,
    "NotifyScriptableRunAlert": alert,
    "DeleteRun": delete,
    "RunStoppedStatus": stop_flag,
    "CreateProject": create_project,
}
