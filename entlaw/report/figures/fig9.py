"""Figure 9: does an entropy bonus help? Entropy and accuracy against the step at several coefficients."""

from __future__ import annotations

from entlaw.report.figures.base import Drawn, Library
from entlaw.report.figures.controlpanels import ladder

NAME = "fig9"
TITLE = "Entropy bonus: entropy and accuracy by its coefficient"

# What the paper's Figure 9 and text say of each; no final numbers are given.
THEIRS = {1e-4: "no effect", 1e-3: "no effect", 5e-3: "steady, no gain", 1e-2: "explodes"}


def draw(library: Library) -> Drawn:
    """See the module."""
    told = (
        "The paper (α = 0.0001 to 0.01, one run each, no numbers given): 0.0001 and 0.001 hardly matter, 0.005 holds "
        "the entropy without a gain, 0.01 explodes."
    )
    return ladder(library, "entropy-bonus", "α", "entropy bonus", THEIRS, told)
