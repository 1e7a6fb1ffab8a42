"""The tests' side of a check: runs tests against stand-ins for what the program defines, and reports.

It runs in a sandbox of its own, which the program's has no way into but the pipe of the conversation.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import json
import os
import sys
import types
import unittest
from collections.abc import Callable
from typing import Any

from . import pytest_words, wire
from .remote import CandidateEnded, Remote, Side

Test = tuple[str, Callable[[], Any]]


def run(job: dict[str, Any], pipe: wire.Pipe, report: int) -> int:
    """Load the program on the other side, run all tests here, and write what came of them to ``report``.

    Parameters
    ----------
    job : dict
        ``trusted`` (text whose definitions win over the program's), ``entry_point``, ``setup`` (text run before the
        tests), ``tests`` (list of texts, each one test) and ``module`` (text that defines tests).
    pipe : wire.Pipe
    report : int
        File descriptor.
    """
    results: list[list[Any]] = []
    told: dict[str, Any] = {"loaded": False, "results": results, "finished": False}
    try:
        space = load(job, Side(pipe))
        told["loaded"] = True
        for name, test in collect(job, space):
            results.append([name, *outcome(test)])
        told["finished"] = True
    except Exception as error:
        told["error"] = _line(error)
    data = json.dumps(told).encode()
    view = memoryview(data)
    while view:
        view = view[os.write(report, view) :]
    return 0


def load(job: dict[str, Any], side: Side) -> dict[str, Any]:
    """The names that the tests see: the program's as stand-ins, then those of trusted text."""
    module = types.ModuleType("solution")
    for name, is_module, of in side.ask("load"):
        if not is_module:
            module.__dict__[name] = side.ask("name", name)
        elif str(of).split(".")[0] in sys.stdlib_module_names:
            # The program's own modules may have been tampered with; the tests get theirs.
            module.__dict__[name] = importlib.import_module(of)
    # A program's own `abs`, or a class called `math`, must not be what the tests compare with: such names are had
    # by asking for them (`from solution import abs`), never by accident.
    entry = job["entry_point"]
    public = [n for n in module.__dict__ if n[:2] != "__" and not _taken(n, module.__dict__[n])]
    module.__all__ = public  # type: ignore[attr-defined]
    sys.modules["solution"] = module
    sys.modules["pytest"] = pytest_words.module()
    space: dict[str, Any] = {"__name__": "tests"}
    if not entry:
        space.update({name: module.__dict__[name] for name in public})
    trusted: dict[str, Any] = {"__name__": "prompt"}
    try:
        exec(compile(job["trusted"], "prompt.py", "exec"), trusted)
    except SyntaxError:
        trusted = {}  # a prompt that stops in the middle of a statement defines nothing
    space.update({k: v for k, v in trusted.items() if k not in (entry, "__builtins__", "__name__")})
    if entry:
        if entry not in module.__dict__:
            raise NameError(f"the program does not define {entry}")
        space["candidate"] = space[entry] = module.__dict__[entry]
    return space


def _taken(name: str, value: Any) -> bool:
    """Whether tests mean something else by a name than what a program calls so."""
    is_module = isinstance(value, types.ModuleType)
    return hasattr(builtins, name) or (
        not is_module and (name == "pytest" or name in sys.stdlib_module_names)
    )


def collect(job: dict[str, Any], space: dict[str, Any]) -> list[Test]:
    """The tests, each a name and a function without arguments."""
    before = dict(space)
    exec(compile(job["setup"], "setup.py", "exec"), space)
    tests: list[Test] = []
    for i, text in enumerate(job["tests"]):
        tests.append((f"{i + 1}", functools.partial(_execute, text, space)))
    if job["module"]:
        exec(compile(job["module"], "tests.py", "exec"), space)
        own = {k: v for k, v in space.items() if before.get(k) is not v}
        tests += [test for name, value in own.items() for test in _found(name, value, space)]
        if not tests and _asserts_at_top(job["module"]):
            tests.append(("module", lambda: None))  # it got this far
    return tests


def _asserts_at_top(text: str) -> bool:
    """Whether running a module's text tests anything: outside of functions and classes that nothing calls."""
    inert = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    running = [node for node in ast.parse(text).body if not isinstance(node, inert)]
    return any(isinstance(inner, ast.Assert) for node in running for inner in ast.walk(node))


def _execute(text: str, space: dict[str, Any]) -> None:
    exec(compile(text, "test.py", "exec"), space)


def _found(name: str, value: Any, space: dict[str, Any]) -> list[Test]:
    if isinstance(value, Remote):
        return []
    if name == "check" and "candidate" in space and callable(value):
        return [("check", functools.partial(value, space["candidate"]))]
    if isinstance(value, type) and issubclass(value, unittest.TestCase):
        names = unittest.defaultTestLoader.getTestCaseNames(value)
        return [(f"{name}.{each}", functools.partial(_unittest, value, each)) for each in names]
    if isinstance(value, type) and name.startswith("Test"):
        names = [each for each in vars(value) if each.startswith("test")]
        return [
            test for each in names for test in pytest_words.cases(f"{name}.{each}", getattr(value(), each))
        ]
    if name.startswith("test") and callable(value) and not isinstance(value, type):
        return pytest_words.cases(name, value)
    return []


def _unittest(kind: type[unittest.TestCase], name: str) -> None:
    result = unittest.TestResult()
    kind(name).run(result)
    if not result.wasSuccessful() or result.testsRun != 1:
        problems = result.failures + result.errors
        raise AssertionError(problems[0][1].strip().splitlines()[-1] if problems else "not run")


def outcome(test: Callable[[], Any]) -> tuple[bool, str]:
    """Whether a test passed, and why not."""
    try:
        test()
    except pytest_words.Skipped as error:
        return False, f"skipped: {error}"
    except CandidateEnded as error:
        return False, f"ended: {error}"
    except Exception as error:
        return False, _line(error)
    return True, ""


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
