"""Figure 5: the law fitted on the first 36 steps foretells the rest, and so do forecasts that know less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.limits import PAPER_WINDOW
from entlaw.report.figures import lawpanels as panels
from entlaw.report.figures.base import Drawn, Library, NotEnoughRuns
from entlaw.report.figures.early import FORECASTERS, LAW, SHORT, Early, early_forecasts
from entlaw.report.figures.lawnumbers import bootstrap, over_policies, with_interval
from entlaw.report.figures.lawruns import Cast, Member, cast, one_family, plain_runs, second_task
from entlaw.report.figures.paper import numbers

if TYPE_CHECKING:
    import pandas as pd

NAME = "fig5"
TITLE = "A fit of the first 36 steps and what came after, beside simpler forecasts"


def draw(library: Library) -> Drawn:
    """See the module."""
    runs = cast(plain_runs(library))
    kept, made = _forecast(runs)
    panels.need(
        bool(kept),
        f"no run has four scores up to step {PAPER_WINDOW:g} and three after it",
        "validate every few steps from the start, and train beyond step 36",
    )
    other = _second(library)
    fig, axes = panels.figure(panels.WIDE, 3.0, 1, 3, width_ratios=[1.25, 1.0, 1.0])
    ladder, more = panels.at_most(runs, one_family(kept))
    rows = _curves(axes[0, 0], ladder, {m.name: f for m, f in zip(kept, made, strict=True)})
    findings: dict[str, Any] = {"runs": float(len(kept)), "noise_of_one_score": _noise(kept)}
    tasks = [("main task", "", "math", kept, made)]
    if other:
        tasks.append(("second task", "second_", "code", *other))
    for ax, measure in ((axes[0, 1], "rest"), (axes[0, 2], "last")):
        for i, (task, prefix, paper, members, forecasts) in enumerate(tasks):
            more_rows, found = _errors(ax, measure, members, forecasts, i, len(tasks), prefix)
            rows += [frame.assign(series=f"{task}, {paper} in the paper") for frame in more_rows]
            findings |= found
        rows += _dress(ax, measure)
        findings |= {
            f"{measure}_paper_math": _paper(measure, "math"),
            f"{measure}_paper_code": _paper(measure, "code"),
        }
    panels.letters(axes[0])
    findings |= _per_size(kept, made)
    used = [*kept, *(other[0] if other else [])]
    caption = _caption(findings, more, bool(other), runs)
    return Drawn(fig, panels.table(rows), caption, tuple(m.name for m in used), findings)


def _forecast(runs: Cast) -> tuple[list[Member], list[Early]]:
    pairs = [(m, early_forecasts(m)) for m in runs.members if panels.are_shares([m])]
    return [m for m, e in pairs if e is not None], [e for _, e in pairs if e is not None]


def _second(library: Library) -> tuple[list[Member], list[Early]] | None:
    try:
        members, made = _forecast(cast(plain_runs(library, second_task(library))))
    except NotEnoughRuns:
        return None
    return (members, made) if members else None


def _curves(ax: Any, ladder: Sequence[Member], made: dict[str, Early]) -> list[pd.DataFrame]:
    rows = []
    for i, m in enumerate(ladder):
        early, look = made[m.name], panels.look(i)
        past, seen = m.step <= PAPER_WINDOW, m.entropy > 0
        for mask, kind, fill in ((past & seen, "fitted", look["color"]), (~past & seen, "later", "none")):
            ax.plot(m.entropy[mask], 100 * m.score[mask], ls="", ms=2.6, mew=0.5, mfc=fill, **look)
            rows.append(
                panels.tidy("early fit", m.label, m.name, kind, step=m.step[mask], entropy=m.entropy[mask],
                            score=100 * m.score[mask])
            )  # fmt: skip
        joint = float(m.entropy[past].min())
        for low, high, style, kind in (
            (joint, float(m.entropy[seen].max()), "-", "fit"),
            (float(m.entropy[seen].min()), joint, (0, (3, 1.5)), "prediction"),
        ):
            if low < high:
                x = np.geomspace(high, low, panels.LINE_POINTS)
                y = 100 * (early.b - early.a * np.exp(x))
                ax.plot(x, y, color=look["color"], ls=style)
                rows.append(panels.tidy("early fit", m.label, m.name, kind, entropy=x, score=y))
    panels.entropy_axis(ax, [m.entropy for m in ladder])
    panels.score_axis(ax, ladder)
    ax.set_title("fit to step 36 (solid), then dashed")
    panels.key(ax, [m.label for m in ladder])
    return rows


def _errors(
    ax: Any, measure: str, members: list[Member], made: list[Early], index: int, of: int, prefix: str
) -> tuple[list[pd.DataFrame], dict[str, float]]:
    """One row of dots a forecaster, in points; and the law's error less each other's, run by run."""
    rows: list[pd.DataFrame] = []
    findings: dict[str, float] = {}
    law = _units(members, made, LAW, measure)
    for y, forecaster in enumerate(FORECASTERS):
        units = _units(members, made, forecaster, measure)
        mean, (lo, hi) = float(units.mean()), bootstrap(units)
        place = y + (index - 0.5 * (of - 1)) * 0.26
        if np.isfinite(lo):
            ax.plot([lo, hi], [place, place], color=panels.INK, lw=0.9)
        colour = panels.COLOURS[1] if forecaster == LAW else panels.COLOURS[4]
        ax.plot([mean], [place], "os"[index], ms=4, color=colour, mec=panels.INK, mew=0.5, zorder=3)
        rows.append(panels.tidy(measure, "", "", forecaster, error=mean, lo=lo, hi=hi))
        name = f"{prefix}{measure}_{SHORT[forecaster]}"
        findings |= with_interval(name, mean, float(lo), float(hi))
        if forecaster != LAW:
            less, (low, high) = law - units, bootstrap(law - units)
            findings |= with_interval(
                f"{prefix}{measure}_law_less_{SHORT[forecaster]}", float(less.mean()), float(low), float(high)
            )
    return rows, findings


def _units(members: list[Member], made: list[Early], forecaster: str, measure: str) -> np.ndarray:
    values = [np.array(100 * (e.rest if measure == "rest" else e.last)[forecaster]) for e in made]
    return over_policies(members, values)


def _dress(ax: Any, measure: str) -> list[pd.DataFrame]:
    rows = []
    for task, style in (("math", "--"), ("code", ":")):
        value = _paper(measure, task)
        ax.axvline(value, color=panels.COLOURS[1], lw=0.9, ls=style)
        rows.append(panels.tidy(measure, f"paper, {task}", "", "paper", error=value))
    ax.annotate(
        f"paper: {_paper(measure, 'math'):g} (math, - -), {_paper(measure, 'code'):g} (code, ···)",
        (_paper(measure, "code"), 1.0), xycoords=("data", "axes fraction"), fontsize=5.5, va="top",
        color=panels.COLOURS[1], xytext=(2, 0), textcoords="offset points",
    )  # fmt: skip
    ax.set_yticks(
        range(len(FORECASTERS)), FORECASTERS if measure == "rest" else [""] * len(FORECASTERS), fontsize=6
    )
    ax.set_ylim(len(FORECASTERS) - 0.5, -0.9)
    ax.set_xlim(left=0)
    ax.grid(axis="y", lw=0.3, color="#dddddd")
    ax.set_axisbelow(True)
    ax.set_xlabel("accuracy points")
    ax.set_title("RMSE of the rest" if measure == "rest" else "error of the last score")
    return rows


def _per_size(members: list[Member], made: list[Early]) -> dict[str, float]:
    """The law's error and the better of the two that stay, size by size."""
    out: dict[str, float] = {}
    sizes: dict[str, list[Early]] = {}
    for m, e in zip(members, made, strict=True):
        sizes.setdefault(f"{m.facts.family} {m.label}".strip(), []).append(e)
    for size, of in sizes.items():
        for forecaster in (LAW, "last value stays"):
            out[f"rest_{SHORT[forecaster]} {size}"] = 100 * float(np.mean([e.rest[forecaster] for e in of]))
            out[f"last_{SHORT[forecaster]} {size}"] = 100 * float(np.mean([e.last[forecaster] for e in of]))
        out[f"bias_law {size}"] = 100 * float(np.mean([e.bias for e in of]))
    return out


