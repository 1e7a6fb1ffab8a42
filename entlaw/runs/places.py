"""What the place of a file says: which run it belongs to, and which files beside a log are no logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A folder that one run's writers fill.

    Attributes
    ----------
    what : str
        For people.
    main, others : str
        Regular expressions of paths: of the run's main log, and of what lies beside it. The group ``home`` is the
        run's folder.
    sure : bool
        Whether the folder never holds two runs. An output folder that is used again does.
    """

    what: str
    main: str
    others: tuple[str, ...]
    sure: bool


PLACES = (
    RunFolder(
        "W&B run folder",
        r"(?P<home>.+)/run-[^/]+\.wandb",
        (r"(?P<home>.+)/files/output\.log(\.gz)?",),
        sure=True,
    ),
    RunFolder(
        "output folder of a Hugging Face trainer",
        r"(?P<home>.+?)/(checkpoint-\d+/)?trainer_state\.json",
        (
            r"(?P<home>.+)/trainer_log\.jsonl",
            r"(?P<home>.+)/runs/([^/]+/){1,2}events\.out\.tfevents\.[^/]+",
        ),
        sure=False,
    ),
)


def places_of(path: Path) -> list[tuple[RunFolder, str, bool]]:
    """Places that a path may be in, each with the run's folder, and whether the file is its main log."""
    text = path.absolute().as_posix()
    return [
        (place, found["home"], pattern == place.main)
        for place in PLACES
        for pattern in (place.main, *place.others)
        if (found := re.fullmatch(pattern, text)) is not None
    ]


# What loggers and trainers keep beside a log.
_SIDE_FILES = {
    "run.json",
    "meta.json",
    "config.json",
    "wandb-metadata.json",
    "wandb-summary.json",
    "requirements.txt",
    "conda-environment.yaml",
    "diff.patch",
    "debug-core.log",  # what W&B's service says of itself, as JSON with numbers
    "debug-internal.log",
    "debug-cli.root.log",
    # A model's folder beside the log.
    "adapter_config.json",
    "preprocessor_config.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
    "manifest.json",
    # Numbers of the end of a Hugging Face run, which its log holds too.
    "all_results.json",
    "train_results.json",
    "eval_results.json",
}
_DEBUG = re.compile(r"debug([-.].*)?\.log")
_START = 1 << 12


def is_side_file(path: Path) -> bool:
    """Whether a file is known by its name as no log.

    ``debug.log`` is anybody's name: W&B's says so itself.
    """
    if path.name in _SIDE_FILES:
        return True
    if _DEBUG.fullmatch(path.name) is None:
        return False
    try:
        with path.open("rb") as handle:
            return b"wandb" in handle.read(_START)
    except OSError:
        return False


def without_side_files(files: Iterable[Path]) -> list[Path]:
    """The files that may be logs; all, where none may."""
    found = list(files)
    return [f for f in found if not is_side_file(f)] or found
