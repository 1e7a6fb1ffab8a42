"""The runs that a W&B report shows: its run sets, as filters for a listing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from entlaw.errors import SourceNotFound, UnreadableSource
from entlaw.runs.wandb.address import Address
from entlaw.runs.wandb.client import Client

_OPERATORS = {
    "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "IN": "$in", "NIN": "$nin", "REGEX": "$regex",
}  # fmt: skip
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
        why="drafts are seen by their author alone",
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
