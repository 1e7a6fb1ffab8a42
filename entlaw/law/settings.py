"""What is asked of a run, and how: one object for the command line, the report, the watcher and Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from entlaw.errors import UsageError
from entlaw.law.fit import check_fit_options
from entlaw.law.forecast import ForecastModel
from entlaw.law.shapes import Method
from entlaw.limits import PAPER_WINDOW, UNSET, Unset


@dataclass(frozen=True)
class Settings:
    """What is asked of a run, and how.

    Attributes
    ----------
    until_step : float, None or UNSET
        Look at steps up to this one only, in the law and in the forecast; None at all. Not given, the law has the
        steps up to 36 and the forecast has all.
    method : {"careful", "paper"}
        How the law is fitted.
    level : float
        Nominal coverage of the intervals.
    problems, samples : float or None
        Size of the test and answers per problem: the noise of a score is then binomial. By default as the log tells.
    force : bool
        Show a law and a forecast that the findings refuse.
    total_steps : float or None
        Where the run will end; by default as its configuration tells.
    steps, entropies : tuple of float
        What to predict; by default the score at the planned end, or after as long a time again.
    model : {"growth", "law"}
        Which model predicts it.
    width : float
        By which intervals of the forecast are stretched (:mod:`entlaw.law.library`).
    """

    until_step: float | Unset | None = UNSET
    method: Method = "careful"
    level: float = 0.95
    problems: float | None = None
    samples: float | None = None
    force: bool = False
    total_steps: float | None = None
    steps: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    model: ForecastModel = "growth"
    width: float = 1.0

    @property
    def law_until(self) -> float | None:
        """End of the law's window; None for all points."""
        return PAPER_WINDOW if isinstance(self.until_step, Unset) else self.until_step

    @property
    def forecast_until(self) -> float | None:
        """End of the forecast's window; None for all that was logged."""
        return None if isinstance(self.until_step, Unset) else self.until_step

    def check(self) -> None:
        """Raise UsageError for settings that make no sense, whatever the run."""
        _as_number("level", self.level)
        _as_number("until_step", self.law_until)
        check_fit_options(self.method, self.level, self.law_until)
        if self.model not in get_args(ForecastModel):
            raise UsageError(f"no model {self.model!r}", hint="use 'growth' or 'law'")
        if self.samples is not None and self.problems is None:
            raise UsageError(
                "samples without problems", hint="give problems, the number of test problems, too"
            )
        for name in ("problems", "samples", "total_steps", "width"):
            value = _as_number(name, getattr(self, name))
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be positive, not {value:g}")


def _as_number(name: str, value: Any) -> float | None:
    """A number, or None; UsageError for anything else."""
    if value is None:
        return None
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"{name} must be a number, not {value!r}")
