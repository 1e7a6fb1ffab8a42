"""The figure of ``entlaw sizes``: a, b and the ceiling against model size, with the line and its bands."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from entlaw.law.sizes import SizeLine, Sizes
from entlaw.report import style
from entlaw.report.fitplot import METADATA

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sizes_figure(found: Sizes, format: str = "pdf", at: Sequence[float] = (), level: float = 0.95) -> bytes:
    """Draw the lines over ln N.

    Parameters
    ----------
    found : Sizes
    format : {"pdf", "svg", "png"}
    at : sequence of float
        Sizes whose forecast is marked.
    level : float

    Returns
    -------
    bytes
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style.rc()):
        lines = list(found.lines.values())
        figure = Figure(figsize=(style.COLUMN_WIDTH, 1.45 * len(lines) + 0.3), layout="constrained")
        axes = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
        for ax, line in zip(axes, lines, strict=True):
            _draw(ax, line, at, level)
        axes[-1].set_xlabel("model size N (parameters, log scale)")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=1.6
        )
        out = io.BytesIO()
        figure.savefig(out, format=format, metadata=METADATA[format])
    return out.getvalue()


def _draw(ax: Axes, line: SizeLine, at: Sequence[float], level: float) -> None:
    n = line.parameters
    ends = [*n, *at]
    grid = np.geomspace(min(ends) / 1.25, max(ends) * 1.25, 100)
    new = [line.at(g, level)[1] for g in grid]
    mean = [line.line_at(g, level) for g in grid]
    ax.fill_between(grid, [i.lo for i in new], [i.hi for i in new], color=style.PREDICTION_BAND, lw=0,
                    label=f"another size, {level:.0%}")  # fmt: skip
    ax.fill_between(grid, [i.lo for i in mean], [i.hi for i in mean], color=style.LINE_BAND, lw=0,
                    label=f"line, {level:.0%}")  # fmt: skip
    ax.plot(grid, [line.at(g, level)[0] for g in grid], color=style.INK, lw=1.0, label="log-linear fit")
    ax.errorbar(n, line.value, yerr=np.sqrt(line.variance), fmt="o", ms=3.4, color=style.INK, lw=0.8, capsize=2,
                label="mean of a size's runs ± 1 se")  # fmt: skip
    for size in at:
        ax.plot([size], [line.at(size, level)[0]], "D", ms=4, color=style.ORANGE, mec=style.INK, mew=0.6)
    ax.set_xscale("log")
    spread = float(np.ptp([*line.value, *(line.at(size, level)[0] for size in at)])) or 0.1
    low, high = min(line.value), max([*line.value, *(line.at(size, level)[0] for size in at)])
    ax.set_ylim(low - 0.8 * spread, high + 0.8 * spread)  # wide bands must not flatten the data
    ax.set_ylabel(line.quantity)


def sizes_csv(found: Sizes) -> str:
    """What is drawn, one row a size and quantity."""
    rows = ["quantity,parameters,value,standard_error,runs,line"]
    for line in found.lines.values():
        for n, value, variance, runs in zip(
            line.parameters, line.value, line.variance, line.runs, strict=True
        ):
            rows.append(
                f"{line.quantity},{n:.10g},{value:.6g},{variance**0.5:.6g},{runs},{line.at(float(n))[0]:.6g}"
            )
    return "\n".join(rows) + "\n"
