"""What a SOURCE string means on a W&B server: a run, a project, a sweep, a report. Text only: no disk, no network."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from entlaw.errors import UsageError

Kind = Literal["run", "project", "sweep", "report"]
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

    kind: Kind
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
