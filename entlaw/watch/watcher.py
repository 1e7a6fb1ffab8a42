"""The watcher: one report for each new point of a run, the same from inside the trainer and from outside.

Its state is a function of the points in their order alone. A watcher that starts late, or anew, goes through the points
before in the same way as one that was there, so all say the same at the same step: the report of an earlier point uses
nothing that was logged after the point was complete (a validation that measures no entropy itself waits for the next
logged one, see :mod:`entlaw.runs.align`), nor whether the run is over by now. The last report alone is made of all that
the log holds, as :func:`entlaw.law.result.examine` makes it. The choice of series and of units is that of the whole log
so far; where it changes, reports are made anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from entlaw.errors import DataError, UsageError
from entlaw.law.ahead import ForecastVerdict
from entlaw.law.result import Result, examine
from entlaw.law.settings import Settings
from entlaw.limits import FEW_POINTS, UNSET, Unset, check_level
from entlaw.points import Points, common_start
from entlaw.runs.ending import OVER, reported_status, without_status
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.run import Provenance, RawRun, Run
from entlaw.watch.alarms import count_standing, find_alarms, select_new
from entlaw.watch.observed import ObservedLog
from entlaw.watch.report import Stop, WatchReport
from entlaw.watch.rule import StopRule, parse_rule

# Validations in a row at which a stop rule has to hold: at a nominal 5 % a single one would fire by chance too often.
PATIENCE = 3
# Reports in a row at which a new verdict must hold before it counts as confirmed: odds near the edge cross it back and
# forth. Of 92 real runs the verdict changes 5 times (median; at most 13) at once, 3 (7) where it counts at the second,
# 3 (5) at the third, which comes later (benchmarks/stop_rule.py).
CONFIRM = 2


@dataclass(frozen=True)
class _State:
    """What a report passes on to the next."""

    verdict: ForecastVerdict = "uncertain"
    since: float = math.nan
    candidate: ForecastVerdict = "uncertain"
    candidate_since: float = math.nan
    candidate_count: int = 0
    in_a_row: int = 0
    alarms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Made:
    """A report, what it was made of, and what it passes on."""

    run: Run
    points: Points
    report: WatchReport
    state: _State


class Watcher:
    """Watch one run.

    Parameters
    ----------
    total_steps : float, optional
        Where the run will end; by default as its configuration tells.
    name : str
        By default the run's own.
    target : float, optional
        Performance it is meant to reach (fraction).
    stop_when : str, optional
        A rule (:mod:`entlaw.watch.rule`), e.g. ``P(gain > 1%) < 0.05``.
    every : int
        Report at every so many points.
    level : float
        Of the intervals.
    until_step : float or None, optional
        As of :class:`entlaw.law.result.Settings`: the law is fitted to the steps up to 36 by default, to all for None.
    selection : Selection, optional
        Which series to read; by default as for a log that is read whole. Of a run with validations,
        ``Selection(on="val")`` waits for them, where the training score would be taken while they are few.
    config : mapping, optional
        The run's flat configuration, for :meth:`observe`.
    patience : int
        Validations in a row at which the rule must hold before it fires.
    least_points : int
        Points before it can fire.
    confirm : int
        Reports in a row at which a new verdict must hold before it counts as confirmed.

    Attributes
    ----------
    report : WatchReport or None
        The last one.
    stopped : Stop or None
        The rule, from the report on at which it fired.

    Raises
    ------
    UsageError
        A rule that cannot be read, or numbers that make no sense.
    """

    def __init__(
        self,
        total_steps: float | None = None,
        *,
        name: str | None = None,
        target: float | None = None,
        stop_when: str | None = None,
        every: int = 1,
        level: float = 0.95,
        until_step: float | Unset | None = UNSET,
        selection: Selection | None = None,
        config: Mapping[str, Any] | None = None,
        patience: int = PATIENCE,
        least_points: int = FEW_POINTS,
        confirm: int = CONFIRM,
    ) -> None:
        _check(total_steps, target, every, level, patience, least_points, confirm)
        self.total_steps, self.name, self.target, self.every = total_steps, name, target, every
        self.patience, self.least_points, self.confirm = patience, least_points, confirm
        self.rule: StopRule | None = parse_rule(stop_when, target) if stop_when is not None else None
        self._settings = Settings(until_step, level=level, total_steps=total_steps)
        self._selection, self._config = selection or Selection(), dict(config or {})
        self._record = ObservedLog(self._selection)
        self._points: Points | None = None
        self._key = ""
        self._series = ("", "")
        self._states: list[_State] = []  # of all points but the last
        self._reports: list[WatchReport | None] = []
        self._last: _Made | None = None

    @property
    def report(self) -> WatchReport | None:
        """The last report."""
        if self._last is not None:
            return self._last.report
        return next((r for r in reversed(self._reports) if r is not None), None)

    @property
    def reports(self) -> list[WatchReport]:
        """All of them."""
        last = [] if self._last is None else [self._last.report]
        return [r for r in self._reports if r is not None] + last

    @property
    def stopped(self) -> Stop | None:
        """The stop rule, once it has fired."""
        return next((r.stop for r in self.reports if r.stop is not None and r.stop.fired), None)

    def metrics(self) -> dict[str, float]:
        """The numbers of the last report (``entlaw/*``); none before the first."""
        report = self.report
        return {} if report is None else report.metrics()

    def observe(self, step: float, metrics: Mapping[str, Any]) -> WatchReport | None:
        """Take one logged record, from inside a trainer.

        Parameters
        ----------
        step : float
            Training step of the record.
        metrics : mapping
            What was logged; only numbers that can be an entropy or a performance are kept.

        Returns
        -------
        WatchReport or None
            A report where this record completed a point.
        """
        if not self._record.take(step, metrics):
            return None
        name = self.name or "run"
        before = self._points
        self.look(RawRun(name, self._record.frame(), self._config, Provenance(name, "observed")))
        points = self._points
        if points is None or not points.n:
            return None
        self._record.settle(self._key, float(points.step[-1]))
        same = before is not None and common_start(before, points) == before.n == points.n
        return None if same or points.n % self.every else self.report

    def look(self, run: Run | RawRun) -> WatchReport | None:
        """Take a run as read so far, from outside.

        Parameters
        ----------
        run : Run or RawRun
            Of a raw one the series are chosen as :meth:`observe` does.

        Returns
        -------
        WatchReport or None
            The last report; None while there is no point.

        Raises
        ------
        UsageError
            A series that was named is not what it was said to be.
        """
        read = self._read(run)
        if read is None:
            return self.report
        self._key, points = read.performance_key, Points.from_run(read)
        # A resumed run has other points from some step on: reports from there are made anew.
        # So has one whose batches begin to log the entropy that only an evaluation had: the log is then another series.
        series = (read.entropy.key, read.entropy_log.key if read.entropy_log is not None else "")
        known = self._points if series == self._series else None
        same = 0 if known is None else common_start(known, points)
        self._series = series
        del self._states[same:], self._reports[same:]
        self._points = points
        then = _as_it_was(read)
        for n in range(len(self._states) + 1, points.n):
            made = self._make(then, points.first(n))
            self._states.append(made.state if made else self._state)
            self._reports.append(made.report if made else None)
        del self._states[max(points.n - 1, 0) :], self._reports[max(points.n - 1, 0) :]
        self._last = self._make(read, points) if points.n else None
        return self.report

    def replay(self, run: Run | RawRun) -> list[WatchReport]:
        """All reports of a run, as they would have been made at the time; the watcher starts anew.

        Returns
        -------
        list of WatchReport
        """
        self._points = self._last = None
        del self._states[:], self._reports[:]
        self.look(run)
        return self.reports

    def _read(self, run: Run | RawRun) -> Run | None:
        try:
            read = run if isinstance(run, Run) else to_run(run, self._selection)
        except DataError:
            return None  # no entropy or no score yet
        return replace(read, name=self.name or read.name)

    @property
    def _state(self) -> _State:
        """That of the last point that has one."""
        return self._states[-1] if self._states else _State()

    def _make(self, run: Run, points: Points) -> _Made | None:
        """The report of the last of these points, with all before in ``_states``; None where none is due."""
        if points.n % self.every:
            return None
        made = self._last
        if made is not None and _is_known(made, run, points):
            return made
        before = self._state
        result = examine(run, self._settings, points=points)
        verdict, stop = result.forecast.verdict, self._stop(result, before.in_a_row)
        report = WatchReport(result, None, stop)
        now = find_alarms(result, report.step, self.target, stop)
        state = replace(
            _confirmed(before, verdict, report.step, self.confirm),
            in_a_row=stop.in_a_row if stop is not None else 0,
            alarms=count_standing(now, before.alarms),
        )
        since = state.since if state.verdict == verdict else None
        report = replace(report, since=since, alerts=select_new(now, before.alarms))
        return _Made(run, points, report, state)

    def _stop(self, result: Result, in_a_row: int) -> Stop | None:
        if self.rule is None:
            return None
        points, ahead = result.points, result.forecast
        known = {
            "entropy": float(points.entropy[-1]),
            "performance": float(points.score[-1]),
            "step": float(points.step[-1]),
        }
        answer = self.rule.ask(ahead.probability_above, known)
        if answer.holds is None:
            why = (
                f"no forecast: {ahead.why}" if ahead.verdict == "refused" else "what it asks is not known yet"
            )
            return Stop(self.rule.text, answer.probability, False, 0, why)
        if result.state == "finished":
            # Nothing is left to stop, and the gain is then what training on would bring.
            return Stop(self.rule.text, answer.probability, False, 0, "the run is over")
        if points.n < self.least_points:
            few = f"{points.n} of at least {self.least_points} points"
            return Stop(self.rule.text, answer.probability, False, 0, few)
        count = in_a_row + 1 if answer.holds else 0
        return Stop(self.rule.text, answer.probability, count >= self.patience, count)


def _as_it_was(run: Run) -> Run:
    """Without what is known only by now: what the reader counted in the whole log, and that the run is over."""
    return replace(without_status(run), findings=tuple(f for f in run.findings if f.severity != "info"))


def _is_known(made: _Made, run: Run, points: Points) -> bool:
    """Whether a report was made of the same points, as far as a result can differ."""
    return (
        common_start(made.points, points) == made.points.n == points.n
        and np.array_equal(made.points.log_step, points.log_step)
        and np.array_equal(made.points.log_entropy, points.log_entropy)
        and made.points.answers == points.answers
        and made.run.findings == run.findings
        and without_status(made.run).config == without_status(run).config
        and (reported_status(made.run) in OVER) == (reported_status(run) in OVER)
    )


def _confirmed(before: _State, verdict: ForecastVerdict, step: float, confirm: int) -> _State:
    """The confirmed verdict: a new one only when it has held at so many reports in a row."""
    if math.isnan(before.since):
        return replace(
            before, verdict=verdict, since=step, candidate=verdict, candidate_since=step, candidate_count=1
        )
    if verdict == before.candidate:
        state = replace(before, candidate_count=before.candidate_count + 1)
    else:
        state = replace(before, candidate=verdict, candidate_since=step, candidate_count=1)
    if state.candidate != state.verdict and state.candidate_count >= confirm:
        state = replace(state, verdict=state.candidate, since=state.candidate_since)
    return state


def _check(
    total_steps: float | None,
    target: float | None,
    every: int,
    level: float,
    patience: int,
    least_points: int,
    confirm: int,
) -> None:
    if total_steps is not None and not (math.isfinite(total_steps) and total_steps > 0):
        raise UsageError(f"total_steps {total_steps:g} is no number of steps", hint="e.g. 500")
    if target is not None and not math.isfinite(target):
        raise UsageError("the target must be a number", hint="a fraction, e.g. 0.6")
    counts = {"every": every, "patience": patience, "least_points": least_points, "confirm": confirm}
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} {value} must be at least 1")
    check_level(level)
