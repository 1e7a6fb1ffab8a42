"""The cache: one Parquet file a run that says all about itself, and a small JSON file beside it.

The Parquet file alone is enough to read the run without the server: its key-value metadata hold what the server
said (``entlaw.run``, JSON) beside the rows. The sidecar is for people and scripts, and tells by its checksum
whether the two belong together; it is written last, so a kill between the two leaves a mismatch that the next
pull mends.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from entlaw._version import __version__
from entlaw.errors import CacheError, UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.wandb.lock import exclusive
from entlaw.train.durable import write_whole

SCHEMA = "entlaw.pull/1"
SIDECAR = ".pull.json"  # so spelt that a folder of pulled runs is not taken for a folder of JSON logs
_SCHEMA_KEY, _RUN_KEY, _CHECK_KEY = b"entlaw.schema", b"entlaw.run", b"entlaw.sha256"
_LONGEST_SLUG = 60  # characters; with an id of 128 a name stays below the 255 bytes of file systems


@dataclass(frozen=True)
class Identity:
    """What makes a run on a server one and the same, whatever it is called today.

    Attributes
    ----------
    host : str
        Base URL of the server.
    entity, project, run_id : str
    """

    host: str
    entity: str
    project: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.run_id}"


@dataclass(frozen=True)
class Entry:
    """One run as it lies in the cache.

    Attributes
    ----------
    identity : Identity
    name : str
        As shown on the server; two runs may share it.
    rows : pandas.DataFrame
        As fetched: one row per ``log`` call in logged order, float64 columns, index 0..n-1.
    about : mapping
        What else the server and the fetch said, as JSON can hold it: see :mod:`entlaw.runs.wandb.pull`.
    """

    identity: Identity
    name: str
    rows: pd.DataFrame
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """What the cache holds of a run.

    Attributes
    ----------
    path : pathlib.Path
        The Parquet file: of what is there, or where it will be.
    entry : Entry or None
        None when there is nothing, or nothing usable.
    findings : tuple of Finding
        Damage that was noticed.
    complete : bool
        Whether the sidecar belongs to the Parquet file.
    """

    path: Path
    entry: Entry | None
    findings: tuple[Finding, ...] = ()
    complete: bool = True


def encode(entry: Entry) -> bytes:
    """The Parquet file of an entry: zstd, missing values as nulls, a checksum over all that is read back."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"identity": entry.identity.__dict__, "name": entry.name, "rows": len(entry.rows), **entry.about}
    text = json.dumps(about).encode()
    # Half a surrogate pair, which JSON can spell, is no text that Parquet could hold.
    columns = {
        str(key).encode(errors="replace").decode(): entry.rows[key].to_numpy(dtype=np.float64)
        for key in entry.rows.columns
    }
    table = pa.table({key: pa.array(values, from_pandas=True) for key, values in columns.items()})
    table = table.replace_schema_metadata(
        {_SCHEMA_KEY: SCHEMA.encode(), _RUN_KEY: text, _CHECK_KEY: _check(text, columns).encode()}
    )
    buffer = io.BytesIO()
    # Floats do not repeat, so a dictionary only costs; split bytes let zstd see the slowly changing ones.
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, use_byte_stream_split=True)
    return buffer.getvalue()


def _check(text: bytes, columns: Mapping[str, np.ndarray]) -> str:
    """Checksum of what a reader gets: Parquet's own, of pages, leaves out names and metadata."""
    digest = hashlib.sha256(text)
    for key, values in columns.items():
        digest.update(f"\0{key}\0".encode())
        digest.update(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())
    return digest.hexdigest()


def is_pulled(metadata: Mapping[bytes, bytes] | None) -> bool:
    """Whether a Parquet file's key-value metadata are those of a pulled run, of whatever version."""
    return (metadata or {}).get(_SCHEMA_KEY, b"").startswith(b"entlaw.pull/")


