"""The sample run that ships with entlaw: GRPO on a model of 135 thousand parameters, trained by ``entlaw train``."""

from __future__ import annotations

from pathlib import Path

from entlaw.files import shipped
from entlaw.runs.reader import read
from entlaw.runs.run import Run

NAME = "grpo-m-rl0"


def folder() -> Path:
    """Where its log is.

    Raises
    ------
    DataError
        The installation is not whole.
    """
    return shipped("example", NAME, in_checkout=f"runs/{NAME}")


def example() -> Run:
    """The sample run: 240 steps of GRPO on sums of several numbers, validated every fourth step.

    Returns
    -------
    Run
        As :func:`entlaw.read` gives it.

    Raises
    ------
    DataError
        The installation is not whole.

    Examples
    --------
    >>> import entlaw
    >>> len(entlaw.example().points)
    61
    """
    (run,) = read(folder())
    return run
