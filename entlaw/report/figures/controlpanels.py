"""What the figures of controls draw alike: curves of arms against steps, effects beside the baseline, ladders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.report.figures import lawpanels as panels
from entlaw.report.figures.base import SMALL_MODELS, Drawn, Facts, Library
from entlaw.report.figures.controlruns import Arm, Effect, Series, Trials, effect, mean_curve, trials

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Values a moving mean takes: entropies come every step, validations every fourth.
ENTROPY_WINDOW, ACCURACY_WINDOW = 9, 5
SMOOTHED = (
    f"Curves are moving means of {ENTROPY_WINDOW} entropies and lengths (one a step) and of {ACCURACY_WINDOW} "
    "validations"
)
# Told apart in greyscale by their dashes.
_SHADES = ("#56B4E9", "#009E73", "#D55E00", "#7b3294", "#8c510a", "#0072B2")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1)),
    (0, (4, 1, 1, 1)),
    (0, (1, 1)),
    (0, (6, 2, 1, 2, 1, 2)),
    (0, (3, 3)),
)
_SMALL = 2e6


def look(index: int) -> dict[str, Any]:
    """Line of the arm of a number; 0 is the baseline."""
    if index == 0:
        return {"color": panels.INK, "ls": "-", "lw": 1.6}
    at = (index - 1) % len(_SHADES)
    return {"color": _SHADES[at], "ls": _DASHES[at], "lw": 1.2}


def curves(ax: Axes, arms: Sequence[Arm], what: str, panel: str, scale: float = 1.0) -> list[pd.DataFrame]:
    """Mean over an arm's runs against the step, with a band of one standard deviation over seeds; the rows drawn.

    Parameters
    ----------
    ax : Axes
    arms : sequence of Arm
        The baseline first.
    what : str
        ``entropy``, ``accuracy`` or ``length``.
    panel : str
        What the table calls it.
    scale : float
        Multiplies the values (100 for percent).
    """
    rows = []
    for i, arm in enumerate(arms):
        held = [s for t in arm.trials if isinstance(s := getattr(t, what), Series)]
        if not held:
            continue
        step, mean, sd = mean_curve(held, ACCURACY_WINDOW if what == "accuracy" else ENTROPY_WINDOW)
        mean, sd = scale * mean, scale * sd
        if np.isfinite(sd).any():
            ax.fill_between(step, mean - sd, mean + sd, color=look(i)["color"], alpha=0.16, lw=0)
        ax.plot(step, mean, label=arm.label, **look(i))
        names = ";".join(arm.names)
        rows.append(panels.tidy(panel, arm.label, names, "curve", step=step, value=mean, sd_over_seeds=sd))
    ax.set_xlabel("training step")
    return rows


def key(fig: Figure, ax: Axes, columns: int = 6) -> None:
    """The legend of one panel's lines above all panels."""
    lines, labels = ax.get_legend_handles_labels()
    fig.legend(lines, labels, loc="outside upper center", ncols=min(columns, len(labels)), handlelength=2.6)


def accuracy_name(found: Trials) -> str:
    """The score's axis."""
    return f"{found.baseline.trials[0].run.performance_kind} accuracy (%)"


def about(found: Trials, lent: bool = True) -> str:
    """What an interval is of, and whose runs these are."""
    largest = max(t.facts.parameters or np.inf for a in (found.baseline, *found.arms) for t in a.trials)
    spread = (
        "Intervals (95 %) are over seeds of RL from one starting policy; an arm of one run is lent the spread of all "
        f"arms ({100 * found.spread.sd:.1f} points, {found.spread.df} degrees of freedom). "
        if lent and found.spread.df
        else ""
    )
    return spread + _siblings(found) + (SMALL_MODELS if largest <= _SMALL else "")


def _siblings(found: Trials) -> str:
    """What must be said where runs of one recipe did not begin from the same weights: arithmetic differs by machine."""

    def first(arm: Arm) -> set[float]:
        return {float(t.accuracy.value[0]) for t in arm.trials if t.accuracy.step[0] == 0}

    at = first(found.baseline)
    others = {arm.label: first(arm) for arm in found.arms if first(arm) and first(arm) != at}
    if len(at) != 1 or not others:
        return ""
    values = sorted({v for of in others.values() for v in of})
    return (
        f"{', '.join(others)} began from a policy made by the same recipe and seed on another machine, which is not "
        f"bit for bit the others' (accuracy before training {', '.join(f'{100 * v:.1f}' for v in values)} % against "
        f"{100 * at.pop():.1f} %). "
    )


def key_of(label: str) -> str:
    """A label as part of a finding's name."""
    return "".join(c if c.isalnum() or c == "." else "_" for c in label.lower()).strip("_")


