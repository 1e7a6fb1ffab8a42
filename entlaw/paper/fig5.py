"""Figure 5: the law fitted on the first 36 steps predicts the rest, and so do forecasts that know less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from entlaw.errors import FitRefused
from entlaw.law.growth import in_time
from entlaw.law.rivals import LAST_K, LAST_VALUE, PAPER, RIVALS, Rival
from entlaw.limits import PAPER_WINDOW
from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, NotEnoughRuns, need
from entlaw.paper.members import Cast, Member, cast, one_family, plain_runs, second_task
from entlaw.paper.numbers import bootstrap, least_squares, over_policies, with_interval
from entlaw.paper.reported import numbers
from entlaw.points import Points

LEAST_SEEN, LEAST_LATER = 4, 3

LAW = "the law, H given"
OUTLOOK = "entlaw's outlook"
# Our name: the name in findings, the rival's, and whether it is given the entropy.
_RIVALS = {
    LAW: ("law", PAPER.name, True),
    "straight line in H, H given": ("straight_line", "linear in H", True),
    "the law, H predicted": ("law_own_entropy", PAPER.name, False),
    "last value stays": ("last_value", LAST_VALUE.name, False),
    f"mean of last {LAST_K} stays": ("mean_of_last", f"mean of last {LAST_K}", False),
    "sigmoid in step (ScaleRL)": ("sigmoid", "sigmoid in step (ScaleRL)", False),
}
SHORT = {name: short for name, (short, _, _) in _RIVALS.items()} | {OUTLOOK: "outlook"}
FORECASTERS = tuple(SHORT)


@figure(
    "fig5",
    "A fit of the first 36 steps and what came after, beside simpler forecasts",
    needs="runs validated at least four times up to step 36 and three times after it",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    runs = cast(plain_runs(library))
    kept, made = _forecast(runs)
    need(
        bool(kept),
        f"no run has four scores up to step {PAPER_WINDOW:g} and three after it",
        "validate every few steps from the start, and train beyond step 36",
    )
    other = _second(library)
    fig, axes = panels.subplots(panels.WIDE, 3.0, 1, 3, width_ratios=[1.25, 1.0, 1.0])
    ladder, more = panels.at_most(runs, one_family(kept))
    table = panels.Sheet()
    _curves(axes[0, 0], table, ladder, {m.name: f for m, f in zip(kept, made, strict=True)})
    findings: dict[str, Any] = {"runs": float(len(kept)), "noise_of_one_score": _noise(kept)}
    tasks = [TaskForecasts("main task, math in the paper", "", kept, made)]
    if other:
        tasks.append(TaskForecasts("second task, code in the paper", "second_", *other))
    for ax, measure in ((axes[0, 1], "rest"), (axes[0, 2], "last")):
        for i, task in enumerate(tasks):
            findings |= _errors(ax, table, measure, task, i, len(tasks))
        _dress(ax, table, measure)
        findings |= {
            f"{measure}_paper_math": _paper(measure, "math"),
            f"{measure}_paper_code": _paper(measure, "code"),
        }
    panels.letters(axes[0])
    findings |= _per_size(kept, made)
    used = [*kept, *(other[0] if other else [])]
    caption = _caption(findings, more, bool(other), runs)
    return Drawn(fig, table.frame(), caption, tuple(m.name for m in used), findings)


class TaskForecasts(NamedTuple):
    """Forecasts on one task, and its names in the table and in the findings."""

    series: str
    prefix: str
    members: list[Member]
    made: list[Early]


def _forecast(runs: Cast) -> tuple[list[Member], list[Early]]:
    pairs = [(m, early_forecasts(m)) for m in runs.members if panels.are_shares([m])]
    return [m for m, e in pairs if e is not None], [e for _, e in pairs if e is not None]


def _second(library: Library) -> tuple[list[Member], list[Early]] | None:
    try:
        members, made = _forecast(cast(plain_runs(library, second_task(library))))
    except NotEnoughRuns:
        return None
    return (members, made) if members else None


def _curves(ax: Any, table: panels.Sheet, ladder: Sequence[Member], made: dict[str, Early]) -> None:
    for i, m in enumerate(ladder):
        early, look = made[m.name], panels.marker_style(i)
        past, seen = m.step <= PAPER_WINDOW, m.entropy > 0
        for mask, kind, fill in ((past & seen, "fitted", look["color"]), (~past & seen, "later", "none")):
            at = panels.measured(m, mask, 100)
            ax.plot(at["entropy"], at["score"], ls="", ms=2.6, mew=0.5, mfc=fill, **look)
            table.add("early fit", m.label, m.name, kind, **at)
        joint = float(m.entropy[past].min())
        for low, high, style, kind in (
            (joint, float(m.entropy[seen].max()), "-", "fit"),
            (float(m.entropy[seen].min()), joint, (0, (3, 1.5)), "prediction"),
        ):
            if low < high:
                x = np.geomspace(high, low, panels.LINE_POINTS)
                y = 100 * (early.b - early.a * np.exp(x))
                ax.plot(x, y, color=look["color"], ls=style)
                table.add("early fit", m.label, m.name, kind, entropy=x, score=y)
    panels.entropy_axis(ax, [m.entropy for m in ladder])
    panels.score_axis(ax, ladder)
    ax.set_title("fit to step 36 (solid), then dashed")
    panels.key(ax, [m.label for m in ladder])


def _errors(
    ax: Any, table: panels.Sheet, measure: str, task: TaskForecasts, index: int, of: int
) -> dict[str, float]:
    """One row of dots a forecaster, in points; and the law's error less each other's, run by run."""
    findings: dict[str, float] = {}
    law = _units(task.members, task.made, LAW, measure)
    for y, forecaster in enumerate(FORECASTERS):
        units = _units(task.members, task.made, forecaster, measure)
        mean, (lo, hi) = float(units.mean()), bootstrap(units)
        place = y + (index - 0.5 * (of - 1)) * 0.26
        if np.isfinite(lo):
            ax.plot([lo, hi], [place, place], color=panels.INK, lw=0.9)
        colour = panels.COLOURS[1] if forecaster == LAW else panels.COLOURS[4]
        ax.plot([mean], [place], "os"[index], ms=4, color=colour, mec=panels.INK, mew=0.5, zorder=3)
        table.add(measure, task.series, "", forecaster, error=mean, lo=lo, hi=hi)
        name = f"{task.prefix}{measure}_{SHORT[forecaster]}"
        findings |= with_interval(name, mean, float(lo), float(hi))
        if forecaster != LAW:
            less, (low, high) = law - units, bootstrap(law - units)
            findings |= with_interval(
                f"{task.prefix}{measure}_law_less_{SHORT[forecaster]}",
                float(less.mean()),
                float(low),
                float(high),
            )
    return findings


def _units(members: list[Member], made: list[Early], forecaster: str, measure: str) -> np.ndarray:
    values = [np.array(100 * (e.rest if measure == "rest" else e.last)[forecaster]) for e in made]
    return over_policies(members, values)


def _dress(ax: Any, table: panels.Sheet, measure: str) -> None:
    for task, style in (("math", "--"), ("code", ":")):
        value = _paper(measure, task)
        ax.axvline(value, color=panels.COLOURS[1], lw=0.9, ls=style)
        table.add(measure, f"paper, {task}", "", "paper", error=value)
    ax.annotate(
        f"paper: {_paper(measure, 'math'):g} (math, - -), {_paper(measure, 'code'):g} (code, ···)",
        (_paper(measure, "code"), 1.0),
        xycoords=("data", "axes fraction"),
        fontsize=5.5,
        va="top",
        color=panels.COLOURS[1],
        xytext=(2, 0),
        textcoords="offset points",
    )
    names = FORECASTERS if measure == "rest" else [""] * len(FORECASTERS)
    panels.name_rows(ax, names, above=-0.9, fontsize=6)
    ax.set_xlim(left=0)
    ax.set_xlabel("accuracy points")
    ax.set_title("RMSE of the rest" if measure == "rest" else "error of the last score")


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
    """Standard deviation of one score in points, as far as the size of the test is known; no forecast errs less."""
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
        f"entropies that came (open), one run a size. {more}(b, c) Errors of that prediction and of others "
        f"made from the same points, mean of {findings['runs']:.0f} runs with 95 % intervals from resampling "
        "starting policies (none with fewer than five): root mean square over the later scores, and size of "
        f"the error at the last. {tasks}'H given' know the later entropy, as in the paper; the others "
        "do not. Vertical lines: the paper's 0.9 (math) and 1.2 (code) points over the rest, 0.5 and 1.9 at "
        "the last step, given without a baseline; in the paper's runs most of the entropy is gone by then, "
        f"so that the last value may do as well. {floor}{runs.about}"
    ).strip()


@dataclass(frozen=True)
class Early:
    """Errors of forecasts from the first steps, as fractions.

    Attributes
    ----------
    a, b : float
        Of the law on the first steps, by least squares.
    rest : dict of str to float
        Root mean square error over all later scores, a forecaster.
    last : dict of str to float
        Size of the error at the last score.
    bias : float
        Mean of forecast less measured over all later scores, of the law.
    """

    a: float
    b: float
    rest: dict[str, float]
    last: dict[str, float]
    bias: float


def early_forecasts(member: Member, until: float = PAPER_WINDOW) -> Early | None:
    """Predict a run from its points up to a step.

    Parameters
    ----------
    member : Member
    until : float

    Returns
    -------
    Early or None
        None where fewer than four distinct points are seen or fewer than three come later.
    """
    whole = Points.from_run(member.run)
    past, later = whole.until(until), whole.after(until)
    if len(np.unique(past.entropy)) < LEAST_SEEN or later.n < LEAST_LATER:
        return None
    steps, entropies, truth = later.step, later.entropy, later.score
    told: dict[str, np.ndarray] = {}
    for name, (_, rival, given) in _RIVALS.items():
        told[name] = _medians(RIVALS[rival], past, steps, entropies if given else None)
    told[OUTLOOK] = _outlook(past, steps)
    a, b = least_squares(np.exp(past.entropy), past.score)
    rest = {name: float(np.sqrt(np.mean((f - truth) ** 2))) for name, f in told.items()}
    last = {name: float(abs(f[-1] - truth[-1])) for name, f in told.items()}
    return Early(a, b, rest, last, float(np.mean(told[LAW] - truth)))


def _medians(rival: Rival, past: Points, steps: np.ndarray, entropies: np.ndarray | None) -> np.ndarray:
    """Medians at the later steps."""
    if entropies is None:
        return np.array([rival.forecast(past, float(step)).median for step in steps])
    pairs = zip(steps, entropies, strict=True)
    return np.array([rival.forecast(past, float(step), np.array([h])).median for step, h in pairs])


def _outlook(past: Points, steps: np.ndarray) -> np.ndarray:
    try:
        return np.array([p.median for p in in_time(past, steps)])
    except FitRefused:
        return np.full(len(steps), np.nan)
