"""One run with all that is said of it.

:func:`examine` makes a :class:`Result`; the command line, the report, ``entlaw watch``, ``entlaw push`` and Python only
show it, so that no two of them can say different things of one run.

Two windows. The *law* is fitted to the steps up to 36, as the paper does. The *forecast* uses all that was logged so
far. ``until_step`` replaces both: nothing later is then looked at, and the points after it are held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from entlaw.errors import DataError, EntlawError, FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law.ahead import MEANINGFUL_GAIN, Ahead, GainAhead, judge
from entlaw.law.fit import fit_law
from entlaw.law.forecast import Forecast, Outlook, law_forecast
from entlaw.law.settings import Settings
from entlaw.law.shapes import Fit, HeldOut, Interval, hold_out, plain_data
from entlaw.limits import check_level
from entlaw.points import Points, answers_behind
from entlaw.runs.ending import OVER, planned_steps, reported_status
from entlaw.runs.run import Run
from entlaw.wording import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Whether the law's ceiling may be quoted, worst first.
LawVerdict = Literal["refused", "passed", "caution", "ok"]
State = Literal["running", "finished"]


@dataclass(frozen=True, eq=False)
class Result:
    """One run with all that is said of it.

    Attributes
    ----------
    name : str
    points : Points
        All of the run.
    settings : Settings
    run : Run or None
        As it was read; None where only points were given.
    law : Fit or None
        None where the findings refuse it and ``force`` is not set.
    refusal : FitRefused or None
        Why the law gives no answer. Its ``fit`` is the law as far as it could be computed.
    reword : callable or None
        Says a finding or an error in other words: hints name options of the command line, or keywords.
    """

    name: str
    points: Points
    settings: Settings
    run: Run | None
    law: Fit | None
    refusal: FitRefused | None
    reword: Callable[[Any], Any] | None = field(default=None, repr=False)

    @property
    def a(self) -> float:
        """The law's slope (fraction); raises FitRefused where the law is refused."""
        return self._shown().a

    @property
    def b(self) -> float:
        """The law's intercept (fraction)."""
        return self._shown().b

    @property
    def ceiling(self) -> float:
        """The law's ceiling b - a (fraction)."""
        return self._shown().ceiling

    @property
    def ceiling_interval(self) -> Interval:
        """Interval of the law's ceiling."""
        return self._shown().ceiling_interval

    @cached_property
    def verdict(self) -> LawVerdict:
        """Whether the law's ceiling may be quoted.

        ``refused``: the findings speak against it. ``passed``: the run is above it by more than noise. ``caution``:
        there are warnings. ``ok``: none of these.
        """
        if self.refusal is not None or has_error(self.findings):
            return "refused"
        if self.passed:
            return "passed"
        return "caution" if any(f.severity == "warning" for f in self.findings) else "ok"

    @property
    def passed(self) -> bool:
        """Whether the mean of the run's last scores is above the law's ceiling by more than noise."""
        return self.held_out is not None and self.held_out.passed

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the reader and the checks of the law have to say, worst first."""
        if self.refusal is not None:
            return worst_first(self.refusal.findings)
        return self.law.findings if self.law is not None else ()

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Errors of the law on the points after its window; None where there are none, or no law."""
        return None if self.law is None else hold_out(self.law, self.points)

    @cached_property
    def early(self) -> Forecast | None:
        """The last score as it would have been predicted at the end of the law's window.

        None where the window holds all points, or nothing could be said.
        """
        if self.settings.law_until is None or self.last is None:
            return None
        seen = self._outlook(self.settings.law_until)
        if not seen.can_answer or not self.last[0] > seen.points.step[-1]:
            return None
        return seen.forecast(self.last[0], self.settings.level)

    @property
    def covered(self) -> bool | None:
        """Whether the interval of :attr:`early` holds the last score; None where there is no early forecast."""
        if self.early is None or self.last is None:
            return None
        return self.early.interval.lo <= self.last[1] <= self.early.interval.hi

    @cached_property
    def planned(self) -> float | None:
        """The planned last step, where the user or the configuration tells it."""
        if self.settings.total_steps is not None:
            return self.settings.total_steps
        return None if self.run is None else planned_steps(self.run.config)

    @cached_property
    def state(self) -> State:
        """``finished`` where the planned end is reached or the source says that the run is over; else ``running``."""
        over = self.run is not None and reported_status(self.run) in OVER
        return "finished" if over or not self._planned_beyond(self.points) else "running"

    @property
    def last(self) -> tuple[float, float] | None:
        """Step and score of the last point."""
        return (float(self.points.step[-1]), float(self.points.score[-1])) if self.points.n else None

    @cached_property
    def forecast(self) -> Ahead:
        """What is predicted of the run, from all that was logged unless ``until_step`` was given."""
        s, seen = self.settings, self._outlook(self.settings.forecast_until)
        gain = None
        if seen.can_answer:
            to, until = self._horizon(seen.points)
            continued = self.state == "finished" and until != "last-score"
            least = MEANINGFUL_GAIN * (1.0 if seen.points.shares else float(np.ptp(seen.points.score)))
            gain = GainAhead(float(seen.points.step[-1]), to, until, continued, seen.gain(to), least)
        asked: list[dict[str, float]] = [{"entropy": h} for h in s.entropies] + [{"step": t} for t in s.steps]
        if not asked and seen.points.n:
            asked = [{"step": self._horizon(seen.points)[0]}]
        made: list[Forecast] = []
        failures: list[EntlawError] = []
        for one in asked:
            try:
                if s.model == "law":
                    made.append(law_forecast(self._shown(), level=s.level, **one))
                else:
                    made.append(seen.forecast(level=s.level, **one))
            except (UsageError, DataError, FitRefused) as error:
                failures.append(self._in_words(error))
        verdict, why = judge(seen, gain)
        return Ahead(verdict, why, seen, tuple(made), tuple(failures), gain, s.level)

    def at_level(self, level: float) -> Result:
        """The same with intervals at another level; the law is not fitted anew."""
        check_level(level)
        law = None if self.law is None else self.law.at_level(level)
        return replace(self, law=law, settings=replace(self.settings, level=level))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: one run of schema ``entlaw.fit/2``."""
        run = self.run
        told: dict[str, Any] = {"name": self.name}
        if run is not None:
            told |= {
                "format": run.provenance.format,
                "framework": run.provenance.framework,
                "entropy": asdict(run.entropy),
                "entropy_log": None if run.entropy_log is None else asdict(run.entropy_log),
                "performance_key": run.performance_key,
                "performance_kind": run.performance_kind,
                "performance_scale": run.performance_scale,
                "performance_offset": run.performance_offset,
                "align": run.align,
                "choices": [asdict(c) for c in run.choices],
            }
        held = self.held_out
        last = self.last
        told |= {
            "n": self.points.n,
            "last": None if last is None else {"step": last[0], "score": last[1]},
            "state": self.state,
            "planned_steps": self.planned,
            "verdict": self.verdict,
            "law": None if self.law is None else self.law.to_dict(),
            "held_out": None
            if held is None
            else asdict(held) | {"forecast": None if self.early is None else self.early.to_dict()},
            "forecast": self.forecast.to_dict(),
            "findings": [f.as_dict() for f in self.findings],
        }
        if self.refusal is not None:
            told["error"] = self.refusal.as_dict()
        plain: dict[str, Any] = plain_data(told)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """One row with the numbers that people compare, indexed by the run's name."""
        # As an object, because a log can hold a name that no string column takes (a lone surrogate).
        return pd.DataFrame([self.to_row()], index=pd.Index([self.name], name="run", dtype=object))

    def summary(self) -> str:
        """The result as text: first the answer, then the law, the forecast and the findings."""
        from entlaw.law.summary import summary

        return summary(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the points and the law over the entropy.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure's.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from entlaw.report.plots import draw_result

        return draw_result(self, ax)

    def __repr__(self) -> str:
        law = "refused" if self.law is None else f"{self.law.ceiling:.3f}"
        return f"<Result {shorten(self.name)!r}: {self.points.n} points, ceiling {law} ({self.verdict})>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.summary())}</pre>"

    def to_row(self) -> dict[str, Any]:
        """The same as a mapping, for frames of many runs."""
        law, held, ahead = self.law, self.held_out, self.forecast
        first = next(iter(ahead.at), None)
        nan = float("nan")
        return {
            "verdict": self.verdict,
            "state": self.state,
            "n": self.points.n,
            "last_step": self.last[0] if self.last else nan,
            "last_score": self.last[1] if self.last else nan,
            "last_entropy": float(self.points.entropy[-1]) if self.points.n else nan,
            "until_step": nan if self.settings.law_until is None else self.settings.law_until,
            "n_fitted": law.n if law else nan,
            "a": law.a if law else nan,
            "b": law.b if law else nan,
            "ceiling": law.ceiling if law else nan,
            "ceiling_lo": law.ceiling_interval.lo if law else nan,
            "ceiling_hi": law.ceiling_interval.hi if law else nan,
            "level": self.settings.level,
            "r_squared": law.r_squared if law else nan,
            "n_held_out": held.n if held else nan,
            "held_out_rmse": held.rmse if held else nan,
            "held_out_rmse_baseline": held.rmse_baseline if held else nan,
            "forecast_verdict": ahead.verdict,
            "forecast_model": first.model if first else "",
            "forecast_step": first.step if first else nan,
            "forecast": first.median if first else nan,
            "forecast_lo": first.interval.lo if first else nan,
            "forecast_hi": first.interval.hi if first else nan,
            "p_gain": ahead.gain.probability_above() if ahead.gain else nan,
            "findings": ", ".join(dict.fromkeys(f.code for f in self.findings)),
        }

    def _shown(self) -> Fit:
        if self.law is None:
            assert self.refusal is not None
            raise self.refusal
        return self.law

    def _outlook(self, until_step: float | None) -> Outlook:
        s = self.settings
        seen = Outlook.of(self.points, until_step, force=s.force, width=s.width)
        read = [f for f in self.run.findings if f.severity == "error"] if self.run is not None else []
        return replace(seen, findings=self._in_words(worst_first([*seen.findings, *read])))

    def _in_words(self, said: Any) -> Any:
        return said if self.reword is None else self.reword(said)

    def _horizon(self, seen: Points) -> tuple[float, Literal["planned-end", "last-score", "as-long-again"]]:
        now = float(seen.step[-1])
        if self.state == "finished" and self.points.step[-1] > now:
            return float(self.points.step[-1]), "last-score"
        if self.planned is not None and self._planned_beyond(seen):
            return self.planned, "planned-end"
        return seen.start + 2.0 * max(now - seen.start, 1.0), "as-long-again"

    def _planned_beyond(self, points: Points) -> bool:
        """Whether the planned end, where there is one, lies ahead; steps may be counted from 0."""
        series = (points.step, points.entropy_step, points.log_step)
        reached = max((float(x.max()) for x in series if x.size), default=0.0)
        return self.planned is None or reached + 1.0 < self.planned


def examine(
    source: Any, settings: Settings | None = None, *, points: Points | None = None, name: str | None = None
) -> Result:
    """Say everything of one run; a refused law is a result too.

    Parameters
    ----------
    source : Run, Points, DataFrame or tuple
        As :meth:`entlaw.points.Points.of` takes them.
    settings : Settings, optional
    points : Points, optional
        What is known of the run, where that is not all of it.
    name : str, optional
        By default the run's own.

    Returns
    -------
    Result

    Raises
    ------
    UsageError
        Settings that make no sense; an input of another kind.
    """
    settings = settings or Settings()
    settings.check()
    run = source if isinstance(source, Run) else None
    known = _with_answers(Points.of(source) if points is None else points, settings)
    law: Fit | None = None
    refusal: FitRefused | None = None
    try:
        law = fit_law(
            known,
            run=run,
            until_step=settings.law_until,
            method=settings.method,
            level=settings.level,
            force=settings.force,
        )
    except FitRefused as error:
        refusal = error
    return Result(name or known.name or "run", known, settings, run, law, refusal)


def _with_answers(points: Points, s: Settings) -> Points:
    """The points with the size of the test that the user gave; without the log's where scores are no shares."""
    if s.problems is not None:
        return replace(points, answers=answers_behind(s.problems, s.samples))
    return points if points.shares else replace(points, answers=None)
