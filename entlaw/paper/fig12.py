"""Figure 12: Clip-Cov's ratio and KL-Cov's coefficient set the level of the entropy; and what that level bought."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.paper import panels
from entlaw.paper.control_panels import SMOOTHED, about, accuracy_name, curves, line_style
from entlaw.paper.controls import Arm, Trials, trials
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, RunFacts, need
from entlaw.paper.numbers import with_interval
from entlaw.paper.reported import numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("clip-cov", "kl-cov", "no-clip")


@figure(
    "fig12",
    "Clip-Cov's ratio and KL-Cov's coefficient set the level of the entropy",
    needs="runs with Clip-Cov or KL-Cov at several strengths, beside the same without",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    found = trials(library, METHODS, _label)
    need(
        bool(found.method("clip-cov") or found.method("kl-cov")),
        "no run with Clip-Cov or KL-Cov beside one without",
        "train one at several strengths",
    )
    ratio = _usual([a.strength for a in found.method("kl-cov") for _ in a.trials])
    coefficient = _usual([a.coefficient for a in found.method("kl-cov") for _ in a.trials])
    ladders: dict[str, list[Arm]] = {
        "Clip-Cov, ratio r": found.method("clip-cov"),
        "KL-Cov, coefficient β": [a for a in found.method("kl-cov") if a.strength == ratio],
        "KL-Cov, ratio k": [a for a in found.method("kl-cov") if a.coefficient == coefficient],
    }
    fig, axes = panels.subplots(panels.WIDE, 2.9, 1, 3, width_ratios=[1, 1, 1.05])
    table = panels.Sheet()
    for ax, (name, symbol) in zip(
        axes[0], (("Clip-Cov, ratio r", "r"), ("KL-Cov, coefficient β", "β")), strict=False
    ):
        _levels(ax, table, found, ladders[name], name, symbol)
    axes[0, 1].sharey(axes[0, 0])
    _bought(axes[0, 2], table, found, ladders)
    panels.letters(list(axes[0]))
    findings: dict[str, Any] = {
        "entropy_level_baseline": float(found.baseline.of("level").mean()),
        "accuracy_baseline": float(found.baseline.of("last").mean()),
    }
    for name, arms in ladders.items():
        for arm in arms:
            at = _format_strength(arm.coefficient if "coefficient" in name else arm.strength)
            stem = (
                f"{arm.method.replace('-', '_')}_{'coefficient' if 'coefficient' in name else 'ratio'}_{at}"
            )
            findings |= with_interval(f"entropy_ratio_{stem}", *found.ratio(arm))
            findings |= with_interval(f"accuracy_gain_{stem}", *found.gain(arm))
        if len(arms) > 1:
            findings[f"rises with {name}"] = "yes" if _rises(found.baseline, arms) else "not throughout"
    drawn = [found.baseline, *(a for arms in ladders.values() for a in arms), *found.method("no-clip")]
    used = tuple(dict.fromkeys(name for arm in drawn for name in arm.names))
    return Drawn(fig, table.frame(), _caption(found, ladders, ratio), used, findings)


def _label(f: RunFacts) -> str:
    if f.method == "clip-cov":
        return f"Clip-Cov r = {_format_strength(f.strength)}"
    if f.method == "kl-cov":
        return (
            f"KL-Cov k = {f.strength:g}, β = {f.coefficient:g}"
            if f.coefficient
            else f"KL-Cov k = {f.strength:g}"
        )
    return "GRPO without clip" if f.method == "no-clip" else f.method.upper()


def _format_strength(value: float | None) -> str:
    """A strength; other trainers' logs do not always hold it."""
    return "unknown" if value is None else f"{value:g}"


def _usual(values: Sequence[float | None]) -> float | None:
    return Counter(values).most_common(1)[0][0] if values else None


def _rises(baseline: Arm, arms: Sequence[Arm]) -> bool:
    """Whether the level of entropy rises with every step of strength, from none on."""
    levels = [float(a.of("level").mean()) for a in (baseline, *arms)]
    return all(np.diff(levels) > 0)


