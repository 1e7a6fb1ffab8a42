"""Which files a SOURCE means: a path, a folder searched recursively, a glob."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from entlaw.errors import SourceNotFound, nearest
from entlaw.runs import globs
from entlaw.runs.bounds import MOST_LOGS, too_large
from entlaw.runs.parsing.packed_copies import without_packed_copies
from entlaw.runs.places import is_side_file, without_side_files
from entlaw.runs.sources import sources

if TYPE_CHECKING:
    from entlaw.runs.wandb.address import Address

# In a folder these are never logs; everything else is tried by content.
_NOT_LOGS = {
    ".py",
    ".sh",
    ".toml",
    ".yaml",
    ".yml",
    ".png",
    ".jpg",
    ".jpeg",
    ".svg",
    ".pdf",
    ".html",
    ".css",
    ".js",
    ".safetensors",
    ".pt",
    ".pth",
    ".bin",
    ".gguf",
    ".npy",
    ".npz",
    ".whl",
    ".lock",
}
# What our trainer keeps beside metrics.jsonl: the same metrics for other tools, and weights.
_OWN_SCHEMA = b'"entlaw.run/1"'
# What `entlaw pull` keeps beside each Parquet file: about the file, no log.
_PULL_NOTE = ".pull.json"
_OWN_PARTS = re.compile(r"wandb|tensorboard|base|failure|checkpoint-\d+(-\d+)?")


def expand(source: str | os.PathLike[str]) -> list[Path]:
    """Files behind a path, a folder (searched recursively) or a glob, in natural order.

    Raises
    ------
    SourceNotFound
    UnreadableSource
        A folder with more files than are read of one.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_file():
        beside = path.with_name(path.name.removesuffix(_PULL_NOTE) + ".parquet")
        return [beside if path.name.endswith(_PULL_NOTE) and beside.is_file() else path]
    if path.is_dir():
        everything = sorted(p for p in path.rglob("*") if p.is_file())
        own = {p.parent for p in everything if p.name == "run.json" and _is_own_run(p)}
        logs = (p for p in _without_notes(everything) if not _skip(p, path) and not _is_part(p, own))
        files = without_packed_copies(logs)
        if not files:
            raise SourceNotFound(
                "the folder holds no log", where=text, hint="point at the file or folder the trainer wrote"
            )
        if len(files) > MOST_LOGS:
            raise too_large(
                f"the folder holds {len(files):,} files that may be logs",
                f"at most {MOST_LOGS:,} are read of one folder or archive",
                f"unpack an archive, and name the logs that count with a glob: 'FOLDER/**/*{files[0].suffix}'",
                text,
            )
        return files
    matches = sorted(map(Path, globs.paths(text))) if glob.has_magic(text) else []
    found = [f for m in matches for f in ([m] if m.is_file() else expand(m) if m.is_dir() else [])]
    files = without_packed_copies(without_side_files(_without_notes(found)))
    if not files:
        names = os.listdir(path.parent) if path.parent.is_dir() else []
        raise SourceNotFound(
            "no file matches" if glob.has_magic(text) else "no such file or folder",
            where=text,
            hint=nearest(path.name, names) or "check the path; globs may need quotes",
        )
    return files


def on_server(source: str | os.PathLike[str]) -> Address | None:
    """The W&B address that a source is, None when it is, or was meant to be, a path.

    What exists here is a path, whatever it looks like; so is a text whose first part is a folder here: then the
    rest was misspelt. Text in front (``wandb:``, ``https://``) says plainly what is meant.

    Raises
    ------
    UsageError
        ``wandb:`` or a URL without a project behind it.
    """
    if not isinstance(source, str):
        return None
    from entlaw.runs.wandb.address import parse

    try:
        if Path(source).expanduser().exists():
            return None
        address = parse(source)
        if address is None or (address.bare and Path(source.split("/")[0]).exists()):
            return None
    except (OSError, RuntimeError):  # a name too long for a path; a home folder that is not known
        return parse(source)
    return address


def _skip(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    if hidden or named_as_log(path):
        return hidden
    return path.suffix.lower() in _NOT_LOGS or is_side_file(path) or path.stat().st_size == 0


def named_as_log(path: Path) -> bool:
    """Whether the name alone says that a logger wrote the file.

    Such a file in a folder is read whatever its suffix, and told of even when nothing can be read from it.
    """
    return any(source.names(path) for source in sources())


def _without_notes(files: Iterable[Path]) -> list[Path]:
    return [f for f in files if not f.name.endswith(_PULL_NOTE)]


def _is_own_run(info: Path) -> bool:
    """Whether a ``run.json`` is of a run of our trainer, with its metrics beside it."""
    try:
        with info.open("rb") as handle:
            ours = _OWN_SCHEMA in handle.read(200)
    except OSError:
        return False
    return ours and any((info.parent / name).is_file() for name in ("metrics.jsonl", "metrics.jsonl.gz"))


def _is_part(path: Path, own: Set[Path]) -> bool:
    """Whether a file is in a folder that our trainer keeps beside the metrics: copies of them, and weights."""
    inside = (path, *path.parents)
    return any(run in own and _OWN_PARTS.fullmatch(part.name) for part, run in itertools.pairwise(inside[1:]))
