"""The real client, as its user calls it, and a request without it."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

PATH = "team/proj/r1"


def client(**how: Any) -> Any:
    """A ``wandb.Api`` of its own: they keep the runs that they were asked for."""
    import wandb

    return wandb.Api(**{"timeout": 20, **how})


def scan(path: str = PATH, **how: Any) -> list[dict[str, Any]]:
    """Every row that the client finds."""
    return list(client().run(path).scan_history(use_cache=False, **how))


def http_get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One GET without the client: status, headers, body."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=120)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()
