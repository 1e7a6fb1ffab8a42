"""``entlaw train``: reinforcement learning as a recipe says, with a log that ``entlaw fit`` reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, meaning, output_option
from entlaw.cli.output import console, print_findings, print_json
from entlaw.cli.training import need_torch
from entlaw.errors import EntlawError, UsageError

if TYPE_CHECKING:
    from entlaw.findings import Finding
    from entlaw.train.runner import TrainingOutcome
    from entlaw.train.schema import Recipe

STOPPED_BY_RULE = 5


def train(
    recipe: Annotated[
        Path | None,
        Parameter(
            help="TOML file, or a name of --list, or several joined by +, later ones winning; the default run without."
        ),
    ] = None,
    /,
    *,
    overrides: Annotated[
        list[str] | None,
        Parameter(name="--set", help=meaning("set")),
    ] = None,
    output: Annotated[Path | None, output_option("A folder of the run; it must hold none yet.")] = None,
    resume: Annotated[
        Path | None, Parameter(help="Go on with the run in this folder from its last checkpoint.")
    ] = None,
    print_recipe: Annotated[
        bool, Parameter(negative="", help="Print the complete recipe as TOML, explained, and stop.")
    ] = False,
    list_recipes: Annotated[
        bool,
        Parameter(
            name="--list", negative="", help=meaning("list", "What ships, the paper's experiments among it.")
        ),
    ] = False,
    check: Annotated[
        bool,
        Parameter(
            negative="", help=meaning("check", "The recipe, and the memory, disk and time it will need.")
        ),
    ] = False,
    gpus: Annotated[
        int | None, Parameter(help="--check: for so many GPUs in all, instead of this machine.")
    ] = None,
    gpu: Annotated[
        str | None,
        Parameter(help="--check: a100, h100 (the default with --gpus), h200, b200, l40s, rtx4090."),
    ] = None,
    gpu_memory: Annotated[float | None, Parameter(help="--check: memory of each GPU, GB.")] = None,
    prompt_tokens: Annotated[float | None, Parameter(help="--check: mean length of the prompts.")] = None,
    response_tokens: Annotated[float | None, Parameter(help="--check: mean length of the responses.")] = None,
    ray: Annotated[
        list[str] | None,
        Parameter(
            name="--ray",
            consume_multiple=True,
            negative="",
            help=meaning(
                "ray", "Train on it; no address: on a Ray of this machine. The folder must be shared."
            ),
        ),
    ] = None,
    ray_workers: Annotated[
        int | None, Parameter(help="--ray: how many workers, one GPU each where there are GPUs; 2 without.")
    ] = None,
    json: JsonFlag = False,
) -> int:
    """Train a language model with verifiable rewards, logging exact entropy and covariance every step.

    Ctrl-C or SIGTERM finish the step, save, and say how to go on. Under torchrun the ranks share the work.
    """
    from entlaw.train import recipe as recipes

    if list_recipes:
        from entlaw.cli.train_check import show_catalogue

        return show_catalogue(json)
    assumed = (gpus, gpu, gpu_memory, prompt_tokens, response_tokens)
    if not check and any(value is not None for value in assumed):
        raise UsageError(
            "--gpus, --gpu, --gpu-memory, --prompt-tokens and --response-tokens are for --check",
            hint="a run uses the machine it is on",
        )
    if resume is not None and (recipe is not None or output is not None):
        raise UsageError(
            "--resume takes the recipe and the folder from the run itself",
            hint="leave RECIPE and -o away; settings that may change are given by --set",
        )
    if resume is not None and not (resume / "recipe.toml").is_file():
        raise UsageError(
            "there is no run to go on with", where=str(resume), hint="give the folder that holds recipe.toml"
        )
    settings = recipes.load(resume / "recipe.toml" if resume else recipe, overrides or ())
    if print_recipe:
        sys.stdout.write(recipes.to_toml(settings))
        return 0
    if check:
        from entlaw.cli import train_check

        return train_check.check(
            recipe or resume,
            settings,
            gpus=gpus,
            gpu=gpu,
            gpu_memory=gpu_memory,
            prompt_tokens=prompt_tokens,
            response_tokens=response_tokens,
            as_json=json,
        )
    if ray_workers is not None and ray is None:
        raise UsageError(
            "--ray-workers is for --ray",
            hint="on one machine: torchrun --nproc-per-node N -m entlaw.cli train",
        )
    if ray is not None and len(ray) > 1:
        raise UsageError("--ray takes one address", hint="put RECIPE in front of --ray")
    need_torch()
    from entlaw.train import distributed

    if distributed.expected() > 1 and resume is None and output is None:
        raise UsageError(
            "several ranks need the run's folder by name",
            hint="give -o FOLDER, on a disk that all of them share",
        )
    folder = resume or output or _new_folder(recipe)
    if distributed.rank():
        return _quietly(settings, folder, resume is not None)
    _foresee(settings)
    cluster = None if ray is None else (ray[0] if ray else None, ray_workers or 2)
    return _run(settings, folder, resume is not None, json, cluster)


def _quietly(settings: Recipe, folder: Path, resume: bool) -> int:
    """What a rank behind the first does; the first tells what there is to tell, errors of others included."""
    from entlaw.train.runner import train as run

    try:
        outcome = run(settings, folder, resume=resume)
    except EntlawError as error:
        return error.exit_code
    return _exit_code(outcome)


def _exit_code(outcome: TrainingOutcome) -> int:
    """5 where an observer's rule stopped the run, as of any program where a signal did."""
    if outcome.reason:
        return STOPPED_BY_RULE
    return 128 + outcome.signal_number if outcome.signal_number else 0