def _levels(
    ax: Axes, table: panels.Sheet, found: Trials, arms: Sequence[Arm], name: str, symbol: str
) -> None:
    """Entropy against the step; with KL-Cov also without any clip, which is the paper's coefficient 0."""
    shown = [found.baseline, *arms]
    curves(ax, table, shown, "entropy", name)
    strengths = [a.coefficient if symbol == "β" else a.strength for a in arms]
    labels = [
        f"{symbol} = 0: {found.baseline.label}",
        *(f"{symbol} = {_format_strength(s)}" for s in strengths),
    ]
    lines = list(ax.get_lines())
    if symbol == "β":
        for arm in found.method("no-clip"):
            curves(ax, table, [arm], "entropy", name)
            lines.append(ax.get_lines()[-1])
            lines[-1].set(color=panels.GREY, linestyle=(0, (2, 1)), linewidth=1.2)
            ax.collections[-1].set_facecolor(panels.GREY)
            labels.append("without clip: the paper's β = 0")
    ax.legend(lines, labels, handlelength=2.6, fontsize=5.8, labelspacing=0.25)
    ax.set_ylabel("policy entropy (nats/token)")
    ax.set_title(name)


def _bought(ax: Axes, table: panels.Sheet, found: Trials, ladders: dict[str, list[Arm]]) -> None:
    """Accuracy at the end against the level held; an arm a point, a ladder a line."""
    base = found.baseline
    start = (float(base.of("level").mean()), 100 * float(base.of("last").mean()))
    mean = "mean of runs"
    table.add("accuracy by level", base.label, base.runs, mean, entropy=start[0], accuracy=start[1])
    markers = dict(zip(ladders, ("o", "s", "^"), strict=True))
    for i, (name, arms) in enumerate(ladders.items(), 1):
        if not arms:
            continue
        level = np.array([start[0], *(float(a.of("level").mean()) for a in arms)])
        last = np.array([start[1], *(100 * float(a.of("last").mean()) for a in arms)])
        half = np.array([100 * (e.hi - e.value) for e in (found.gain(a) for a in arms)])
        ax.plot(level, last, lw=0.7, color=line_style(i)["color"], ls=line_style(i)["ls"])
        ax.errorbar(
            level[1:],
            last[1:],
            yerr=half if np.isfinite(half).all() else None,
            fmt=markers[name],
            ms=4,
            color=line_style(i)["color"],
            elinewidth=0.6,
            capsize=1.5,
            label=name,
        )
        for arm, x, y, h in zip(arms, level[1:], last[1:], half, strict=True):
            table.add(
                "accuracy by level", arm.label, arm.runs, name, entropy=x, accuracy=y, lo=y - h, hi=y + h
            )
    ax.plot(*start, marker="*", ms=9, color=panels.INK, ls="", label=base.label, zorder=5)
    for arm in found.method("no-clip"):
        at = float(arm.of("level").mean()), 100 * float(arm.of("last").mean())
        ax.plot(*at, marker="X", ms=5, color=panels.GREY, ls="", label=arm.label)
        table.add("accuracy by level", arm.label, arm.runs, "mean of runs", entropy=at[0], accuracy=at[1])
    ax.set_xlabel("entropy level (nats/token)")
    ax.set_ylabel(accuracy_name(found).replace("(%)", "at the end (%)"))
    ax.set_title("what the level bought")
    ax.legend(fontsize=5.6, labelspacing=0.25, handlelength=1.4)


def _caption(found: Trials, ladders: dict[str, list[Arm]], ratio: float | None) -> str:
    told = []
    for name, arms in ladders.items():
        of = (
            f"{_format_strength(a.coefficient if 'coefficient' in name else a.strength)}: "
            f"{found.ratio(a).value:.2f} times, {found.gain(a).times(100)} points"
            for a in arms
        )
        if arms:
            told.append(f"{name} {'; '.join(of)}")
    share = f" of {ratio:g}" if ratio else ""
    left, right = (
        ", ".join(f"{v:g}" for v in numbers(f"Fig 12 {side}")["value"]) for side in ("left", "right")
    )
    return (
        f"Entropy of (a) Clip-Cov by the share of tokens it detaches and (b) KL-Cov, at a share{share}, by the "
        "coefficient of its penalty; one run each, or the mean with one standard deviation over seeds as a band; (c) "
        "accuracy at the end (mean of five validations) against the mean entropy of the second half, with 95 % "
        f"intervals of the difference from {found.baseline.label}. {SMOOTHED}. Level beside {found.baseline.label}'s, "
        "and accuracy less "
        f"{found.baseline.label}'s: {'. '.join(told)}. The paper shows entropy alone, without numbers: its Clip-Cov "
        f'"ratio" {left} (no unit given, presumably 1e-4), its KL-Cov coefficient {right}; more of either holds more '
        "entropy, KL-Cov more smoothly. Its coefficient 0 is GRPO without any clip, as its KL-Cov has none; ours keeps "
        f"the clip, so that 0 is GRPO. {about(found)}"
    ).strip()
