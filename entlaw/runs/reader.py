"""From SOURCE to runs: find the files, recognise them, put parts together, prepare each run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from entlaw.errors import DataError, EntlawError, SourceNotFound, UnreadableSource, UsageError
from entlaw.findings import Finding
from entlaw.runs import plugins, sparse
from entlaw.runs.archives import read_members
from entlaw.runs.assemble import assemble, split_runs
from entlaw.runs.bounds import check_runs, too_large
from entlaw.runs.files import expand, named_as_log, on_server
from entlaw.runs.incoming import Reception, is_archive
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.recognition import recognise
from entlaw.runs.run import Provenance, RawRun, Run
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions, Source


@dataclass(frozen=True)
class Reading:
    """One run found in a source: usable (``run``) or not (``error``), with what was read either way."""

    path: str
    raw: RawRun | None
    run: Run | None
    error: EntlawError | None

    @property
    def name(self) -> str:
        """The run's name, or the path when nothing could be read."""
        return self.raw.name if self.raw is not None else self.path


def read_raw(path: Path, options: ReadOptions = ReadOptions()) -> list[RawRun]:  # noqa: B008 - frozen
    """Recognise one file by content and read its runs.

    Raises
    ------
    UnreadableSource
        Empty, not a log, or damaged beyond use.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(HEAD_BYTES)
    except OSError as error:
        raise UnreadableSource(
            f"cannot open: {error.strerror}", where=str(path), hint="check the permissions of the file"
        ) from error
    if not start.strip():
        raise UnreadableSource(
            "the file is empty",
            where=str(path),
            hint="wait for the trainer's first line, or point at another file",
        )
    head = Head(path, start, size)
    source, troubles = recognise(head)
    if is_archive(head.start, head.unpacked) and not (source is not None and source.plugin):
        return read_members(path, lambda file: read_raw(file, options))
    if source is not None:
        return [
            replace(
                raw,
                name=raw.name or path.stem,
                findings=(*raw.findings, *sparse.left_out(raw.rows), *troubles),
            )
            for raw in _read_by(source, path, options)
        ]
    raise UnreadableSource(
        "not recognised as a run log",
        where=str(path),
        why="; ".join(f"{told.what}: {told.why}" for told in troubles) or None,
        hint="see `entlaw doctor --help` for the formats that are read",
    )


def _read_by(source: Source, path: Path, options: ReadOptions) -> list[RawRun]:
    """The runs of a file by the source that takes it; an input past a bound is an error that names the file."""
    try:
        return plugins.read(source, path, options) if source.plugin else source.read(path, options)
    except UnreadableSource as error:
        error.where = error.where or str(path)
        raise
    except MemoryError as error:
        raise too_large(
            "the file needs more memory than there is",
            f"it was read as {source.name}",
            "read a part of it, or read it on a machine with more memory",
            path,
        ) from error


def scan(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], selection: Selection | None = None
) -> Iterator[Reading]:
    """Read every run of one or many sources, one :class:`Reading` each; unusable ones carry their error.

    Files in a folder that are not logs are passed over; a file named by the user, or by its name a logger's, that
    cannot be read is an error.

    A source that is no path here may be one or many runs of a W&B server: ``entity/project/run``, a URL
    (:func:`entlaw.runs.wandb.address.parse`). A path that exists is always a path.

    Raises
    ------
    SourceNotFound
        The only source given does not exist, or is a folder without any file that could be a log.
    UnreadableSource, ServerError
        The only source given is a folder or glob without any log, or the server does not give it. Of several
        sources such a one is a :class:`Reading` with that error, so that it does not cost the others their answer.
    UsageError
        Conditions on W&B runs for a source that is a path, or as :func:`entlaw.runs.wandb.listing.find` says.
    """
    selection = selection or Selection()
    options = ReadOptions(selection.step_key, selection.entropy_key, selection.on)
    listed = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    for one in listed:
        try:
            with Reception() as reception:
                for found in _scan_one(reception.take(one), selection, options):
                    yield reception.of(found)
        except DataError as error:
            if len(listed) == 1:
                raise
            yield Reading(os.fspath(one), None, None, error)


def _scan_one(one: str | os.PathLike[str], selection: Selection, options: ReadOptions) -> Iterator[Reading]:
    """The readings of one source."""
    address = on_server(one)
    if address is not None:
        from entlaw.runs.wandb.online import readings

        yield from readings(address, selection)
        return
    if selection.query is not None and selection.query.narrows:
        raise UsageError(
            "--filter, --group, --tag and --sweep choose among the runs of a W&B project",
            where=os.fspath(one),
            hint="this source is a path; name the files themselves",
        )
    files = expand(one)
    several = not Path(os.fspath(one)).expanduser().is_file()
    found: list[tuple[Path, RawRun]] = []
    failed: list[Reading] = []
    for path in files:
        try:
            found += [(path, run) for raw in read_raw(path, options) for run in _apart(raw, selection)]
        except UnreadableSource as error:
            if not several:
                yield Reading(str(path), None, None, error)
            failed.append(Reading(str(path), None, None, error))
    found = _glue_parts(found)
    if selection.join and len(found) > 1:
        found = [(found[0][0], join_runs([raw for _, raw in found], os.fspath(one), selection))]
    if several and not found:
        raise UnreadableSource(
            f"none of {len(files)} files is a run log",
            where=os.fspath(one),
            why=f"the first: {failed[0].error.what}" if failed and failed[0].error else None,
            hint="point at the log itself to see what is wrong with it",
        )
    for path, raw in found:
        label = str(path) if raw.name in (path.stem, "") else f"{path} [{raw.name}]"
        yield reading(str(path), raw, selection, label)
    if several:
        yield from (bad for bad in failed if named_as_log(Path(bad.path)))


def _apart(raw: RawRun, selection: Selection) -> list[RawRun]:
    """Complete runs that follow each other in one file, each on its own."""
    pieces = split_runs(raw.rows, selection.step_key)
    if len(pieces) == 1:
        return [raw]
    check_runs(
        len(pieces),
        "times the steps start over",
        "check that the column taken for the step counts steps (--step-key)",
        raw.provenance.path,
    )
    note = Finding(
        "several-runs",
        "warning",
        f"{len(pieces)} runs follow each other in this file; they were taken apart where the steps start over",
        "runs must not be glued together; the configuration shown is that of the first",
        "give each run a log of its own",
        float(len(pieces)),
    )
    return [
        replace(raw, name=f"{raw.name}#{i}", rows=rows, findings=(note, *raw.findings))
        for i, rows in enumerate(pieces, 1)
    ]


def _glue_parts(found: list[tuple[Path, RawRun]]) -> list[tuple[Path, RawRun]]:
    """Put the parts of one run together again: those that carry the same run id in ``details["run_id"]``.

    Only an id written by the logger counts (a resumed W&B run, the event files of one TensorBoard run):
    files that merely lie in one folder stay apart. A run pulled from a server is whole, and its id is unique in
    its project only.
    """
    groups: dict[tuple[str, str], list[tuple[Path, RawRun]]] = {}
    for i, (path, raw) in enumerate(found):
        identity = None if raw.provenance.format == "wandb" else raw.provenance.details.get("run_id")
        groups.setdefault((raw.provenance.format, str(identity) if identity else f"#{i}"), []).append(
            (path, raw)
        )
    out = []
    for parts in groups.values():
        if len(parts) == 1:
            out += parts
            continue
        parts.sort(key=lambda p: (str(p[1].provenance.details.get("started", "")), str(p[0])))
        rows = pd.concat([p[1].rows for p in parts], ignore_index=True)
        first = parts[0][1]
        config = {k: v for p in parts for k, v in p[1].config.items()}
        note = Finding(
            "parts-joined", "info", f"{len(parts)} files carry the same run id and were read as one run"
        )
        findings = (note, *(f for p in parts for f in p[1].findings))
        out.append((parts[0][0], replace(first, rows=rows, config=config, findings=findings)))
    return out


def join_runs(runs: Sequence[RawRun], where: str, selection: Selection) -> RawRun:
    """One logical run logged as several: outer join by step; a key logged twice keeps the first run's."""
    parts = [assemble(raw.rows, selection.step_key) for raw in runs]
    metrics = parts[0].metrics
    for part in parts[1:]:
        metrics = metrics.combine_first(part.metrics)
    rows = metrics.reset_index()
    names = " + ".join(raw.name for raw in runs)
    findings = (
        Finding("joined", "info", f"{len(runs)} runs joined by step: {names}"),
        *(f for raw in runs for f in raw.findings),
        *(f for part in parts for f in part.findings),
    )
    config = {k: v for raw in reversed(runs) for k, v in raw.config.items()}
    provenance = Provenance(where, runs[0].provenance.format, runs[0].provenance.framework)
    return RawRun(names, rows, config, provenance, findings)


def reading(path: str, raw: RawRun, selection: Selection, label: str) -> Reading:
    """A raw run as a reading, usable or with its error, which says ``label`` where it does not know its place."""
    try:
        return Reading(path, raw, to_run(raw, selection), None)
    except DataError as error:
        error.where = error.where or label
        return Reading(path, raw, None, error)


def read(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], selection: Selection | None = None
) -> list[Run]:
    """Read all usable runs of a source.

    Parameters
    ----------
    source : path, glob, folder, W&B address or URL, or a list of them
    selection : Selection, optional

    Returns
    -------
    list of Run
        At least one.

    Raises
    ------
    SourceNotFound
        A source does not exist.
    UnreadableSource, MissingSeries, ServerError
        When not a single run is usable: the first error found.
    UsageError
        An empty list of sources.
    """
    readings = list(scan(source, selection))
    if not readings:
        raise UsageError("no source was given", hint="give a path, a glob, a folder, or a list of them")
    missing = next((r.error for r in readings if isinstance(r.error, SourceNotFound)), None)
    if missing is not None:  # a list shorter than the one asked for would go unnoticed
        raise missing
    runs = [r.run for r in readings if r.run is not None]
    if not runs:
        raise next(r.error for r in readings if r.error is not None)
    return runs
