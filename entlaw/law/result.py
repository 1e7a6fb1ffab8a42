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
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from entlaw.errors import DataError, EntlawError, FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law.fit import check_fit_options, fit_law
from entlaw.law.forecast import Forecast, ForecastModel, Outlook, law_forecast
from entlaw.law.growth import Gain
from entlaw.law.shapes import Fit, HeldOut, Interval, Method, hold_out, plain_data
from entlaw.limits import FEW_POINTS, PAPER_WINDOW, UNSET, Unset, check_level
from entlaw.points import Points, answers_behind
from entlaw.runs.ending import OVER, planned_steps, reported_status
from entlaw.runs.run import Run
from entlaw.wording import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Whether the law's ceiling may be quoted, worst first.
LawVerdict = Literal["refused", "passed", "caution", "ok"]
# What the forecast says of the run's future.
ForecastVerdict = Literal["refused", "uncertain", "plateau", "improving"]
State = Literal["running", "finished"]

# A point of accuracy: less is lost in the noise of most tests. Of rewards, which have any unit, this share of the range
# seen so far.
MEANINGFUL_GAIN = 0.01
# Odds of four to one either way before a word is said; between them it is uncertain.
LIKELY = 0.8


@dataclass(frozen=True)
class Settings:
    """What is asked of a run, and how.

    Attributes
    ----------
    until_step : float, None or UNSET
        Look at steps up to this one only, in the law and in the forecast; None at all. Not given, the law has the
        steps up to 36 and the forecast has all.
    method : {"careful", "paper"}
        How the law is fitted.
    level : float
        Nominal coverage of the intervals.
    problems, samples : float or None
        Size of the test and answers per problem: the noise of a score is then binomial. By default as the log tells.
    force : bool
        Show a law and a forecast that the findings refuse.
    total_steps : float or None
        Where the run will end; by default as its configuration tells.
    steps, entropies : tuple of float
        What to predict; by default the score at the planned end, or after as long a time again.
    model : {"growth", "law"}
        Which model predicts it.
    width : float
        By which intervals of the forecast are stretched (:mod:`entlaw.law.library`).
    """

    until_step: float | Unset | None = UNSET
    method: Method = "careful"
    level: float = 0.95
    problems: float | None = None
    samples: float | None = None
    force: bool = False
    total_steps: float | None = None
    steps: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    model: ForecastModel = "growth"
    width: float = 1.0

    @property
    def law_until(self) -> float | None:
        """End of the law's window; None for all points."""
        return PAPER_WINDOW if isinstance(self.until_step, Unset) else self.until_step

    @property
    def forecast_until(self) -> float | None:
        """End of the forecast's window; None for all that was logged."""
        return None if isinstance(self.until_step, Unset) else self.until_step

    def check(self) -> None:
        """Raise UsageError for settings that make no sense, whatever the run."""
        _as_number("level", self.level)
        _as_number("until_step", self.law_until)
        check_fit_options(self.method, self.level, self.law_until)
        if self.model not in get_args(ForecastModel):
            raise UsageError(f"no model {self.model!r}", hint="use 'growth' or 'law'")
        if self.samples is not None and self.problems is None:
            raise UsageError(
                "samples without problems", hint="give problems, the number of test problems, too"
            )
        for name in ("problems", "samples", "total_steps", "width"):
            value = _as_number(name, getattr(self, name))
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be positive, not {value:g}")


@dataclass(frozen=True, eq=False)
class GainAhead:
    """What the level behind the scores will gain from the last point seen.

    Attributes
    ----------
    from_step, to_step : float
    until : {"planned-end", "last-score", "as-long-again"}
        What ``to_step`` is: the planned end; the last score of a finished run that is looked at from an earlier step;
        or as long a time again as was seen, where nothing else is known or left.
    if_continued : bool
        Whether the run is over, so that the gain is what training on would bring.
    gain : Gain
    least : float
        The gain that counts, in units of performance: a point of a share, a hundredth of the range of rewards so far.
    """

    from_step: float
    to_step: float
    until: Literal["planned-end", "last-score", "as-long-again"]
    if_continued: bool
    gain: Gain
    least: float = MEANINGFUL_GAIN

    def probability_above(self, amount: float | None = None) -> float:
        """P(gain > amount), amount in units of performance; by default of the gain that counts."""
        return self.gain.above(self.least if amount is None else amount)

    @property
    def amount(self) -> str:
        """The gain that counts, in words."""
        return f"{100 * self.least:g} point" if self.gain.shares else f"{self.least:.2g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "from_step": self.from_step,
            "to_step": self.to_step,
            "until": self.until,
            "if_continued": self.if_continued,
            "above": self.least,
            "probability": self.probability_above(),
        }


