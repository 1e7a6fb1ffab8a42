"""Faults to order: which requests they meet, when, how often, and what they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "status": "an HTTP status in place of the answer (status=, message=, retry_after= seconds)",
    "error": "status 200 with a GraphQL error in place of the data (message=)",
    "null": "status 200 and a run or project that is null",
    "slow": "the answer comes late (seconds=)",
    "drop": "the connection is closed instead of an answer",
    "cut": "the connection is closed in the middle of the body",
    "truncated": "a complete HTTP answer whose JSON ends half-way",
    "half_page": "a page of a history with half of its rows, the later half missing",
    "stale": "the oldest export is served, and said to be up to date",
    "skew": "the Date header and the times of runs are off (seconds=)",
    "call": "something happens on the server first, the answer is right (call=)",
}


@dataclass
class Fault:
    """One ordered fault; :meth:`tests.wandb_server.WandbServer.fault` makes it and says what the fields mean.

    Attributes
    ----------
    hits : int
        How often it has struck.
    """

    kind: str
    operation: tuple[str, ...] = ()
    times: int | None = None
    after: int = 0
    run: str | None = None
    status: int = 500
    message: str = "ordered by the test"
    retry_after: float | None = None
    seconds: float = 0.0
    call: Callable[[], Any] | None = None
    hits: int = 0
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if (self.kind == "call") != (self.call is not None):
            raise ValueError("kind='call' and call=FUNCTION belong together")

    def strikes(self, operation: str, variables: Mapping[str, Any]) -> bool:
        """Whether it meets this request; counts it when it does."""
        if self.operation and operation not in self.operation:
            return False
        if self.run is not None and self.run not in (run_named(variables), variables.get("runName")):
            return False
        with self.lock:
            self.seen += 1
            if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
                return False
            self.hits += 1
            return True


def run_named(variables: Mapping[str, Any]) -> str | None:
    """The run that a request is about; each query of the client spells it in its own way."""
    return next((str(variables[k]) for k in ("run", "runName", "runId", "name") if variables.get(k)), None)


def halved(data: Any) -> Any:
    """An answer whose page of history ends after half of its rows."""
    run: dict[str, Any] = ((data or {}).get("project") or {}).get("run") or {}
    for key in ("history", "sampledHistory"):
        rows = run.get(key)
        if rows is not None:
            nested = key == "sampledHistory"
            page = rows[0] if nested else rows
            run[key] = [page[: len(page) // 2]] if nested else page[: len(page) // 2]
    return data
