"""The plots of the report as inline SVG: R against H with the law, R and H against the step.

They are whole without JavaScript; report.js only adds what moves. Colours are classes, so that a page's theme
decides; every marker says by ``data-i`` which row of the run's CSV it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.report.fitplot import split, window
from entlaw.report.html_entry import Entry
from entlaw.report.html_text import text
from entlaw.report.html_words import interval, number

WIDTH, LAW_HEIGHT, STEPS_HEIGHT = 460, 330, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 38
_GAP = 16
# Points of the bands' outlines: more cannot be seen at this width.
_GRID = 60
_CROWD = 120

# Once a page; a marker is then one short <use>. Shapes differ, so that colours need not be told apart.
SYMBOLS = """<svg width="0" height="0" class="defs" aria-hidden="true" focusable="false"><defs>
<circle id="mf" r="3.4"/><rect id="ml" x="-3" y="-3" width="6" height="6"/>
<circle id="sf" r="2.4"/><rect id="sl" x="-1.9" y="-1.9" width="3.8" height="3.8"/>
<path id="mc" d="M0-6.5 5.5 0 0 6.5-5.5 0z"/><path id="mx" d="M-4-4 4 4M-4 4 4-4"/></defs></svg>"""


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
        unit = 10.0 ** np.floor(np.log10(span / about))
        step = unit * next(m for m in (1, 2, 5, 10) if span / (unit * m) <= about)
        return np.arange(np.ceil(lo / step - 1e-9), np.floor(hi / step + 1e-9) + 1) * step


@dataclass(frozen=True)
class Shown:
    """Which points of a run are drawn.

    Attributes
    ----------
    points : ndarray of int, shape (m,)
        Positions in ``run.points``.
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


def law_plot(e: Entry, key: str, shown: Shown) -> str:
    """R against H: points, and of an answered run the law with its bands and the ceiling.

    Parameters
    ----------
    e : Entry
        With a run.
    key : str
        Prefix of the ids within.
    shown : Shown

    Returns
    -------
    str
        An SVG element.
    """
    assert e.run is not None
    points = e.run.points
    h, r = points["entropy"].to_numpy(float), points["performance"].to_numpy(float)
    fit = e.fit if e.answered else None
    top = max(float(np.nanmax(h)), fit.entropy_range[1] if fit else 0.0) or 1.0
    x = Axis(top * 1.04, -0.03 * top, _LEFT, WIDTH - _RIGHT)
    seen = r
    if fit is not None:
        c = fit.ceiling_interval
        seen = np.concatenate([r, fit.points.score, [fit.ceiling, c.lo, c.hi]])
    seen = seen[np.isfinite(seen)]
    room = 0.08 * (float(np.ptp(seen)) or 1.0)
    y = Axis(*window(r, seen, room), LAW_HEIGHT - _BOTTOM, _TOP)
    parts = _frame(x, y, LAW_HEIGHT - _BOTTOM, _TOP, "policy entropy H (nats per token)", _label(e), 6, 5)
    parts.append(_clip(key, _TOP, LAW_HEIGHT - _BOTTOM))
    inside = []
    if fit is not None:
        grid = np.linspace(0.0, top * 1.04, _GRID)
        level = fit.ceiling_interval.level
        prediction, line = fit.prediction_at(grid, level), fit.line_at(grid, level)
        inside += [_band("bp", x(grid), y(prediction.lo), y(prediction.hi)),
                   _band("bl", x(grid), y(line.lo), y(line.hi)),
                   f'<path class="law" d="{_path(x(grid), y(line.mean))}"/>']  # fmt: skip
    inside += _markers(e, x(_drawn_entropy(e)), y(r), shown, small=False)
    parts.append(f'<g clip-path="url(#{key}c)">{"".join(inside)}</g>{_axes(LAW_HEIGHT - _BOTTOM, _TOP)}')
    if fit is not None:
        c, at = fit.ceiling_interval, x(0.0)
        ends = np.clip(y(np.array([c.lo, c.hi])), _TOP, LAW_HEIGHT - _BOTTOM)
        parts.append(f'<path class="err" d="M{_px(at)} {_px(ends[0])}V{_px(ends[1])}"/>')
        parts.append(f'<use class="mc" href="#mc" x="{_px(at)}" y="{_px(y(fit.ceiling))}"/>')
    return _svg(LAW_HEIGHT, parts, describe(e))


