"""The figure of a back-test: how far each forecaster is off, and whether its intervals hold what they say."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.law.backtest import NOMINAL, OUTLOOK
from entlaw.report import style

if TYPE_CHECKING:
    import pandas as pd

_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": "entlaw", "Producer": None},
    "svg": {"Date": None, "Creator": "entlaw"},
    "png": {"Software": None},
}


def backtest_figure(scores: pd.DataFrame, format: str = "pdf") -> bytes:
    """Draw a table of scores.

    Parameters
    ----------
    scores : DataFrame
        From :func:`entlaw.law.backtest.table`, index forecaster.
    format : {"pdf", "svg", "png"}

    Returns
    -------
    bytes
        The file; equal for equal input.
    """
    import matplotlib
    from matplotlib.figure import Figure

    ordered = scores.sort_values("crps", ascending=False)
    names = [str(n) for n in ordered.index]
    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(style.COLUMN_WIDTH, 1.4 + 0.32 * len(names)), layout="constrained")
        error, hold = figure.subplots(1, 2, sharey=True, width_ratios=[1.2, 1.0])
        place = np.arange(len(names))
        colours = [style.BLUE if n == OUTLOOK else style.GREY for n in names]
        error.barh(place, ordered["crps"], color=colours, height=0.7)
        error.set_yticks(place, names)
        error.set_xlabel("CRPS")
        for level, mark in zip(NOMINAL, ("o", "s", "^"), strict=True):
            column = f"cover{level * 100:.0f}"
            hold.axvline(level, color=style.INK, linewidth=0.5, linestyle=":")
            hold.scatter(ordered[column], place, marker=mark, s=9, color=colours, label=f"{level:.0%}")
        hold.set_xlim(0.0, 1.02)
        hold.set_xlabel("share held")
        figure.legend(
            *hold.get_legend_handles_labels(), loc="outside upper right", ncols=3, title="intervals of"
        )
        out = io.BytesIO()
        figure.savefig(out, format=format, metadata=_METADATA[format])
    return out.getvalue()
