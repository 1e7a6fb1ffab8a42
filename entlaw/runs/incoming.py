"""Sources that are no file to read in place: streams, which can be read only once, and archives of several files.

Both are put into a private folder. What is told of them names the stream or the archive, never that folder.
"""

from __future__ import annotations

import atexit
import io
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

from entlaw.errors import EntlawError, UnreadableSource, UsageError
from entlaw.runs.packed import SUFFIXES, CutShort, Damaged, Exact, Unpacked, decompressor, packing_of

STANDARD_INPUT = "/dev/stdin"  # what `-` means
MOST_BYTES = 4 << 30
MOST_FILES = 10_000
_LEAST_BOUND = 1 << 28
_BLOCK = 1 << 20
_SUFFIXES = {".zip", ".tar", ".tgz", ".tbz2", ".txz", *SUFFIXES}
_TEXTS = ("path", "source", "what", "where", "why", "hint")
_PARTS = ("provenance", "raw", "run", "error")
_ZIP = b"PK\x03\x04"
_TAR_MAGIC = (257, b"ustar")

T = TypeVar("T")


@dataclass(frozen=True)
class Incoming:
    """Where a source is to be read, and what it is called.

    Attributes
    ----------
    source : str or path
        The source itself, or its copy in a private folder.
    folder : str
        What is never told: the path of that copy; empty for the source itself.
    label : str
        What stands for it.
    """

    source: str | os.PathLike[str]
    folder: str = ""
    label: str = ""

    def name(self, text: str) -> str:
        """A text in which the copy has its label."""
        return text.replace(self.folder, self.label) if self.folder else text

    def of(self, found: T) -> T:
        """A reading, a raw run, a run, a finding or an error with the label in place of the copy's path."""
        if not self.folder or found is None:
            return found
        told: Any = found
        texts = [part for part in _TEXTS if isinstance(getattr(told, part, None), str)]
        changed: dict[str, Any] = {
            part: self.name(text) for part in texts if self.folder in (text := getattr(told, part))
        }
        if isinstance(told, EntlawError):
            for part, text in changed.items():
                setattr(told, part, text)
            return found
        for part in _PARTS:
            if getattr(told, part, None) is not None:
                changed[part] = self.of(getattr(told, part))
        if getattr(told, "findings", None):
            changed["findings"] = tuple(self.of(finding) for finding in told.findings)
        return cast(T, replace(told, **changed)) if changed else found


def is_stream(source: str | os.PathLike[str]) -> bool:
    """Whether a source can be read only once: ``-``, a FIFO, ``<(command)``."""
    text = os.fspath(source)
    if text in ("-", STANDARD_INPUT):
        return text == "-" or not Path(text).is_file()
    try:
        mode = os.stat(text).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@contextmanager
def received(source: str | os.PathLike[str]) -> Iterator[Incoming]:
    """The source as something that can be read as often as need be.

    Raises
    ------
    UnreadableSource
        A stream or an archive that is damaged, or holds more than is taken.
    UsageError
        Standard input is a terminal.
    """
    with tempfile.TemporaryDirectory(prefix="entlaw-") if _is_copied(source) else nullcontext("") as folder:
        kept = _copied(source, folder) if is_stream(source) else Incoming(source)
        try:
            unpack = _archive(kept.source)
            if unpack is not None:
                kept = _unpacked(kept, folder, unpack)
            yield kept
        except EntlawError as error:
            kept.of(error)
            raise


class Reception(ExitStack):
    """Sources taken in one after another, whose copies are there until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: list[Incoming] = []

    def take(self, source: str | os.PathLike[str]) -> str | os.PathLike[str]:
        """Where the source is to be read; raises what :func:`received` does."""
        self._taken.append(self.enter_context(received(source)))
        return self._taken[-1].source

    def of(self, found: T) -> T:
        """What was found, with the labels of all sources in place of their copies' paths."""
        for incoming in self._taken:
            found = incoming.of(found)
        return found


def _place(folder: str, path: Path) -> Path:
    """A place below the private folder that gives a run the name it would have beside the original."""
    return Path(folder, "copy", *path.absolute().parts[1:][-3:-1])


def _is_copied(source: str | os.PathLike[str]) -> bool:
    return is_stream(source) or _archive(source) is not None


# Streams ----------------------------------------------------------------------------------------

_standard: dict[int, tuple[Any, Incoming]] = {}


def _copied(source: str | os.PathLike[str], folder: str) -> Incoming:
    """A copy of a stream; standard input is read once in a process, and its copy is kept until it ends."""
    text = os.fspath(source)
    if text not in ("-", STANDARD_INPUT):
        name = Path(text).name
        path = _place(folder, Path(text)) / (f"stream-{name}" if name.isdigit() else name)  # /dev/fd/63
        path.parent.mkdir(parents=True)
        with _named(text) as stream, path.open("wb") as out:
            _copy(stream, out, MOST_BYTES, text)
        return Incoming(path, str(path), text)
    if id(sys.stdin) not in _standard:
        place = tempfile.mkdtemp(prefix="entlaw-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        path = Path(place) / "stdin"
        with path.open("wb") as out:
            _copy(_stdin(), out, MOST_BYTES, "stdin")
        _standard[id(sys.stdin)] = (sys.stdin, Incoming(path, str(path), "stdin"))
    return _standard[id(sys.stdin)][1]


@contextmanager
def _named(source: str) -> Iterator[BinaryIO]:
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UnreadableSource(
            f"cannot open: {error.strerror}", where=source, hint="check that something writes to it"
        ) from error
    with stream:
        yield stream


def _stdin() -> Any:
    """Standard input as bytes."""
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("there is no standard input", where="stdin", hint="name the file of the log")
    if sys.stdin.isatty():
        raise UsageError(
            "standard input is a terminal",
            where="stdin",
            hint="pipe a log into it: zcat run.log.gz | entlaw fit -",
        )
    return getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())


