"""``--filter``: which runs of a project, in a small readable syntax or as MongoDB-like JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from entlaw.errors import UsageError

# What people write, and what the server calls it.
_FIELDS = {
    "name": "display_name", "display_name": "display_name", "displayName": "display_name", "id": "name",
    "state": "state", "group": "group", "job_type": "jobType", "jobType": "jobType", "tag": "tags", "tags": "tags",
    "sweep": "sweep", "user": "username", "username": "username", "created": "created_at",
    "created_at": "created_at", "notes": "notes",
}  # fmt: skip
_SECTIONS = {"config.": "config.", "summary.": "summary_metrics.", "summary_metrics.": "summary_metrics."}
_OPERATORS = {"!=": "$ne", ">=": "$gte", "<=": "$lte", ">": "$gt", "<": "$lt", "~": "$regex", "=": ""}
_CONDITION = re.compile(r"\s*([\w.][\w./ -]*?)\s*(!=|>=|<=|==|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_EXAMPLE = (
    "--filter 'state=finished, config.lr<=1e-6, name~^grpo', or JSON: '{\"config.seed\": {\"$in\": [1, 2]}}'"
)


def parse(texts: Sequence[str]) -> dict[str, Any] | None:
    """All conditions as one filter for ``wandb.Api.runs``; every one of them must hold.

    A condition is ``FIELD OP VALUE``: fields are name, id, state, group, job_type, tag, sweep, user, created,
    ``config.KEY`` and ``summary.KEY``; operators ``= != > >= < <= ~`` (the last a regular expression); several
    values for ``=`` and ``!=`` are put apart by ``|``. Conditions are put apart by commas. Values are read as
    numbers and true/false where they look like such; quotes make text of them.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    dict or None
        None without any condition.

    Raises
    ------
    UsageError
    """
    every: list[dict[str, Any]] = []
    for text in texts:
        if text.strip().startswith("{"):
            every.append(_mongo(text))
        else:
            every += [_condition(part, text) for part in _split(text) if part.strip()]
    return None if not every else every[0] if len(every) == 1 else {"$and": every}


def _mongo(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError("--filter is not valid JSON", where=text, why=str(error), hint=_EXAMPLE) from error
    assert isinstance(found, dict)
    return found


def _split(text: str) -> list[str]:
    """At commas outside quotes."""
    return [m.group(0) for m in re.finditer(r"""(?:[^,"']|"[^"]*"|'[^']*'|["'])+""", text)]


def _condition(text: str, whole: str) -> dict[str, Any]:
    match = _CONDITION.fullmatch(text)
    if match is None or not match.group(3):
        raise UsageError(f"no condition: {text.strip()!r}", where=f"--filter {whole}", hint=_EXAMPLE)
    name, operator, value = match.groups()
    field = _field(name, whole)
    operator = "=" if operator == "==" else operator
    if operator == "~":
        try:
            re.compile(value)
        except re.error as error:
            raise UsageError(
                f"{value!r} is no regular expression",
                where=f"--filter {whole}",
                why=str(error),
                hint=_EXAMPLE,
            ) from error
        return {field: {"$regex": value}}
    values = [_value(part) for part in value.split("|")] if operator in ("=", "!=") else [_value(value)]
    if len(values) > 1:
        return {field: {"$in" if operator == "=" else "$nin": values}}
    return {field: values[0] if operator == "=" else {_OPERATORS[operator]: values[0]}}


def _field(name: str, whole: str) -> str:
    if name in _FIELDS:
        return _FIELDS[name]
    for written, meant in _SECTIONS.items():
        if name.startswith(written) and len(name) > len(written):
            return meant + name[len(written) :]
    raise UsageError(
        f"no field {name!r} of a run",
        where=f"--filter {whole}",
        hint="fields are name, id, state, group, job_type, tag, sweep, user, created, config.KEY and summary.KEY",
    )


def _value(text: str) -> Any:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) or value is None else text


def describe(filters: Mapping[str, Any] | None) -> str:
    """A filter on one line."""
    return json.dumps(filters, ensure_ascii=False) if filters else "no conditions"
