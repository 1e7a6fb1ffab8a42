"""The TFRecord container of TensorBoard event files: length, checksum, data, checksum.

Each record is a u64 length, the masked CRC-32C of those eight bytes, the data, and the masked CRC-32C of the
data. CRC-32C is not zlib's CRC-32, and one byte after another in Python takes longer than all the rest (a plain
loop over records, checksums included, took 2.6 times as long at 500 to 10,000 steps of 20 to 100 tags): here the
checksums of many records are computed side by side, one byte *position* at a time. Few lengths occur in a log, so a
header is checked once for each of them.

References: https://www.tensorflow.org/tutorials/load_data/tfrecord (format and mask); RFC 3720, appendix B.4
(CRC-32C, reflected polynomial 0x82F63B78).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import BinaryIO

import numpy as np

_POLYNOMIAL = 0x82F63B78
_HEADER = struct.Struct("<QI")
HEADER = _HEADER.size
_PIECE = 1 << 22  # bytes read at once
_LONG = 2048  # records longer than this are cut into segments for the checksum


@cache
def _table() -> np.ndarray:
    """CRC-32C of each byte value, shape (256,)."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1).astype(np.uint32)
    return crc


@cache
def _byte_table() -> tuple[int, ...]:
    return tuple(_table().tolist())


@cache
def _shift_table() -> tuple[tuple[int, ...], ...]:
    """What ``_LONG`` zero bytes do to each byte of a checksum: four tables of 256, since it is linear."""
    crc = (np.arange(256, dtype=np.uint32)[None, :] << (8 * np.arange(4, dtype=np.uint32))[:, None]).ravel()
    for _ in range(_LONG):
        crc = _table()[crc & 0xFF] ^ (crc >> 8)
    return tuple(tuple(row) for row in crc.reshape(4, 256).tolist())


def crc32c(data: bytes) -> int:
    """CRC-32C of a few bytes."""
    table = _byte_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _advance(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray, start: int) -> np.ndarray:
    """The checksum register after the bytes of each range, side by side."""
    table = _table()
    size = hi - lo
    order = np.argsort(-size, kind="stable")  # longest first: those still running are a leading slice
    at, length = lo[order], size[order]
    crc = np.full(len(lo), start, dtype=np.uint32)
    running = np.searchsorted(-length, -np.arange(int(length[0]) if len(length) else 0), side="left")
    for k, m in enumerate(running.tolist()):
        crc[:m] = table[(crc[:m] ^ buf[at[:m] + k]) & 0xFF] ^ (crc[:m] >> 8)
    out = np.empty_like(crc)
    out[order] = crc
    return out


def crc32c_many(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """CRC-32C of many byte ranges.

    Parameters
    ----------
    buf : ndarray of uint8
    lo, hi : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of uint32, shape (n,)
    """
    out = np.empty(len(lo), dtype=np.uint32)
    long = hi - lo > _LONG
    short = ~long
    out[short] = _advance(buf, lo[short], hi[short], 0xFFFFFFFF)
    if long.any():
        out[long] = _long_checksums(buf, lo[long], hi[long])
    return out ^ np.uint32(0xFFFFFFFF)


def _long_checksums(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> list[int]:
    """The checksum register after each range, those of all ranges side by side.

    A first piece leaves whole segments; the register then runs over segment after segment, which is linear: shifted
    by a segment's length, plus the segment's own checksum from a zero register.
    """
    first = lo + (hi - lo) % _LONG
    heads = _advance(buf, lo, first, 0xFFFFFFFF).tolist()
    starts = np.concatenate(
        [np.arange(a, b, _LONG) for a, b in zip(first.tolist(), hi.tolist(), strict=True)]
    )
    own = iter(_advance(buf, starts, starts + _LONG, 0).tolist())
    tables = _shift_table()
    out = []
    for crc, n in zip(heads, ((hi - first) // _LONG).tolist(), strict=True):
        for segment in itertools.islice(own, n):
            crc = (
                tables[0][crc & 0xFF]
                ^ tables[1][crc >> 8 & 0xFF]
                ^ tables[2][crc >> 16 & 0xFF]
                ^ tables[3][crc >> 24]
                ^ segment
            )
        out.append(crc)
    return out


def masked(crc: int) -> int:
    """A checksum as the container stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@lru_cache(maxsize=4096)
def header_length(header: bytes) -> int | None:
    """Length of the record behind a header of ``HEADER`` bytes; None if the header fails its checksum."""
    length, check = _HEADER.unpack(header)
    return length if masked(crc32c(header[:8])) == check else None


@dataclass(frozen=True)
class RecordBatch:
    """Whole records with a right checksum: ``data[lo[i]:hi[i]]``."""

    data: bytes
    lo: np.ndarray
    hi: np.ndarray


class RecordReader:
    """Reads the records of a file, batch after batch, and remembers what was damaged.

    A record whose data fail the checksum is left out. A header that fails it hides where the next record
    begins: the reader then looks for the next bytes that are a right header.

    Attributes
    ----------
    n_records, n_bytes : int
    damaged : int
        Headers or data that failed their checksum.
    tail_bytes : int
        Bytes of an incomplete record at the end.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._lost_track = False
        self.n_records = self.n_bytes = self.damaged = self.tail_bytes = 0

    def __iter__(self) -> Iterator[RecordBatch]:
        data = b""
        want = _PIECE
        while True:
            piece = self._handle.read(want)
            self.n_bytes += len(piece)
            data += piece
            batch, pos, need = self._batch(data)
            yield batch
            data = data[pos:]
            # A header may name any length: at most as many bytes as are there already are asked for at once.
            want = max(_PIECE, min(need - len(data), len(data)))
            if not piece:
                self.tail_bytes = 0 if self._lost_track else len(data)
                return

    def _batch(self, data: bytes) -> tuple[RecordBatch, int, int]:
        """Records of ``data``, where the first unread byte is, and how many bytes the next record needs."""
        lo: list[int] = []
        hi: list[int] = []
        pos, need, size = 0, HEADER, len(data)
        while size - pos >= HEADER:
            if self._lost_track:
                pos = _next_header(data, pos)
                if size - pos < HEADER:
                    break
                self._lost_track = False
            length = header_length(data[pos : pos + HEADER])
            if length is None:
                self.damaged += 1
                self._lost_track = True
                pos += 1
                continue
            stop = pos + HEADER + length + 4
            if stop > size:
                need = stop - pos
                break
            lo.append(pos + HEADER)
            hi.append(stop - 4)
            pos = stop
        starts, stops = np.array(lo, dtype=np.int64), np.array(hi, dtype=np.int64)
        buf = np.frombuffer(data, dtype=np.uint8)
        stored = buf[stops[:, None] + np.arange(4)].view("<u4").ravel() if len(lo) else np.empty(0, np.uint32)
        crc = crc32c_many(buf, starts, stops).astype(np.uint64)
        good = ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF) == stored
        self.damaged += int((~good).sum())
        self.n_records += int(good.sum())
        return RecordBatch(data, starts[good], stops[good]), pos, need


def _next_header(data: bytes, pos: int) -> int:
    """First position from ``pos`` on that holds a right header; else the first that could not be judged."""
    last = len(data) - HEADER
    # No record reaches 4 GiB, so a header has four zero bytes in a row: few places to check.
    at = data.find(bytes(4), pos + 4) - 4
    while 0 <= at <= last:
        if header_length(data[at : at + HEADER]) is not None:
            return at
        at = data.find(bytes(4), at + 5) - 4
    return last + 1
