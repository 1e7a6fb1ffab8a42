"""Rewards of responses, and how each was found, so that unreadable answers are counted and not hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from entlaw import __version__
from entlaw.suites.problems import ProblemSet, SuiteProblem
from entlaw.tasks import Problem
from entlaw.tasks.answers import boxes
from entlaw.tasks.code import CodeVerifier, tests_of
from entlaw.tasks.math import MathVerifier


@dataclass(frozen=True)
class Grade:
    """Of one response.

    Attributes
    ----------
    reward : float
    verdict : str
        right; wrong; partial (some tests passed); no-answer (nothing that could be an answer, or it was cut off before
        its box); undecided (an answer that nothing here can read, which counts as wrong).
    answer : str or None
    """

    reward: float
    verdict: str
    answer: str | None = None


class Grader:
    """Checks responses; its worker processes are kept between calls, started when first needed.

    Parameters
    ----------
    workers : int
        Answers or programs checked at a time.
    isolation : str
        Of programs, as :class:`entlaw.tasks.sandbox.Sandbox` has it.
    """

    def __init__(self, workers: int = 1, isolation: str = "auto") -> None:
        self.workers, self.isolation = workers, isolation
        self._math: MathVerifier | None = None
        self._code: CodeVerifier | None = None

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        for held in (self._math, self._code):
            if held is not None:
                held.close()

    def need(self, kinds: set[str]) -> None:
        """Say now what would otherwise be missing after the first responses.

        Raises
        ------
        MissingExtra
            math-verify is not installed.
        SandboxUnavailable
            Programs cannot be isolated here.
        """
        if "math" in kinds and self._math is None:
            self._math = MathVerifier(self.workers)
        if "code" in kinds and self._code is None:
            self._code = CodeVerifier(isolation=self.isolation)

    def version(self, kind: str) -> str:
        """What checks answers of a kind; responses graded by different versions are not put into one table."""
        if kind != "math":
            return f"entlaw {__version__}"
        return f"entlaw {__version__}, math-verify {metadata.version('math-verify')}"

    def grade(
        self,
        held: ProblemSet,
        problems: Sequence[SuiteProblem],
        responses: Sequence[str],
        finished: Sequence[bool],
    ) -> list[Grade]:
        """Grades in order.

        Parameters
        ----------
        problems : sequence of SuiteProblem
            The one behind each response.
        """
        self.need({held.kind})
        if held.kind == "arithmetic":
            return self._sums(held, problems, responses, finished)
        if held.kind == "code":
            return self._programs(problems, responses)
        return self._answers(held, problems, responses, finished)

    def _sums(
        self,
        held: ProblemSet,
        problems: Sequence[SuiteProblem],
        responses: Sequence[str],
        finished: Sequence[bool],
    ) -> list[Grade]:
        assert held.arithmetic is not None
        found = [held.arithmetic.extract(r, f) for r, f in zip(responses, finished, strict=True)]
        return [_grade(float(a == p.answer), a, a is None) for p, a in zip(problems, found, strict=True)]

    def _programs(self, problems: Sequence[SuiteProblem], responses: Sequence[str]) -> list[Grade]:
        assert self._code is not None
        asked = [(r, tests_of(Problem(p.text, p.answer))) for p, r in zip(problems, responses, strict=True)]
        verdicts = self._code.verify_batch(asked, self.workers)
        return [_grade(v.reward, None, v.verdict == "no program") for v in verdicts]

    def _answers(
        self,
        held: ProblemSet,
        problems: Sequence[SuiteProblem],
        responses: Sequence[str],
        finished: Sequence[bool],
    ) -> list[Grade]:
        assert self._math is not None
        # As in training: a response that was cut off ends on some number or other, unless it has its box.
        read = [r if f or boxes(r) else "" for r, f in zip(responses, finished, strict=True)]
        verdicts = self._math.verify_batch(read, [p.answer for p in problems], held.where, held.rounded)
        return [
            Grade(0.0, "undecided", v.answer)
            if v.by == "none" and v.answer is not None
            else _grade(float(v.right), v.answer, v.answer is None)
            for v in verdicts
        ]


def _grade(reward: float, answer: str | None, none: bool) -> Grade:
    if none:
        return Grade(0.0, "no-answer")
    word: Any = "right" if reward == 1 else "wrong" if reward == 0 else "partial"
    return Grade(reward, word, answer)
