"""The figures of the commands, by matplotlib: a run, plans of validation, model sizes, a back-test.

Equal input gives equal bytes. Each comes with the CSV of its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.errors import DataError
from entlaw.law.result import Result
from entlaw.report import style
from entlaw.report.picture import Panel, law_panel, steps_panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    from entlaw.law.plan import Budget
    from entlaw.law.sizes import SizeLine, Sizes

_INTERVAL: dict[str, Any] = {"elinewidth": 1.1, "capsize": 2.5, "zorder": 5}
# What is not named here is not drawn.
_LOOKS: dict[str, dict[str, Any]] = {
    "prediction": {"color": style.PREDICTION_BAND, "lw": 0},
    "line": {"color": style.LINE_BAND, "lw": 0},
    "law": {"color": style.INK, "lw": 1.1},
    "entropy": {"color": style.BLUE, "lw": 0.8},
    "smoothed": {"color": style.INK, "lw": 1.0, "ls": (0, (2, 1))},
    "later": {"marker": "o", "ls": "", "mfc": "white", "mec": style.GREY, "ms": 3, "mew": 0.7},
    "fitted": {"marker": "o", "ls": "", "color": style.INK, "ms": 3.4},
    "ceiling": {
        "fmt": "D",
        "ms": 4.5,
        "color": style.ORANGE,
        "mec": style.INK,
        "mew": 0.6,
        "ecolor": style.INK,
        "clip_on": False,
        **_INTERVAL,
    },
    "early": {"fmt": "x", "ms": 4, "color": style.GREY, **_INTERVAL},
    "ahead": {"fmt": "x", "ms": 4, "color": style.BLUE, **_INTERVAL},
    "level": {"color": style.ORANGE, "lw": 1.0, "ls": (0, (4, 2))},
    "window": {"color": style.GREY, "lw": 0.7, "ls": ":"},
}
_SMALL: dict[str, dict[str, Any]] = {"later": {"ms": 2.2, "mew": 0.6}, "fitted": {"ms": 2.4}}
_KEY: dict[str, Any] = {"handlelength": 1.6, "borderaxespad": 0, "columnspacing": 1.2}


def result_figure(result: Result, format: str = "pdf") -> bytes:
    """Draw one run: score against entropy, and both against the step.

    Parameters
    ----------
    result : Result
        With points.
    format : {"pdf", "svg", "png"}

    Returns
    -------
    bytes
    """
    return style.render(lambda figure: draw_all(figure, result), 5.2, format)


def draw_result(result: Result, ax: Axes | None = None) -> Axes:
    """Draw the score against the entropy: points, law with its bands and ceiling, points held out.

    Parameters
    ----------
    result : Result
    ax : Axes, optional
        By default those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        A run without points.
    """
    if not result.points.n:
        raise DataError(
            "there is no point to draw",
            where=result.name,
            hint="a score and an entropy of one step are wanted",
        )
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(layout="constrained")
    _draw_law(ax, result)
    ax.legend(handlelength=1.6)
    return ax


def draw_all(figure: FigureBase, result: Result) -> None:
    """Draw one run into a figure or a part of one: law, key, R and H against the step, from top to bottom."""
    axes = figure.subplot_mosaic([["law"], ["key"], ["R"], ["H"]], height_ratios=[3.2, 0.95, 1.1, 1.0])
    axes["R"].sharex(axes["H"])
    axes["R"].tick_params(labelbottom=False)
    _draw_law(axes["law"], result)
    score, entropy = steps_panels(result)
    draw_panel(axes["R"], score, small=True)
    draw_panel(axes["H"], entropy, dots=False)
    axes["H"].set_xlabel("step")
    if axes["H"].get_legend_handles_labels()[
        1
    ]:  # two series; the upper right is free where the entropy falls
        axes["H"].legend(loc="upper right", ncols=2, **_KEY)
    # The key stands apart: any corner of the plot may hold points.
    axes["key"].axis("off")
    named: dict[str, Any] = {}
    for ax in (axes["law"], axes["R"]):
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    axes["key"].legend(named.values(), named, loc="center", ncols=2, **_KEY)


def _draw_law(ax: Axes, result: Result) -> None:
    """The panel of the law, with its title."""
    panel = law_panel(result)
    draw_panel(ax, panel)
    ax.set_xlim(*panel.x_range)
    ax.set_xlabel(panel.x_label)
    name = result.name if len(result.name) <= 44 else f"{result.name[:20]}…{result.name[-22:]}"
    ax.set_title(f"{name} – law: {result.verdict}", parse_math=False)  # a name may hold dollar signs


def draw_panel(ax: Axes, panel: Panel, *, small: bool = False, dots: bool = True) -> None:
    """Draw a panel's marks, its limits of y and its label; matplotlib's own limits of x keep dots off the axis.

    Parameters
    ----------
    ax : Axes
    panel : Panel
    small, dots : bool
        Whether dots are small, and whether there are any.
    """
    for m in panel.marks:
        if m.kind not in _LOOKS or (m.at is not None and not dots):
            continue
        look = {**_LOOKS[m.kind], **(_SMALL.get(m.kind, {}) if small else {}), "label": m.label or None}
        if m.kind == "level":
            ax.axhline(m.y[0], **look)
        elif m.kind == "window":
            ax.axvline(m.x[0], **look)
        elif "fmt" in look:
            ax.errorbar(m.x, m.y, yerr=np.maximum([m.y - m.lo, m.hi - m.y], 0), **look)
        elif len(m.lo):
            ax.fill_between(m.x, m.lo, m.hi, **look)
        else:
            ax.plot(m.x, m.y, **look)
    ax.set_ylim(*panel.y_range)
    ax.set_ylabel(panel.y_label)


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

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for i, every in enumerate(sorted({b.design.every for b in budgets})):
            line = sorted((b for b in budgets if b.design.every == every), key=lambda b: b.design.answers)
            ax.plot(
                [b.design.answers for b in line],
                [100 * b.half_width for b in line],
                lw=0.8,
                ms=3.4,
                marker=_MARKS[i % len(_MARKS)],
                color=_SHADES[i % len(_SHADES)],
                label="every step" if every == 1 else f"every {every} steps",
            )
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

    return style.render(draw, 2.6, format)


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
    lines = list(found.lines.values())

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(lines), 1, sharex=True, squeeze=False)[:, 0]
        for ax, line in zip(axes, lines, strict=True):
            _draw_size(ax, line, at, level)
        axes[-1].set_xlabel("model size N (parameters, log scale)")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=1.6
        )

    return style.render(draw, 1.45 * len(lines) + 0.3, format)


def _draw_size(ax: Axes, line: SizeLine, at: Sequence[float], level: float) -> None:
    n = line.parameters
    ends = [*n, *at]
    grid = np.geomspace(min(ends) / 1.25, max(ends) * 1.25, 100)
    new = [line.at(g, level)[1] for g in grid]
    mean = [line.line_at(g, level) for g in grid]
    ax.fill_between(
        grid,
        [i.lo for i in new],
        [i.hi for i in new],
        color=style.PREDICTION_BAND,
        lw=0,
        label=f"another size, {level:.0%}",
    )
    ax.fill_between(
        grid,
        [i.lo for i in mean],
        [i.hi for i in mean],
        color=style.LINE_BAND,
        lw=0,
        label=f"line, {level:.0%}",
    )
    ax.plot(grid, [line.at(g, level)[0] for g in grid], color=style.INK, lw=1.0, label="log-linear fit")
    ax.errorbar(
        n,
        line.value,
        yerr=np.sqrt(line.variance),
        fmt="o",
        ms=3.4,
        color=style.INK,
        lw=0.8,
        capsize=2,
        label="mean of a size's runs ± 1 se",
    )
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
    from entlaw.law.backtest import NOMINAL, OUTLOOK

    ordered = scores.sort_values("crps", ascending=False)
    names = [str(n) for n in ordered.index]

    def draw(figure: Figure) -> None:
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
        hold.set_xlabel("share covered")
        figure.legend(
            *hold.get_legend_handles_labels(), loc="outside upper right", ncols=3, title="intervals of"
        )

    return style.render(draw, 1.4 + 0.32 * len(names), format)
