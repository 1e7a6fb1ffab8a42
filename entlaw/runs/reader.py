"""From SOURCE to runs: find the files, recognise them, put parts together, prepare each run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from entlaw.errors import DataError, EntlawError, SourceNotFound, UnreadableSource, UsageError
from entlaw.findings import Finding
from entlaw.runs import plugins, sparse
from entlaw.runs.archives import read_members
from entlaw.runs.assemble import split_runs
from entlaw.runs.bounds import check_runs, too_large
from entlaw.runs.charts import explain_single, with_tag
from entlaw.runs.files import expand, named_as_log, on_server
from entlaw.runs.gather import Failed, Part, gather
from entlaw.runs.incoming import Reception, is_archive
from entlaw.runs.join import hint_to_join, joined
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.recognition import recognise
from entlaw.runs.run import RawRun, Run
from entlaw.runs.seeds import by_seed
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions, Source

_LOST = ("lines-cut", "records-broken", "records-unread")  # findings of lines that could not be read whole


@dataclass(frozen=True)
class Reading:
    """One run found in a source: usable (``run``) or not (``error``), with what was read either way.

    Attributes
    ----------
    path : str
        The file, or the run's address.
    raw : RawRun or None
    run : Run or None
    error : EntlawError or None
    source : str
        What was given that led to it; empty for what was no path.
    """

    path: str
    raw: RawRun | None
    run: Run | None
    error: EntlawError | None
    source: str = ""

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
    cannot be read is an error. Logs of one run, copies too, are one reading, wherever they lie
    (:mod:`entlaw.runs.gather`).

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
    listed = [os.fspath(one) for one in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    local: list[Part | Failed | Reading] = []
    with Reception() as reception:  # copies of streams and archives stay until all are read
        named: dict[str, str] = {}
        for one in listed:
            address = on_server(one)
            try:
                if address is None:
                    taken = os.fspath(reception.take(one))
                    named[taken] = one
                    local += _parts_of(taken, selection)
                    continue
                from entlaw.runs.wandb.online import readings

                yield from _settled(local, selection, reception, named)  # in the order given
                local = []
                yield from (replace(found, source=one) for found in readings(address, selection))
            except DataError as error:
                if len(listed) == 1:
                    raise
                local.append(Reading(one, None, None, error, one))
        yield from _settled(local, selection, reception, named)


def _parts_of(one: str, selection: Selection) -> list[Part | Failed | Reading]:
    """The logs of a path, a folder or a glob, each as it was read."""
    if selection.query is not None and selection.query.narrows:
        raise UsageError(
            "--filter, --group, --tag and --sweep choose among the runs of a W&B project",
            where=one,
            hint="this source is a path; name the files themselves",
        )
    options = ReadOptions(selection.step_key, selection.entropy_key, selection.on)
    files = expand(one)
    several = not Path(one).expanduser().is_file()
    out: list[Part | Failed | Reading] = []
    failed: list[Failed] = []
    for path in files:
        try:
            for raw in read_raw(path, options):
                out += [Part(path, with_tag(path, piece), one) for piece in _apart(raw, selection)]
        except UnreadableSource as error:
            failed.append(Failed(path, error))
            if not several:
                out.append(Reading(str(path), None, None, error, one))
    if several and not out:
        raise UnreadableSource(
            f"none of {len(files)} files is a run log",
            where=one,
            why=f"the first: {failed[0].error.what}" if failed else None,
            hint="point at the log itself to see what is wrong with it",
        )
    return [*out, *(bad for bad in failed if several and named_as_log(bad.path))]


def _settled(
    found: Sequence[Part | Failed | Reading],
    selection: Selection,
    reception: Reception,
    named: Mapping[str, str],
) -> Iterator[Reading]:
    """Runs from the logs of all sources that are paths, under the names that the sources were given by."""
    for one in _readings(found, selection):
        yield reception.of(replace(one, source=named.get(one.source, one.source)))


def _readings(found: Sequence[Part | Failed | Reading], selection: Selection) -> Iterator[Reading]:
    places = [i for i, one in enumerate(found) if isinstance(one, Part)]
    parts = [one for one in found if isinstance(one, Part)]
    runs, known = gather(parts, [one for one in found if isinstance(one, Failed)], selection.step_key)
    kept: dict[int, Part] = {places[i]: part for i, part in runs.items()}
    if selection.join:
        kept = _joined(kept, selection)
    made = {i: _reading_of(part, selection) for i, part in kept.items()}
    hint_to_join(list(kept.values()), [one.error for one in made.values()], selection)
    for i, one in enumerate(found):
        if isinstance(one, Reading):
            yield one
        elif isinstance(one, Failed):
            if one.path not in known:
                yield Reading(str(one.path), None, None, one.error)
        elif i in made:
            yield made[i]


def _joined(parts: dict[int, Part], selection: Selection) -> dict[int, Part]:
    """The runs of each source joined by step; files that are given one by one are one source."""
    sources: dict[str, list[int]] = {}
    for i, part in parts.items():
        single = Path(part.source).expanduser().is_file()
        sources.setdefault("" if single else part.source, []).append(i)
    out: dict[int, Part] = {}
    for where, places in sources.items():
        given = [parts[i] for i in places]
        for part in joined(given, where or given[0].source, selection):
            at = next(i for i in places if parts[i].path == part.path and i not in out)
            out[at] = part
    return dict(sorted(out.items()))


def _reading_of(part: Part, selection: Selection) -> Reading:
    found = reading(str(part.path), part.raw, selection, part.label)
    explain_single(part.raw, found.error)
    return replace(found, source=part.source)


def _apart(raw: RawRun, selection: Selection) -> list[RawRun]:
    """Complete runs in one file, each on its own: of several seeds, or one after another."""
    return [run for one in by_seed(raw, selection.step_key) for run in _one_after_another(one, selection)]


def _one_after_another(raw: RawRun, selection: Selection) -> list[RawRun]:
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


def reading(path: str, raw: RawRun, selection: Selection, label: str) -> Reading:
    """A raw run as a reading, usable or with its error, which says ``label`` where it does not know its place."""
    try:
        return Reading(path, raw, to_run(raw, selection), None)
    except DataError as error:
        error.where = error.where or label
        # What is missing may be what the lines have lost.
        lost = [f.what for f in raw.findings if f.code in _LOST]
        error.why = "; ".join(filter(None, (error.why, *lost))) or None
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