def steps_plot(e: Entry, key: str, shown: Shown) -> str:
    """R above H, both against the step; the parameters are those of :func:`law_plot`."""
    assert e.run is not None
    points = e.run.points
    t, r = points["step"].to_numpy(float), points["performance"].to_numpy(float)
    log_t, log_h = e.run.entropy_series()
    fit = e.fit if e.answered else None
    ends = [float(t.max()), float(log_t.max()) if len(log_t) else 0.0]
    start = min(float(t.min()), float(log_t.min()) if len(log_t) else 0.0, 0.0)
    final = e.future.final if e.future is not None else None
    end = max(*ends, final.target if final is not None else 0.0)
    x = Axis(start, end + 0.02 * (end - start or 1.0), _LEFT, WIDTH - _RIGHT)
    inner = STEPS_HEIGHT - _TOP - _BOTTOM - _GAP
    base_r, base_h = _TOP + 0.58 * inner, STEPS_HEIGHT - _BOTTOM
    least, most = float(np.nanmin(r)), float(np.nanmax(r))
    span = (most - least) or 0.1
    extra = [v for f in (e.early, final) if f is not None for v in (f.interval.lo, f.interval.hi)]
    extra += [fit.ceiling] if fit is not None else []
    lo = max(min([least, *extra]), least - span) - 0.08 * span
    hi = min(max([most, *extra]), most + span) + 0.08 * span
    yr, yh = (
        Axis(lo, hi, base_r, _TOP),
        _entropy_axis(log_h, points["entropy"].to_numpy(float), base_h, base_r),
    )
    parts = _frame(x, yr, base_r, _TOP, "", "R", 6, 4, steps=True)
    parts += _frame(x, yh, base_h, base_r + _GAP, "training step", "H", 6, 3)
    parts += [_clip(f"{key}r", _TOP, base_r), _clip(f"{key}h", base_r + _GAP, base_h)]
    upper, lower = [], []
    if fit is not None:
        if lo < fit.ceiling < hi:
            parts.append(f'<path class="ceil" d="M{_LEFT} {_px(yr(fit.ceiling))}H{WIDTH - _RIGHT}"/>')
        if fit.until_step is not None and fit.until_step < end:
            parts.append(f'<path class="win" d="M{_px(x(fit.until_step))} {_TOP}V{_px(base_h)}"/>')
        with np.errstate(over="ignore"):
            implied = fit.b - fit.a * np.exp(_drawn_entropy(e))
        upper.append(f'<path class="law" d="{_path(x(t[shown.points]), yr(implied[shown.points]))}"/>')
    upper += _markers(e, x(t), yr(r), shown, small=True)
    for f, title in ((e.early, "early"), (final, "final")):
        if f is not None:
            at, two = _px(x(f.target)), yr(np.array([f.interval.lo, f.interval.hi]))
            upper.append(f'<path class="fc {title}" d="M{at} {_px(two[0])}V{_px(two[1])}"/>'
                         f'<use class="mx" href="#mx" x="{at}" y="{_px(yr(f.performance))}"/>')  # fmt: skip
    if len(log_t):
        a, b = thin_line(log_t, log_h, max(40, len(shown.rows)))
        lower.append(f'<path class="ent" d="{_path(x(a), yh(b))}"/>')
    lower += _markers(e, x(t), yh(_drawn_entropy(e)), shown, small=True)
    parts.append(f'<g clip-path="url(#{key}rc)">{"".join(upper)}</g>')
    parts.append(f'<g clip-path="url(#{key}hc)">{"".join(lower)}</g>')
    parts += [_axes(base_r, _TOP), _axes(base_h, base_r + _GAP)]
    return _svg(STEPS_HEIGHT, parts, f"Performance R and entropy H of {e.label} against the training step.")


