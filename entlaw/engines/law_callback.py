"""The watcher as a callback of the Hugging Face trainers: the law in the trainer's own log, and a rule that ends it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from entlaw.errors import UsageError
from entlaw.train.observers import PREFIX, LawObserver, explain_bad_rule
from entlaw.train.recipe import settings
from entlaw.train.schema import Watch
from entlaw.train.settings import SettingProblem, read
from entlaw.watch.report import WatchReport


class EntlawCallback(TrainerCallback):
    """Log R = b - a exp(H) as fitted to the steps so far, and end the training where a rule says so.

    Logged beside the trainer's own keys, numbers only: ``entlaw/ceiling``, ``entlaw/ceiling_lo``,
    ``entlaw/ceiling_hi``, ``entlaw/final`` (with ``_lo``, ``_hi``), ``entlaw/p_gain``, ``entlaw/verdict``
    (:meth:`entlaw.watch.report.WatchReport.metrics`). Series are chosen as `entlaw fit` chooses them from
    ``trainer_state.json``: a validation if there is one, else the training reward. Whatever goes wrong here is a
    warning: training goes on.

    Parameters
    ----------
    stop_when : str, optional
        Rule that ends the training, as in ``P(gain > 1%) < 0.05``. Without one, training is never ended from here.
    target : float, optional
        Performance that is wanted, as a fraction.
    every : int
        Fit each time this many points have come.
    level : float
        Of the intervals.
    performance : str, optional
        Key to take as performance.
    total_steps : int, optional
        Steps of the whole run; the trainer's ``max_steps`` without.

    Raises
    ------
    UsageError
        A rule that cannot be read; a value out of its range.

    Notes
    -----
    Reporters (W&B, TensorBoard) that come before this callback have read the numbers already when it adds its own:
    :meth:`add_to` puts it in front of them. A training that goes on from a checkpoint is shown the ``log_history`` that
    the checkpoint holds, so nothing of the callback's own is saved. With several processes the first one decides, and
    all stop together one step later.
    """

    def __init__(
        self,
        stop_when: str | None = None,
        *,
        target: float | None = None,
        every: int = 1,
        level: float = 0.95,
        performance: str | None = None,
        total_steps: int | None = None,
    ) -> None:
        self.settings = _checked(
            Watch(True, every, float(target or 0.0), stop_when or "", level, performance or "")
        )
        self.total_steps = total_steps
        self.failed = ""
        """What went wrong last; empty if nothing did."""
        self.stopped = ""
        """Why the rule ended the training; empty if it did not."""
        self._law: LawObserver | None = None

    def add_to(self, trainer: Any) -> EntlawCallback:
        """Put the callback in front of a trainer's others, so that its reporters see the law's numbers."""
        trainer.callback_handler.callbacks.insert(0, self)
        return self

    @property
    def report(self) -> WatchReport | None:
        """The last one, with the fit, the verdict and its reason."""
        return None if self._law is None else self._law.report

    # What the trainer calls ----------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A new watcher, shown what a training that goes on has logged already."""
        self._law, self.stopped = None, ""
        if state.is_world_process_zero:
            self._try(lambda: self._begin(args, state))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Add the law's numbers to what the trainer has just logged."""
        law = self._law
        if not logs or law is None or not state.is_world_process_zero:
            return
        numbers = self._try(lambda: law.observe(state.global_step, _numbers(logs))) or {}
        numbers = {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)
        self.stopped = self._try(lambda: law.stop) or ""
        if self.stopped and _processes() == 1:
            self._end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Several processes: all hear here, at the same step, what the first one found at the last log."""
        if self.settings.stop_when and _processes() > 1 and _of_first(bool(self.stopped), args.device):
            self._end(args, state, control)

    # What is done there --------------------------------------------------------------------------

    def _begin(self, args: Any, state: Any) -> None:
        # TRL's trainers log a reward of each evaluation; others may log a loss alone, and are not waited for.
        validated = hasattr(args, "num_generations") and _plain(args.eval_strategy) != "no"
        law = LawObserver(
            self.settings,
            self.total_steps or state.max_steps or None,
            "trainer",
            args.to_dict(),
            validated=validated,
        )
        for row in state.log_history:
            if "step" in row:
                law.observe(int(row["step"]), _numbers(row))
        self._law, self.stopped = law, law.stop or ""

    def _end(self, args: Any, state: Any, control: Any) -> None:
        if state.is_world_process_zero and not control.should_training_stop:
            warnings.warn(
                f"entlaw ends the training at step {state.global_step} of {state.max_steps}: {self.stopped}",
                stacklevel=2,
            )
        control.should_training_stop = True
        if _plain(args.save_strategy) != "no":
            control.should_save = True  # or what was done since the last checkpoint would be lost

    def _try(self, work: Callable[[], Any]) -> Any:
        """The result, or None and a warning: a fit that breaks must not end days of training."""
        try:
            return work()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if told != self.failed:
                warnings.warn(f"entlaw failed at a step and training continues: {told}", stacklevel=3)
            self.failed = told
            return None


def _checked(wanted: Watch) -> Watch:
    """The settings, in their ranges and with a rule that can be read.

    Raises
    ------
    UsageError
    """
    for name in ("every", "target", "level"):
        value = read(settings()[f"watch.{name}"], getattr(wanted, name))
        if isinstance(value, SettingProblem):
            raise UsageError(value.what.removeprefix("watch."), where="EntlawCallback")
    if wrong := explain_bad_rule(wanted):
        raise UsageError(f"stop_when = {wanted.stop_when!r}: {wrong[0]}", hint=wrong[1] or None)
    return wanted


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers, without those added here."""
    return {
        str(key): float(value)
        for key, value in record.items()
        if isinstance(value, (int, float)) and key != "step" and not str(key).startswith(PREFIX)
    }


def _plain(choice: Any) -> str:
    """A strategy of the trainer's as text."""
    return str(getattr(choice, "value", choice))


def _processes() -> int:
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _of_first(flag: bool, device: Any) -> bool:
    """The first process's flag, in all of them."""
    import torch
    import torch.distributed as dist

    sent = torch.tensor([int(flag)], device=device)
    dist.broadcast(sent, src=0)
    return bool(sent.item())
