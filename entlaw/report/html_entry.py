"""What a report says about one run: its fit on the early steps, how that did later, and what lies ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from entlaw.errors import EntlawError, FitRefused
from entlaw.findings import Finding, worst_first
from entlaw.law.fit import fit as fit_run
from entlaw.law.forecast import Outlook
from entlaw.law.shapes import Fit, Forecast, Holdout, Interval, Method, holdout
from entlaw.limits import PAPER_WINDOW
from entlaw.points import Points
from entlaw.runs.reader import Reading
from entlaw.runs.run import Run
from entlaw.watch.report import Verdict
from entlaw.watch.verdict import MEANINGFUL_GAIN, Ahead, judge, look_ahead

Use = Literal["no objection", "with care", "forced", "refused", "unusable"]


@dataclass(frozen=True)
class Settings:
    """How the law is fitted; the fields are those of :func:`entlaw.law.fit.fit`.

    Attributes
    ----------
    total_steps : float or None
        Where the runs will end; None takes what each run's configuration says.
    """

    until_step: float | None = PAPER_WINDOW
    method: Method = "careful"
    level: float = 0.95
    problems: int | None = None
    samples: int | None = None
    force: bool = False
    total_steps: float | None = None


@dataclass(frozen=True)
class Future:
    """A run as seen from its last point.

    Attributes
    ----------
    verdict, why : str
        As a watcher would tell them (:mod:`entlaw.watch.verdict`).
    probability : float or None
        P(gain > :data:`entlaw.watch.verdict.MEANINGFUL_GAIN`) until ``end``, or over as long a time again.
    end : float or None
        Planned last step, where it is known and still to come.
    final : Forecast or None
        R at ``end``.
    ceiling : tuple of (float, Interval), or None
        R when the entropy is spent, with what the law leaves out.
    """

    verdict: Verdict
    why: str
    probability: float | None
    end: float | None
    final: Forecast | None
    ceiling: tuple[float, Interval] | None


@dataclass(frozen=True)
class Entry:
    """One run of a report.

    Attributes
    ----------
    label : str
        Unique in the report.
    reading : Reading
    fit : Fit or None
        On the window; also of a refused fit, as far as it could be computed.
    error : EntlawError or None
        Why there is no answer.
    holdout : Holdout or None
    early : Forecast or None
        Of the last score, made from the window alone; None when nothing came later or nothing can be said.
    future : Future or None
        None for a run that cannot be used.
    findings : tuple of Finding
        Worst first.
    planned : float or None
        Last step of the plan, where the configuration or the user tells it.
    """

    label: str
    reading: Reading
    fit: Fit | None
    error: EntlawError | None
    holdout: Holdout | None = None
    early: Forecast | None = None
    future: Future | None = None
    findings: tuple[Finding, ...] = ()
    planned: float | None = None

    @property
    def run(self) -> Run | None:
        """The run, where it can be used."""
        return self.reading.run

    @property
    def use(self) -> Use:
        """May the fit be used? In the words of ``entlaw fit``."""
        if self.error is not None:
            return "refused" if self.error.exit_code == 4 else "unusable"
        severities = {f.severity for f in self.findings}
        return (
            "forced" if "error" in severities else "with care" if "warning" in severities else "no objection"
        )

    @property
    def answered(self) -> bool:
        """Whether a ceiling is given."""
        return self.shown is not None

    @property
    def shown(self) -> Fit | None:
        """The fit where it may be shown: not where it was refused."""
        return self.fit if self.error is None else None

    @property
    def passed(self) -> bool:
        """Whether the last score is above anything that a measurement at the ceiling itself would give."""
        if self.fit is None or self.last is None or self.holdout is None:
            return False
        top = self.fit.prediction_at(np.zeros(1), self.fit.ceiling_interval.level).hi[0]
        return bool(np.isfinite(top) and self.last[1] > top)

    @property
    def last(self) -> tuple[float, float] | None:
        """Step and performance of the last point."""
        if self.run is None or not len(self.run.points):
            return None
        row = self.run.points.iloc[-1]
        return float(row["step"]), float(row["performance"])


def examine(reading: Reading, settings: Settings = Settings(), label: str = "") -> Entry:
    """Everything a report says about one run.

    Parameters
    ----------
    reading : Reading
    settings : Settings
    label : str
        By default the run's name.

    Returns
    -------
    Entry
        An unusable or refused run is one with its ``error``; nothing is raised.
    """
    from entlaw.watch.follow import planned_steps

    label = label or reading.name
    run = reading.run
    if run is None:
        raw = reading.raw
        return Entry(label, reading, None, reading.error, findings=worst_first(raw.findings) if raw else ())
    planned = settings.total_steps if settings.total_steps is not None else planned_steps(run.config)
    fitted, error, findings = _fit(run, settings)
    if fitted is None or error is not None:
        return Entry(label, reading, fitted, error, future=_future(run, planned, settings), findings=findings,
                     planned=planned)  # fmt: skip
    return Entry(
        label, reading, fitted, None, holdout(fitted, Points.from_run(run)), _early(run, settings),
        _future(run, planned, settings), findings, planned,
    )  # fmt: skip


def examine_all(readings: Sequence[Reading], settings: Settings = Settings()) -> list[Entry]:
    """As :func:`examine`, with labels that tell the runs apart."""
    return [examine(r, settings, label) for r, label in zip(readings, labels(readings), strict=True)]


def labels(readings: Sequence[Reading]) -> list[str]:
    """A name for each run: its own; with its file where two runs share one; with a number where that is not enough."""
    names = [r.name for r in readings]
    named = [n if names.count(n) == 1 else f"{n} ({r.path})" for n, r in zip(names, readings, strict=True)]
    counts: dict[str, int] = {}
    out = []
    for name in named:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if named.count(name) == 1 else f"{name} #{counts[name]}")
    return out


def _fit(run: Run, s: Settings) -> tuple[Fit | None, EntlawError | None, tuple[Finding, ...]]:
    try:
        fitted = fit_run(
            run, until_step=s.until_step, method=s.method, level=s.level, problems=s.problems,
            samples=s.samples, force=s.force,
        )  # fmt: skip
    except FitRefused as error:
        return error.fit, error, worst_first(error.findings)
    return fitted, None, fitted.findings


def _early(run: Run, s: Settings) -> Forecast | None:
    """What would have been forecast for the last score at the end of the window."""
    if s.until_step is None:
        return None
    last = float(run.points["step"].iloc[-1])
    seen = Outlook.of(run, s.until_step, force=s.force)
    if not seen.can_answer or not last > seen.points.step[-1]:
        return None
    return seen.forecast(last, s.level)


def _future(run: Run, planned: float | None, s: Settings) -> Future | None:
    """The run as its last point shows it, whatever the window of the fit."""
    if len(run.points) == 0:
        return None
    findings: tuple[Finding, ...] = ()
    try:
        findings = fit_run(run, until_step=None, problems=s.problems, samples=s.samples, force=True).findings
    except FitRefused as error:
        findings = worst_first(error.findings)
    seen = Outlook.of(run)
    # The last score may have no entropy after it to be paired with: the log tells where the run is.
    now = float(max(run.points["step"].iloc[-1], run.metrics.index.max()))
    end = planned if planned is not None and planned > now else None
    # A finished run has nothing left by its plan; what would come if it went on is still worth knowing.
    ahead: Ahead = look_ahead(run, end, s.level)
    verdict, why = judge(len(run.points), ahead, findings)
    ceiling = None
    if seen.can_answer:
        there = seen.ceiling()
        ceiling = (float(there.median), there.interval(s.level))
    p = ahead.probability("gain", MEANINGFUL_GAIN)
    return Future(verdict, why, None if p is None or not np.isfinite(p) else p, end, ahead.final, ceiling)
