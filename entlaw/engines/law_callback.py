"""A callback for the Hugging Face trainers: the law's fit on the steps so far, beside the trainer's own numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from entlaw.errors import EntlawError

_FEWEST = 8  # below, the diagnostics warn of every fit
_KEYS = ("law/a", "law/b", "law/ceiling", "law/ceiling_low", "law/ceiling_high", "law/points", "law/errors")


class EntropyLawCallback(TrainerCallback):
    """Log R = b - a exp(H) as fitted to the steps so far, with the ceiling b - a and its interval.

    Keys: ``law/a``, ``law/b``, ``law/ceiling``, ``law/ceiling_low``, ``law/ceiling_high`` (fractions), ``law/points``,
    and ``law/errors``: how many of the diagnostics would refuse this fit (`entlaw fit` says which). Series are chosen
    as `entlaw fit` chooses them from ``trainer_state.json``: a validation if there is one, else the training reward.
    Whatever goes wrong here is a warning: training goes on.

    Parameters
    ----------
    every : int
        Fit at every so many logs that hold an entropy.
    least_points : int
        First fit at so many points.
    level : float
        Of the ceiling's interval.
    performance : str, optional
        Key to take as performance.
    until_step : float, optional
        Use steps up to this one; all without.

    Notes
    -----
    Reporters (W&B, TensorBoard) that come before this callback have read the numbers already when it adds its own:
    :meth:`add_to` puts it in front of them.
    """

    def __init__(
        self,
        every: int = 1,
        least_points: int = _FEWEST,
        level: float = 0.95,
        performance: str | None = None,
        until_step: float | None = None,
    ) -> None:
        self.every, self.least_points, self.level = every, least_points, level
        self.performance, self.until_step = performance, until_step
        self.failed = ""
        """Why the last fit was not made; empty if it was."""
        self._logs = 0

    def add_to(self, trainer: Any) -> EntropyLawCallback:
        """Put the callback in front of a trainer's others, so that its reporters see the law's numbers."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Called by the trainer with what it has just logged."""
        if not logs or not state.is_world_process_zero or not any("entropy" in key for key in logs):
            return
        self._logs += 1
        if self._logs % self.every:
            return
        try:
            numbers = law_of(
                state.log_history, self.least_points, self.level, self.performance, self.until_step
            )
            self.failed = ""
        except EntlawError as error:
            self.failed = (
                error.what
            )  # too few points, no performance yet: said in the log's absence of numbers
            return
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            warnings.warn(f"entlaw could not fit the law and goes on without: {self.failed}", stacklevel=2)
            return
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)


def law_of(
    history: Sequence[Mapping[str, Any]],
    least_points: int = _FEWEST,
    level: float = 0.95,
    performance: str | None = None,
    until_step: float | None = None,
) -> dict[str, float]:
    """The law's numbers from a trainer's log history; none while there are fewer points than ``least_points``.

    Raises
    ------
    EntlawError
        No entropy or no performance in it, or nothing can be fitted.
    """
    import pandas as pd

    from entlaw.law.fit import fit
    from entlaw.runs.prepare import Selection, to_run
    from entlaw.runs.run import Provenance, RawRun

    rows = [
        {
            key: float(value)
            for key, value in record.items()
            if isinstance(value, (int, float)) and key not in _KEYS
        }
        for record in history
    ]
    frame = pd.DataFrame(rows, dtype=float)
    raw = RawRun("trainer", frame, {}, Provenance("log_history", "trainer-state", "TRL"))
    run = to_run(raw, Selection(performance_key=performance))
    if len(run.points) < least_points:
        return {}
    fitted = fit(run, until_step=until_step, level=level, force=True)
    found = {
        "law/a": fitted.a,
        "law/b": fitted.b,
        "law/ceiling": fitted.ceiling,
        "law/ceiling_low": fitted.ceiling_interval.lo,
        "law/ceiling_high": fitted.ceiling_interval.hi,
        "law/points": float(fitted.n),
        "law/errors": float(sum(f.severity == "error" for f in fitted.findings)),
    }
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}
