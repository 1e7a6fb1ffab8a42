"""What a forecaster may see: the points and the entropy log up to one step of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from entlaw.runs.run import Run

# Rounding may carry a share beyond 0 or 1 by this much.
_SLACK = 1e-9


@dataclass(frozen=True)
class History:
    """Points and entropy log of a run, finite and ordered by step.

    Attributes
    ----------
    step, entropy, performance : ndarray, shape (n,)
        The law's points: optimiser steps, nats/token, fractions.
    entropy_step : ndarray, shape (n,)
        Step whose entropy each point holds.
    log_step, log_entropy : ndarray, shape (m,)
        The whole entropy log.
    answers : float or None
        Independent answers behind one score, where known.
    name, source : str
        Of the run, and of where it comes from: runs of one source resemble each other.
    """

    step: np.ndarray
    entropy: np.ndarray
    performance: np.ndarray
    entropy_step: np.ndarray
    log_step: np.ndarray
    log_entropy: np.ndarray
    answers: float | None = None
    name: str = ""
    source: str = ""

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.step)

    @property
    def shares(self) -> bool:
        """Whether all scores lie in [0, 1], so that they can be shares of right answers."""
        r = self.performance
        return bool(r.size and r.min() >= -_SLACK and r.max() <= 1.0 + _SLACK)

    def until(self, step: float) -> History:
        """What was known at a step: nothing logged later is left in it."""
        keep = self.step <= step
        last = float(self.entropy_step[keep].max()) if keep.any() else step
        seen = self.log_step <= max(step, last)
        return History(
            self.step[keep], self.entropy[keep], self.performance[keep], self.entropy_step[keep],
            self.log_step[seen], self.log_entropy[seen], self.answers, self.name, self.source,
        )  # fmt: skip


class Points(Protocol):
    """The law's points of a run: steps, entropies (nats/token) and scores (fractions), each of shape (n,)."""

    @property
    def step(self) -> np.ndarray: ...
    @property
    def entropy(self) -> np.ndarray: ...
    @property
    def performance(self) -> np.ndarray: ...


def is_same_run(a: Points, b: Points) -> bool:
    """Whether the points are of one run: all are equal as far as the shorter goes, two of them or more.

    Names do not tell: seeds share them, and one log has another name wherever it is copied to.
    """
    if a is b:
        return True
    n = min(len(a.step), len(b.step))
    pairs = ((a.step, b.step), (a.entropy, b.entropy), (a.performance, b.performance))
    return n >= 2 and all(np.array_equal(x[:n], y[:n]) for x, y in pairs)


def history_of(
    step: np.ndarray,
    entropy: np.ndarray,
    performance: np.ndarray,
    *,
    entropy_step: np.ndarray | None = None,
    log: tuple[np.ndarray, np.ndarray] | None = None,
    answers: float | None = None,
    name: str = "",
    source: str = "",
) -> History:
    """A history from arrays: values that are not finite are left out, steps put in order.

    Parameters
    ----------
    step, entropy, performance : array_like, shape (n,)
    entropy_step : array_like, shape (n,), optional
        By default ``step``.
    log : (step, entropy), each array_like of shape (m,), optional
        By default the points' own entropies.
    answers : float, optional
    name, source : str

    Returns
    -------
    History
    """
    t, h, r = (np.asarray(c, dtype=float) for c in (step, entropy, performance))
    s = t if entropy_step is None else np.asarray(entropy_step, dtype=float)
    keep = np.isfinite(t) & np.isfinite(h) & np.isfinite(r)
    order = np.flatnonzero(keep)[np.argsort(t[keep], kind="stable")]
    t, h, r, s = t[order], h[order], r[order], np.where(np.isfinite(s), s, t)[order]
    lt, lh = (t, h) if log is None else (np.asarray(c, dtype=float) for c in log)
    good = np.isfinite(lt) & np.isfinite(lh)
    lt, lh = lt[good], lh[good]
    by = np.argsort(lt, kind="stable")
    return History(t, h, r, s, lt[by], lh[by], answers, name, source)


def history_of_run(run: Run, source: str = "") -> History:
    """The whole history of a run as read."""
    p: pd.DataFrame = run.points
    answers = None if run.problems is None else float(run.problems) * float(run.samples or 1)
    return history_of(
        p["step"].to_numpy(float), p["entropy"].to_numpy(float), p["performance"].to_numpy(float),
        entropy_step=p["entropy_step"].to_numpy(float) if "entropy_step" in p else None,
        log=run.entropy_series(), answers=answers, name=run.name, source=source,
    )  # fmt: skip
