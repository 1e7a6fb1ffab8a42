"""Values between two processes that do not trust each other: plain data by value, anything else by a number.

Pickle would let the sender run code in the receiver, and JSON loses tuples, sets, big integers and NaN. A decoder
meets hostile bytes: it builds values of exact built-in types only, whatever class the sender's value had.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

LONGEST = 1 << 24
DEEPEST = 150

Refer = Callable[[Any], bytes]
Resolve = Callable[[bytes], Any]


class WireError(Exception):
    """Bytes that are no message, or a value that cannot be one."""


def encode(value: Any, refer: Refer, depth: int = 0) -> bytes:
    """``value`` as bytes.

    Parameters
    ----------
    value : object
        None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, deque,
        Fraction, Decimal (subclasses lose their class); others go to ``refer``.
    refer : callable
        Gives the bytes that stand for an object that is no plain data.
    depth : int
        How deep ``value`` is inside another.

    Raises
    ------
    WireError
        Nested too deeply (cycles too), or too long.
    """
    if depth > DEEPEST:
        raise WireError("a value is nested too deeply, or contains itself")
    if value is None:
        return _part(b"N")
    if value is True or value is False:
        return _part(b"T" if value else b"F")
    for tag, kind, pack in ATOMS:
        if isinstance(value, kind):
            return _part(tag, pack(value))
    for tag, kind in SEQUENCES:
        if isinstance(value, kind):
            return _part(tag, b"".join(encode(each, refer, depth + 1) for each in kind.__iter__(value)))
    if isinstance(value, dict):
        pairs = [encode(each, refer, depth + 1) for pair in dict.items(value) for each in pair]
        return _part(b"d", b"".join(pairs))
    return _part(b"R", refer(value))


def _part(tag: bytes, body: bytes = b"") -> bytes:
    if len(body) > LONGEST:
        raise WireError("a value is too long")
    return tag + struct.pack("<I", len(body)) + body


def _int(value: int) -> bytes:
    plain = int.__index__(value)
    return int.to_bytes(plain, (int.bit_length(plain) + 8) // 8, "little", signed=True)


def _range(value: range) -> bytes:
    return b"".join(_part(b"i", _int(each)) for each in (value.start, value.stop, value.step))


def _fraction(value: Fraction) -> bytes:
    return b"".join(_part(b"i", _int(each)) for each in (value.numerator, value.denominator))


# bool before int is settled above; str and bytes before the sequences.
ATOMS: tuple[tuple[bytes, type, Callable[[Any], bytes]], ...] = (
    (b"i", int, _int),
    (b"f", float, lambda v: struct.pack("<d", float.__float__(v))),
    (b"c", complex, lambda v: struct.pack("<dd", v.real, v.imag)),
    (b"s", str, lambda v: str.encode(v, "utf-8", "surrogatepass")),
    (b"b", bytes, lambda v: bytes.__getitem__(v, slice(None))),
    (b"y", bytearray, lambda v: bytes(v)),
    (b"r", range, _range),
    (b"q", Fraction, _fraction),
    (b"D", Decimal, lambda v: Decimal.__str__(v).encode()),
)
SEQUENCES: tuple[tuple[bytes, Any], ...] = (
    (b"l", list),
    (b"t", tuple),
    (b"e", set),
    (b"z", frozenset),
    (b"k", deque),
)
BUILDERS: dict[bytes, Callable[[list[Any]], Any]] = {
    b"l": list,
    b"t": tuple,
    b"e": set,
    b"z": frozenset,
    b"k": deque,
    b"r": lambda parts: range(*parts),
    b"q": lambda parts: Fraction(*parts),
    b"d": lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
}


def decode(data: bytes, resolve: Resolve) -> Any:
    """The value that ``data`` stands for; ``resolve`` turns a reference's bytes into an object.

    Raises
    ------
    WireError
        The bytes are no value.
    """
    try:
        values = _decode_all(data, resolve, 0)
        (value,) = values
    except WireError:
        raise
    except Exception as error:  # hostile bytes fail in many ways; all of them mean the same
        raise WireError(f"no value: {type(error).__name__}") from error
    return value


def _decode_all(data: bytes, resolve: Resolve, depth: int) -> list[Any]:
    if depth > DEEPEST + 1:
        raise WireError("nested too deeply")
    values = []
    at = 0
    while at < len(data):
        tag = data[at : at + 1]
        (length,) = struct.unpack_from("<I", data, at + 1)
        body = data[at + 5 : at + 5 + length]
        if len(body) != length:
            raise WireError("cut short")
        values.append(_decode_one(tag, body, resolve, depth))
        at += 5 + length
    return values


def _decode_one(tag: bytes, body: bytes, resolve: Resolve, depth: int) -> Any:
    simple: dict[bytes, Callable[[], Any]] = {
        b"N": lambda: None,
        b"T": lambda: True,
        b"F": lambda: False,
        b"i": lambda: int.from_bytes(body, "little", signed=True),
        b"f": lambda: struct.unpack("<d", body)[0],
        b"c": lambda: complex(*struct.unpack("<dd", body)),
        b"s": lambda: body.decode("utf-8", "surrogatepass"),
        b"b": lambda: body,
        b"y": lambda: bytearray(body),
        b"D": lambda: Decimal(body.decode("ascii")),
        b"R": lambda: resolve(body),
    }
    if tag in simple:
        return simple[tag]()
    return BUILDERS[tag](_decode_all(body, resolve, depth + 1))


class Pipe:
    """Messages over two file descriptors."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, data: bytes) -> None:
        """One message; :class:`WireError` if the other side is gone."""
        if len(data) > LONGEST:
            raise WireError("a message is too long")
        view = memoryview(struct.pack("<I", len(data)) + data)
        try:
            while view:
                view = view[os.write(self.outgoing, view) :]
        except OSError as error:
            raise WireError("the other process has ended") from error

    def receive(self) -> bytes:
        """The next message; :class:`WireError` if the other side is gone."""
        (length,) = struct.unpack("<I", self._exactly(4))
        if length > LONGEST:
            raise WireError("a message is too long")
        return self._exactly(length)

    def _exactly(self, n: int) -> bytes:
        parts = []
        while n:
            part = os.read(self.incoming, min(n, 1 << 16))
            if not part:
                raise WireError("the other process has ended")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)
