"""Figure 10: does a penalty on leaving the starting policy help? Entropy and accuracy at several coefficients."""

from __future__ import annotations

from entlaw.report.figures.base import Drawn, Library
from entlaw.report.figures.controlpanels import ladder

NAME = "fig10"
TITLE = "Reference KL: entropy and accuracy by its coefficient"

# The paper's Figure 10 speaks of all coefficients together.
THEIRS = {1e-3: "", 1e-2: "", 5e-2: "", 1e-1: ""}


def draw(library: Library) -> Drawn:
    """See the module."""
    told = "The paper (β = 0.001 to 0.1, one run each, no numbers given): the entropy is held, the accuracy degrades."
    return ladder(library, "reference-kl", "β", "reference KL", THEIRS, told)
