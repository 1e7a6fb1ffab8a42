"""Forecasts of a score: at a step, or at an entropy.

Two models answer. ``growth`` (:class:`Outlook`) is the law with what the law leaves out (:mod:`entlaw.law.growth`). It
first looks whether the run so far is of a kind whose future follows from its past, and refuses by code where it is not.
``law`` is the fitted law alone: the paper's claim at a given entropy; at a step it is averaged over the predicted
entropy (:mod:`entlaw.law.entropy_curve`), which is where most of the uncertainty is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from entlaw.errors import DataError, FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law.checks import forecast_findings
from entlaw.law.entropy_curve import entropy_at
from entlaw.law.growth import PRIOR, Gain, Prior, at_entropy, gain_until, in_time
from entlaw.law.posterior import ExactPredictive, Predictive
from entlaw.law.regimes import Regime, regime_of
from entlaw.law.shapes import MOST_ENTROPY, Fit, Interval
from entlaw.limits import FEWEST_POINTS, check_level
from entlaw.points import Points
from entlaw.runs.run import Run

ForecastModel = Literal["growth", "law"]

# Of the two intervals that every forecast shows, the one that does not depend on the level asked for.
INNER = 0.8
# Beyond this many times the history a forecast is mostly the prior's.
FAR = 10.0
# A score at a step whose 80 % interval is as wide as this share of all possible scores excludes little.
WIDE = 0.5
# Quantile nodes over which the law's R is averaged; midpoints of equal probability.
_NODES = (np.arange(41) + 0.5) / 41


@dataclass(frozen=True, eq=False)
class Forecast:
    """A score predicted at a step or at an entropy.

    Attributes
    ----------
    model : {"growth", "law"}
    step : float or None
        The step asked for; None where an entropy was.
    distribution : Predictive
        Of one measurement; for the ceiling, of the level behind the scores.
    entropy_distribution : Predictive or None
        Of the entropy at the step, nats/token; None where the entropy was given.
    given_entropy : float or None
        nats/token.
    until_step : float or None
        End of the window that was used; None for all that was logged.
    n : int
        Points used.
    extrapolation : float
        How far exp(entropy) lies outside that of the points used, in units of their range; 0 inside.
    level : float
        Nominal coverage of ``interval``.
    findings : tuple of Finding
        What a reader of this number should know.
    """

    model: ForecastModel
    step: float | None
    distribution: Predictive = field(repr=False)
    entropy_distribution: Predictive | None = field(repr=False)
    given_entropy: float | None
    until_step: float | None
    n: int
    extrapolation: float
    level: float = 0.95
    findings: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        where = f"entropy {self.entropy:.3g}" if self.step is None else f"step {self.step:g}"
        i = self.interval
        return (
            f"<Forecast at {where}: {self.median:.3f}, {i.level:.0%} [{i.lo:.3f}, {i.hi:.3f}] ({self.model})>"
        )

    @cached_property
    def median(self) -> float:
        """Median of the score (fraction)."""
        return self.distribution.median

    @cached_property
    def interval(self) -> Interval:
        """Central interval of the score at ``level``."""
        return self.interval_at(self.level)

    def interval_at(self, level: float) -> Interval:
        """Central interval of the score at another level; nothing is computed anew."""
        check_level(level)
        return self.distribution.interval(level)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The 80 % interval, and that at ``level``."""
        return tuple(self.interval_at(level) for level in sorted({INNER, self.level}))

    @cached_property
    def entropy(self) -> float:
        """The entropy given, or the median of that predicted; nats/token."""
        if self.entropy_distribution is None:
            assert self.given_entropy is not None
            return self.given_entropy
        return self.entropy_distribution.median

    @property
    def entropy_interval(self) -> Interval | None:
        """Central interval of the predicted entropy; None where it was given."""
        there = self.entropy_distribution
        return None if there is None else there.interval(self.level)

    def probability_above(self, score: float) -> float:
        """P(score > a value)."""
        return 1.0 - float(self.distribution.cdf(score))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "step": self.step,
            "median": self.median,
            "intervals": [asdict(i) for i in self.intervals],
            "entropy": self.entropy,
            "entropy_interval": None if self.entropy_interval is None else asdict(self.entropy_interval),
            "until_step": self.until_step,
            "n": self.n,
            "extrapolation": self.extrapolation,
            "findings": [f.as_dict() for f in self.findings],
        }


