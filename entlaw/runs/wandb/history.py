"""The complete history of a run: every row, or a word about what is missing. The sampled one is never asked for.

How it is fetched, and why:

* A run that is over is downloaded as the Parquet files that the server keeps of it, when they hold everything.
* Otherwise all keys are scanned at once. A scan of several named keys gives only the rows that have all of them,
  so with names it takes one scan a key and an outer join by us. Measured on a loopback server with 0.1 s latency,
  10,000 rows: 13 requests and 2 s for all of 2 keys at once, 49 and 8 s for a scan each (they bring the step and the
  time along); with 1,000 rows of 300 keys the two are equal (3.4 s). So it is done for few keys out of very many.
* The SDK's own cache is never used: its files carry no version, so an export that was downloaded while the run
  still grew would leave a hole. What was pulled before is kept by :mod:`entlaw.runs.wandb.cache`.
* A page is a range of steps, not a number of rows. Where steps lie far apart (``_step`` set to a number of tokens),
  the ranges are made wider, so that a page still holds about a thousand rows.
* The last step is taken first and nothing behind it is read, so one fetch is one prefix of a growing run. Its last
  row may still be without keys that are logged a moment later: fetch with ``after`` one less to have it again.
"""

from __future__ import annotations

import fnmatch
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entlaw.errors import EntlawError
from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.parsing.wandb_history import resolve_steps
from entlaw.runs.table import RowBuilder
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.facts import RemoteRun, describe_remote
from entlaw.runs.wandb.listing import RunRef
from entlaw.runs.wandb.sdk import ServerError, quiet

STEP, TIME = "_step", "_timestamp"
PAGE = 1000  # rows; larger ones the server thins out
KEYED_SHARE = 1 / 100  # scans of single keys pay below this share of all keys
TRIES, WAIT = 3, 0.5  # of a fetch that misses something; seconds, doubled each time
_OWN = ("_wandb", "graph_")


@dataclass(frozen=True)
class History:
    """Rows of a run.

    Attributes
    ----------
    rows : pandas.DataFrame
        One row a logged ``_step``, in increasing order, index 0..n-1; float64 columns named as logged, nested keys
        joined by ``.``; ``_step`` first, NaN where nothing was logged.
    last_step : int
        Up to which the server was asked; -1 without history.
    findings : tuple of Finding
        ``history-incomplete`` when the server says that it has more, ``media-left-out``.
    requests : int
        Requests sent, as far as the SDK lets them be seen.
    how : str
        ``export``, ``scan``, ``scan a key`` or ``nothing``.
    """

    rows: pd.DataFrame
    last_step: int
    findings: tuple[Finding, ...] = ()
    requests: int = 0
    how: str = "scan"


