"""Checkpoints: folders that are there whole or not at all, whatever kills the process or fills the disk.

``checkpoint-00000012`` appears by one rename, after everything in it is on the disk; only then do older ones go. Its
``manifest.json`` (schema ``entlaw.checkpoint/1``) holds every file's size and SHA-256, so damage is found before use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from entlaw.errors import CheckpointError, EntlawError, UnreadableSource
from entlaw.files import flush_all, flush_path, megabytes
from entlaw.findings import Finding

SCHEMA = "entlaw.checkpoint/1"
MANIFEST = "manifest.json"

# A second save of one step, of other content, has a number behind it; both are there until the second is whole.
_NAME = re.compile(r"checkpoint-(\d{8,})(?:-(\d+))?")
_HIDDEN = re.compile(r"\.(?:saving|removing)-\d{8,}-[0-9a-f]{8}")
_CHUNK = 1 << 20
# Libraries that write by their own means wrap the system's error: torch's RuntimeError, safetensors' own class.
_SYSTEM_SAID = re.compile(r"os error|no space left|file too large|PytorchStreamWriter|unexpected pos", re.I)


class Manifest(NamedTuple):
    """What a checkpoint must hold."""

    step: int
    files: dict[str, dict[str, Any]]
    """``{"size": bytes, "sha256": hexadecimal}`` by path inside the folder, parts joined by ``/``."""

    @property
    def size(self) -> int:
        """Bytes in all files, the manifest itself left out."""
        return sum(entry["size"] for entry in self.files.values())


class Latest(NamedTuple):
    """The newest checkpoint that can be used, and what is wrong with newer ones."""

    path: Path | None
    skipped: tuple[Finding, ...]


def save(folder: str | os.PathLike[str], step: int, write: Callable[[Path], None], keep: int = 1) -> Path:
    """Save a checkpoint and remove the older ones beyond `keep`.

    Checkpoints of later steps are removed as well: they belong to a future that is being done again.

    Parameters
    ----------
    folder : path
        Of the run; made if need be. One process saves into it at a time.
    step : int
        RL steps done.
    write : callable
        Writes the state into the folder it is given; plain files and folders only.
    keep : int
        How many to keep, this one included.

    Returns
    -------
    Path
        ``folder/checkpoint-00000012``, or ``checkpoint-00000012-2`` if there is a good one of this step that differs.

    Raises
    ------
    CheckpointError
        The disk is full or refuses. What was saved before is intact, and nothing half-written stays.
    """
    folder = Path(folder)
    if step < 0 or keep < 1:
        raise ValueError(f"step {step} and keep {keep} must not be below 0 and 1")
    temporary = folder / f".saving-{step:08d}-{uuid.uuid4().hex[:8]}"
    moved: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        write(temporary)
        manifest = _seal(temporary, step)
        target = _place(folder, step, manifest)
        if target.exists():  # the same step with the same content
            shutil.rmtree(temporary)
        else:
            os.replace(temporary, target)
            moved = target
        flush_path(folder)
    except BaseException as error:
        written = _bytes_below(moved or temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        if moved is not None:  # a save that failed leaves nothing behind, not even what may be whole
            with contextlib.suppress(OSError):
                _remove(moved)
        system = _system_error(error)
        if system is None:
            raise
        raise _failed(folder, step, system, written) from error
    with contextlib.suppress(OSError, UnreadableSource):  # the new one is safe; the next save tries again
        _prune(folder, target, keep)
    return target


def verify(path: str | os.PathLike[str]) -> Manifest:
    """Check every file of a checkpoint against its manifest; files that are not in it are passed over.

    Raises
    ------
    UnreadableSource
        Not a checkpoint, incomplete, or changed.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        file = path / name
        try:
            if file.stat().st_size != entry["size"]:
                raise _damaged(path, f"{name} has {file.stat().st_size} bytes instead of {entry['size']}")
            if _digest(file) != entry["sha256"]:
                raise _damaged(path, f"{name} was changed: its SHA-256 is not that of the manifest")
        except FileNotFoundError as error:
            raise _damaged(path, f"{name} is missing") from error
        except OSError as error:
            raise _damaged(path, f"{name} cannot be read: {error.strerror}") from error
    return manifest


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """The manifest of a checkpoint; its files are not looked at.

    Raises
    ------
    UnreadableSource
        There is none, or it is damaged or of another step than the folder's name says.
    """
    path = Path(path)
    try:
        told = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise _damaged(path, f"{MANIFEST} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} cannot be read: {error}") from error
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != SCHEMA:
        raise _damaged(path, f"{MANIFEST} is of schema {schema!r} instead of {SCHEMA!r}")
    step, files = told.get("step"), told.get("files")
    if type(step) is not int or not isinstance(files, dict) or not all(map(_sound, files.items())):
        raise _damaged(path, f"{MANIFEST} is incomplete")
    named = _NAME.fullmatch(path.name)
    if named and int(named[1]) != step:
        raise _damaged(path, f"{MANIFEST} is of step {step}")
    return Manifest(step, files)


