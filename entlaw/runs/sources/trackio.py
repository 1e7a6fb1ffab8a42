"""trackio projects: one SQLite file, one row of ``metrics`` per logged record, as JSON.

Schema as of trackio 0.43: ``metrics(id, run_id, timestamp, run_name, step, metrics)`` and ``configs(run_id,
run_name, config, created_at)``; files of older releases have no ``run_id``, and a run is then its name. The
file is opened read-only. SQLite keeps no checksums: damage to its structure is found and refused, but a digit
that flipped inside a stored value cannot be distinguished from a value.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.bounds import check_runs, too_large
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import Head, ReadOptions, Source
from entlaw.runs.table import RowBuilder, flatten

_MAGIC = b"SQLite format 3\x00"
_RECOVER = "copy it again, or save what is left: sqlite3 {} .recover | sqlite3 recovered.db"
_SMALLEST_LIMIT = 1 << 20  # bytes of a value
_STEPS, _FREE_STEPS = 1000, 20_000  # of SQLite's machine between two looks; looks at any file
_NEEDED = ("run_name", "step", "metrics")


def sniff(head: Head) -> bool:
    """Whether the file is an SQLite database; whether it is trackio's, only ``read`` can tell."""
    return head.start.startswith(_MAGIC)


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all runs of a trackio project.

    Parameters
    ----------
    path : pathlib.Path
    options : ReadOptions
        Not needed: trackio has one step axis.

    Returns
    -------
    list of RawRun
        In order of first appearance.

    Raises
    ------
    UnreadableSource
        Another SQLite file, a damaged or locked one, or one without runs.
    """
    try:
        _check_whole(path)
        with closing(_open(path)) as db:
            _check_sound(db, path)
            return _runs(db, path)
    except (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError) as error:
        # SQLite quotes damaged names in its messages, and they need not be UTF-8; a damaged length can be huge.
        raise _unreadable(error, path) from error


def _open(path: Path) -> sqlite3.Connection:
    # immutable=1 makes a file readable where no lock or journal can be made, but it ignores a write-ahead log:
    # only without one.
    immutable = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{immutable}", uri=True, timeout=5.0)
    db.text_factory = bytes  # bytes that are not UTF-8 must not stop the reading of the rest
    db.execute("PRAGMA trusted_schema = OFF")  # a file from elsewhere must not run functions of its choice
    # No value is longer than the file, and no honest query needs more steps than a few for each of its bytes.
    size = path.stat().st_size
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_SMALLEST_LIMIT, 2 * size))
    steps = itertools.count(1)
    db.set_progress_handler(lambda: next(steps) > _FREE_STEPS + size // _STEPS, _STEPS)
    return db


def _check_whole(path: Path) -> None:
    """Refuse a file that was cut short: SQLite reads the missing end of a page as zeros and may not notice."""
    with path.open("rb") as handle:
        header = handle.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC) or Path(f"{path}-wal").exists():
        return  # SQLite itself refuses the former; a write-ahead log may hold the pages that are missing here
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    expected = page * int.from_bytes(header[28:32], "big")
    size = path.stat().st_size
    if size < expected or size % max(page, 1):
        raise UnreadableSource(
            "the SQLite file was cut short",
            where=str(path),
            why=f"{size} bytes; its header says {expected}",
            hint=_RECOVER.format(path.name),
        )


def _check_sound(db: sqlite3.Connection, path: Path) -> None:
    problems = [_text(row[0]) for row in db.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise UnreadableSource(
            "the SQLite file is damaged",
            where=str(path),
            why="; ".join(problems)[:300],
            hint=_RECOVER.format(path.name),
        )


def _unreadable(error: Exception, path: Path) -> UnreadableSource:
    text = str(error)
    if text == "interrupted":
        return too_large(
            "the SQLite file takes too long to read",
            "its size does not explain the work that a plain reading of its tables takes",
            f"save its tables anew: sqlite3 {path.name} .dump | sqlite3 copied.db",
            path,
        )
    if "locked" in text or "busy" in text:
        return UnreadableSource(
            "the SQLite file is locked",
            where=str(path),
            why=text,
            hint="try again, or read a copy of the file",
        )
    return UnreadableSource(
        "the SQLite file cannot be read",
        where=str(path),
        why=text,
        hint=_RECOVER.format(path.name),
    )


def _is_table(db: sqlite3.Connection, name: str) -> bool:
    """Whether it stores rows: a view or a virtual table is a query of its maker's choice."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    made = db.execute(query, (name,)).fetchone()
    return made is not None and not _text(made[0]).lstrip().lower().startswith("create virtual")


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    """The columns that are stored: `table_info` leaves out those that are computed."""
    return [_text(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]


def _runs(db: sqlite3.Connection, path: Path) -> list[RawRun]:
    columns = _columns(db, "metrics") if _is_table(db, "metrics") else []
    if not set(_NEEDED) <= set(columns):
        tables = [_text(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        raise UnreadableSource(
            "an SQLite file, but not a trackio project",
            where=str(path),
            why=f"it has no table metrics({', '.join(_NEEDED)}); tables: {', '.join(tables) or 'none'}",
            hint="trackio keeps its projects in TRACKIO_DIR, one <project>.db each",
        )
    identity = "run_id" if "run_id" in columns else "run_name"
    order = "id" if "id" in columns else "rowid"
    builders: dict[str, RowBuilder] = {}
    names: dict[str, str] = {}
    started: dict[str, str] = {}
    bad: dict[str, int] = {}
    when = "timestamp" if "timestamp" in columns else "NULL"
    query = f"SELECT {identity}, run_name, step, metrics, {when} FROM metrics ORDER BY {order}"
    for run, name, step, text, time in db.execute(query):
        key = _text(run)
        builder = builders.setdefault(key, RowBuilder())
        check_runs(len(builders), "run names in the project", "export the runs that you mean", path)
        names[key] = _text(name)
        started.setdefault(key, _text(time) if time is not None else "")
        record = _record(text)
        if record is None or not isinstance(step, int):
            bad[key] = bad.get(key, 0) + 1
        else:
            builder.add({**record, "step": step})
    if not builders:
        raise UnreadableSource(
            "the trackio project holds no metrics",
            where=str(path),
            hint="its runs have not logged yet; check the project's name",
        )
    configs = _configs(db)
    repeated = {name for name, n in Counter(names.values()).items() if n > 1}
    out = []
    for key, builder in builders.items():
        name = f"{names[key]} ({key[:8]})" if names[key] in repeated else names[key]
        details = {
            "run_id": key,
            "project": path.stem,
            "rows": builder.n_rows,
            "step_axis": "step (trackio's)",
        }
        if started[key]:
            details["started"] = started[key]
        provenance = Provenance(str(path), SOURCE.name, "unknown", details)
        findings = _findings(bad.get(key, 0))
        out.append(RawRun(name, builder.frame(), configs.get(key, {}), provenance, findings))
    return out


def _findings(n_bad: int) -> tuple[Finding, ...]:
    if not n_bad:
        return ()
    return (
        Finding(
            "undecodable-values",
            "warning",
            f"{n_bad} records are not JSON objects or have no step, and were left out",
            "the file was damaged, or written by something else than trackio",
            value=float(n_bad),
        ),
    )


def _configs(db: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    columns = _columns(db, "configs") if _is_table(db, "configs") else []
    if "config" not in columns:
        return {}
    identity = "run_id" if "run_id" in columns else "run_name"
    out: dict[str, dict[str, Any]] = {}
    for run, text in db.execute(f"SELECT {identity}, config FROM configs"):
        out[_text(run)] = {k: v for k, v in (_record(text) or {}).items() if not k.startswith("_")}
    return out


def _record(text: Any) -> dict[str, Any] | None:
    """A JSON object stored as text or as a blob, flat; None when it is neither.

    Objects with a ``_type`` are tables, images or histograms: the numbers in them are not metrics.
    """
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            return None
        return dict(flatten({k: v for k, v in record.items() if not (isinstance(v, dict) and "_type" in v)}))
    except (TypeError, ValueError, RecursionError):
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


SOURCE = Source(
    "trackio",
    order=30,
    sniff=sniff,
    read=read,
    reference="https://github.com/gradio-app/trackio",
)
