"""A recipe's data sets as the Parquet files that verl reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entlaw.errors import UsageError
from entlaw.findings import Finding
from entlaw.tasks import Problem
from entlaw.train.schema import Recipe


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes
    ----------
    train, validation : Path
        Parquet files; the second is missing if nothing is validated.
    rows : tuple of int
        Training and validation problems.
    findings : tuple of Finding
        What was left out of the data, and why.
    """

    train: Path
    validation: Path | None
    rows: tuple[int, int]
    findings: tuple[Finding, ...] = ()


def paths(folder: Path, recipe: Recipe) -> tuple[Path, Path | None]:
    """Where the data of a run in ``folder`` goes."""
    data = folder / "data"
    return data / "train.parquet", (data / "validation.parquet") if recipe.validation.every else None


def prepare(recipe: Recipe, folder: Path) -> Prepared:
    """Write the training problems, and those validation problems that our own trainer would take.

    Raises
    ------
    UsageError, SourceNotFound, UnreadableSource, MissingSeries, MissingExtra
        As :func:`entlaw.tasks.dataset_task.dataset_task`.
    """
    from entlaw.train.tasks import named_sets

    task = named_sets(recipe.task, checker=_not_here)
    train, validation = paths(folder, recipe)
    problems = task.training(recipe.run.seed, 0, len(task))
    _write(train, problems, "train")
    held_out: Sequence[Problem] = []
    if validation is not None:
        held_out = task.validation(recipe.validation.problems, recipe.validation.seed)
        _write(validation, held_out, "validation")
    return Prepared(train, validation, (len(problems), len(held_out)), tuple(task.findings))


def _not_here(problems: Sequence[Problem], responses: Sequence[str]) -> Sequence[float]:
    raise AssertionError("programs are run by verl's reward workers")


def _write(path: Path, problems: Sequence[Problem], split: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "data_source": problem.level.partition("/")[0],
            "prompt": [{"role": "user", "content": problem.prompt}],
            "ability": "reasoning",
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {"index": index, "split": split, "level": problem.level},
        }
        for index, problem in enumerate(problems)
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(pa.Table.from_pylist(rows), partial)
        partial.replace(path)
    except OSError as error:
        raise UsageError(
            f"the data cannot be written: {error.strerror or error}",
            where=str(path),
            hint="choose a folder with -o",
        ) from error
