"""Figure 8: does the covariance drive the entropy? Over strictly on-policy steps, and by difficulty of the "
"prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.report.figures import lawpanels as panels
from entlaw.report.figures import paper
from entlaw.report.figures.base import SMALL_MODELS, Drawn, Library, NotEnoughRuns
from entlaw.report.figures.blocks import BLOCK, relation
from entlaw.report.figures.controlruns import moving_mean
from entlaw.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "fig8"
TITLE = "The covariance and the fall of the entropy, step by step"

CHANGE = "actor/entropy_change"
# Key, what it is called, and whether the paper's text or figure means it.
READINGS = {
    "cov/mean": "tokens, A (Eq. 10)",
    "cov/group": "responses, A",
    "cov/group_probability": "responses, π A (Eq. 8)",
}
DIFFICULTY = {"0.125": "1 of 8 right", "0.5": "4 of 8 right", "0.875": "7 of 8 right"}
WINDOW = 2 * BLOCK + 1  # steps of the moving mean that is drawn


def draw(library: Library) -> Drawn:
    """See the module."""
    runs = [
        r for _, r in library.select(method="on-policy") if CHANGE in r.metrics and "cov/group" in r.metrics
    ]
    if not runs:
        raise NotEnoughRuns(
            "no strictly on-policy run that logs the covariance and the change of entropy",
            why="with several updates a rollout, or a clip, the theory's step is not the one that was taken",
            hint="entlaw train --set loss.kind=policy_gradient --set loss.mini_batches=1",
        )
    fig, axes = panels.figure(panels.WIDE, 2.5, 1, 3, width_ratios=[1.2, 1.0, 1.0])
    rows, findings = _over_steps(axes[0][0], runs)
    more, related = _readings(axes[0][1], runs)
    difficulty, by_group = _difficulty(axes[0][2], runs)
    panels.letters(list(axes[0]))
    best = max(READINGS, key=lambda k: related[f"correlation {READINGS[k]}"])
    theirs = paper.numbers("Fig 8 right").set_index("metric")["value"]
    caption = (
        f"{len(runs)} GRPO runs with one update a rollout on all its tokens and no clip (size m, "
        f"{int(related['steps'])} steps in all). (a) Covariance and fall of the entropy, each a moving mean over "
        f"{WINDOW} steps; the entropy is measured before and after each update in front of the same tokens, so "
        "that the "
        "sample of prompts does not add its own noise. Two axes, as in the paper: a match of shapes, not of sizes. "
        "(b) "
        "Correlation of each reading of the covariance with the fall of the entropy over single steps, raw and "
        "around a "
        f"trend of {WINDOW} steps, with 95 % intervals from blocks of {BLOCK} steps. (c) Covariance of responses "
        "and A "
        f"by how many of a prompt's 8 responses were right. The closest reading is '{READINGS[best]}'. The paper "
        "draws "
        "one Qwen2.5-7B run, says that the two match, gives no correlation, and leaves open which probability π A "
        "has; "
        "its Figure 8 reads about 0.012 at the start and 0.017 at the peak against a fall of 0.027 at most, and by "
        f"difficulty {theirs['acc .875 start']:g}, {theirs['acc .5 start']:g} and {theirs['acc .125 start']:g} at "
        "the "
        f"start for 7, 4 and 1 of 8. {SMALL_MODELS}"
    )
    return Drawn(
        fig, panels.table([*rows, *more, *difficulty]), caption, tuple(r.name for r in runs),
        {"runs": float(len(runs)), **findings, **related, **by_group},
    )  # fmt: skip


def _series(run: Run, *keys: str) -> list[np.ndarray]:
    """Steps that have all keys, and their values."""
    kept = run.metrics[list(keys)].dropna()
    return [kept.index.to_numpy(float), *(kept[k].to_numpy(float) for k in keys)]


def _over_steps(ax: Axes, runs: list[Run]) -> tuple[list[pd.DataFrame], dict[str, float]]:
    other = ax.twinx()
    other.spines["right"].set_visible(True)
    blue, orange = panels.COLOURS[4], panels.COLOURS[1]
    rows = []
    for target, key, sign, colour, dash in (
        (ax, "cov/mean", 1.0, blue, "-"), (other, CHANGE, -1.0, orange, (0, (4, 1.2)))
    ):  # fmt: skip
        for i, run in enumerate(runs):
            step, value = _series(run, key)
            mean = moving_mean(sign * value, WINDOW)
            target.plot(step, mean, color=colour, ls=dash, lw=1.3 if i == 0 else 0.7)
            series = "covariance" if key != CHANGE else "fall of entropy"
            rows.append(panels.tidy("a", series, run.name, "moving mean", step=step, value=mean))
    other.axhline(0, color=panels.GREY, lw=0.5)
    ax.set_xlabel("step")
    ax.set_ylabel("covariance, tokens and A (solid)", color=blue)
    other.set_ylabel("−ΔH (nats/token, dashed)", color=orange)
    ax.set_title("over steps")
    early = [_series(run, "cov/mean", CHANGE) for run in runs]
    first = {f"{name}, first {BLOCK} steps": float(np.mean([s * e[at][:BLOCK].mean() for e in early]))
             for name, at, s in (("covariance", 1, 1.0), ("fall of entropy", 2, -1.0))}  # fmt: skip
    return rows, first


def _readings(ax: Axes, runs: list[Run]) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    rows: list[pd.DataFrame] = []
    found: dict[str, Any] = {}
    for i, (key, name) in enumerate(READINGS.items()):
        r = relation([(x, -y) for _, x, y in (_series(run, key, CHANGE) for run in runs)])
        found["steps"] = float(r.steps)
        for what, told, shift, filled in (
            ("raw", r.correlation, 0.13, True),
            ("around trend", r.around_trend, -0.13, False),
        ):
            value, lo, hi = told
            look = panels.look(i)
            ax.plot([lo, hi], [-i + shift] * 2, color=look["color"], lw=1.2)
            ax.plot(value, -i + shift, ms=4.5, ls="", mfc=look["color"] if filled else "white", **look)
            rows.append(panels.tidy("b", name, "", f"correlation, {what}", value=value, lo=lo, hi=hi))
            label = "correlation" if filled else "correlation around trend"
            found |= {f"{label} {name}": value, f"{label} {name}_lo": lo, f"{label} {name}_hi": hi}
        found |= dict(zip((f"slope {name}", f"slope {name}_lo", f"slope {name}_hi"), r.slope, strict=True))
        rows.append(panels.tidy("b", name, "", "slope", value=r.slope[0], lo=r.slope[1], hi=r.slope[2]))
    ax.axvline(0, color=panels.GREY, lw=0.6, ls=":")
    ax.set_yticks([-i for i in range(len(READINGS))], [n.replace(" (", "\n(") for n in READINGS.values()])
    ax.set_ylim(-len(READINGS) + 0.5, 0.5)
    ax.set_xlabel("correlation with −ΔH")
    ax.set_title("raw ●, around trend ○")
    return rows, found


def _difficulty(ax: Axes, runs: list[Run]) -> tuple[list[pd.DataFrame], dict[str, float]]:
    rows: list[pd.DataFrame] = []
    found: dict[str, float] = {}
    for i, (share, name) in enumerate(DIFFICULTY.items()):
        key = f"cov/accuracy_{share}"
        having = [run for run in runs if key in run.metrics]
        if not having:
            continue
        series = [_series(run, key) for run in having]
        for j, (run, (step, value)) in enumerate(zip(having, series, strict=True)):
            mean = moving_mean(value, WINDOW)
            ax.plot(step, mean, lw=1.2 if j == 0 else 0.6, color=panels.look(i)["color"],
                    ls=("-", (0, (4, 1.2)), (0, (1, 1)))[i], label=name if j == 0 else None)  # fmt: skip
            rows.append(panels.tidy("c", name, run.name, "moving mean", step=step, value=mean))
        blocks = np.concatenate(
            [[b.mean() for b in np.array_split(v, max(len(v) // BLOCK, 1))] for _, v in series]
        )
        half = 1.96 * blocks.std(ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
        level = float(np.mean(np.concatenate([v for _, v in series])))
        found |= {
            f"covariance {name}": level,
            f"covariance {name}_lo": level - half,
            f"covariance {name}_hi": level + half,
        }
        found[f"share of steps below 0, {name}"] = float(np.mean(np.concatenate([v for _, v in series]) < 0))
    ax.axhline(0, color=panels.GREY, lw=0.5)
    ax.legend(fontsize=6.0, handlelength=2.2)
    ax.set_xlabel("step")
    ax.set_ylabel("covariance, responses and A")
    ax.set_title("by difficulty")
    return rows, found
