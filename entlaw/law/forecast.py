"""Forecasts of performance: what can be said about a run's future, and whether anything can.

:class:`Outlook` is for all who ask: ``Outlook.of(run, until_step=36).at_step(240)``. It looks first whether the run so
far is of a kind whose future follows from its past; where it is not, it refuses by code, with the reason and what would
change the answer. Otherwise it gives distributions from :mod:`entlaw.law.growth`.

:func:`predict_at_entropy` and :func:`forecast_at_step` are of the fitted law alone: given the entropy you will reach,
which is the paper's claim, or at a step, with the entropy forecast too (:mod:`entlaw.law.entropy_curve`); that is where
most of the uncertainty is. The forecast of R is then the mixture of the fit's predictions over the quantiles of the
forecast of H: deterministic, no sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entlaw.errors import DataError, FitRefused, UsageError
from entlaw.findings import Finding, has_error
from entlaw.law.checks import forecast_findings
from entlaw.law.entropy_curve import entropy_nodes, entropy_quantiles
from entlaw.law.growth import PRIOR, Prior, at_entropy, in_time
from entlaw.law.posterior import Predictive, mixture_quantile
from entlaw.law.regimes import Regime, regime_of
from entlaw.law.results import MOST_ENTROPY, Fit, Forecast, Interval
from entlaw.limits import FEWEST_POINTS, check_level
from entlaw.points import Points
from entlaw.runs.run import Run

# Beyond this many times the history a forecast is mostly the prior's.
FAR = 10.0
# A ceiling, or a score at a step, whose 80 % interval is as wide as this share of all possible scores excludes little.
WIDE = 0.5
# Quantile nodes over which the law's R is averaged; midpoints of equal probability.
_NODES = (np.arange(41) + 0.5) / 41


@dataclass(frozen=True)
class Outlook:
    """The future of a run as seen from the end of a history.

    Attributes
    ----------
    points : Points
    findings : tuple of Finding
        Worst first; those of severity error are the reasons of a refusal.
    forced : bool
        Answer all the same.
    prior : Prior
    width : float
        By which forecasts at a step are stretched around their median (:mod:`entlaw.law.library`).
    """

    points: Points
    findings: tuple[Finding, ...]
    forced: bool = False
    prior: Prior = PRIOR
    width: float = 1.0

    @classmethod
    def of(
        cls, run: Run | Points, until_step: float | None = None, *, force: bool = False, prior: Prior = PRIOR
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

        Returns
        -------
        Outlook
        """
        points = Points.of(run).until(until_step)
        return cls(points, forecast_findings(points), force, prior)

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
        """How the entropy goes."""
        return regime_of(self.findings, self.points)

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
                hint="ask for a later step",
            )
        return in_time(self.points, np.array([float(step)]), prior=self.prior)[0].stretched(self.width)

    def at_steps(self, steps: np.ndarray, entropies: list[np.ndarray] | None = None) -> list[Predictive]:
        """As :meth:`at_step`, for many steps at the cost of few; ``entropies`` as of ``entlaw.law.growth.in_time``."""
        self._check()
        made = in_time(self.points, np.asarray(steps, dtype=float), prior=self.prior, entropy=entropies)
        return [forecast.stretched(self.width) for forecast in made]

    def at_entropy(self, entropy: float) -> Predictive:
        """Distribution of the score that will be measured when the entropy is at a value (nats/token).

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        UsageError
            A negative or non-finite entropy.
        """
        self._check()
        if not (np.isfinite(entropy) and entropy >= 0):
            raise UsageError(f"entropy {entropy:g} is not possible", hint="give nats per token, at least 0")
        return at_entropy(self.points, float(entropy), prior=self.prior)[0]

    def ceiling(self) -> Predictive:
        """Distribution of the level behind the score when the entropy is spent (H = 0): b - a, as far as the law holds.

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        """
        self._check()
        return at_entropy(self.points, 0.0, prior=self.prior, measured=False)[0]

    def entropy_at(self, step: float) -> Predictive:
        """Distribution of the entropy (nats/token) at a later step, as point masses of equal weight."""
        nodes = entropy_nodes(self.points, step)
        return Predictive(np.full(len(nodes), 1.0 / len(nodes)), nodes, np.zeros(len(nodes)), low=0.0)

    def forecast(self, step: float, level: float = 0.95) -> Forecast:
        """The score at a later step with its interval, and the entropy with its own.

        Raises
        ------
        FitRefused, UsageError
            As :meth:`at_step`.
        """
        there, entropy = self.at_step(step), self.entropy_at(step)
        x = np.exp(self.points.entropy)
        beyond = max(float(x.min()) - float(np.exp(entropy.median)), 0.0)
        width = float(np.ptp(x))
        return Forecast(
            "at-step", float(step), there.median, there.interval(level), entropy.median, entropy.interval(level),
            beyond / width if width > 0 else float("inf"), "outlook",
        )  # fmt: skip

    def warnings(self, step: float, forecast: Predictive) -> tuple[Finding, ...]:
        """What a reader of one forecast should know besides :attr:`findings`."""
        found = []
        start = self.points.start
        times = (step - start) / max(float(self.points.step[-1]) - start, 1e-9)
        if times > FAR:
            found.append(Finding(
                "forecast-far", "warning", f"step {step:g} is {times:.0f} times as far as what was seen",
                "so far ahead the forecast is mostly what runs do in general", "ask again when more was seen",
                times,
            ))  # fmt: skip
        width = forecast.interval(0.8).width
        if self.points.shares and width > WIDE:
            found.append(Finding(
                "forecast-wide", "warning", f"the 80 % interval is {width:.2g} wide",
                "that is half of all possible scores", "wait for more points, or evaluate on more problems",
                width,
            ))  # fmt: skip
        return tuple(found)

    def _check(self) -> None:
        if not self.can_answer:
            worst = next((f for f in self.findings if f.severity == "error"), None)
            raise FitRefused(
                worst.what if worst else f"{self.points.n} points", where=self.points.name or None,
                why=worst.why if worst else "nothing can be seen in them",
                hint=worst.hint if worst else "wait for more", findings=self.findings,
            )  # fmt: skip


