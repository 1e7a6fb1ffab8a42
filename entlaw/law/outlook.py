"""What can be said about a run's future, and whether anything can.

One object for all who ask: ``Outlook.of(run, until_step=36).at_step(240)``. It looks first whether the run so
far is of a kind whose future
follows from its past; where it is not, it refuses by code, with the reason and what would change the answer.
Otherwise it gives
distributions from :mod:`entlaw.law.growth`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from entlaw.errors import FitRefused, UsageError
from entlaw.findings import Finding, has_error, worst_first
from entlaw.law import checks_entropy, checks_fit
from entlaw.law.evidence import Evidence
from entlaw.law.growth import PRIOR, Prior, at_entropy, in_time
from entlaw.law.history import History, history_of_run
from entlaw.law.predictive import Predictive
from entlaw.law.results import Forecast
from entlaw.law.rivals import MIN_POINTS, entropy_nodes
from entlaw.runs.run import Run

Regime = Literal["falling", "turned-up", "not-falling", "rising", "exploded", "spent", "unknown"]

# Beyond this many times the history a forecast is mostly the prior's.
FAR = 10.0
# A ceiling, or a score at a step, whose 80 % interval is as wide as this share of all possible scores
# excludes little.
WIDE = 0.5

_CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    checks_entropy.resumed,
    checks_entropy.unit,
    checks_entropy.trend,
    checks_fit.count,
    checks_fit.score,
)
# In order: the first of these codes among the findings names the regime.
_REGIMES: tuple[tuple[str, Regime], ...] = (
    ("entropy-exploded", "exploded"),
    ("resumed-after-collapse", "spent"),
    ("entropy-rising", "rising"),
    ("entropy-not-falling", "not-falling"),
    ("entropy-constant", "not-falling"),
    ("entropy-turned-up", "turned-up"),
)


@dataclass(frozen=True)
class Outlook:
    """The future of a run as seen from the end of a history.

    Attributes
    ----------
    history : History
    findings : tuple of Finding
        Worst first; those of severity error are the reasons of a refusal.
    forced : bool
        Answer all the same.
    prior : Prior
    width : float
        By which forecasts at a step are stretched around their median (:mod:`entlaw.law.library`).
    """

    history: History
    findings: tuple[Finding, ...]
    forced: bool = False
    prior: Prior = PRIOR
    width: float = 1.0

    @classmethod
    def of(
        cls, run: Run | History, until_step: float | None = None, *, force: bool = False, prior: Prior = PRIOR
    ) -> Outlook:
        """Look at a run from one of its steps.

        Parameters
        ----------
        run : Run or History
        until_step : float, optional
            What was logged later is not looked at; by default all is.
        force : bool
            Answer even where the findings refuse (but never with fewer than 2 points).
        prior : Prior

        Returns
        -------
        Outlook
        """
        history = history_of_run(run) if isinstance(run, Run) else run
        if until_step is not None:
            history = history.until(until_step)
        return cls(history, findings_of(history), force, prior)

    @property
    def refused(self) -> bool:
        """Whether nothing trustworthy can be said."""
        return has_error(self.findings)

    @cached_property
    def regime(self) -> Regime:
        """How the entropy goes."""
        return regime_of(self.findings, self.history)

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
        if not (np.isfinite(step) and step > self.history.step[-1]):
            raise UsageError(
                f"step {step:g} is not after the last score, at step {self.history.step[-1]:g}",
                hint="ask for a later step",
            )
        return in_time(self.history, np.array([float(step)]), prior=self.prior)[0].stretched(self.width)

    def at_steps(self, steps: np.ndarray, entropies: list[np.ndarray] | None = None) -> list[Predictive]:
        """As :meth:`at_step`, for many steps at the cost of few; ``entropies`` as in
        :func:`entlaw.law.growth.in_time`."""
        self._check()
        made = in_time(self.history, np.asarray(steps, dtype=float), prior=self.prior, entropy=entropies)
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
        return at_entropy(self.history, float(entropy), prior=self.prior)[0]

    def ceiling(self) -> Predictive:
        """Distribution of the level behind the score when the entropy is spent (H = 0): b - a of the law, as
        far as it holds.

        Raises
        ------
        FitRefused
            As :meth:`at_step`.
        """
        self._check()
        return at_entropy(self.history, 0.0, prior=self.prior, measured=False)[0]

    def entropy_at(self, step: float) -> Predictive:
        """Distribution of the entropy (nats/token) at a later step, as point masses of equal weight."""
        nodes = entropy_nodes(self.history, step)
        return Predictive(np.full(len(nodes), 1.0 / len(nodes)), nodes, np.zeros(len(nodes)), low=0.0)

    def forecast(self, step: float, level: float = 0.95) -> Forecast:
        """The score at a later step with its interval, and the entropy with its own.

        Raises
        ------
        FitRefused, UsageError
            As :meth:`at_step`.
        """
        there, entropy = self.at_step(step), self.entropy_at(step)
        x = np.exp(self.history.entropy)
        beyond = max(float(x.min()) - float(np.exp(entropy.median)), 0.0)
        width = float(np.ptp(x))
        return Forecast(
            "at-step", float(step), there.median, there.interval(level), entropy.median, entropy.interval(level),
            beyond / width if width > 0 else float("inf"), "outlook",
        )  # fmt: skip

    def warnings(self, step: float, forecast: Predictive) -> tuple[Finding, ...]:
        """What a reader of one forecast should know besides :attr:`findings`."""
        found = []
        start = min(float(self.history.step[0]), 0.0)
        times = (step - start) / max(float(self.history.step[-1]) - start, 1e-9)
        if times > FAR:
            found.append(Finding(
                "forecast-far", "warning", f"step {step:g} is {times:.0f} times as far as what was seen",
                "so far ahead the forecast is mostly what runs do in general", "ask again when more was seen",
                times,
            ))  # fmt: skip
        width = forecast.interval(0.8).width
        if self.history.shares and width > WIDE:
            found.append(Finding(
                "forecast-wide", "warning", f"the 80 % interval is {width:.2g} wide",
                "that is half of all possible scores", "wait for more points, or evaluate on more problems",
                width,
            ))  # fmt: skip
        return tuple(found)

    def _check(self) -> None:
        if self.history.n < 2 or (self.refused and not self.forced):
            worst = next((f for f in self.findings if f.severity == "error"), None)
            raise FitRefused(
                worst.what if worst else f"{self.history.n} points", where=self.history.name or None,
                why=worst.why if worst else "nothing can be seen in them",
                hint=worst.hint if worst else "wait for more", findings=self.findings,
            )  # fmt: skip


def findings_of(history: History) -> tuple[Finding, ...]:
    """What speaks against a forecast, worst first.

    Parameters
    ----------
    history : History

    Returns
    -------
    tuple of Finding
        Those of severity error refuse.
    """
    if history.n < MIN_POINTS:
        return tuple(checks_fit.count(_evidence(history)))
    evidence = _evidence(history)
    return worst_first([finding for check in _CHECKS for finding in check(evidence)])


def regime_of(findings: tuple[Finding, ...], history: History) -> Regime:
    """How the entropy goes, from the findings."""
    codes = {f.code for f in findings}
    for code, regime in _REGIMES:
        if code in codes:
            return regime
    if len(history.log_step) < MIN_POINTS or codes & {"entropy-not-per-token", "entropy-impossible"}:
        return "unknown"
    return "falling"


def _evidence(history: History) -> Evidence:
    log = np.stack([history.log_step, history.log_entropy])
    return Evidence(
        step=history.step, entropy=history.entropy, performance=history.performance, log=log, whole_log=log,
        later=np.zeros((3, 0)), until_step=None, fit=None, run=None, answers_known=False,
    )  # fmt: skip
