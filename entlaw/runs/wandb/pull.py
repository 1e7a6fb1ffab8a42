"""Pull runs into a folder: everything the first time, later only what is new."""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from entlaw.errors import CacheError, EntlawError
from entlaw.findings import Finding
from entlaw.runs.run import RawRun
from entlaw.runs.wandb.cache import Cache
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.facts import RemoteRun, describe_remote, raw_run
from entlaw.runs.wandb.history import fetch
from entlaw.runs.wandb.listing import FINAL, RunRef
from entlaw.runs.wandb.stored import STEP, CachedRun, Identity, grown, joined, last_step, ordered

AT_ONCE = 4  # the server's rate limit is per user; more at once only meet it earlier


@dataclass(frozen=True)
class Pulled:
    """The result of pulling one run.

    Attributes
    ----------
    name : str
    path : pathlib.Path or None
        The Parquet file; None when there is none.
    state : str
        As the server says: running, finished, crashed, failed, killed.
    last_step : int or None
        Highest ``_step``.
    rows_new, rows : int
        Rows that were not there before, and all.
    requests : int
        Requests sent for this run.
    seconds : float
    findings : tuple of Finding
    error : EntlawError or None
        Why this run was not pulled; what was there before is unchanged.
    """

    name: str
    path: Path | None
    state: str
    last_step: int | None
    rows_new: int
    rows: int
    requests: int
    seconds: float
    findings: tuple[Finding, ...] = ()
    error: EntlawError | None = None


@dataclass
class _Fetched:
    """Rows on their way into the cache, and what it took."""

    rows: pd.DataFrame
    findings: list[Finding]
    requests: int = 0


