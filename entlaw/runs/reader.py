"""From SOURCE to runs: find the files, recognise them, assemble, choose, align. Every decision is recorded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from entlaw.errors import DataError, MissingSeries, SourceNotFound, UnreadableSource, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.runs.align import pair
from entlaw.runs.assemble import Assembled, assemble
from entlaw.runs.choose import choose_entropy, choose_score, nearest
from entlaw.runs.run import Align, Choice, Provenance, RawRun, Run
from entlaw.runs.sources import HEAD_BYTES, Head, ReadOptions, sources
from entlaw.runs.units import performance_scale

# In a folder these are never logs; everything else is tried by content.
_NOT_LOGS = {
    ".py", ".sh", ".toml", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".html", ".css", ".js",
    ".safetensors", ".pt", ".pth", ".bin", ".gguf", ".npy", ".npz", ".zip", ".whl", ".lock",
}  # fmt: skip
_SIDECARS = {
    "run.json",
    "meta.json",
    "config.json",
    "wandb-metadata.json",
    "wandb-summary.json",
    "requirements.txt",
}


@dataclass(frozen=True)
class Selection:
    """The user's say in what is read.

    Attributes
    ----------
    on : str or None
        ``val``, ``train``, a key or a glob of keys; None leaves the choice to the rules.
    align : {"next", "same"} or None
        None: ``next`` for validations, ``same`` for training scores.
    scale : float or None
        Factor from the logged score to a fraction; None decides from the numbers.
    step_key, entropy_key, performance_key : str or None
    join : bool
        Join all runs of the source into one by step (a trainer and an orchestrator that log apart).
    """

    on: str | None = None
    align: Align | None = None
    scale: float | None = None
    step_key: str | None = None
    entropy_key: str | None = None
    performance_key: str | None = None
    join: bool = False


@dataclass(frozen=True)
class Reading:
    """One run found in a source: usable (``run``) or not (``error``), with what was read either way."""

    path: str
    raw: RawRun | None
    run: Run | None
    error: DataError | None

    @property
    def name(self) -> str:
        """The run's name, or the path when nothing could be read."""
        return self.raw.name if self.raw is not None else self.path


def expand(source: str | os.PathLike[str]) -> list[Path]:
    """Files behind a path, a folder (searched recursively) or a glob, in natural order.

    Raises
    ------
    SourceNotFound
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _skip(p, path))
        if not files:
            raise SourceNotFound(
                "the folder holds no log", where=text, hint="point at the file or folder the trainer wrote"
            )
        return files
    matches = sorted(Path(m) for m in glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    files = [f for m in matches for f in ([m] if m.is_file() else expand(m) if m.is_dir() else [])]
    if not files:
        near = _similar_names(path)
        raise SourceNotFound(
            "no file matches" if glob.has_magic(text) else "no such file or folder",
            where=text,
            hint=f"nearest: {near}" if near else "check the path; globs may need quotes",
        )
    return files


def _skip(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return hidden or path.suffix.lower() in _NOT_LOGS or path.name in _SIDECARS or path.stat().st_size == 0


def _similar_names(path: Path) -> str:
    import difflib

    parent = path.parent
    if not parent.is_dir():
        return ""
    return ", ".join(difflib.get_close_matches(path.name, os.listdir(parent), n=3, cutoff=0.5))


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
    for source in sources():
        if source.sniff(head):
            return [_named(raw, path) for raw in source.read(path, options)]
    raise UnreadableSource(
        "not recognised as a run log",
        where=str(path),
        hint="see `entlaw doctor --help` for the formats that are read",
    )


def _named(raw: RawRun, path: Path) -> RawRun:
    return raw if raw.name else replace(raw, name=path.stem)


def scan(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], selection: Selection | None = None
) -> Iterator[Reading]:
    """Read every run of one or many sources, one :class:`Reading` each; unusable ones carry their error.

    Files in a folder that are not logs are passed over; a file named by the user that cannot be read is an error.

    Raises
    ------
    SourceNotFound
        A source that does not exist, or a folder without any log.
    """
    selection = selection or Selection()
    options = ReadOptions(selection.step_key, selection.entropy_key, selection.performance_key)
    listed = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    for one in listed:
        files = expand(one)
        several = not Path(os.fspath(one)).expanduser().is_file()
        found: list[tuple[Path, RawRun]] = []
        failed: list[Reading] = []
        for path in files:
            try:
                found += [(path, raw) for raw in read_raw(path, options)]
            except UnreadableSource as error:
                if not several:
                    yield Reading(str(path), None, None, error)
                failed.append(Reading(str(path), None, None, error))
        found = _glue_parts(found)
        if selection.join and len(found) > 1:
            found = [_join(found, os.fspath(one), selection)]
        if several and not found:
            raise UnreadableSource(
                f"none of {len(files)} files is a run log",
                where=os.fspath(one),
                why=f"the first: {failed[0].error.what}" if failed and failed[0].error else None,
                hint="point at the log itself to see what is wrong with it",
            )
        yield from (_reading(path, raw, selection) for path, raw in found)


def _glue_parts(found: list[tuple[Path, RawRun]]) -> list[tuple[Path, RawRun]]:
    """Put the parts of one run together again: those that carry the same run id in ``details["run_id"]``.

    Only an id written by the logger counts (a resumed W&B run, the event files of one TensorBoard run):
    files that merely lie in one folder stay apart.
    """
    groups: dict[tuple[str, str], list[tuple[Path, RawRun]]] = {}
    for i, (path, raw) in enumerate(found):
        identity = raw.provenance.details.get("run_id")
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


def _join(found: list[tuple[Path, RawRun]], where: str, selection: Selection) -> tuple[Path, RawRun]:
    """One logical run logged as several: outer join by step; a key logged twice keeps the first run's."""
    parts = [assemble(raw.rows, selection.step_key) for _, raw in found]
    metrics = parts[0].metrics
    for part in parts[1:]:
        metrics = metrics.combine_first(part.metrics)
    rows = metrics.reset_index()
    names = " + ".join(raw.name for _, raw in found)
    findings = (
        Finding("joined", "info", f"{len(found)} runs joined by step: {names}"),
        *(f for _, raw in found for f in raw.findings),
        *(f for part in parts for f in part.findings),
    )
    config = {k: v for _, raw in reversed(found) for k, v in raw.config.items()}
    provenance = Provenance(where, found[0][1].provenance.format, found[0][1].provenance.framework)
    return found[0][0], RawRun(names, rows, config, provenance, findings)


