"""One look for all figures: a paper's single column, legible in greyscale, the same bytes every time."""

from __future__ import annotations

from typing import Any

COLUMN_WIDTH = 3.35  # inches: a single column of a two-column paper

# Colour-blind safe (Okabe-Ito) and of clearly different lightness, so that greyscale keeps them apart.
INK = "#1a1a1a"
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREY = "#8a8a8a"
LINE_BAND = "#7fb2d6"
PREDICTION_BAND = "#dbe8f2"


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
