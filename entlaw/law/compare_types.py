"""What a comparison is made of: the runs, the differences, and what "final" and "entropy spent" mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from entlaw.findings import Finding
from entlaw.law.results import Fit, Interval

Unit = Literal["validations", "paired runs", "runs", "runs of one side", "fits"]

# "Final" is the mean over this last share of the common steps.
FINAL_SHARE = 0.25


@dataclass(frozen=True)
class Track:
    """One run as a comparison sees it.

    Attributes
    ----------
    name : str
    seed : str or None
        What pairs it with a run of the other side.
    step, entropy, performance : ndarray, shape (n,)
        Its points, steps increasing.
    fit : Fit or None
        None where nothing can be fitted: then only final performance is compared.
    """

    name: str
    seed: str | None
    step: np.ndarray
    entropy: np.ndarray
    performance: np.ndarray
    fit: Fit | None


@dataclass(frozen=True)
class Difference:
    """B less A in one quantity.

    Attributes
    ----------
    quantity : {"final", "ceiling", "at equal entropy", "entropy spent"}
    a, b : float
        The sides' values (fractions; entropy in nats/token).
    difference : float
    interval : Interval or None
        None where nothing tells how sure it is.
    p_value : float
        Two-sided, of no difference; NaN without an interval.
    unit : str
        What was counted as independent: validations (of one run a side), fits, or runs.
    n : int
        How many.
    """

    quantity: str
    a: float
    b: float
    difference: float
    interval: Interval | None
    p_value: float
    unit: Unit
    n: int

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` (B; of the entropy spent ``more`` or ``less``), ``noise``, or ``cannot tell``."""
        if self.interval is None or not np.isfinite([self.interval.lo, self.interval.hi]).all():
            return "cannot tell"
        up, down = ("more", "less") if self.quantity == "entropy spent" else ("better", "worse")
        return up if self.interval.lo > 0 else down if self.interval.hi < 0 else "noise"


@dataclass(frozen=True)
class Comparison:
    """Differences of two sides, and what to bear in mind."""

    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]


def final_mean(track: Track, last_step: float | None = None) -> float:
    """Mean performance over the last quarter of the steps (up to ``last_step``)."""
    end = float(track.step[-1]) if last_step is None else last_step
    inside = (track.step <= end) & (track.step >= share_begins(track.step[0], end, FINAL_SHARE))
    return float(track.performance[inside].mean()) if inside.any() else float("nan")


def share_begins(first: float, last: float, share: float) -> float:
    """The step at which the last ``share`` of the steps begins."""
    return last - share * (last - first)


def spent_entropy(track: Track) -> float:
    """Entropy at the first point less that at the last, nats/token."""
    return float(track.entropy[0] - track.entropy[-1])
