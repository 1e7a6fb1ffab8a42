"""A whole run: folder, base policy, steps, validation, checkpoints, stopping and going on.

A run's folder holds ``recipe.toml``, ``run.json``, ``metrics.jsonl``, ``base/`` (a ladder model's starting policy) and
the newest ``checkpoint-*``. A line of metrics is written before the checkpoint that covers it; a run that goes on cuts
the lines behind its checkpoint and does those steps again, which gives the same numbers.

With several ranks (:mod:`entlaw.train.distributed`) each runs this; only the first writes files and tells anything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from entlaw.errors import EntlawError, UsageError
from entlaw.findings import Finding
from entlaw.tasks import Problem, Task
from entlaw.train import recipe as recipes
from entlaw.train import state
from entlaw.train.base import ReportProgress, base_policy, silent
from entlaw.train.distributed import World, joined
from entlaw.train.distributed import device_of as own_device
from entlaw.train.distributed_model import save_policy
from entlaw.train.evaluate import evaluate, validation_record
from entlaw.train.failure import TrainingFailed
from entlaw.train.folder import claim, prepare, require_shared
from entlaw.train.footprint import explain_oom
from entlaw.train.loop import Trainer
from entlaw.train.measure import entropy_meaning
from entlaw.train.observers import Observer, Observers, observers_of
from entlaw.train.policy import LanguageModel, device_of
from entlaw.train.record import MetricsFile, Position
from entlaw.train.rollout import Sampling, engine_findings, engine_of
from entlaw.train.rules import check
from entlaw.train.run_info import update_run_info, write_run_info
from entlaw.train.schema import Recipe
from entlaw.train.signals import STOPPING, StopRequest, stop_on_signals
from entlaw.train.sinks import Sink, sinks_of
from entlaw.train.tasks import build_task


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended."""

    folder: Path
    status: str
    """finished or stopped."""
    step: int
    """Last RL step done."""
    seconds: float
    """Wall time of all parts of the run, warm-up included."""
    last: dict[str, float]
    """Last value of every metric."""
    signal_number: int | None = None
    reason: str = ""
    """Why an observer had it stopped; empty if none did."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: ReportProgress = silent,
    on_record: Callable[[int, dict[str, float]], None] = lambda step, record: None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    sinks: Sequence[Sink] = (),
    observers: Sequence[Observer] = (),
) -> TrainingOutcome:
    """Train as the recipe says, into ``folder``.

    Parameters
    ----------
    resume : bool
        Go on with the run in ``folder`` from its last checkpoint; else the folder must hold no run.
    progress : callable
        Called with (what, done, total) during the warm-up.
    on_record : callable
        Called with each step and what was logged of it.
    on_finding : callable
        Called with each warning about the recipe or the folder.
    sinks : sequence of Sink
        Take the metrics too, beside those that the recipe names (W&B, TensorBoard).
    observers : sequence of Observer
        Look at each record, add to it and may stop the run, beside the one of the recipe's table ``watch``.

    Raises
    ------
    UsageError
        An impossible recipe; a folder that holds a run already; a changed recipe on resuming.
    TrainingFailed
        The loss is not finite, or nothing is left to learn from. ``folder/failure`` holds the batch.
    CheckpointError
        A checkpoint cannot be written; the last one is intact.
    """
    with joined(recipe.run.device) as world:
        if not world.first:
            progress, on_record, on_finding, sinks, observers = silent, _unheard, _unheard, (), ()
        return _train(recipe, folder, world, resume, progress, on_record, on_finding, sinks, observers)


def _train(
    recipe: Recipe,
    folder: Path,
    world: World,
    resume: bool,
    progress: ReportProgress,
    on_record: Callable[[int, dict[str, float]], None],
    on_finding: Callable[[Finding], None],
    sinks: Sequence[Sink],
    observers: Sequence[Observer],
) -> TrainingOutcome:
    for finding in check(recipe):
        on_finding(finding)
    heard = stop_on_signals(lambda: on_finding(STOPPING), patient=world.many)
    run: _Run | None = None
    with contextlib.ExitStack() as held, _threads(recipe.run.threads), heard as stop:
        token = world.first_does(lambda: claim(folder, held))
        with world.together():
            require_shared(folder, token)
        try:
            run = _Run(recipe, folder, world, resume, progress, on_record, on_finding, sinks, observers)
            return run.go(stop)
        except BaseException as error:
            told = explain_oom(error, recipe) or world.explained(error)
            if run is not None:
                run.fail(told)
            if told is error:
                raise
            raise told from error
        finally:
            if run is not None:
                run.trainer.engine.close()


def _unheard(*_: object) -> None:
    pass


class _Run:
    """The parts of a run and where it is."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        world: World,
        resume: bool,
        progress: ReportProgress,
        on_record: Callable[[int, dict[str, float]], None],
        on_finding: Callable[[Finding], None],
        sinks: Sequence[Sink],
        observers: Sequence[Observer],
    ) -> None:
        self.recipe, self.folder, self.world, self.on_record = recipe, folder, world, on_record
        self.start, self.spent = time.perf_counter(), 0.0
        self.done = 0
        self.last: dict[str, float] = {}
        self.metrics: MetricsFile | None = None
        self.reason = ""
        with world.together():
            self.sinks = (*sinks, *sinks_of(recipe, folder)) if world.first else ()
            watching = (*observers, *observers_of(recipe, folder)) if world.first else ()
            self.observers = Observers(watching, on_finding)
            # A task that cannot be is told before a warm-up of minutes; a chat template needs the model first.
            task = None if recipe.task.chat else build_task(recipe.task, on_finding=on_finding)
            self.problems = _validation_problems(task, recipe) if task is not None else []
            for finding in engine_findings(recipe):
                on_finding(finding)
        newest = world.first_does(lambda: prepare(recipe, folder, resume, on_finding))
        device = own_device(world, device_of(recipe.run.device))
        base = self._base(torch.device("cpu") if world.many else device, progress)
        with world.together():
            if task is None:
                task = build_task(recipe.task, base.tokenizer, on_finding)
                self.problems = _validation_problems(task, recipe)
            engine = engine_of(recipe, base, recipe.policy.path or str(folder / "base"))
        self.trainer = Trainer(recipe, task, base, engine, world, device)
        self.resumed = self._open(newest)
        self.describe()

    def _base(self, device: torch.device, progress: ReportProgress) -> LanguageModel:
        """The base policy, made or fetched by the first rank and then found by the others."""
        base: LanguageModel | None = None
        for turn in (self.world.first, True):
            with self.world.together():
                if turn and base is None:
                    base = base_policy(self.recipe, self.folder, device, progress)
        assert base is not None
        return base

    def _open(self, newest: Path | None) -> bool:
        path = self.folder / "metrics.jsonl"
        position: Position | None = None
        if newest is not None:
            extra = state.load_trainer(self.trainer, newest, self.recipe.policy)
            self.trainer.engine.sync()
            self.done, self.spent, position = int(extra["step"]), float(extra["seconds"]), extra["position"]
        with self.world.together():
            if self.world.first and position is not None:
                self.metrics = MetricsFile.resume(path, position)
                self.observers.replay(path)
            elif self.world.first:
                path.unlink(missing_ok=True)  # at most what came before the first checkpoint
                self.metrics = MetricsFile.create(path)
        return newest is not None

    @property
    def seconds(self) -> float:
        return self.spent + time.perf_counter() - self.start

    def go(self, stop: StopRequest) -> TrainingOutcome:
        """From where the run is to its end, or to a request to stop."""
        steps, every = self.recipe.run.steps, self.recipe.validation.every
        if not self.resumed:
            if every:
                self.write(0, self.validate())
            self.save()
        stopping = self.asked_to(stop)  # a rule that had fired has fired still
        while self.done < steps and not stopping:
            t = self.done + 1
            record = self.trainer.step(t)
            if every and (t % every == 0 or t == steps):
                record |= self.validate()
            self.write(t, record)
            self.done = t
            stopping = self.asked_to(stop)
            if t % self.recipe.checkpoint.every == 0 or t == steps or stopping:
                self.save()
        status = "finished" if self.done >= steps else "stopped"
        if status == "finished":
            self.close_measurement()
        reason = self.reason if status == "stopped" else ""
        self.conclude(status, reason)
        self.finish(status)
        return TrainingOutcome(
            self.folder, status, self.done, self.seconds, self.last, stop.signal_number, reason
        )

    def asked_to(self, stop: StopRequest) -> bool:
        """Whether any rank was asked to stop, or the first rank's observers say so, at the same point everywhere."""
        why = self.observers.stop or ""
        everyone = self.world.each((stop.signal_number or 0, why))
        stop.signal_number = max(number for number, _ in everyone) or None
        self.reason = everyone[0][1]
        return bool(stop) or bool(self.reason)

    def validate(self) -> dict[str, float]:
        """The policy on the held-out problems."""
        v, rollout = self.recipe.validation, self.recipe.rollout
        start = time.perf_counter()
        sampling = Sampling(v.samples, rollout.max_tokens, v.temperature, v.top_p, 0, rollout.batch)
        found = evaluate(
            self.trainer.policy,
            self.trainer.engine,
            self.trainer.task,
            self.problems,
            sampling,
            v.seed,
            self.recipe.loss.micro_batch,
            self.world,
        )
        return validation_record(found) | {"time/validation_s": time.perf_counter() - start}

    def close_measurement(self) -> None:
        """One more rollout and no update: the entropy that belongs to the last validation."""
        self.write(self.done + 1, self.trainer.measure_only(self.done + 1))

    def write(self, step: int, record: dict[str, float]) -> None:
        """One line, durable before anything else happens, with what the observers add."""
        with self.world.together():
            record = record | self.observers.observe(step, record)
            self.last |= record
            if self.metrics is not None:
                self.metrics.write({"step": step, **record})
            for sink in self.sinks:
                sink.write(step, record)
            self.on_record(step, record)

    def save(self) -> None:
        """A checkpoint of where the run is."""
        extra = {
            "step": self.done,
            "seconds": self.seconds,
            "position": dict(self.metrics.position) if self.metrics is not None else None,
        }
        state.save_checkpoint(self.trainer, extra, self.folder, self.done, self.recipe.checkpoint.keep)

    def describe(self) -> None:
        """``run.json`` at the start."""
        recipe = self.recipe
        with self.world.together():
            if self.world.first:
                write_run_info(
                    self.folder,
                    name=recipe.run.name or self.folder.name,
                    recipe=recipes.to_dict(recipe),
                    changes=recipes.changes(recipe),
                    seed=recipe.run.seed,
                    parameters=self.trainer.policy.parameters,
                    entropy_meaning=entropy_meaning(),
                )

    def conclude(self, status: str, reason: str = "") -> None:
        """``run.json`` at the end."""
        if self.world.first:
            told = {"reason": reason} if reason else {}
            update_run_info(self.folder, status=status, step=self.done, wall_s=round(self.seconds, 1), **told)

    def finish(self, status: str) -> None:
        if self.metrics is not None:
            self.metrics.close()
        for sink in self.sinks:
            sink.close(status)

    def fail(self, error: BaseException) -> None:
        """Leave what is needed to understand a failure."""
        if isinstance(error, TrainingFailed) and error.batch is not None:  # then all ranks have met it
            target = self.folder / "failure"
            with self.world.together():
                if self.world.first:
                    target.mkdir(exist_ok=True)
                    torch.save(asdict(error.batch), target / "batch.pt")
            save_policy(self.trainer.policy, target / "policy", self.world)
            error.where = error.where or str(target)
        with contextlib.suppress(EntlawError, OSError):
            self.conclude("failed")
        self.finish("failed")


def _validation_problems(task: Task, recipe: Recipe) -> list[Problem]:
    v = recipe.validation
    try:
        return list(task.validation(v.problems, v.seed)) if v.every else []
    except ValueError as error:
        raise UsageError(str(error), where="recipe", hint="lower validation.problems") from error


@contextlib.contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """torch's threads for the time of a run, and only kernels that give the same bits every time."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if wanted:
        torch.set_num_threads(wanted)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
