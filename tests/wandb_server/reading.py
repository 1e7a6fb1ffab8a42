"""What the client asks when it reads: people, projects, runs, listings, sweeps, reports, histories, files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.wandb_server import history, search
from tests.wandb_server.paging import page
from tests.wandb_server.runs import ServedRun, stamp

if TYPE_CHECKING:
    from tests.wandb_server.server import WandbServer

Variables = Mapping[str, Any]
Answer = Callable[["WandbServer", Variables, str], Any]


def viewer(server: WandbServer, v: Variables, text: str) -> Any:
    me = {
        "__typename": "User",
        "id": "v",
        "entity": server.entity,
        "username": "me",
        "name": "me",
        "email": "",
        "flags": "{}",
        "admin": False,
        "deletedAt": None,
        "apiKeys": {"edges": []},
        "teams": {"edges": [{"node": {"name": server.entity}}]},
    }
    return {"viewer": me, "serverInfo": {"features": []}}


def server_features(server: WandbServer, v: Variables, text: str) -> Any:
    return {"serverInfo": {"features": []}}


def project(server: WandbServer, v: Variables, text: str) -> Any:
    entity, name = server.place(v)
    there = server.has_project(entity, name)
    return {"project": _project(entity, name) if there else None}


def projects(server: WandbServer, v: Variables, text: str) -> Any:
    names = sorted(name for entity, name in server.all_projects() if entity == v.get("entity"))
    return {
        "models": page([_project(str(v["entity"]), name) for name in names], v.get("cursor"), v["perPage"])
    }


def _project(entity: str, name: str) -> dict[str, Any]:
    return {
        "__typename": "Project",
        "id": f"project-{name}",
        "internalId": "1",
        "name": name,
        "entityName": entity,
        "createdAt": stamp(1.7e9),
        "isBenchmark": False,
        "user": None,
        "readOnly": False,
    }


# Runs --------------------------------------------------------------------------------------------------------------


def one_run(server: WandbServer, v: Variables, text: str) -> Any:
    run = server.find(v)
    return _in_project(server, v, run, None if run is None else run.node())


def _in_project(server: WandbServer, v: Variables, run: ServedRun | None, said: Any) -> Any:
    if run is None and not server.has_project(*server.place(v)):
        return {"project": None}
    return {"project": {"internalId": "1", "run": said}}


def runs(server: WandbServer, v: Variables, text: str) -> Any:
    entity, name = server.place(v)
    if not server.has_project(entity, name):
        return {"project": None}
    here = [run for run in server.runs if (run.entity, run.project) == (entity, name) and not run.deleted]
    told = v.get("filters") or "{}"
    wanted = json.loads(told) if isinstance(told, str) else told
    fitting = search.ordered([run for run in here if search.fits(run, wanted)], v.get("order"))
    listed = page(fitting, v.get("cursor"), v.get("perPage"))  # only what is shown is worked out
    for edge in listed["edges"]:
        edge["node"] = edge["node"].node()
    return {
        "project": {"internalId": "1", "runCount": len(fitting), "readOnly": False, "runs": listed},
    }


def sweep(server: WandbServer, v: Variables, text: str) -> Any:
    entity, name = server.place(v)
    if not server.has_project(entity, name):
        return {"project": None}
    wanted = v.get("sweep") or v.get("name")
    config = server.sweeps.get((entity, name, str(wanted)))
    return {
        "project": {"sweep": None if config is None else _sweep(server, (entity, name, str(wanted)), config)}
    }


def sweeps(server: WandbServer, v: Variables, text: str) -> Any:
    entity, name = server.place(v)
    if not server.has_project(entity, name):
        return {"project": None}
    found = [_sweep(server, key, c) for key, c in server.sweeps.items() if key[:2] == (entity, name)]
    return {"project": {"totalSweeps": len(found), "sweeps": page(found, v.get("cursor"), v.get("perPage"))}}


def _sweep(server: WandbServer, key: tuple[str, str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    entity, name, sweep_id = key
    count = sum((r.entity, r.project, r.sweep) == (entity, name, sweep_id) for r in server.runs)
    return {
        "__typename": "Sweep",
        "id": f"sweep-{sweep_id}",
        "name": sweep_id,
        "displayName": sweep_id,
        "state": "RUNNING",
        "method": str(config.get("method", "grid")),
        "description": None,
        "bestLoss": None,
        "config": json.dumps(dict(config)),
        "createdAt": stamp(1.7e9),
        "updatedAt": None,
        "runCount": count,
        "runCountExpected": None,
    }


def reports(server: WandbServer, v: Variables, text: str) -> Any:
    entity, name = server.place(v)
    if not server.has_project(entity, name):
        return {"project": None}
    found = [report for place, report in server.reports if place == (entity, name)]
    if v.get("viewName"):
        found = [report for report in found if report["name"] == v["viewName"]]
    return {"project": {"allViews": page(found, v.get("reportCursor"), v.get("reportLimit"))}}


# Histories ---------------------------------------------------------------------------------------------------------


def where_exports_are(server: WandbServer, v: Variables, text: str) -> Any:
    """The addresses of the newest export, and the rows that it does not hold, cut to the keys asked for."""
    run = server.find(v)
    if run is None:
        return _in_project(server, v, None, None)
    with run.lock:
        number = 0 if server.now.stale else len(run.exports) - 1
        live = run.live(run.exports[-1] if run.exports else None)
        parts = len(run.exports[number].files) if run.exports else 0
        urls = [f"{server.url}/export/{run.path}/{i}.parquet?v={number}" for i in range(parts)]
    keys = v.get("liveKeys") or []
    rows = [{key: history.plain(row[key]) for key in keys if key in row} for row in live]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": urls, "liveData": rows}}}}


def history_page(server: WandbServer, v: Variables, text: str) -> Any:
    run = server.find(v)
    if run is None:
        return _in_project(server, v, None, None)
    rows = history.page(run.history(), int(v["minStep"]), int(v["maxStep"]), int(v["pageSize"]))
    return {"project": {"run": {"history": rows}}}


def sampled_page(server: WandbServer, v: Variables, text: str) -> Any:
    """Rows of some keys: of a range of steps (``spec``) or of all of them (``specs``)."""
    run = server.find(v)
    if run is None:
        return _in_project(server, v, None, None)
    specs = [v["spec"]] if "spec" in v else v["specs"]
    told = [json.loads(spec) if isinstance(spec, str) else spec for spec in specs]
    return {"project": {"run": {"sampledHistory": [history.keyed(run.history(), spec) for spec in told]}}}


def full_history(server: WandbServer, v: Variables, text: str) -> Any:
    """``run.history()`` without keys; with ``stream="system"`` the same query asks for the machine's metrics."""
    run = server.find(v)
    if run is None:
        return _in_project(server, v, None, None)
    samples = int(v.get("samples") or 500)
    if re.search(r"\bevents\s*\(", text):
        events = [line for line in run.lines.get("wandb-events.jsonl", []) if line is not None]
        return {"project": {"run": {"events": history.sampled(events, samples)}}}
    rows = [json.dumps(history.plain(row)) for row in history.sampled(run.history(), samples)]
    return {"project": {"run": {"history": rows}}}


