"""What the diagnostics look at: the points in the window, the entropy log in it, and the run around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entlaw.law.results import Fit
from entlaw.law.smooth import block_means
from entlaw.runs.run import Run

# Longer series are averaged to this many values first.
_MOST = 600
# From this width on a trimmed mean has something to trim; below, a level is a median.
_TRIM_FROM = 10


@dataclass(frozen=True)
class Trend:
    """How a noisy series goes, from levels (medians, or trimmed means of many values) of stretches of it.

    Attributes
    ----------
    start, end : float
        Level of the first and of the last values.
    low : float
        Lowest level.
    high_after : float
        Highest level after the lowest one, the end included.
    high : float
        Highest level of all.
    first : float
        Mean of the first two values: a steep start is over before a level can show it.
    error : float
        Standard error of one level; 0 with fewer than 6 values, whose wiggles may be the curve itself.
    n : int
        Number of values.
    """

    start: float
    end: float
    low: float
    high_after: float
    high: float
    first: float
    error: float
    n: int


@dataclass(frozen=True)
class Evidence:
    """Everything a check may use; arrays are finite and ordered by step.

    Attributes
    ----------
    step, entropy, performance : ndarray, shape (n,)
        The points in the fit window, entropy as logged.
    log : ndarray, shape (2, m)
        Steps and values of the entropy log in the window.
    whole_log : ndarray, shape (2, M)
        The same for the whole run.
    later : ndarray, shape (3, l)
        Step, entropy and performance of the points after the window.
    until_step : float or None
    fit : Fit or None
        None when nothing could be fitted.
    run : Run or None
    answers_known : bool
        Whether the user gave the size of the test.
    """

    step: np.ndarray
    entropy: np.ndarray
    performance: np.ndarray
    log: np.ndarray
    whole_log: np.ndarray
    later: np.ndarray
    until_step: float | None
    fit: Fit | None
    run: Run | None
    answers_known: bool

    @cached_property
    def trend(self) -> Trend | None:
        """Trend of the entropy in the window; None with fewer than 3 values."""
        return trend_of(self.log[1])


def trend_of(values: np.ndarray) -> Trend | None:
    """Levels of a series (see :class:`Trend`); None with fewer than 3 values."""
    if len(values) > _MOST:
        values = block_means(values, _MOST, values)[1][0]
    m = len(values)
    if m < 3:
        return None
    # An eighth of the series shows a level; more than 5 values at the ends would miss a steep start.
    ends = int(np.clip(m // 8, 1, 5))
    width = max(ends, m // 12)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    # The mean is what the policy's entropy is; a tenth is cut off either side, where single batches go astray.
    cut = max(width // 10, (width - 1) // 2 if width < _TRIM_FROM else 0)
    level = np.sort(windows, axis=1)[:, cut : width - cut].mean(axis=1)
    lowest = int(np.argmin(level))
    end = float(np.median(values[-ends:]))
    # Second differences cancel a trend; 1.4826 and 6 make their median a standard deviation of one value.
    wiggle = np.abs(np.diff(values, 2))
    noise = 1.4826 * float(np.median(wiggle)) / np.sqrt(6.0)
    return Trend(
        start=float(np.median(values[:ends])),
        end=end,
        low=float(level[lowest]),
        high_after=max(float(level[lowest:].max()), end),
        high=float(level.max()),
        first=float(values[:2].mean()),
        error=1.2533 * noise / np.sqrt(ends) if m >= 6 else 0.0,
        n=m,
    )
