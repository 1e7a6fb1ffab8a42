"""What is left to gain: the one place where a watcher asks for a forecast.

The forecast is :class:`entlaw.law.outlook.Outlook`'s: the law with an intercept that goes on growing. The law alone
would call a run saturated as soon as its entropy is spent, while accuracy often still grows (LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entlaw.findings import Finding
from entlaw.law.gain import Gain, gain_until
from entlaw.law.outlook import Outlook
from entlaw.law.predictive import Predictive
from entlaw.law.results import Forecast
from entlaw.runs.run import Run

# Where the end of the run is not known, what is left to gain is asked for as long a time again.
_AGAIN = 2.0


@dataclass(frozen=True)
class Ahead:
    """A run's future as seen from its last point.

    Attributes
    ----------
    refused : tuple of Finding
        Why nothing can be said; empty if it can.
    final : Forecast or None
        R at the end; None when the end is not known, reached, or nothing can be said.
    gain : Gain or None
        To the end; with an unknown end, over as long a time again.
    """

    refused: tuple[Finding, ...]
    final: Forecast | None
    gain: Gain | None
    _end: Predictive | None = None
    _ceiling: Predictive | None = None

    def probability(self, quantity: str, above: float) -> float | None:
        """P(quantity > above).

        Parameters
        ----------
        quantity : {"gain", "final", "ceiling"}
        above : float
            Fraction.

        Returns
        -------
        float or None
            None where it cannot be told.
        """
        if quantity == "gain":
            return self.gain.above(above) if self.gain is not None else None
        asked = self._end if quantity == "final" else self._ceiling
        return None if asked is None else 1.0 - float(asked.cdf(above))


def look_ahead(run: Run, total_steps: float | None, level: float) -> Ahead:
    """Look ahead from the last point of a run.

    Parameters
    ----------
    run : Run
        As it was at its last point.
    total_steps : float or None
        Where it will end.
    level : float
        Of the interval of ``final``.

    Returns
    -------
    Ahead
    """
    seen = Outlook.of(run)
    errors = tuple(f for f in seen.findings if f.severity == "error")
    if seen.history.n < 2 or seen.refused:
        return Ahead(errors, None, None)
    now = float(seen.history.step[-1])
    start = min(float(seen.history.step[0]), 0.0)
    end = total_steps if total_steps is not None else start + _AGAIN * max(now - start, 1.0)
    if end <= now:
        return Ahead((), None, Gain(float(seen.history.performance[-1]), _nothing(), seen.history.shares))
    gain = gain_until(seen.history, end)
    if total_steps is None:
        return Ahead((), None, gain, None, seen.ceiling())
    return Ahead((), seen.forecast(end, level), gain, seen.at_step(end), seen.ceiling())


def _nothing() -> Predictive:
    """At the end of a run nothing is left."""
    return Predictive(np.ones(1), np.zeros(1), np.zeros(1))
