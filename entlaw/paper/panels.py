"""What the figures of the law draw alike: axes, the points and lines of runs, tidy tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.paper.members import Cast, Member, are_shares
from entlaw.paper.numbers import FittedLine
from entlaw.report import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's, in an order whose neighbours differ in lightness too: with the markers they differ in grey as well.
COLOURS = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#1a1a1a", "#8a8a8a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDE = 7.0  # inches: both columns
# More series than this cannot be distinguished.
MOST = len(COLOURS)
LINE_POINTS = 60


def subplots(width: float, height: float, *panels: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure with rows x columns of axes, shape (rows, columns)."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(*(panels or (1, 1)), squeeze=False, **options)


def marker_style(index: int) -> dict[str, Any]:
    """Colour and marker of the series of a number."""
    return {"color": COLOURS[index % MOST], "marker": MARKERS[index % MOST]}


def entropy_axis(ax: Axes, entropies: Sequence[np.ndarray]) -> None:
    """Entropy on a log axis that runs to the right as it falls, as in the paper."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    positive = np.concatenate([h[h > 0] for h in entropies] or [np.array([1.0])])
    ax.set_xscale("log")
    ax.set_xlim(float(positive.max()) * 1.12, float(positive.min()) / 1.12)
    few = positive.max() / positive.min() < 30
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("entropy (nats/token, falling →)")


def score_label(members: Sequence[Member]) -> str:
    """The score's axis: what it is and its unit."""
    kind = "validation" if all(m.run.performance_kind == "validation" for m in members) else "training"
    return f"{kind} accuracy (%)" if are_shares(members) else f"{kind} score"


def score_axis(ax: Axes, members: Sequence[Member]) -> None:
    """The score's label, and limits by what was measured: a line that misses it by far must not flatten it."""
    score = factor(members) * np.concatenate([m.score for m in members])
    margin = 0.15 * max(float(np.ptp(score)), 1e-3)
    low, high = float(score.min()) - margin, float(score.max()) + margin
    ax.set_ylim((max(low, -4.0), min(high, 104.0)) if are_shares(members) else (low, high))
    ax.set_ylabel(score_label(members))


def factor(members: Sequence[Member]) -> float:
    """100 where scores are shown in percent, else 1."""
    return 100.0 if are_shares(members) else 1.0


def measured(member: Member, seen: np.ndarray, scale: float) -> dict[str, np.ndarray]:
    """Columns of a table: some of a run's points, the score in a unit."""
    return {"step": member.step[seen], "entropy": member.entropy[seen], "score": scale * member.score[seen]}


def points_and_line(
    ax: Axes,
    table: Sheet,
    panel: str,
    member: Member,
    line: FittedLine,
    index: int,
    scale: float,
    *,
    label: str = "",
    points: bool = True,
) -> None:
    """A run's points, where they are wanted, and its line, in the look of an index."""
    seen, series = member.entropy > 0, label or member.label
    if points:
        at = measured(member, seen, scale)
        ax.plot(
            at["entropy"], at["score"], ls="", ms=2.4, mew=0.5, mfc="none", alpha=0.85, **marker_style(index)
        )
        table.add(panel, series, member.name, "measured", **at)
    x, y = line_ends(member.entropy[seen], line)
    colour, style = marker_style(index)["color"], "-" if points else (0, (3, 2))
    ax.plot(x, scale * y, color=colour, lw=1.3 if points else 0.7, ls=style)
    table.add(panel, series, member.name, "fit", entropy=x, score=scale * y)


def line_ends(entropy: np.ndarray, line: FittedLine) -> tuple[np.ndarray, np.ndarray]:
    """The line from the highest to the lowest entropy, evenly in log H."""
    x = np.geomspace(float(entropy.max()), float(entropy.min()), LINE_POINTS)
    return x, line.at(x)


Names = str | list[str]  # of all rows, or of each


class Sheet:
    """What is drawn, tidy, filled while it is drawn: a figure's CSV."""

    def __init__(self) -> None:
        self._rows: list[pd.DataFrame] = []

    def add(self, panel: Names, series: Names, run: Names, kind: Names, **columns: Any) -> None:
        """Rows, one a value of the columns: what was drawn as what in which panel."""
        import pandas as pd

        frame = pd.DataFrame({k: np.atleast_1d(v) for k, v in columns.items()})
        labels = {"panel": panel, "series": series, "run": run, "kind": kind}
        for at, (name, value) in enumerate(labels.items()):
            frame.insert(at, name, value)
        self._rows.append(frame)

    def frame(self) -> pd.DataFrame:
        """All rows."""
        import pandas as pd

        return pd.concat(self._rows, ignore_index=True)


def of_lines(
    members: Sequence[Member], lines: Mapping[str, FittedLine], *names: str
) -> dict[str, list[float]]:
    """Columns of a table: the named attributes of each run's line."""
    return {name: [getattr(lines[m.name], name) for m in members] for name in names}


def name_rows(ax: Axes, labels: Sequence[str], above: float = -0.5, **options: Any) -> None:
    """A y axis of names, the first at the top, with a thin line through each."""
    ax.set_yticks(range(len(labels)), labels, **options)
    ax.set_ylim(len(labels) - 0.5, above)
    ax.grid(axis="y", lw=0.3, color="#dddddd")
    ax.set_axisbelow(True)


def twin(ax: Axes) -> Axes:
    """A second y axis on the right, with its line."""
    other = ax.twinx()
    other.spines["right"].set_visible(True)
    return other


def at_most(cast: Cast, members: Sequence[Member], what: str = "runs") -> tuple[list[Member], str]:
    """The first series that can be distinguished, and a sentence about the others."""
    if len(members) <= MOST:
        return list(members), ""
    return list(members[:MOST]), f"{len(members) - MOST} more {what} of {len(cast.members)} are not drawn. "


def letters(axes: Iterable[Axes]) -> None:
    """(a), (b) ... in front of the panels' titles."""
    for ax, letter in zip(axes, "abcdefghijkl", strict=False):
        title = ax.get_title()
        ax.set_title("")
        ax.set_title(f"({letter}) {title}".rstrip(), loc="left")


def key(ax: Axes, labels: Sequence[str], **options: Any) -> None:
    """A legend of series by colour and marker."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ms=3.4, mfc="none", mew=0.7, lw=1.2, **marker_style(i)) for i in range(len(labels))
    ]
    small = {} if len(labels) <= 6 and max(map(len, labels)) < 12 else {"fontsize": 5.0}
    ax.legend(
        handles, labels, handlelength=1.8, labelspacing=0.25, **{"loc": "upper left", **small, **options}
    )


INK, GREY = style.INK, style.GREY
