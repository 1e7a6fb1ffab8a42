"""What the plots of one run show, said once: `plots` draws it with matplotlib, `html_plot` as SVG.

R against H with the law, its bands and the ceiling; R and H against the step, with what is predicted. And the numbers
behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from entlaw.law.forecast import Forecast
from entlaw.law.result import Result
from entlaw.law.summary import describe_window, format_interval, format_number

# Bands, curves, dots, intervals at one x, and rules from edge to edge; a renderer has a look for each.
Bands = Literal["prediction", "line"]
Curves = Literal["law", "implied", "entropy", "smoothed"]
Dots = Literal["later", "fitted"]
Intervals = Literal["ceiling", "early", "ahead"]
Rules = Literal["level", "window"]
MarkKind = Bands | Curves | Dots | Intervals | Rules


@dataclass(frozen=True)
class Mark:
    """Something to draw.

    Attributes
    ----------
    kind : str
        What it is. ``prediction`` and ``line`` are bands; ``law`` a curve over H, ``implied`` the law at each point's
        entropy; ``early`` is the last score as it was predicted at the end of the law's window, ``ahead`` a score
        predicted from all that is seen; ``level`` is the ceiling as a horizontal rule, ``window`` the last step of the
        law's window as a vertical one.
    x, y : ndarray, shape (n,)
        Of an interval one value each; of a band y is the middle.
    lo, hi : ndarray, shape (n,)
        Of a band or an interval; else empty.
    at : ndarray of int, shape (n,), or None
        Of dots: positions in ``result.points``.
    label : str
        For a key; empty for none.
    """

    kind: MarkKind
    x: np.ndarray
    y: np.ndarray
    lo: np.ndarray = field(default_factory=lambda: np.zeros(0))
    hi: np.ndarray = field(default_factory=lambda: np.zeros(0))
    at: np.ndarray | None = None
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes
    ----------
    marks : tuple of Mark
        Later ones lie on top.
    x_range, y_range : (left, right), (bottom, top)
    x_label, y_label : str
    """

    marks: tuple[Mark, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str


def law_panel(result: Result, grid: int = 200) -> Panel:
    """R against H, training running to the right: points, and the law with its bands and the ceiling.

    Parameters
    ----------
    result : Result
        With points. A law that is refused is not drawn.
    grid : int
        Points of the bands' outlines.
    """
    fit, level = result.law, result.settings.level
    h, r = result.points.entropy, result.points.score
    top = max(float(h.max()), fit.entropy_range[1] if fit else 0.0) or 1.0
    marks, seen = [], r
    if fit is not None:
        x, percent = np.linspace(0.0, top * 1.04, grid), f"{level:.0%}"
        prediction, line = fit.prediction_at(x, level), fit.line_at(x, level)
        new = f"next score, {percent}"
        marks = [
            Mark("prediction", x, prediction.mean, prediction.lo, prediction.hi, label=new),
            Mark("line", x, line.mean, line.lo, line.hi, label=f"line, {percent}"),
            Mark("law", x, fit.value_at(x), label=r"$R = b - a\,e^{H}$"),
        ]
        c = fit.ceiling_interval
        seen = np.concatenate([r, [fit.ceiling, c.lo, c.hi]])
    marks += _dots(result, entropy_used(result), r)
    if fit is not None:
        told = f"ceiling {format_number(fit.ceiling)} {format_interval(c)}"
        marks.append(_interval("ceiling", 0.0, fit.ceiling, c.lo, c.hi, told))
    limits = window(r, seen[np.isfinite(seen)])
    kind = "" if result.run is None else f"{result.run.performance_kind} "
    x_label, y_label = f"policy entropy H (nats per token{_own_key(result, ', ')})", f"{kind}score R"
    return Panel(tuple(marks), (top * 1.04, -0.03 * top), limits, x_label, y_label)


def steps_panels(result: Result) -> tuple[Panel, Panel]:
    """R and H against the step, with what is predicted of R.

    Parameters
    ----------
    result : Result
        With points.
    """
    fit, points = result.law, result.points
    t, r, h = points.step, points.score, entropy_used(result)
    log_t, log_h = points.log_step, points.log_entropy
    ahead = [one for one in result.forecast.at if one.step is not None]
    times = np.concatenate([t, log_t, [one.step for one in ahead]])
    reach = (min(float(times.min()), 0.0), float(times.max()))
    scores, entropies = _dots(result, t, r), _dots(result, t, h)
    log = result.run.entropy_log if result.run is not None else None
    curves = (
        [Mark("entropy", log_t, log_h, label="" if log is None else f"H: {log.key}")] if len(log_t) else []
    )
    rules = []
    if fit is not None:
        with np.errstate(over="ignore"):
            scores = [Mark("implied", t, fit.value_at(h)), *scores]
        own = _own_key(result, "H: ")
        curves.append(Mark("smoothed", fit.points.step, fit.points.entropy, label=own))
        if fit.until_step is not None:
            rules = [Mark("window", np.array([fit.until_step]), np.zeros(1))]
    if result.early is not None:
        scores.append(_predicted("early", result.early))
    scores += [_predicted("ahead", one) for one in ahead]
    least, most = float(r.min()), float(r.max())
    span = (most - least) or 0.1
    extra = [float(v) for m in scores for v in (*m.lo, *m.hi)]
    if fit is not None:
        extra.append(fit.ceiling)
        scores.append(Mark("level", np.zeros(1), np.array([fit.ceiling])))
    # An absurd interval must not flatten the data: as much room again at most.
    bottom, top = max(min([least, *extra]), least - span), min(max([most, *extra]), most + span)
    score = Panel((*scores, *rules), reach, (bottom - 0.08 * span, top + 0.08 * span), "training step", "R")
    values = np.concatenate([log_h, points.entropy])
    lo, hi = min(0.0, float(values.min())), float(values.max())
    floor = (lo, hi + 0.06 * ((hi - lo) or 1.0))
    return score, Panel((*curves, *entropies, *rules), reach, floor, "training step", "H")


def _own_key(result: Result, lead: str) -> str:
    """Key of the scores' entropy, where the log is another series."""
    run = result.run
    return "" if run is None or run.entropy_log is None else f"{lead}{run.entropy.key}"


def window(observed: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Limits that show everything, unless an absurd interval would flatten the data: then the data and as much more."""
    room = 0.08 * (float(np.ptp(seen)) or 1.0)
    lo, hi = float(observed.min()), float(observed.max())
    span = (hi - lo) or 0.1
    return max(float(seen.min()) - room, lo - 1.5 * span), min(float(seen.max()) + room, hi + 1.5 * span)


def fitted_points(result: Result) -> np.ndarray:
    """Which points are in the law's window; boolean, shape (n,). None where the law is refused."""
    fit, step = result.law, result.points.step
    if fit is None:
        return np.zeros(len(step), dtype=bool)
    return np.ones(len(step), dtype=bool) if fit.until_step is None else step <= fit.until_step


def entropy_used(result: Result) -> np.ndarray:
    """The entropy at each point: smoothed where the law used it so, else as logged; shape (n,)."""
    h = result.points.entropy.copy()
    if result.law is not None:
        h[fitted_points(result)] = result.law.points.entropy
    return h


def points_csv(result: Result, rows: Sequence[int] | np.ndarray | None = None) -> str:
    """The numbers behind the plots: every point, whether it was fitted, the entropy the law used, the law's value.

    Parameters
    ----------
    result : Result
    rows : sequence of int, optional
        Only these points.

    Returns
    -------
    str
        CSV with columns step, entropy_logged, entropy_used, performance, fitted, law.
    """
    p, used = result.points, entropy_used(result)
    with np.errstate(over="ignore"):
        law = "" if result.law is None else result.law.value_at(used)
    columns = {"step": p.step, "entropy_logged": p.entropy, "entropy_used": used, "performance": p.score}
    table = pd.DataFrame(columns | {"fitted": fitted_points(result).astype(int), "law": law})
    chosen = table if rows is None else table.iloc[rows]
    return chosen.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _dots(result: Result, x: np.ndarray, y: np.ndarray) -> list[Mark]:
    """The points: those the law used above the others."""
    fit, used = result.law, fitted_points(result)
    later, fitted = np.flatnonzero(~used), np.flatnonzero(used)
    told = f"{'points' if fit is None else 'held out'}, n = {len(later)}" if len(later) else ""
    marks = [Mark("later", x[later], y[later], at=later, label=told)]
    if fit is not None:
        told = f"fitted, n = {fit.n} ({describe_window(fit.until_step)})"
        marks.append(Mark("fitted", x[fitted], y[fitted], at=fitted, label=told))
    return marks


def _predicted(kind: MarkKind, made: Forecast) -> Mark:
    """A predicted score with the interval at the result's level."""
    told = f"forecast, {describe_window(made.until_step)} ({made.model})"
    return _interval(kind, made.step or 0.0, made.median, made.interval.lo, made.interval.hi, told)


def _interval(kind: MarkKind, x: float, y: float, lo: float, hi: float, label: str = "") -> Mark:
    return Mark(kind, np.array([x]), np.array([y]), np.array([lo]), np.array([hi]), label=label)
