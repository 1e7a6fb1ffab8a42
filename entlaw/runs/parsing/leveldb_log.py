"""The LevelDB log container: blocks of 32 KiB, chunks with a checksum, records that span blocks.

A chunk is a 7-byte header (checksum u32, length u16, type u8: 1 full, 2 first, 3 middle, 4 last; little
endian) and its data; a chunk never crosses a block, and a block's last bytes are zero where no header fits.
W&B checks type byte and data with plain CRC-32 (zlib's) and puts a 7-byte file header into the first block.

Damage is confined: a chunk that fails its checksum costs the rest of its block, because its length cannot be
trusted to find the next one; reading goes on at the next block.

Reference: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO
from zlib import crc32

BLOCK = 32768
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Blocks read at once: enough records to decode side by side, little enough to stay in the cache.
_BLOCKS_PER_BATCH = 128


class LogReader:
    """Reads the records of a log, batch after batch, and remembers what was damaged.

    A batch is some whole records back to back, and the size of each in bytes.

    Parameters
    ----------
    handle : binary file
        Positioned at its beginning.
    header_size : int
        Bytes of file header inside the first block.

    Attributes
    ----------
    n_records : int
        Whole records read so far.
    n_bytes : int
        Bytes read so far.
    damaged : int
        Chunks with a wrong checksum, type or length. Each costs the rest of its block.
    lost : int
        Records that span blocks and miss their beginning or their end.
    tail_bytes : int
        Bytes at the end that are an incomplete record: the writer was, or is, in the middle of it.
    """

    def __init__(self, handle: BinaryIO, header_size: int = 0) -> None:
        self._handle = handle
        self._skip = header_size
        self._parts: list[memoryview] = []  # of a record that began and has not ended
        self.n_records = self.n_bytes = self.damaged = self.lost = self.tail_bytes = 0

    def __iter__(self) -> Iterator[tuple[bytes, list[int]]]:
        data = self._handle.read(BLOCK * _BLOCKS_PER_BATCH)
        while data:
            following = self._handle.read(BLOCK * _BLOCKS_PER_BATCH)
            yield self._batch(data, last=not following)
            data = following
        if self._parts:
            self.tail_bytes += sum(len(part) for part in self._parts)
            self._parts = []

    def _batch(self, data: bytes, last: bool) -> tuple[bytes, list[int]]:
        view = memoryview(data)
        pieces: list[memoryview] = []
        sizes: list[int] = []
        size, unpack, parts = len(data), _HEADER.unpack_from, self._parts
        for block in range(0, size, BLOCK):
            end = min(block + BLOCK, size)
            pos = block + (self._skip if self.n_bytes == 0 and block == 0 else 0)
            while end - pos >= 7:
                check, length, kind = unpack(data, pos)
                stop = pos + 7 + length
                if stop > end or not _FULL <= kind <= _LAST or crc32(view[pos + 6 : stop]) != check:
                    if last and end < stop <= block + BLOCK and _FULL <= kind <= _LAST:
                        self.tail_bytes += end - pos  # the file ends inside this chunk
                    else:
                        self.damaged += 1
                        parts.clear()
                    break
                if kind == _FULL:
                    self._drop()
                    pieces.append(view[pos + 7 : stop])
                    sizes.append(length)
                elif kind == _FIRST:
                    self._drop()
                    parts.append(view[pos + 7 : stop])
                elif not parts:  # its beginning was in a damaged block
                    self.damaged += self.damaged == 0
                    self.lost += kind == _LAST
                else:
                    parts.append(view[pos + 7 : stop])
                    if kind == _LAST:
                        pieces += parts
                        sizes.append(sum(len(part) for part in parts))
                        parts.clear()
                pos = stop
            else:
                if end - block < BLOCK:
                    self.tail_bytes += end - pos  # less than a header, and not at the end of a full block
        self.n_bytes += size
        self.n_records += len(sizes)
        return b"".join(pieces), sizes

    def _drop(self) -> None:
        """Give up a record whose end never came: the writer died inside it, and another went on."""
        if self._parts:
            self.lost += 1
            self._parts.clear()