def _sound(item: tuple[str, Any]) -> bool:
    name, entry = item
    inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    return (
        inside
        and isinstance(entry, dict)
        and type(entry.get("size")) is int
        and isinstance(entry.get("sha256"), str)
    )


def latest(folder: str | os.PathLike[str]) -> Latest:
    """The newest checkpoint whose every file is as it was saved; findings tell of newer ones that are not.

    Half-written ones of a killed process are passed over without a word: they are no loss.
    """
    skipped = []
    for path in reversed(_checkpoints(Path(folder))):
        try:
            verify(path)
        except UnreadableSource as error:
            skipped.append(
                Finding(
                    "checkpoint-damaged",
                    "warning",
                    f"{path.name} was passed over: {error.what}",
                    "it does not hold what was saved",
                    "an older checkpoint is used if there is one; check the disk",
                )
            )
        else:
            return Latest(path, tuple(skipped))
    return Latest(None, tuple(skipped))


def clean(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Remove what killed processes left half-saved or half-removed; returns the names.

    Not while another process saves into the folder.
    """
    left = [path for path in _entries(Path(folder)) if _HIDDEN.fullmatch(path.name)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return tuple(path.name for path in left if not path.exists())


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableSource(
            f"the folder cannot be listed: {error.strerror}", where=str(folder), hint="check its permissions"
        ) from error


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by name, oldest first."""
    named = [(_NAME.fullmatch(path.name), path) for path in _entries(folder)]
    order = [(int(m[1]), int(m[2] or 1), path) for m, path in named if m]
    return [path for *_, path in sorted(order)]


# Saving -----------------------------------------------------------------------------------------


def _seal(folder: Path, step: int) -> Manifest:
    """Write the manifest of what is in a folder, and return when all of it is on the disk."""
    files: dict[str, dict[str, Any]] = {}
    made = [folder, *_below(folder)]
    for path in made[1:]:
        mode = path.lstat().st_mode
        name = path.relative_to(folder).as_posix()
        if stat.S_ISDIR(mode):
            continue
        if stat.S_ISREG(mode) and name != MANIFEST:
            files[name] = {"size": path.stat().st_size, "sha256": _digest(path)}
        else:
            raise ValueError(f"{name} has no place in a checkpoint: plain files only, and none named so")
    with open(folder / MANIFEST, "w", encoding="utf-8") as out:
        out.write(json.dumps({"schema": SCHEMA, "step": step, "files": files}, indent=1) + "\n")
    flush_all([*made, folder / MANIFEST])
    return Manifest(step, files)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def _place(folder: Path, step: int, manifest: Manifest) -> Path:
    """Where a sealed checkpoint goes: a free name, or the name of one with the very same content."""
    number = 1
    while True:
        target = folder / (f"checkpoint-{step:08d}" + (f"-{number}" if number > 1 else ""))
        if not target.exists():
            return target
        try:
            if verify(target) == manifest:
                return target
        except UnreadableSource:
            _remove(target)  # of no use to anybody, and in the way
            continue
        number += 1


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove all but `newest` and the `keep` - 1 in front of it."""
    order = _checkpoints(folder)
    before = order[: order.index(newest)]
    kept = {newest, *(before[-(keep - 1) :] if keep > 1 else [])}
    for path in order:
        if path not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    """Take a checkpoint out of sight at once, so that a kill leaves no half of it under its name."""
    named = _NAME.fullmatch(path.name)
    assert named is not None
    hidden = path.with_name(f".removing-{int(named[1]):08d}-{uuid.uuid4().hex[:8]}")
    os.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


# What to say ------------------------------------------------------------------------------------


def _damaged(path: Path, what: str) -> UnreadableSource:
    return UnreadableSource(what, where=str(path), why="the checkpoint cannot be trusted")


def _system_error(error: BaseException) -> BaseException | None:
    """The error of the disk behind an exception, if that is what it comes from."""
    seen: BaseException | None = error if isinstance(error, Exception) else None
    if isinstance(error, EntlawError):  # says itself what is wrong
        return None
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        if isinstance(seen, Exception) and _SYSTEM_SAID.search(str(seen)):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _failed(folder: Path, step: int, error: BaseException, written: int) -> CheckpointError:
    last = None
    with contextlib.suppress(UnreadableSource):
        last = latest(folder).path
    needed, source = written, "written so far"
    if last is not None:
        source = "going by the last one"
        needed = max(needed, read_manifest(last).size)
    try:
        free = f"{megabytes(shutil.disk_usage(folder).free)} are free now"
    except OSError:
        free = "how much is free is not known"
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
    intact = f"{last.name} is intact" if last is not None else "there was no checkpoint before it"
    return CheckpointError(
        f"the checkpoint of step {step} could not be saved: {told}",
        where=str(folder),
        why=f"it needs {megabytes(needed)} ({source}) beside the older ones, and {free}; {intact}",
        hint="free some space (or keep fewer: checkpoint.keep), then resume the run",
        errno=error.errno if isinstance(error, OSError) else None,
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for path in _below(folder):
            total += path.lstat().st_size
    return total