def decode(source: Path | io.BytesIO, where: str) -> Entry:
    """Read a Parquet file of :func:`encode`.

    Parameters
    ----------
    source : pathlib.Path or io.BytesIO
    where : str
        Its path, for messages.

    Raises
    ------
    UnreadableSource
        Damaged, not a pulled run, or written by a later version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            metadata = file.metadata.metadata or {}
            if not is_pulled(metadata):
                raise UnreadableSource(
                    "not a run pulled by entlaw", where=where, hint="it may still be read as a table"
                )
            if metadata[_SCHEMA_KEY] != SCHEMA.encode():
                raise UnreadableSource(
                    f"written as {metadata[_SCHEMA_KEY].decode(errors='replace')}, known is {SCHEMA}",
                    where=where, hint="update entlaw, or pull the run again into another folder",
                )  # fmt: skip
            table = file.read()
            data = {name: table.column(i).to_numpy() for i, name in enumerate(table.column_names)}
            if metadata.get(_CHECK_KEY) != _check(metadata[_RUN_KEY], data).encode():
                raise ValueError("the checksum of its contents is not the one written with them")
            about = json.loads(metadata[_RUN_KEY])
            rows = pd.DataFrame(data, index=pd.RangeIndex(int(about.pop("rows"))), dtype=np.float64)
            return Entry(Identity(**about.pop("identity")), str(about.pop("name")), rows, about)
    except UnreadableSource:
        raise
    # pyarrow raises its own errors and, on damaged pages and footers, plain OSError, ValueError or KeyError.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise UnreadableSource(
            "damaged file of a pulled run",
            where=where,
            why=f"{type(error).__name__}: {error}"[:300],
            hint="`entlaw pull` it again; a damaged file is noticed and replaced",
        ) from error


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
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / f".{_safe(identity.run_id)}.lock", patience):
            yield

    def load(self, identity: Identity, name: str) -> Loaded:
        """What is there of a run; damage is told, not raised.

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
        return Loaded(unique if taken else plain, None)

    def save(self, path: Path, entry: Entry) -> None:
        """Write the two files of a run, each whole or not at all, the Parquet file first.

        Raises
        ------
        CacheError
            Full disk, read-only folder; what was there before is unchanged.
        """
        data = encode(entry)
        with _told(path):
            for name in (path.name, sidecar(path).name):
                for stale in self.folder.glob(f".{_escape(name)}.*"):  # left by a kill: we hold the lock
                    stale.unlink(missing_ok=True)
            write_whole(path, data)
            self.save_sidecar(path, entry, hashlib.sha256(data).hexdigest())

    def save_sidecar(self, path: Path, entry: Entry, sha256: str) -> None:
        """Write the JSON file beside a Parquet file that is there.

        Raises
        ------
        CacheError
        """
        about = entry.about
        told = {
            "schema": SCHEMA, "source": entry.identity.__dict__, "url": about.get("url"), "name": entry.name,
            "state": about.get("state"), "last_step": about.get("last_step"), "rows": len(entry.rows),
            "keys": [str(key) for key in entry.rows.columns], "wandb": about.get("wandb"), "entlaw": __version__,
            "pulled_at": about.get("pulled_at"), "file": path.name, "sha256": sha256,
        }  # fmt: skip
        text = json.dumps(told, indent=1, ensure_ascii=False, default=str) + "\n"
        with _told(path):
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

    def _load_one(self, path: Path, identity: Identity, ours_by_name: bool) -> Loaded | None:
        """The run in one file; None when it is of another run."""
        note = _read_sidecar(path)
        source = note.get("source") if note else None
        try:
            data = path.read_bytes()
            entry = decode(io.BytesIO(data), str(path))
        except FileNotFoundError:
            if source != identity.__dict__:
                return None
            return Loaded(path, None, (_damage(path, "its Parquet file is gone"),), False)
        except OSError as error:
            raise CacheError(
                f"cannot read: {error.strerror}", where=str(path), hint="check the permissions of the folder"
            ) from error
        except UnreadableSource as error:
            if source != identity.__dict__ and not (source is None and ours_by_name and _is_wreck(data)):
                return None
            if "known is" in error.what:  # of a later version: not ours to overwrite
                raise
            return Loaded(path, None, (_damage(path, error.why or error.what),), False)
        if entry.identity != identity:
            return None
        if note is not None and note.get("sha256") == hashlib.sha256(data).hexdigest():
            return Loaded(path, entry)
        return Loaded(path, entry, (_mended(path),), False)


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
    """Whether a file is no whole Parquet file, so that nobody can read it: then it is not somebody else's."""
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
        "cache-damaged", "warning", f"{path.name} could not be used and was fetched again", why,
        "if it comes back, look at the disk",
    )  # fmt: skip


def _mended(path: Path) -> Finding:
    return Finding(
        "cache-mended", "info", f"the note beside {path.name} was missing or of another state and was written anew",
        "an earlier pull was stopped between its two files; the rows passed their own checksums",
    )  # fmt: skip


@contextmanager
def _told(where: Path) -> Iterator[None]:
    """Turn what the file system refuses into one message."""
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"cannot write: {error.strerror or error}",
            where=str(where),
            why="what was there before is unchanged",
            hint="make room, or choose another folder with -o",
        ) from error
