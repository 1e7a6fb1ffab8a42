"""Watching from outside, as a stream of events: a look, a wait, until there is nothing more to see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from entlaw.watch.follow import Follower, Look, Seen
from entlaw.watch.report import Report
from entlaw.watch.watcher import Watcher

End = Literal["run-over", "stop-rule", "steps-done", "idle", "once"]


@dataclass
class Watched:
    """One run under watch.

    Attributes
    ----------
    key, name : str
    watcher : Watcher
    state : str
        As :class:`entlaw.watch.follow.Seen`.
    changed_at : float
        Time (of ``clock``) at which something new was last seen.
    ended : str
        Why nothing more is expected; empty while there is.
    details : mapping
        Of the run's provenance: entity, project, run_id of one on a server.
    """

    key: str
    name: str
    watcher: Watcher
    state: str = ""
    changed_at: float = 0.0
    ended: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    told: list[Report] = field(default_factory=list)

    def fresh(self) -> list[Report]:
        """Reports not told before; those that were made anew count as new."""
        reports = self.watcher.reports
        same = 0
        for old, new in zip(self.told, reports, strict=False):
            if old is not new:
                break
            same += 1
        self.told = reports
        return reports[same:]


@dataclass(frozen=True)
class Event:
    """Something to tell.

    Attributes
    ----------
    kind : {"report", "waiting", "trouble", "state", "end"}
    text : str
        For people; of an end, why: an :data:`End`.
    watched : Watched or None
    report : Report or None
    past : bool
        A report of what had happened before the watching began.
    """

    kind: Literal["report", "waiting", "trouble", "state", "end"]
    text: str = ""
    watched: Watched | None = None
    report: Report | None = None
    past: bool = False


def course(
    follower: Follower,
    make: Callable[[Seen], Watcher],
    *,
    every: float = 30.0,
    once: bool = False,
    until_idle: float | None = None,
    watched: dict[str, Watched] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """Look, tell what is new, wait, and look again.

    Parameters
    ----------
    follower : Follower
    make : callable
        Gives each new run its watcher.
    every : float
        Seconds between two looks.
    once : bool
        Look once only.
    until_idle : float, optional
        End when nothing has changed for so many seconds.
    watched : dict, optional
        Filled with the runs by key, for a view beside.
    clock, sleep : callable
        Of the machine; tests bring their own.

    Yields
    ------
    Event
        The last is of kind ``end``.

    Raises
    ------
    EntlawError
        As :meth:`entlaw.watch.follow.Follower.look`.
    """
    runs = watched if watched is not None else {}
    told: set[str] = set()
    last_change = clock()
    while True:
        look = follower.look()
        now = clock()
        if look.changed and look.seen:
            last_change = now
        yield from _words(look, told)
        for seen in look.seen:
            yield from _take(seen, runs, make, now)
        stopped = next((w for w in runs.values() if w.watcher.stopped is not None), None)
        if stopped is not None:
            yield Event("end", "stop-rule", stopped)
            return
        if runs and all(w.ended for w in runs.values()):
            yield Event("end", next(iter(runs.values())).ended)
            return
        if once:
            yield Event("end", "once")
            return
        if until_idle is not None and now - last_change >= until_idle:
            yield Event("end", "idle")
            return
        sleep(every)


def _words(look: Look, told: set[str]) -> Iterator[Event]:
    """What is waited for and what is wrong, each told once until it is over."""
    for kind, texts in (("waiting", look.waiting), ("trouble", look.troubles)):
        for text in texts:
            if text not in told:
                yield Event("waiting" if kind == "waiting" else "trouble", text)
    told.intersection_update((*look.waiting, *look.troubles))
    told.update((*look.waiting, *look.troubles))


def _take(
    seen: Seen, runs: dict[str, Watched], make: Callable[[Seen], Watcher], now: float
) -> Iterator[Event]:
    first = seen.key not in runs
    raw = seen.reading.raw
    assert raw is not None
    if first:
        runs[seen.key] = Watched(seen.key, raw.name, make(seen))
    one = runs[seen.key]
    one.details = raw.provenance.details
    one.watcher.look(raw)
    fresh = one.fresh()
    if fresh or first:
        one.changed_at = now
    for i, report in enumerate(fresh):
        yield Event("report", watched=one, report=report, past=first and i < len(fresh) - 1)
    if seen.state != one.state:
        one.state = seen.state
        yield Event("state", f"{one.name} is {seen.state}" if seen.state else "", one)
    total, last = one.watcher.total_steps, one.watcher.report
    one.ended = ""
    if seen.over:
        one.ended = "run-over"
    elif total is not None and last is not None and last.step >= total:
        one.ended = "steps-done"
