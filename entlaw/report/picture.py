"""What the plots of one run show, said once: `plots` draws it with matplotlib, `html_plot` as SVG.

Of a fit: R against H with the law, its bands and the ceiling; R and H against the step. And the numbers behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from entlaw.law.shapes import Fit, Forecast
from entlaw.runs.run import Run

# Bands, curves, dots, intervals at one x, and rules from edge to edge; a renderer has a look for each.
Bands = Literal["prediction", "line"]
Curves = Literal["law", "implied", "entropy", "smoothed"]
Dots = Literal["later", "fitted"]
Intervals = Literal["ceiling", "early", "final"]
Rules = Literal["level", "window"]
MarkKind = Bands | Curves | Dots | Intervals | Rules


@dataclass(frozen=True)
class Mark:
    """Something to draw.

    Attributes
    ----------
    kind : str
        What it is. ``prediction`` and ``line`` are bands; ``law`` a curve over H, ``implied`` the law at each point's
        entropy; ``level`` is the ceiling as a horizontal rule, ``window`` the fit's last step as a vertical one.
    x, y : ndarray, shape (n,)
        Of an interval one value each; of a band y is the middle.
    lo, hi : ndarray, shape (n,)
        Of a band or an interval; else empty.
    at : ndarray of int, shape (n,), or None
        Of dots: positions in ``run.points``.
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


def law_panel(run: Run, fit: Fit | None, level: float = 0.95, grid: int = 200) -> Panel:
    """R against H, training running to the right: points, and of a fit the law with its bands and the ceiling.

    Parameters
    ----------
    run : Run
    fit : Fit or None
        None where it must not be shown.
    level : float
        Of the bands.
    grid : int
        Points of their outlines.
    """
    h, r = _column(run, "entropy"), _column(run, "performance")
    top = max(float(np.nanmax(h)), fit.entropy_range[1] if fit else 0.0) or 1.0
    marks, seen = [], r
    if fit is not None:
        x, percent = np.linspace(0.0, top * 1.04, grid), f"{level:.0%}"
        prediction, line = fit.prediction_at(x, level), fit.line_at(x, level)
        marks = [
            Mark(
                "prediction", x, prediction.mean, prediction.lo, prediction.hi, label=f"next score, {percent}"
            ),
            Mark("line", x, line.mean, line.lo, line.hi, label=f"line, {percent}"),
            Mark("law", x, line.mean, label=r"$R = b - a\,e^{H}$"),
        ]
        c = fit.ceiling_interval
        seen = np.concatenate([r, fit.points.score, [fit.ceiling, c.lo, c.hi]])
    marks += _dots(run, fit, entropy_used(run, fit), r)
    if fit is not None:
        told = f"ceiling {fit.ceiling:.3f} [{c.lo:.3f}, {c.hi:.3f}]"
        marks.append(_interval("ceiling", 0.0, fit.ceiling, c.lo, c.hi, told))
    seen = seen[np.isfinite(seen)]
    limits = window(r, seen, 0.08 * (float(np.ptp(seen)) or 1.0))
    kind = "validation" if run.performance_kind == "validation" else "training"
    x_label, y_label = "policy entropy H (nats per token)", f"{kind} performance R"
    return Panel(tuple(marks), (top * 1.04, -0.03 * top), limits, x_label, y_label)


