"""What a watcher says after each new validation: frozen, plain, the same for a terminal, a script and a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from entlaw.findings import Finding
from entlaw.law.shapes import Fit, Forecast, Interval

Verdict = Literal["cannot-tell", "keep-going", "saturating", "does-not-apply"]

# As metrics are numbers, the verdict is logged as one.
VERDICT_CODES: Mapping[str, float] = MappingProxyType(
    {"does-not-apply": -1.0, "cannot-tell": 0.0, "keep-going": 1.0, "saturating": 2.0}
)


@dataclass(frozen=True)
class Alert:
    """Something that should not wait until somebody looks.

    Attributes
    ----------
    code : {"entropy-collapsed", "entropy-exploding", "ceiling-below-target", "stop-rule", "run-ended", "run-silent"}
    step : float
        Step at which it was seen first.
    what, why : str
        One sentence each.
    """

    code: str
    step: float
    what: str
    why: str = ""


@dataclass(frozen=True)
class Stop:
    """What the stop rule says.

    Attributes
    ----------
    rule : str
        As the user wrote it, e.g. ``P(gain > 1%) < 0.05``.
    probability : float or None
        The probability it asks about; None where it cannot be told.
    fired : bool
        The rule held at as many validations in a row as it has to.
    in_a_row : int
        Validations in a row at which it has held.
    why : str
    """

    rule: str
    probability: float | None
    fired: bool
    in_a_row: int
    why: str = ""


@dataclass(frozen=True)
class Report:
    """The state of a run at one validation, from the points up to it and nothing later.

    Attributes
    ----------
    name : str
    step : float
        Optimiser step of the last point.
    points : int
        Pairs of entropy and performance so far.
    entropy, performance : float
        Of the last point: nats/token, and a fraction where it is a score.
    fit : Fit or None
        None while nothing can be fitted.
    ceiling : Interval or None
        R at H = 0 (``fit.ceiling`` is its centre).
    final : Forecast or None
        R at ``total_steps``; None when that is not known, or H cannot be forecast yet.
    verdict : {"cannot-tell", "keep-going", "saturating", "does-not-apply"}
    why : str
        The verdict's reason in one sentence.
    since : float
        Step from which on the verdict has been the same.
    stop : Stop or None
        None without a stop rule.
    alerts : tuple of Alert
        Those that are new with this report.
    findings : tuple of Finding
        Worst first.
    """

    name: str
    step: float
    points: int
    entropy: float
    performance: float
    fit: Fit | None
    ceiling: Interval | None
    final: Forecast | None
    verdict: Verdict
    why: str
    since: float
    stop: Stop | None = None
    alerts: tuple[Alert, ...] = ()
    findings: tuple[Finding, ...] = ()

    def metrics(self) -> dict[str, float]:
        """The numbers that go into a training log, none for what is not known.

        Returns
        -------
        dict
            ``entlaw/ceiling``, ``entlaw/ceiling_lo``, ``entlaw/ceiling_hi`` (fractions), ``entlaw/final``,
            ``entlaw/final_lo``, ``entlaw/final_hi``, ``entlaw/p_gain`` (of the stop rule), and ``entlaw/verdict``
            (:data:`VERDICT_CODES`).
        """
        found: dict[str, float] = {"entlaw/verdict": VERDICT_CODES[self.verdict]}
        if self.fit is not None and self.ceiling is not None:
            found |= _with_interval("entlaw/ceiling", self.fit.ceiling, self.ceiling)
        if self.final is not None:
            found |= _with_interval("entlaw/final", self.final.performance, self.final.interval)
        if self.stop is not None and self.stop.probability is not None:
            found["entlaw/p_gain"] = self.stop.probability
        return found

    def as_dict(self) -> dict[str, Any]:
        """One line of schema ``entlaw.watch/1``."""
        fit, final = self.fit, self.final
        return {
            "schema": "entlaw.watch/1", "name": self.name, "step": self.step, "points": self.points,
            "entropy": self.entropy, "performance": self.performance, "verdict": self.verdict, "why": self.why,
            "since": self.since,
            "fit": None if fit is None else {
                "a": fit.a, "b": fit.b, "n": fit.n, "r_squared": fit.r_squared, "ceiling": fit.ceiling,
                "ceiling_interval": None if self.ceiling is None else self.ceiling.__dict__,
            },
            "final": None if final is None else {
                "step": final.target, "performance": final.performance, "interval": final.interval.__dict__,
                "entropy": final.entropy,
            },
            "stop": None if self.stop is None else self.stop.__dict__,
            "alerts": [alert.__dict__ for alert in self.alerts],
            "findings": [finding.as_dict() for finding in self.findings],
        }  # fmt: skip


def _with_interval(key: str, centre: float, interval: Interval) -> dict[str, float]:
    return {key: centre, f"{key}_lo": interval.lo, f"{key}_hi": interval.hi}
