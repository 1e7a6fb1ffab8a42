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


def score_batch(
    task: Task, problems: Sequence[Problem], responses: Sequence[str], finished: Sequence[bool]
) -> Sequence[float]:
    """Rewards of many responses, all at once where the task can (checking in parallel), else one by one."""
    at_once = getattr(task, "score_batch", None)
    if at_once is not None:
        return list(at_once(problems, responses, finished))
    return [task.score(p, r, f) for p, r, f in zip(problems, responses, finished, strict=True)]
