"""A whole run: folder, base policy, steps, validation, checkpoints, stopping and going on.

A run's folder holds ``recipe.toml``, ``run.json``, ``metrics.jsonl``, ``base/`` (a ladder model's starting policy) and
the newest ``checkpoint-*``. A line of metrics is written before the checkpoint that covers it; a run that goes on cuts
the lines behind its checkpoint and does those steps again, which gives the same numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from entlaw.errors import EntlawError, UsageError
from entlaw.findings import Finding
from entlaw.tasks import Problem, Task
from entlaw.train import checkpoint, state
from entlaw.train import recipe as recipes
from entlaw.train.base import Progress, base_policy, silent
from entlaw.train.evaluate import evaluate, validation_record
from entlaw.train.failure import TrainingFailed
from entlaw.train.loop import Trainer
from entlaw.train.policy import device_of, save
from entlaw.train.record import MetricsFile, update_run_info, write_run_info
from entlaw.train.rollout import Sampling
from entlaw.train.rollout.factory import engine_of
from entlaw.train.rules import check
from entlaw.train.schema import Recipe
from entlaw.train.signals import STOPPING, StopRequest, stop_on_signals
from entlaw.train.sinks import Sink, sinks_of
from entlaw.train.tasks import build_task

_ELSEWHERE = "choose another folder with -o"


@dataclass(frozen=True)
class Outcome:
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


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    on_record: Callable[[int, dict[str, float]], None] = lambda step, record: None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    sinks: Sequence[Sink] = (),
) -> Outcome:
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

    Raises
    ------
    UsageError
        An impossible recipe; a folder that holds a run already; a changed recipe on resuming.
    TrainingFailed
        The loss is not finite, or nothing is left to learn from. ``folder/failure`` holds the batch.
    CheckpointError
        A checkpoint cannot be written; the last one is intact.
    """
    for finding in check(recipe):
        on_finding(finding)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the run's folder cannot be made: {error.strerror or error}", where=str(folder), hint=_ELSEWHERE
        ) from error
    heard = stop_on_signals(lambda: on_finding(STOPPING))
    with _alone(folder), _threads(recipe.run.threads), heard as stop:
        run = _Run(recipe, folder, resume, progress, on_record, on_finding, sinks)
        try:
            return run.go(stop)
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            run.trainer.engine.close()


