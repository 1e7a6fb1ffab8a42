"""Tasks: where problems come from, and when a response is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Problem:
    """One question with a verifiable answer."""

    prompt: str
    """Text the policy continues."""
    answer: str
    level: str = ""
    """Difficulty group, or data set, that metrics are split by; may be empty."""


class Task(Protocol):
    """What the trainer and the evaluator ask of a task.

    Training problems are an endless numbered stream, so that a resumed run goes on exactly where the stopped one was:
    the trainer keeps nothing but the number of problems it has drawn.
    """

    def training(self, seed: int, start: int, n: int) -> Sequence[Problem]:
        """Problems ``start`` to ``start + n - 1`` of the stream that belongs to ``seed``."""

    def validation(self, n: int, seed: int) -> Sequence[Problem]:
        """``n`` held-out problems, none of which is ever a training problem."""

    def extract(self, response: str, finished: bool) -> str | None:
        """The final answer in a response, None if it holds none (or did not end, where that matters)."""

    def score(self, problem: Problem, response: str, finished: bool) -> float:
        """Verifiable reward, fraction in [0, 1]."""
