"""The plots of the report as inline SVG: what `picture` describes, R against H and both against the step.

They are whole without JavaScript; report.js only adds what moves. Colours are classes, so that a page's theme
decides; every marker says by ``data-i`` which row of the run's CSV it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.law.result import Result
from entlaw.law.summary import format_interval, format_number
from entlaw.report.html_words import text
from entlaw.report.picture import Mark, Panel, law_panel, steps_panels

WIDTH, LAW_HEIGHT, STEPS_HEIGHT = 460, 330, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 38
_GAP = 16
# Points of the bands' outlines: more cannot be seen at this width.
_GRID = 60
_CROWD = 120
# The class of each kind of mark.
_BANDS = {"prediction": "bp", "line": "bl"}
_CURVES = {"law": "law", "implied": "law", "entropy": "ent"}

# Once a page; a marker is then one short <use>. Shapes differ, so that colours need not be told apart.
SYMBOLS = """<svg width="0" height="0" class="defs" aria-hidden="true" focusable="false"><defs>
<circle id="mf" r="3.4"/><rect id="ml" x="-3" y="-3" width="6" height="6"/>
<circle id="sf" r="2.4"/><rect id="sl" x="-1.9" y="-1.9" width="3.8" height="3.8"/>
<path id="mc" d="M0-6.5 5.5 0 0 6.5-5.5 0z"/><path id="sc" d="M0-4.5 3 0 0 4.5-3 0z"/>
<path id="mx" d="M-4-4 4 4M-4 4 4-4"/></defs></svg>"""


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to pixels; ``lo`` is drawn at ``start``."""

    lo: float
    hi: float
    start: float
    end: float

    def __call__(self, value: np.ndarray | float) -> np.ndarray:
        """Pixels, kept within a few widths of the plot so that no number explodes."""
        share = (np.asarray(value, dtype=float) - self.lo) / ((self.hi - self.lo) or 1.0)
        return self.start + np.clip(share, -3.0, 4.0) * (self.end - self.start)

    def ticks(self, about: int) -> np.ndarray:
        """Round numbers within the scale, not many more than ``about``."""
        lo, hi = min(self.lo, self.hi), max(self.lo, self.hi)
        span = (hi - lo) or 1.0
        steps = 10.0 ** np.floor(np.log10(span / about)) * np.array([1, 2, 5, 10])
        wide = int(np.argmax(span / steps <= about))
        ticks = np.zeros(0)
        for step in (steps[wide], steps[wide - 1]):  # the wider may lie around the scale: then the finer
            if not len(ticks):
                ticks = np.arange(np.ceil(lo / step - 1e-9), np.floor(hi / step + 1e-9) + 1) * step
        return ticks


@dataclass(frozen=True)
class Shown:
    """Which points of a run are drawn.

    Attributes
    ----------
    points : ndarray of int, shape (m,)
        Positions in ``result.points``.
    rows : ndarray of int, shape (m,)
        Rows of the run's CSV, as it is embedded, that say the same.
    """

    points: np.ndarray
    rows: np.ndarray