def _noise(members: list[Member]) -> float:
    """Standard deviation of one score in points, as far as the size of the test tells; no forecast errs less."""
    known = [
        float(np.sqrt(m.score[-1] * (1 - m.score[-1]) / (m.run.problems * (m.run.samples or 1))))
        for m in members
        if m.run.problems
    ]
    return 100 * float(np.mean(known)) if known else float("nan")


def _paper(measure: str, task: str) -> float:
    rows = numbers("Fig 5", setting=task)
    word = "all predicted steps" if measure == "rest" else "final step"
    return float(rows.loc[rows["item"].str.contains(word), "value"].iloc[0])


def _caption(findings: dict[str, Any], more: str, second: bool, runs: Cast) -> str:
    noise = findings["noise_of_one_score"]
    floor = (
        f"One score has a noise of {noise:.1f} points, which no forecast can beat on average. "
        if noise == noise
        else ""
    )
    tasks = "Squares: the second task. " if second else ""
    return (
        "(a) R = b - a exp(H) by least squares on the points up to step 36 (filled), then read at the "
        "entropies that came "
        f"(open), one run a size. {more}(b, c) Errors of that prediction and of others made from the same "
        "points, mean of "
        f"{findings['runs']:.0f} runs with 95 % intervals from resampling starting policies (none with fewer "
        "than five): root mean square "
        "over the later "
        f"scores, and size of the error at the last. {tasks}'H given' are told the entropy to come, as in the "
        "paper; the "
        "others are not. Vertical lines: the paper's 0.9 (math) and 1.2 (code) points over the rest, 0.5 and "
        "1.9 at the "
        "last step, given without a baseline; in the paper's runs most of the entropy is gone by then, so "
        "that the last "
        f"value may do as well. {floor}{runs.about}"
    ).strip()
