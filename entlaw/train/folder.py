"""A run's folder: made, locked against other processes, visible to all ranks, and what it already holds."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from entlaw.errors import DataError, UsageError
from entlaw.files import write_whole
from entlaw.findings import Finding
from entlaw.lock import hold
from entlaw.train import checkpoint
from entlaw.train import recipe as recipes
from entlaw.train.schema import Recipe

RECIPE = "recipe.toml"
SAVED_RECIPE = "run.toml"  # in a checkpoint; by recipe.toml a run's folder is known
_ELSEWHERE = "choose another folder with -o"


def prepare(recipe: Recipe, folder: Path, resume: bool, on_finding: Callable[[Finding], None]) -> Path | None:
    """Check the folder against what is wanted.

    Returns
    -------
    Path or None
        The checkpoint to go on from; None at a start.

    Raises
    ------
    UsageError
        The folder holds a run already, or none; the recipe is not that of the run.
    DataError
        There is something to lose, and no checkpoint that can be used.
    """
    kept = folder / RECIPE
    if not resume:
        if has_records(folder):
            raise UsageError(
                "the folder holds a run already",
                where=str(folder),
                hint=f"continue it with `entlaw train --resume {folder}`, or choose another folder with -o",
            )
        if kept.exists():  # an earlier start failed before its first record, with a recipe of its own
            shutil.rmtree(folder / "base", ignore_errors=True)
        write_whole(kept, recipes.to_toml(recipe).encode())
        return None
    if not kept.exists():
        raise UsageError(
            "there is no run to continue", where=str(folder), hint="give the folder that holds recipe.toml"
        )
    _refuse_changes(
        recipes.load(kept), recipe, folder, "resume without these changes, or start a new run with -o"
    )
    checkpoint.clean(folder)
    newest = checkpoint.latest(folder)
    if newest.path is None:
        _refuse_restart(folder, newest.skipped)
    else:
        for finding in newest.skipped:
            on_finding(finding)
        saved = newest.path / SAVED_RECIPE
        if saved.exists():  # checkpoints of earlier versions have none
            hint = f"put the run's own recipe back: cp {saved} {kept}"
            _refuse_changes(recipes.load(saved), recipe, folder, hint)
    write_whole(kept, recipes.to_toml(recipe).encode())
    return newest.path


def _refuse_changes(old: Recipe, new: Recipe, folder: Path, hint: str) -> None:
    """Refuse a recipe that differs from the run's in what must stay."""
    frozen = [d for d in recipes.diff(old, new) if d[0] not in recipes.MAY_CHANGE]
    if frozen:
        listed = "; ".join(f"{key}: was {before!r}, is {after!r}" for key, before, after in frozen)
        raise UsageError(
            f"the recipe has changed: {listed}",
            where=str(folder),
            why="a run with two recipes is neither",
            hint=hint,
        )


def _refuse_restart(folder: Path, damaged: tuple[Finding, ...]) -> None:
    """Refuse to begin again at step 0 where that would replace the records of a run that was under way."""
    records = folder / "metrics.jsonl"
    if not damaged and (not records.exists() or records.read_bytes().count(b"\n") <= 1):
        return  # killed before its first checkpoint: at most the validation of step 0 is done again
    raise DataError(
        "no checkpoint of this run can be used, and its records would be replaced",
        where=str(folder),
        why="; ".join(finding.what for finding in damaged) or "there is none",
        hint=f"bring a checkpoint back from a copy; or start again from step 0 in another folder: "
        f"entlaw train {folder / RECIPE} -o ANOTHER",
    )


def has_records(folder: Path) -> bool:
    """Whether a run in a folder has got so far that something would be lost with it."""
    metrics = folder / "metrics.jsonl"
    return (metrics.exists() and metrics.stat().st_size > 0) or any(folder.glob("checkpoint-*"))


def claim(folder: Path, held: contextlib.ExitStack) -> str:
    """Make the folder and lock it for as long as ``held`` is open; returns a word that is stored in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the run's folder cannot be made: {error.strerror or error}", where=str(folder), hint=_ELSEWHERE
        ) from error
    return held.enter_context(_alone(folder))


def require_shared(folder: Path, token: str) -> None:
    """Whether this rank sees the folder that the first rank made; a network disk may need a moment."""
    for wait in (0.0, 0.1, 1.0, 5.0):
        time.sleep(wait)
        with contextlib.suppress(OSError):
            if (folder / ".lock").read_text() == token:
                return
    raise UsageError(
        "not every rank sees the run's folder",
        where=str(folder),
        why="checkpoints are written by all ranks into one folder",
        hint="give a folder on a disk that all machines share, by the same path",
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[str]:
    """Nobody else trains into this folder meanwhile; the lock dies with the process. Gives what it holds."""
    try:
        handle = open(folder / ".lock", "a+")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(
            f"nothing can be written here: {error.strerror or error}", where=str(folder), hint=_ELSEWHERE
        ) from error
    with handle:
        hold(
            handle.fileno(),
            UsageError(
                "another process is training into this folder",
                where=str(folder),
                hint=f"wait for it, or {_ELSEWHERE}",
            ),
        )
        token = uuid.uuid4().hex
        handle.truncate(0)
        handle.write(token)
        handle.flush()
        yield token
