"""Text in any encoding as UTF-8: known by a byte-order mark or by where its zeros are, decoded as a stream.

:func:`decoded` is the one place where the bytes of a text log become UTF-8; every reader of text works on that.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Protocol

_LOOK_AT = 1 << 12
# Longest first: the mark of UTF-16 is the beginning of that of UTF-32.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile("[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]")
_HOLE_IN_A_WORD = re.compile(rb"(?<=[\w.+-])\0\0+")
_HOLE = re.compile(rb"\0\0+")
_CUT_HERE = "\ufffd\n".encode()  # no reader takes what stands before it for a whole number
# So many bytes without a zero are UTF-8 that another program wrote into UTF-16; the one beside a zero is not of them.
_UTF8 = rb"[\t\n\r\x1b\x20-\x7e\x80-\xff]{32,}"
_APPENDED = {"utf-16-le": re.compile(_UTF8 + rb"(?!\0)"), "utf-16-be": re.compile(rb"(?<!\0)" + _UTF8)}


def _as_latin(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no UTF-8 as Latin-1 has them: names stay apart, and no line is lost."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("entlaw.latin", _as_latin)


@dataclass(frozen=True)
class Encoding:
    """How a text is encoded.

    Attributes
    ----------
    name : str
        As Python spells it.
    mark : bytes
        The byte-order mark in front; empty without one.
    """

    name: str = "utf-8"
    mark: bytes = b""

    @property
    def guessed(self) -> bool:
        """Whether nothing in the file says so."""
        return not self.mark and self.name != "utf-8"


def encoding_of(start: bytes) -> Encoding:
    """The encoding of a file that begins like this: by its mark, else by its zeros, else UTF-8."""
    for mark, name in _MARKS:
        if start.startswith(mark):
            return Encoding(name, mark)
    sample = start[: _LOOK_AT & ~1]
    half = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        # A third of the characters from Latin-1, and as good as no zero in the other half: not a hole of zeros.
        zero = half >= 4 and zeros > half / 3 and others <= half / 50
        if zero and not _APPENDED[name].search(sample) and _is_text(sample, name):
            return Encoding(name)
    return Encoding()


def _is_text(sample: bytes, name: str) -> bool:
    text = sample[: len(sample) & ~1].decode(name, errors="replace")
    return len(_CONTROL.findall(text)) <= 0.02 * len(text)


class Readable(Protocol):
    """What gives bytes, none at the end."""

    def read(self, size: int, /) -> bytes:
        """About so many bytes."""


class Decoded:
    """A stream of bytes as UTF-8 text without byte-order marks and zeros.

    A run of zeros is a hole that a crash left: what stands before it and after it are two lines.

    Attributes
    ----------
    encoding : Encoding
    taken : int
        Bytes read so far, before decoding.
    """

    def __init__(self, handle: Readable) -> None:
        self._handle = handle
        self._decoder: codecs.IncrementalDecoder | None = None
        self._pending = False
        self.encoding = Encoding()
        self.taken = 0

    def read(self, size: int) -> bytes:
        """About `size` bytes, none at the end; what the stream underneath raises goes through."""
        while data := self._more(size):
            if self._decoder is None:
                data = self._begin(data, size)
            if out := self._decode(data):
                return out
        return self._decode(b"", final=True)

    def _more(self, size: int) -> bytes:
        data = self._handle.read(size)
        self.taken += len(data)
        return data

    def _begin(self, data: bytes, size: int) -> bytes:
        while len(data) < _LOOK_AT:
            try:
                more = self._more(size)
            except Exception:  # it is raised again when more is asked for
                break
            if not more:
                break
            data += more
        self.encoding = encoding_of(data)
        self._decoder = codecs.getincrementaldecoder(self.encoding.name)("entlaw.latin")
        return data.removeprefix(self.encoding.mark)

    def _decode(self, data: bytes, final: bool = False) -> bytes:
        if self._decoder is None:
            return b""
        if self.encoding.name != "utf-8":
            if (appended := _APPENDED.get(self.encoding.name)) is not None:
                data = appended.sub(self._in_our_encoding, data)
            return self._tidy(self._decoder.decode(data, final).encode("utf-8", errors="replace"))
        if b"\0" in data:  # a Windows shell appended UTF-16, with its mark, or a crash left a hole
            data = data.replace(codecs.BOM_UTF16_LE, b"").replace(codecs.BOM_UTF16_BE, b"")
        if data.isascii() and not self._pending:
            return self._tidy(data)
        out = self._decoder.decode(data, final).encode()
        self._pending = bool(self._decoder.getstate()[0])
        return self._tidy(out)

    def _in_our_encoding(self, found: re.Match[bytes]) -> bytes:
        try:
            return found.group().decode("utf-8").encode(self.encoding.name)
        except UnicodeDecodeError:
            return found.group()

    def _tidy(self, data: bytes) -> bytes:
        if b"\0" in data:
            # Single zeros are of appended UTF-16.
            data = _HOLE.sub(b"\n", _HOLE_IN_A_WORD.sub(_CUT_HERE, data)).replace(b"\0", b"")
        return data.replace(codecs.BOM_UTF8, b"") if codecs.BOM_UTF8 in data else data


def decoded(data: bytes) -> bytes:
    """The beginning of a file as UTF-8 text."""
    stream = Decoded(_Once(data))
    return b"".join(iter(lambda: stream.read(len(data)), b""))


class _Once:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        data, self._data = self._data, b""
        return data
