"""One side of a conversation in which each side may call the other's objects while it waits for an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import wire

MINE, YOURS = b"m", b"y"  # as seen by who sends the reference


class Peer:
    """Requests and answers over a pipe.

    Parameters
    ----------
    pipe : wire.Pipe
    serve : callable
        ``serve(request)`` gives the answer, both lists of values, to a request of the other side.
    stand_in : callable
        ``stand_in(number, facts)`` makes what represents an object of the other side here.
    describe : callable
        ``describe(obj)`` gives the facts, plain data, about an object of this side.
    """

    def __init__(
        self,
        pipe: wire.Pipe,
        serve: Callable[[list[Any]], list[Any]],
        stand_in: Callable[[int, Any], Any],
        describe: Callable[[Any], Any],
    ) -> None:
        self.pipe, self.serve, self.stand_in, self.describe = pipe, serve, stand_in, describe
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.known: dict[int, Any] = {}

    def number_of(self, obj: Any) -> int:
        """The number an object of this side goes by; it is kept alive from then on."""
        if id(obj) not in self.numbers:
            number = len(self.objects)
            self.objects[number], self.numbers[id(obj)] = obj, number
        return self.numbers[id(obj)]

    def _refer(self, obj: Any) -> bytes:
        number = getattr(obj if isinstance(obj, type) else type(obj), "_entlaw_number", None)
        if number is not None:  # a stand-in: the object goes home
            return YOURS + number(obj).to_bytes(4, "little")
        facts = wire.encode(self.describe(obj), _nothing_else)
        return MINE + self.number_of(obj).to_bytes(4, "little") + facts

    def _resolve(self, data: bytes) -> Any:
        number = int.from_bytes(data[1:5], "little")
        if data[:1] == YOURS:
            return self.objects[number]
        if number not in self.known:
            self.known[number] = self.stand_in(number, wire.decode(data[5:], _nothing_known))
        return self.known[number]

    def encode(self, value: Any) -> bytes:
        """A value as bytes, references included."""
        return wire.encode(value, self._refer)

    def _read(self) -> list[Any]:
        message = wire.decode(self.pipe.receive(), self._resolve)
        if not isinstance(message, list) or len(message) < 2 or message[0] not in ("ask", "answer"):
            raise wire.WireError("no message")
        return message

    def ask(self, *request: Any) -> list[Any]:
        """Send a request and serve the other side's until its answer is here.

        Raises
        ------
        WireError
            The other side has ended or talks nonsense.
        """
        self.pipe.send(self.encode(["ask", *request]))
        while True:
            message = self._read()
            if message[0] == "answer":
                return message[1:]
            self._serve(message[1:])

    def _serve(self, request: list[Any]) -> None:
        answer = self.serve(request)
        try:
            data = self.encode(["answer", *answer])
        except wire.WireError as error:
            data = self.encode(["answer", "error", ["ValueError"], [str(error)]])
        self.pipe.send(data)

    def serve_forever(self) -> None:
        """Serve until the other side ends."""
        while True:
            message = self._read()
            if message[0] == "ask":
                self._serve(message[1:])


def _nothing_else(obj: object) -> bytes:
    raise wire.WireError("facts must be plain")


def _nothing_known(data: bytes) -> Any:
    raise wire.WireError("facts must be plain")


def failure(error: BaseException) -> list[Any]:
    """An exception as an answer: the names of its classes, its arguments as far as they are plain."""
    names = [c.__name__ for c in type(error).__mro__ if c is not object]
    return ["error", names, [a if isinstance(a, str | int | float) else _short(a) for a in error.args][:8]]


def _short(value: object) -> str:
    try:
        return repr(value)[:1000]
    except Exception:
        return f"<{type(value).__name__}>"


def success(
    result: Any, args: Sequence[Any], before: Sequence[bytes | None], encode: Callable[[Any], bytes]
) -> list[Any]:
    """The answer to a call: the result, or the number of the argument it is, and the arguments that it changed."""
    same = next((i for i, a in enumerate(args) if a is result and isinstance(a, CHANGEABLE)), -1)
    changed = [
        [i, arg]
        for i, (arg, old) in enumerate(zip(args, before, strict=True))
        if old is not None and encode(arg) != old
    ]
    return ["value", None if same >= 0 else result, same, changed]


CHANGEABLE = (list, dict, set, bytearray)
