"""The figure of one fit: R against H with the law and its three intervals; R and H against the step."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.findings import has_error
from entlaw.law.results import Fit
from entlaw.report import style
from entlaw.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": "entlaw", "Producer": None},
    "svg": {"Date": None, "Creator": "entlaw"},
    "png": {"Software": None},
}


def fit_figure(fit: Fit, run: Run, format: str = "pdf", level: float = 0.95) -> bytes:
    """Draw one fit.

    Parameters
    ----------
    fit : Fit
    run : Run
        The run it was fitted on: later points and the curves against step come from it.
    format : {"pdf", "svg", "png"}
    level : float
        Level of the bands.

    Returns
    -------
    bytes
        The file; equal for equal input.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style.rc()), warnings.catch_warnings():
        # A run's name in a script the font lacks is drawn as boxes; the file's name has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(style.COLUMN_WIDTH, 5.0), layout="constrained")
        draw_fit(figure, fit, run, level)
        out = io.BytesIO()
        figure.savefig(out, format=format, metadata=METADATA[format])
    return out.getvalue()


def draw_fit(figure: FigureBase, fit: Fit, run: Run, level: float = 0.95) -> None:
    """Draw one fit into a figure or a part of one: law, key, R and H against the step, from top to bottom."""
    axes = figure.subplot_mosaic([["law"], ["key"], ["R"], ["H"]], height_ratios=[3.2, 0.75, 1.0, 1.0])
    axes["R"].sharex(axes["H"])
    axes["R"].tick_params(labelbottom=False)
    _draw_law(axes["law"], fit, run, level)
    # The key stands apart: any corner of the plot may hold points.
    axes["key"].axis("off")
    axes["key"].legend(*axes["law"].get_legend_handles_labels(), loc="center", ncols=2, handlelength=1.6,
                       borderaxespad=0, columnspacing=1.2)  # fmt: skip
    _draw_steps(axes["R"], axes["H"], fit, run)


def _draw_law(ax: Axes, fit: Fit, run: Run, level: float) -> None:
    points = run.points
    _, later = split(fit, run)
    top = max(float(points["entropy"].max()), fit.entropy_range[1])
    grid = np.linspace(0.0, top * 1.04, 200)
    prediction, line = fit.prediction_at(grid, level), fit.line_at(grid, level)
    percent = f"{level:.0%}"
    ax.fill_between(grid, prediction.lo, prediction.hi, color=style.PREDICTION_BAND, lw=0,
                    label=f"next score, {percent}")  # fmt: skip
    ax.fill_between(grid, line.lo, line.hi, color=style.LINE_BAND, lw=0, label=f"line, {percent}")
    ax.plot(grid, line.mean, color=style.INK, lw=1.1, label=r"$R = b - a\,e^{H}$")
    ax.plot(points["entropy"][later], points["performance"][later], "o", ms=3, mfc="white", mec=style.GREY, mew=0.7,
            label="later points" if later.any() else None)  # fmt: skip
    ax.plot(fit.points.entropy, fit.points.score, "o", ms=3.4, color=style.INK, label=_fitted_label(fit))
    c = fit.ceiling_interval
    ax.errorbar([0], [fit.ceiling], yerr=[[max(fit.ceiling - c.lo, 0)], [max(c.hi - fit.ceiling, 0)]], fmt="D", ms=4.5,
                color=style.ORANGE, mec=style.INK, mew=0.6, ecolor=style.INK, elinewidth=1.1, capsize=2.5, zorder=5,
                clip_on=False, label=f"ceiling {fit.ceiling:.3f} [{c.lo:.3f}, {c.hi:.3f}]")  # fmt: skip
    ax.set_xlim(top * 1.04, -0.03 * top)  # training runs to the right, towards H = 0
    seen = np.concatenate([points["performance"], fit.points.score, [fit.ceiling, c.lo, c.hi]])
    seen = seen[np.isfinite(seen)]
    room = 0.08 * (seen.max() - seen.min() or 1.0)
    ax.set_ylim(*window(points["performance"].to_numpy(float), seen, room))
    ax.set_xlabel("policy entropy H (nats per token)")
    ax.set_ylabel(_label(run))
    ax.set_title(_title(run, fit), parse_math=False)  # a name may hold dollar signs


