"""A table as a picture, as Markdown and as LaTeX, from one description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entlaw.report.style import INK
from entlaw.report.table import LATEX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_HEIGHT = 0.165  # inches
FONT = 6.6

_LATEX = LATEX | {"±": r"$\pm$", "−": "$-$"}


@dataclass(frozen=True)
class Block:
    """A header, its rows, and which of their cells are the best of a column.

    Attributes
    ----------
    title : str
        Stands over it.
    header : tuple of str
        The first is the row labels'.
    rows : tuple of tuple of str
        As long as the header.
    best : frozenset of (int, int)
        (row, column) of cells in bold.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


def picture(blocks: Sequence[Block], width: float, label_share: float = 0.2) -> Figure:
    """Blocks below one another, each with rules above and below its header and at its end.

    Parameters
    ----------
    blocks : sequence of Block
    width : float
        Inches.
    label_share : float
        Of the width, for the row labels.
    """
    from matplotlib.figure import Figure

    lines = sum(len(b.rows) + 2.6 for b in blocks)
    fig = Figure(figsize=(width, ROW_HEIGHT * lines + 0.1))
    ax = fig.add_axes((0.01, 0.01, 0.98, 0.98))
    ax.set_xlim(0, 1)
    ax.set_ylim(lines, 0)
    ax.set_axis_off()
    y = 0.5
    for block in blocks:
        columns = len(block.header) - 1
        at = [label_share + (i + 1) * (1 - label_share) / columns for i in range(columns)]
        ax.text(0, y, block.title, fontsize=FONT + 0.8, color=INK, weight="bold", va="center")
        ax.plot([0, 1], [y + 0.6, y + 0.6], color=INK, lw=0.9)
        ax.plot([0, 1], [y + 1.5, y + 1.5], color=INK, lw=0.4)
        for r, row in enumerate((block.header, *block.rows)):
            line = y + 1.05 + r + (0.1 if r else 0.0)
            for c, text in enumerate(row):
                weight = "bold" if (r - 1, c) in block.best else "normal"
                x, side = (0.0, "left") if c == 0 else (at[c - 1], "right")
                ax.text(x, line, text, ha=side, va="center", fontsize=FONT, color=INK, weight=weight)
        y += len(block.rows) + 1.75
        ax.plot([0, 1], [y, y], color=INK, lw=0.9)
        y += 0.85
    return fig


def markdown(blocks: Sequence[Block]) -> str:
    """As GitHub shows it."""
    parts = []
    for b in blocks:
        lines = [b.header, tuple([":--"] + ["--:"] * (len(b.header) - 1))]
        lines += [
            tuple(f"**{cell}**" if (r, c) in b.best else cell for c, cell in enumerate(row))
            for r, row in enumerate(b.rows)
        ]
        told = "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )
        parts.append(f"**{b.title}**\n\n{told}\n")
    return "\n".join(parts)


def latex(blocks: Sequence[Block]) -> str:
    """For a paper, with the package booktabs."""
    parts = []
    for b in blocks:
        lines = [f"% {b.title}", rf"\begin{{tabular}}{{l{'r' * (len(b.header) - 1)}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, b.header)) + r" \\", r"\midrule"]
        for r, row in enumerate(b.rows):
            cells = [
                rf"\textbf{{{_escaped(t)}}}" if (r, c) in b.best else _escaped(t) for c, t in enumerate(row)
            ]
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
