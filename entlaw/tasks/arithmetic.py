"""Sums evaluated from left to right modulo 10: a task that small models half know, and learn to work out.

``3+5*2-7=`` is 3+5=8, 8*2=6, 6-7=9; ``a|b`` is the distance, ``a^b`` the power, ``a&b`` is a*a+b. The answer is the
last character of the response, so the bare ``9`` and the worked ``869`` are both right: what reinforcement learning can
gain is to write the steps down and to slip less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from entlaw.tasks import Problem

# What each operator does to two digits, before it is taken modulo 10. Six of them, so that a small model can learn
# some of the 600 facts and not all.
APPLY: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "|": lambda a, b: abs(a - b),
    "^": lambda a, b: a**b,
    "&": lambda a, b: a * a + b,
}
CHARACTERS = "0123456789" + "".join(APPLY) + "="


@dataclass(frozen=True)
class Arithmetic:
    """Chained sums of given numbers of operations.

    Attributes
    ----------
    operations : tuple of int
        Difficulty levels, drawn uniformly.
    operators : str
        Drawn uniformly, of :data:`APPLY`: sum, difference, product, distance, power, square plus.
    train_operations : tuple of int
        Levels of the training problems where they are others than those validated on; empty: the same.
    train_operators : str
        Likewise.
    """

    operations: tuple[int, ...] = (2, 3, 4, 5, 6)
    operators: str = "".join(APPLY)
    train_operations: tuple[int, ...] = ()
    train_operators: str = ""

    def training(self, seed: int, start: int, n: int) -> list[Problem]:
        """As :class:`entlaw.tasks.Task`; each problem has its own random numbers, so any part can be drawn alone."""
        return [self.draw(np.random.default_rng([seed, i]), held_out=False) for i in range(start, start + n)]

    def validation(self, n: int, seed: int) -> list[Problem]:
        """As :class:`entlaw.tasks.Task`; no problem comes twice.

        Raises
        ------
        ValueError
            There are fewer different problems.
        """
        rng = np.random.default_rng(seed)
        found: dict[str, Problem] = {}
        for _ in range(200 * n):
            problem = self.draw(rng, held_out=True)
            found[problem.prompt] = problem
            if len(found) == n:
                return list(found.values())
        raise ValueError(f"fewer than {n} different problems with {self.operations} operations")

    def draw(self, rng: np.random.Generator, held_out: bool) -> Problem:
        """One problem of the training or of the held-out part, which never meet: they are split by hash."""
        levels, operators = self.operations, self.operators
        if not held_out:
            levels, operators = self.train_operations or levels, self.train_operators or operators
        while True:
            n = int(rng.choice(np.asarray(levels)))
            digits = rng.integers(0, 10, n + 1)
            signs = rng.choice(list(operators), n)
            prompt = str(digits[0]) + "".join(f"{s}{d}" for s, d in zip(signs, digits[1:], strict=True)) + "="
            if is_held_out(prompt) == held_out:
                return Problem(prompt, str(list(results(prompt))[-1]), str(n))

    def extract(self, response: str, finished: bool) -> str | None:
        """The last character of a response that ended."""
        return response[-1] if finished and response else None

    def score(self, problem: Problem, response: str, finished: bool) -> float:
        """1 if the response ended and its last character is the answer, else 0."""
        return float(self.extract(response, finished) == problem.answer)

    def demonstration(
        self, rng: np.random.Generator, problem: Problem, chain_share: float, slip: float
    ) -> str:
        """A worked chain or a bare answer, each result a random digit with probability ``slip``.

        After a slip the chain goes on from the wrong digit, as a person's would.
        """

        def slipped(digit: int) -> int:
            return int(rng.integers(0, 10)) if rng.random() < slip else digit

        if rng.random() >= chain_share:
            return str(slipped(int(problem.answer)))
        prompt, value, chain = problem.prompt, int(problem.prompt[0]), ""
        for i in range(1, len(prompt) - 1, 2):
            value = slipped(APPLY[prompt[i]](value, int(prompt[i + 1])) % 10)
            chain += str(value)
        return chain


def results(prompt: str) -> Iterator[int]:
    """The running results of a sum, one an operation."""
    value = int(prompt[0])
    for i in range(1, len(prompt) - 1, 2):
        value = APPLY[prompt[i]](value, int(prompt[i + 1])) % 10
        yield value


def is_held_out(prompt: str) -> bool:
    """Whether a prompt belongs to validation: one in eight, by its hash."""
    return hashlib.blake2b(prompt.encode(), digest_size=1).digest()[0] % 8 == 0
