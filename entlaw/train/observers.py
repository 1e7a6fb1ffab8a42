"""What looks at a run from within: it is shown every record, may add numbers to it, and may ask the run to stop.

An observer is shown what a reader of ``metrics.jsonl`` would find there. A run that goes on shows its observers the
records that it has, and they are where they were: nothing of theirs is in a checkpoint.

A recipe's table ``watch`` is one, :class:`LawObserver`: the one place of the trainer that knows of the law, and imports
it when it is asked for. A run that is not watched never does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from entlaw.errors import EntlawError
from entlaw.findings import Finding
from entlaw.train.record import line
from entlaw.train.schema import Recipe, Watch

if TYPE_CHECKING:
    from entlaw.watch.report import Stop, WatchReport
    from entlaw.watch.watcher import Watcher

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
    """All observers of a run. Whatever goes wrong in one is reported once as a warning, and the run goes on.

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
                self._report_failure(number, error)
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
                self._report_failure(number, error)
                continue
            if why is not None:
                return why
        return None

    def _report_failure(self, number: int, error: Exception) -> None:
        if number in self._failed:
            return
        self._failed.add(number)
        self._on_finding(
            Finding(
                "observer-failed",
                "warning",
                f"{type(self._observers[number]).__name__} failed at a step, and training continues: "
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


# The law ----------------------------------------------------------------------------------------------


class LawObserver:
    """Fits the law after each validation and logs it as ``entlaw/*``.

    Parameters
    ----------
    settings : Watch
    total_steps : int or None
        Steps of the whole run.
    name : str
        Of the run.
    config : mapping, optional
        The run's configuration, nested or flat: what the law is to know of entropy controls.
    validated : bool
        There will be validations. They are waited for, then; else the first points would be of the training reward, and
        the series would change under the log as soon as there are enough validations to prefer.

    Raises
    ------
    UsageError
        A rule that cannot be read.
    """

    def __init__(
        self,
        settings: Watch,
        total_steps: int | None,
        name: str = "run",
        config: Mapping[str, Any] | None = None,
        *,
        validated: bool = False,
    ) -> None:
        self.watcher = _watcher(settings, total_steps, name, config, validated)

    @property
    def report(self) -> WatchReport | None:
        """The last one."""
        return self.watcher.report

    def observe(self, step: int, record: Mapping[str, float]) -> dict[str, float]:
        """The law's numbers where a point is complete; none elsewhere."""
        report = self.watcher.observe(step, record)
        return {} if report is None else report.metrics()

    @property
    def stop(self) -> str | None:
        """The rule, where it has fired."""
        return None if self.watcher.stopped is None else describe_stop(self.watcher.stopped)


def observers_of(recipe: Recipe, folder: Path) -> tuple[LawObserver, ...]:
    """The observers that a recipe asks for (its table ``watch``)."""
    if not recipe.watch.on:
        return ()
    from entlaw.train.measure import entropy_meaning
    from entlaw.train.recipe import to_dict

    # As run.json has it, which is what a reader of the run's folder knows.
    config = {"framework": "entlaw", "entropy_meaning": entropy_meaning(), "recipe": to_dict(recipe)}
    name = recipe.run.name or folder.name
    return (LawObserver(recipe.watch, recipe.run.steps, name, config, validated=recipe.validation.every > 0),)


def describe_stop(stop: Stop) -> str:
    """A rule that fired, in one sentence."""
    return f"{stop.rule} held at {stop.in_a_row} validations in a row" + (f": {stop.why}" if stop.why else "")


def _watcher(
    settings: Watch, total_steps: int | None, name: str, config: Mapping[str, Any] | None, validated: bool
) -> Watcher:
    from entlaw.runs.prepare import Selection
    from entlaw.runs.table import flatten
    from entlaw.watch.watcher import Watcher

    series = Selection(on=settings.performance) if settings.performance else None
    if series is None and validated:
        series = Selection(on="val")
    return Watcher(
        total_steps,
        name=name,
        target=settings.target or None,
        stop_when=settings.stop_when or None,
        every=settings.every,
        level=settings.level,
        selection=series,
        config=dict(flatten(config or {})),
    )


def explain_bad_rule(settings: Watch) -> tuple[str, str] | None:
    """Why the stop rule cannot be read, and what would help; None if it can, or if there is none."""
    if not settings.stop_when:
        return None
    from entlaw.watch.rule import parse_rule

    try:
        parse_rule(settings.stop_when, settings.target or None)
    except EntlawError as error:
        return error.what, error.hint or ""
    return None
