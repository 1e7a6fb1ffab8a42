"""Percent or fraction: decided from the numbers, and said."""

from __future__ import annotations

import numpy as np

from entlaw.findings import Finding

# A mean of 0/1 scores may exceed 1 by rounding only.
_TOLERANCE = 1e-6
# One-per-cent scores exist ("0.8 %"), so values below 1 are suspicious only when their neighbours are this much larger.
_JUMP = 20.0
# A score that never exceeds this may be a small percentage or a reward of a few points: not decided silently.
_SURE_PERCENT = 5.0


def performance_scale(values: np.ndarray, is_accuracy: bool) -> tuple[float, list[Finding]]:
    """What to multiply a logged score by to get a fraction.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Scores as logged, in order of step; NaN ignored.
    is_accuracy : bool
        Whether the key names an accuracy-like score; a reward is never rescaled.

    Returns
    -------
    scale : float
        1.0 or 0.01.
    findings : list of Finding
        ``percent`` (info), ``mixed-units`` (error) or ``not-a-score`` (warning).
    """
    v = values[np.isfinite(values)]
    if len(v) == 0 or (v.max() <= 1 + _TOLERANCE and v.min() >= -_TOLERANCE):
        return 1.0, []
    if not is_accuracy or v.min() < -_TOLERANCE or not _SURE_PERCENT < v.max() <= 100 + 1e-4:
        return 1.0, [
            Finding(
                "not-a-score",
                "warning",
                f"performance runs from {v.min():.4g} to {v.max():.4g}, so it is not a score in [0, 1]",
                "a, b and the ceiling are then in the unit of that reward, and bounds cannot be checked",
                "use an accuracy if the log has one (--on KEY); if it is a percentage, say --scale 0.01",
                float(v.max()),
            )
        ]
    small = (v > 0) & (v <= 1)
    large = v > 1
    middle = float(np.median(v[large]))
    if small.any():
        # Read as percent, a small value must be near its neighbours; read as a fraction, 100 v would be.
        idx = np.flatnonzero(large)
        odd = 0
        for i in np.flatnonzero(small):
            near = v[idx[np.argsort(np.abs(idx - i))[:3]]]
            reference = float(np.median(near))
            odd += v[i] * _JUMP < reference and abs(np.log(100 * v[i] / reference)) < np.log(3)
        if odd:
            return 1.0, [
                Finding(
                    "mixed-units",
                    "error",
                    f"{odd} scores look like fractions among percentages (median of the others {middle:.4g})",
                    "percent and fraction in one series make any fit meaningless",
                    "convert the log to one unit",
                    float(odd),
                )
            ]
    return 0.01, [
        Finding("percent", "info", f"scores run to {v.max():.4g}: read as percent and divided by 100")
    ]
