"""What is predicted of a run: the numbers asked for, the gain to come, and one word about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from entlaw.errors import EntlawError
from entlaw.findings import Finding, worst_first
from entlaw.law.forecast import Forecast, Outlook
from entlaw.law.growth import Gain
from entlaw.limits import FEW_POINTS
from entlaw.wording import shorten

# What the forecast says of the run's future.
ForecastVerdict = Literal["refused", "uncertain", "plateau", "improving"]

# A point of accuracy: less is lost in the noise of most tests. Of rewards, which have any unit, this share of the range
# seen so far.
MEANINGFUL_GAIN = 0.01
# Odds of four to one either way before a word is said; between them it is uncertain.
LIKELY = 0.8


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
    gain : GainAhead or None
    level : float
        Of the interval of :attr:`ceiling`.
    """

    verdict: ForecastVerdict
    why: str
    outlook: Outlook
    at: tuple[Forecast, ...] = ()
    failures: tuple[EntlawError, ...] = ()
    gain: GainAhead | None = None
    level: float = 0.95

    def __repr__(self) -> str:
        return f"<Ahead: {self.verdict}, {shorten(self.why, 60)}, {len(self.at)} forecasts>"

    @cached_property
    def ceiling(self) -> Forecast | None:
        """The level when the entropy is spent, with growth; found when asked for, as it takes the longest."""
        return self.outlook.ceiling(self.level) if self.outlook.can_answer else None

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


def judge(seen: Outlook, gain: GainAhead | None) -> tuple[ForecastVerdict, str]:
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
