"""Watching from outside, as a stream of events: a look, a wait, until there is nothing more to see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from entlaw.points import common_start
from entlaw.watch.follow import Follower, Look, Seen
from entlaw.watch.report import WatchReport
from entlaw.watch.watcher import Watcher

End = Literal["run-over", "stop-rule", "steps-done", "idle", "once"]


@dataclass
class Watched:
    """One run under watch.

    Attributes
    ----------
    key, name : str
    watcher : Watcher
    status : str
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
    status: str = ""
    changed_at: float = 0.0
    ended: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    _told: list[WatchReport] = field(default_factory=list)

    def take_new(self) -> list[WatchReport]:
        """Reports of points of which none was told before, or not as they are now (a run that was resumed)."""
        reports = self.watcher.reports
        known = 0
        if self._told and reports:
            common = common_start(self._told[-1].result.points, reports[-1].result.points)
            known = sum(one.result.points.n <= common for one in self._told)
        return self._tell(reports[known:], reports)

    def take_last(self) -> list[WatchReport]:
        """The last report, where it is not as it was told: the log has more entropies by now, or the run is over."""
        reports = self.watcher.reports
        old = bool(reports) and self._told[-1:] != reports[-1:]
        return self._tell(reports[-1:] if old else [], reports)

    def _tell(self, new: list[WatchReport], reports: list[WatchReport]) -> list[WatchReport]:
        if not new:
            return []
        # What was raised with the last report is no news, where that was made anew from a longer log.
        raised = {alert.code for one in self._told[-1:] for alert in one.alerts}
        self._told = reports
        alerts = tuple(alert for alert in new[0].alerts if alert.code not in raised)
        return [replace(new[0], alerts=alerts), *new[1:]]


@dataclass(frozen=True)
class Event:
    """Something to tell.

    Attributes
    ----------
    kind : {"report", "waiting", "trouble", "status", "end"}
    text : str
        For people; of an end, why: an :data:`End`.
    watched : Watched or None
    report : WatchReport or None
    past : bool
        A report of what had happened before the watching began.
    """

    kind: Literal["report", "waiting", "trouble", "status", "end"]
    text: str = ""
    watched: Watched | None = None
    report: WatchReport | None = None
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
        yield from _list_troubles(look, told)
        for seen in look.seen:
            yield from _take(seen, runs, make, now)
        if (
            end := _end_of(runs, once, until_idle is not None and now - last_change >= until_idle)
        ) is not None:
            for one in runs.values():
                for report in one.take_last():
                    yield Event("report", watched=one, report=report)
            yield end
            return
        sleep(every)


def _end_of(runs: Mapping[str, Watched], once: bool, idle: bool) -> Event | None:
    """Why there is nothing more to see; None where there may be."""
    stopped = next((w for w in runs.values() if w.watcher.stopped is not None), None)
    if stopped is not None:
        return Event("end", "stop-rule", stopped)
    if runs and all(w.ended for w in runs.values()):
        return Event("end", next(iter(runs.values())).ended)
    return Event("end", "once") if once else Event("end", "idle") if idle else None


def _list_troubles(look: Look, told: set[str]) -> Iterator[Event]:
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
    new = one.take_new()
    if new or first:
        one.changed_at = now
    for i, report in enumerate(new):
        yield Event("report", watched=one, report=report, past=first and i < len(new) - 1)
    if seen.status != one.status:
        one.status = seen.status
        yield Event("status", f"{one.name} is {seen.status}" if seen.status else "", one)
    total, last = one.watcher.total_steps, one.watcher.report
    one.ended = ""
    if seen.over:
        one.ended = "run-over"
    elif total is not None and last is not None and last.step >= total:
        one.ended = "steps-done"