def _foresee(settings: Recipe) -> None:
    """Say beforehand that the memory will not do; under torchrun one process says it."""
    from entlaw.train.footprint import foresee

    if os.environ.get("RANK", "0") == "0" and (short := foresee(settings)) is not None:
        _tell(short)


def _run(
    settings: Recipe, folder: Path, resume: bool, as_json: bool, cluster: tuple[str | None, int] | None
) -> int:
    err = console(stderr=True)
    with _Display(settings.run.steps) as display:
        if cluster is not None:
            from entlaw.train import ray_train

            outcome = ray_train.launch(settings, folder, *cluster, resume=resume, on_record=display.record)
        else:
            from entlaw.train.runner import train as run

            outcome = run(
                settings,
                folder,
                resume=resume,
                progress=display.warm_up,
                on_record=display.record,
                on_finding=lambda finding: _tell(finding),
            )
    if outcome.reason:
        err.print(
            f"stopped after step {outcome.step} of {settings.run.steps} by the rule {outcome.reason}",
            soft_wrap=True,
        )
        err.print(
            f"to go on without the rule: entlaw train --resume {folder} --set watch.stop_when=",
            soft_wrap=True,
        )
    elif outcome.status == "stopped":
        err.print(
            f"stopped after step {outcome.step}; go on with: entlaw train --resume {folder}", soft_wrap=True
        )
    if as_json:
        print_json(
            {
                "schema": "entlaw.train/1",
                "folder": str(folder),
                "status": outcome.status,
                "reason": outcome.reason or None,
                "step": outcome.step,
                "seconds": outcome.seconds,
                "last": outcome.last,
            }
        )
    else:
        shown = f"{folder}: {outcome.status} at step {outcome.step}, {outcome.seconds:.0f} s, "
        console().print(shown + summary(outcome.last), soft_wrap=True)
        if outcome.status == "finished":
            err.print(f"next: entlaw fit {folder}", soft_wrap=True)
    return _exit_code(outcome)


def summary(record: dict[str, float]) -> str:
    """Entropy, reward and accuracy of a record in one line."""
    names = {"actor/entropy": "entropy", "reward/mean": "reward", "val/accuracy": "validation"}
    return "  ".join(f"{name} {record[key]:.3f}" for key, name in names.items() if key in record)


def _new_folder(recipe: Path | None) -> Path:
    """``train-NAME``, numbered on when it is taken."""
    from entlaw.train.catalogue import name_of

    stem = f"train-{name_of(recipe) if recipe else 'arithmetic'}"
    for i in range(1, 10_000):
        folder = Path(stem if i == 1 else f"{stem}-{i}")
        if not folder.exists():
            return folder
    raise UsageError(f"there are too many folders named {stem}-N here", hint="choose one with -o")


def _tell(finding: Finding) -> None:
    if finding.severity != "info":
        print_findings([finding], stderr=True)


class _Display:
    """Live progress on a terminal, a line a validation elsewhere; all on stderr."""

    def __init__(self, steps: int) -> None:
        self.steps, self.live = steps, sys.stderr.isatty()
        self.progress: Any = None
        self.what, self.task = "", None
        self.out = console(stderr=True)

    def __enter__(self) -> _Display:
        if self.live:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.out,
                transient=True,
            )
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def _bar(self, what: str, done: int, total: int, note: str) -> None:
        if what != self.what:
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.what, self.task = what, self.progress.add_task(what, total=total, note=note)
        self.progress.update(self.task, completed=done, note=note)

    def warm_up(self, what: str, done: int, total: int) -> None:
        """Steps of something that comes before training."""
        if self.progress is not None:
            self._bar(what, done, total, "")
        elif done in (1, total):
            self.out.print(f"{what}: {done} of {total}")

    def record(self, step: int, record: dict[str, float]) -> None:
        """A step of training."""
        if self.progress is not None:
            self._bar("training", min(step, self.steps), self.steps, summary(record))
        elif "val/accuracy" in record:
            self.out.print(f"step {step} of {self.steps}: {summary(record)}")


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """A sign of life on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(what):
        yield