def _reading(path: Path, raw: RawRun, selection: Selection) -> Reading:
    try:
        return Reading(str(path), raw, to_run(raw, selection), None)
    except DataError as error:
        error.where = error.where or (f"{path}" if raw.name in (path.stem, "") else f"{path} [{raw.name}]")
        return Reading(str(path), raw, None, error)


def to_run(raw: RawRun, selection: Selection | None = None) -> Run:
    """Assemble, choose the series, align.

    Raises
    ------
    MissingSeries
        No entropy, no performance, or nothing to pair.
    UsageError
        A key the user named is not in the log.
    """
    selection = selection or Selection()
    if len(raw.rows) == 0:
        raise MissingSeries(
            "no metrics were logged",
            why=raw.findings[0].what if raw.findings else None,
            hint="the run stopped before its first step, or logs its metrics elsewhere",
        )
    if selection.step_key is not None and selection.step_key not in raw.rows.columns:
        raise MissingSeries(
            f"no key {selection.step_key!r} in this log",
            hint=nearest(selection.step_key, [str(c) for c in raw.rows.columns]),
        )
    assembled = assemble(raw.rows, selection.step_key)
    metrics = assembled.metrics
    meaning, framework, entropy_choice, findings = choose_entropy(metrics, raw.config, selection.entropy_key)
    score, score_choice, more = choose_score(metrics, meaning.key, selection.performance_key or selection.on)
    findings += more
    if selection.align is not None and selection.align not in ("next", "same"):
        raise UsageError(f"unknown alignment {selection.align!r}", hint="use next or same")
    align: Align = selection.align or ("next" if score.kind == "validation" else "same")
    before = pretraining_step(assembled, meaning.key, score.keys) if align == "next" else None
    points, more = pair(metrics[meaning.key], score.series, align, before)
    findings += more
    if selection.scale is None:
        scale, more = performance_scale(score.series.to_numpy(float), score.is_accuracy)
        findings += more
    else:
        scale = selection.scale
    points = points.assign(performance=points["performance"] * scale)
    infinite = int(np.isinf(metrics[meaning.key]).sum() + np.isinf(score.series).sum())
    if infinite:
        points = points[np.isfinite(points).all(axis=1)].reset_index(drop=True)
        findings.append(Finding("infinite-values", "warning", f"{infinite} infinite values were left out"))
    framework = str(
        raw.config.get("framework", framework)
    )  # what the run says of itself beats its keys' spelling
    if raw.provenance.framework in ("unknown", "") and framework != "unknown":
        raw = replace(raw, provenance=replace(raw.provenance, framework=framework))
    return Run(
        name=raw.name,
        metrics=metrics.assign(**{score.key: score.series}),
        points=points,
        entropy=meaning,
        performance_key=score.key,
        performance_kind=score.kind,
        performance_scale=scale,
        align=align,
        config=raw.config,
        provenance=raw.provenance,
        choices=(
            *assembled.choices,
            entropy_choice,
            score_choice,
            _align_choice(selection, score.kind, align, before),
        ),
        findings=worst_first([*raw.findings, *assembled.findings, *findings]),
    )


def pretraining_step(assembled: Assembled, entropy_key: str, score_keys: Sequence[str]) -> float | None:
    """Step of a validation that was logged before the first entropy: it is of the untrained policy."""
    order = assembled.first_row
    entropy_rows = order[entropy_key].to_numpy()
    entropy_rows = entropy_rows[entropy_rows >= 0]
    keys = [k for k in score_keys if k in order.columns]
    if not keys or len(entropy_rows) == 0:
        return None
    rows = order[keys].to_numpy()
    rows = np.where(rows >= 0, rows, np.iinfo(np.int64).max).min(axis=1)
    first = int(np.argmin(rows))
    return float(order.index[first]) if rows[first] < entropy_rows.min() else None


def _align_choice(selection: Selection, kind: str, align: str, before: float | None) -> Choice:
    why = f"as told by --align {align}" if selection.align else f"default for a {kind} score"
    if align == "next":
        why += ": a score at step t is of the policy after update t, so it pairs with the next entropy"
        if before is not None:
            why += f"; the one at step {before:g} was made before training and pairs with the first"
    else:
        why += ": both are of the same rollout"
    return Choice("alignment", align, why, ("same" if align == "next" else "next",))


def read(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], selection: Selection | None = None
) -> list[Run]:
    """Read all usable runs of a source.

    Parameters
    ----------
    source : path, glob, folder, or a list of them
    selection : Selection, optional

    Returns
    -------
    list of Run
        At least one.

    Raises
    ------
    SourceNotFound, UnreadableSource, MissingSeries
        When not a single run is usable: the first error found.
    """
    readings = list(scan(source, selection))
    runs = [r.run for r in readings if r.run is not None]
    if not runs:
        raise next(r.error for r in readings if r.error is not None)
    return runs
