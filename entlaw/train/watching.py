"""A recipe's table ``watch`` as an observer: :class:`entlaw.watch.watcher.Watcher` inside a run.

The one place of the trainer that knows of the law, and imports it when it is asked for: a run that is not watched never
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entlaw.errors import EntlawError
from entlaw.train.schema import Recipe, Watch

if TYPE_CHECKING:
    from entlaw.watch.report import Report, Stop
    from entlaw.watch.watcher import Watcher


class LawObserver:
    """Fits the law after each validation and logs it as ``entlaw/*``; see :class:`entlaw.train.observers.Observer`.

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
    def report(self) -> Report | None:
        """The last one."""
        return self.watcher.report

    def observe(self, step: int, record: Mapping[str, float]) -> dict[str, float]:
        """The law's numbers where a point is complete; none elsewhere."""
        before = self.watcher.report
        report = self.watcher.observe(step, record)
        return {} if report is None or report is before else report.metrics()

    @property
    def stop(self) -> str | None:
        """The rule, where it has fired."""
        return None if self.watcher.stopped is None else told(self.watcher.stopped)


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


def told(stop: Stop) -> str:
    """A rule that fired, in one sentence."""
    return f"{stop.rule} held at {stop.in_a_row} validations in a row" + (f": {stop.why}" if stop.why else "")


def _watcher(
    settings: Watch, total_steps: int | None, name: str, config: Mapping[str, Any] | None, validated: bool
) -> Watcher:
    from entlaw.runs.prepare import Selection
    from entlaw.runs.table import flatten
    from entlaw.watch.watcher import Watcher

    series = Selection(performance_key=settings.performance) if settings.performance else None
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


def what_is_wrong_with(settings: Watch) -> tuple[str, str] | None:
    """Why the stop rule cannot be read, and what would help; None if it can, or if there is none."""
    if not settings.stop_when:
        return None
    from entlaw.watch.rule import parse

    try:
        parse(settings.stop_when, settings.target or None)
    except EntlawError as error:
        return error.what, error.hint or ""
    return None
