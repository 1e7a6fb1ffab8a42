"""Which of the logs that were read are one run, and one run made of them.

A run leaves many traces: a W&B file and the console beside it, a state in every checkpoint, event files, copies.
Logs are of one run when a logger's run id says so, when their values are equal (:mod:`.trace`), when they lie where
only one run writes (:mod:`.places`), or when one continues the other (:mod:`.continuing`). The most exact of the
complete ones is read; the others fill what it lacks; a finding names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from entlaw.errors import EntlawError
from entlaw.findings import Finding
from entlaw.runs.continuing import Chain, chains
from entlaw.runs.fill import fill
from entlaw.runs.likely import likely_pairs
from entlaw.runs.places import RunFolder, places_of
from entlaw.runs.run import RawRun
from entlaw.runs.trace import SINGLE, Trace, agreement, is_copy, is_same, is_single_of, trace_of

_WHOLE = ("wandb",)  # a run pulled from a server is all there is of it
_COMPLETE = 0.75  # a log with fewer of the steps completes another, and not the other way round


@dataclass(frozen=True, eq=False)
class Part:
    """One log as it was read, and the source it came with."""

    path: Path
    raw: RawRun
    source: str = ""

    @property
    def label(self) -> str:
        """The file, and the run in it where its name does not tell."""
        place = str(self.path)
        return place if self.raw.name in (self.path.stem, "") else f"{place} [{self.raw.name}]"


@dataclass(frozen=True, eq=False)
class Failed:
    """A file that could not be read."""

    path: Path
    error: EntlawError


class _Groups:
    """Parts that are one run; each group has a main part that the others were compared with."""

    def __init__(self, parts: Sequence[Part], step_key: str | None) -> None:
        self.parts = parts
        self.traces = [trace_of(part.raw, step_key) for part in parts]
        self.members: dict[int, list[int]] = {i: [i] for i in range(len(parts))}
        self.main = list(range(len(parts)))
        self.why: dict[int, list[str]] = {}

    def put(self, i: int, j: int, why: str) -> None:
        """The group of part j joins that of part i."""
        into, away = self.main[i], self.main[j]
        if into == away:
            return
        for k in self.members[away]:
            self.main[k] = into
        self.members[into] += self.members.pop(away)
        reasons = [why, *self.why.pop(away, [])]
        self.why[into] = list(dict.fromkeys([*self.why.get(into, []), *reasons]))


def gather(
    parts: Sequence[Part], failed: Sequence[Failed] = (), step_key: str | None = None
) -> tuple[dict[int, Part], set[Path]]:
    """Make one part of those that are of one run.

    Parameters
    ----------
    parts : sequence of Part
    failed : sequence of Failed
        Files that could not be read. One that lies in the folder of a run that could is no run of its own.
    step_key : str, optional

    Returns
    -------
    runs : dict
        By the position of the part that stands for the run. Parts that are not there were of another.
    known : set of Path
        Failed files that belong to a run.
    """
    if len(parts) < 2 and not failed:
        return dict(enumerate(parts)), set()
    groups = _Groups(parts, step_key)
    _by_value(groups)
    _by_place(groups)
    _without_numbers(groups)
    _by_any_id(groups)
    known = _unreadable_parts(groups, failed)
    merged = {
        i: _merged(groups, i, members, step_key) if len(members) > 1 else parts[i]
        for i, members in groups.members.items()
    }
    for i, broken in known.items():
        merged[i] = _with_findings(merged[i], [_unreadable(one) for one in broken])
    return _continued(_by_id(merged), groups, step_key), {
        one.path for found in known.values() for one in found
    }


# Which ---------------------------------------------------------------------------------------------


def _by_value(groups: _Groups) -> None:
    """Equal values at equal steps. Longer logs come first, so that a beginning joins a run and not two runs it."""
    traces = groups.traces
    likely = likely_pairs(traces)
    order = sorted(range(len(traces)), key=lambda i: (-traces[i].table.size, i))
    placed: set[int] = set()
    for i in order:
        for j in likely[i]:
            main = groups.main[j]
            if _are_parts(groups.parts[i], groups.parts[j]):  # put together by their id, one after the other
                continue
            if j in placed and is_same(traces[i], traces[j]) and _compatible(traces[i], traces[main]):
                groups.put(j, i, "equal values at equal steps")
                break
        placed.add(i)


def _compatible(a: Trace, b: Trace) -> bool:
    if is_copy(a, b):
        return True
    found, _ = agreement(a, b)
    return found.same or found.cells < 4


def _by_place(groups: _Groups) -> None:
    """Logs in a folder that one run writes."""
    homes: dict[tuple[RunFolder, str], list[tuple[bool, int]]] = {}
    for i, part in enumerate(groups.parts):
        for place, home, is_main in places_of(part.path):
            homes.setdefault((place, home), []).append((not is_main, i))
    for (place, _), found in homes.items():
        found.sort(key=lambda one: (one[0], -groups.traces[one[1]].table.size, one[1]))
        if found[0][0]:  # no main log that the others could be of
            continue
        main = found[0][1]
        for _, i in found[1:]:
            if place.sure or not agreement(groups.traces[i], groups.traces[main])[0].differ:
                groups.put(main, i, f"they lie in one {place.what}")


def _without_numbers(groups: _Groups) -> None:
    """An event file without scalars (settings, text) beside or below one of its run."""
    holders: dict[tuple[str, Path], int] = {}
    for i, part in enumerate(groups.parts):
        if len(part.raw.rows):
            holders.setdefault((part.raw.provenance.format, part.path.absolute().parent), i)
    for i, part in enumerate(groups.parts):
        if len(part.raw.rows) == 0 and part.raw.provenance.format not in _WHOLE:
            folder = part.path.absolute().parent
            for above in (folder, folder.parent):
                if (j := holders.get((part.raw.provenance.format, above))) is not None:
                    groups.put(j, i, "the others hold no numbers")
                    break


def _unreadable_parts(groups: _Groups, failed: Sequence[Failed]) -> dict[int, list[Failed]]:
    homes = {
        (place, home): groups.main[i]
        for i, part in enumerate(groups.parts)
        for place, home, _ in places_of(part.path)
    }
    known: dict[int, list[Failed]] = {}
    for one in failed:
        at = next((homes[p, home] for p, home, _ in places_of(one.path) if (p, home) in homes), None)
        if at is not None:
            known.setdefault(at, []).append(one)
    return known


# One of them ---------------------------------------------------------------------------------------


def _merged(groups: _Groups, at: int, members: list[int], step_key: str | None) -> Part:
    """The best log of a run, with what only the others hold."""
    order = _best_first(groups, members)
    best, others = order[0], order[1:]
    part = groups.parts[best]
    fills = []
    for i in others:
        if is_copy(groups.traces[i], groups.traces[best]):
            continue
        found, by_step = agreement(groups.traces[i], groups.traces[best])
        if by_step and (found.same or found.cells == 0):
            fills.append(groups.parts[i].raw)
    raw, filled = fill(part.raw, fills, step_key)
    names = list_names([groups.parts[i].label for i in others])
    kept = "" if not filled else f"; {filled} values that it lacks came from the others"
    note = Finding(
        "same-run",
        "info",
        f"{len(members)} logs are one run: {part.label} was read, not {names}{kept}",
        "; ".join(groups.why[at]),
        "give each run once; the most exact of the complete logs counts",
        float(len(members)),
    )
    config = {k: v for i in reversed(order) for k, v in groups.parts[i].raw.config.items()}
    return replace(part, raw=replace(raw, config=config, findings=(note, *raw.findings)))


def _best_first(groups: _Groups, members: list[int]) -> list[int]:
    """Complete before cut, exact before rounded, long before short, in the order given.

    The log that reaches furthest is of the pass that led to the final policy; one that differs from it holds discarded
    steps. Single precision of what another log holds in decimals is a rounding of it, whatever its number of digits.
    """
    traces = {i: groups.traces[i] for i in members}
    furthest = max(
        traces.values(), key=lambda t: (t.step[-1], len(t.step)) if len(t.step) else (-np.inf, 0.0)
    )
    decimals = [t for t in traces.values() if 0 < t.digits < SINGLE]

    def key(i: int) -> tuple[float, ...]:
        t, part = traces[i], groups.parts[i]
        same = t is furthest or is_copy(t, furthest) or agreement(t, furthest)[0].same
        homes = places_of(part.path)
        main = any(is_main for _, _, is_main in homes)
        # What the main log of a folder lacks is filled, so that a run that goes on keeps its name.
        whole = (main and any(place.sure for place, _, _ in homes)) or len(t.step) >= _COMPLETE * len(
            furthest.step
        )
        shadow = t.digits == SINGLE and any(is_single_of(t, other) for other in decimals)
        printed = "console" in part.raw.provenance.format
        worse = (not (same and whole), shadow, -t.digits, -t.table.size, printed, not main)
        return *worse, len(part.path.parts), i

    return sorted(members, key=key)


def list_names(names: Iterable[str], most: int = 4) -> str:
    """A few names, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _with_findings(part: Part, findings: Sequence[Finding]) -> Part:
    return replace(part, raw=replace(part.raw, findings=(*findings, *part.raw.findings)))


