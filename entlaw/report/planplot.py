"""The figure of ``entlaw plan``: how well the ceiling is known against the answers spent on validation."""

from __future__ import annotations

import io
from collections.abc import Sequence

from entlaw.law.plan import Budget
from entlaw.report import style
from entlaw.report.fitplot import METADATA

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_SHADES = (style.BLUE, style.ORANGE, style.INK, style.GREY, "#009E73", "#CC79A7", "#D55E00", "#56B4E9")


def plan_figure(
    budgets: Sequence[Budget], format: str = "pdf", margin: float = 0.02, level: float = 0.95
) -> bytes:
    """Draw half the ceiling's interval against the answers generated, one line for each spacing of validations.

    Parameters
    ----------
    budgets : sequence of Budget
    format : {"pdf", "svg", "png"}
    margin : float
        Drawn as the line to get below.
    level : float
        Of the intervals.

    Returns
    -------
    bytes
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style.rc()):
        figure = Figure(figsize=(style.COLUMN_WIDTH, 2.6), layout="constrained")
        ax = figure.subplots()
        for i, every in enumerate(sorted({b.design.every for b in budgets})):
            line = sorted((b for b in budgets if b.design.every == every), key=lambda b: b.design.answers)
            ax.plot(
                [b.design.answers for b in line], [100 * b.half_width for b in line], lw=0.8, ms=3.4,
                marker=_MARKS[i % len(_MARKS)], color=_SHADES[i % len(_SHADES)],
                label="every step" if every == 1 else f"every {every} steps",
            )  # fmt: skip
        ax.axhline(100 * margin, color=style.GREY, lw=0.8, ls=(0, (4, 2)))
        ax.set_xscale("log")
        ax.set_yscale("log")
        ticks = [t for t in (0.5, 1, 2, 3, 5, 10, 20, 50) if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        end = budgets[0].design.until_step
        ax.set_xlabel(f"validation answers by step {end:g}")
        ax.set_ylabel(f"± ceiling, points ({level:.0%} interval)")
        ax.legend(title="validated", title_fontsize=6.5)
        out = io.BytesIO()
        figure.savefig(out, format=format, metadata=METADATA[format])
    return out.getvalue()


def plan_csv(budgets: Sequence[Budget]) -> str:
    """What is drawn, one row a design."""
    rows = ["problems,samples,every,validations,answers,half_width,rmse,bias,coverage,within_margin,refused"]
    for b in budgets:
        d = b.design
        numbers = (b.half_width, b.rmse, b.bias, b.coverage, b.within_margin, b.refused)
        rows.append(
            f"{d.problems},{d.samples},{d.every},{d.validations},{d.answers},"
            + ",".join(f"{x:.6g}" for x in numbers)
        )
    return "\n".join(rows) + "\n"
