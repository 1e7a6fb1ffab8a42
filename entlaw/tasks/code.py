"""Checking programs by running them: HumanEval's ``check``, lists of assertions, pytest files, input and output.

Nothing of a response is compiled, let alone run, in this process: what is done here is cutting text. The tests never
run in the program's interpreter (see :mod:`entlaw.tasks.sandbox`).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from entlaw.errors import UnreadableSource, UsageError
from entlaw.tasks import Problem
from entlaw.tasks.sandbox import Limits, Outcome, Sandbox, UnitTests

FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
PYTHON = ("python", "py", "python3", "")

# JSON has no tuples, so neither side's are told from lists; a solution may be a function or a method.
CALLS = """
def _flat(value):
    return [_flat(v) for v in value] if isinstance(value, (list, tuple)) else value

def _same(got, expected):
    if _flat(got) == _flat(expected):
        return True
    number = isinstance(got, float) and isinstance(expected, (int, float))
    return number and abs(got - expected) <= 1e-6 * max(1.0, abs(expected))

def _find(name):
    import solution
    return getattr(solution, name) if hasattr(solution, name) else getattr(solution.Solution(), name)
"""


@dataclass(frozen=True)
class CodeTests:
    """How a program is tested.

    Attributes
    ----------
    unit : UnitTests or None
    pairs : tuple of (str, str)
        What the program reads and must write.
    prompt : str
        The beginning of the program that the response completes, empty if it is asked for whole.
    """

    unit: UnitTests | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    prompt: str = ""

    def __post_init__(self) -> None:
        if (self.unit is None) == (not self.pairs):
            raise UsageError("a programming problem has either unit tests or input and output")


@dataclass(frozen=True)
class CodeVerdict:
    """Whether a program is right.

    Attributes
    ----------
    reward : float
        1 or 0, or the fraction of tests that passed.
    verdict : str
        Of the sandbox (the first that is not "passed", with input and output), or "no program".
    passed, tests : int
        Tests that passed, tests in all as far as is known.
    note : str
        Why it is not "passed".
    """

    reward: float
    verdict: str
    passed: int = 0
    tests: int = 0
    note: str = ""


def extract(response: str) -> str | None:
    """The last fenced Python block of a response that has one; None without.

    A block that is not closed counts: the response may have been cut at its end.
    """
    blocks = [body for language, body in FENCE.findall(response) if language.lower() in PYTHON]
    filled = [block for block in blocks if block.strip()]
    return filled[-1] if filled else None


def assemble(response: str, tests: CodeTests) -> str | None:
    """The program in a response: its last block, or the response itself as the rest of the prompt.

    What stands before the function in the prompt (imports, helpers) is put before a block. None: there is no program.
    """
    block = extract(response)
    if not tests.prompt:
        return block
    name = re.escape(tests.unit.entry_point) if tests.unit else ""
    defined = re.compile(rf"^(?:async\s+)?(?:def|class)\s+{name}\b", re.MULTILINE)
    if block is not None and defined.search(block):
        start = defined.search(tests.prompt)
        return (tests.prompt[: start.start()] if start else "") + "\n" + block
    body = _body(response if block is None else block)
    return tests.prompt + body if body.strip() else None


def _body(text: str) -> str:
    """Lines up to the first that is not indented: a base model writes on after the function's end."""
    kept: list[str] = []
    for line in text.splitlines():
        if line.strip() and not line[0].isspace() and (kept or not text[:1].strip()):
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def read_tests(columns: Mapping[str, Any]) -> CodeTests:
    """Tests from a data set's columns.

    Parameters
    ----------
    columns : mapping
        ``prompt``, ``test``, ``entry_point`` (HumanEval); ``asserts`` (list of statements, optional ``setup``; MBPP,
        AceCode); ``pytest`` (text; KodCode); or ``io`` (``inputs`` and ``outputs``, optional ``fn_name``; APPS, Eurus).
        Lists and structs may be JSON text.

    Raises
    ------
    UnreadableSource
        None of these, or one that cannot be read.
    """
    if "entry_point" in columns and "test" in columns:
        prompt, entry = str(columns.get("prompt", "")), str(columns["entry_point"])
        return CodeTests(UnitTests(str(columns["test"]), entry_point=entry, trusted=prompt), prompt=prompt)
    if "asserts" in columns:
        asserts = tuple(map(str, _plain(columns["asserts"], "asserts", list)))
        return CodeTests(UnitTests(asserts=asserts, setup=str(columns.get("setup", ""))))
    if "pytest" in columns:
        return CodeTests(UnitTests(str(columns["pytest"])))
    if "io" in columns:
        return _pairs(_plain(columns["io"], "io", dict))
    raise UnreadableSource(
        "no tests of a programming problem",
        where=", ".join(map(str, columns)),
        hint="columns: entry_point with test and prompt; asserts; pytest; or io",
    )


