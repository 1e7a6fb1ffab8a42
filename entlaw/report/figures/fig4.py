"""Figure 4: the law by family and size on a second task."""

from __future__ import annotations

from entlaw.report.figures.base import Drawn, Library
from entlaw.report.figures.lawdata import difference
from entlaw.report.figures.lawfamilies import draw_families
from entlaw.report.figures.lawruns import second_task

NAME = "fig4"
TITLE = "The law by family and size, second task"

_PAPER = "The paper's second task is code, with the same 11 models; it prints neither a, b nor R²."


def draw(library: Library) -> Drawn:
    """See the module."""
    task = second_task(library)
    return draw_families(
        library, task, f"second task ({difference(task, library.main_task(), task)})", _PAPER
    )
