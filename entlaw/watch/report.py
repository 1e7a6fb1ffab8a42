"""What a watcher says after each new point: the run's :class:`Result`, and what only watching adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from entlaw.law.ahead import ForecastVerdict
from entlaw.law.forecast import Forecast
from entlaw.law.result import Result
from entlaw.law.shapes import Interval

# As metrics are numbers, the forecast's verdict is logged as one.
VERDICT_CODES: Mapping[ForecastVerdict, float] = MappingProxyType(
    {"refused": -1.0, "uncertain": 0.0, "improving": 1.0, "plateau": 2.0}
)


@dataclass(frozen=True)
class Alert:
    """Something that should not wait until somebody looks.

    Attributes
    ----------
    code : {"entropy-collapsed", "entropy-exploding", "ceiling-below-target", "stop-rule", "run-ended"}
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
        The probability it asks about; None where it is not known.
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


@dataclass(frozen=True, eq=False)
class WatchReport:
    """A run at one of its points.

    Attributes
    ----------
    result : Result
        What is said of the run at that point, as :func:`entlaw.law.result.examine` says it.
    since : float or None
        Step since which the forecast's verdict has been the same; None while a new one is not yet confirmed.
    stop : Stop or None
        None without a stop rule.
    alerts : tuple of Alert
        Those that are new with this report.
    """

    result: Result
    since: float | None
    stop: Stop | None = None
    alerts: tuple[Alert, ...] = ()

    @property
    def step(self) -> float:
        """Step at which the last point was complete: that of its score or of its entropy, whichever is later."""
        points = self.result.points
        return float(max(points.step[-1], points.entropy_step[-1]))

    @property
    def final(self) -> Forecast | None:
        """The score predicted at the planned end; None where that is not known, reached, or refused."""
        ahead = self.result.forecast
        if ahead.gain is None or ahead.gain.until != "planned-end" or not ahead.at:
            return None
        return ahead.at[0]

    def metrics(self) -> dict[str, float]:
        """The numbers that go into a training log, none for what is not known.

        Returns
        -------
        dict
            ``entlaw/ceiling`` (the law's), ``entlaw/final`` (the score predicted at the planned end), each with
            ``_lo`` and ``_hi``, fractions; ``entlaw/p_gain`` (of the stop rule); and ``entlaw/verdict``, the
            forecast's (:data:`VERDICT_CODES`).
        """
        law, final = self.result.law, self.final
        found = {"entlaw/verdict": VERDICT_CODES[self.result.forecast.verdict]}
        if law is not None:
            found |= _with_interval("entlaw/ceiling", law.ceiling, law.ceiling_interval)
        if final is not None:
            found |= _with_interval("entlaw/final", final.median, final.interval)
        if self.stop is not None and self.stop.probability is not None:
            found["entlaw/p_gain"] = self.stop.probability
        return found

    def to_dict(self) -> dict[str, Any]:
        """One line of schema ``entlaw.watch/2``: the result without ``law.points``, which are as long as the run."""
        told = self.result.to_dict()
        if told["law"] is not None:
            told["law"] = {key: value for key, value in told["law"].items() if key != "points"}
        return {
            "schema": "entlaw.watch/2",
            **told,
            "step": self.step,
            "since": self.since,
            "stop": None if self.stop is None else asdict(self.stop),
            "alerts": [asdict(alert) for alert in self.alerts],
        }


def _with_interval(key: str, centre: float, interval: Interval) -> dict[str, float]:
    return {key: centre, f"{key}_lo": interval.lo, f"{key}_hi": interval.hi}
