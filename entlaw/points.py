"""The one shape of a run after the reader: its scores, the entropy of each, and the entropy log around them.

All of :mod:`entlaw.law` takes :class:`Points`. What may be seen from a step of a run is decided here alone, by
:meth:`Points.until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from entlaw.errors import UsageError
from entlaw.runs.run import Run
from entlaw.runs.trace import Trace, agree_by_step
from entlaw.wording import shorten

# Rounding may carry a share beyond 0 or 1 by this much.
_SLACK = 1e-9
_COLUMNS = ("step", "entropy", "performance", "entropy_step")

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Points:
    """Pairs of entropy and score, and the entropy log; finite and ordered by step.

    Attributes
    ----------
    step, entropy, score : ndarray, shape (n,)
        Optimiser steps, nats/token, fractions. Points of one step are ordered by entropy, then by score, so that the
        order in which they were given does not matter.
    entropy_step : ndarray, shape (n,)
        Step whose entropy each point holds.
    log_step, log_entropy : ndarray, shape (m,)
        Every logged entropy, not only those paired with a score.
    answers : float or None
        Independent answers behind one score (problems x samples), where known: its noise is then binomial.
    name, source : str
        Of the run, and of where it comes from: runs of one source resemble each other.
    """

    step: np.ndarray
    entropy: np.ndarray
    score: np.ndarray
    entropy_step: np.ndarray
    log_step: np.ndarray
    log_entropy: np.ndarray
    answers: float | None = None
    name: str = ""
    source: str = ""

    @classmethod
    def from_arrays(
        cls,
        step: Numbers,
        entropy: Numbers,
        score: Numbers,
        *,
        entropy_step: Numbers | None = None,
        log: tuple[Numbers, Numbers] | None = None,
        answers: float | None = None,
        name: str = "",
        source: str = "",
    ) -> Points:
        """Points from arrays in any order; what is not finite is left out.

        Parameters
        ----------
        step, entropy, score : array_like, shape (n,)
        entropy_step : array_like, shape (n,), optional
            By default ``step``, also where it is not finite.
        log : (step, entropy), each array_like of shape (m,), optional
            The whole entropy log; by default the points' own entropies.
        answers : float, optional
        name, source : str

        Returns
        -------
        Points

        Raises
        ------
        UsageError
            What are no numbers, or arrays of different lengths.
        """
        given = _as_columns(step, entropy, score, step if entropy_step is None else entropy_step)
        given[3] = np.where(np.isfinite(given[3]), given[3], given[0])
        keep = np.isfinite(given[:3]).all(axis=0)
        t, h, r, s = (column[keep] for column in given)
        order = np.lexsort((r, h, t))
        t, h, r, s = t[order], h[order], r[order], s[order]
        lt, lh = (s, h) if log is None else (np.asarray(c, dtype=float) for c in log)
        good = np.isfinite(lt) & np.isfinite(lh)
        by = np.flatnonzero(good)[np.argsort(lt[good], kind="stable")]
        return cls(t, h, r, s, lt[by], lh[by], answers, name, source)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **more: Any) -> Points:
        """Points from a frame with columns ``step``, ``entropy``, ``performance`` and perhaps ``entropy_step``.

        Parameters
        ----------
        frame : pandas.DataFrame
        **more
            ``log``, ``answers``, ``name``, ``source`` as in :meth:`from_arrays`.

        Raises
        ------
        UsageError
            A column is missing, or holds what are no numbers.
        """
        missing = [c for c in _COLUMNS[:3] if c not in frame.columns]
        if missing:
            raise UsageError(
                f"the frame lacks {', '.join(missing)}", hint=f"it has {', '.join(map(str, frame.columns))}"
            )
        t, h, r = (frame[c] for c in _COLUMNS[:3])
        return cls.from_arrays(t, h, r, entropy_step=frame.get("entropy_step"), **more)

    @classmethod
    def from_run(cls, run: Run, source: str = "") -> Points:
        """All points of a run as read, with its entropy log and, where the log tells it, the size of its test."""
        answers = None if run.problems is None else answers_behind(run.problems, run.samples)
        return cls.from_frame(
            run.points, log=run.entropy_series(), answers=answers, name=run.name, source=source
        )

    @classmethod
    def of(cls, given: Any) -> Points:
        """Points of whatever holds some: a run, a frame, or a tuple (step, entropy, score[, entropy_step]).

        Raises
        ------
        UsageError
            An input of another kind.
        """
        if isinstance(given, Points):
            return given
        if isinstance(given, Run):
            return cls.from_run(given)
        if isinstance(given, pd.DataFrame):
            return cls.from_frame(given)
        if isinstance(given, tuple) and len(given) in (3, 4):
            return cls.from_arrays(*given[:3], entropy_step=given[3] if len(given) == 4 else None)
        raise UsageError(
            f"cannot fit a {type(given).__name__}",
            hint="give a Run, a DataFrame or (step, entropy, performance)",
        )

    def __repr__(self) -> str:
        steps = f", steps {self.step[0]:g} to {self.step[-1]:g}" if self.n else ""
        name = f" {shorten(self.name)!r}" if self.name else ""
        return f"<Points{name}: {self.n} points{steps}, {len(self.log_step)} logged entropies>"

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.step)

    @property
    def shares(self) -> bool:
        """Whether all scores lie in [0, 1], so that they can be shares of right answers."""
        r = self.score
        return bool(r.size and r.min() >= -_SLACK and r.max() <= 1.0 + _SLACK)

    @property
    def start(self) -> float:
        """Where the run's time begins: at step 0, or at an earlier first point."""
        return min(float(self.step[0]), 0.0)

    def until(self, step: float | None) -> Points:
        """What was known at a step: nothing logged later is left in it; all for None.

        The points up to the step, and the entropy log up to the last entropy that belongs to one of them: with
        "next" pairing that is one step later.
        """
        return self if step is None else self._part(self.step <= step, self.log_step <= self._end(step))

    def first(self, n: int) -> Points:
        """The first ``n`` points, and the entropy log as far as it was known with them."""
        shown = np.arange(self.n) < n
        end = max(float(self.step[shown].max()), float(self.entropy_step[shown].max())) if n else -np.inf
        return self._part(shown, self.log_step <= end)

    def after(self, step: float | None) -> Points:
        """The rest, of which :meth:`until` knows nothing; no point for None."""
        end = np.inf if step is None else step
        return self._part(self.step > end, self.log_step > self._end(end))

    def log_alone(self, first: int = 0) -> Points:
        """The entropy log from its value ``first`` on, and no point."""
        none = np.zeros(0)
        return Points(
            none, none, none, none, self.log_step[first:], self.log_entropy[first:], None, self.name
        )

    def _end(self, step: float) -> float:
        paired = self.entropy_step[self.step <= step]
        return max(step, float(paired.max())) if paired.size else step

    def _part(self, keep: np.ndarray, logged: np.ndarray) -> Points:
        return Points(
            self.step[keep],
            self.entropy[keep],
            self.score[keep],
            self.entropy_step[keep],
            self.log_step[logged],
            self.log_entropy[logged],
            self.answers,
            self.name,
            self.source,
        )


