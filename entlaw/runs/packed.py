"""Compressed files: known by their magic number, decompressed as a stream, damaged ones as far as possible.

:class:`Unpacked` is the one place where decompressed bytes come from.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

_INPUT_BYTES = 1 << 16

Extent = Literal["whole", "more", "damaged"]


class Damaged(Exception):
    """The stream is damaged; ``before`` is what the same call had decompressed already."""

    def __init__(self, before: bytes = b"") -> None:
        super().__init__("damaged")
        self.before = before


class CutShort(Exception):
    """The stream ends early, or something else follows it."""


class Decompressor(Protocol):
    """What :mod:`bz2`, :mod:`lzma` and ``compression.zstd`` offer, and the classes here for the others."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is wanted before there is more output."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most so many bytes; input that is not used is kept."""


class _Gzip:
    """zlib's decompressor with the manners of the others, which gives what stands before the damage."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        data, before = self._waiting + data, self._inflate.copy()
        try:
            out = self._inflate.decompress(data, max_length)
        except zlib.error as error:  # which loses what the same call had inflated already
            raise Damaged(_until_error(before, data)) from error
        self._waiting = b"" if self._inflate.eof else self._inflate.unconsumed_tail
        return out


def _until_error(inflate: zlib._Decompress, data: bytes) -> bytes:
    out = []
    try:
        for i in range(len(data)):
            out.append(inflate.decompress(data[i : i + 1]))  # noqa: PERF401 - kept when a later byte fails
    except zlib.error:
        pass
    return b"".join(out)


class _Zstandard:
    """The ``zstandard`` package with the manners of the others; a few bytes at a time, as it knows no limit."""

    _STEP = 1 << 10  # a block of 128 KiB may come from a few bytes

    def __init__(self) -> None:
        self._zstandard: Any = importlib.import_module("zstandard")
        self._inflate: Any = self._zstandard.ZstdDecompressor().decompressobj()
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def unused_data(self) -> bytes:
        return cast(bytes, self._inflate.unused_data) + self._waiting

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        waiting, out = self._waiting + data, b""
        while waiting and not out and not self.eof:
            part, waiting = waiting[: self._STEP], waiting[self._STEP :]
            try:
                out = self._inflate.decompress(part)
            except self._zstandard.ZstdError as error:
                raise Damaged from error
        self._waiting = waiting
        return out


def _zstd() -> Decompressor:
    """Python's own decompressor (3.14), else that of the package.

    Raises
    ------
    ImportError
        Neither is there.
    """
    try:
        return cast(Decompressor, importlib.import_module("compression.zstd").ZstdDecompressor())
    except ImportError:
        return _Zstandard()


def _errors() -> tuple[type[Exception], ...]:
    """What the decompressors raise for damage."""
    found = sys.modules.get("compression.zstd")
    of_zstd = () if found is None else (found.ZstdError,)
    return (OSError, EOFError, ValueError, lzma.LZMAError, *of_zstd)


@dataclass(frozen=True)
class Packing:
    """One way to compress.

    Attributes
    ----------
    name : str
    magic : bytes
        What such a file begins with.
    suffix : str
    make : callable or None
        A new decompressor; raises ImportError where it needs a package that is not there. None: not read.
    hint : str
        What to do where it is not read.
    """

    name: str
    magic: bytes
    suffix: str
    make: Callable[[], Decompressor] | None
    hint: str = ""


PACKINGS = (
    Packing("gzip", b"\x1f\x8b", ".gz", _Gzip),
    Packing("bzip2", b"BZh", ".bz2", bz2.BZ2Decompressor),
    Packing("xz", b"\xfd7zXZ\0", ".xz", lzma.LZMADecompressor),
    Packing(
        "zstd",
        b"\x28\xb5\x2f\xfd",
        ".zst",
        _zstd,
        "pip install zstandard (Python 3.14 reads it without), or decompress it first: zstd -d",
    ),
    Packing("lz4", b"\x04\x22\x4d\x18", ".lz4", None, "decompress it first: lz4 -d"),
    Packing("lzip", b"LZIP", ".lz", None, "decompress it first: lzip -d"),
    Packing("compress", b"\x1f\x9d", ".Z", None, "decompress it first: uncompress"),
    Packing("7-Zip", b"7z\xbc\xaf\x27\x1c", ".7z", None, "unpack it first: 7z x"),
    Packing("RAR", b"Rar!\x1a\x07", ".rar", None, "unpack it first: unrar x"),
)
SUFFIXES = tuple(packing.suffix for packing in PACKINGS)