@dataclass
class _Table:
    """Rows as they come in, and what was seen while they came."""

    builder: RowBuilder = field(default_factory=RowBuilder)
    present: Counter[str] = field(default_factory=Counter)  # a NaN that was logged is there, too
    media: dict[str, None] = field(default_factory=dict)
    n_rows: int = 0
    last: float = -1.0
    strays: int = 0
    requests: int = 0
    how: str = "scan"

    def add(self, row: Mapping[str, Any], first: int, last: int) -> None:
        step = row.get(STEP)
        if isinstance(step, bool) or not isinstance(step, (int, float)) or not first <= step <= last:
            self.strays += 1
            return
        numbers = {k: v for k, v in self._numbers(row) if v is not None}
        self.present.update(numbers.keys())
        self.n_rows += 1
        self.last = max(self.last, float(step))
        self.builder.add(numbers)

    def _numbers(self, row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in row.items():
            name = f"{prefix}{key}"
            kind = type(value)
            if kind is float or kind is int or value is None:
                yield name, value
            elif kind is dict:
                if "_type" in value:  # histograms, tables, images: their sizes are no metrics
                    self._left_out(name)
                else:
                    yield from self._numbers(value, f"{name}.")
            elif kind is bool or (kind is str and value in _WORDS):
                yield name, _WORDS[value] if kind is str else float(value)
            else:
                self._left_out(name)

    def _left_out(self, name: str) -> None:
        if not name.startswith(_OWN):
            self.media[name] = None

    def frame(self) -> pd.DataFrame:
        return tidy(self.builder.frame())


_WORDS = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}  # as the server spells what JSON cannot


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in order of ``_step``, one a step (the last value of a key wins); ``_step`` first, then keys by name.

    The server's answer has its keys in an order that changes from request to request.
    """
    if STEP not in rows.columns:
        return pd.DataFrame({STEP: np.zeros(0)})
    if not rows[STEP].is_monotonic_increasing or not rows[STEP].is_unique:
        rows = rows.groupby(STEP, sort=True, as_index=False).last()
    names = [STEP, *sorted(c for c in rows.columns if c != STEP)]
    return rows[names].reset_index(drop=True).astype(np.float64)


def fetch(
    client: Client,
    ref: RunRef,
    keys: Sequence[str] | None = None,
    after: int | None = None,
    known: RemoteRun | None = None,
) -> History:
    """Fetch every row with ``_step > after``.

    Parameters
    ----------
    client : Client
    ref : RunRef
    keys : sequence of str, optional
        Keys or globs of keys; their step metrics and the time come with them. None: all.
    after : int, optional
        Only rows behind this ``_step``; None: all.
    known : RemoteRun, optional
        As :func:`entlaw.runs.wandb.facts.describe_remote` gave it just now; asked for if None. It fixes the last step.

    Returns
    -------
    History

    Raises
    ------
    SourceNotFound
        The run was deleted.
    ServerError
        The server fails, or says that it has a history and does not give it.
    """
    asked = 0
    if known is None:
        known, asked = describe_remote(client, ref), 1
    first, last = 0 if after is None else after + 1, known.last_step
    if last is None or first > last:
        empty = pd.DataFrame({STEP: np.zeros(0)})
        return History(empty, -1 if last is None else last, (), asked, "nothing")
    wanted = None if keys is None else _wanted(keys, known)
    table, missing = _Table(), ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(WAIT * 2 ** (attempt - 1))
        table = _fetch_once(client, ref, known, wanted, first, last, again=attempt > 0)
        asked += table.requests
        missing = _missing(table, known, wanted, first, last)
        if not missing:
            break
    rows = table.frame()
    if wanted is not None:
        rows = rows[[c for c in rows.columns if c in wanted or c == STEP]]
    if missing and rows.empty:
        raise ServerError(
            f"the server has a history up to step {last:,} and gives none of it",
            where=ref.path,
            why=missing,
            hint="repeat in a minute: the server may be moving the run's history to its archive",
        )
    return History(rows, last, _findings(table, known, missing, wanted), asked, table.how)


def _wanted(keys: Sequence[str], known: RemoteRun) -> frozenset[str]:
    """The keys that are meant, with what places them in time."""
    chosen = {k for k in known.counts for pattern in keys if k == pattern or fnmatch.fnmatchcase(k, pattern)}
    axes = set(resolve_steps(chosen, known.step_of).values())
    axes |= {k for k in known.counts if is_axis(k)}
    return frozenset(chosen | axes | {STEP, TIME})


def _fetch_once(
    client: Client,
    ref: RunRef,
    known: RemoteRun,
    wanted: frozenset[str] | None,
    first: int,
    last: int,
    again: bool,
) -> _Table:
    run = client.known_run(ref.entity, ref.project, ref.id)
    ended = known.state in ("finished", "crashed", "failed", "killed")
    if ended and first == 0 and not again:
        table = _exported(client, run, ref, last)
        if table is not None:
            return table
    # Steps a page: about as many as hold PAGE rows. When rows were missing, the narrow pages are tried too.
    sparse = (last + 1) / known.lines if known.lines else 1.0
    page = PAGE if again and last / PAGE < 500 else PAGE * max(1, round(sparse))
    alone = [] if wanted is None else sorted(wanted & known.counts.keys())
    if wanted is None or len(alone) > max(1, KEYED_SHARE * (len(known.counts) + len(known.media))):
        table = _Table()
        _scan(client, run, ref, table, None, first, last, page)
        return table
    table = _Table(how="scan a key")
    for key in alone:
        _scan(client, run, ref, table, [key], first, last, page)
    return table


def _scan(
    client: Client,
    run: Any,
    ref: RunRef,
    table: _Table,
    keys: list[str] | None,
    first: int,
    last: int,
    page: int,
) -> None:
    """One pass over the pages; a page whose answer was cut off is asked for again."""
    scan = client.call(
        "reading the history",
        ref.path,
        lambda: run.scan_history(
            keys=keys, page_size=page, min_step=first, max_step=last + 1, use_cache=False
        ),
        2,
    )
    table.requests += 2  # the last step, which the SDK asks for itself, and where the exports are
    end = object()
    at = first
    while True:
        row: Any = client.call("reading the history", ref.path, lambda: next(scan, end), 0)
        now = getattr(scan, "page_offset", at)
        if now != at:
            table.requests += max(0, now - at) // page
            client.requests += max(0, now - at) // page
            at = now
        if row is end:
            return
        table.add(row, first, last)


def _exported(client: Client, run: Any, ref: RunRef, last: int) -> _Table | None:
    """The history from the server's Parquet files; None when they do not hold all of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _Table(how="export")
    with tempfile.TemporaryDirectory(prefix="entlaw-") as folder:

        def download() -> Any:
            try:
                with quiet(client.sdk):  # it draws progress bars
                    return run.download_history_exports(folder, require_complete_history=True)
            except Exception as error:
                if type(error).__name__ == "IncompleteRunHistoryError":
                    return None
                raise

        try:
            got = client.call("downloading the history", ref.path, download, 1)
        except EntlawError:
            return None  # the scan meets the same trouble and tells about it, or does without the files
        if got is None or got.errors or got.contains_live_data or not got.paths:
            return None
        table.requests = 1 + len(got.paths)
        client.requests += len(got.paths)
        try:
            for path in sorted(map(Path, got.paths)):
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=4096):
                        for row in batch.to_pylist():
                            table.add(row, 0, last)
        except (pa.ArrowException, OSError, ValueError):
            return None  # a damaged download
    return table