def describe(e: Entry) -> str:
    """What the law's plot shows, for who cannot see it."""
    assert e.run is not None
    p = e.run.points
    n = len(p)
    told = (
        f"Performance against entropy of {e.label}: {n} point{'' if n == 1 else 's'}, "
        f"H from {number(float(p['entropy'].iloc[0]))} to {number(float(p['entropy'].iloc[-1]))}, "
        f"R from {number(float(p['performance'].iloc[0]))} to {number(float(p['performance'].iloc[-1]))}."
    )
    if e.answered and e.fit is not None:
        c = e.fit.ceiling_interval
        told += f" The fitted law reaches {number(e.fit.ceiling)} at H = 0, interval {interval(c.lo, c.hi)}."
    return told


def mini(low: float, high: float, centre: float, lo: float, hi: float, last: float | None) -> str:
    """A bar for a table's cell: the interval, the ceiling and the last score on one scale for all runs."""
    x = Axis(low, high, 6, 114)
    ends = np.clip(x(np.array([lo, hi])), 1, 119)
    parts = [f'<path class="err" d="M{_px(ends[0])} 9H{_px(ends[1])}"/>',
             f'<use class="mc" href="#mc" x="{_px(x(centre))}" y="9"/>']  # fmt: skip
    if last is not None:
        parts.append(f'<use class="ml" href="#ml" x="{_px(x(last))}" y="9"/>')
    return (
        f'<svg class="mini" viewBox="0 0 120 18" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )


def _drawn_entropy(e: Entry) -> np.ndarray:
    """The entropy at each point: smoothed where the fit used it so, else as logged; shape (n,)."""
    assert e.run is not None
    h = e.run.points["entropy"].to_numpy(float).copy()
    if e.answered and e.fit is not None:
        used, _ = split(e.fit, e.run)
        smooth = dict(zip(e.fit.points.step, e.fit.points.entropy, strict=True))
        t = e.run.points["step"].to_numpy(float)
        h[used] = [smooth.get(s, v) for s, v in zip(t[used], h[used], strict=True)]
    return h


def _markers(e: Entry, x: np.ndarray, y: np.ndarray, shown: Shown, *, small: bool) -> list[str]:
    """The points; those the fit used are discs, the others open squares drawn beneath them."""
    assert e.run is not None
    if e.answered and e.fit is not None:
        used, _ = split(e.fit, e.run)
    else:
        used = np.zeros(len(e.run.points), dtype=bool)
    order = sorted(zip(shown.rows, shown.points, strict=True), key=lambda pair: bool(used[pair[1]]))
    # Beside each other in time they would hide the curves; a crowd anywhere would hide itself.
    size = "s" if small or len(shown.rows) > _CROWD else "m"
    return [
        f'<use class="{"mf" if used[j] else "ml"}" href="#{size}{"f" if used[j] else "l"}" '
        f'x="{_px(x[j])}" y="{_px(y[j])}" data-i="{i}"/>'
        for i, j in order
        if np.isfinite(x[j]) and np.isfinite(y[j])
    ]


def _entropy_axis(log: np.ndarray, points: np.ndarray, base: float, top: float) -> Axis:
    values = np.concatenate([log, points])
    values = values[np.isfinite(values)]
    hi = float(values.max()) if len(values) else 1.0
    lo = min(0.0, float(values.min())) if len(values) else 0.0
    return Axis(lo, hi + 0.06 * ((hi - lo) or 1.0), base, top + _GAP)


def _frame(
    x: Axis,
    y: Axis,
    base: float,
    top: float,
    x_label: str,
    y_label: str,
    nx: int,
    ny: int,
    *,
    steps: bool = False,
) -> list[str]:
    """Axes, grid and labels; ``steps`` leaves out the labels of x, which the panel below has."""
    left, right = _LEFT, WIDTH - _RIGHT
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


def _axes(base: float, top: float) -> str:
    """The lines of the axes, drawn last."""
    return f'<path class="axis" d="M{_LEFT} {_px(top)}V{_px(base)}H{WIDTH - _RIGHT}"/>'


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">'
        f"{''.join(p for p in parts if p)}</svg>"
    )


def _clip(key: str, top: float, base: float) -> str:
    size = f'width="{WIDTH - _LEFT - _RIGHT + 8}" height="{_px(base - top + 4)}"'
    return f'<clipPath id="{key}c"><rect x="{_LEFT - 2}" y="{_px(top - 2)}" {size}/></clipPath>'


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


def _label(e: Entry) -> str:
    assert e.run is not None
    return f"{'validation' if e.run.performance_kind == 'validation' else 'training'} performance R"
