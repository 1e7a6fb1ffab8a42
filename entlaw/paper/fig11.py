"""Figure 11: GRPO, clip-higher, Clip-Cov, KL-Cov and the baseline the paper lacks, GRPO without any clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from entlaw.paper import panels
from entlaw.paper.control_panels import SMOOTHED, about, accuracy_name, curves, key, key_of, line_style
from entlaw.paper.controls import Arm, Effect, Trials, most_seeds, trials
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, RunFacts
from entlaw.paper.numbers import with_interval
from entlaw.paper.reported import numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("clip-higher", "clip-cov", "kl-cov", "no-clip")
WORDS = {"clip-higher": "clip-higher", "clip-cov": "Clip-Cov", "kl-cov": "KL-Cov", "no-clip": "no clip"}
# As the file of the paper's numbers calls them.
THEIRS = {"clip-higher": "Clip-higher", "clip-cov": "Clip-Cov", "kl-cov": "KL-Cov"}
Theirs = dict[str, dict[str, float]]  # the paper's number by model and method
MODELS = {"Qwen2.5-7B": ("D", "7B"), "Qwen2.5-32B": ("s", "32B")}


@figure(
    "fig11",
    "Controls of the entropy, and GRPO without any clip",
    needs="runs with clip-higher, Clip-Cov, KL-Cov or without clip, beside the same without",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    found = chosen(library)
    arms = [found.baseline, *found.arms]
    fig, axes = panels.subplots(panels.WIDE, 4.5, 2, 3, height_ratios=[1.25, 1])
    a, b, c = axes[0]
    table = panels.Sheet()
    curves(a, table, arms, "entropy", "entropy")
    a.set_ylabel("policy entropy (nats/token)")
    curves(b, table, arms, "length", "response length")
    b.set_ylabel("response length (tokens)")
    curves(c, table, arms, "accuracy", "accuracy", 100.0)
    c.set_ylabel(accuracy_name(found))
    for ax, title in zip(axes[0], ("entropy", "response length", "accuracy"), strict=True):
        ax.set_title(title)
    ends = [(axes[1, 0], "last_entropy", "entropy", "entropy / GRPO's")]
    if all(t.length is not None for arm in arms for t in arm.trials):
        ends.append((axes[1, 1], "last_length", "response length", "length / GRPO's"))
    else:
        axes[1, 1].set_axis_off()
    findings: dict[str, Any] = {
        "runs": float(len(found.names)),
        "baseline_runs": float(len(found.baseline.trials)),
    }
    for ax, what, metric, label in ends:
        ours = {arm.method: found.ratio(arm, what) for arm in found.arms}
        _ends(ax, table, found.arms, ours, _their_ratios(metric), metric)
        ax.set_xscale("log")
        _plain_ticks(ax)
        ax.axvline(1, color=panels.INK, lw=0.7)
        ax.set_xlabel(label)
        for arm in found.arms:
            findings |= with_interval(f"{key_of(metric)}_ratio_{key_of(arm.method)}", *ours[arm.method])
    gains = {arm.method: found.gain(arm) for arm in found.arms}
    ends_c = {m: e.times(100) for m, e in gains.items()}
    _ends(axes[1, 2], table, found.arms, ends_c, _their_gains(), "accuracy")
    axes[1, 2].axvline(0, color=panels.INK, lw=0.7)
    axes[1, 2].set_xlabel("accuracy less GRPO's (points)")
    for arm in found.arms:
        findings |= with_interval(f"accuracy_gain_{key_of(arm.method)}", *gains[arm.method])
        findings[f"accuracy_{key_of(arm.method)}"] = float(arm.of("last").mean())
    findings |= {
        "accuracy_grpo": float(found.baseline.of("last").mean()),
        "entropy_grpo": float(found.baseline.of("last_entropy").mean()),
    }
    for ax in axes[1]:
        ax.set_title("at the end")
    panels.letters(list(axes.ravel()))
    key(fig, a)
    _their_key(fig, axes[1, 0])
    return Drawn(fig, table.frame(), _caption(found, gains, findings), found.names, findings)


def chosen(library: Library, methods: Sequence[str] = METHODS) -> Trials:
    """One arm a method: its strength with most seeds."""
    found = trials(library, methods, _label)
    arms = tuple(most_seeds(found.method(m)) for m in methods if found.method(m))
    return Trials(found.baseline, arms, found.alike)


def _label(f: RunFacts) -> str:
    name = WORDS.get(f.method, f.method.upper())
    return f"{name} {f.strength:g}" if f.strength is not None and f.method in WORDS else name


def _their(metric: str) -> Theirs:
    """The paper's final values by model and method."""
    of = numbers("Fig 11", item="final", metric=metric)
    return {
        model: dict(zip(g["setting"], g["value"].astype(float), strict=True))
        for model, g in of.groupby("model")
    }