def pull_run(
    client: Client, ref: RunRef, folder: Path, *, keys: Sequence[str] | None = None, refresh: bool = False
) -> Pulled:
    """Bring a run's file in a folder up to date.

    Parameters
    ----------
    client : Client
    ref : RunRef
    folder : pathlib.Path
    keys : sequence of str, optional
        Globs of the keys wanted; None: all. Keys that an earlier pull brought are kept and kept up to date.
    refresh : bool
        Fetch everything anew, whatever is there.

    Returns
    -------
    Pulled

    Raises
    ------
    EntlawError
        The run cannot be read, or the folder not be written; what was there before is unchanged.
    """
    started = time.monotonic()
    cache, identity = Cache(folder), Identity(client.host, ref.entity, ref.project, ref.id)
    with cache.locked(identity):
        now = describe_remote(client, ref)
        loaded = cache.load(identity, now.name)
        old, requests = None if refresh or not _usable(loaded.entry) else loaded.entry, 1
        globs = _globs(old, keys)
        if old is not None and _unchanged(old, now, globs):
            entry, told = old, loaded.findings
        else:
            got = _fetch(client, ref, now, old, globs)
            requests += got.requests
            # That a history was rewritten is news of this pull, not a property of the run.
            kept = [f.as_dict() for f in got.findings if f.code != "history-rewritten"]
            about = {
                "facts": dataclasses.asdict(now),
                "ref": dataclasses.asdict(ref),
                "globs": globs,
                "short": _short(got.rows, now, globs),
                "findings": kept,
                "state": now.state,
                "last_step": now.last_step,
                "url": now.details.get("url"),
                "wandb": str(client.sdk.__version__),
                "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            entry, told = CachedRun(identity, now.name, got.rows, about), (*loaded.findings, *got.findings)
        if entry is not old or not loaded.complete:
            cache.save(loaded.path, entry)
    known = 0 if loaded.entry is None else len(loaded.entry.rows)
    return Pulled(
        now.name,
        loaded.path,
        now.state,
        last_step(entry.rows),
        max(0, len(entry.rows) - known),
        len(entry.rows),
        requests,
        time.monotonic() - started,
        tuple(told),
    )


def _usable(entry: CachedRun | None) -> bool:
    """Whether an entry says what is needed to go on from it."""
    return entry is not None and {"facts", "globs", "short", "findings"} <= entry.about.keys()


def _globs(old: CachedRun | None, keys: Sequence[str] | None) -> list[str] | None:
    """Keys to keep up to date: those asked for, and those that are there; None is all."""
    if keys is None or (old is not None and old.about.get("globs") is None):
        return None
    return sorted({*keys, *(old.about["globs"] if old is not None else ())})


def _unchanged(old: CachedRun, now: RemoteRun, globs: list[str] | None) -> bool:
    """Whether a run that had ended when it was pulled is still as it was: then nothing has to be asked for."""
    return (
        now.state in FINAL
        and not _incomplete(old)
        and old.about["globs"] == globs
        and _text(old.about["facts"]) == _text(dataclasses.asdict(now))
    )


def _incomplete(old: CachedRun) -> bool:
    """Whether the server gave less than it has: then what is there is nothing to build on."""
    return any(finding["code"] == "history-incomplete" for finding in old.about["findings"])


def _text(told: Any) -> str:
    """Plain data as text, so that NaN equals NaN and a tuple what JSON makes of it."""
    return json.dumps(told, sort_keys=True)


def _fetch(
    client: Client, ref: RunRef, now: RemoteRun, old: CachedRun | None, globs: list[str] | None
) -> _Fetched:
    """The rows of a run as one pull would give them, with as little asked for as that takes."""
    last = None if old is None else last_step(old.rows)
    if old is None or last is None or _incomplete(old) or old.about["globs"] != globs:
        return _whole(client, ref, now, globs)
    if now.last_step is None or now.last_step < last:
        return _anew(client, ref, now, globs, f"its last step is {now.last_step}, it was {last}")
    got = fetch(client, ref, globs, last - 1, now)
    rows = grown(old.rows, _kept_rows(got.rows, globs))
    if rows is None:
        again = _anew(client, ref, now, globs, f"its step {last} is not what it was")
        again.requests += got.requests
        return again
    out = _Fetched(rows, list(got.findings), got.requests)
    before = old.about["short"]
    short = {key: n for key, n in _short(rows, now, globs).items() if n > before.get(key, 0)}
    fewer = globs is None and now.lines is not None and len(rows) < now.lines
    if not short and not (fewer and now.state in FINAL):
        return out
    if now.state in FINAL:  # complete or not is decided once, by everything
        whole = _whole(client, ref, now, globs)
        whole.requests += out.requests
        return whole
    # Keys with values further back than what was known: they appeared late, or were counted late.
    late = fetch(client, ref, sorted(map(glob.escape, short)), None, now)
    more = late.rows[[STEP, *(key for key in short if key in late.rows.columns)]]
    more = _kept_rows(more, [])
    kept = rows.drop(columns=[key for key in short if key in rows.columns])
    return _Fetched(joined(kept, more), [*out.findings, *late.findings], out.requests + late.requests)


def _whole(client: Client, ref: RunRef, now: RemoteRun, globs: list[str] | None) -> _Fetched:
    got = fetch(client, ref, globs, None, now)
    return _Fetched(ordered(_kept_rows(got.rows, globs)), list(got.findings), got.requests)


def _anew(client: Client, ref: RunRef, now: RemoteRun, globs: list[str] | None, why: str) -> _Fetched:
    """Everything again, because the history behind the known rows is another one now."""
    out = _whole(client, ref, now, globs)
    out.findings.insert(
        0,
        Finding(
            "history-rewritten",
            "warning",
            f"the run was rewound or logged again since the last pull: {why}",
            "rows pulled before are no longer part of it; all were fetched again",
        ),
    )
    return out


def _kept_rows(rows: pd.DataFrame, globs: list[str] | None) -> pd.DataFrame:
    """Where only some keys are asked for, the rows that have one of them: which others come depends on the way."""
    if globs is None:
        return rows
    told = [key for key in rows.columns if key not in (STEP, "_timestamp")]
    return rows[rows[told].notna().any(axis=1)].reset_index(drop=True)


def _short(rows: pd.DataFrame, now: RemoteRun, globs: list[str] | None) -> dict[str, int]:
    """Keys of which there are fewer values than the server counts, and how many are missing."""
    out = {}
    for key, count in now.counts.items():
        if key.startswith("_") or not (globs is None or any(fnmatch.fnmatchcase(key, g) for g in globs)):
            continue
        have = int(rows[key].notna().sum()) if key in rows.columns else 0
        missing = (1 if have == 0 else 0) if count is None else count - have
        if missing > 0:
            out[key] = missing
    return out


def _fields(kind: type[Any], told: dict[str, Any]) -> dict[str, Any]:
    """The fields that this version knows, lists as the tuples they were."""
    known = {field.name for field in dataclasses.fields(kind)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in told.items() if k in known}


def stored_run(entry: CachedRun) -> RawRun:
    """A run from the cache as the server would give it.

    Raises
    ------
    KeyError, TypeError
        Metadata that :func:`pull_run` did not write.
    """
    about = entry.about
    known = RemoteRun(**_fields(RemoteRun, about["facts"]))
    ref = RunRef(**_fields(RunRef, about["ref"]))
    return raw_run(ref, known, entry.rows, [Finding(**f) for f in about["findings"]])


def pull(
    client: Client,
    refs: Sequence[RunRef],
    folder: Path,
    *,
    keys: Sequence[str] | None = None,
    refresh: bool = False,
    at_once: int = AT_ONCE,
) -> Iterator[Pulled]:
    """Pull many runs, a few at once; a run that fails does not cost the others.

    Yields
    ------
    Pulled
        In the order of ``refs``, each as soon as it and all before it are done.

    Raises
    ------
    CacheError
        The folder cannot be written to: the others would meet the same.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Pulled | BaseException]] = queue.SimpleQueue()
    for number in range(len(refs)):
        todo.put(number)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, _kept(client, refs[number], folder, keys, refresh)))
            except (
                BaseException
            ) as error:  # told where the results are taken, not in a thread that nobody hears
                done.put((number, error))

    # Daemons: Ctrl-C ends the program at once, and files are replaced whole, so none is left half.
    for _ in range(min(at_once, len(refs))):
        threading.Thread(target=work, daemon=True).start()
    ready: dict[int, Pulled] = {}
    try:
        for number in range(len(refs)):
            while number not in ready:
                which, result = done.get()
                if isinstance(result, BaseException):
                    raise result
                ready[which] = result
            yield ready.pop(number)
    finally:
        stop.set()


def _kept(client: Client, ref: RunRef, folder: Path, keys: Sequence[str] | None, refresh: bool) -> Pulled:
    """As :func:`pull_run`, with an error that is of this run alone as a result."""
    started = time.monotonic()
    try:
        return pull_run(client, ref, folder, keys=keys, refresh=refresh)
    except EntlawError as error:
        if isinstance(error, CacheError) and error.errno is not None:
            raise
        error.where = error.where or ref.path
        return Pulled(ref.name or ref.id, None, "", None, 0, 0, 0, time.monotonic() - started, (), error)
