"""Figures 9 and 10: does an entropy bonus help? And a penalty on leaving the starting policy? At several strengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entlaw.paper import panels
from entlaw.paper.control_panels import SMOOTHED, about, accuracy_name, curves, describe_arms, key, line_style
from entlaw.paper.controls import Trials, trials
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, RunFacts
from entlaw.paper.numbers import with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@figure(
    "fig9",
    "Entropy bonus: entropy and accuracy by its coefficient",
    needs="runs with an entropy bonus beside the same without",
)
def fig9(library: Library) -> Drawn:
    """An entropy bonus; of each coefficient what the paper says, which gives no final numbers."""
    theirs = {1e-4: "no effect", 1e-3: "no effect", 5e-3: "steady, no gain", 1e-2: "explodes"}
    told = (
        "The paper (α = 0.0001 to 0.01, one run each, no numbers given): 0.0001 and 0.001 hardly matter, 0.005 holds "
        "the entropy without a gain, 0.01 explodes."
    )
    return _ladder(library, "entropy-bonus", "α", "entropy bonus", theirs, told)


@figure(
    "fig10",
    "Reference KL: entropy and accuracy by its coefficient",
    needs="runs with a reference KL beside the same without",
)
def fig10(library: Library) -> Drawn:
    """A penalty on leaving the starting policy; the paper speaks of all its coefficients together."""
    told = "The paper (β = 0.001 to 0.1, one run each, no numbers given): the entropy is held, the accuracy degrades."
    return _ladder(
        library, "reference-kl", "β", "reference KL", dict.fromkeys((1e-3, 1e-2, 5e-2, 1e-1), ""), told
    )


def _ladder(
    library: Library, method: str, symbol: str, name: str, theirs: Mapping[float, str], told: str
) -> Drawn:
    """A control at several strengths: entropy and accuracy against the step, and what each strength did at the end.

    Parameters
    ----------
    library : Library
    method : str
        As in `RunFacts.method`.
    symbol : str
        Of its strength.
    name : str
        What it is called on an axis.
    theirs : mapping
        The paper's strengths and what it saw at each.
    told : str
        A sentence on what the paper reported.
    """

    def label(f: RunFacts) -> str:
        return f.algorithm.upper() if f.method != method else f"{symbol} = {f.strength:g}"

    found = trials(library, (method,), label, lambda f: bool(f.strength))
    fig, axes = panels.subplots(panels.WIDE, 2.6, 1, 3)
    (a, b, c), arms = axes[0], [found.baseline, *found.arms]
    table = panels.Sheet()
    curves(a, table, arms, "entropy", "entropy")
    a.set_ylabel("policy entropy (nats/token)")
    curves(b, table, arms, "accuracy", "accuracy", 100.0)
    b.set_ylabel(accuracy_name(found))
    _gains(c, table, found, theirs)
    c.set_xlabel(f"{name}, {symbol}")
    for ax, title in ((a, "entropy"), (b, "accuracy"), (c, "gain at the end")):
        ax.set_title(title)
    panels.letters(axes[0])
    key(fig, a)
    findings: dict[str, Any] = {
        "baseline_runs": float(len(found.baseline.trials)),
        "accuracy_baseline": float(found.baseline.of("last").mean()),
        "entropy_level_baseline": float(found.baseline.of("level").mean()),
    }
    for arm in found.arms:
        findings |= with_interval(f"accuracy_gain_{arm.strength:g}", *found.gain(arm))
        findings |= with_interval(f"entropy_ratio_{arm.strength:g}", *found.ratio(arm))
    caption = (
        f"{name[0].upper() + name[1:]} at {len(found.arms)} strengths beside {found.baseline.label} without it "
        f"({len(found.baseline.trials)} runs: mean and, as a band, one standard deviation over seeds). (a) Policy "
        f"entropy, (b) {accuracy_name(found).removesuffix(' (%)')}, (c) accuracy at the end (mean of the last five "
        f"validations) less the baseline's; grey, the paper's strengths and what it says of them. {SMOOTHED}. "
        f"{describe_arms(found)} {told} {about(found)}"
    )
    return Drawn(fig, table.frame(), caption.strip(), found.names, findings)


def _gains(ax: Axes, table: panels.Sheet, found: Trials, theirs: Mapping[float, str]) -> None:
    for i, arm in enumerate(found.arms, 1):
        e = found.gain(arm)
        ax.errorbar(
            [arm.strength or 0.0],
            [100 * e.value],
            yerr=e.bar(100),
            fmt="o",
            ms=4,
            color=line_style(i)["color"],
            elinewidth=0.9,
            capsize=2,
        )
        table.add("gain", arm.label, arm.runs, "ours", strength=arm.strength, **e.times(100)._asdict())
    ax.axhline(0, color=panels.INK, lw=0.7)
    ax.set_xscale("log")
    strengths = [a.strength for a in found.arms if a.strength] + list(theirs)
    ax.set_xlim(min(strengths) / 2, max(strengths) * 2)
    low, high = ax.get_ylim()
    floor = low - 0.42 * (high - low)
    ax.set_ylim(floor, high)
    for strength, words in theirs.items():
        ax.plot([strength], [floor + 0.03 * (high - floor)], marker="^", ms=4, color=panels.GREY, mec="none")
        note, at = f"paper: {words}" if words else "paper", (strength, floor + 0.06 * (high - floor))
        ax.annotate(note, at, rotation=90, ha="center", va="bottom", fontsize=5.2, color="#5a5a5a")
        table.add("gain", "paper", "", "paper, in words", strength=strength, words=words)
    ax.set_ylabel("accuracy less baseline's (points)")