def steps_panels(
    run: Run, fit: Fit | None, early: Forecast | None = None, final: Forecast | None = None
) -> tuple[Panel, Panel]:
    """R and H against the step, with forecasts of R where there are.

    Parameters
    ----------
    run : Run
    fit : Fit or None
    early, final : Forecast, optional
        Of the last score, made from the window; of the planned end.
    """
    t, r, h = _column(run, "step"), _column(run, "performance"), entropy_used(run, fit)
    log_t, log_h = run.entropy_series()
    logged = bool(len(log_t))
    start = min(float(t.min()), float(log_t.min()) if logged else 0.0, 0.0)
    end = max(
        float(t.max()), float(log_t.max()) if logged else 0.0, final.target if final is not None else 0.0
    )
    scores, entropies = _dots(run, fit, t, r), _dots(run, fit, t, h)
    curves = [Mark("entropy", log_t, log_h)] if logged else []
    rules = []
    if fit is not None:
        with np.errstate(over="ignore"):
            scores = [Mark("implied", t, fit.b - fit.a * np.exp(h)), *scores]
        curves.append(Mark("smoothed", fit.points.step, fit.points.entropy))
        if fit.until_step is not None:
            rules = [Mark("window", np.array([fit.until_step]), np.zeros(1))]
    forecasts: tuple[tuple[MarkKind, Forecast | None], ...] = (("early", early), ("final", final))
    for kind, f in forecasts:
        if f is not None:
            scores.append(_interval(kind, f.target, f.performance, f.interval.lo, f.interval.hi))
    least, most = float(np.nanmin(r)), float(np.nanmax(r))
    span = (most - least) or 0.1
    extra = [float(v) for m in scores for v in (*m.lo, *m.hi)]
    if fit is not None:
        extra.append(fit.ceiling)
        scores.append(Mark("level", np.zeros(1), np.array([fit.ceiling])))
    # An absurd interval must not flatten the data: as much room again at most.
    bottom, top = max(min([least, *extra]), least - span), min(max([most, *extra]), most + span)
    limits = (bottom - 0.08 * span, top + 0.08 * span)
    score = Panel((*scores, *rules), (start, end), limits, "training step", "R")
    values = np.concatenate([log_h, _column(run, "entropy")])
    values = values[np.isfinite(values)]
    hi, lo = (float(values.max()), min(0.0, float(values.min()))) if len(values) else (1.0, 0.0)
    floor = (lo, hi + 0.06 * ((hi - lo) or 1.0))
    return score, Panel((*curves, *entropies, *rules), (start, end), floor, "training step", "H")


def window(observed: np.ndarray, seen: np.ndarray, room: float) -> tuple[float, float]:
    """Limits that show everything, unless an absurd interval would flatten the data: then the data and as much more."""
    lo, hi = float(np.nanmin(observed)), float(np.nanmax(observed))
    span = (hi - lo) or 0.1
    return max(float(seen.min()) - room, lo - 1.5 * span), min(float(seen.max()) + room, hi + 1.5 * span)


def fitted_points(run: Run, fit: Fit | None) -> np.ndarray:
    """Which points of a run were in the fit's window; boolean, shape (n,)."""
    step = _column(run, "step")
    if fit is None:
        return np.zeros(len(step), dtype=bool)
    return np.ones(len(step), dtype=bool) if fit.until_step is None else step <= fit.until_step


def entropy_used(run: Run, fit: Fit | None) -> np.ndarray:
    """The entropy at each point: smoothed where the fit used it so, else as logged; shape (n,)."""
    h = _column(run, "entropy").copy()
    if fit is not None:
        used, step = fitted_points(run, fit), _column(run, "step")
        smooth = dict(zip(fit.points.step, fit.points.entropy, strict=True))
        h[used] = [smooth.get(s, v) for s, v in zip(step[used], h[used], strict=True)]
    return h


def points_csv(run: Run, fit: Fit | None, rows: Sequence[int] | np.ndarray | None = None) -> str:
    """The numbers behind the plots: every point, whether it was fitted, the entropy the fit used, the law's value.

    Parameters
    ----------
    run : Run
    fit : Fit or None
    rows : sequence of int, optional
        Only these points.

    Returns
    -------
    str
        CSV with columns step, entropy_logged, entropy_used, performance, fitted, law.
    """
    table = run.points[["step", "entropy", "performance"]].rename(columns={"entropy": "entropy_logged"})
    table["entropy_used"] = entropy_used(run, fit)
    table["fitted"] = fitted_points(run, fit).astype(int)
    with np.errstate(over="ignore"):
        table["law"] = "" if fit is None else fit.b - fit.a * np.exp(table["entropy_used"])
    table = table[["step", "entropy_logged", "entropy_used", "performance", "fitted", "law"]]
    chosen = table if rows is None else table.iloc[rows]
    return chosen.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _dots(run: Run, fit: Fit | None, x: np.ndarray, y: np.ndarray) -> list[Mark]:
    """The points: those the fit used above the others."""
    used = fitted_points(run, fit)
    later, fitted = np.flatnonzero(~used), np.flatnonzero(used)
    marks = [Mark("later", x[later], y[later], at=later, label="later points" if len(later) else "")]
    if fit is not None:
        until = "" if fit.until_step is None else f" (steps ≤ {fit.until_step:g})"
        told = f"fitted points, n = {fit.n}{until}"
        marks.append(Mark("fitted", x[fitted], y[fitted], at=fitted, label=told))
    return marks


def _interval(kind: MarkKind, x: float, y: float, lo: float, hi: float, label: str = "") -> Mark:
    return Mark(kind, np.array([x]), np.array([y]), np.array([lo]), np.array([hi]), label=label)


def _column(run: Run, name: str) -> np.ndarray:
    return run.points[name].to_numpy(float)