def thin(n: int, most: int) -> np.ndarray:
    """Positions of at most ``most`` of ``n`` points, evenly spread, the first and the last among them."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.round(np.linspace(0, n - 1, most)).astype(int))


def thin_line(x: np.ndarray, y: np.ndarray, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """A curve with the lowest and highest value of each of ``buckets`` equal pieces: peaks stay where they are."""
    if len(x) <= 2 * buckets:
        return x, y
    keep = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), buckets):
        keep |= {int(part[np.argmin(y[part])]), int(part[np.argmax(y[part])])}
    order = np.array(sorted(keep))
    return x[order], y[order]


def law_plot(result: Result, label: str, key: str, shown: Shown) -> str:
    """R against H: points, and the law with its bands and the ceiling, where it is not refused.

    Parameters
    ----------
    result : Result
        With points.
    label : str
        What the run is called.
    key : str
        Prefix of the ids within.
    shown : Shown

    Returns
    -------
    str
        An SVG element.
    """
    panel = law_panel(result, _GRID)
    base = LAW_HEIGHT - _BOTTOM
    x, y = Axis(*panel.x_range, _LEFT, WIDTH - _RIGHT), Axis(*panel.y_range, base, _TOP)
    parts = [*_frame(x, y, panel.x_label, panel.y_label, 6, 5), _clip(key, y)]
    parts += [_inside(key, panel, x, y, shown), _axes(y)]
    for m in panel.marks:
        if m.kind == "ceiling":
            at, ends = _px(x(m.x[0])), np.clip(y(np.append(m.lo, m.hi)), _TOP, base)
            parts.append(f'<path class="err" d="M{at} {_px(ends[0])}V{_px(ends[1])}"/>')
            parts.append(f'<use class="mc" href="#mc" x="{at}" y="{_px(y(m.y[0]))}"/>')
    return _svg(LAW_HEIGHT, parts, describe_plot(result, label))


def steps_plot(result: Result, label: str, key: str, shown: Shown) -> str:
    """R above H, both against the step; the parameters are those of :func:`law_plot`."""
    score, entropy = steps_panels(result)
    start, end = score.x_range
    x = Axis(start, end + 0.02 * (end - start or 1.0), _LEFT, WIDTH - _RIGHT)
    inner = STEPS_HEIGHT - _TOP - _BOTTOM - _GAP
    base_r, base_h = _TOP + 0.58 * inner, STEPS_HEIGHT - _BOTTOM
    yr, yh = Axis(*score.y_range, base_r, _TOP), Axis(*entropy.y_range, base_h, base_r + _GAP)
    parts = _frame(x, yr, "", score.y_label, 6, 4, steps=True)
    parts += _frame(x, yh, entropy.x_label, entropy.y_label, 6, 3)
    parts += [_clip(f"{key}r", yr), _clip(f"{key}h", yh)]
    for m in score.marks:
        if m.kind == "level" and yr.lo < m.y[0] < yr.hi:
            parts.append(f'<path class="ceil" d="M{_LEFT} {_px(yr(m.y[0]))}H{WIDTH - _RIGHT}"/>')
        elif m.kind == "window" and m.x[0] < end:
            parts.append(f'<path class="win" d="M{_px(x(m.x[0]))} {_TOP}V{_px(base_h)}"/>')
    for name, panel, y in (("r", score, yr), ("h", entropy, yh)):
        parts.append(_inside(key + name, panel, x, y, shown, small=True))
    parts += [_axes(yr), _axes(yh)]
    return _svg(STEPS_HEIGHT, parts, f"Score R and entropy H of {label} against the training step.")


def _inside(key: str, panel: Panel, x: Axis, y: Axis, shown: Shown, *, small: bool = False) -> str:
    """What of a panel is cut off at its edges: bands, curves, points, forecasts."""
    parts = [_mark(m, x, y, shown, small) for m in panel.marks]
    return f'<g clip-path="url(#{key}c)">{"".join(parts)}</g>'


def _mark(m: Mark, x: Axis, y: Axis, shown: Shown, small: bool) -> str:
    """One mark; empty for one that is drawn elsewhere or, at this width, not at all."""
    if m.at is not None:
        return _points(m, x, y, shown, small)
    if m.kind in _BANDS:
        return _band(_BANDS[m.kind], x(m.x), y(m.lo), y(m.hi))
    if m.kind in _CURVES:
        at, value = m.x, m.y
        if m.kind == "implied":
            at, value = at[shown.points], value[shown.points]
        elif m.kind == "entropy":
            at, value = thin_line(at, value, max(40, len(shown.rows)))
        return f'<path class="{_CURVES[m.kind]}" d="{_path(x(at), y(value))}"/>'
    if m.kind in ("early", "ahead"):
        place = _px(x(m.x[0]))
        return (
            f'<path class="fc {m.kind}" d="M{place} {_px(y(m.lo[0]))}V{_px(y(m.hi[0]))}"/>'
            f'<use class="mx" href="#mx" x="{place}" y="{_px(y(m.y[0]))}"/>'
        )
    return ""


def _points(m: Mark, x: Axis, y: Axis, shown: Shown, small: bool) -> str:
    """Those the fit used are discs, the others open squares; they say which row of the CSV they are."""
    assert m.at is not None
    letter = "f" if m.kind == "fitted" else "l"
    # Beside each other in time they would hide the curves; a crowd anywhere would hide itself.
    size = "s" if small or len(shown.rows) > _CROWD else "m"
    place = {point: k for k, point in enumerate(m.at.tolist())}
    drawn = [(i, place[j]) for i, j in zip(shown.rows, shown.points.tolist(), strict=True) if j in place]
    px, py = x(m.x), y(m.y)
    return "".join(
        f'<use class="m{letter}" href="#{size}{letter}" x="{_px(px[k])}" y="{_px(py[k])}" data-i="{i}"/>'
        for i, k in drawn
        if np.isfinite(px[k]) and np.isfinite(py[k])
    )


def describe_plot(result: Result, label: str) -> str:
    """What the law's plot shows, for who cannot see it."""
    p, law = result.points, result.law
    spans = [f"from {format_number(v[0])} to {format_number(v[-1])}" for v in (p.entropy, p.score)]
    said = (
        f"Score against entropy of {label}: {p.n} point{'' if p.n == 1 else 's'}, H {spans[0]}, R {spans[1]}."
    )
    if law is None:
        return said
    interval = format_interval(law.ceiling_interval)
    return f"{said} The law is {format_number(law.ceiling)} at H = 0, interval {interval}."