class _Run:
    """The parts of a run and where it is."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        resume: bool,
        progress: Progress,
        on_record: Callable[[int, dict[str, float]], None],
        on_finding: Callable[[Finding], None],
        sinks: Sequence[Sink],
    ) -> None:
        self.recipe, self.folder, self.on_record = recipe, folder, on_record
        self.start, self.spent = time.perf_counter(), 0.0
        self.done = 0
        self.last: dict[str, float] = {}
        self.sinks = (*sinks, *sinks_of(recipe, folder))
        # A task that cannot be is told before a warm-up of minutes; a chat template needs the model first.
        task = None if recipe.task.chat else build_task(recipe.task, on_finding=on_finding)
        self.problems = _validation_problems(task, recipe) if task is not None else []
        newest = _prepare(recipe, folder, resume, on_finding)
        base = base_policy(recipe, folder, device_of(recipe.run.device), progress)
        if task is None:
            task = build_task(recipe.task, base.tokenizer, on_finding)
            self.problems = _validation_problems(task, recipe)
        engine = engine_of(recipe, base, recipe.policy.path or str(folder / "base"))
        self.trainer = Trainer(recipe, task, base, engine)
        self.metrics, self.resumed = self._open(newest)
        self.describe()

    def _open(self, newest: Path | None) -> tuple[MetricsFile, bool]:
        path = self.folder / "metrics.jsonl"
        if newest is None:
            path.unlink(missing_ok=True)  # at most what came before the first checkpoint
            return MetricsFile.create(path), False
        extra = state.load_trainer(self.trainer, newest, self.recipe.policy)
        self.trainer.engine.sync()
        self.done, self.spent = int(extra["step"]), float(extra["seconds"])
        return MetricsFile.resume(path, extra["position"]), True

    @property
    def seconds(self) -> float:
        return self.spent + time.perf_counter() - self.start

    def go(self, stop: StopRequest) -> Outcome:
        """From where the run is to its end, or to a request to stop."""
        steps, every = self.recipe.run.steps, self.recipe.validation.every
        if not self.resumed:
            if every:
                self.write(0, self.validate())
            self.save()
        while self.done < steps and not stop:
            t = self.done + 1
            record = self.trainer.step(t)
            if every and (t % every == 0 or t == steps):
                record |= self.validate()
            self.write(t, record)
            self.done = t
            if t % self.recipe.checkpoint.every == 0 or t == steps or stop:
                self.save()
        status = "finished" if self.done >= steps else "stopped"
        if status == "finished":
            self.close_measurement()
        self.conclude(status)
        self.finish(status)
        return Outcome(self.folder, status, self.done, self.seconds, self.last, stop.signal_number)

    def validate(self) -> dict[str, float]:
        """The policy on the held-out problems."""
        v, rollout = self.recipe.validation, self.recipe.rollout
        start = time.perf_counter()
        sampling = Sampling(v.samples, rollout.max_tokens, v.temperature, v.top_p, 0, rollout.batch)
        found = evaluate(
            self.trainer.policy, self.trainer.engine, self.trainer.task, self.problems, sampling, v.seed,
            self.recipe.loss.micro_batch,
        )  # fmt: skip
        return validation_record(found) | {"time/validation_s": time.perf_counter() - start}

    def close_measurement(self) -> None:
        """One more rollout and no update: the entropy that belongs to the last validation."""
        self.write(self.done + 1, self.trainer.look(self.done + 1))

    def write(self, step: int, record: dict[str, float]) -> None:
        """One line, durable before anything else happens."""
        self.metrics.write({"step": step, **record})
        self.last |= record
        for sink in self.sinks:
            sink.write(step, record)
        self.on_record(step, record)

    def save(self) -> None:
        """A checkpoint of where the run is."""
        extra = {
            "step": self.done,
            "seconds": self.seconds,
            "position": dict(self.metrics.position),
        }
        checkpoint.save(
            self.folder, self.done, lambda into: state.save_trainer(self.trainer, extra, into),
            keep=self.recipe.checkpoint.keep,
        )  # fmt: skip

    def describe(self) -> None:
        """``run.json`` at the start."""
        recipe = self.recipe
        write_run_info(
            self.folder,
            name=recipe.run.name or self.folder.name,
            recipe=recipes.to_dict(recipe),
            changes=recipes.changes(recipe),
            seed=recipe.run.seed,
            parameters=self.trainer.policy.parameters,
            entropy_meaning=entropy_meaning(),
        )

    def conclude(self, status: str) -> None:
        """``run.json`` at the end."""
        update_run_info(self.folder, status=status, step=self.done, wall_s=round(self.seconds, 1))

    def finish(self, status: str) -> None:
        self.metrics.close()
        for sink in self.sinks:
            sink.close(status)

    def fail(self, error: BaseException) -> None:
        """Leave what is needed to understand a failure."""
        if isinstance(error, TrainingFailed) and error.batch is not None:
            target = self.folder / "failure"
            target.mkdir(exist_ok=True)
            torch.save(asdict(error.batch), target / "batch.pt")
            save(self.trainer.policy, target / "policy")
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


def entropy_meaning() -> dict[str, str]:
    """What ``actor/entropy`` of this trainer is (the fields of :class:`entlaw.EntropyMeaning`)."""
    return {
        "key": "actor/entropy",
        "estimator": "exact",
        "unit": "nats/token",
        "averaging": "token-mean",
        "temperature": "1",
        "when": "before-update",
        "note": "full vocabulary, on all sampled responses of the step, before the all-right/all-wrong filter",
    }


def _prepare(
    recipe: Recipe, folder: Path, resume: bool, on_finding: Callable[[Finding], None]
) -> Path | None:
    """Check the folder against what is wanted; returns the checkpoint to go on from."""
    kept = folder / "recipe.toml"
    if not resume:
        if _has_records(folder):
            raise UsageError(
                "the folder holds a run already",
                where=str(folder),
                hint=f"go on with it by `entlaw train --resume {folder}`, or choose another folder with -o",
            )
        if kept.exists():  # an earlier start failed before its first record, with a recipe of its own
            shutil.rmtree(folder / "base", ignore_errors=True)
        kept.write_text(recipes.to_toml(recipe))
        return None
    if not kept.exists():
        raise UsageError(
            "there is no run to go on with", where=str(folder), hint="give the folder that holds recipe.toml"
        )
    frozen = [d for d in recipes.diff(recipes.load(kept), recipe) if d[0] not in recipes.MAY_CHANGE]
    if frozen:
        listed = "; ".join(f"{key}: was {old!r}, is {new!r}" for key, old, new in frozen)
        raise UsageError(
            f"the recipe has changed: {listed}",
            where=str(folder),
            why="a run with two recipes is neither",
            hint="resume without these changes, or start a new run with -o",
        )
    kept.write_text(recipes.to_toml(recipe))
    checkpoint.clean(folder)
    newest = checkpoint.latest(folder)
    for finding in newest.skipped:
        on_finding(finding)
    return newest.path


def _has_records(folder: Path) -> bool:
    """Whether a run in a folder has got so far that something would be lost with it."""
    metrics = folder / "metrics.jsonl"
    return (metrics.exists() and metrics.stat().st_size > 0) or any(folder.glob("checkpoint-*"))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else trains into this folder meanwhile; the lock dies with the process."""
    try:
        handle = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(
            f"nothing can be written here: {error.strerror or error}", where=str(folder), hint=_ELSEWHERE
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                "another process is training into this folder",
                where=str(folder),
                hint=f"wait for it, or {_ELSEWHERE}",
            ) from error
        except OSError:
            pass  # a file system without locks
        yield


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


def describe(record: dict[str, Any]) -> str:
    """A step's metrics in one line."""
    parts = [f"H {record['actor/entropy']:.3f}"] if "actor/entropy" in record else []
    parts += [f"reward {record['reward/mean']:.3f}"] if "reward/mean" in record else []
    parts += [f"val {record['val/accuracy']:.3f}"] if "val/accuracy" in record else []
    return "  ".join(parts)