@dataclass(frozen=True, eq=False)
class Ahead:
    """What is predicted of a run.

    Attributes
    ----------
    verdict : {"refused", "uncertain", "plateau", "improving"}
        Of the chance that the level behind the scores gains more than a point: improving from 0.8 on, plateau up to
        0.2, else uncertain; refused where the run so far says nothing about its future.
    why : str
        The reason in one sentence.
    outlook : Outlook
    at : tuple of Forecast
        At the steps and entropies asked for.
    failures : tuple of EntlawError
        Why some of them have no answer.
    ceiling : Forecast or None
        The level when the entropy is spent, with growth.
    gain : GainAhead or None
    """

    verdict: ForecastVerdict
    why: str
    outlook: Outlook
    at: tuple[Forecast, ...] = ()
    failures: tuple[EntlawError, ...] = ()
    ceiling: Forecast | None = None
    gain: GainAhead | None = None

    def __repr__(self) -> str:
        return f"<Ahead: {self.verdict}, {shorten(self.why, 60)}, {len(self.at)} forecasts>"

    @property
    def answered(self) -> bool:
        """Whether anything is predicted."""
        return bool(self.at) or self.gain is not None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the run so far and of each number, worst first."""
        return worst_first([*self.outlook.findings, *(f for one in self.at for f in one.findings)])

    def probability_above(self, quantity: Literal["gain", "final", "ceiling"], value: float) -> float | None:
        """P(quantity > value); None where it is not known.

        Parameters
        ----------
        quantity : {"gain", "final", "ceiling"}
            ``final`` is the score at the planned end.
        value : float
            Fraction.
        """
        if quantity == "gain":
            return None if self.gain is None else self.gain.probability_above(value)
        if quantity == "ceiling":
            return None if self.ceiling is None else self.ceiling.probability_above(value)
        if self.gain is None or self.gain.until != "planned-end":
            return None
        return 1.0 - float(self.outlook.at_step(self.gain.to_step).cdf(value))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        seen = self.outlook.points
        return {
            "verdict": self.verdict,
            "why": self.why,
            "until_step": self.outlook.until_step,
            "from_step": float(seen.step[-1]) if seen.n else None,
            "n": seen.n,
            "at": [one.to_dict() for one in self.at],
            "failures": [error.as_dict() for error in self.failures],
            "ceiling": None if self.ceiling is None else self.ceiling.to_dict(),
            "gain": None if self.gain is None else self.gain.to_dict(),
            "findings": [f.as_dict() for f in self.findings],
        }


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
        gain = ceiling = None
        if seen.can_answer:
            to, until = self._horizon(seen.points)
            continued = self.state == "finished" and until != "last-score"
            least = MEANINGFUL_GAIN * (1.0 if seen.points.shares else float(np.ptp(seen.points.score)))
            gain = GainAhead(float(seen.points.step[-1]), to, until, continued, seen.gain(to), least)
            ceiling = seen.ceiling(s.level)
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
        verdict, why = _judge(seen, gain)
        return Ahead(verdict, why, seen, tuple(made), tuple(failures), ceiling, gain)

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
                "performance_key": run.performance_key,
                "performance_kind": run.performance_kind,
                "performance_scale": run.performance_scale,
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


def _as_number(name: str, value: Any) -> float | None:
    """A number, or None; UsageError for anything else."""
    if value is None:
        return None
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"{name} must be a number, not {value!r}")


def _judge(seen: Outlook, gain: GainAhead | None) -> tuple[ForecastVerdict, str]:
    """The verdict on the future, and its reason."""
    n = seen.points.n
    worst = next(
        (f for f in seen.findings if f.severity == "error" and f.code != "too-few-evaluations"), None
    )
    if worst is not None:
        return "refused", worst.what
    if n < FEW_POINTS or gain is None:
        return "uncertain", f"{n} point{'' if n == 1 else 's'} so far, and a forecast wants {FEW_POINTS}"
    p = gain.probability_above()
    why = f"P(gain > {gain.amount}) = {p:.2f} by step {gain.to_step:g}"
    return "improving" if p >= LIKELY else "plateau" if p <= 1.0 - LIKELY else "uncertain", why


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