def packing_of(start: bytes) -> Packing | None:
    """How a file that begins like this is compressed; None for a plain one."""
    return next((packing for packing in PACKINGS if start.startswith(packing.magic)), None)


def decompressor(packing: Packing) -> Decompressor | None:
    """A new decompressor; None where this one is not read here."""
    try:
        return packing.make() if packing.make is not None else None
    except ImportError:
        return None


class Unpacked:
    """Decompresses a stream; unlike the standard library's file objects, it gives what a bad stream holds.

    Parameters
    ----------
    handle : binary file
        At its beginning.
    packing : Packing
        One that :func:`decompressor` knows.
    """

    def __init__(self, handle: BinaryIO, packing: Packing) -> None:
        self._handle, self._packing = handle, packing
        self._inflate = self._new()
        self._error: Exception | None = None

    def _new(self) -> Decompressor:
        made = decompressor(self._packing)
        if made is None:
            raise ImportError(self._packing.name)
        return made

    def read(self, size: int) -> bytes:
        """About `size` bytes, none at the end. Raises Damaged, and CutShort for a stream that ends early."""
        while True:
            if self._error is not None:
                raise self._error
            data = b""
            if self._inflate.eof:
                data = self._next_member()
                if not data:
                    return b""
            elif self._inflate.needs_input and not (data := self._handle.read(_INPUT_BYTES)):
                raise CutShort
            try:
                out = self._inflate.decompress(data, size)
            except Damaged as error:
                self._error, out = error, error.before
            except _errors() as error:
                self._error, out = Damaged(), b""
                self._error.__cause__ = error
            if out:
                return out

    def _next_member(self) -> bytes:
        """What another member begins with, none at the end.

        Concatenated files are one file, and zeros may pad its end.
        """
        rest = self._inflate.unused_data.lstrip(b"\0")
        while len(rest) < len(self._packing.magic):
            more = self._handle.read(_INPUT_BYTES)
            if not more:
                break
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return b""
        if not rest.startswith(self._packing.magic):
            raise CutShort  # something else stands behind the data, or what was a member once
        self._inflate = self._new()
        return rest


class Exact:
    """A stream that gives exactly as many bytes as are asked for, as tarfile wants it."""

    def __init__(self, stream: Unpacked) -> None:
        self._stream, self._held = stream, b""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        while len(self._held) < size and (more := self._stream.read(_INPUT_BYTES)):
            self._held += more
        out, self._held = self._held[:size], self._held[size:]
        return out


class _Continued:
    """A file whose beginning is at hand: the rest is read when it is asked for, if it can be."""

    def __init__(self, start: bytes, path: Path, size: int) -> None:
        self._start, self._path, self._more = io.BytesIO(start), path, size > len(start)
        self._at = len(start)

    def read(self, size: int) -> bytes:
        data = self._start.read(size)
        if data or not self._more:
            return data
        try:
            with self._path.open("rb") as handle:
                handle.seek(self._at)
                data = handle.read(size)
        except OSError:
            return b""
        self._at += len(data)
        return data


def unpacked_start(start: bytes, path: Path, size: int, limit: int) -> tuple[bytes, Extent]:
    """The first bytes of what a file holds, decompressed if need be, and whether that is all of it.

    Parameters
    ----------
    start : bytes
        The beginning of the file.
    path : pathlib.Path
        The file: some ways of compressing give nothing before much of it was read.
    size : int
        Of the file, in bytes.
    limit : int
        Most bytes to return.
    """
    packing = packing_of(start)
    if packing is None:
        return start[:limit], "whole" if size <= len(start) else "more"
    if decompressor(packing) is None:
        return b"", "damaged"
    stream: Any = Unpacked(cast(BinaryIO, _Continued(start, path, size)), packing)
    out = b""
    try:
        while len(out) < limit:
            data = stream.read(limit - len(out))
            if not data:
                return out, "whole"
            out += data
    except CutShort:
        return out, "more"
    except Damaged:
        return out[:limit], "damaged"
    return out[:limit], "more"
