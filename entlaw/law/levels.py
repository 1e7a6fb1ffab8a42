"""Levels of a noisy series: where it starts and ends, and where it changes."""

from __future__ import annotations

import numpy as np
import pandas as pd

# A level is the median of this share of a series, ...
SHARE = 12
# ... or, where something is over in a few steps however long the run, of at most this many values.
EARLY = 5


def at_ends(n: int) -> int:
    """How many values show a level: an eighth of a series; more than 5 at its ends would miss a steep start."""
    return int(np.clip(n // 8, 1, EARLY))


def start_level(values: np.ndarray) -> float:
    """Level at which a series starts: the median of its first values, 5 at most."""
    return float(np.median(values[: at_ends(len(values))]))


def half_width(n: int, most: int | None = None) -> int:
    """Values on either side that make a level."""
    return max(1, min(n // SHARE, most or n) // 2)


def running_level(values: np.ndarray, most: int | None = None) -> np.ndarray:
    """Running median of at most ``most`` values, shape as given, windows cut off at the ends."""
    width = 2 * half_width(len(values), most) + 1
    return pd.Series(values).rolling(width, center=True, min_periods=1).median().to_numpy()


def end_level(values: np.ndarray) -> float:
    """Level at which a series ends: the median of its last quarter, 3 values at least."""
    return float(np.median(values[-max(3, len(values) // 4) :]))


def falls_below(h: np.ndarray, threshold: float) -> int:
    """Index from which a series is below a threshold to its end.

    Of all places, that with the fewest values on the wrong side: no smoothing moves it, however long the log.
    """
    below = h < threshold
    wrong = np.concatenate([[0], np.cumsum(below)]) + np.concatenate([np.cumsum(~below[::-1])[::-1], [0]])
    return int(np.argmin(wrong))


def lowest(h: np.ndarray) -> int:
    """Index of the lowest level: of wide stretches first, then of narrower ones around it."""
    half = half_width(len(h))
    at = int(np.argmin(running_level(h)))
    while half > EARLY // 2:
        start, half = max(0, at - half), max(half // 4, EARLY // 2)
        near = running_level(h, 2 * half)[start : 2 * at - start + 1]
        at = start + int(np.argmin(near))
    return at
