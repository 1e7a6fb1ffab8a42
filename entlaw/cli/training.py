"""What the commands around training share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from entlaw.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from entlaw.train.schema import Recipe


def need_torch() -> None:
    """A message instead of a traceback where the training extra is not installed, or does not load.

    Raises
    ------
    MissingExtra
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"training needs {' and '.join(missing)}",
            hint="pip install 'entlaw[train]' (choose your build of torch first)",
        )
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingExtra(
            f"torch or transformers is installed but cannot be loaded: {first}",
            why="a CUDA build without its libraries, or a build for another processor, does this",
            hint="install a build of torch for this machine (a CPU build where there is no GPU), then try "
            "`python -c 'import torch, transformers'`",
        ) from error


def resolve(checkpoint: str, recipe: Path | None) -> tuple[str, Recipe]:
    """Where the model is, and the recipe that belongs to it.

    Raises
    ------
    UsageError
        A run without a checkpoint.
    """
    from entlaw.train import checkpoint as checkpoints
    from entlaw.train import recipe as recipes

    folder = Path(checkpoint)
    model = checkpoint
    if (folder / "recipe.toml").is_file():
        newest = checkpoints.latest(folder).path
        if newest is None:
            raise UsageError(
                "the run has no checkpoint yet", where=checkpoint, hint="wait for it, or resume the run"
            )
        folder = newest
    if (folder / "policy").is_dir():
        model = str(folder / "policy")
    beside = folder.parent / "recipe.toml"
    return model, recipes.load(recipe or (beside if beside.is_file() else None))
