"""What a user writes to name runs on a W&B server: an address (a run, a project, a sweep, a report) and ``--filter``.

Text only: no disk, no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from entlaw.errors import UsageError

AddressKind = Literal["run", "project", "sweep", "report"]
_PREFIX = "wandb:"
# Names as W&B allows them: no slash, backslash, hash, question mark, percent, colon; and no blanks at the ends.
_NAME = re.compile(r"[^\s/\\#?%:*\[\]]([^/\\#?%:*\[\]]*[^\s/\\#?%:*\[\]])?")
# A bare a/b/c must look more like an address than like a path that was misspelt.
_BARE = re.compile(r"[A-Za-z0-9][\w.-]*")
_LOG_SUFFIX = re.compile(
    r"\.(jsonl?|ndjson|csv|tsv|txt|log|out|err|parquet|pq|wandb|ipynb|db|sqlite3?|gz|zst|yaml|yml|toml|py|pkl|npz?|"
    r"pt|html?|md|tfevents\S*)$",
    re.IGNORECASE,
)
HOSTED = "https://api.wandb.ai"
_HOSTED = ("wandb.ai", "app.wandb.ai", "api.wandb.ai", "forge.coreweave.com", "api.forge.coreweave.com")
_PAGES = {"runs": "run", "sweeps": "sweep", "reports": "report", "groups": "group"}


@dataclass(frozen=True)
class Address:
    """A place on a W&B server.

    Attributes
    ----------
    kind : {"run", "project", "sweep", "report"}
    project : str
    id : str
        Of the run, sweep or report; empty for a project.
    entity : str or None
        User or team; None: the client's default.
    host : str or None
        Base URL of the server that a URL names; None: as the client is configured.
    group : str or None
        Only the runs of this group (from a URL ``.../groups/NAME``).
    either : bool
        ``a/b`` alone: entity and project, or project and run of the default entity. The server must tell.
    bare : bool
        Without ``wandb:`` or ``https://`` in front, so that a local path may have been meant.
    """

    kind: AddressKind
    project: str
    id: str = ""
    entity: str | None = None
    host: str | None = None
    group: str | None = None
    either: bool = False
    bare: bool = False

    def __str__(self) -> str:
        return "/".join(part for part in (self.entity, self.project, self.id) if part)


def parse(source: str) -> Address | None:
    """Read a SOURCE string as a W&B address.

    Understood are ``entity/project/run``, ``entity/project`` or ``project/run``, URLs of runs, projects,
    workspaces, groups, sweeps and reports on any host, and all of these with ``wandb:`` in front, which forces
    this reading. A path that exists is not looked at here: see :func:`entlaw.runs.reader.scan`.

    Parameters
    ----------
    source : str

    Returns
    -------
    Address or None
        None when the text is not a W&B source: a path, a glob, the name of a log file.

    Raises
    ------
    UsageError
        ``wandb:`` in front of something that is no address, or a URL without a project.
    """
    text = source.strip()
    if text.lower().startswith(("http://", "https://")):
        return _from_url(text)
    if text.startswith(_PREFIX):
        return _forced(text[len(_PREFIX) :].removeprefix("//"), source)
    if not text or text != source or _is_pathlike(text):
        return None
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(_BARE.fullmatch(part) for part in parts):
        return None
    return _from_parts(parts, bare=True)


def _is_pathlike(text: str) -> bool:
    return (
        text.startswith((".", "~", "/"))
        or "\\" in text
        or text.endswith("/")
        or bool(_LOG_SUFFIX.search(text))
    )


def _from_parts(parts: list[str], bare: bool = False) -> Address:
    if len(parts) == 2:
        return Address("project", parts[1], entity=parts[0], either=True, bare=bare)
    return Address("run", parts[1], parts[2], parts[0], bare=bare)


def _forced(rest: str, source: str) -> Address:
    if rest.lower().startswith(("http://", "https://")):
        return _from_url(rest)
    parts = rest.strip("/").split("/")
    if len(parts) >= 4 and parts[2] in _PAGES:
        return _from_pages(parts, None, source)
    if len(parts) not in (2, 3) or not all(_NAME.fullmatch(part) for part in parts):
        raise UsageError(
            "not an address on a W&B server",
            where=source,
            hint="wandb:entity/project/run, wandb:project/run or wandb:entity/project",
        )
    return _from_parts(parts)


def _from_url(text: str) -> Address:
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise UsageError("not a URL", where=text, why=str(error), hint="copy it from the browser") from error
    parts = [unquote(part) for part in url.path.split("/") if part]
    base = f"{url.scheme}://{host}" + (f":{port}" if port else "")
    if host.removeprefix("www.") in _HOSTED:
        base = HOSTED
        if host == "forge.coreweave.com":  # there the service lies beside other products
            parts = parts[1:] if parts[:1] == ["wandb"] else parts
    if len(parts) < 2 or not host:
        raise UsageError(
            "the URL names no project",
            where=text,
            hint="a W&B URL is https://HOST/entity/project, or .../runs/ID, .../sweeps/ID, .../reports/NAME--ID",
        )
    return _from_pages(parts, base, text)


def _from_pages(parts: list[str], host: str | None, source: str) -> Address:
    """``entity/project[/runs/ID/...]``; what follows the id (``/overview``, ``/logs``) says nothing."""
    entity, project, *rest = parts
    page = _PAGES.get(rest[0]) if rest else None
    name = rest[1] if len(rest) > 1 else ""
    for part in (entity, project, *([name] if page in ("run", "sweep") and name else [])):
        if not _NAME.fullmatch(part):
            raise UsageError(f"{part!r} is no name on a W&B server", where=source, hint="copy the URL again")
    if page == "run" and name:
        return Address("run", project, name, entity, host)
    if page == "sweep" and name:
        return Address("sweep", project, name, entity, host)
    if page == "group" and name:
        return Address("project", project, entity=entity, host=host, group=name)
    if page == "report" and name:
        # The part behind the last "--" is the id, base64 without its padding.
        return Address("report", project, name.rpartition("--")[2], entity, host)
    return Address("project", project, entity=entity, host=host)


# What people write, and what the server calls it.
_FIELDS = {
    "name": "display_name",
    "display_name": "display_name",
    "displayName": "display_name",
    "id": "name",
    "state": "state",
    "group": "group",
    "job_type": "jobType",
    "jobType": "jobType",
    "tag": "tags",
    "tags": "tags",
    "sweep": "sweep",
    "user": "username",
    "username": "username",
    "created": "created_at",
    "created_at": "created_at",
    "notes": "notes",
}
_SECTIONS = {"config.": "config.", "summary.": "summary_metrics.", "summary_metrics.": "summary_metrics."}
_OPERATORS = {"!=": "$ne", ">=": "$gte", "<=": "$lte", ">": "$gt", "<": "$lt", "~": "$regex", "=": ""}
_CONDITION = re.compile(r"\s*([\w.][\w./ -]*?)\s*(!=|>=|<=|==|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_EXAMPLE = (
    "--filter 'state=finished, config.lr<=1e-6, name~^grpo', or JSON: '{\"config.seed\": {\"$in\": [1, 2]}}'"
)


def parse_filters(texts: Sequence[str]) -> dict[str, Any] | None:
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
            every += [_condition(part, text) for part in _at_commas(text) if part.strip()]
    return None if not every else every[0] if len(every) == 1 else {"$and": every}


def _mongo(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError("--filter is not valid JSON", where=text, why=str(error), hint=_EXAMPLE) from error
    assert isinstance(found, dict)
    return found


def _at_commas(text: str) -> list[str]:
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
    values = [_literal(part) for part in value.split("|")] if operator in ("=", "!=") else [_literal(value)]
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


def _literal(text: str) -> Any:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float)) or value is None else text
