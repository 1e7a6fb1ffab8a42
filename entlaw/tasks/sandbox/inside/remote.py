"""What the tests see of the program: stand-ins whose calls go to the other process.

What comes back is plain data, compared by this interpreter's own operators, or another stand-in. **A stand-in never
equals plain data, and no operator hands it plain data**: else an object with ``__eq__ = lambda *_: True``, or with a
``__sub__`` that is told the expected number, would pass. Between two stand-ins the program's own operators decide.
"""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable
from typing import Any

from . import peer, wire


class CandidateEnded(Exception):
    """The program's process has ended, or no longer speaks."""


class CandidateExit(Exception):
    """The program raised SystemExit, KeyboardInterrupt or the like."""


class Remote:
    """An object of the program."""

    def __init__(self, side: Side, number: int, facts: Any) -> None:
        kind, name, _ = facts
        self.__dict__["_entlaw"] = (side, number)
        self.__dict__["__name__"] = str(name)
        self.__dict__["_entlaw_kind"] = kind

    def _entlaw_number(self) -> int:
        return int(self.__dict__["_entlaw"][1])

    def _ask(self, *request: Any) -> Any:
        return self.__dict__["_entlaw"][0].ask(request[0], self, *request[1:])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["_entlaw"][0].call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __instancecheck__(self, obj: Any) -> bool:
        return isinstance(obj, Remote) and self._ask("isinstance", obj) is True

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Remote) and self._pair("__eq__", other) is True)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def _pair(self, name: str, other: object) -> Any:
        if not isinstance(other, Remote):
            return NotImplemented
        try:
            return self._ask(name, other)
        except TypeError:
            return NotImplemented

    def __iter__(self) -> Any:
        started = self._ask("__iter__")
        return iter(started) if not isinstance(started, Remote) else RemoteIterator(started)

    def __contains__(self, item: object) -> bool:
        return any(each is item or each == item for each in self)


class RemoteIterator:
    """Iteration over an object of the program."""

    def __init__(self, source: Remote) -> None:
        self.source = source

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self.source._ask("__next__")


def _unary(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._ask(name, *args)


def _binary(name: str) -> Callable[..., Any]:
    return lambda self, other: self._pair(name, other)


UNARY = (
    "__len__",
    "__next__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__bool__",
    "__str__",
    "__repr__",
    "__float__",
    "__int__",
    "__enter__",
    "__neg__",
    "__abs__",
)
BINARY = ("__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__mul__", "__truediv__")
for _name in UNARY:
    setattr(Remote, _name, _unary(_name))
for _name in BINARY:
    setattr(Remote, _name, _binary(_name))
Remote.__exit__ = lambda self, *_: self._ask("__exit__", None, None, None)  # type: ignore[attr-defined]


class Side:
    """The tests' end of the conversation."""

    def __init__(self, pipe: wire.Pipe) -> None:
        self.errors: dict[str, type[Exception]] = {}
        self.peer = peer.Peer(pipe, self._serve, self._stand_in, _describe)

    def _stand_in(self, number: int, facts: Any) -> Any:
        kind, name, line = facts
        if kind == "class" and line:  # an exception class: tests name it in `except` and `raises`
            base = next((b for b in map(_builtin_error, line) if b is not None), Exception)
            made = type(str(name), (base,), {"_entlaw_number": classmethod(lambda *_: number)})
            self.errors[str(name)] = made
            return made
        return Remote(self, number, facts)

    def ask(self, *request: Any) -> Any:
        """The value of an answer, or the exception that it tells of."""
        return self._value(self._exchange(*request), ())

    def call(self, target: Remote, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an object of the program; lists, dicts and sets that it changes are changed here."""
        return self._value(self._exchange("call", target, list(args), kwargs), args)

    def _exchange(self, *request: Any) -> list[Any]:
        try:
            return self.peer.ask(*request)
        except wire.WireError as error:
            raise CandidateEnded(str(error)) from None

    def _value(self, answer: list[Any], args: tuple[Any, ...]) -> Any:
        match answer:
            case ["value", value, int(same), list(changed)]:
                for index, new in changed:
                    _change(args[index], new)
                return args[same] if same >= 0 else value
            case ["error", list(line), list(details)]:
                raise self._error(line, details)
        raise CandidateEnded("an answer that is none")

    def _error(self, line: list[Any], details: list[Any]) -> Exception:
        for name in line:
            kind = self.errors.get(str(name)) or _builtin_error(name)
            if kind is not None:
                try:
                    return kind(*details)
                except Exception:
                    return kind.__new__(kind)
        return CandidateExit(f"{line[0] if line else 'an exception'}: {details}")

    def _serve(self, request: list[Any]) -> list[Any]:
        """The program uses an object of the tests."""
        try:
            what, obj, *rest = request
            if isinstance(obj, Remote):
                raise TypeError("not an object of the tests")
            if what == "call" and callable(obj) and not isinstance(obj, types.BuiltinFunctionType):
                return ["value", obj(*rest[0], **rest[1])]
            if _has_attributes(obj) and not rest[0].startswith("_"):
                if what == "get":
                    return ["value", getattr(obj, rest[0])]
                if what == "set":
                    setattr(obj, rest[0], rest[1])
                    return ["value", None]
            raise TypeError("that is not allowed")
        except CandidateEnded:
            raise
        except Exception as error:
            return peer.failure(error)


def _describe(obj: Any) -> str | None:
    """A built-in goes by its name: the other process has its own, and this one's are not for it to call."""
    name = getattr(obj, "__name__", None)
    is_own = isinstance(obj, type | types.BuiltinFunctionType) and getattr(builtins, str(name), None) is obj
    return str(name) if is_own else None


def _has_attributes(obj: Any) -> bool:
    return not isinstance(
        obj, type | types.FunctionType | types.MethodType | types.ModuleType | types.BuiltinFunctionType
    )


def _builtin_error(name: Any) -> type[Exception] | None:
    found = getattr(builtins, str(name), None)
    if isinstance(found, type) and issubclass(found, Exception) and found.__name__ == name:
        return found
    return None


def _change(old: Any, new: Any) -> None:
    if type(old) is not type(new):
        raise CandidateEnded("an argument changed its type")
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)