def _missing(table: _Table, known: RemoteRun, wanted: frozenset[str] | None, first: int, last: int) -> str:
    """What the server says it has and did not give; empty when nothing."""
    told = []
    if wanted is None and table.last < last:
        reached = "none came" if table.last < 0 else f"the last that came is {table.last:,.0f}"
        told.append(f"the last step is {last:,}, {reached}")
    if first == 0:
        if wanted is None and known.lines is not None and table.n_rows < known.lines:
            told.append(f"{table.n_rows:,} of {known.lines:,} rows came")
        short = {
            key: (table.present[key], count)
            for key, count in known.counts.items()
            if count is not None and (wanted is None or key in wanted) and table.present[key] < count
        }
        if short:
            shown = ", ".join(f"{key} {got:,} of {count:,}" for key, (got, count) in list(short.items())[:4])
            told.append(f"values: {shown}" + (f" and {len(short) - 4} more keys" if len(short) > 4 else ""))
    return "; ".join(told)


def _findings(
    table: _Table, known: RemoteRun, missing: str, wanted: frozenset[str] | None
) -> tuple[Finding, ...]:
    out = []
    if missing:
        out.append(
            Finding(
                "history-incomplete",
                "warning",
                f"the server has more than it gave, {TRIES} times: {missing}",
                "points of the run are missing, and a fit on the rest may differ",
                "pull again later with --refresh; a server that archives a run's history later gives it whole",
            )
        )
    if table.strays:
        out.append(
            Finding(
                "stray-rows",
                "info",
                f"{table.strays} rows without a step, or outside the range asked for, were left out",
                value=float(table.strays),
            )
        )
    parents = {key[:dot] for key in table.present for dot, sign in enumerate(key) if sign == "."}
    media = [
        k for k in dict.fromkeys((*table.media, *known.media)) if k not in table.present and k not in parents
    ]
    if media and wanted is None:
        shown = ", ".join(media[:8]) + (f" ... ({len(media)} in all)" if len(media) > 8 else "")
        out.append(
            Finding(
                "media-left-out",
                "info",
                f"no numbers (text, histograms, tables, media) under {len(media)} keys: {shown}",
                value=float(len(media)),
            )
        )
    return tuple(out)
