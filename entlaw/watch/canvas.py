"""Small plots in a terminal: points and lines on a grid of braille dots, or of plain characters.

plotext was tried in its place (November 2026). 5.3 (0.26 MB, pure Python, 0.1 s to import) frames a plot in characters
that are not ASCII whatever its marks, which a plain terminal cannot show, and gives a row of thirteen less to the
curves; 6.1 is 1.3 MB with compiled parts and takes 0.5 s to import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Braille dots by (column, row) within a cell of 2 x 4.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800


@dataclass(frozen=True)
class PlotSeries:
    """Something to draw.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
    style : str
        A rich style, e.g. ``cyan``.
    mark : str
        Character where there is no braille.
    joined : bool
        Join neighbours by lines.
    """

    x: np.ndarray
    y: np.ndarray
    style: str = ""
    mark: str = "*"
    joined: bool = False


@dataclass(frozen=True)
class Plot:
    """Rows of (text, style) cells, axis labels included."""

    rows: tuple[tuple[tuple[str, str], ...], ...]

    def plain(self) -> str:
        """Without styles."""
        return "\n".join("".join(text for text, _ in row) for row in self.rows)


def draw(
    series: Sequence[PlotSeries],
    width: int,
    height: int,
    *,
    title: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    braille: bool = True,
) -> Plot:
    """Draw series into a box of characters.

    Parameters
    ----------
    series : sequence of PlotSeries
        Later ones lie on top.
    width, height : int
        Of the whole, title, labels and axis included; at least 12 x 4.
    title : str
    x_range, y_range : (low, high), optional
        From the data by default.
    braille : bool
        False: plain ASCII.

    Returns
    -------
    Plot
    """
    width, height = max(width, 12), max(height, 4)
    low_x, high_x = x_range or _range([s.x for s in series])
    low_y, high_y = y_range or _range([s.y for s in series], room=0.04)
    labels = [_label(high_y), _label(low_y)]
    margin = max(map(len, labels)) + 1
    columns, rows = width - margin - 1, height - 2
    fine = (2, 4) if braille else (1, 1)
    dots: dict[tuple[int, int], int] = {}
    styles: dict[tuple[int, int], str] = {}
    marks: dict[tuple[int, int], str] = {}
    for s in series:
        for px, py in _pixels(s, (low_x, high_x), (low_y, high_y), columns * fine[0], rows * fine[1]):
            cell = (px // fine[0], py // fine[1])
            dots[cell] = dots.get(cell, 0) | _DOTS[px % fine[0]][py % fine[1]]
            styles[cell], marks[cell] = s.style, s.mark
    out: list[tuple[tuple[str, str], ...]] = [((title[:width].ljust(width), "bold"),)]
    bar = "│" if braille else "|"
    for row in range(rows):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        cells = [(label.rjust(margin - 1) + " " + bar, "dim")]
        for column in range(columns):
            cell = (column, row)
            text = (chr(_BLANK + dots[cell]) if braille else marks[cell]) if cell in dots else " "
            cells.append((text, styles.get(cell, "")))
        out.append(tuple(cells))
    ends = f"{low_x:g}", f"{high_x:g}"
    axis = " " * margin + ends[0] + ends[1].rjust(max(columns + 1 - len(ends[0]), 0))
    out.append(((axis[:width].ljust(width), "dim"),))
    return Plot(tuple(out))


def _pixels(
    s: PlotSeries, x_range: tuple[float, float], y_range: tuple[float, float], wide: int, high: int
) -> list[tuple[int, int]]:
    keep = np.isfinite(s.x) & np.isfinite(s.y)
    x, y = np.asarray(s.x, dtype=float)[keep], np.asarray(s.y, dtype=float)[keep]
    if not len(x):
        return []
    px = (x - x_range[0]) / ((x_range[1] - x_range[0]) or 1.0) * (wide - 1)
    py = (y_range[1] - y) / ((y_range[1] - y_range[0]) or 1.0) * (high - 1)
    if s.joined and len(px) > 1:
        px, py = _joined(px, py)
    # What lies outside is not drawn at the edge: it would look as if it were there.
    inside = (px > -0.5) & (px < wide - 0.5) & (py > -0.5) & (py < high - 0.5)
    return list(
        dict.fromkeys(
            zip(
                np.rint(px[inside]).astype(int).tolist(),
                np.rint(py[inside]).astype(int).tolist(),
                strict=True,
            )
        )
    )


def _joined(px: np.ndarray, py: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = [px[:1]], [py[:1]]
    for i in range(len(px) - 1):
        steps = min(int(max(abs(px[i + 1] - px[i]), abs(py[i + 1] - py[i]))) + 1, 2000)
        share = np.arange(1, steps + 1) / steps
        xs.append(px[i] + share * (px[i + 1] - px[i]))
        ys.append(py[i] + share * (py[i + 1] - py[i]))
    return np.concatenate(xs), np.concatenate(ys)


def _range(arrays: Sequence[np.ndarray], room: float = 0.0) -> tuple[float, float]:
    values = np.concatenate([np.asarray(a, dtype=float) for a in arrays]) if arrays else np.zeros(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low - 0.5, high + 0.5
    return low - room * (high - low), high + room * (high - low)


def _label(value: float) -> str:
    digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f}" if math.isfinite(value) else "?"
