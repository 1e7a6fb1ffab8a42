"""The protobuf wire format, without schemas: one message at a time, or thousands side by side.

A message is a sequence of (tag, value): the tag is a varint ``number << 3 | wire type``; wire type 0 is a
varint, 1 eight bytes, 5 four bytes, 2 a length and that many bytes. Where one field ends is only known once
its length is read, so a single message cannot be decoded in parallel; many messages can, one field of each at
a time. That is what :func:`walk` does, and why reading a log costs numpy calls per *field position*
instead of Python objects per *value*.

Reference: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PADDING = 16  # zero bytes that must follow the last message, so that no gather runs off the buffer
_MAX_VARINT = 10  # bytes in a 64-bit varint
_MAX_NUMBER = (1 << 29) - 1  # of a field
# Side by side pays for many messages: so few, each with so many fields, are finished one by one.
_FEW_MESSAGES, _MANY_FIELDS = 16, 256


class ProtobufError(ValueError):
    """Bytes that are not a protobuf message."""


def padded(data: bytes | bytearray | memoryview) -> np.ndarray:
    """A uint8 copy of ``data`` followed by ``PADDING`` zeros, as :func:`walk` needs it."""
    out = np.zeros(len(data) + PADDING, dtype=np.uint8)
    out[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    return out


def read_varint(data: bytes, pos: int) -> tuple[int, int]:
    """Decode one unsigned varint.

    Returns
    -------
    value, next_pos : int

    Raises
    ------
    ProtobufError
    """
    value = shift = 0
    while shift < 7 * _MAX_VARINT:
        if pos >= len(data):
            raise ProtobufError("varint runs off the end")
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, pos
        shift += 7
    raise ProtobufError("varint longer than 10 bytes")


def signed(value: int) -> int:
    """A 64-bit varint as int32/int64 fields mean it (two's complement)."""
    return value - (1 << 64) if value >> 63 else value


def zigzag(value: int) -> int:
    """A 64-bit varint as sint32/sint64 fields mean it."""
    return (value >> 1) ^ -(value & 1)


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Decode one message.

    Yields
    ------
    number, wire, value
        ``value`` is an int for wire type 0, the raw bytes for 1, 2 and 5.

    Raises
    ------
    ProtobufError
    """
    for number, wire, lo, hi in _spans(data):
        yield number, wire, data[lo:hi] if wire else read_varint(data, lo)[0]


def _spans(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number and wire type of each field of a message, and where its value begins and ends."""
    pos, end = 0, len(data)
    while pos < end:
        tag, pos = read_varint(data, pos)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= _MAX_NUMBER:
            raise ProtobufError(f"field number {number}")
        if wire == 0:
            stop = read_varint(data, pos)[1]
        elif wire == 2:
            size, pos = read_varint(data, pos)
            stop = pos + size
        elif wire in (1, 5):
            stop = pos + (8 if wire == 1 else 4)
        else:
            raise ProtobufError(f"wire type {wire}")
        if stop > end:
            raise ProtobufError("field runs off the end")
        yield number, wire, pos, stop
        pos = stop


@dataclass(frozen=True)
class Fields:
    """Fields of many messages, those of one message in order, messages in order.

    Attributes
    ----------
    message : ndarray of int64, shape (m,)
        Which message each field belongs to.
    number, wire : ndarray of int64, shape (m,)
    lo, hi : ndarray of int64, shape (m,)
        Byte range of the value in the buffer (of the varint itself for wire type 0).
    bad : ndarray of bool, shape (n,)
        Messages that are not protobuf; their fields, if any, must not be used.
    """

    message: np.ndarray
    number: np.ndarray
    wire: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    bad: np.ndarray

    def pick(self, number: int, wire: int = 2) -> np.ndarray:
        """Indices of the fields of one number and wire type in sound messages."""
        return np.flatnonzero((self.number == number) & (self.wire == wire) & ~self.bad[self.message])


def read_varints(buf: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decode a varint at each position.

    Parameters
    ----------
    buf : ndarray of uint8
        As from :func:`padded`.
    pos : ndarray of int64, shape (n,)

    Returns
    -------
    value : ndarray of int64, shape (n,)
        Modulo 2^64, as int64 fields mean it.
    end : ndarray of int64, shape (n,)
        Position after the varint; -1 where it is longer than ten bytes.
    """
    first = buf[pos]
    value = first.astype(np.int64)
    end = pos + 1
    more = np.flatnonzero(first >= 0x80)
    if len(more) == 0:
        return value, end
    total = value[more] & 0x7F
    at = pos[more]
    last_index = len(buf) - 1
    open_ = np.ones(len(more), dtype=bool)
    for k in range(1, _MAX_VARINT):
        byte = buf[np.minimum(at + k, last_index)].astype(np.int64)
        total[open_] |= (byte[open_] & 0x7F) << (7 * k)
        ends = open_ & (byte < 0x80)
        end[more[ends]] = at[ends] + k + 1
        open_ &= ~ends
        if not open_.any():
            break
    end[more[open_]] = -1
    value[more] = total
    return value, end


def walk(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> Fields:
    """Decode the fields of many messages side by side.

    Parameters
    ----------
    buf : ndarray of uint8
        As from :func:`padded`.
    lo, hi : ndarray of int64, shape (n,)
        Byte range of each message.

    Returns
    -------
    Fields
    """
    n = len(lo)
    bad = np.zeros(n, dtype=bool)
    count = np.zeros(n, dtype=np.int64)
    live = np.flatnonzero(lo < hi)
    pos = lo[live]
    rounds: list[tuple[np.ndarray, ...]] = []
    while len(live):
        if len(rounds) >= _MANY_FIELDS and len(live) <= _FEW_MESSAGES:
            for one, at in zip(live.tolist(), pos.tolist(), strict=True):
                rounds.append(_finish(buf, one, at, int(hi[one]), int(count[one]), bad))
                count[one] += len(rounds[-1][0])
            break
        tag, p = read_varints(buf, pos)
        wire = tag & 7
        stop = hi[live]
        if (wire == 2).all():
            size, start = read_varints(buf, np.minimum(np.maximum(p, 0), stop))
            wrong = (p < 0) | (start < 0) | (size < 0)
            end = start + size
        else:
            start, end, wrong = _ends(buf, p, wire, stop)
        wrong |= (end > stop) | (end < start) | (tag >> 3 <= 0) | (tag >> 3 > _MAX_NUMBER)
        if wrong.any():
            bad[live[wrong]] = True
            ok = ~wrong
            live, tag, wire, start, end, stop = live[ok], tag[ok], wire[ok], start[ok], end[ok], stop[ok]
        rounds.append((live, count[live], tag >> 3, wire, start, end))
        count[live] += 1
        on = end < stop
        live, pos = live[on], end[on]
    base = np.cumsum(count) - count
    total = int(count.sum())
    out = [np.empty(total, dtype=np.int64) for _ in range(5)]
    for message, k, *columns in rounds:  # most hold the k-th field of each message: put it in its place
        at = base[message] + k
        for target, column in zip(out, (message, *columns), strict=True):
            target[at] = column
    message_, number, wire_, start_, end_ = out
    return Fields(message_, number, wire_, start_, end_, bad)


def _finish(
    buf: np.ndarray, message: int, lo: int, hi: int, k: int, bad: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The other fields of one message, its `k`-th one first; marks it as bad where it is."""
    found: list[tuple[int, int, int, int]] = []
    try:
        for span in _spans(buf[lo:hi].tobytes()):
            found.append(span)  # noqa: PERF402 - what came before an error is kept
    except ProtobufError:
        bad[message] = True
    number, wire, start, end = np.array(found, dtype=np.int64).reshape(-1, 4).T
    order = np.arange(k, k + len(found))
    return np.full(len(found), message), order, number, wire, start + lo, end + lo


def _ends(
    buf: np.ndarray, p: np.ndarray, wire: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and wrongness of values of mixed wire types."""
    wrong = p < 0
    safe = np.minimum(np.maximum(p, 0), stop)
    number, after = read_varints(buf, safe)  # the length of wire type 2, the value of wire type 0
    is_bytes, is_varint = wire == 2, wire == 0
    wrong |= (is_bytes | is_varint) & (after < 0)
    wrong |= is_bytes & ((number < 0) | (number > len(buf)))
    wrong |= ~(is_bytes | is_varint | (wire == 1) | (wire == 5))
    start = np.where(is_bytes, after, safe)
    size = np.select([is_bytes, wire == 1, wire == 5], [number, 8, 4], 0)
    end = np.where(is_varint, after, start + size)
    return start, end, wrong


def gather(buf: np.ndarray, lo: np.ndarray, dtype: str) -> np.ndarray:
    """Fixed-width little-endian values at the given positions, e.g. ``"<f8"``."""
    width = np.dtype(dtype).itemsize
    return buf[lo[:, None] + np.arange(width)].view(dtype).ravel()


def slices(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> pa.Array:
    """Byte ranges of a buffer as an Arrow binary array, to tell equal ones apart or to parse them at once.

    Parameters
    ----------
    buf : ndarray of uint8
    lo, hi : ndarray of int64, shape (n,)
        Increasing and not overlapping.
    """
    bounds = np.empty(2 * len(lo) + 1, dtype=np.int64)  # range, gap, range, gap ...
    bounds[0:-1:2], bounds[1::2], bounds[-1] = lo, hi, hi[-1] if len(hi) else 0
    ranges = pa.Array.from_buffers(
        pa.large_binary(), 2 * len(lo), [None, pa.py_buffer(bounds), pa.py_buffer(buf)]
    )
    return ranges.take(pa.array(np.arange(0, 2 * len(lo), 2)))
