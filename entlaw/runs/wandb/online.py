"""Readings of runs on a W&B server: found, pulled through the user's cache, and read like any other log."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from entlaw.errors import CacheError, EntlawError, MissingSeries, SourceNotFound
from entlaw.findings import Finding
from entlaw.runs.prepare import Selection
from entlaw.runs.run import RawRun
from entlaw.runs.wandb.address import Address
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.facts import describe_remote, raw_run
from entlaw.runs.wandb.history import fetch
from entlaw.runs.wandb.listing import Query, RunRef, find
from entlaw.runs.wandb.sdk import NoKey

if TYPE_CHECKING:
    from entlaw.runs.reader import Reading


def cache_folder() -> Path:
    """Where pulled runs are kept between calls: ``ENTLAW_CACHE_DIR``, else the user's cache folder."""
    told = os.environ.get("ENTLAW_CACHE_DIR")
    if told:
        return Path(told).expanduser() / "wandb"
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "entlaw" / "wandb"


def resolve(client: Client, address: Address, query: Query | None = None) -> list[RunRef]:
    """As :func:`entlaw.runs.wandb.listing.find`; of a source that may also be a path, errors speak of both.

    Raises
    ------
    SourceNotFound, UsageError, ServerError
    """
    try:
        return find(client, address, query)
    except EntlawError as error:
        if not address.bare:
            raise
        raise _both(error, address) from error


def _both(error: EntlawError, address: Address) -> EntlawError:
    """The server's error, with a word on the path that may have been meant."""
    reason = error.what if not error.why else f"{error.what}; {error.why}"
    if isinstance(error, SourceNotFound):
        return SourceNotFound(
            "no such file or folder, and not found on the W&B server either",
            where=str(address),
            why=reason,
            hint=f"{error.hint}; or check the path" if error.hint else "check the path",
        )
    if isinstance(error, NoKey):
        return SourceNotFound(
            "no such file or folder",
            where=str(address),
            why=f"it could be a run on the W&B server {error.where}, but there is no API key to look for it",
            hint=f"check the path; or {error.hint}",
        )
    error.why = (
        f"there is no such file or folder, so it was taken for a run on a W&B server; {error.why or ''}"
    )
    error.hint = f"if a path was meant, check its spelling; if a run: {error.hint}"
    return error


def readings(address: Address, selection: Selection) -> Iterator[Reading]:
    """The runs of an address, in the order of the listing; those that are copies of each other are one run.

    All are pulled before the first is given, since a later one may hold more of the same run.

    Raises
    ------
    SourceNotFound, UsageError, ServerError
        Nothing can be listed. What is wrong with one run alone is in its :class:`Reading`.
    """
    from entlaw.runs.reader import Reading

    client = Client(address.host)
    refs = resolve(client, address, selection.query)
    if selection.join:
        refs = _with_group(client, address, refs)
    found: list[tuple[RunRef, RawRun | None, EntlawError | None]] = list(_pulled(client, refs))
    runs = _gathered([(ref, raw) for ref, raw, _ in found if raw is not None], selection)
    for ref, raw, error in found:
        if raw is None:
            yield Reading(ref.url or ref.path, None, None, error)
        elif ref.path in runs:
            yield _reading(client, ref, runs[ref.path], selection)


def _gathered(found: list[tuple[RunRef, RawRun]], selection: Selection) -> dict[str, RawRun]:
    """By the path of the run that stands for it: copies as one, and with ``--join`` each group as one."""
    from entlaw.runs.gather import Part, gather
    from entlaw.runs.join import join_runs

    by_path = {Path(ref.path): ref for ref, _ in found}
    parts, _ = gather([Part(Path(ref.path), raw) for ref, raw in found], step_key=selection.step_key)
    shown = Counter(by_path[part.path].name for part in parts.values())
    groups: dict[str, list[tuple[RunRef, RawRun]]] = {}
    for part in parts.values():
        ref, raw = by_path[part.path], part.raw
        if shown[ref.name] > 1:  # names on a server are not unique, and a table must tell its rows apart
            raw = replace(raw, name=f"{raw.name} ({ref.id})")
        together = ref.group if selection.join else None
        groups.setdefault(together or f"#{ref.id}", []).append((ref, raw))
    return {
        members[0][0].path: members[0][1]
        if len(members) == 1
        else join_runs([raw for _, raw in members], members[0][1].provenance.path, selection)
        for members in groups.values()
    }


def _with_group(client: Client, address: Address, refs: list[RunRef]) -> list[RunRef]:
    """One run to be joined: with the others of its group."""
    if len(refs) != 1 or refs[0].group is None:
        return refs
    only = refs[0]
    whole = Address("project", only.project, entity=only.entity, host=address.host, group=only.group)
    return [only, *(ref for ref in find(client, whole) if ref.id != only.id)]


def _pulled(client: Client, refs: list[RunRef]) -> Iterator[tuple[RunRef, RawRun | None, EntlawError | None]]:
    """Every run with its rows, from the cache as far as it is there."""
    from entlaw.runs.wandb.pull import pull

    done = 0
    try:
        for ref, one in zip(refs, pull(client, refs, cache_folder()), strict=True):
            if one.error is not None or one.path is None:
                yield ref, None, one.error
            else:
                yield ref, _read(one.path, one.findings), None
            done += 1
        return
    except CacheError as error:
        trouble = Finding(
            "cache-not-written",
            "warning",
            f"the run could not be kept: {error.where}: {error.what}",
            "the next call fetches everything again",
            "make room, or set ENTLAW_CACHE_DIR to another folder",
        )
    for ref in refs[done:]:  # an answer does not have to wait for room on a disk
        try:
            known = describe_remote(client, ref)
            history = fetch(client, ref, known=known)
            yield ref, raw_run(ref, known, history.rows, (trouble, *history.findings)), None
        except EntlawError as error:
            yield ref, None, error


def _read(path: Path, findings: tuple[Finding, ...]) -> RawRun:
    from entlaw.runs.reader import read_raw

    raw = read_raw(path)[0]
    return replace(raw, findings=tuple(dict.fromkeys((*findings, *raw.findings))))


def _reading(client: Client, ref: RunRef, raw: RawRun, selection: Selection) -> Reading:
    from entlaw.runs.reader import reading

    found = reading(ref.url or ref.path, raw, selection, f"{ref.path} [{raw.name}]")
    if isinstance(found.error, MissingSeries) and ref.group and not selection.join:
        others = _others(client, ref)
        if others:
            names = ", ".join(other.name for other in others[:3])
            found.error.hint = (
                f"its group {ref.group!r} has more runs ({names}): if one is the trainer and another the "
                f"orchestrator of the same training, add --join; {found.error.hint}"
            )
    return found


def _others(client: Client, ref: RunRef) -> list[RunRef]:
    """The other runs of a run's group, as far as a listing of one page shows."""
    whole = Address("project", ref.project, entity=ref.entity, group=ref.group)
    try:
        return [one for one in find(client, whole, Query(limit=20)) if one.id != ref.id]
    except EntlawError:
        return []
