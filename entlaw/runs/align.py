"""Which entropy belongs to which score.

Where both were measured decides. A validation printed at step t is of the policy after update t, and so is the entropy
that it measures itself; a training score and the entropy of the training batch are of the policy before update t.

============  ==================================  ========================================
score         entropy of the training batch       entropy of an evaluation
============  ==================================  ========================================
validation    the next one logged (``next``)      that of the same step (``same``)
training      that of the same step (``same``)    the last one before it (``previous``)
============  ==================================  ========================================

A validation made before any training pairs with the first entropy of a batch. On a real run, pairing R(t) with H(t+1)
of the batch instead of H(t) raised R^2 from 0.51 to 0.985.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.run import Align, EntropyMeaning, PerformanceKind

# An entropy more than this many logging intervals after the validation belongs to another policy.
_MAX_INTERVALS = 2.0


def default_align(kind: PerformanceKind, entropy: EntropyMeaning) -> Align:
    """Which entropy a score is paired with, from where both were measured."""
    score_after = kind == "validation"
    entropy_after = entropy.of == "evaluation" or entropy.when == "after-update"
    if score_after == entropy_after:
        return "same"
    return "next" if score_after else "previous"


def pair(
    entropy: pd.Series,
    performance: pd.Series,
    align: Align,
    pretraining_step: float | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Pair scores with entropies.

    Parameters
    ----------
    entropy, performance : pandas.Series
        Indexed by step, unique and increasing; NaN where nothing was logged.
    align : {"next", "same", "previous"}
    pretraining_step : float, optional
        Step of an evaluation made before any update: with ``next``, whose score pairs with the first entropy; with
        ``previous``, whose entropy pairs with the first score.

    Returns
    -------
    points : pandas.DataFrame
        Columns step, entropy, performance, entropy_step.
    findings : list of Finding
    """
    entropy, performance = entropy.dropna(), performance.dropna()
    h_step, h = entropy.index.to_numpy(float), entropy.to_numpy(float)
    r_step, r = performance.index.to_numpy(float), performance.to_numpy(float)
    findings: list[Finding] = []
    if len(h) == 0 or len(r) == 0:
        return pd.DataFrame(columns=["step", "entropy", "performance", "entropy_step"], dtype=float), findings

    if align == "previous":
        return _pair_previous(h_step, h, r_step, r, pretraining_step)
    at = np.searchsorted(h_step, r_step, side="right" if align == "next" else "left")
    found = at < len(h)
    paired = np.where(found, at, len(h) - 1)
    if align == "same":
        found &= h_step[paired] == r_step
    else:
        if pretraining_step is not None:
            before = r_step == pretraining_step
            paired[before], found[before] = 0, True
        findings = _leave_out_far(found, h_step[paired] - r_step, h_step)
    last_open = align == "next" and not found[-1]
    findings += _left_out(found, "the last one: nothing was logged after it" if last_open else "")
    return _as_points(h_step, h, r_step, r, paired, found), findings


def _pair_previous(
    h_step: np.ndarray, h: np.ndarray, r_step: np.ndarray, r: np.ndarray, pretraining_step: float | None
) -> tuple[pd.DataFrame, list[Finding]]:
    """Each entropy with the first score after it: later scores are of policies that were trained further."""
    paired = np.searchsorted(h_step, r_step, side="left") - 1
    if pretraining_step is not None and len(r_step) and r_step[0] >= pretraining_step:
        # Of the policy that made the first score, though its step may be that score's own.
        paired[0] = max(int(paired[0]), int(np.searchsorted(h_step, pretraining_step)))
    found = (paired >= 0) & np.concatenate([[True], paired[1:] != paired[:-1]])
    interval = float(np.median(np.diff(r_step))) if len(r_step) > 1 else np.inf
    found &= r_step - h_step[paired] <= _MAX_INTERVALS * interval
    return _as_points(h_step, h, r_step, r, paired, found), _left_out(found, "")


def _as_points(
    h_step: np.ndarray,
    h: np.ndarray,
    r_step: np.ndarray,
    r: np.ndarray,
    paired: np.ndarray,
    found: np.ndarray,
) -> pd.DataFrame:
    at = paired[found]
    columns = {"step": r_step[found], "entropy": h[at], "performance": r[found], "entropy_step": h_step[at]}
    return pd.DataFrame(columns)


def _left_out(found: np.ndarray, why_one: str) -> list[Finding]:
    """Say how many scores have no entropy; the reason is that of one alone."""
    missing = int((~found).sum())
    if not missing:
        return []
    what = f"{missing} of {len(found)} scores have no entropy to pair with and are left out"
    reason = f" ({why_one})" if why_one and missing == 1 else ""
    return [Finding("scores-without-entropy", "info", what + reason)]


def _leave_out_far(found: np.ndarray, ahead: np.ndarray, h_step: np.ndarray) -> list[Finding]:
    """Take out of `found` the scores whose next entropy is too far `ahead`; findings about these and about gaps."""
    findings = []
    interval = float(np.median(np.diff(h_step))) if len(h_step) > 1 else np.inf
    near = ahead <= _MAX_INTERVALS * interval
    far = int((found & ~near).sum())
    found &= near
    if far:
        findings.append(
            Finding(
                "unpaired-scores",
                "warning",
                f"{far} scores have no entropy within {_MAX_INTERVALS:g} logging intervals after them",
                "an entropy from a much later policy says nothing about the validated one",
                "log the entropy at every step",
                float(far),
            )
        )
    late = int((found & (ahead > 1.01 * interval)).sum())
    if late:
        findings.append(
            Finding(
                "paired-across-gap",
                "info",
                f"{late} scores pair with an entropy more than one logging interval after them: the one "
                "right after is missing or NaN",
                value=float(late),
            )
        )
    if interval > 1 and np.isfinite(interval):
        findings.append(
            Finding(
                "entropy-sparse",
                "info",
                f"entropy is logged every {interval:g} steps; a validation pairs with the next logged one, "
                f"up to {interval:g} steps later",
            )
        )
    return findings
