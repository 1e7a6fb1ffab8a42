"""Figures 3 and 4: the law by family and size on two tasks; how well it fits, and whether another form fits better."""

from __future__ import annotations

from typing import Any

import numpy as np

from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library
from entlaw.paper.members import Cast, Member, cast, difference, first_of_each, plain_runs, second_task
from entlaw.paper.numbers import FittedLine, bootstrap, over_policies, whole_line, with_interval
from entlaw.report.style import COLUMN_WIDTH

MOST_FAMILIES = 4
BENT = 0.05
# Errors of a score below this are rounding.
_EXACT = 1e-6
# Of each run's line, beside what is drawn.
COLUMNS = (
    "a",
    "b",
    "a_se",
    "b_se",
    "ceiling",
    "r_squared",
    "curvature_p",
    "rmse_held_out_law",
    "rmse_held_out_straight_line",
)


@figure(
    "fig3",
    "The law by family and size, main task",
    needs="runs with nothing acting on the entropy, of several sizes or families",
)
def fig3(library: Library) -> Drawn:
    """On the task of most runs."""
    paper = (
        "The paper shows 11 models of four families on mathematics (Qwen2.5 0.5B to 32B, Mistral, LLaMA, DeepSeek) "
        "and prints neither a, b nor R²; the digitised Qwen2.5 curves are in Figure 1 (c)."
    )
    return _families(library, library.main_task(), "the task of most runs", paper)


@figure(
    "fig4", "The law by family and size, second task", needs="the same on a second task, of two sizes or more"
)
def fig4(library: Library) -> Drawn:
    """On another task."""
    paper = "The paper's second task is code, with the same 11 models; it prints neither a, b nor R²."
    task = second_task(library)
    return _families(library, task, f"second task ({difference(task, library.main_task(), task)})", paper)


def _families(library: Library, task: str, what: str, paper: str) -> Drawn:
    """One figure of the law over families and sizes, a panel a family.

    Parameters
    ----------
    library : Library
    task : str
    what : str
        What the caption calls the task.
    paper : str
        What the paper's figure shows, for the caption.
    """
    runs = cast(plain_runs(library, task))
    lines = {m.name: whole_line(m, bend=True) for m in runs.members}
    families = runs.by(lambda m: m.facts.family)
    shown = dict(list(families.items())[:MOST_FAMILIES])
    width = COLUMN_WIDTH if len(shown) == 1 else panels.WIDE
    fig, axes = panels.subplots(width, 2.7 if len(shown) < 3 else 2.4, 1, len(shown))
    table = panels.Sheet()
    for ax, (family, members) in zip(axes[0], shown.items(), strict=True):
        _family(ax, table, str(family), members, lines)
    if len(shown) > 1:
        panels.letters(axes[0])
    panel = [f"coefficients, {m.facts.family or 'unknown family'}" for m in runs.members]
    columns = panels.of_lines(runs.members, lines, *COLUMNS)
    table.add(panel, [m.label for m in runs.members], list(runs.names), "fit", **columns)
    findings = summary(runs, lines)
    drawn = [m for members in shown.values() for m in members]
    more = f" {len(families) - len(shown)} more families are not drawn." if len(families) > len(shown) else ""
    caption = (
        f"R = b - a exp(H) by least squares over whole runs, {what}: points and solid line of one run a "
        f"size, thin dashed lines the fits of its other starting policies and seeds ({len(drawn)} "
        f"runs).{more} {describe_summary(findings)} {paper} {runs.about}"
    )
    return Drawn(fig, table.frame(), caption.strip(), tuple(m.name for m in drawn), findings)


def _family(
    ax: Any, table: panels.Sheet, family: str, members: list[Member], lines: dict[str, FittedLine]
) -> None:
    scale, panel = panels.factor(members), family or "unknown family"
    of_size: dict[str, list[Member]] = {}
    for m in members:
        of_size.setdefault(m.label, []).append(m)
    labels = list(of_size)[: panels.MOST]
    for i, label in enumerate(labels):
        for j, m in enumerate(of_size[label]):
            panels.points_and_line(ax, table, panel, m, lines[m.name], i, scale, points=j == 0)
    panels.entropy_axis(ax, [m.entropy for label in labels for m in of_size[label]])
    panels.score_axis(ax, [m for label in labels for m in of_size[label]])
    ax.set_title(family or "family unknown")
    panels.key(ax, labels)


def summary(runs: Cast, lines: dict[str, FittedLine]) -> dict[str, Any]:
    """How well the law fits over all runs: R^2, bend, and the held-out error beside a straight line's in H."""
    members = list(runs.members)
    of = [lines[m.name] for m in members]
    p = np.array([x.curvature_p for x in of])
    known = [x.r_squared for x in of if np.isfinite(x.r_squared)]
    r2 = np.array(known or [np.nan])  # of a score that never changes there is none
    # The log of the ratio: which form predicts held-out blocks better, and by how much.
    errors = np.array([(x.rmse_held_out_law, x.rmse_held_out_straight_line) for x in of])
    law, straight = np.maximum(errors, _EXACT).T
    ratio = over_policies(members, list(np.log(law / straight)[:, None]))
    lo, hi = bootstrap(ratio)
    out: dict[str, Any] = {
        "runs": float(len(members)),
        "families": float(len(runs.by(lambda m: m.facts.family))),
        "r_squared_median": float(np.median(r2)),
        "r_squared_min": float(r2.min()),
        "r_squared_max": float(r2.max()),
        "falling_a_positive": float(sum(x.a > 0 for x in of)),
        "bent": float(np.sum(p < BENT)),
        "bend_tested": float(np.isfinite(p).sum()),
        "straight_line_better": float(sum(x.rmse_held_out_straight_line < x.rmse_held_out_law for x in of)),
    }
    out |= with_interval(
        "error_ratio_law_to_straight_line", np.exp(ratio.mean()), float(np.exp(lo[0])), float(np.exp(hi[0]))
    )
    for member in first_of_each(members, lambda m: (m.facts.family, m.label)):
        line, name = lines[member.name], f"{member.facts.family} {member.label}".strip()
        out |= {f"a {name}": line.a, f"b {name}": line.b, f"ceiling {name}": line.ceiling}
    return out


def describe_summary(findings: dict[str, Any]) -> str:
    """The summary in words, for a caption."""
    ratio = [findings[f"error_ratio_law_to_straight_line{end}"] for end in ("", "_lo", "_hi")]
    interval = f" [{ratio[1]:.2f}, {ratio[2]:.2f}]" if np.isfinite(ratio[1]) else ""
    if not np.isfinite(findings["r_squared_min"]):
        return "No score changes, so there is nothing to fit."
    return (
        f"R² is {findings['r_squared_min']:.2f} to {findings['r_squared_max']:.2f}, which of two trending "
        "series proves little; a bend beside the line is seen (p < 0.05, with drifting noise allowed for) in "
        f"{findings['bent']:.0f} of {findings['bend_tested']:.0f} runs, and blocks of a run left out are "
        f"predicted better by a straight line in H in {findings['straight_line_better']:.0f} of "
        f"{findings['runs']:.0f} (error of the law over that of the line: {ratio[0]:.2f}{interval})."
    )
