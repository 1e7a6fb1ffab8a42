"""Sampling responses. Every engine takes prompts and gives a :class:`entlaw.train.batch.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from entlaw.train.batch import Batch


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    samples: int = 1
    """Responses a prompt."""
    max_tokens: int = 16
    """Longest response, end-of-sequence token included."""
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    batch: int = 0
    """Responses sampled at once; 0: all."""


class Engine(Protocol):
    """Something that samples from the current policy."""

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, seed: Sequence[int], first: int = 0
    ) -> Batch:
        """``sampling.samples`` responses a prompt, row i * samples + j the j-th of prompt i; ``group_B`` is i.

        ``seed`` and a prompt's number, counted from ``first``, decide its random numbers: they do not depend on what
        else is sampled at the same time.
        """

    def sync(self) -> None:
        """The policy's weights have changed: sample from the new ones."""

    def rest(self) -> None:
        """No sampling until the next :meth:`sync`: memory may be given back."""

    def close(self) -> None:
        """No more sampling: give everything back."""
