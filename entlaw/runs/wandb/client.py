"""The W&B client: login, patience with an end, and errors that say what to do.

The only module on the reading path that imports ``wandb``, late and inside functions. The SDK asks through a
service process that repeats a failed request for up to twenty minutes and then says that it was "busy"; here it
gives up earlier, so that the server's own answer (429, 500, no such host) is what the user sees.
"""

from __future__ import annotations

import netrc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from entlaw.errors import EntlawError, MissingExtra, UsageError
from entlaw.runs.wandb.sdk import (
    LOGIN,
    ClientCrashed,
    ServerError,
    end_service,
    explain,
    no_key,
    settings_for_now,
)

T = TypeVar("T")

TIMEOUT = 20.0  # seconds for one answer; a page of a long history takes 1 to 3
RETRIES = 3  # by the service, for each request
WAIT = (
    1.0,
    4.0,
)  # seconds between them, doubled each time; whole ones, and none: it takes 0 for its own default
AGAIN = 2  # by us, for what the service does not repeat: an answer cut off half-way
PAUSE = 0.5  # seconds before that, doubled each time


class Client:
    """A connection to a W&B server, made on first use; safe to share between threads.

    Parameters
    ----------
    host : str, optional
        Base URL of the server; by default as the SDK is configured (``WANDB_BASE_URL``, its settings file, wandb.ai).
    timeout : float, optional
        Seconds for one answer; by default ``WANDB_HTTP_TIMEOUT``, else 20.

    Attributes
    ----------
    requests : int
        Requests asked for so far; those that the service repeats are not seen.
    """

    def __init__(self, host: str | None = None, timeout: float | None = None) -> None:
        self._host = host.rstrip("/") if host else None
        self.timeout = timeout or _number(os.environ.get("WANDB_HTTP_TIMEOUT")) or TIMEOUT
        self._made: Any = None
        self._lock = threading.Lock()
        self._runs: dict[tuple[str, str, str], Any] = {}
        self._listed: set[tuple[str, str]] = set()
        self._entity: str | None = None
        self.requests = 0

    @property
    def host(self) -> str:
        """Base URL of the server that is asked."""
        configured = str(os.environ.get("WANDB_BASE_URL") or self.sdk.setup().settings.base_url).rstrip("/")
        if self._host is None or (_hosted(self._host) and _hosted(configured)):
            return configured
        return self._host

    @property
    def sdk(self) -> Any:
        """The ``wandb`` module.

        Raises
        ------
        MissingExtra
        """
        try:
            import wandb
        except ImportError as error:
            raise MissingExtra(
                "the W&B client is not installed",
                why="a run on a W&B server is read with it",
                hint="pip install 'wandb>=0.28'",
            ) from error
        return wandb

    @property
    def api(self) -> Any:
        """The ``wandb.Api``, logged in.

        Raises
        ------
        UsageError
            No API key for this server, or one that it rejects.
        ServerError
            The server cannot be reached, or is no W&B server.
        """
        with self._lock:
            if self._made is None:
                self._made = self._construct()
            return self._made

    def _construct(self) -> Any:
        wandb, host = self.sdk, self.host
        overrides = {"base_url": host}
        key = self._key_of_other_host(host)
        # The Api copies the process-wide settings once, while it is made.
        patience = {
            "x_graphql_retry_max": RETRIES,
            "x_graphql_retry_wait_min_seconds": WAIT[0],
            "x_graphql_retry_wait_max_seconds": WAIT[1],
            "x_graphql_timeout_seconds": self.timeout,
            "x_file_transfer_retry_max": RETRIES,
            "x_file_transfer_retry_wait_min_seconds": WAIT[0],
            "x_file_transfer_retry_wait_max_seconds": WAIT[1],
            "x_file_transfer_timeout_seconds": 10 * self.timeout,
        }
        with settings_for_now(wandb, patience):
            return self._try(LOGIN, host, lambda: wandb.Api(overrides, self._limit(), key))

    def _key_of_other_host(self, host: str) -> str | None:
        """The key for a server that a URL names and the SDK is not configured for; None where it is.

        The SDK would send WANDB_API_KEY, which is of the configured server, to any host that a URL names.
        """
        if self._host is None or host != self._host:
            return None
        if host == Client(timeout=self.timeout).host:
            return None
        path = Path(os.environ.get("NETRC") or Path.home() / ("_netrc" if os.name == "nt" else ".netrc"))
        try:
            hosts = netrc.netrc(path).hosts
        except (OSError, netrc.NetrcParseError):
            hosts = {}
        url = urlsplit(host)
        entry = hosts.get(url.netloc) or hosts.get(url.hostname or "")
        if entry is None or not entry[2]:
            raise no_key(host, "WANDB_API_KEY is of the server in WANDB_BASE_URL and is not shown to others")
        return entry[2]

    def _limit(self) -> int:
        """Seconds after which a request is given up, with all its repetitions."""
        return int(self.timeout * (RETRIES + 1) + WAIT[1] * RETRIES + 1)

    def call(self, what: str, where: str, function: Callable[[], T], requests: int = 1) -> T:
        """Run something that asks the server; its errors become ours.

        Parameters
        ----------
        what : str
            What is being done, e.g. ``reading the run``.
        where : str
            Which run or project.
        function : callable
            Gets no arguments; may be called again after an answer that was cut off.
        requests : int
            Requests it makes, for the count.

        Raises
        ------
        SourceNotFound, UsageError, ServerError
        """
        self.requests += requests
        return self._try(what, where, function)

    def _try(self, what: str, where: str, function: Callable[[], T]) -> T:
        used = self._made
        for attempt in range(AGAIN + 1):
            try:
                return function()
            except EntlawError:
                raise
            except Exception as error:  # the SDK raises its own errors, requests', ValueError and OSError
                told = explain(error, what, where, self.host)
                if isinstance(told, ClientCrashed):
                    self._forget(used)
                if attempt == AGAIN or not (isinstance(told, ServerError) and told.cut_off):
                    raise told from error
                time.sleep(PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _forget(self, used: Any) -> None:
        """Let go of a service process that has died, so that the next request starts another one."""
        if (
            self._made is not used or used is None
        ):  # another thread was here first, and the process is a new one
            return
        self._made, self._runs = None, {}
        end_service(self.sdk)

    def default_entity(self) -> str:
        """The user or team that a path without one belongs to.

        Raises
        ------
        UsageError
            The account has none.
        """
        if self._entity is None:
            api = self.api
            found = api.settings.get("entity") or self.call(
                "asking who you are", self.host, lambda: api.default_entity
            )
            if not found:
                raise UsageError(
                    "this W&B account has no default entity",
                    where=self.host,
                    hint="write entity/project/run, or set WANDB_ENTITY",
                )
            self._entity = str(found)
        return self._entity

    def run(self, entity: str, project: str, run_id: str) -> Any:
        """A run object of the SDK with its configuration and summary as they are now.

        Raises
        ------
        SourceNotFound
        """
        api, path = self.api, f"{entity}/{project}/{run_id}"
        self.default_entity_known()
        key = (entity, project, run_id)
        known = self._runs.get(key)
        if known is None:  # the SDK keeps run objects, so only the first call asks
            self._runs[key] = self.call("reading the run", path, lambda: api.run(path))
        else:
            self.call("reading the run", path, lambda: known.load(force=True))
        return self._runs[key]

    def known_run(self, entity: str, project: str, run_id: str) -> Any:
        """As :meth:`run`, without asking when it was asked for before."""
        return self._runs.get((entity, project, run_id)) or self.run(entity, project, run_id)

    def default_entity_known(self) -> None:
        """Ask once who we are: the SDK wants to know it before it reads any path."""
        api = self.api
        if not api.settings.get("entity") and self._entity is None:
            self._entity = self.call("asking who you are", self.host, lambda: api.default_entity) or None

    def run_or_none(self, entity: str, project: str, run_id: str) -> Any:
        """As :meth:`run`, None when there is no such run."""
        from entlaw.errors import SourceNotFound

        try:
            return self.run(entity, project, run_id)
        except SourceNotFound:
            return None

    def runs(self, entity: str, project: str, filters: dict[str, Any], per_page: int) -> tuple[Any, int]:
        """A lazy listing and the number of runs in it; one request, and one more each further page.

        Raises
        ------
        SourceNotFound
            No such project.
        """
        api, path = self.api, f"{entity}/{project}"

        def ask() -> tuple[Any, int]:
            # The SDK keeps listings, page size and all. They are dropped when one is asked for again, and only then,
            # because runs that other threads are about to get would be dropped with them.
            if (path, str(filters)) in self._listed:
                api.flush()
            self._listed.add((path, str(filters)))
            runs = api.runs(path, filters=filters or None, order="+created_at", per_page=per_page, lazy=True)
            return runs, len(runs)

        runs, count = self.call("listing the runs", path, ask)
        return self._paged(runs, path, per_page), count

    def _paged(self, runs: Any, path: str, per_page: int) -> Any:
        number = 0
        iterator = iter(runs)
        end = object()
        while True:
            one = self.call(
                "listing the runs",
                path,
                lambda: next(iterator, end),
                1 if number and number % per_page == 0 else 0,
            )
            if one is end:
                return
            number += 1
            yield one

    def reports(self, entity: str, project: str) -> Any:
        """The report objects of a project.

        Raises
        ------
        SourceNotFound
            No such project.
        """
        api, path = self.api, f"{entity}/{project}"
        return self.call("listing the reports", path, lambda: list(api.reports(path)))

    def has_project(self, entity: str, project: str) -> bool:
        """Whether the project exists and may be seen."""
        from entlaw.errors import SourceNotFound

        try:
            self.runs(entity, project, {}, 1)
        except SourceNotFound:
            return False
        return True


def _hosted(url: str) -> bool:
    """Whether a URL is of the service that W&B runs itself, under one of its names."""
    name = urlsplit(url).hostname or ""
    return name in ("wandb.ai", "api.wandb.ai", "forge.coreweave.com", "api.forge.coreweave.com")


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value and value > 0 else None
