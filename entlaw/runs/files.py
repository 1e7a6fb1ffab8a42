"""Which files a SOURCE means: a path, a folder searched recursively, a glob."""

from __future__ import annotations

import difflib
import glob
import os
from pathlib import Path

from entlaw.errors import SourceNotFound

# In a folder these are never logs; everything else is tried by content.
_NOT_LOGS = {
    ".py", ".sh", ".toml", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".svg", ".pdf", ".html", ".css", ".js",
    ".safetensors", ".pt", ".pth", ".bin", ".gguf", ".npy", ".npz", ".zip", ".whl", ".lock",
}  # fmt: skip
_SIDECARS = {
    "run.json",
    "meta.json",
    "config.json",
    "wandb-metadata.json",
    "wandb-summary.json",
    "requirements.txt",
    # A model's folder beside the log.
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
    "manifest.json",
}


def expand(source: str | os.PathLike[str]) -> list[Path]:
    """Files behind a path, a folder (searched recursively) or a glob, in natural order.

    Raises
    ------
    SourceNotFound
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _skip(p, path))
        if not files:
            raise SourceNotFound(
                "the folder holds no log", where=text, hint="point at the file or folder the trainer wrote"
            )
        return files
    matches = sorted(Path(m) for m in glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    files = [f for m in matches for f in ([m] if m.is_file() else expand(m) if m.is_dir() else [])]
    if not files:
        near = _similar_names(path)
        raise SourceNotFound(
            "no file matches" if glob.has_magic(text) else "no such file or folder",
            where=text,
            hint=f"nearest: {near}" if near else "check the path; globs may need quotes",
        )
    return files


def _skip(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return hidden or path.suffix.lower() in _NOT_LOGS or path.name in _SIDECARS or path.stat().st_size == 0


def _similar_names(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return ""
    return ", ".join(difflib.get_close_matches(path.name, os.listdir(parent), n=3, cutoff=0.5))