def predict_at_entropy(fit: Fit, entropy: float, level: float = 0.95) -> Forecast:
    """Forecast one measured score, given the entropy the policy will have.

    Parameters
    ----------
    fit : Fit
    entropy : float
        nats/token, finite and at least 0.
    level : float

    Returns
    -------
    Forecast
        ``kind="at-entropy"``.

    Raises
    ------
    UsageError
        A negative or non-finite entropy, a level outside (0, 1).
    """
    entropy = float(entropy)
    check_level(level)
    if not (np.isfinite(entropy) and 0.0 <= entropy <= MOST_ENTROPY):
        raise UsageError(f"entropy {entropy:g} is not possible", hint="give nats per token, at least 0")
    x = np.array([np.exp(entropy)])
    mean, scale = fit.posterior.at(x, measured=True)
    middle = mixture_quantile(0.5, fit.posterior.weight, mean, scale, fit.posterior.df)
    lo, hi = fit.posterior.interval(x, level, measured=True)
    best = float(middle[0]) if np.isfinite(middle[0]) else float(fit.value_at(entropy))
    return Forecast(
        "at-entropy", entropy, best, Interval(float(lo[0]), float(hi[0]), level), entropy, None,
        _extrapolation(fit, entropy),
    )  # fmt: skip


def forecast_at_step(
    fit: Fit, step: float, run: Run | Points, level: float = 0.95, *, until_step: float | None = None
) -> Forecast:
    """Forecast one measured score at a step, the entropy being forecast from its log.

    Parameters
    ----------
    fit : Fit
    step : float
        The step asked for.
    run : Run or Points
        For its entropy log. Only what lies in the fit's window (or ``until_step``) is used.
    level : float
    until_step : float, optional
        Use the entropy log up to here instead of up to the end of the fit's window.

    Returns
    -------
    Forecast
        ``kind="at-step"``; ``entropy`` and ``entropy_interval`` hold the forecast of H.

    Raises
    ------
    UsageError
        A step or level that is not possible.
    DataError
        Fewer than 4 logged entropies in the window.
    """
    step = float(step)
    check_level(level)
    if not np.isfinite(step):
        raise UsageError("the step must be a finite number")
    # Up to the window's end itself: with "next" pairing one value fewer than `Points.until` leaves.
    end = until_step if until_step is not None else fit.until_step
    points = Points.of(run)
    logged = points.log_step <= (np.inf if end is None else end)
    t, h = points.log_step[logged], points.log_entropy[logged]
    if len(t) < FEWEST_POINTS or np.ptp(t) == 0:
        raise DataError(
            f"{len(t)} logged entropies in the fit window: too few to forecast H(t)",
            why=f"the entropy's own curve needs at least {FEWEST_POINTS} values",
            hint="forecast at a given entropy instead (--entropy), or fit a longer window",
        )
    tail = 0.5 * (1.0 - level)
    p = np.concatenate([[tail, 0.5, 1.0 - tail], _NODES])
    quantiles = entropy_quantiles(t, h, step, p, MOST_ENTROPY)
    lo_h, middle_h, hi_h, nodes = quantiles[0], float(quantiles[1]), quantiles[2], quantiles[3:]

    m, s = fit.posterior.at(np.exp(nodes), measured=True)
    weights = np.outer(fit.posterior.weight, np.full(len(nodes), 1.0 / len(nodes))).ravel()
    at = np.array([tail, 0.5, 1.0 - tail])
    lo, middle, hi = mixture_quantile(
        at, weights, np.outer(m.ravel(), np.ones(3)), np.outer(s.ravel(), np.ones(3)), fit.posterior.df
    )
    best = float(middle) if np.isfinite(middle) else float(fit.value_at(middle_h))
    return Forecast(
        "at-step", step, best, Interval(float(lo), float(hi), level), middle_h,
        Interval(float(lo_h), float(hi_h), level), _extrapolation(fit, middle_h),
    )  # fmt: skip


def _extrapolation(fit: Fit, entropy: float) -> float:
    x = np.exp(np.array([*fit.entropy_range, entropy]))
    outside = max(x[0] - x[2], x[2] - x[1], 0.0)
    width = x[1] - x[0]
    return float(outside / width) if width > 0 else float("inf")
