"""The whole of it: load what is asked, look what is there, sample what is missing, make the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from entlaw.errors import UsageError
from entlaw.findings import Finding, worst_first
from entlaw.suites import models as engines
from entlaw.suites import problems, table
from entlaw.suites.collect import Decoding, Job, collect, prepare
from entlaw.suites.definition import ARITHMETIC, Suite
from entlaw.suites.grade import Grader
from entlaw.suites.models import Model, Responder
from entlaw.suites.problems import ProblemSet
from entlaw.tasks.arithmetic import Arithmetic


class EvaluationProgress(Protocol):
    """What an evaluation reports while it runs."""

    def begin(self, model: str, name: str, done: int, total: int) -> None:
        """Responses of one model to one data set: ``done`` of ``total`` are on the disk."""

    def tell(self, finding: Finding) -> None:
        """How the responses on the disk were found; says nothing about the table."""

    def advance(self, n: int) -> None:
        """``n`` more are on the disk."""


@dataclass(frozen=True)
class Request:
    """What is evaluated.

    Attributes
    ----------
    suite : Suite
    decoding : Decoding
    folder : Path
        Of the responses.
    data_dir : Path or None
        Where the data sets are; the hub without.
    limit : int or None
        Problems a set.
    workers : int
        Answers or programs checked at a time.
    isolation : str
        Of programs.
    skip_missing : bool
    with_paper : bool
    """

    suite: Suite
    decoding: Decoding
    folder: Path
    data_dir: Path | None = None
    limit: int | None = None
    workers: int = 1
    isolation: str = "auto"
    skip_missing: bool = False
    with_paper: bool = False


def evaluate(request: Request, models: Sequence[Model], progress: EvaluationProgress) -> table.Table:
    """All models on all sets of a suite; what is already on the disk is not sampled again.

    Everything that can be found wrong before the first response is: data sets, checkers, settings of what is there.

    Raises
    ------
    UsageError, DataError, MissingExtra, SandboxUnavailable, CheckpointError
        As the parts raise them.
    """
    _check_models(models)
    sets = problems.load(
        request.suite,
        request.data_dir,
        request.limit,
        request.decoding.seed,
        _sums(request.suite, models),
        request.skip_missing,
    )
    _check(request, sets)
    if request.decoding.engine == "vllm":
        engines.need_vllm()
    findings: list[Finding] = [f for held in sets for f in held.findings]
    with Grader(request.workers, request.isolation) as grader:
        grader.need({held.kind for held in sets})
        jobs: list[list[Job]] = []
        for model in models:
            row = [
                prepare(model, held, request.decoding, grader, request.folder, request.limit) for held in sets
            ]
            findings += [f for _, told in row for f in told]
            jobs.append([job for job, _ in row])
        for model, asked in zip(models, jobs, strict=True):
            _fill(model, asked, request, grader, progress)
    found = table.build(request.suite, jobs, request.with_paper)
    return _with(found, findings)


def _check(request: Request, sets: Sequence[ProblemSet]) -> None:
    sampled = [held for held in sets if request.decoding.of(held)[0] > 0]
    if request.decoding.samples and not sampled:
        raise UsageError(
            f"--samples {request.decoding.samples} has no effect",
            why="all of these sets are decoded greedily, and one greedy answer is like the next",
            hint="give --temperature, or leave --samples out",
        )


def _check_models(models: Sequence[Model]) -> None:
    by_folder: dict[str, str] = {}
    for model in models:
        if other := by_folder.get(model.path):
            raise UsageError(f"{other} and {model.checkpoint} are the same model", where=model.path)
        by_folder[model.path] = model.checkpoint


def _sums(suite: Suite, models: Sequence[Model]) -> Arithmetic | None:
    """The made-up sums that the models were trained on."""
    if all(member.name != ARITHMETIC for member in suite.sets):
        return None
    tasks = {(m.recipe.task.operations, m.recipe.task.operators): m.label for m in models}
    if len(tasks) > 1:
        raise UsageError(
            f"{' and '.join(tasks.values())} were trained on different sums",
            why="a table compares models on the same problems",
            hint="give the recipe whose sums are to be asked with --recipe",
        )
    ((operations, operators),) = tasks
    return Arithmetic(operations, operators)


def _fill(
    model: Model, jobs: Sequence[Job], request: Request, grader: Grader, progress: EvaluationProgress
) -> None:
    responder: Responder | None = None
    try:
        for job in jobs:
            total = len(job.held.problems) * job.decoding.of(job.held)[1]
            progress.begin(model.label, job.held.member.label, len(job.file.items), total)
            for finding in job.file.findings:
                progress.tell(finding)
            if not job.missing:
                continue
            if responder is None:  # the weights are read when the first response is missing
                responder = engines.engine_for(request.decoding.engine, model, request.decoding.max_tokens)
            collect(job, responder, grader, progress.advance)
    finally:
        if responder is not None:  # its memory is wanted for the next model
            responder.engine.close()


def _with(found: table.Table, findings: Sequence[Finding]) -> table.Table:
    from dataclasses import replace

    return replace(found, findings=worst_first([*found.findings, *findings]))


def labels(checkpoints: Sequence[str]) -> list[str]:
    """A short name for each checkpoint, as much of its path as distinguishes it from the others.

    Raises
    ------
    UsageError
        One is named twice.
    """
    parts = [Path(c).parts for c in checkpoints]
    whole = [str(Path(c)) for c in checkpoints]
    if len(set(whole)) < len(whole):
        doubled = next(c for c in whole if whole.count(c) > 1)
        raise UsageError("the same checkpoint is named twice", where=doubled)
    told = []
    for mine in parts:
        n = 1
        while n < len(mine) and sum(other[-n:] == mine[-n:] for other in parts) > 1:
            n += 1
        told.append("/".join(mine[-n:]).replace("//", "/") or str(Path(*mine)))
    return told
