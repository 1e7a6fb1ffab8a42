"""Figure 3: the law by family and size on the main task."""

from __future__ import annotations

from entlaw.report.figures.base import Drawn, Library
from entlaw.report.figures.lawfamilies import draw_families

NAME = "fig3"
TITLE = "The law by family and size, main task"

_PAPER = (
    "The paper shows 11 models of four families on mathematics (Qwen2.5 0.5B to 32B, Mistral, LLaMA, "
    "DeepSeek) and prints "
    "neither a, b nor R²; the digitised Qwen2.5 curves are in Figure 1 (c)."
)


def draw(library: Library) -> Drawn:
    """See the module."""
    return draw_families(library, library.main_task(), "the task of most runs", _PAPER)
