"""MLflow's local file store: ``mlruns/EXPERIMENT/RUN/metrics/KEY``, one file a key with lines ``timestamp value step``.

Each file is read on its own; all of one run carry the run's id and are put together by it. Read without MLflow.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from entlaw.errors import UnreadableSource
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import Head, ReadOptions, Source, cannot_read, cut_line, iso_time, unread

# Milliseconds since 1970, the value, the step; later versions append the ids of a model or data set.
_LINE = re.compile(rb"(\d{10,17}) (\S+) (-?\d+)(?: .*)?\r?")
# MLflow allows no "@" in a key; verl writes "_at_" in its place.
_AT = re.compile(r"_at_(?=\d+(?:/|$))")
_LONGEST = 10_000  # a parameter's text; longer ones are prompts or whole files


def sniff(head: Head) -> bool:
    """Whether the file is in the ``metrics`` folder of a run and begins like a metric."""
    return _run_folder(head.path) is not None and _LINE.fullmatch(head.start.partition(b"\n")[0]) is not None


def _run_folder(path: Path) -> Path | None:
    """The folder of the run; a key with slashes is in folders below ``metrics``."""
    for parent in path.absolute().parents:
        if parent.name == "metrics" and (parent.parent / "meta.yaml").is_file():
            return parent.parent
    return None


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read one metric of a run, one row a step; of two values of one step the one logged later counts.

    Parameters
    ----------
    path : pathlib.Path
    options : ReadOptions
        Not needed: MLflow has one step axis.

    Returns
    -------
    list of RawRun
        One, with ``details["run_id"]``, which all metrics of the run share.

    Raises
    ------
    UnreadableSource
    """
    folder = _run_folder(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise cannot_read(error, path, "check the file's permissions") from error
    if folder is None:
        raise UnreadableSource(
            "not in the folder of an MLflow run", where=str(path), hint="point at the folder of the run"
        )
    cut = lines.pop()  # a last line without its end may be half a number
    values, bad = _values(lines)
    if not values:
        raise UnreadableSource(
            "the metric holds no value", where=str(path), hint="point at the folder of the run"
        )
    key = path.absolute().relative_to(folder.absolute() / "metrics").as_posix()
    steps = sorted(values)
    rows = pd.DataFrame(
        {"step": np.array(steps, dtype=np.float64), _AT.sub("@", key): [values[s][1] for s in steps]}
    )
    findings = unread(
        "lines-unread",
        bad,
        f"lines of {key} are not `timestamp value step` and were left out",
        "the file is damaged",
    )
    if cut.strip():
        findings.append(cut_line(f"the last line of {key} is incomplete and was left out"))
    details = {"run_id": str(folder.resolve()), "mlflow_run": folder.name, "step_axis": "step (MLflow's)"}
    if started := iso_time(min(at for at, _ in values.values()) / 1e3):
        details["started"] = started
    name = _text(folder / "tags" / "mlflow.runName") or folder.name
    return [
        RawRun(
            name,
            rows,
            _params(folder, _changed(folder / "params")),
            Provenance(str(path), SOURCE.name, "unknown", details),
            tuple(findings),
        )
    ]


def _values(lines: list[bytes]) -> tuple[dict[int, tuple[int, float]], int]:
    """Time and value of each step, and the number of lines that cannot be read."""
    values: dict[int, tuple[int, float]] = {}
    bad = 0
    for line in lines:
        match = _LINE.fullmatch(line)
        number = _number(match[2]) if match else None
        if match is None or number is None:
            bad += bool(line.strip())
            continue
        step, at = int(match[3]), int(match[1])
        if step not in values or at >= values[step][0]:
            values[step] = (at, number)
    return values, bad


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else float("nan")


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            return handle.read(_LONGEST + 1).strip()
    except OSError:
        return ""


def _changed(folder: Path) -> int:
    """When a folder got or lost an entry; 0 without it."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=4)  # every metric of a run asks for them
def _params(folder: Path, changed: int) -> dict[str, str]:
    """The parameters of a run; keys with slashes lie in folders. They are read again when `changed` is another."""
    root = folder / "params"
    found = {p.relative_to(root).as_posix(): _text(p) for p in sorted(root.rglob("*")) if p.is_file()}
    return {key: value for key, value in found.items() if len(value) <= _LONGEST}


SOURCE = Source(
    "mlflow",
    order=40,
    sniff=sniff,
    read=read,
    reference="https://mlflow.org/docs/latest/self-hosting/architecture/backend-store",
)