def _pairs(table: Mapping[str, Any]) -> CodeTests:
    inputs, outputs = list(table.get("inputs", ())), list(table.get("outputs", ()))
    if not inputs or len(inputs) != len(outputs):
        raise UnreadableSource(
            f"{len(inputs)} inputs and {len(outputs)} outputs", where="io", why="each input needs its output"
        )
    name = table.get("fn_name")
    if not name:
        return CodeTests(pairs=tuple((_text(i), _text(o)) for i, o in zip(inputs, outputs, strict=True)))
    if not str(name).isidentifier():
        raise UnreadableSource(f"{name!r} is no name of a function", where="io")
    tests = []
    for given, expected in zip(inputs, outputs, strict=True):
        # Some sets put each result into a list of its own.
        also = (
            f" or _same(_got, {expected[0]!r})" if isinstance(expected, list) and len(expected) == 1 else ""
        )
        tests.append(f"_got = _find({name!r})(*{given!r})\nassert _same(_got, {expected!r}){also}")
    return CodeTests(UnitTests(asserts=tuple(tests), setup=CALLS))


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(value: Any, name: str, kind: type) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise UnreadableSource(f"{name} is no JSON", where=value[:80], why=str(error)) from error
    if not isinstance(value, kind):
        raise UnreadableSource(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def same_output(got: str, expected: str) -> bool:
    """Equal but for white space and, in numbers with a decimal point, the sixth significant digit and beyond."""
    words, wanted = got.split(), expected.split()
    return len(words) == len(wanted) and all(map(_same_word, words, wanted))


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    if "." not in wanted or len(word) > 40 or len(wanted) > 40:
        return False
    try:
        return abs(float(word) - float(wanted)) <= 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return False


class CodeVerifier:
    """Checks programs; usable from any thread.

    Parameters
    ----------
    limits : Limits, optional
        Of each program (of each input, with input and output).
    isolation : str
        See :class:`~entlaw.tasks.sandbox.Sandbox`.
    partial : bool
        Reward the fraction of tests that passed, in place of all or nothing.
    packages : sequence of str
        Folders that programs may import from.

    Raises
    ------
    SandboxUnavailable
        Untrusted programs cannot be isolated on this machine.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        isolation: str = "auto",
        partial: bool = False,
        packages: Sequence[str] = (),
    ) -> None:
        self.limits, self.partial = limits or Limits(), partial
        self.sandbox = Sandbox(isolation, packages)

    def __enter__(self) -> CodeVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox."""
        self.sandbox.close()

    def verify(self, response: str, tests: CodeTests) -> CodeVerdict:
        """The verdict on one response."""
        program = assemble(response, tests)
        if program is None:
            return CodeVerdict(0.0, "no program", note="the response has no Python block")
        if tests.unit is not None:
            outcome = self.sandbox.check(program, tests.unit, limits=self.limits)
            passed = sum(t.passed for t in outcome.tests)
            # A program that is ended leaves tests that were never run, so what was run is no denominator.
            total = max(len(outcome.tests), len(tests.unit.asserts), 1)
            return self._verdict(outcome, passed, total)
        return self._with_pairs(program, tests.pairs)

    def _with_pairs(self, program: str, pairs: Sequence[tuple[str, str]]) -> CodeVerdict:
        passed, worst = 0, None
        for given, expected in pairs:

            def right(got: str, expected: str = expected) -> bool:
                return same_output(got, expected)

            outcome = self.sandbox.run(program, stdin=given, limits=self.limits, expect=right)
            passed += outcome.passed
            if not outcome.passed:
                worst = worst or outcome
                if not self.partial:
                    break
        return self._verdict(worst or outcome, passed, len(pairs))

    def _verdict(self, outcome: Outcome, passed: int, total: int) -> CodeVerdict:
        reward = passed / total if self.partial else float(outcome.passed)
        return CodeVerdict(reward, outcome.verdict, passed, total, outcome.note)

    def verify_batch(self, items: Sequence[tuple[str, CodeTests]], workers: int = 1) -> list[CodeVerdict]:
        """Verdicts on (response, tests) pairs, in their order, ``workers`` at a time."""
        if workers < 1:
            raise UsageError(f"{workers} workers", hint="at least 1")
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda item: self.verify(*item), items))


def tests_of(problem: Problem) -> CodeTests:
    """The tests that a problem's answer holds."""
    return read_tests(_plain(problem.answer, "answer", dict))
