"""The server that tests hold in their hands."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.wandb_server import artifacts, reading, writing
from tests.wandb_server.artifacts import Artifact
from tests.wandb_server.environment import variables
from tests.wandb_server.faults import Fault
from tests.wandb_server.runs import ServedRun, definitions, stamp
from tests.wandb_server.trouble import NotThere, Unanswered
from tests.wandb_server.wire import Listener

_ANSWERS = reading.ANSWERS | writing.ANSWERS | artifacts.ANSWERS


@dataclass
class Request:
    """One request, as it came and as it went.

    Attributes
    ----------
    operation : str
        Name of the GraphQL operation; ``file_stream``, ``upload``, ``export`` (a Parquet file) or ``download``.
    variables : dict
    received, sent : int
        Bytes of the bodies, as on the wire (compressed, when they were).
    status : int or None
        HTTP status; 0 for a connection that was closed, None while it is being answered.
    faults : tuple of str
        The kinds of the faults that struck it.
    """

    operation: str
    variables: dict[str, Any]
    received: int
    faults: tuple[str, ...] = ()
    status: int | None = None
    sent: int = 0
    at: float = field(default_factory=time.monotonic)


class _Now(threading.local):
    """What holds for the request that this thread answers."""

    stale = False


class WandbServer:
    """A W&B server on a free port of 127.0.0.1, from construction until :meth:`close`.

    Parameters
    ----------
    entity : str, optional
        The user or team that the account belongs to.
    latency : float, optional
        Seconds before every answer: the round trip to a real server.

    Attributes
    ----------
    requests : list of Request
        All but telemetry, in the order they came.
    runs : list of ServedRun
    alerts : list of dict
        What ``run.alert`` sent.
    api_keys : set of str
        Keys that are accepted; all others get 401.
    unanswered : list of str
        Operations that were asked for and are unknown here.
    defects : list of Exception
        Errors of this server itself. A test that leaves any in either list should fail.
    """

    def __init__(self, entity: str = "team", latency: float = 0.0) -> None:
        self.entity, self.latency = entity, latency
        self.api_keys = {"k" * 40}
        self.now = _Now()
        self.folder = tempfile.TemporaryDirectory(prefix="wandb-server-")
        self.lock = threading.RLock()
        self._empty()
        self._http = Listener(self)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def _empty(self) -> None:
        self.runs: list[ServedRun] = []
        self.projects: set[tuple[str, str]] = set()
        self.sweeps: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        self.reports: list[tuple[tuple[str, str], dict[str, Any]]] = []
        self.artifacts: dict[str, Artifact] = {}
        self.storage: dict[str, bytes] = {}
        self.alerts: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.unanswered: list[str] = []
        self.defects: list[Exception] = []
        self.at_once = self.most_at_once = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection, thread and folder of it."""
        self._http.end()
        self.folder.cleanup()

    def clear(self) -> None:
        """Forget everything, on the same port."""
        with self.lock:
            self._empty()
            self.latency = 0.0

    def environment(self, folder: Path | None = None) -> dict[str, str]:
        """Variables that lead the client here, keep what it writes in a folder, and bound its patience.

        The client repeats a request that failed; here at most once, after a second. It reads these variables when
        its service starts, so a process that has used W&B before has to call ``wandb.teardown()`` first.
        """
        home = Path(self.folder.name if folder is None else folder)
        return variables(self.url, min(self.api_keys), home)

    # What is on it --------------------------------------------------------------------------------------------------

    def add_run(
        self,
        path: str,
        run_id: str,
        rows: Iterable[Mapping[str, Any]] = (),
        *,
        config: Mapping[str, Any] | None = None,
        summary: Mapping[str, Any] | None = None,
        step_metric: str | Mapping[str, str] | None = None,
        exported: bool | int = False,
        **facts: Any,
    ) -> ServedRun:
        """Put a run on the server.

        Parameters
        ----------
        path : str
            ``entity/project``; the project comes with it.
        run_id : str
        rows : iterable of mapping
            The history; ``_step`` counts on where a row has none (:meth:`ServedRun.log`).
        config : mapping, optional
            As the user gave it.
        summary : mapping, optional
            The last row's values by default.
        step_metric : str or mapping, optional
            ``define_metric``: the step of all keys, or ``{key or glob: step}``.
        exported : bool or int, optional
            Archive all rows, or those with ``_step`` below a number, as Parquet.
        **facts
            ``state``, ``group``, ``tags``, ``job_type``, ``sweep``, ``display_name``, ``created`` (seconds) ...

        Returns
        -------
        ServedRun
            Change it while it is read: ``log``, ``export``, ``finish``, ``rewind``, ``delete``.
        """
        entity, project = path.split("/")
        raw = {key: {"value": value} for key, value in (config or {}).items()}
        if step_metric is not None:
            raw["_wandb"] = {"value": {"m": definitions(step_metric)}}
        with self.lock:
            # Runs are created one after the other; a listing by age depends on it.
            facts.setdefault("created", 1.7e9 + 60 * len(self.runs))
            run = ServedRun(entity, project, run_id, raw_config=raw, **facts)
            for row in rows:
                run.log(row)
            if summary is not None:
                run.summary = dict(summary)
            if exported:
                run.export(None if exported is True else exported)
            self.runs.append(run)
            self.projects.add((entity, project))
        return run

    def add_project(self, path: str) -> None:
        """Put an empty project on the server."""
        entity, project = path.split("/")
        self.projects.add((entity, project))

    def add_sweep(self, path: str, sweep_id: str, config: Mapping[str, Any]) -> None:
        """Put a sweep on the server; its runs are those added with ``sweep=sweep_id``."""
        entity, project = path.split("/")
        self.projects.add((entity, project))
        self.sweeps[entity, project, sweep_id] = dict(config)

    def add_report(
        self, path: str, title: str, run_sets: Iterable[Mapping[str, Any]], report_id: str = "VmlldzoxMjM="
    ) -> str:
        """Put a report with a panel grid on the server.

        Parameters
        ----------
        path, title : str
        run_sets : iterable of mapping
            As the browser keeps them: ``filters``, ``selections``, ``project`` ...
        report_id : str, optional

        Returns
        -------
        str
            The report's URL.
        """
        entity, project = path.split("/")
        self.projects.add((entity, project))
        grid = {"type": "panel-grid", "metadata": {"runSets": [dict(one) for one in run_sets], "panels": []}}
        self.reports.append(
            (
                (entity, project),
                {
                    "id": report_id,
                    "name": report_id.rstrip("="),
                    "displayName": title,
                    "description": "",
                    "user": {"username": "me", "photoUrl": None, "email": ""},
                    "spec": json.dumps({"version": 5, "blocks": [grid]}),
                    "updatedAt": stamp(1.7e9),
                    "createdAt": stamp(1.7e9),
                },
            )
        )
        return f"{self.url}/{path}/reports/{title.replace(' ', '-')}--{report_id.rstrip('=')}"

    def run(self, path: str) -> ServedRun:
        """The run at ``entity/project/run_id``.

        Raises
        ------
        NotThere
        """
        for one in self.runs:
            if one.path == path and not one.deleted:
                return one
        raise NotThere(f"no run {path}")

    # What was asked -------------------------------------------------------------------------------------------------

    def count(self, *operations: str, since: int = 0) -> int:
        """Requests of some operations (of all without any), from ``since = len(server.requests)`` on."""
        with self.lock:
            return sum(not operations or one.operation in operations for one in self.requests[since:])

    # Faults ---------------------------------------------------------------------------------------------------------

    def fault(
        self,
        kind: str,
        operation: str | Iterable[str] = (),
        *,
        times: int | None = None,
        after: int = 0,
        run: str | None = None,
        **how: Any,
    ) -> Fault:
        """Order a fault.

        Parameters
        ----------
        kind : str
            One of :data:`tests.wandb_server.faults.KINDS`, which says what each takes.
        operation : str or iterable of str, optional
            Names as in :class:`Request`; all without any.
        times : int, optional
            How often; for ever by default.
        after : int, optional
            Requests that pass unharmed first.
        run : str, optional
            Only requests about the run of this id.
        **how
            ``status``, ``message``, ``retry_after``, ``seconds``, ``call``.

        Returns
        -------
        Fault
            Its ``hits`` count; :meth:`mend` takes it back.
        """
        names = (operation,) if isinstance(operation, str) else tuple(operation)
        made = Fault(kind, names, times, after, run, **how)
        with self.lock:
            self.faults.append(made)
        return made

    def when(
        self, operation: str, call: Callable[[], Any], *, times: int | None = 1, after: int = 0
    ) -> Fault:
        """Let something happen on the server just before it answers: rows arrive, a run ends or is deleted."""
        return self.fault("call", operation, times=times, after=after, call=call)

    def mend(self, *faults: Fault) -> None:
        """Take faults back; all without any."""
        with self.lock:
            self.faults = [one for one in self.faults if faults and one not in faults]

    # For the handlers -----------------------------------------------------------------------------------------------

    def receive(self, operation: str, variables: dict[str, Any], size: int) -> tuple[Request, list[Fault]]:
        with self.lock:
            struck = [fault for fault in self.faults if fault.strikes(operation, variables)]
            request = Request(operation, variables, size, tuple(fault.kind for fault in struck))
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return request, struck

    def done(self, request: Request) -> None:
        with self.lock:
            self.at_once -= 1

    def answer(self, operation: str, variables: dict[str, Any], text: str) -> Any:
        found = _ANSWERS.get(operation)
        if found is None:
            self.unanswered.append(f"{operation or text[:200]} {variables}")
            raise Unanswered(f"this server does not answer {operation or 'a query without a name'}")
        return found(self, variables, text)

    def stream(self, variables: dict[str, Any]) -> Any:
        return writing.stream(self, variables)

    def store(self, key: str, data: bytes) -> Any:
        return writing.store(self, key, data)

    def stored(self, key: str) -> bytes:
        return writing.stored(self, key)

    def exported(self, v: Mapping[str, Any], version: int) -> bytes:
        run = self.find(v)
        exports = [] if run is None else run.exports
        chosen = exports[0 if self.now.stale else version].files if exports else []
        if v["part"] >= len(chosen):
            raise NotThere("no such export")
        return chosen[v["part"]]

    def place(self, v: Mapping[str, Any]) -> tuple[str, str]:
        """Entity and project that a request is about."""
        entity = v.get("entity") or v.get("entityName") or self.entity
        return str(entity), str(v.get("project") or v.get("projectName") or v.get("name"))

    def find(self, v: Mapping[str, Any]) -> ServedRun | None:
        """The run that a request is about."""
        entity, project = self.place(v)
        names = {v.get(key) for key in ("run", "runName", "name")}
        with self.lock:
            return next(
                (
                    one
                    for one in self.runs
                    if (one.entity, one.project) == (entity, project) and one.id in names and not one.deleted
                ),
                None,
            )

    def has_project(self, entity: str, project: str) -> bool:
        return (entity, project) in self.projects

    def all_projects(self) -> set[tuple[str, str]]:
        return set(self.projects)

    def file_url(self, run: ServedRun, name: str) -> str:
        return f"{self.url}/storage/run/{run.path}/{name}"
