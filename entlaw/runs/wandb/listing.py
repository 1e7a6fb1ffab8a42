"""Which runs an address means: one, those of a project that a query leaves, of a sweep, of a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from entlaw.errors import SourceNotFound, UnreadableSource, UsageError
from entlaw.runs.wandb.address import Address
from entlaw.runs.wandb.client import Client

FINAL = frozenset({"finished", "crashed", "failed", "killed"})
MOST_RUNS = 500  # pulling more than this is asked about first: at a few requests a run it takes minutes
_PER_PAGE = 100


@dataclass(frozen=True)
class Query:
    """Which runs of a project.

    Attributes
    ----------
    filters : mapping or None
        MongoDB-like, as ``wandb.Api.runs`` takes them; :func:`entlaw.runs.wandb.address.parse_filters` makes them.
    group, sweep : str or None
    tags : tuple of str
        All of them.
    limit : int or None
        At most this many, oldest first.
    most : int
        More than this are only listed when ``confirm`` says so, or ``limit`` was given.
    confirm : callable or None
        Asked with the number of runs; None refuses.
    """

    filters: Mapping[str, Any] | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    sweep: str | None = None
    limit: int | None = None
    most: int = MOST_RUNS
    confirm: Callable[[int], bool] | None = None

    @property
    def narrows(self) -> bool:
        """Whether anything but the number of runs is asked for: then a project is meant, not a run."""
        return bool(self.filters or self.group or self.tags or self.sweep)

    def mongo(self) -> dict[str, Any]:
        """All conditions in one filter."""
        every: list[Mapping[str, Any]] = [self.filters] if self.filters else []
        if self.group is not None:
            every.append({"group": self.group})
        every += [{"tags": tag} for tag in self.tags]
        if self.sweep is not None:
            every.append({"sweep": self.sweep})
        return {} if not every else dict(every[0]) if len(every) == 1 else {"$and": every}


@dataclass(frozen=True)
class RunRef:
    """One run on the server, as a listing shows it.

    Attributes
    ----------
    entity, project, id : str
    name : str
        As shown; two runs may share it.
    state : str
        running, finished, crashed, failed, killed, pending, preempting.
    group, job_type : str or None
    tags : tuple of str
    created_at : str
        ISO time of the server.
    last_step : int or None
        Highest ``_step``; None when the listing does not tell.
    url : str
    """

    entity: str
    project: str
    id: str
    name: str = ""
    state: str = ""
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    created_at: str = ""
    last_step: int | None = None
    url: str = ""

    @property
    def path(self) -> str:
        """``entity/project/id``."""
        return f"{self.entity}/{self.project}/{self.id}"

    @property
    def final(self) -> bool:
        """Whether nothing more will be logged (unless the run is resumed)."""
        return self.state in FINAL


def find(client: Client, address: Address, query: Query | None = None) -> list[RunRef]:
    """The runs an address means, oldest first.

    Parameters
    ----------
    client : Client
    address : Address
    query : Query, optional
        Conditions; of a single run only that none contradicts it.

    Returns
    -------
    list of RunRef
        At least one.

    Raises
    ------
    SourceNotFound
        No such run, project, sweep or report, or none of its runs fits the query.
    UsageError
        ``a/b`` that is both a project and a run; more runs than ``query.most`` without a word from the user;
        conditions together with a single run.
    ServerError
        The server cannot be reached, refuses, or fails.
    """
    query = query or Query()
    if address.either and not query.narrows:
        address = _resolve_two_parts(client, address)
    if address.kind == "run":
        if query.narrows:
            raise UsageError(
                "--filter, --group, --tag and --sweep choose among the runs of a project",
                where=str(address),
                hint=f"{address.entity or 'entity'}/{address.project} with the conditions, or the run without them",
            )
        return [ref_of(client.run(address.entity or client.default_entity(), address.project, address.id))]
    if address.kind == "report":
        from entlaw.runs.wandb.listing import run_sets

        found: dict[str, RunRef] = {}
        for entity, project, filters in run_sets(client, address):
            both = [f for f in (filters, query.mongo()) if f]
            narrowed = replace(
                query, filters={"$and": both} if both else None, group=None, tags=(), sweep=None
            )
            found |= {ref.path: ref for ref in _listed(client, entity, project, narrowed)}
        return _some(list(found.values())[: query.limit], address, query)
    if address.kind == "sweep":
        query = replace(query, sweep=address.id)
    if address.group is not None:
        query = replace(query, group=address.group)
    entity = address.entity or client.default_entity()
    return _some(list(_listed(client, entity, address.project, query)), address, query)


def _resolve_two_parts(client: Client, address: Address) -> Address:
    """``a/b``: all runs of project b of entity a, or run b in project a of the default entity; never a guess."""
    first, second = str(address.entity), address.project
    entity = client.default_entity()
    run = client.run_or_none(entity, first, second)
    project = client.has_project(first, second)
    if run is not None and project:
        raise UsageError(
            f"both a run ({entity}/{first}/{second}) and a project ({first}/{second})",
            where=str(address),
            hint=f"write {entity}/{first}/{second} for the run, or the project's URL for all its runs",
        )
    if run is not None:
        return Address("run", first, second, entity, address.host)
    if project:
        return Address("project", second, entity=first, host=address.host)
    raise SourceNotFound(
        f"neither a project {second!r} of {first!r} nor a run {second!r} in a project {first!r} of {entity!r}",
        where=str(address),
        why="private projects of others look as if they did not exist",
        hint="write entity/project/run_id; the id is the last part of the run's URL, not its shown name",
    )


def _listed(client: Client, entity: str, project: str, query: Query) -> Iterator[RunRef]:
    """The runs of a project page by page, after a look at how many there are."""
    per_page = min(_PER_PAGE, query.limit or _PER_PAGE)
    runs, count = client.runs(entity, project, query.mongo(), per_page)
    if query.limit is None and count > query.most and not (query.confirm and query.confirm(count)):
        raise UsageError(
            f"{count:,} runs",
            where=f"{entity}/{project}",
            why=f"more than {query.most:,} are not pulled unasked: it takes long, and the server counts requests",
            hint="--limit N takes the oldest N, --filter, --group, --tag choose, --yes takes all",
        )
    for number, run in enumerate(runs):
        if query.limit is not None and number >= query.limit:
            return
        yield ref_of(run)


def _some(refs: list[RunRef], address: Address, query: Query) -> list[RunRef]:
    if refs:
        return refs
    asked = query.mongo()
    raise SourceNotFound(
        "no run fits" if asked else "no runs",
        where=str(address),
        why=f"asked for {asked}" if asked else None,
        hint="look at the project in the browser; --filter compares as written, config.lr=1e-6 is a number",
    )


def ref_of(run: Any) -> RunRef:
    """A run object of the SDK as plain data."""
    return RunRef(
        entity=str(run.entity),
        project=str(run.project),
        id=str(run.id),
        name=str(run.name or run.id),
        state=str(run.state or ""),
        group=getattr(run, "group", None) or None,
        job_type=getattr(run, "job_type", None) or None,
        tags=tuple(map(str, getattr(run, "tags", None) or ())),
        created_at=str(getattr(run, "created_at", None) or ""),
        last_step=last_step(run),
        url=str(run.url),
    )


def last_step(run: Any) -> int | None:
    """The highest ``_step`` of a run object, None when it has no history or came from a listing."""
    keys = getattr(run, "history_keys", None)
    last = keys.get("lastStep") if isinstance(keys, Mapping) else None
    return int(last) if isinstance(last, (int, float)) and last >= 0 else None


_OPERATORS = {
    "!=": "$ne",
    ">": "$gt",
    ">=": "$gte",
    "<": "$lt",
    "<=": "$lte",
    "IN": "$in",
    "NIN": "$nin",
    "REGEX": "$regex",
}
_GROUPS = {"AND": "$and", "OR": "$or"}
_SECTIONS = {"config": "config.", "summary": "summary_metrics.", "keys_info": "keys_info.keys.", "run": ""}


def run_sets(client: Client, address: Address) -> list[tuple[str, str, dict[str, Any]]]:
    """The run sets of a report.

    Returns
    -------
    list of (entity, project, filter)
        In order, without repetitions.

    Raises
    ------
    SourceNotFound
        No such report.
    UnreadableSource
        It shows no runs.
    """
    entity = address.entity or client.default_entity()
    spec = _spec(client, entity, address)
    found: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for one in _sets_in(spec):
        raw = one.get("project")
        project = raw if isinstance(raw, Mapping) else {}
        whose = str(project.get("entityName") or entity)
        which = str(project.get("name") or address.project)
        filters = _runs_of(one)
        found[json.dumps([whose, which, filters], sort_keys=True, default=str)] = (whose, which, filters)
    if not found:
        raise UnreadableSource(
            "the report shows no runs",
            where=str(address),
            hint="give the project instead, with --filter, --group or --tag",
        )
    return list(found.values())


def _spec(client: Client, entity: str, address: Address) -> Any:
    for report in client.reports(entity, address.project):
        if str(report.id).rstrip("=") == address.id.rstrip("="):
            return report.spec
    raise SourceNotFound(
        "no such report in the project",
        where=str(address),
        why="only their author can see drafts",
        hint="copy the URL of the published report: .../reports/TITLE--ID",
    )


def _sets_in(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every run set anywhere in a report: panel grids have moved in its structure over the years."""
    todo = [node]
    while todo:
        one = todo.pop(0)
        if isinstance(one, Mapping):
            sets = one.get("runSets")
            if isinstance(sets, list):
                yield from (s for s in sets if isinstance(s, Mapping) and s.get("enabled", True) is not False)
            todo += [v for k, v in one.items() if k != "runSets"]
        elif isinstance(one, list):
            todo += one