def put(findings: dict[str, Any], name: str, e: Effect) -> None:
    """An effect as a finding with its interval."""
    findings |= {name: e.value, f"{name}_lo": e.lo, f"{name}_hi": e.hi}


def gain(found: Trials, arm: Arm) -> Effect:
    """Accuracy at the end less the baseline's, as a fraction."""
    return effect(arm.of("last"), found.baseline.of("last"), found.spread)


def level_ratio(found: Trials, arm: Arm) -> Effect:
    """Level of entropy (mean of the second half of the steps) over the baseline's."""
    e = effect(np.log(arm.of("level")), np.log(found.baseline.of("level")), found.spread_of_log_level)
    return Effect(*(float(np.exp(v)) for v in (e.value, e.lo, e.hi)))


def interval(e: Effect, scale: float = 1.0, digits: int = 1) -> str:
    """``+1.2 [-0.3, 2.7]``."""
    if not np.isfinite(e.lo):
        return f"{scale * e.value:+.{digits}f}"
    return f"{scale * e.value:+.{digits}f} [{scale * e.lo:.{digits}f}, {scale * e.hi:.{digits}f}]"


def said(found: Trials, arms: Sequence[Arm] | None = None) -> str:
    """What each arm did, in one sentence."""
    parts = []
    for arm in found.arms if arms is None else arms:
        ratio = level_ratio(found, arm)
        parts.append(
            f"{arm.label}: {interval(gain(found, arm), 100)} points, entropy {ratio.value:.2f} times the baseline's"
        )
    return (
        f"Accuracy at the end and mean entropy of the second half, beside the baseline: {'; '.join(parts)}."
    )


def ladder(
    library: Library, method: str, symbol: str, name: str, theirs: Mapping[float, str], told: str
) -> Drawn:
    """A control at several strengths: entropy and accuracy against the step, and what each strength did at the end.

    Parameters
    ----------
    library : Library
    method : str
        As in `Facts.method`.
    symbol : str
        Of its strength.
    name : str
        What it is called on an axis.
    theirs : mapping
        The paper's strengths and what it saw at each.
    told : str
        A sentence on what the paper reported.
    """

    def label(f: Facts) -> str:
        return f.algorithm.upper() if f.method != method else f"{symbol} = {f.strength:g}"

    found = trials(library, (method,), label, lambda f: bool(f.strength))
    fig, axes = panels.figure(panels.WIDE, 2.6, 1, 3)
    (a, b, c), arms = axes[0], [found.baseline, *found.arms]
    rows = curves(a, arms, "entropy", "entropy")
    a.set_ylabel("policy entropy (nats/token)")
    rows += curves(b, arms, "accuracy", "accuracy", 100.0)
    b.set_ylabel(accuracy_name(found))
    rows += _gains(c, found, theirs)
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
        put(findings, f"accuracy_gain_{arm.strength:g}", gain(found, arm))
        put(findings, f"entropy_ratio_{arm.strength:g}", level_ratio(found, arm))
    caption = (
        f"{name[0].upper() + name[1:]} at {len(found.arms)} strengths beside {found.baseline.label} without it "
        f"({len(found.baseline.trials)} runs: mean and, as a band, one standard deviation over seeds). (a) Policy "
        f"entropy, (b) {accuracy_name(found).removesuffix(' (%)')}, (c) accuracy at the end (mean of the last five "
        f"validations) less the baseline's; grey, the paper's strengths and what it says of them. {SMOOTHED}. "
        f"{said(found)} {told} {about(found)}"
    )
    return Drawn(fig, panels.table(rows), caption.strip(), found.names, findings)


def _gains(ax: Axes, found: Trials, theirs: Mapping[float, str]) -> list[pd.DataFrame]:
    rows = []
    for i, arm in enumerate(found.arms, 1):
        e = gain(found, arm)
        bar = 100 * np.array([[e.value - e.lo], [e.hi - e.value]]) if np.isfinite(e.lo) else None
        ax.errorbar([arm.strength or 0.0], [100 * e.value], yerr=bar, fmt="o", ms=4, color=look(i)["color"],
                    elinewidth=0.9, capsize=2)  # fmt: skip
        rows.append(panels.tidy("gain", arm.label, ";".join(arm.names), "ours", strength=arm.strength,
                                value=100 * e.value, lo=100 * e.lo, hi=100 * e.hi))  # fmt: skip
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
        rows.append(panels.tidy("gain", "paper", "", "paper, in words", strength=strength, words=words))
    ax.set_ylabel("accuracy less baseline's (points)")
    return rows