def _unreadable(one: Failed) -> Finding:
    return Finding(
        "part-unreadable",
        "info",
        f"{one.path} belongs to this run and could not be read: {one.error.what}",
        "the run's other logs were read",
    )


# Parts that follow each other ------------------------------------------------------------------------


def _run_id(part: Part) -> tuple[str, str] | None:
    """The run id that a logger wrote. One pulled from a server is whole, and unique in its project only."""
    form, identity = part.raw.provenance.format, part.raw.provenance.details.get("run_id")
    return (form, str(identity)) if identity and form not in _WHOLE else None


def _by_any_id(groups: _Groups) -> None:
    """Files of one id of which another log holds the run: they join it rather than each other."""
    holders: dict[tuple[str, str], list[int]] = {}
    for i, part in enumerate(groups.parts):
        if (identity := _run_id(part)) is not None:
            holders.setdefault(identity, []).append(i)
    for (form, _), found in holders.items():
        mains = list(dict.fromkeys(groups.main[i] for i in found))
        best = {m: _best_first(groups, groups.members[m])[0] for m in mains} if len(mains) > 1 else {}
        within = next((m for m, b in best.items() if groups.parts[b].raw.provenance.format != form), None)
        for m in mains if within is not None else []:
            groups.put(within if within is not None else m, m, "they carry one run id")


