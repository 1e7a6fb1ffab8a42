"""The law beside verl's own metrics: in every logger that verl has, and a rule that ends the run.

verl's trainer makes its loggers when it begins (:class:`verl.utils.tracking.Tracking`) and hands them each step's
metrics. :class:`WatchedTrainer`, mixed into a trainer of verl's, puts :class:`WatchedLog` in between. Nothing of verl
is imported here.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from entlaw.errors import UsageError
from entlaw.findings import Finding
from entlaw.train.observers import PREFIX, LawObserver, Observers, explain_bad_rule, records
from entlaw.train.recipe import settings
from entlaw.train.schema import Watch
from entlaw.train.settings import SettingProblem, read

JOURNAL = "entlaw_watch.jsonl"
"""In verl's folder of checkpoints: what was logged, so that a run that goes on is watched from its beginning."""
ENDED = re.compile(r"entlaw ends the run after step (\d+): ([^\r\n]*)")
_log = logging.getLogger(__name__)


def watch_of(own: Mapping[str, Any]) -> Watch:
    """``trainer.v1.entlaw.watch``: the table ``watch`` of a recipe, by the same names.

    Raises
    ------
    UsageError
        An unknown entry, a value out of its range, a rule that cannot be read.
    """
    where = "trainer.v1.entlaw.watch"
    names = [f.name for f in fields(Watch)]
    if unknown := sorted(set(own) - set(names)):
        raise UsageError(f"{where} has no {', '.join(unknown)}", hint=f"it has {', '.join(names)}")
    found: dict[str, Any] = {}
    for name, value in own.items():
        found[name] = read(settings()[f"watch.{name}"], value)
        if isinstance(found[name], SettingProblem):
            raise UsageError(found[name].what, where=where, hint=found[name].hint or None)
    watch = Watch(**found)
    if watch.stop_when and not watch.on:
        raise UsageError(f"{where}.stop_when without {where}.on", hint=f"append +{where}.on=true")
    if wrong := explain_bad_rule(watch):
        raise UsageError(f"{where}.stop_when = {watch.stop_when!r}: {wrong[0]}", hint=wrong[1] or None)
    return watch


class WatchedLog:
    """verl's loggers, with what the law says added to each step's metrics.

    Parameters
    ----------
    tracking : Tracking
        verl's.
    watch : Watch
    total_steps : int
    done : int
        Steps that a run that goes on has behind it; 0 at the beginning of one.
    config : mapping
        verl's configuration.
    folder : Path
        Of its checkpoints.
    validated : bool
        There will be validations.
    on_stop : callable
        Called after a step has been logged at which the rule has fired.
    """

    def __init__(
        self,
        tracking: Any,
        watch: Watch,
        *,
        total_steps: int,
        done: int,
        config: Mapping[str, Any],
        folder: Path,
        validated: bool,
        on_stop: Callable[[str], None],
    ) -> None:
        self._tracking, self._on_stop = tracking, on_stop
        law = LawObserver(watch, total_steps, folder.parent.name or "verl", config, validated=validated)
        self._observers = Observers([law], _warn, numbers)
        self._journal: Path | None = folder / JOURNAL
        try:
            self._go_on(done)
        except (OSError, ValueError) as error:
            self._no_journal(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracking, name)

    def log(self, data: Mapping[str, Any], step: int, backend: Any = None) -> None:
        """As verl's: to all loggers, or to those named."""
        if backend is not None:  # a table for one of them
            self._tracking.log(data=data, step=step, backend=backend)
            return
        self._write(step, data)
        self._tracking.log(data={**data, **self._observers.observe(step, data)}, step=step)
        if (why := self._observers.stop) is not None:
            self._on_stop(why)

    def _go_on(self, done: int) -> None:
        """Show the law what was logged up to the checkpoint, and forget what came behind it."""
        assert self._journal is not None
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        kept = (
            [row for row in records(self._journal) if row["step"] <= done] if self._journal.exists() else []
        )
        kept = kept if done else []
        for row in kept:
            self._observers.observe(int(row["step"]), {k: v for k, v in row.items() if k != "step"})
        partial = self._journal.with_name(f".{JOURNAL}.partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
        partial.replace(self._journal)

    def _write(self, step: int, data: Mapping[str, Any]) -> None:
        if self._journal is None:
            return
        try:
            with self._journal.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({**numbers(data), "step": step}) + "\n")
        except (OSError, ValueError) as error:
            self._no_journal(error)

    def _no_journal(self, error: Exception) -> None:
        _log.warning(
            "entlaw: %s is not kept (%s): a resumed run is watched from that step on", JOURNAL, error
        )
        self._journal = None


class WatchedTrainer:
    """Mixed in front of a trainer class of verl's: ``logger``, where it is set, is watched.

    The class has ``config``, ``global_steps`` and ``total_training_steps`` as verl's trainers do.
    """

    watch: Watch = Watch()
    config: Any
    global_steps: int
    total_training_steps: int
    _logger: Any = None

    @property
    def logger(self) -> Any:
        """verl's loggers."""
        return self._logger

    @logger.setter
    def logger(self, tracking: Any) -> None:
        self._logger = tracking
        if not self.watch.on:
            return
        from omegaconf import OmegaConf

        plain = OmegaConf.to_container(self.config, resolve=True)
        assert isinstance(plain, dict)
        self._logger = WatchedLog(
            tracking,
            self.watch,
            total_steps=int(self.total_training_steps),
            done=int(self.global_steps),
            config={str(key): value for key, value in plain.items()},
            folder=Path(str(self.config.trainer.default_local_dir)),
            validated=int(self.config.trainer.test_freq) > 0,
            on_stop=self._end_after_the_next,
        )

    def _end_after_the_next(self, why: str) -> None:
        """Make the next step the last: with it come verl's own last validation, checkpoint and farewell."""
        last = self.global_steps + 1
        if last < self.total_training_steps:
            _log.warning("entlaw ends the run after step %d: %s", last, why)
            self.total_training_steps = last


def numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """A step's numbers, without those added here."""
    found = {}
    for key, value in data.items():
        if not isinstance(value, (int, float)) and getattr(value, "shape", None) == ():
            value = value.item()
        if isinstance(value, (int, float)) and not str(key).startswith(PREFIX):
            found[str(key)] = float(value)
    return found


def _warn(finding: Finding) -> None:
    _log.warning("entlaw: %s; %s", finding.what, finding.why)
