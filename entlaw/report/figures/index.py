"""Which figures there are, in the paper's order, and how one is drawn; modules are loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entlaw.report.figures.base import Drawn, Library

NAMES = (*(f"fig{n}" for n in range(1, 15)), "table1", "table2", "theory")


def names() -> list[str]:
    """All figures and tables, the paper's own first."""
    return list(NAMES)


def draw(name: str, library: Library) -> tuple[str, Drawn]:
    """Title and figure.

    Raises
    ------
    NotEnoughRuns
        The library lacks the runs for it.
    """
    import matplotlib

    from entlaw.report.style import rc

    module = import_module(f"entlaw.report.figures.{name}")
    with matplotlib.rc_context(rc()):
        return module.TITLE, module.draw(library)
