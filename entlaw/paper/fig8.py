"""Figure 8: does the covariance drive the entropy? Over strictly on-policy steps, and by difficulty of the prompts.

Two series that both fall correlate, whether or not one has to do with the other. So each correlation comes twice: of
the series as they are, and of what is left after a centred moving mean is taken from both, which no trend can make.
Its interval is by blocks of steps, since neighbouring steps are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.paper import panels, reported
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import SMALL_MODELS, Library, NotEnoughRuns
from entlaw.paper.numbers import moving_mean, with_interval
from entlaw.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANGE = "actor/entropy_change"
# Key, what it is called, and whether the paper's text or figure means it.
READINGS = {
    "cov/mean": "tokens, A (Eq. 10)",
    "cov/group": "responses, A",
    "cov/group_probability": "responses, π A (Eq. 8)",
}
DIFFICULTY = {"0.125": "1 of 8 right", "0.5": "4 of 8 right", "0.875": "7 of 8 right"}
BLOCK = 20  # steps that are drawn together by the intervals
RESAMPLES = 2000
WINDOW = 2 * BLOCK + 1  # steps of the moving mean that is drawn


@figure(
    "fig8",
    "The covariance and the fall of the entropy, step by step",
    needs="strictly on-policy runs that log the covariance and the change of entropy",
)
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
    fig, axes = panels.subplots(panels.WIDE, 2.5, 1, 3, width_ratios=[1.2, 1.0, 1.0])
    table = panels.Sheet()
    findings = _over_steps(axes[0][0], table, runs)
    related = _readings(axes[0][1], table, runs)
    by_group = _difficulty(axes[0][2], table, runs)
    panels.letters(list(axes[0]))
    best = max(READINGS, key=lambda k: related[f"correlation {READINGS[k]}"])
    theirs = reported.numbers("Fig 8 right").set_index("metric")["value"]
    caption = (
        f"{len(runs)} GRPO runs with one update a rollout on all its tokens and no clip (size m, "
        f"{int(related['steps'])} steps in all). (a) Covariance and fall of the entropy, each a moving mean "
        f"over {WINDOW} steps; the entropy is measured before and after each update in front of the same "
        "tokens, so that the sample of prompts does not add its own noise. Two axes, as in the paper: a "
        "match of shapes, not of sizes. (b) Correlation of each reading of the covariance with the fall of "
        f"the entropy over single steps, raw and around a trend of {WINDOW} steps, with 95 % intervals from "
        f"blocks of {BLOCK} steps. (c) Covariance of responses and A by how many of a prompt's 8 responses "
        f"were right. The closest reading is '{READINGS[best]}'. The paper draws one Qwen2.5-7B run, says "
        "that the two match, gives no correlation, and leaves open which probability π A has; its Figure 8 "
        "reads about 0.012 at the start and 0.017 at the peak against a fall of 0.027 at most, and by "
        f"difficulty {theirs['acc .875 start']:g}, {theirs['acc .5 start']:g} and "
        f"{theirs['acc .125 start']:g} at the start for 7, 4 and 1 of 8. {SMALL_MODELS}"
    )
    return Drawn(
        fig,
        table.frame(),
        caption,
        tuple(r.name for r in runs),
        {"runs": float(len(runs)), **findings, **related, **by_group},
    )


def _series(run: Run, *keys: str) -> list[np.ndarray]:
    """Steps that have all keys, and their values."""
    kept = run.metrics[list(keys)].dropna()
    return [kept.index.to_numpy(float), *(kept[k].to_numpy(float) for k in keys)]


def _over_steps(ax: Axes, table: panels.Sheet, runs: list[Run]) -> dict[str, float]:
    other = panels.twin(ax)
    blue, orange = panels.COLOURS[4], panels.COLOURS[1]
    for target, key, sign, colour, dash in (
        (ax, "cov/mean", 1.0, blue, "-"),
        (other, CHANGE, -1.0, orange, (0, (4, 1.2))),
    ):
        for i, run in enumerate(runs):
            step, value = _series(run, key)
            mean = moving_mean(sign * value, WINDOW)
            target.plot(step, mean, color=colour, ls=dash, lw=1.3 if i == 0 else 0.7)
            series = "covariance" if key != CHANGE else "fall of entropy"
            table.add("a", series, run.name, "moving mean", step=step, value=mean)
    other.axhline(0, color=panels.GREY, lw=0.5)
    ax.set_xlabel("step")
    ax.set_ylabel("covariance, tokens and A (solid)", color=blue)
    other.set_ylabel("−ΔH (nats/token, dashed)", color=orange)
    ax.set_title("over steps")
    early = [_series(run, "cov/mean", CHANGE) for run in runs]
    return {
        f"{name}, first {BLOCK} steps": float(np.mean([s * e[at][:BLOCK].mean() for e in early]))
        for name, at, s in (("covariance", 1, 1.0), ("fall of entropy", 2, -1.0))
    }


def _readings(ax: Axes, table: panels.Sheet, runs: list[Run]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, (key, name) in enumerate(READINGS.items()):
        r = relation([(x, -y) for _, x, y in (_series(run, key, CHANGE) for run in runs)])
        found["steps"] = float(r.steps)
        for what, told, shift, filled in (
            ("raw", r.correlation, 0.13, True),
            ("around trend", r.around_trend, -0.13, False),
        ):
            value, lo, hi = told
            look = panels.marker_style(i)
            ax.plot([lo, hi], [-i + shift] * 2, color=look["color"], lw=1.2)
            ax.plot(value, -i + shift, ms=4.5, ls="", mfc=look["color"] if filled else "white", **look)
            table.add("b", name, "", f"correlation, {what}", value=value, lo=lo, hi=hi)
            label = "correlation" if filled else "correlation around trend"
            found |= with_interval(f"{label} {name}", value, lo, hi)
        found |= with_interval(f"slope {name}", *r.slope)
        table.add("b", name, "", "slope", value=r.slope[0], lo=r.slope[1], hi=r.slope[2])
    ax.axvline(0, color=panels.GREY, lw=0.6, ls=":")
    ax.set_yticks([-i for i in range(len(READINGS))], [n.replace(" (", "\n(") for n in READINGS.values()])
    ax.set_ylim(-len(READINGS) + 0.5, 0.5)
    ax.set_xlabel("correlation with −ΔH")
    ax.set_title("raw ●, around trend ○")
    return found


def _difficulty(ax: Axes, table: panels.Sheet, runs: list[Run]) -> dict[str, float]:
    found: dict[str, float] = {}
    for i, (share, name) in enumerate(DIFFICULTY.items()):
        key = f"cov/accuracy_{share}"
        having = [run for run in runs if key in run.metrics]
        if not having:
            continue
        series = [_series(run, key) for run in having]
        for j, (run, (step, value)) in enumerate(zip(having, series, strict=True)):
            mean = moving_mean(value, WINDOW)
            ax.plot(
                step,
                mean,
                lw=1.2 if j == 0 else 0.6,
                color=panels.marker_style(i)["color"],
                ls=("-", (0, (4, 1.2)), (0, (1, 1)))[i],
                label=name if j == 0 else None,
            )
            table.add("c", name, run.name, "moving mean", step=step, value=mean)
        blocks = np.concatenate(
            [[b.mean() for b in np.array_split(v, max(len(v) // BLOCK, 1))] for _, v in series]
        )
        half = 1.96 * blocks.std(ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else np.nan
        level = float(np.mean(np.concatenate([v for _, v in series])))
        found |= with_interval(f"covariance {name}", level, level - half, level + half)
        found[f"share of steps below 0, {name}"] = float(np.mean(np.concatenate([v for _, v in series]) < 0))
    ax.axhline(0, color=panels.GREY, lw=0.5)
    ax.legend(fontsize=6.0, handlelength=2.2)
    ax.set_xlabel("step")
    ax.set_ylabel("covariance, responses and A")
    ax.set_title("by difficulty")
    return found


@dataclass(frozen=True)
class Relation:
    """y against x over the steps of several runs.

    Attributes
    ----------
    correlation, slope : (value, lo, hi)
        Of the series as they are; the slope is of the least squares line through the origin, y = slope x.
    around_trend : (value, lo, hi)
        Correlation of what is left of both without their trends.
    steps : int
    """

    correlation: tuple[float, float, float]
    slope: tuple[float, float, float]
    around_trend: tuple[float, float, float]
    steps: int


def relation(runs: Sequence[tuple[np.ndarray, np.ndarray]], level: float = 0.95, seed: int = 0) -> Relation:
    """Relation of y to x, with percentile intervals from drawing blocks of steps with replacement.

    Blocks are not whole runs: the intervals are for other steps of such runs, not for other runs.

    Parameters
    ----------
    runs : sequence of (x, y)
        Each of shape (steps,), in order of steps, without NaN; at least two blocks in all.
    level : float
    seed : int
    """
    parts = []
    for x, y in runs:
        rx, ry = x - moving_mean(x, WINDOW), y - moving_mean(y, WINDOW)
        n = len(x) // BLOCK
        parts += [
            np.stack(part)
            for part in zip(*(np.array_split(v, max(n, 1)) for v in (x, y, rx, ry)), strict=True)
        ]
    # Sums are all that correlation and slope need: a resample is a weighting of blocks.
    sums = np.array([_sums(p) for p in parts])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), RESAMPLES) @ sums
    whole = sums.sum(axis=0)
    ends = [0.5 * (1 - level), 0.5 * (1 + level)]

    def estimate(of: int) -> tuple[float, float, float]:
        lo, hi = np.nanquantile(_numbers(drawn)[of], ends) if len(parts) > 1 else (np.nan, np.nan)
        return float(_numbers(whole[None])[of][0]), float(lo), float(hi)

    return Relation(estimate(0), estimate(1), estimate(2), int(whole[0]))


def _sums(part: np.ndarray) -> np.ndarray:
    x, y, rx, ry = part
    return np.array(
        [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y, rx.sum(), ry.sum(), rx @ rx, ry @ ry, rx @ ry]
    )


def _numbers(s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, x, y, xx, yy, xy, rx, ry, rxx, ryy, rxy = s.T

    def correlation(a, b, aa, bb, ab):  # type: ignore[no-untyped-def]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (n * ab - a * b) / np.sqrt((n * aa - a * a) * (n * bb - b * b))

    with np.errstate(invalid="ignore", divide="ignore"):
        return correlation(x, y, xx, yy, xy), xy / xx, correlation(rx, ry, rxx, ryy, rxy)
