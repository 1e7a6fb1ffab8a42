"""Log formats of other distributions: found by entry point, and never the reason of a traceback.

A plug-in names a :class:`~entlaw.runs.source.Source` in its metadata::

    [project.entry-points."entlaw.sources"] mylab = "mylab_logs:SOURCE"

One that cannot be loaded, or fails while it looks at a file, costs its own format and not the others: each run that
is read then carries a finding that names it. One that fails on a file that it took for its own is an error.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pandas as pd

from entlaw.errors import EntlawError, MissingExtra, UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source

GROUP = "entlaw.sources"


@dataclass(frozen=True)
class PlugIns:
    """What other distributions offer: formats, and a finding for each that cannot be loaded."""

    sources: tuple[Source, ...]
    troubles: tuple[Finding, ...]


def load(ours: Iterable[str]) -> PlugIns:
    """Load the sources of all plug-ins.

    Parameters
    ----------
    ours : iterable of str
        Names that entlaw's own sources have.
    """
    taken = dict.fromkeys(ours, "entlaw")
    loaded, troubles = [], []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        who = _distribution(entry)
        try:
            source = replace(_source(entry), plugin=who)
            if source.name in taken:
                raise ValueError(f"the name {source.name!r} is that of a source of {taken[source.name]}")
        except (Exception, SystemExit) as error:  # whatever importing somebody else's code may raise
            troubles.append(trouble(f"{entry.name!r} (of {who})", "could not be loaded", error))
            continue
        taken[source.name] = who
        loaded.append(source)
    return PlugIns(tuple(loaded), tuple(troubles))


def _source(entry: EntryPoint) -> Source:
    found = entry.load()
    if not isinstance(found, Source):
        raise TypeError(f"{entry.value} is a {type(found).__name__}, not an entlaw.runs.source.Source")
    return found


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def trouble(who: str, what: str, error: BaseException) -> Finding:
    """A finding about a plug-in whose format cannot be read."""
    return Finding(
        "plugin-failed",
        "warning",
        f"the log source plug-in {who} {what}",
        _reason(error),
        "update or uninstall it; without it, a file of its format may be taken for another one",
    )


def _reason(error: BaseException) -> str:
    """What was raised, and in which line of whose code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:300] + where


def sniff(source: Source, head: Head) -> bool | int | Finding:
    """What a plug-in says of a file (:class:`~entlaw.runs.source.Source`), or a finding where it fails to say."""
    try:
        claim = source.sniff(head)
        return claim if type(claim) is int else bool(claim)
    except (Exception, SystemExit) as error:
        return trouble(_named(source), "failed while it looked at the file", error)


def read(source: Source, path: Path, options: ReadOptions) -> list[RawRun]:
    """The runs that a plug-in reads from a file.

    Raises
    ------
    UnreadableSource
        As the plug-in says, or because it failed or gave something else than runs.
    MissingExtra
        A module that it needs is not installed.
    """
    missing = [module for module in source.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"the log source plug-in {_named(source)} needs {', '.join(missing)}",
            where=str(path),
            hint=f"pip install {' '.join(missing)}",
        )
    try:
        runs = source.read(path, options)
        problem = next(_problems(runs), None)
    except EntlawError:
        raise
    except (Exception, SystemExit) as error:
        problem = _reason(error)
    if problem is None:
        return runs
    raise UnreadableSource(
        f"the log source plug-in {_named(source)} failed",
        where=str(path),
        why=problem,
        hint="report it to its authors; once it is uninstalled, the file is read as whatever else it looks like",
    )


def _problems(runs: object) -> Iterator[str]:
    """What is wrong with what a plug-in gave."""
    if not isinstance(runs, list) or not all(isinstance(run, RawRun) for run in runs):
        yield f"it gave {type(runs).__name__}, not a list of RawRun"
        return
    if not runs:
        yield "it returned no run and no error"
    for run in runs:
        if not isinstance(run.rows, pd.DataFrame):
            yield f"the rows of {run.name!r} are a {type(run.rows).__name__}, not a DataFrame"
            continue
        odd = [str(name) for name, kind in run.rows.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
        if odd:
            yield f"columns of {run.name!r} are not numbers: {', '.join(odd[:5])}"


def _named(source: Source) -> str:
    return f"{source.name!r} (of {source.plugin})"
