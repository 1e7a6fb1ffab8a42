"""What is around the calls of the W&B SDK: its errors, its process-wide settings, the end of its service process."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from entlaw.errors import DataError, EntlawError, SourceNotFound, UsageError


class ServerError(DataError, ConnectionError):
    """A server that cannot be reached, refuses, or does not answer as it should.

    Attributes
    ----------
    status : int or None
        HTTP status, where there was an answer.
    transient : bool
        Whether the same request may succeed later: a watcher goes on, a script may try again.
    cut_off : bool
        The answer ended early, which the SDK does not repeat by itself.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int | None = None,
        transient: bool = True,
        cut_off: bool = False,
        where: str | None = None,
        why: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, where=where, why=why, hint=hint)
        self.status, self.transient, self.cut_off = status, transient, cut_off


class ClientCrashed(ServerError):
    """The SDK's service process has died."""


LOGIN = "logging in"


class NoKey(UsageError):
    """No API key for a server that wants one."""


_STATUS = re.compile(r"\b(?:error|status|HTTP|code|response:?)[ :=(]*([45]\d\d)\b", re.IGNORECASE)
_NO_KEY = re.compile(
    r"no (api key|authentication) configured|not logged in|api[ _]key (is )?not", re.IGNORECASE
)
_BAD_KEY = re.compile(
    r"api key (must|invalid)|invalid.{0,20}(api.?key|credential)|API_KEY invalid", re.IGNORECASE
)
_UNREACHED = re.compile(
    r"connection refused|no such host|name resolution|network is unreachable|no route to host|"
    r"lookup .* (on|:)|cannot assign requested|dial tcp|tls: |certificate|x509|connect: ",
    re.IGNORECASE,
)
_CUT = re.compile(
    r"unexpected EOF|\bEOF\b|connection reset|broken pipe|server closed|unexpected end of JSON|malformed chunk|"
    r"transport connection broken",
    re.IGNORECASE,
)
_NOT_JSON = re.compile(
    r"invalid character|looking for beginning of value|Expecting value|not.{0,10}valid json|"
    r"unmarshal|<html|<!doctype",
    re.IGNORECASE,
)
_SLOW = re.compile(
    r"timed? ?out|deadline exceeded|did not respond in time|service process is busy|canceled", re.IGNORECASE
)
_CRASHED = re.compile(r"service process is not running", re.IGNORECASE)
_MISSING = re.compile(r"could not find|not found|does not exist|no such (run|project)", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|forbidden|access denied|not authorized", re.IGNORECASE)


def explain(error: BaseException, what: str, where: str, host: str) -> EntlawError:
    """The error of ours that says the same, with what to do.

    Parameters
    ----------
    error : BaseException
        As the SDK raised it.
    what : str
        What was being done.
    where : str
        Which run, project or server.
    host : str
        The server's base URL.

    Returns
    -------
    EntlawError
    """
    said = " | ".join(dict.fromkeys(_texts(error)))[:2000]
    status = _status(error, said)
    told = _refusal(said, status, what, where, host) or _failure(said, status, what, where, host)
    return told or ServerError(
        f"{what} failed",
        status=status,
        where=where,
        why=_short(said) or type(error).__name__,
        hint=f"check the server {host} and repeat",
    )


def _refusal(said: str, status: int | None, what: str, where: str, host: str) -> EntlawError | None:
    """An answer that stays the same until the user acts: no key, no access, no such run."""
    short = _short(said)
    if _CRASHED.search(said):
        return ClientCrashed(
            "the W&B client crashed",
            transient=False,
            where=where,
            why=f"{what} at {host}: {short}",
            hint="`pip install -U wandb`; the run can also be read from its folder on the machine that logged it "
            "(wandb/run-*/run-*.wandb)",
        )
    if _NO_KEY.search(said):
        return no_key(host, "every request to a W&B server needs one")
    if status == 401 or _BAD_KEY.search(said):
        return UsageError(
            "the server rejects the W&B API key",
            where=host,
            why=short,
            hint=f"a key is of one server: `wandb login --relogin --host {host}`, or set WANDB_API_KEY",
        )
    if status == 403 or _DENIED.search(said):
        return ServerError(
            "no access",
            status=403,
            transient=False,
            where=where,
            why=short,
            hint="the project is private or of another team: ask its owner, or log in as a member of the team",
        )
    if what == LOGIN and (status == 404 or _NOT_JSON.search(said)):
        return _no_server(host, short)
    if status == 404 or (status in (None, 200) and _MISSING.search(said) and not _UNREACHED.search(said)):
        return SourceNotFound(
            "not found on the W&B server",
            where=where,
            why=f"{what} at {host}: {short}",
            hint="check entity, project and the run's id (the last part of its URL, not its shown name); "
            "deleted runs and private projects of others look the same",
        )
    return None


def _failure(said: str, status: int | None, what: str, where: str, host: str) -> ServerError | None:
    """A server that does not answer, or not as it should."""
    short = _short(said)
    if status == 429:
        return ServerError(
            "the W&B server refuses more requests for now (rate limit)",
            status=429,
            where=where,
            why=short,
            hint="wait a minute and repeat; what was pulled before is kept, and --limit asks for less",
        )
    if status is not None and status >= 500:
        return ServerError(
            f"the W&B server fails ({status})",
            status=status,
            where=where,
            why=f"{what} at {host}: {short}",
            hint="repeat later; see https://status.wandb.com for the hosted service",
        )
    if _NOT_JSON.search(said):
        return _no_server(host, short)
    if _UNREACHED.search(said):
        return ServerError(
            "the W&B server cannot be reached",
            where=host,
            why=short,
            hint="check the network and WANDB_BASE_URL; runs pulled before (`entlaw pull`) and offline files are read "
            "without it",
        )
    if _CUT.search(said):
        at_once = "giving up after" not in said
        return ServerError(
            "the W&B server ended its answer early",
            cut_off=at_once,
            where=where,
            why=f"{what} at {host}: {short}",
            hint="repeat; if it comes back, a proxy in between may cut long answers",
        )
    if _SLOW.search(said):
        return ServerError(
            "the W&B server does not answer in time",
            where=where,
            why=f"{what} at {host}: {short}",
            hint="repeat, or give it longer: WANDB_HTTP_TIMEOUT=60 (seconds)",
        )
    return None


def no_key(host: str, why: str) -> NoKey:
    """The error about a key that is not there."""
    login = "`wandb login`" if "api.wandb.ai" in host else f"`wandb login --host {host}`"
    return NoKey(
        "no W&B API key", where=host, why=why, hint=f"{login}, or set WANDB_API_KEY and WANDB_BASE_URL"
    )


def _no_server(host: str, short: str) -> ServerError:
    return ServerError(
        "the answer is not that of a W&B server",
        transient=False,
        where=host,
        why=short,
        hint="check WANDB_BASE_URL: it is the server's root, such as https://wandb.example.org; a proxy or a "
        "login page may answer in its place",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = getattr(one, "exc", None)  # CommError keeps what it was made from
        todo += [one.__cause__, one.__context__, inner if isinstance(inner, BaseException) else None]


def _texts(error: BaseException) -> Iterator[str]:
    for one in _chain(error):
        message = getattr(getattr(one, "response", None), "message", None)
        for text in (str(one), message if isinstance(message, str) else ""):
            if text.strip():
                yield " ".join(text.split())


def _status(error: BaseException, said: str) -> int | None:
    for one in _chain(error):
        status = getattr(getattr(one, "response", None), "http_status", None)
        if isinstance(status, int) and status >= 400:
            return status
    match = _STATUS.search(said)
    return int(match.group(1)) if match else None


def _short(said: str) -> str:
    """The longest part, which names the reason; the others wrap it."""
    parts = said.split(" | ")
    best = min(parts, key=lambda part: (len(part) < 12, len(part))) if parts else ""
    return best[:300]


# The SDK's process-wide settings are changed for a moment and put back: a trainer in this process must keep its own
# patience with an outage and its own messages. Several threads may read at once, so the last one out puts them back.
_LOCK = threading.RLock()
_INSIDE = 0
_BEFORE = False


@contextmanager
def quiet(wandb: Any) -> Iterator[None]:
    """Without messages and progress bars of the SDK: stderr is ours, and so is the terminal it would draw on."""
    global _INSIDE, _BEFORE
    settings = wandb.setup().settings
    with _LOCK:
        if _INSIDE == 0:
            _BEFORE = settings.silent
            settings.silent = True
        _INSIDE += 1
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if _INSIDE == 0:
                settings.silent = _BEFORE


@contextmanager
def settings_for_now(wandb: Any, told: Mapping[str, Any]) -> Iterator[None]:
    """With other settings, and nothing asked on the terminal; one thread at a time."""
    settings = wandb.setup().settings
    with _LOCK, quiet(wandb):
        before = {name: getattr(settings, name) for name in told}
        try:
            for name, value in told.items():
                setattr(settings, name, value)
            wandb.termsetup(settings, None)  # silent also means: no question for an API key
            yield
        finally:
            for name, value in before.items():
                setattr(settings, name, value)
            shown = settings.silent
            settings.silent = _BEFORE
            wandb.termsetup(settings, None)
            settings.silent = shown


PATIENCE = 10.0  # seconds; nothing is left to upload then: `Run.finish` has waited for that


def end_service(wandb: Any, patience: float = PATIENCE) -> bool:
    """Bring the SDK down as it does itself at exit, and kill its service process if that takes too long.

    ``wandb.teardown()`` sends the process a goodbye and waits for it without end. A process that is just giving up a
    request that took too long closes the connection without reading the goodbye (seen with wandb 0.31 on a loaded
    machine), and then both wait until somebody kills one: a command that has printed its result would never return.

    Parameters
    ----------
    wandb : module
        The SDK.
    patience : float, optional
        Seconds to wait for the process.

    Returns
    -------
    bool
        False where the process had to be killed.
    """
    process = _process(wandb)
    timer = threading.Timer(patience, process.kill) if process is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    with suppress(Exception, SystemExit):  # the SDK exits with the code of a process that was killed
        wandb.teardown()
    if timer is None:
        return True
    killed = timer.finished.is_set()
    timer.cancel()
    return not killed


def _process(wandb: Any) -> Any:
    """The service process of this process, or None: none was started, or the SDK keeps it elsewhere by now."""
    found = getattr(getattr(wandb, "sdk", None), "wandb_setup", None)
    for name in ("_singleton", "_connection", "_proc", "_process"):
        found = getattr(found, name, None)
    return found if callable(getattr(found, "kill", None)) else None
