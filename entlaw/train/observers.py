"""What looks at a run from within: it is shown every record, may add numbers to it, and may ask the run to stop.

An observer is shown what a reader of ``metrics.jsonl`` would find there. A run that goes on shows its observers the
records that it has, and they are where they were: nothing of theirs is in a checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from entlaw.findings import Finding
from entlaw.train.record import line

PREFIX = "entlaw/"
"""Of the keys that observers add: of an observer's own, none is shown to it again."""


class Observer(Protocol):
    """Something that looks at a run."""

    def observe(self, step: int, record: Mapping[str, float]) -> Mapping[str, float]:
        """See the record of a step; returns what is to be logged beside it, under keys that begin with ``entlaw/``."""

    @property
    def stop(self) -> str | None:
        """Why the run is to stop, None if it is not."""


class Observers:
    """All observers of a run. Whatever goes wrong in one is a warning, told once, and the run goes on.

    Parameters
    ----------
    observers : sequence of Observer
    on_finding : callable
        Called with the warning.
    as_seen : callable
        What observers are shown of a record; as it is read back from ``metrics.jsonl`` without.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        on_finding: Callable[[Finding], None],
        as_seen: Callable[[Mapping[str, Any]], dict[str, float]] | None = None,
    ) -> None:
        self._observers, self._on_finding = tuple(observers), on_finding
        self._as_seen = as_seen or as_read
        self._failed: set[int] = set()

    def __len__(self) -> int:
        return len(self._observers)

    def observe(self, step: int, record: Mapping[str, Any]) -> dict[str, float]:
        """What all of them add to a record."""
        if not self._observers:
            return {}
        seen = self._as_seen(record)
        added: dict[str, float] = {}
        for number, observer in enumerate(self._observers):
            try:
                found = observer.observe(step, seen)
                added |= {k: float(v) for k, v in found.items() if k.startswith(PREFIX) and math.isfinite(v)}
            except Exception as error:  # a fit that breaks must not end days of training
                self._tell(number, error)
        return added

    def replay(self, path: Path) -> None:
        """Show them the records of a run that goes on."""
        if self._observers:
            for record in records(path):
                self.observe(int(record.pop("step")), record)

    @property
    def stop(self) -> str | None:
        """Why the run is to stop."""
        for number, observer in enumerate(self._observers):
            try:
                why = observer.stop
            except Exception as error:
                self._tell(number, error)
                continue
            if why is not None:
                return why
        return None

    def _tell(self, number: int, error: Exception) -> None:
        if number in self._failed:
            return
        self._failed.add(number)
        self._on_finding(
            Finding(
                "observer-failed",
                "warning",
                f"{type(self._observers[number]).__name__} failed at a step, and training goes on: "
                f"{type(error).__name__}: {error}",
                "it is shown the next steps all the same; what it would have logged is missing",
            )
        )


def as_read(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers as they are read back from ``metrics.jsonl``, without what observers added."""
    plain = json.loads(line(record))
    return {
        key: value
        for key, value in plain.items()
        if isinstance(value, (int, float)) and not key.startswith(PREFIX)
    }


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a ``metrics.jsonl``."""
    with path.open("rb") as lines:
        for text in lines:
            if text.endswith(b"\n"):
                yield json.loads(text)
