"""The cache: a folder of pulled runs, one Parquet file each (:mod:`.stored`) and a small JSON file beside it.

The sidecar is for people and scripts, and tells by its checksum whether the two belong together; it is written
last, so a kill between the two leaves a mismatch that the next pull mends.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entlaw._version import __version__
from entlaw.errors import CacheError, UnreadableSource
from entlaw.files import write_whole
from entlaw.findings import Finding
from entlaw.lock import exclusive
from entlaw.runs.wandb.stored import SCHEMA, CachedRun, Identity, decode, encode, is_pulled

SIDECAR = ".pull.json"  # so spelt that a folder of pulled runs is not taken for a folder of JSON logs
_LONGEST_SLUG = 60  # characters; with an id of 128 a name stays below the 255 bytes of file systems


@dataclass(frozen=True)
class CacheContent:
    """What the cache holds of a run.

    Attributes
    ----------
    path : pathlib.Path
        The Parquet file: of what is there, or where it will be.
    entry : CachedRun or None
        None when there is nothing, or nothing usable.
    findings : tuple of Finding
        Damage that was noticed.
    complete : bool
        Whether the sidecar belongs to the Parquet file.
    """

    path: Path
    entry: CachedRun | None
    findings: tuple[Finding, ...] = ()
    complete: bool = True


class Cache:
    """A folder of pulled runs.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing, when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self, identity: Identity, patience: float = 600.0) -> Iterator[None]:
        """Hold a run's place in the folder: what is loaded inside stays true until it is saved.

        Parameters
        ----------
        identity : Identity
        patience : float
            Seconds to wait for another process that pulls the same run.

        Raises
        ------
        CacheError
            The folder cannot be written to, or the other process still holds the run.
        """
        with _as_cache_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / f".{_safe(identity.run_id)}.lock", patience):
            yield

    def load(self, identity: Identity, name: str) -> CacheContent:
        """What is there of a run; damage is reported, not raised.

        Parameters
        ----------
        identity : Identity
        name : str
            The name it has now, for a file that is still to be written; a run renamed on the server keeps its file.
        """
        plain, unique = self._names(identity, name)
        for path in self._candidates(identity, (plain, unique)):
            loaded = self._load_one(path, identity, path in (plain, unique))
            if loaded is not None:
                return loaded
        taken = plain.exists() or sidecar(plain).exists()
        return CacheContent(unique if taken else plain, None)

    def save(self, path: Path, entry: CachedRun) -> None:
        """Write the two files of a run, each whole or not at all, the Parquet file first.

        Raises
        ------
        CacheError
            Full disk, read-only folder; what was there before is unchanged.
        """
        data = encode(entry)
        with _as_cache_error(path):
            for name in (path.name, sidecar(path).name):
                for stale in self.folder.glob(f".{_escape(name)}.*"):  # left by a kill: we hold the lock
                    stale.unlink(missing_ok=True)
            write_whole(path, data)
            self.save_sidecar(path, entry, hashlib.sha256(data).hexdigest())

    def save_sidecar(self, path: Path, entry: CachedRun, sha256: str) -> None:
        """Write the JSON file beside a Parquet file that is there.

        Raises
        ------
        CacheError
        """
        about = entry.about
        told = {
            "schema": SCHEMA,
            "source": entry.identity.__dict__,
            "url": about.get("url"),
            "name": entry.name,
            "state": about.get("state"),
            "last_step": about.get("last_step"),
            "rows": len(entry.rows),
            "keys": [str(key) for key in entry.rows.columns],
            "wandb": about.get("wandb"),
            "entlaw": __version__,
            "pulled_at": about.get("pulled_at"),
            "file": path.name,
            "sha256": sha256,
        }
        text = json.dumps(told, indent=1, ensure_ascii=False, default=str) + "\n"
        with _as_cache_error(path):
            write_whole(sidecar(path), text.encode())

    def _names(self, identity: Identity, name: str) -> tuple[Path, Path]:
        """The file's usual name, and the one for when a run of another project has that one."""
        slug = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:_LONGEST_SLUG]
        stem = _safe(identity.run_id) + (f"-{slug}" if slug and slug != identity.run_id else "")
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
        return self.folder / f"{stem}.parquet", self.folder / f"{stem}-{digest}.parquet"

    def _candidates(self, identity: Identity, usual: tuple[Path, Path]) -> list[Path]:
        start = _escape(_safe(identity.run_id))
        found = {_parquet(note) for note in self.folder.glob(f"{start}*{SIDECAR}")}
        found |= set(self.folder.glob(f"{start}*.parquet"))
        return sorted(found, key=lambda p: (usual.index(p) if p in usual else len(usual), p.name))

    def _load_one(self, path: Path, identity: Identity, ours_by_name: bool) -> CacheContent | None:
        """The run in one file; None when it is of another run."""
        note = _read_sidecar(path)
        source = note.get("source") if note else None
        try:
            data = path.read_bytes()
            entry = decode(io.BytesIO(data), str(path))
        except FileNotFoundError:
            if source != identity.__dict__:
                return None
            return CacheContent(path, None, (_damage(path, "its Parquet file is gone"),), False)
        except OSError as error:
            raise CacheError(
                f"cannot read: {error.strerror}",
                errno=error.errno,
                where=str(path),
                hint="check the permissions of the folder",
            ) from error
        except UnreadableSource as error:
            if source != identity.__dict__ and not (source is None and ours_by_name and _is_wreck(data)):
                return None
            if "known is" in error.what:  # of a later version: not ours to overwrite
                raise
            return CacheContent(path, None, (_damage(path, error.why or error.what),), False)
        if entry.identity != identity:
            return None
        if note is not None and note.get("sha256") == hashlib.sha256(data).hexdigest():
            return CacheContent(path, entry)
        return CacheContent(path, entry, (_mended(path),), False)


def sidecar(path: Path) -> Path:
    """The JSON file beside a Parquet file."""
    return path.with_name(path.name.removesuffix(".parquet") + SIDECAR)


def _parquet(note: Path) -> Path:
    return note.with_name(note.name.removesuffix(SIDECAR) + ".parquet")


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(sidecar(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return note if isinstance(note, dict) and str(note.get("schema")).startswith("entlaw.pull/") else None


def _is_wreck(data: bytes) -> bool:
    """Whether a file is not a whole Parquet file: then no other program can be using it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(io.BytesIO(data)).metadata
    except (pa.ArrowException, OSError, ValueError):
        return True
    return is_pulled(metadata)


def _safe(run_id: str) -> str:
    """A run id as a file name may hold it; ids that differ stay different."""
    safe = re.sub(r"[^\w.-]+", "-", run_id, flags=re.ASCII).lstrip("-.")[:128] or "run"
    return safe if safe == run_id else f"{safe}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _damage(path: Path, why: str) -> Finding:
    return Finding(
        "cache-damaged",
        "warning",
        f"{path.name} could not be used and was fetched again",
        why,
        "if it happens again, check the disk",
    )


def _mended(path: Path) -> Finding:
    return Finding(
        "cache-mended",
        "info",
        f"the note beside {path.name} was missing or out of date and was written again",
        "an earlier pull was stopped between its two files; the rows passed their own checksums",
    )


@contextmanager
def _as_cache_error(where: Path) -> Iterator[None]:
    """Turn what the file system refuses into one message."""
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"cannot write: {error.strerror or error}",
            errno=error.errno,
            where=str(where),
            why="what was there before is unchanged",
            hint="make room, or choose another folder with -o",
        ) from error