def _their_ratios(metric: str) -> Theirs:
    return {
        model: {m: v[name] / v["GRPO"] for m, name in THEIRS.items()} for model, v in _their(metric).items()
    }


def _their_gains() -> Theirs:
    of = _their("avg test accuracy")
    return {model: {m: v[name] - v["GRPO"] for m, name in THEIRS.items()} for model, v in of.items()}


def _ends(
    ax: Axes, table: panels.Sheet, arms: Sequence[Arm], ours: dict[str, Effect], theirs: Theirs, metric: str
) -> None:
    """Ours with intervals above the paper's, a row a method."""
    for y, arm in enumerate(arms):
        e, colour = ours[arm.method], line_style(y + 1)["color"]
        ax.errorbar([e.value], [y - 0.15], xerr=e.bar(), fmt="o", ms=4, color=colour, elinewidth=1, capsize=2)
        table.add(f"{metric} at the end", arm.label, arm.runs, "ours, beside GRPO", **e._asdict())
        for model, of in theirs.items():
            if arm.method in of:
                mark = MODELS[model][0]
                ax.plot([of[arm.method]], [y + 0.22], marker=mark, ms=4, mfc="none", mec=panels.GREY, ls="")
                table.add(f"{metric} at the end", arm.label, "", f"paper, {model}", value=of[arm.method])
    panels.name_rows(ax, [WORDS[arm.method] for arm in arms])


def _plain_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low > 3 else (1.0, 1.5, 2.0, 3.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _their_key(fig: Any, ax: Axes) -> None:
    from matplotlib.lines import Line2D

    shapes = [Line2D([], [], marker="o", color=panels.INK, ls="", ms=4)]
    shapes += [Line2D([], [], marker=m, mfc="none", mec=panels.GREY, ls="", ms=4) for m, _ in MODELS.values()]
    labels = ["ours (95 %)", *(f"paper, {size}" for _, size in MODELS.values())]
    fig.legend(shapes, labels, loc="outside lower center", ncols=3)


def _caption(found: Trials, gains: dict[str, Effect], findings: dict[str, Any]) -> str:
    told = "; ".join(f"{arm.label}: {gains[arm.method].times(100)}" for arm in found.arms)
    missing = (
        " GRPO without any clip is the baseline that the paper does not show: its KL-Cov has no clip either, so the "
        "part of that in its gain is unknown."
        if found.method("no-clip")
        else ""
    )
    return (
        f"{found.baseline.label} and controls of its entropy from one starting policy, "
        f"{min(len(a.trials) for a in (found.baseline, *found.arms))} or more seeds each: mean, and as a band one "
        f"standard deviation over seeds, of (a) entropy, (b) response length and (c) accuracy. {SMOOTHED}. (d-f) The "
        "end of the runs beside GRPO's: ours with 95 % intervals over seeds (Welch), and what was read off the paper's "
        f"figure for Qwen2.5-7B and 32B. Points of accuracy less GRPO's: {told}.{missing} Ours do as the paper's text "
        f"says (the clip is kept); the authors' code widens or drops it. {about(found, lent=False)}"
    ).strip()