def window(observed: np.ndarray, seen: np.ndarray, room: float) -> tuple[float, float]:
    """Limits that show everything, unless an absurd interval would flatten the data: then the data and as much more."""
    lo, hi = float(np.nanmin(observed)), float(np.nanmax(observed))
    span = (hi - lo) or 0.1
    return max(float(seen.min()) - room, lo - 1.5 * span), min(float(seen.max()) + room, hi + 1.5 * span)


def _draw_steps(upper: Axes, lower: Axes, fit: Fit, run: Run) -> None:
    points = run.points
    used, later = split(fit, run)
    upper.plot(
        points["step"][later], points["performance"][later], "o", ms=2.2, mfc="white", mec=style.GREY, mew=0.6
    )
    upper.plot(points["step"][used], points["performance"][used], "o", ms=2.4, color=style.INK)
    upper.axhline(fit.ceiling, color=style.ORANGE, lw=1.0, ls=(0, (4, 2)))
    observed = points["performance"].to_numpy(float)
    span = (observed.max() - observed.min()) or 0.1
    upper.set_ylim(
        observed.min() - 0.1 * span,
        max(observed.max() + 0.1 * span, min(fit.ceiling + 0.1 * span, observed.max() + span)),
    )
    upper.set_ylabel("R")
    step, entropy = run.entropy_series()
    lower.plot(step, entropy, color=style.BLUE, lw=0.8)
    lower.plot(fit.points.step, fit.points.entropy, color=style.INK, lw=1.0, ls=(0, (2, 1)))
    lower.set_ylim(bottom=min(0.0, float(entropy.min())))
    lower.set_ylabel("H")
    lower.set_xlabel("step")
    if fit.until_step is not None:
        for ax in (upper, lower):
            ax.axvline(fit.until_step, color=style.GREY, lw=0.7, ls=":")


def split(fit: Fit, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Which points of a run were in the fit's window, and which came later; boolean, shape (n,) each."""
    step = run.points["step"].to_numpy(float)
    used = np.ones(len(step), dtype=bool) if fit.until_step is None else step <= fit.until_step
    return used, ~used


def _fitted_label(fit: Fit) -> str:
    return f"fitted points, n = {fit.n}" + (
        "" if fit.until_step is None else f" (steps ≤ {fit.until_step:g})"
    )


def _label(run: Run) -> str:
    kind = "validation" if run.performance_kind == "validation" else "training"
    return f"{kind} performance R"


def _title(run: Run, fit: Fit) -> str:
    name = run.name if len(run.name) <= 44 else f"{run.name[:20]}…{run.name[-22:]}"
    refused = ", refused" if has_error(fit.findings) else ""
    return f"{name}: {fit.method} fit{refused}"


def fit_csv(fit: Fit, run: Run) -> str:
    """The numbers behind the figure: every point, whether it was fitted, the entropy the fit used, the law's value.

    Returns
    -------
    str
        CSV with columns step, entropy_logged, entropy_used, performance, fitted, law.
    """
    table = run.points[["step", "entropy", "performance"]].rename(columns={"entropy": "entropy_logged"})
    used, _ = split(fit, run)
    table["entropy_used"] = table["entropy_logged"]
    smooth = dict(zip(fit.points.step, fit.points.entropy, strict=True))
    table.loc[used, "entropy_used"] = [
        smooth.get(s, h) for s, h in table.loc[used, ["step", "entropy_logged"]].to_numpy()
    ]
    table["fitted"] = used.astype(int)
    with np.errstate(over="ignore"):
        table["law"] = fit.b - fit.a * np.exp(table["entropy_used"])
    columns = ["step", "entropy_logged", "entropy_used", "performance", "fitted", "law"]
    return table[columns].to_csv(index=False, float_format="%.10g")