def _runs_of(run_set: Mapping[str, Any]) -> dict[str, Any]:
    every = [f for f in (mongo(run_set.get("filters")), _selected(run_set.get("selections"))) if f]
    return {} if not every else every[0] if len(every) == 1 else {"$and": every}


def _selected(selections: Any) -> dict[str, Any]:
    """The eyes beside the runs: all but those listed, or only those listed."""
    if not isinstance(selections, Mapping):
        return {}
    tree = [str(x) for x in selections.get("tree") or () if isinstance(x, str)]
    if selections.get("root") == 0:
        return {"name": {"$in": tree}}
    return {"name": {"$nin": tree}} if tree else {}


def mongo(node: Any) -> dict[str, Any]:
    """A filter as the browser keeps it, as the server's search takes it; empty: everything."""
    if not isinstance(node, Mapping) or node.get("disabled"):
        return {}
    if isinstance(node.get("filters"), list):
        inner = [f for f in map(mongo, node["filters"]) if f]
        operator = _GROUPS.get(str(node.get("op")), "$and")
        return {} if not inner else inner[0] if len(inner) == 1 else {operator: inner}
    key = node.get("key")
    if not isinstance(key, Mapping) or not key.get("name"):
        return {}
    section, name, operator, value = (
        str(key.get("section")),
        str(key["name"]),
        str(node.get("op")),
        node.get("value"),
    )
    if section == "tags":
        if operator == "IN":
            return {"tags": {"$in": value}}
        return {"tags": {"$ne": name}} if value is False else {"tags": name}
    if value is None and operator not in ("=", "!="):
        return {}
    path = _SECTIONS.get(section, "") + name
    if operator in ("=", "=="):
        return {path: value}
    if operator not in _OPERATORS:
        raise UnreadableSource(
            f"the report filters its runs by {operator!r}, which is not understood",
            where=path,
            hint="give the project instead, with --filter, --group or --tag",
        )
    return {path: {_OPERATORS[operator]: value}}