@dataclass(frozen=True, eq=False)
class Outlook:
    """The future of a run as seen from the end of a history, by the model ``growth``.

    Attributes
    ----------
    points : Points
        What is seen.
    findings : tuple of Finding
        Worst first; those of severity error are the reasons of a refusal.
    until_step : float or None
        End of the window; None for all that was logged.
    forced : bool
        Answer all the same.
    prior : Prior
    width : float
        By which forecasts at a step are stretched around their median (:mod:`entlaw.law.library`).
    """

    points: Points
    findings: tuple[Finding, ...]
    until_step: float | None = None
    forced: bool = False
    prior: Prior = PRIOR
    width: float = 1.0

    def __repr__(self) -> str:
        return f"<Outlook: {self.points!r}, {len(self.findings)} findings>"

    @classmethod
    def of(
        cls,
        run: Run | Points,
        until_step: float | None = None,
        *,
        force: bool = False,
        prior: Prior = PRIOR,
        width: float = 1.0,
    ) -> Outlook:
        """Look at a run from one of its steps.

        Parameters
        ----------
        run : Run or Points
        until_step : float, optional
            What was logged later is not looked at; by default all is.
        force : bool
            Answer even where the findings refuse (but never with fewer than 2 points).
        prior : Prior
        width : float

        Returns
        -------
        Outlook
        """
        points = Points.of(run).until(until_step)
        read = [f for f in run.findings if f.severity == "error"] if isinstance(run, Run) else []
        findings = worst_first([*forecast_findings(points), *read])
        return cls(points, findings, until_step, force, prior, width)

    @property
    def refused(self) -> bool:
        """Whether nothing trustworthy can be said."""
        return has_error(self.findings)

    @property
    def can_answer(self) -> bool:
        """Whether a forecast is given: two points or more, and not refused, or forced."""
        return self.points.n >= 2 and (self.forced or not self.refused)

    @cached_property
    def regime(self) -> Regime:
        """What the entropy does by the end of what is seen."""
        return regime_of(self.points, self.findings)

    def at_step(self, step: float) -> Predictive:
        """Distribution of the score that will be measured at a later step.

        Raises
        ------
        FitRefused
            The run so far says nothing about its future; ``findings`` hold why.
        UsageError
            A step that is not later than the history.
        """
        self._check()
        if not (np.isfinite(step) and step > self.points.step[-1]):
            raise UsageError(
                f"step {step:g} is not after the last score, at step {self.points.step[-1]:g}",
                where=self.points.name or None,
                hint="ask for a later step, or look from an earlier one (until_step)",
            )
        return in_time(self.points, np.array([float(step)]), prior=self.prior)[0].stretched(self.width)

    def at_steps(self, steps: np.ndarray, entropies: list[np.ndarray] | None = None) -> list[Predictive]:
        """As :meth:`at_step`, for many steps at the cost of few; ``entropies`` as of ``entlaw.law.growth.in_time``."""
        self._check()
        made = in_time(self.points, np.asarray(steps, dtype=float), prior=self.prior, entropy=entropies)
        return [forecast.stretched(self.width) for forecast in made]

    def at_entropy(self, entropy: float, *, measured: bool = True) -> Predictive:
        """Distribution of the score that will be measured when the entropy is at a value (nats/token).

        Parameters
        ----------
        entropy : float
        measured : bool
            With the noise of one measurement; without, of the level behind the scores.

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        UsageError
            A negative or non-finite entropy.
        """
        self._check()
        check_entropy(entropy)
        return at_entropy(self.points, float(entropy), prior=self.prior, measured=measured)[0]

    def ceiling(self, level: float = 0.95) -> Forecast:
        """The level behind the score when the entropy is spent (H = 0): b - a, with growth.

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        """
        return self._forecast(None, self.at_entropy(0.0, measured=False), None, 0.0, level)

    def gain(self, step: float) -> Gain:
        """What the level behind the scores will gain from the last point to a later step.

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        """
        self._check()
        return gain_until(self.points, step, prior=self.prior)

    def forecast(
        self, step: float | None = None, level: float = 0.95, *, entropy: float | None = None
    ) -> Forecast:
        """The score at a later step, or at an entropy.

        Raises
        ------
        FitRefused, UsageError
            As :meth:`at_step` and :meth:`at_entropy`.
        """
        check_level(level)
        if step is None:
            assert entropy is not None
            return self._forecast(None, self.at_entropy(entropy), None, float(entropy), level)
        there = self.at_step(step)
        return self._forecast(float(step), there, entropy_at(self.points, step), None, level)

    def _forecast(
        self,
        step: float | None,
        score: Predictive,
        entropy: Predictive | None,
        given: float | None,
        level: float,
    ) -> Forecast:
        low, high = float(self.points.entropy.min()), float(self.points.entropy.max())
        at = entropy.median if entropy is not None else float(given or 0.0)
        # The entropies seen are the past's: only one below them is new ground.
        beyond = _extrapolation(low, high, min(at, high))
        return Forecast(
            model="growth",
            step=step,
            distribution=score,
            entropy_distribution=entropy,
            given_entropy=given,
            until_step=self.until_step,
            n=self.points.n,
            extrapolation=beyond,
            level=level,
            findings=self._warnings(step, score),
        )

    def _warnings(self, step: float | None, forecast: Predictive) -> tuple[Finding, ...]:
        if step is None:
            return ()
        start = self.points.start
        times = (step - start) / max(float(self.points.step[-1]) - start, 1e-9)
        width = forecast.interval(INNER).width
        found = []
        if times > FAR:
            found.append(
                Finding(
                    "forecast-far",
                    "warning",
                    f"step {step:g} is {times:.0f} times as far as what was seen",
                    "so far ahead the forecast is mostly what runs do in general",
                    "ask again when more was seen",
                    times,
                )
            )
        if self.points.shares and width > WIDE:
            found.append(
                Finding(
                    "forecast-wide",
                    "warning",
                    f"the 80 % interval is {width:.2g} wide",
                    "that is half of all possible scores",
                    "wait for more points, or evaluate on more problems",
                    width,
                )
            )
        return tuple(found)

    def _check(self) -> None:
        if not self.can_answer:
            worst = next((f for f in self.findings if f.severity == "error"), None)
            raise FitRefused(
                worst.what if worst else f"{self.points.n} points",
                where=self.points.name or None,
                why=worst.why if worst else "nothing can be seen in them",
                hint=worst.hint if worst else "wait for more",
                findings=self.findings,
            )


