"""One look for all figures: a paper's single column, legible in greyscale, the same bytes every time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.35  # inches: a single column of a two-column paper

# Colour-blind safe (Okabe-Ito) and of clearly different lightness, so that greyscale keeps them apart.
INK = "#1a1a1a"
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREY = "#8a8a8a"
LINE_BAND = "#7fb2d6"
PREDICTION_BAND = "#dbe8f2"

# No date, no machine: the same figure is the same file.
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": "entlaw", "Producer": None},
    "svg": {"Date": None, "Creator": "entlaw"},
    "png": {"Software": None},
}


def render(draw: Callable[[Figure], None], height: float, format: str) -> bytes:
    """A figure of one column's width as a file.

    Parameters
    ----------
    draw : callable
        Draws into an empty figure.
    height : float
        Inches.
    format : {"pdf", "svg", "png"}

    Returns
    -------
    bytes
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc()), warnings.catch_warnings():
        # A run's name in a script the font lacks is drawn as boxes; the file's name has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
        draw(figure)
        out = io.BytesIO()
        figure.savefig(out, format=format, metadata=METADATA[format])
    return out.getvalue()


def rc() -> Any:
    """Matplotlib settings (a dict); use with ``matplotlib.rc_context``."""
    return {
        "font.size": 7.5,
        "axes.titlesize": 8,
        "axes.labelsize": 7.5,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 6.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "legend.frameon": False,
        "figure.dpi": 200,
        "savefig.dpi": 300,
        "pdf.fonttype": 42,  # TrueType, as publishers ask
        "svg.fonttype": "none",
        "svg.hashsalt": "entlaw",  # the same ids every time
    }
