"""The watcher: one report for each new point of a run, the same from inside the trainer and from outside.

Its state is a function of the points in their order alone. A watcher that starts late, or anew, goes through the points
before in the same way as one that was there, so all say the same at the same step; and a report uses nothing that was
logged after its point was complete (with validations that is the next logged entropy, see :mod:`entlaw.runs.align`).
The choice of series and of units is that of the whole log so far; where it changes, reports are made anew. A validation
is preferred as soon as there is one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from entlaw.errors import DataError, FitRefused, MissingSeries, UsageError
from entlaw.findings import Finding
from entlaw.law.fit import fit as fit_run
from entlaw.law.shapes import Fit
from entlaw.limits import FEW_POINTS, check_level
from entlaw.points import Points, common_start
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.run import Provenance, RawRun, Run
from entlaw.watch.observed import Record
from entlaw.watch.report import Report, Stop, Verdict
from entlaw.watch.rule import Rule, parse
from entlaw.watch.verdict import (
    CONFIRM,
    Ahead,
    alarms,
    judge,
    look_ahead,
    new_alarms,
    standing_alarms,
)

# Validations in a row at which a stop rule has to hold: at a nominal 5 % a single one would fire by chance too often.
PATIENCE = 3


@dataclass(frozen=True)
class _State:
    """What a report passes on to the next."""

    verdict: Verdict = "cannot-tell"
    since: float = math.nan
    candidate: Verdict = "cannot-tell"
    candidate_since: float = math.nan
    candidate_count: int = 0
    in_a_row: int = 0
    alarms: Mapping[str, int] = field(default_factory=dict)


class Watcher:
    """Watch one run.

    Parameters
    ----------
    total_steps : float, optional
        Where the run will end; without, what is left to gain is reckoned to the ceiling.
    name : str
    target : float, optional
        Performance it is meant to reach (fraction).
    stop_when : str, optional
        A rule (:mod:`entlaw.watch.rule`), e.g. ``P(gain > 1%) < 0.05``.
    every : int
        Report at every so many points.
    level : float
        Of the intervals.
    until_step : float, optional
        Fit on points up to here only; all so far without.
    selection : Selection, optional
        Which series to read.
    config : mapping, optional
        The run's flat configuration, for :meth:`observe`.
    patience : int
        Validations in a row at which the rule must hold before it fires.
    least_points : int
        Points before it can fire.
    confirm : int
        Reports in a row at which a new verdict must hold before it is told.

    Attributes
    ----------
    report : Report or None
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
        name: str = "run",
        target: float | None = None,
        stop_when: str | None = None,
        every: int = 1,
        level: float = 0.95,
        until_step: float | None = None,
        selection: Selection | None = None,
        config: Mapping[str, Any] | None = None,
        patience: int = PATIENCE,
        least_points: int = FEW_POINTS,
        confirm: int = CONFIRM,
    ) -> None:
        _check(total_steps, target, every, level, patience, least_points, confirm)
        self.total_steps, self.name, self.target = total_steps, name, target
        self.every, self.level, self.until_step = every, level, until_step
        self.patience, self.least_points, self.confirm = patience, least_points, confirm
        self.rule: Rule | None = parse(stop_when, target) if stop_when is not None else None
        self._selection, self._config = selection or Selection(), dict(config or {})
        self._record = Record(self._selection)
        self._points: Points | None = None  # those of which there are states and reports
        self._key = ""
        self._states: list[_State] = []
        self._reports: list[Report | None] = []

    @property
    def report(self) -> Report | None:
        """The last report."""
        return next((r for r in reversed(self._reports) if r is not None), None)

    @property
    def reports(self) -> list[Report]:
        """All of them."""
        return [r for r in self._reports if r is not None]

    @property
    def stopped(self) -> Stop | None:
        """The stop rule, once it has fired."""
        return next(
            (r.stop for r in self._reports if r is not None and r.stop is not None and r.stop.fired), None
        )

    def metrics(self) -> dict[str, float]:
        """The numbers of the last report (``entlaw/*``); none before the first."""
        report = self.report
        return {} if report is None else report.metrics()

    def observe(self, step: float, metrics: Mapping[str, Any]) -> Report | None:
        """Take one logged record, from inside a trainer.

        Parameters
        ----------
        step : float
            Training step of the record.
        metrics : mapping
            What was logged; only numbers that can be an entropy or a performance are kept.

        Returns
        -------
        Report or None
            A report where this record completed a point.
        """
        if not self._record.take(step, metrics):
            return None
        raw = RawRun(self.name, self._record.frame(), self._config, Provenance(self.name, "observed"))
        before = self.report
        report = self.look(raw)
        if self._points is not None and self._points.n:
            self._record.settle(self._key, float(self._points.step[-1]))
        return report if report is not before else None

    def look(self, run: Run | RawRun) -> Report | None:
        """Take a run as read so far, from outside.

        Parameters
        ----------
        run : Run or RawRun
            Of a raw one the series are chosen as :meth:`observe` does.

        Returns
        -------
        Report or None
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
        same = 0 if self._points is None else min(common_start(self._points, points), len(self._states))
        del self._states[same:], self._reports[same:]
        self._points = points
        # What the reader counted in the whole log (scores without an entropy, say) was not so at the time.
        read = replace(read, findings=tuple(f for f in read.findings if f.severity != "info"))
        for n in range(same + 1, points.n + 1):
            self._advance(read, points.first(n))
        return self.report

    def replay(self, run: Run | RawRun) -> list[Report]:
        """All reports of a run, as they would have been told at the time; the watcher starts anew.

        Returns
        -------
        list of Report
        """
        self._points = None
        del self._states[:], self._reports[:]
        self.look(run)
        return self.reports

    def _read(self, run: Run | RawRun) -> Run | None:
        if isinstance(run, Run):
            return run
        chosen = self._selection
        if chosen.on is None:
            # A reader of a finished log takes the training score while validations are few; a watcher would then tell
            # of one score first and later of another.
            with contextlib.suppress(MissingSeries):
                return to_run(run, replace(chosen, on="val"))
        try:
            return to_run(run, chosen)
        except DataError:
            return None  # no entropy or no score yet

    def _advance(self, run: Run, points: Points) -> None:
        """The last of the points: its state always, its report where one is due."""
        before = self._states[-1] if self._states else _State()
        if points.n % self.every:
            state, report = before, None
        else:
            state, report = self._report(run, points, before)
        self._states.append(state)
        self._reports.append(report)

    def _report(self, run: Run, points: Points, before: _State) -> tuple[_State, Report]:
        n = points.n
        step = float(max(points.step[-1], points.entropy_step[-1]))
        fitted, findings = self._fit(run, points)
        ahead = look_ahead(points, self.total_steps, self.level)
        verdict, why = judge(n, ahead, findings)
        state = _confirmed(before, verdict, step, self.confirm)
        stop = self._stop(points, ahead, state.verdict, before.in_a_row)
        if state.verdict != verdict:
            why = f"{why} (not yet confirmed)"
        now = alarms(step, points.entropy, fitted, self.target, stop, (*findings, *ahead.refused))
        in_a_row = stop.in_a_row if stop is not None else 0
        state = replace(state, in_a_row=in_a_row, alarms=standing_alarms(now, before.alarms))
        report = Report(
            name=self.name if self.name != "run" else run.name, step=step, points=n, entropy=float(points.entropy[-1]),
            performance=float(points.score[-1]), fit=fitted,
            ceiling=fitted.ceiling_interval if fitted is not None else None,
            final=ahead.final, verdict=state.verdict, why=why, since=state.since,
            stop=stop, alerts=new_alarms(now, before.alarms), findings=findings,
        )  # fmt: skip
        return state, report

    def _fit(self, run: Run, points: Points) -> tuple[Fit | None, tuple[Finding, ...]]:
        try:
            fitted = fit_run(run, points=points, until_step=self.until_step, level=self.level, force=True)
        except FitRefused as refused:
            return None, tuple(refused.findings)
        return fitted, fitted.findings

    def _stop(self, points: Points, ahead: Ahead, verdict: Verdict, in_a_row: int) -> Stop | None:
        if self.rule is None:
            return None
        known = {
            "entropy": float(points.entropy[-1]),
            "performance": float(points.score[-1]),
            "step": float(points.step[-1]),
        }
        usable = verdict != "does-not-apply"

        def ask(quantity: str, value: float) -> float | None:
            return ahead.probability(quantity, value) if usable else None

        answer = self.rule.ask(ask, known)
        if answer.holds is None:
            why = (
                "the law does not apply" if verdict == "does-not-apply" else "what it asks cannot be told yet"
            )
            return Stop(self.rule.text, answer.probability, False, 0, why)
        count = in_a_row + 1 if answer.holds else 0
        if self.total_steps is not None and known["step"] >= self.total_steps:
            # Nothing is left to stop, and a rule about what is left to gain holds at the end of any run.
            return Stop(self.rule.text, answer.probability, False, 0, "the run is at its end")
        if points.n < self.least_points:
            few = f"{points.n} of at least {self.least_points} points"
            return Stop(self.rule.text, answer.probability, False, 0, few)
        return Stop(self.rule.text, answer.probability, count >= self.patience, count)


def _confirmed(before: _State, verdict: Verdict, step: float, confirm: int) -> _State:
    """The verdict that is told: a new one only when it has held at so many reports in a row."""
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