def law_forecast(
    fit: Fit, *, step: float | None = None, entropy: float | None = None, level: float = 0.95
) -> Forecast:
    """Predict one measured score by the fitted law alone, from what its window holds and nothing later.

    Parameters
    ----------
    fit : Fit
    step, entropy : float
        One of them: the step, with the entropy predicted from its log; or the entropy that will be reached, nats/token.
    level : float

    Returns
    -------
    Forecast

    Raises
    ------
    UsageError
        A step, an entropy or a level that is not possible.
    DataError
        At a step: fewer than 4 logged entropies in the window.
    """
    check_level(level)
    points = fit.points.given
    reached = None
    if step is None:
        assert entropy is not None
        check_entropy(entropy)
        at, nodes = float(entropy), np.array([float(entropy)])
    else:
        if not np.isfinite(step):
            raise UsageError("the step must be a finite number")
        log_step, _ = points.own_log
        if len(log_step) < FEWEST_POINTS or np.ptp(log_step) == 0:
            raise DataError(
                f"{len(log_step)} logged entropies in the fit window: too few to forecast H(t)",
                where=points.name or None,
                why=f"the entropy's own curve needs at least {FEWEST_POINTS} values",
                hint="forecast at a given entropy instead, or fit a longer window",
            )
        reached = entropy_at(points, float(step))
        at, nodes = reached.median, reached.quantile(_NODES)
    mean, scale = fit.posterior.at(np.exp(nodes), measured=True)
    weight = np.repeat(fit.posterior.weight / len(nodes), len(nodes))
    return Forecast(
        model="law",
        step=None if step is None else float(step),
        distribution=ExactPredictive(weight, mean.ravel(), scale.ravel(), fit.posterior.df),
        entropy_distribution=reached,
        given_entropy=at if step is None else None,
        until_step=fit.until_step,
        n=fit.n,
        extrapolation=_extrapolation(*fit.entropy_range, at),
        level=level,
    )


def check_entropy(entropy: float) -> None:
    """Raise UsageError for an entropy that no policy has."""
    if not (np.isfinite(entropy) and 0.0 <= entropy <= MOST_ENTROPY):
        raise UsageError(f"entropy {entropy:g} is not possible", hint="give nats per token, at least 0")


def _extrapolation(low: float, high: float, entropy: float) -> float:
    x = np.exp(np.array([low, high, entropy]))
    outside = max(x[0] - x[2], x[2] - x[1], 0.0)
    width = x[1] - x[0]
    return float(outside / width) if width > 0 else float("inf")