def _copy(stream: Any, out: BinaryIO, limit: int, where: str) -> int:
    """Copy a stream of at most `limit` bytes; returns their number."""
    total = 0
    try:
        while data := stream.read(_BLOCK):
            total += len(data)
            if total > limit:
                raise UnreadableSource(
                    f"more than {limit:,} bytes, the most that is taken from it",
                    where=where,
                    hint="write the log to a plain file, and read that",
                )
            out.write(data)
    except OSError as error:
        raise UnreadableSource(
            f"cannot be copied: {error.strerror or error}",
            where=where,
            why="it is read from a copy in the folder for temporary files",
            hint="make room there, or set TMPDIR to a folder with room",
        ) from error
    return total


# Archives ---------------------------------------------------------------------------------------


def _archive(source: str | os.PathLike[str]) -> Callable[[Path, Path], None] | None:
    """What unpacks the source; None when it is no archive."""
    try:
        path = Path(os.fspath(source)).expanduser()
        if not path.is_file():
            return None
        with path.open("rb") as handle:
            start = handle.read(512)
            if start.startswith(_ZIP):
                return _unzip
            packing = packing_of(start)
            if packing is not None and decompressor(packing) is not None:
                handle.seek(0)
                stream, start = Unpacked(handle, packing), b""
                while len(start) < 512 and (more := stream.read(512)):
                    start += more
    # ValueError, RuntimeError: no path at all; a home folder that is not known.
    except (OSError, ValueError, RuntimeError, Damaged, CutShort):
        return None
    return _untar if _is_tar(start) else None


def _is_tar(start: bytes) -> bool:
    at, magic = _TAR_MAGIC
    return start[at : at + len(magic)] == magic


def is_archive(start: bytes, unpacked: bytes) -> bool:
    """Whether a file that begins like this holds several files."""
    return start.startswith(_ZIP) or _is_tar(unpacked)


def _unpacked(kept: Incoming, folder: str, unpack: Callable[[Path, Path], None]) -> Incoming:
    """The folder of an archive's files, or its only file; named as it would be beside the archive."""
    path = Path(os.fspath(kept.source)).expanduser()
    stem = path.name
    while Path(stem).suffix.lower() in _SUFFIXES:
        stem = Path(stem).stem
    inside = _place(folder, path) / stem
    inside.mkdir(parents=True)
    unpack(path, inside)
    files = [found for found in inside.rglob("*") if found.is_file()]
    label = kept.name(str(kept.source))
    return Incoming(files[0] if len(files) == 1 else inside, str(inside), label)


def _most(path: Path) -> int:
    """Most bytes that an archive may hold: a hundred times its own, and no less than a log has."""
    return min(MOST_BYTES, _LEAST_BOUND + 100 * path.stat().st_size)


def _unzip(path: Path, folder: Path) -> None:
    with _told_of(path), zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        _check(len(members), path)
        total, most = 0, _most(path)
        for member in members:
            with archive.open(member) as stream:
                total += _put(stream, folder, member.filename, most - total, path)


def _untar(path: Path, folder: Path) -> None:
    with _told_of(path), path.open("rb") as handle:
        packing = packing_of(handle.read(16))
        handle.seek(0)
        stream: Any = handle if packing is None else Exact(Unpacked(handle, packing))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            total, count, most = 0, 0, _most(path)
            for member in archive:
                inside = archive.extractfile(member) if member.isreg() else None
                if inside is not None:
                    count += 1
                    _check(count, path)
                    total += _put(inside, folder, member.name, most - total, path)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except UnreadableSource:
        raise
    # RuntimeError: a password is wanted. NotImplementedError: a method that Python does not know.
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        Damaged,
        CutShort,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        zlib.error,
    ) as error:
        raise UnreadableSource(
            "the archive cannot be unpacked",
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:200],
            hint="copy it again, or unpack it and name the folder",
        ) from error


def _check(count: int, path: Path) -> None:
    if count > MOST_FILES:
        raise UnreadableSource(
            f"an archive of more than {MOST_FILES:,} files",
            where=str(path),
            hint="unpack it, and name the files of the log",
        )


def _put(stream: Any, folder: Path, name: str, limit: int, path: Path) -> int:
    """Write one member below the folder, whatever its name says."""
    parts = [p for p in PurePosixPath(name.replace("\\", "/")).parts if p not in ("/", "..", ".", "")]
    place = folder.joinpath(*(part.replace(":", "_") for part in parts)) if parts else folder / "unnamed"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as out:
        return _copy(stream, out, limit, str(path))
