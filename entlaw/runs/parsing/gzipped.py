"""Compressed logs: inflated as a stream, damaged ones as far as possible, and distinguished from their copies."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO, Literal

from entlaw.findings import Finding

MAGIC = b"\x1f\x8b"
_INPUT_BYTES = 1 << 16
_ISIZE_MODULUS = 1 << 32

Extent = Literal["whole", "more", "damaged"]


class Gunzip:
    """Decompresses a stream; unlike the standard library's file object, it gives what a bad stream holds."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._inflate = zlib.decompressobj(wbits=31)
        self._input = b""
        self._error: zlib.error | None = None

    def read(self, size: int) -> bytes:
        """About `size` bytes, none at the end. Raises zlib.error for damage and EOFError for a cut stream."""
        while True:
            if self._error is not None:
                raise self._error
            if self._inflate.eof and not self._next_member():
                return b""
            if not self._input:
                self._input = self._handle.read(_INPUT_BYTES)
                if not self._input:
                    raise EOFError
            before = self._inflate.copy()
            try:
                data = self._inflate.decompress(self._input, size)
            except zlib.error as error:  # which loses what the same call had inflated already
                self._error = error
                data = _until_error(before, self._input)
            self._input = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if data:
                return data

    def _next_member(self) -> bool:
        """Whether another member follows: concatenated gzip files are one file, and zeros may pad its end."""
        self._input = self._input.lstrip(b"\0")
        while len(self._input) < len(MAGIC):
            more = self._handle.read(_INPUT_BYTES)
            if not more:
                break
            self._input = (self._input + more).lstrip(b"\0")
        if not self._input:
            return False
        if not self._input.startswith(MAGIC):
            raise EOFError  # something else stands behind the data, or what was a member once
        self._inflate = zlib.decompressobj(wbits=31)
        return True


def _until_error(inflate: zlib._Decompress, data: bytes) -> bytes:
    out = []
    try:
        for i in range(len(data)):
            out.append(inflate.decompress(data[i : i + 1]))  # noqa: PERF401 - kept when a later byte fails
    except zlib.error:
        pass
    return b"".join(out)


def inflated_start(start: bytes, size: int, limit: int) -> tuple[bytes, Extent]:
    """The first bytes of what a compressed file holds, and whether that is all of it.

    Parameters
    ----------
    start : bytes
        The beginning of the file.
    size : int
        Of the file, in bytes.
    limit : int
        Most bytes to return.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        data = inflate.decompress(start, limit)
    except zlib.error:
        return _until_error(zlib.decompressobj(wbits=31), start)[:limit], "damaged"
    whole = inflate.eof and not inflate.unused_data and size <= len(start)
    return data, "whole" if whole else "more"


def copy_beside(path: Path) -> list[Finding]:
    """A finding if the same log is beside the file, compressed or not: only one of them is read."""
    packed = path.suffix == ".gz"
    other = path.with_suffix("") if packed else path.with_name(path.name + ".gz")
    try:
        with (path if packed else other).open("rb") as handle:
            if handle.read(len(MAGIC)) != MAGIC:
                return []
            handle.seek(-4, 2)
            inside = int.from_bytes(handle.read(4), "little")
        plain = (other if packed else path).stat().st_size
    except OSError:  # there is none, as a rule
        return []
    if plain == 0:
        return []
    if inside == plain % _ISIZE_MODULUS:
        return [
            Finding(
                "compressed-copy",
                "info",
                f"{other.name} is beside it and was not read: {'the same log' if packed else 'a copy'}",
                "one run must not be counted twice",
            )
        ]
    return [
        Finding(
            "compressed-copy",
            "warning",
            f"{other.name} is beside it and was not read; its length differs",
            "one of the two is not the whole log",
            f"compare them; name {other} to read that one",
        )
    ]
