"""Figure 1: entropy collapses and performance saturates; performance is a line in exp(entropy) over a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library
from entlaw.paper.members import Cast, Member, cast, one_family, plain_runs, short_name
from entlaw.paper.numbers import first_reached, progress, shares, whole_line, with_interval
from entlaw.paper.reported import numbers, qwen_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACHED = 0.95
# "95 % ... up to about step 800 of 2,400" of the paper's Figure 1.
PAPER_SHARE = 1 / 3


@figure(
    "fig1",
    "Entropy collapses, performance saturates, and one is read off the other",
    needs="runs with nothing acting on the entropy",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    runs = cast(plain_runs(library))
    seeds = _most_seeds(runs)
    fig, axes = panels.subplots(panels.WIDE, 2.55, 1, 3, width_ratios=[1.15, 1.0, 0.95])
    left, right, paper = axes[0]
    table = panels.Sheet()
    findings = _collapse(left, table, seeds)
    ladder, more = panels.at_most(runs, one_family(runs.members))
    _law(right, table, ladder)
    _papers(paper, table)
    panels.letters(axes[0])
    lines = {m.label: whole_line(m) for m in ladder}
    findings |= {f"r_squared_{label}": line.r_squared for label, line in lines.items()}
    caption = (
        f"(a) Entropy and validation accuracy of {_who(seeds)} against the step: mean, and from the lowest "
        "to the highest run where there are several. Dashed verticals: where the smoothed mean has made 95 % "
        "of its way from the start to its end (mean of the last tenth of the steps), "
        f"{_step(findings, 'gained')} for accuracy and {_step(findings, 'consumed')} for entropy, of "
        f"{findings['steps']:.0f} steps; the dotted line is a third of the run, by which the paper reports "
        "95 % of both. (b) Accuracy against entropy, one run a size, with R = b - a exp(H) by least squares "
        f"over the whole run. {more}(c) The paper's Qwen2.5 fits (math) as read off its Figure 1; crosses "
        f"are its last measured points, which lie above the curve's end at 32B. {runs.about}"
    )
    used = dict.fromkeys([m.name for m in [*seeds, *ladder]])
    return Drawn(fig, table.frame(), caption.strip(), tuple(used), findings)


def _step(findings: dict[str, float | str], what: str) -> str:
    at = float(findings[f"step_95_{what}"])
    return f"step {at:.0f}" if np.isfinite(at) else "never (it does not move)"


def _most_seeds(runs: Cast) -> list[Member]:
    """The runs of the starting policy with most seeds; of several, the largest model's."""
    groups = runs.by(lambda m: m.policy)
    return max(groups.values(), key=lambda g: (len(g), g[0].facts.parameters or 0.0, len(g[0].step)))


def _who(seeds: list[Member]) -> str:
    one = seeds[0]
    if len(seeds) == 1:
        return f"the run {short_name(one.name, 40)}"
    return f"{len(seeds)} runs (seeds) of size {one.label} from one starting policy"


def _collapse(ax: Axes, table: panels.Sheet, seeds: list[Member]) -> dict[str, float | str]:
    scale, label = panels.factor(seeds), panels.score_label(seeds)
    other = panels.twin(ax)
    blue, orange = panels.COLOURS[4], panels.COLOURS[1]
    for target, colour, style, what, series in (
        (ax, blue, "-", "score", [(m.step, scale * m.score) for m in seeds]),
        (other, orange, (0, (4, 1.2)), "entropy", [m.run.entropy_series() for m in seeds]),
    ):
        step, mean, lo, hi = _common(series)
        target.fill_between(step, lo, hi, color=colour, alpha=0.25, lw=0)
        target.plot(step, mean, color=colour, ls=style)
        table.add(
            "collapse", f"{what}, mean of {len(seeds)}", "", what, step=step, **{what: mean}, lo=lo, hi=hi
        )
    ax.set_xlabel("step")
    ax.set_ylabel(f"{label} (solid)", color=blue)
    other.set_ylabel("entropy (nats/token, dashed)", color=orange)
    ax.set_title("collapse and saturation")
    return _marks(ax, seeds)