def _are_parts(one: Part, two: Part) -> bool:
    """Whether a logger says of two logs that they are one run, started at different times."""
    started = [part.raw.provenance.details.get("started") for part in (one, two)]
    return _run_id(one) is not None and _run_id(one) == _run_id(two) and started[0] != started[1]


def _by_id(runs: dict[int, Part]) -> dict[int, Part]:
    """Put the parts of one run together again: those that carry the same run id in ``details["run_id"]``.

    Only an id written by the logger counts (a resumed W&B run, the event files of one TensorBoard run).
    """
    groups: dict[object, list[int]] = {}
    for i, part in runs.items():
        groups.setdefault(_run_id(part) or i, []).append(i)
    out = dict(runs)
    for members in groups.values():
        if len(members) == 1:
            continue
        members.sort(
            key=lambda i: (str(runs[i].raw.provenance.details.get("started", "")), str(runs[i].path))
        )
        note = Finding(
            "parts-joined", "info", f"{len(members)} files carry the same run id and were read as one run"
        )
        for i in members:
            del out[i]
        out[min(members)] = one_after_another([runs[i] for i in members], note)
    return dict(sorted(out.items()))


def _continued(runs: dict[int, Part], groups: _Groups, step_key: str | None) -> dict[int, Part]:
    """Restarts and rotated logs, each file going on where the one before ended."""
    if len(runs) < 2:
        return runs
    at = list(runs)
    traces = [groups.traces[i] if runs[i] is groups.parts[i] else trace_of(runs[i].raw, step_key) for i in at]
    out = dict(runs)
    found, hints = chains(
        [Chain(runs[i].path, runs[i].raw, trace) for i, trace in zip(at, traces, strict=True)],
        likely_pairs(traces),
    )
    for members in found:
        for k in members:
            del out[at[k]]
        labels = " -> ".join(runs[at[k]].label for k in members)
        note = Finding(
            "continued",
            "warning",
            f"{len(members)} files continue each other and were read as one resumed run: {labels}",
            "they log the same keys, each starts where the one before ended, and their names differ by a counter or "
            "time, or the steps that are there twice have equal values; of those the later file's count",
            "name one file to read it alone",
            float(len(members)),
        )
        out[min(at[k] for k in members)] = one_after_another([runs[at[k]] for k in members], note)
    for k, note in hints.items():
        if at[k] in out:
            out[at[k]] = _with_findings(out[at[k]], [note])
    return dict(sorted(out.items()))


def one_after_another(parts: Sequence[Part], note: Finding) -> Part:
    """Rows of all parts in their order; where steps repeat, :func:`entlaw.runs.assemble.assemble` keeps the later."""
    first = parts[0].raw
    rows = pd.concat([p.raw.rows for p in parts], ignore_index=True)
    config = {k: v for p in parts for k, v in p.raw.config.items()}
    findings = (note, *(f for p in parts for f in p.raw.findings))
    now = {k: v for k, v in parts[-1].raw.provenance.details.items() if k == "state"}  # how the run goes
    provenance = replace(first.provenance, details={**first.provenance.details, **now})
    raw = replace(first, rows=rows, config=config, provenance=provenance, findings=findings)
    return replace(parts[0], raw=raw)