def mini(low: float, high: float, centre: float, lo: float, hi: float, last: float | None) -> str:
    """A bar for a table's cell: the interval, the ceiling and the last score on one scale for all runs."""
    x = Axis(low, high, 6, 114)
    ends = np.clip(x(np.array([lo, hi])), 1, 119)
    parts = [
        f'<path class="err" d="M{_px(ends[0])} 9H{_px(ends[1])}"/>',
        f'<use class="mc" href="#sc" x="{_px(x(centre))}" y="9"/>',
    ]
    if last is not None:
        parts.append(f'<use class="ml" href="#sl" x="{_px(x(last))}" y="9"/>')
    return (
        f'<svg class="mini" viewBox="0 0 120 18" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )


def _frame(
    x: Axis, y: Axis, x_label: str, y_label: str, nx: int, ny: int, *, steps: bool = False
) -> list[str]:
    """Axes, grid and labels; ``steps`` leaves out the labels of x, which the panel below has."""
    left, right, base, top = x.start, x.end, y.start, y.end
    parts = []
    for v in y.ticks(ny):
        at = _px(y(v))
        parts.append(f'<path class="grid" d="M{left} {at}H{right}"/>')
        parts.append(f'<text class="t e" x="{left - 5}" y="{_px(y(v) + 4)}">{_tick(v)}</text>')
    for v in x.ticks(nx):
        at = _px(x(v))
        parts.append(f'<path class="axis" d="M{at} {_px(base)}v3"/>')
        if not steps:
            parts.append(f'<text class="t m" x="{at}" y="{_px(base + 15)}">{_tick(v)}</text>')
    middle = _px((base + top) / 2)
    parts.append(f'<text class="t m" transform="translate(11 {middle})rotate(-90)">{text(y_label)}</text>')
    if x_label:
        parts.append(
            f'<text class="t m" x="{(left + right) / 2:g}" y="{_px(base + 32)}">{text(x_label)}</text>'
        )
    return parts


def _axes(y: Axis) -> str:
    """The lines of the axes, drawn last."""
    return f'<path class="axis" d="M{_LEFT} {_px(y.end)}V{_px(y.start)}H{WIDTH - _RIGHT}"/>'


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">'
        f"{''.join(p for p in parts if p)}</svg>"
    )


def _clip(key: str, y: Axis) -> str:
    size = f'width="{WIDTH - _LEFT - _RIGHT + 8}" height="{_px(y.start - y.end + 4)}"'
    return f'<clipPath id="{key}c"><rect x="{_LEFT - 2}" y="{_px(y.end - 2)}" {size}/></clipPath>'


def _band(name: str, x: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> str:
    ok = np.isfinite(lo) & np.isfinite(hi)
    if not ok.any():
        return ""
    return (
        f'<path class="{name}" d="{_path(np.append(x[ok], x[ok][::-1]), np.append(hi[ok], lo[ok][::-1]))}z"/>'
    )


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A polyline; what is not finite is left out."""
    ok = np.isfinite(x) & np.isfinite(y)
    return "M" + " ".join(f"{_px(a)},{_px(b)}" for a, b in zip(x[ok], y[ok], strict=True))


def _px(value: np.ndarray | float) -> str:
    return f"{float(value):.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}".replace("-", "−")
