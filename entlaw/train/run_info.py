"""``run.json``: what a run is, beside its metrics; the reader takes it for the run's configuration."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from entlaw._version import __version__
from entlaw.errors import CheckpointError, UnreadableSource
from entlaw.files import write_whole

SCHEMA = "entlaw.run/1"
NAME = "run.json"
RunStatus = Literal["running", "finished", "stopped", "failed"]

_GIT_SECONDS = 2.0  # a repository on a slow network disk must not hold a run up


def write_run_info(
    folder: str | os.PathLike[str],
    *,
    name: str,
    recipe: Mapping[str, Any],
    changes: Mapping[str, Any],
    seed: int,
    parameters: int,
    entropy_meaning: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    status: RunStatus = "running",
    wall_s: float | None = None,
) -> Path:
    """Write ``run.json`` into the folder of a run, atomically; of one that is there, the date of creation is kept.

    Absolute paths in the recipe are shortened to their last part, and neither host nor user is named: the file is
    made to be shared. It is a description, not what a run is resumed from.

    Parameters
    ----------
    recipe : mapping
        All settings, as plain data.
    changes : mapping
        Those that differ from the recipe as it was read.
    parameters : int
        Number of the policy's parameters.
    entropy_meaning : mapping
        The fields of :class:`entlaw.runs.run.EntropyMeaning`.
    extra : mapping, optional
        Further entries.
    wall_s : float, optional
        Seconds the run took, once it is over.

    Raises
    ------
    ValueError
        ``extra`` holds an entry that is written here.
    CheckpointError
        It cannot be written.
    """
    info: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "framework": "entlaw",
        "status": status,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "wall_s": wall_s,
        "seed": seed,
        "parameters": parameters,
        "entropy_meaning": dict(entropy_meaning),
        "changes": shareable(changes),
        "recipe": shareable(recipe),
        "versions": versions(),
        "git": git_state(),
        "platform": machine(),
    }
    clash = sorted(info.keys() & (extra or {}).keys())
    if clash:
        raise ValueError(f"written here already: {', '.join(clash)}")
    path = Path(folder) / NAME
    with contextlib.suppress(OSError, ValueError):  # a run that goes on was created when it began
        before = json.loads(path.read_bytes())
        if isinstance(before, dict) and isinstance(before.get("created"), str):
            info["created"] = before["created"]
    return _write(path, {**info, **shareable(extra or {})})


def update_run_info(folder: str | os.PathLike[str], **entries: Any) -> Path:
    """Change entries of a ``run.json``: the status, the wall time; the others stay as they are.

    Raises
    ------
    UnreadableSource
        There is none, or it is damaged.
    CheckpointError
        It cannot be written.
    """
    path = Path(folder) / NAME
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableSource(
            "the description of the run cannot be read", where=str(path), why=str(error)
        ) from error
    if not isinstance(info, dict):
        raise UnreadableSource("the description of the run is no JSON object", where=str(path))
    return _write(path, {**info, **shareable(entries)})


def _write(path: Path, info: Mapping[str, Any]) -> Path:
    try:
        write_whole(path, (json.dumps(info, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise CheckpointError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            hint="free some space or check the permissions",
            errno=error.errno,
        ) from error
    return path


def shareable(value: Any, key: str = "") -> Any:
    """Plain data for JSON without absolute paths: ``/home/me/models/tiny`` becomes ``.../tiny``."""
    if isinstance(value, Mapping):
        return {str(k): shareable(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shareable(v, key) for v in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _shortened(value, key)
    if isinstance(value, float) and value - value != 0:  # NaN and infinities, which JSON lacks
        return None
    return value


def _shortened(text: str, key: str) -> str:
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        # "/" and "/+" are operators sooner than folders, unless the key says otherwise.
        deep = len(path.parts) > 2 or "path" in key
        if path.is_absolute() and path.name and deep:
            return f".../{path.name}"
    return text


def versions() -> dict[str, str | None]:
    """Versions of what decides the numbers; None for what is not installed. Nothing is imported for it."""
    found: dict[str, str | None] = {"python": platform.python_version(), "entlaw": __version__}
    for package in ("torch", "transformers", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_state(folder: str | os.PathLike[str] = ".") -> dict[str, Any] | None:
    """Commit of the repository a folder is in, and whether tracked files differ from it; None if unknown."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # leave the index alone while others work
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def machine() -> dict[str, Any]:
    """Processor, system, threads and GPUs; no name of a host or a user."""
    told: dict[str, Any] = {"system": platform.system(), "cpu": _cpu(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # where it was not imported, nothing was trained with it
    if torch is not None:
        told["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            told["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return told


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for text in lines:
                if text.startswith("model name"):
                    return text.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