def _common(series: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Steps that all have, with mean, lowest and highest value."""
    step = series[0][0]
    for other, _ in series[1:]:
        step = np.intersect1d(step, other)
    values = np.array([value[np.searchsorted(at, step)] for at, value in series])
    return step, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _marks(ax: Axes, seeds: list[Member]) -> dict[str, float | str]:
    made = [progress(m) for m in seeds]
    first = float(np.mean([m.step[0] for m in seeds]))
    length = float(np.mean([m.step[-1] - m.step[0] for m in seeds]))
    third = first + PAPER_SHARE * length
    ax.axvline(third, color=panels.GREY, lw=0.8, ls=":")
    ax.annotate(
        "1/3 of the run\n(paper: 95 %)",
        (third, 0.03),
        xycoords=("data", "axes fraction"),
        fontsize=5.5,
        color=panels.INK,
        xytext=(2, 0),
        textcoords="offset points",
        va="bottom",
    )
    findings: dict[str, float | str] = {"steps": length, "seeds": float(len(seeds))}
    for what, colour, height, curves in (
        ("gained", panels.COLOURS[4], 0.34, [p.gained for p in made]),
        ("consumed", panels.COLOURS[1], 0.47, [p.consumed for p in made]),
    ):
        usable = np.array([c for c in curves if np.isfinite(c).all()])
        mean = usable.mean(axis=0) if len(usable) else np.full(len(shares()), np.nan)
        at = first + first_reached(mean, REACHED) * length
        each = [first + first_reached(c, REACHED) * length for c in usable] or [np.nan]
        findings |= with_interval(f"step_95_{what}", at, min(each), max(each))
        findings |= {f"{what}_at_a_third": 100 * float(np.interp(PAPER_SHARE, shares(), mean))}
        if np.isfinite(at):
            ax.axvline(at, color=colour, lw=0.8, ls="--")
            late = at > first + 0.5 * length
            ax.annotate(
                f"95 % {what}:\nstep {at:.0f}",
                (at, height),
                xycoords=("data", "axes fraction"),
                fontsize=5.5,
                color=colour,
                xytext=(-2 if late else 2, 0),
                textcoords="offset points",
                ha="right" if late else "left",
                bbox={"fc": "white", "ec": "none", "pad": 0.4, "alpha": 0.8},
            )
    findings["interval of step_95"] = "lowest to highest run"
    return findings


def _law(ax: Axes, table: panels.Sheet, ladder: list[Member]) -> None:
    scale = panels.factor(ladder)
    for i, m in enumerate(ladder):
        panels.points_and_line(ax, table, "law", m, whole_line(m), i, scale)
    panels.entropy_axis(ax, [m.entropy for m in ladder])
    panels.score_axis(ax, ladder)
    ax.set_title("the law, ours")
    panels.key(ax, [m.label for m in ladder])


def _papers(ax: Axes, table: panels.Sheet) -> None:
    ends = []
    last = numbers("Fig 1 right", metric="last cluster mean R")
    known = dict(zip(last["model"], last["value"].astype(float), strict=True))
    curves = qwen_curves()
    for i, curve in enumerate(curves.itertuples()):
        h = np.geomspace(curve.entropy_first, curve.entropy_last, panels.LINE_POINTS)
        r = curve.b - curve.a * np.exp(h)
        look = panels.marker_style(i)
        ax.plot(h, r, color=look["color"])
        ax.plot(h[[0, 20, 40]], r[[0, 20, 40]], ls="", ms=3, mfc="none", mew=0.7, **look)
        table.add("paper", curve.model, "", "fit", entropy=h, score=r)
        ends.append(h)
        if curve.model in known:
            ax.plot(h[-1:], [known[curve.model]], "x", ms=4, mew=1.0, color=look["color"])
            table.add("paper", curve.model, "", "last", entropy=h[-1:], score=known[curve.model])
    panels.entropy_axis(ax, ends)
    ax.set_ylabel("validation accuracy (%)")
    ax.set_title("paper: Qwen2.5, math")
    panels.key(ax, [str(m) for m in curves["model"]], loc="upper left", fontsize=5.5)
    ax.set_ylim(0, 62)
