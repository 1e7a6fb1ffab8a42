"""Do several groups of runs (algorithms, settings) share one a and one b? An exact test with runs as the units.

Checkpoints of one run are not independent; runs are. So each run counts as one observation of the pair (a, b), and
Wilks' Lambda compares the scatter between groups with that within, which holds the fits' errors and what differs
from run to run. With two responses its distribution is an exact F (Rao 1951; Anderson, Multivariate Analysis, 8.4).
Assumptions: runs independent, (a, b) normal with one covariance in all groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Equality:
    """Result of a test of equal (a, b).

    Attributes
    ----------
    groups : tuple of str
    runs : tuple of int
        Runs in each group.
    means : ndarray, shape (g, 2)
        Mean a and b of each group.
    wilks : float
        Share of the scatter that is within groups; 1 when the groups agree perfectly.
    f : float
    df : (float, float)
    p_value : float
        NaN when no group has two runs: then nothing says how much runs of one group differ.
    spread : ndarray, shape (2,)
        Standard deviation of a and b from run to run within groups.
    """

    groups: tuple[str, ...]
    runs: tuple[int, ...]
    means: np.ndarray
    wilks: float
    f: float
    df: tuple[float, float]
    p_value: float
    spread: np.ndarray

    @property
    def testable(self) -> bool:
        """Whether there were runs enough to say anything."""
        return bool(np.isfinite(self.p_value))


def equal_coefficients(
    group: Sequence[str],
    a: Sequence[float],
    b: Sequence[float],
    within: Sequence[object] | None = None,
) -> Equality:
    """Test whether groups of runs share one (a, b).

    Parameters
    ----------
    group : sequence of str, length n
    a, b : sequence of float, length n
        Each run's coefficients.
    within : sequence of hashable, length n, optional
        Compare groups only among runs equal in this, e.g. of one model size; each such set has a level of its own.

    Returns
    -------
    Equality
        ``means`` are over all runs of a group. ``p_value`` is NaN where no set holds two groups, or with fewer than
        two runs more than groups in sets (two responses need two degrees of freedom within).
    """
    y = np.column_stack([np.asarray(a, dtype=float), np.asarray(b, dtype=float)])
    sets = [0] * len(y) if within is None else list(within)
    names = tuple(dict.fromkeys(group))
    members = [y[[g == name for g in group]] for name in names]
    cells = list(zip(sets, group, strict=True))
    inner, outer = _scatter(y, cells), _scatter(y, sets)
    inside, between = len(y) - len(set(cells)), len(set(cells)) - len(set(sets))
    spread = np.sqrt(np.diag(inner) / inside) if inside > 0 else np.full(2, np.nan)
    sizes = tuple(len(m) for m in members)
    means = np.array([m.mean(axis=0) for m in members])
    nan = float("nan")
    if between < 1 or inside < 2:
        return Equality(names, sizes, means, nan, nan, (nan, nan), nan, spread)
    wilks = _determinant_ratio(inner, outer)
    df = (2.0 * between, 2.0 * (inside - 1))
    root = np.sqrt(wilks)
    f = float("inf") if root == 0 else float((1 - root) / root * df[1] / df[0])
    from scipy.special import fdtrc

    return Equality(names, sizes, means, wilks, f, df, float(fdtrc(df[0], df[1], f)), spread)


def _scatter(y: np.ndarray, label: Sequence[object]) -> np.ndarray:
    """Sum of squares and products about the means of equal labels, shape (2, 2)."""
    total = np.zeros((2, 2))
    for value in dict.fromkeys(label):
        part = y[[other == value for other in label]]
        centred = part - part.mean(axis=0)
        total += centred.T @ centred
    return total


def _determinant_ratio(within: np.ndarray, total: np.ndarray) -> float:
    """det(within)/det(total), after scaling: a and b are almost perfectly correlated within a run."""
    size = np.sqrt(np.diag(total))
    if (size == 0).any():
        return 1.0
    scaled = np.outer(size, size)
    top, bottom = np.linalg.det(within / scaled), np.linalg.det(total / scaled)
    return float(np.clip(top / bottom, 0.0, 1.0)) if bottom > 0 else 1.0