def answers_behind(problems: float, samples: float | None) -> float:
    """Independent answers behind one score: problems times samples per problem (1 where that is not known)."""
    return float(problems) * float(samples or 1)


def common_start(a: Points, b: Points) -> int:
    """How many points two logs have in common, from the first one on."""
    n = min(a.n, b.n)
    pairs = ((a.step, b.step), (a.entropy, b.entropy), (a.score, b.score), (a.entropy_step, b.entropy_step))
    equal = np.all([x[:n] == y[:n] for x, y in pairs], axis=0)
    return n if equal.all() else int(np.argmin(equal))


def is_same_run(a: Points, b: Points) -> bool:
    """Whether the points are of one run: all are equal as far as the shorter goes, two of them or more; or many are
    equal at common steps, as far as both logs print them.

    Names do not tell: seeds share them, and one log has another name wherever it is copied to.
    """
    if a is b:
        return True
    n = min(a.n, b.n)
    pairs = ((a.step, b.step), (a.entropy, b.entropy), (a.score, b.score))
    if n >= 2 and all(np.array_equal(x[:n], y[:n]) for x, y in pairs):
        return True
    return _ends_alike(a, b) and agree_by_step(_trace(a), _trace(b)).same


def _ends_alike(a: Points, b: Points) -> bool:
    """Whether the entropy where the shorter run ends could be one number, printed with two digits at least."""
    if min(a.n, b.n) == 0:
        return False
    end = min(a.step[-1], b.step[-1])
    x, y = a.entropy[a.step == end], b.entropy[b.step == end]
    return len(x) == 0 or len(y) == 0 or bool(abs(x[-1] - y[-1]) <= 0.06 * max(abs(x[-1]), abs(y[-1])) + 0.01)


def _trace(points: Points) -> Trace:
    step, first = np.unique(points.step, return_index=True)
    values = np.stack([points.entropy[first], points.score[first]], axis=1)
    return Trace("step", step, ("entropy", "score"), values, None)


def _as_columns(*given: Any) -> list[np.ndarray]:
    try:
        columns = [np.asarray(c, dtype=float) for c in given]
    except (TypeError, ValueError) as error:
        raise UsageError("step, entropy and performance must be numbers", why=str(error)) from error
    if any(c.ndim != 1 or len(c) != len(columns[0]) for c in columns):
        raise UsageError(
            "step, entropy and performance must be one-dimensional and of equal length",
            why=f"their shapes are {', '.join(str(c.shape) for c in columns)}",
        )
    return columns
