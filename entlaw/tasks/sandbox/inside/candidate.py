"""The untrusted side of a check: runs the program, then answers calls to what it defined.

Nothing here is protected from the program, which may replace all of it. It has no need to be: the other side takes
from it values of built-in types, and the program sees arguments, never tests or expected results.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import types
from typing import Any, NoReturn

from . import peer, wire

SPECIAL = frozenset(
    [
        "__len__",
        "__iter__",
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
        "__exit__",
        "__eq__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__add__",
        "__sub__",
        "__mul__",
        "__truediv__",
        "__neg__",
        "__abs__",
    ]
)


class Argument:
    """An object of the tests: may be called; its public attributes may be read and set."""

    def __init__(self, other: peer.Peer, number: int) -> None:
        object.__setattr__(self, "_entlaw", (other, number))

    def _entlaw_number(self) -> int:
        return int(object.__getattribute__(self, "_entlaw")[1])

    def _ask(self, *request: Any) -> Any:
        other, _ = object.__getattribute__(self, "_entlaw")
        answer = other.ask(request[0], self, *request[1:])
        if answer[0] == "value":
            return answer[1]
        kinds = (getattr(builtins, name, None) for name in answer[1])
        kind = next((k for k in kinds if isinstance(k, type) and issubclass(k, Exception)), Exception)
        raise kind(*answer[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._ask("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)


def describe(obj: Any) -> list[Any]:
    """What the other side has to know about an object: kind, name, names of an exception's classes."""
    kind = type(obj)
    if isinstance(obj, type):
        is_error = issubclass(obj, BaseException)
        return ["class", obj.__name__, [c.__name__ for c in obj.__mro__[:-1]] if is_error else []]
    return ["function" if callable(obj) else "object", getattr(obj, "__name__", kind.__name__), []]


def run(program: str, pipe: wire.Pipe) -> NoReturn:
    """Run the program as a module called ``solution`` and serve calls until the other side has finished."""
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    space = module.__dict__
    other: peer.Peer

    def serve(request: list[Any]) -> list[Any]:
        try:
            return answer(request)
        except BaseException as error:  # also SystemExit: ending is no answer
            return peer.failure(error)

    def answer(request: list[Any]) -> list[Any]:
        what, *rest = request
        if what == "load":
            exec(compile(program, "solution.py", "exec"), space)
            return ["value", names(space), -1, []]
        if what == "name":
            return ["value", space[rest[0]], -1, []]
        obj, *rest = rest
        if what == "get":
            return ["value", getattr(obj, rest[0]), -1, []]
        if what == "set":
            setattr(obj, rest[0], rest[1])
            return ["value", None, -1, []]
        if what == "isinstance":
            return ["value", bool(isinstance(rest[0], obj)), -1, []]
        if what == "call":
            args, kwargs = rest
            before = [other.encode(a) if isinstance(a, peer.CHANGEABLE) else None for a in args]
            result = obj(*args, **kwargs)
            return peer.success(result, args, before, other.encode)
        if what in SPECIAL:
            return ["value", special(obj, what, rest), -1, []]
        raise ValueError(f"unknown request {what!r}")

    def stand_in(number: int, builtin: Any) -> Any:
        return Argument(other, number) if builtin is None else getattr(builtins, builtin)

    other = peer.Peer(pipe, serve, stand_in, describe)
    with contextlib.suppress(wire.WireError):
        other.serve_forever()
    os._exit(0)  # the tests are over; threads of the program do not keep it


def special(obj: Any, name: str, args: list[Any]) -> Any:
    """``obj`` under an operator, found as the interpreter finds it: on the class."""
    if name == "__bool__":
        return bool(obj)
    if name == "__iter__":
        return iter(obj)
    if name == "__repr__":
        return repr(obj)
    if name == "__str__":
        return str(obj)
    method = getattr(type(obj), name, None)
    if method is None:
        raise TypeError(f"{type(obj).__name__} has no {name}")
    result = method(obj, *args)
    if result is NotImplemented:
        raise TypeError(f"{name} is not supported between these objects")
    return result


def names(space: dict[str, Any]) -> list[list[Any]]:
    """Public names that the program defines: name, whether it is a module, and which."""
    found = []
    for name, value in space.items():
        if isinstance(name, str) and not name.startswith("__"):
            is_module = isinstance(value, types.ModuleType)
            found.append([name, is_module, str(getattr(value, "__name__", "")) if is_module else ""])
    return found
