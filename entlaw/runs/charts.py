"""Charts that TensorBoard's page gives as files: one tag a file, and the tag in the file's name only."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from entlaw.errors import EntlawError, MissingSeries
from entlaw.findings import Finding
from entlaw.runs.keys import canonical
from entlaw.runs.run import RawRun
from entlaw.runs.steps import resolve_step
from entlaw.runs.trace import tells

_COLUMNS = {"wall_time", "step", "value"}
_TABLES = ("csv", "tsv", "table", "wandb-export")
_FEW = 4  # columns of a table of one series: the step, times
_NAME = re.compile(r"run-(?P<run>.+?)[-_]tag-(?P<tag>.+?)(?:\s*\(\d+\))?(?:\.csv)?")


def with_tag(path: Path, raw: RawRun) -> RawRun:
    """A download of one tag with the tag as its key; any other log as it is."""
    columns = {canonical(str(c)): c for c in raw.rows.columns}
    if not {"step", "value"} <= columns.keys() <= _COLUMNS:
        return raw
    named = _NAME.fullmatch(path.name)
    run, tag = (named["run"], named["tag"]) if named else (path.absolute().parent.name, path.stem)
    rows = raw.rows.rename(columns={columns["step"]: "step", columns["value"]: tag})
    if "wall_time" in columns:
        rows = rows.drop(columns=columns["wall_time"])
    note = Finding(
        "tag-from-file-name",
        "info" if named else "warning",
        f"the values are those of {tag!r}, as the file's name says",
        "a TensorBoard download holds the values of one tag without its name",
    )
    details = {**raw.provenance.details, "tag": tag}
    provenance = replace(raw.provenance, details=details)
    name = path.absolute().parent.name if run in (".", "") else run
    return replace(raw, name=name, rows=rows, provenance=provenance, findings=(note, *raw.findings))


def explain_single(raw: RawRun, error: EntlawError | None) -> None:
    """Say of a file with one series only what it is, and how the run is read."""
    if not isinstance(error, MissingSeries):
        return
    columns = (*raw.rows.columns, *raw.rows.attrs.get("unread", ()))
    if any(error.what.startswith(repr(str(c))) for c in columns):  # there, and without a usable value
        return
    tag = raw.provenance.details.get("tag")
    if tag is not None:
        error.why = f"this TensorBoard download holds one tag, {tag!r}"
        error.hint = (
            "download the tag of the other series too and give both with --join, or the event file itself"
        )
    elif raw.provenance.format in _TABLES and raw.rows.shape[1] <= _FEW:
        telling = [str(c) for c in raw.rows.columns if tells(str(c))]
        if len(telling) == 1 and resolve_step(raw.rows).key is not None:
            error.why = f"this table holds one series, {telling[0]!r}, as one exported chart does"
            error.hint = (
                "export the other series' chart too and give both files with --join, or read the run itself"
            )
