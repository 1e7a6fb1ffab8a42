"""Rows of a view that shows many runs: each a result, or a log that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from entlaw.errors import EntlawError
from entlaw.findings import Finding, worst_first
from entlaw.law.result import LawVerdict, Result, examine
from entlaw.law.settings import Settings
from entlaw.runs.reader import Reading

RowVerdict = LawVerdict | Literal["unreadable"]


@dataclass(frozen=True, eq=False)
class Examined:
    """One run that a command was given.

    Attributes
    ----------
    reading : Reading
    result : Result or None
        None where the log cannot be read.
    error : EntlawError or None
        Why it cannot be read; None where there is a result.
    label : str
        The run's name, or what tells it from others of that name (:func:`label_runs`).
    """

    reading: Reading
    result: Result | None
    error: EntlawError | None
    label: str

    @property
    def verdict(self) -> RowVerdict:
        """The law's verdict; ``unreadable`` where there is no result."""
        return "unreadable" if self.result is None else self.result.verdict

    @property
    def failure(self) -> EntlawError | None:
        """Why no ceiling is given: the log cannot be read, or the law is refused."""
        return self.error if self.result is None else self.result.refusal

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the result, or what the reader found in a log that it could not use; worst first."""
        if self.result is not None:
            return self.result.findings
        return worst_first(self.reading.raw.findings) if self.reading.raw is not None else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the result's, with label and path."""
        told: dict[str, Any] = {"label": self.label, "path": self.reading.path}
        if self.result is not None:
            return told | self.result.to_dict()
        return told | {
            "name": self.reading.name,
            "verdict": self.verdict,
            "findings": [f.as_dict() for f in self.findings],
            "error": None if self.error is None else self.error.as_dict(),
        }


def examine_reading(reading: Reading, settings: Settings | None = None, label: str = "") -> Examined:
    """Examine one run as it was read; one that cannot be read is a row with its error.

    Parameters
    ----------
    reading : Reading
    settings : Settings, optional
    label : str
        By default the run's name.

    Returns
    -------
    Examined

    Raises
    ------
    UsageError
        Settings that make no sense.
    """
    label = label or reading.name
    if reading.run is None:
        return Examined(reading, None, reading.error, label)
    return Examined(reading, examine(reading.run, settings), None, label)


def examine_readings(readings: Iterable[Reading], settings: Settings | None = None) -> list[Examined]:
    """As :func:`examine_reading`, for many, with labels that tell them apart."""
    listed = list(readings)
    return [examine_reading(r, settings, name) for r, name in zip(listed, label_runs(listed), strict=True)]


def label_runs(readings: Sequence[Reading]) -> list[str]:
    """A name for each run: its own; with its file where two share one; with a number where that is not enough."""
    names = [r.name for r in readings]
    named = [n if names.count(n) == 1 else f"{n} ({r.path})" for n, r in zip(names, readings, strict=True)]
    counts: dict[str, int] = {}
    out = []
    for name in named:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if named.count(name) == 1 else f"{name} #{counts[name]}")
    return out