def files(server: WandbServer, v: Variables, text: str) -> Any:
    run = server.find(v)
    if run is None:
        return _in_project(server, v, None, None)
    there = {name: data for name, data in run.files.items() if data is not None}
    if v.get("fileNames"):
        there = {name: data for name, data in there.items() if name in v["fileNames"]}
    nodes = [
        {
            "id": f"{run.id}-{name}",
            "name": name,
            "url": server.file_url(run, name),
            "mimetype": "",
            "md5": "",
            "directUrl": server.file_url(run, name),
            "sizeBytes": len(data),
            "updatedAt": stamp(run.beat),
        }
        for name, data in there.items()
    ]
    told = page(nodes, v.get("fileCursor"), v.get("fileLimit"))
    return {"project": {"internalId": "1", "run": {"fileCount": len(nodes), "files": told}}}


ANSWERS: dict[str, Answer] = {
    "Viewer": viewer,
    "GetViewer": viewer,
    "GetDefaultEntity": viewer,
    "ServerFeaturesQuery": server_features,
    "GetProject": project,
    "GetProjects": projects,
    "Run": one_run,
    "RunState": one_run,
    "RunHistoryKeys": one_run,
    "QueryRunInfo": one_run,
    "Runs": runs,
    "GetSweep": sweep,
    "GetSweepLegacy": sweep,
    "SweepConfig": sweep,
    "GetSweeps": sweeps,
    "ProjectViews": reports,
    "RunParquetHistory": where_exports_are,
    "HistoryPage": history_page,
    "SampledHistoryPage": sampled_page,
    "RunSampledHistory": sampled_page,
    "RunFullHistory": full_history,
    "RunFiles": files,
}
