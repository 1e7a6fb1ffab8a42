"""What the figures of controls draw and say alike: curves of arms against steps, effects beside the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.paper import panels
from entlaw.paper.controls import Arm, LoggedSeries, Trials, mean_curve
from entlaw.paper.library import small_models

if TYPE_CHECKING:
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


def line_style(index: int) -> dict[str, Any]:
    """Line of the arm of a number; 0 is the baseline."""
    if index == 0:
        return {"color": panels.INK, "ls": "-", "lw": 1.6}
    at = (index - 1) % len(_SHADES)
    return {"color": _SHADES[at], "ls": _DASHES[at], "lw": 1.2}


def curves(
    ax: Axes, table: panels.Sheet, arms: Sequence[Arm], what: str, panel: str, scale: float = 1.0
) -> None:
    """Mean over an arm's runs against the step, with a band of one standard deviation over seeds.

    Parameters
    ----------
    ax : Axes
    table : Sheet
        Gets what is drawn.
    arms : sequence of Arm
        The baseline first.
    what : str
        ``entropy``, ``accuracy`` or ``length``.
    panel : str
        What the table calls it.
    scale : float
        Multiplies the values (100 for percent).
    """
    for i, arm in enumerate(arms):
        held = [s for t in arm.trials if isinstance(s := getattr(t, what), LoggedSeries)]
        if not held:
            continue
        step, mean, sd = mean_curve(held, ACCURACY_WINDOW if what == "accuracy" else ENTROPY_WINDOW)
        mean, sd = scale * mean, scale * sd
        if np.isfinite(sd).any():
            ax.fill_between(step, mean - sd, mean + sd, color=line_style(i)["color"], alpha=0.16, lw=0)
        ax.plot(step, mean, label=arm.label, **line_style(i))
        table.add(panel, arm.label, arm.runs, "curve", step=step, value=mean, sd_over_seeds=sd)
    ax.set_xlabel("training step")


def key(fig: Figure, ax: Axes, columns: int = 6) -> None:
    """The legend of one panel's lines above all panels."""
    lines, labels = ax.get_legend_handles_labels()
    fig.legend(lines, labels, loc="outside upper center", ncols=min(columns, len(labels)), handlelength=2.6)


def accuracy_name(found: Trials) -> str:
    """The score's axis."""
    return f"{found.baseline.trials[0].run.performance_kind} accuracy (%)"


def about(found: Trials, lent: bool = True) -> str:
    """What an interval is of, and whose runs these are."""
    spread = (
        "Intervals (95 %) are over seeds of RL from one starting policy; an arm of one run is lent the spread of all "
        f"arms ({100 * found.spread.sd:.1f} points, {found.spread.df} degrees of freedom). "
        if lent and found.spread.df
        else ""
    )
    drawn = (t.facts for a in (found.baseline, *found.arms) for t in a.trials)
    return spread + _siblings(found) + small_models(drawn)


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


def describe_arms(found: Trials) -> str:
    """What each arm did, in one sentence."""
    parts = [
        f"{arm.label}: {found.gain(arm).times(100)} points, entropy {found.ratio(arm).value:.2f} times the baseline's"
        for arm in found.arms
    ]
    return (
        f"Accuracy at the end and mean entropy of the second half, beside the baseline: {'; '.join(parts)}."
    )
