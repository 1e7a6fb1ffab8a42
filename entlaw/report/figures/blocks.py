"""Correlation and slope of two series of a run, with intervals that know that neighbouring steps are alike.

Two series that both fall correlate, whether or not one has to do with the other. So each number comes twice: of the
series as they are, and of what is left after a centred moving mean is taken from both, which no trend can make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.report.figures.controlruns import moving_mean

BLOCK = 20  # steps that are drawn together; a moving mean over twice as many is the trend
RESAMPLES = 2000


@dataclass(frozen=True)
class Relation:
    """y against x over the steps of several runs.

    Attributes
    ----------
    correlation, slope : (value, lo, hi)
        Of the series as they are; the slope is of the least squares line through the origin, y = slope x.
    around_trend : (value, lo, hi)
        Correlation of what is left of both without their trends.
    steps : int
    """

    correlation: tuple[float, float, float]
    slope: tuple[float, float, float]
    around_trend: tuple[float, float, float]
    steps: int


def relation(runs: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.95, seed: int = 0) -> Relation:
    """Relation of y to x, with percentile intervals from drawing blocks of steps with replacement.

    Blocks are not whole runs: the intervals are for other steps of such runs, not for other runs.

    Parameters
    ----------
    runs : sequence of (x, y)
        Each of shape (steps,), in order of steps, without NaN; at least two blocks in all.
    level : float
    seed : int
    """
    parts = []
    for x, y in runs:
        rx, ry = x - moving_mean(x, 2 * BLOCK + 1), y - moving_mean(y, 2 * BLOCK + 1)
        n = len(x) // BLOCK
        parts += [
            np.stack(part)
            for part in zip(*(np.array_split(v, max(n, 1)) for v in (x, y, rx, ry)), strict=True)
        ]
    # Sums are all that correlation and slope need: a resample is a weighting of blocks.
    sums = np.array([_sums(p) for p in parts])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), RESAMPLES) @ sums
    whole = sums.sum(axis=0)
    ends = [0.5 * (1 - level), 0.5 * (1 + level)]

    def told(of: int) -> tuple[float, float, float]:
        lo, hi = np.nanquantile(_numbers(drawn)[of], ends) if len(parts) > 1 else (np.nan, np.nan)
        return float(_numbers(whole[None])[of][0]), float(lo), float(hi)

    return Relation(told(0), told(1), told(2), int(whole[0]))


def _sums(part: np.ndarray) -> np.ndarray:
    x, y, rx, ry = part
    return np.array(
        [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y, rx.sum(), ry.sum(), rx @ rx, ry @ ry, rx @ ry]
    )


def _numbers(s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, x, y, xx, yy, xy, rx, ry, rxx, ryy, rxy = s.T

    def correlation(a, b, aa, bb, ab):  # type: ignore[no-untyped-def]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (n * ab - a * b) / np.sqrt((n * aa - a * a) * (n * bb - b * b))

    with np.errstate(invalid="ignore", divide="ignore"):
        return correlation(x, y, xx, yy, xy), xy / xx, correlation(rx, ry, rxx, ryy, rxy)
