"""Numbers and a rule that every part of entlaw shares; importing them costs nothing."""

from __future__ import annotations

from enum import Enum
from typing import Final

from entlaw.errors import UsageError


class Unset(Enum):
    """What an argument is that was not given, where None means something else."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET

# The paper's window: 36 training steps, 15 % of the 236 it then predicts.
PAPER_WINDOW = 36.0
# A line has two parameters: with 3 points one residual is left, and a Student t with 1 degree of freedom. Fewer points
# than the first are refused; fewer than the second are warned of.
FEWEST_POINTS, FEW_POINTS = 4, 8


def check_level(level: float, name: str = "level", hint: str | None = "0.95 is usual") -> None:
    """Raise UsageError for a nominal coverage that is not between 0 and 1.

    Parameters
    ----------
    level : float
    name : str
        What the user calls it, e.g. ``--level``.
    hint : str, optional
    """
    if not 0.0 < level < 1.0:
        raise UsageError(f"{name} {level:g} is not between 0 and 1", hint=hint)
