"""The search language of run listings: filters in the manner of MongoDB, and orders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

_NAMES = {
    "display_name": "displayName",
    "job_type": "jobType",
    "created_at": "createdAt",
    "heartbeat_at": "heartbeatAt",
    "sweep": "sweepName",
    "summaryMetrics": "summary_metrics",
    "username": "user",
}


class BadFilter(ValueError):
    """A filter that this server does not understand; the client gets it as a GraphQL error."""


def field(run: Any, path: str) -> Any:
    """The value under a name of the search language, None where there is none.

    ``config.lr`` and ``config.lr.value`` are the same; a nested configuration is reached by further dots.
    """
    head, _, rest = path.partition(".")
    head = _NAMES.get(head, head)
    if head in ("config", "summary_metrics"):
        found: Any = run.config if head == "config" else run.summary
        if rest in found:
            return found[rest]
        for part in rest.removesuffix(".value").split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found
    if head == "keys_info":  # which metrics were logged at all
        return run.history_keys()["keys"].get(rest.removeprefix("keys."))
    known = run.searchable()
    if head not in known:
        raise BadFilter(f"unknown field {path!r} of a run")
    return known[head]


def fits(run: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a run fits a filter; every entry of it has to hold.

    Raises
    ------
    BadFilter
    """
    return all(_holds(run, key, value) for key, value in wanted.items())


def _holds(run: Any, key: str, value: Any) -> bool:
    if key in ("$and", "$or", "$nor"):
        each = [fits(run, one) for one in value]
        return all(each) if key == "$and" else any(each) == (key == "$or")
    if key == "$not":
        return not fits(run, value)
    if key.startswith("$"):
        raise BadFilter(f"unknown operator {key!r}")
    found = field(run, key)
    if not isinstance(value, Mapping):
        return _equal(found, value)
    options = value.get("$options", "")
    return all(_compares(found, op, target, options) for op, target in value.items() if op != "$options")


def _equal(found: Any, value: Any) -> bool:
    """Equality; a list (tags) is equal to each of its members."""
    return found == value or (isinstance(found, list) and value in found)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison that values of different kinds, and missing ones, fail."""

    def holds(found: Any, target: Any) -> bool:
        try:
            return found is not None and compare(found, target)
        except TypeError:
            return False

    return holds


_ORDERED = {
    "$gt": _ordered(lambda a, b: a > b),
    "$gte": _ordered(lambda a, b: a >= b),
    "$lt": _ordered(lambda a, b: a < b),
    "$lte": _ordered(lambda a, b: a <= b),
}


def _compares(found: Any, op: str, target: Any, options: str) -> bool:
    if op in _ORDERED:
        return _ORDERED[op](found, target)
    if op == "$eq":
        return _equal(found, target)
    if op == "$ne":
        return not _equal(found, target)
    if op in ("$in", "$nin"):
        return any(_equal(found, one) for one in target) == (op == "$in")
    if op == "$exists":
        return (found is not None) == bool(target)
    if op == "$not":
        return not all(_compares(found, inner, one, options) for inner, one in target.items())
    if op == "$regex":
        texts = found if isinstance(found, list) else [found]
        pattern = re.compile(target, re.IGNORECASE if "i" in options else 0)
        return any(isinstance(text, str) and pattern.search(text) is not None for text in texts)
    raise BadFilter(f"unknown operator {op!r}")


def _field_of(path: str, run: Any) -> Any:
    return field(run, path)


def ordered(runs: list[Any], order: str | None) -> list[Any]:
    """Runs in an order such as ``-created_at`` or ``+summary_metrics.loss``; those without the value come last."""
    for one in reversed((order or "+created_at").split(",")):
        path = one.strip().lstrip("+-")
        have = [run for run in runs if field(run, path) is not None]
        lack = [run for run in runs if field(run, path) is None]
        have.sort(key=partial(_field_of, path), reverse=one.strip().startswith("-"))
        runs = have + lack
    return runs
