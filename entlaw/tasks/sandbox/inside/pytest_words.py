"""The few words of pytest that generated tests use: raises, approx, mark.parametrize, skip, fail."""

from __future__ import annotations

import functools
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Skipped(Exception):
    """The test asked not to be run."""


class Raises:
    """``with pytest.raises(kind, match=...)``."""

    def __init__(self, kind: Any, match: str | None = None) -> None:
        self.kind, self.match, self.value = kind, match, None

    def __enter__(self) -> Raises:
        return self

    def __exit__(self, kind: Any, value: Any, _: Any) -> bool:
        if kind is None:
            raise AssertionError(f"did not raise {self.kind}")
        if not issubclass(kind, self.kind):
            return False
        self.value = value
        if self.match is not None and not re.search(self.match, str(value)):
            raise AssertionError(f"{value!s:.200} does not match {self.match!r}")
        return True


def raises(kind: Any, *call: Any, match: str | None = None, **kwargs: Any) -> Any:
    """A context in which ``kind`` must be raised, or a call that must raise it."""
    if not call:
        return Raises(kind, match)
    with Raises(kind, match) as caught:
        call[0](*call[1:], **kwargs)
    return caught


class Approx:
    """Equal to a number, or to a sequence or mapping of numbers, within a tolerance."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None) -> None:
        self.expected, self.rel, self.abs = expected, rel, abs

    def __eq__(self, other: object) -> bool:
        return self._near(other, self.expected)

    def _near(self, value: Any, expected: Any) -> bool:
        if isinstance(expected, Mapping):
            same = isinstance(value, Mapping) and value.keys() == expected.keys()
            return same and all(self._near(value[k], v) for k, v in expected.items())
        if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
            same = isinstance(value, Sequence) and len(value) == len(expected)
            return same and all(map(self._near, value, expected))
        if isinstance(expected, int | float) and isinstance(value, int | float):
            relative = 1e-6 if self.rel is None and self.abs is None else self.rel or 0.0
            absolute = 1e-12 if self.abs is None else self.abs
            return value == expected or math.isclose(value, expected, rel_tol=relative, abs_tol=absolute)
        return bool(value == expected)

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"


def parametrize(names: str | Sequence[str], values: Sequence[Any], **_: Any) -> Callable[[Any], Any]:
    """Run a test once for each of the values."""
    keys = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)

    def mark(test: Any) -> Any:
        rows = [dict(zip(keys, [v] if len(keys) == 1 else v, strict=True)) for v in values]
        old = getattr(test, "_entlaw_rows", [{}])
        test._entlaw_rows = [{**row, **more} for row in rows for more in old]
        return test

    return mark


class _Marks:
    parametrize = staticmethod(parametrize)

    def __getattr__(self, name: str) -> Any:
        if name in ("skip", "skipif", "xfail"):
            raise AttributeError(f"pytest.mark.{name} is not supported here")
        return lambda *args, **_: args[0] if len(args) == 1 and callable(args[0]) else lambda test: test


def cases(name: str, test: Any) -> list[tuple[str, Callable[[], Any]]]:
    """A test function, or one for each of its parameters' values."""
    rows = getattr(test, "_entlaw_rows", [{}])
    return [
        (name if rows == [{}] else f"{name}[{i}]", functools.partial(test, **row))
        for i, row in enumerate(rows)
    ]


def _skip(reason: str = "") -> None:
    raise Skipped(reason)


def _fail(reason: str = "") -> None:
    raise AssertionError(reason)


def module() -> types.ModuleType:
    """What ``import pytest`` gives."""
    made = types.ModuleType("pytest")
    words = {
        "raises": raises,
        "approx": Approx,
        "mark": _Marks(),
        "skip": _skip,
        "fail": _fail,
        "main": lambda *_: 0,
    }
    made.__dict__.update(words)
    return made
