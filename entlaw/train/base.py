"""The base policy a run starts from: loaded by path, or a ladder model after its warm-up, kept so that it is made once.

A warm-up is decided by its settings and seed, so its result is cached under a name made of both. The run's folder keeps
a copy of its own: resuming needs nothing outside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import ladder, policy
from entlaw.train.policy import LanguageModel, quiet, save
from entlaw.train.schema import Recipe
from entlaw.train.tasks import with_stop

ReportProgress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


def cache_folder() -> Path:
    """``ENTLAW_CACHE``, else the user's cache folder."""
    root = os.environ.get("ENTLAW_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / ("" if os.environ.get("ENTLAW_CACHE") else "entlaw")


def fingerprint(recipe: Recipe) -> str:
    """What decides a ladder model's weights, as a short name (torch's version included: kernels differ)."""
    facts = {
        "policy": asdict(recipe.policy),
        "warmup": asdict(recipe.warmup),
        "task": {"operations": recipe.task.operations, "operators": recipe.task.operators},
        "torch": torch.__version__,
        "shape": ladder.SIZES[recipe.policy.size],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def base_policy(
    recipe: Recipe, folder: Path, device: torch.device, progress: ReportProgress = silent
) -> LanguageModel:
    """The policy before the first update.

    Parameters
    ----------
    folder : Path
        Of the run; a ladder model is kept in ``folder/base``.

    Raises
    ------
    SourceNotFound, UnreadableSource
        ``policy.path`` cannot be used.
    """
    if recipe.policy.path:
        with quiet():
            return with_stop(policy.load(recipe.policy.path, recipe.policy, device), recipe.rollout.stop)
    own = folder / "base"
    if not own.is_dir():
        cached = cache_folder() / "base" / fingerprint(recipe)
        if not cached.is_dir():
            _save(cached, make(recipe, device, progress))
        _copy(cached, own)
    with quiet():
        return with_stop(policy.load(own, recipe.policy, device), recipe.rollout.stop)


def make(recipe: Recipe, device: torch.device, progress: ReportProgress = silent) -> LanguageModel:
    """A ladder model after its warm-up."""
    tokenizer = ladder.build_tokenizer()
    model = ladder.build_model(
        recipe.policy, len(tokenizer), int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)
    )
    model.to(device)  # type: ignore[arg-type]  # transformers wraps the method without its type
    task = Arithmetic(recipe.task.operations, recipe.task.operators)
    ladder.warm_up(
        model,
        tokenizer,
        task,
        recipe.warmup,
        recipe.policy.seed,
        lambda done, total: progress("warm-up", done, total),
    )
    return policy.wrap(model, tokenizer, recipe.policy.autocast)


def _save(target: Path, made: LanguageModel) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    save(made, temporary)
    _move(temporary, target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    shutil.copytree(source, temporary, dirs_exist_ok=True)
    _move(temporary, target)


def _move(temporary: Path, target: Path) -> None:
    """Put a finished folder in its place; if another process was first, its result is the same."""
    temporary.chmod(0o755)  # mkdtemp's 0700 would surprise on a shared disk
    try:
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():
            raise
