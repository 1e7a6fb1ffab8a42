"""Figure 2: how much of the entropy is consumed, and of the performance gained, by which share of a run."""

from __future__ import annotations

import numpy as np

from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, need
from entlaw.paper.members import Cast, cast, plain_runs
from entlaw.paper.numbers import (
    END_SHARE,
    LEAST_UNITS,
    RunProgress,
    bootstrap,
    over_policies,
    progress,
    shares,
    with_interval,
)
from entlaw.paper.reported import numbers
from entlaw.report.style import COLUMN_WIDTH

# The paper's steps 200 and 800 of 2,400.
MARKS = {"twelfth": 1 / 12, "third": 1 / 3}
# A gain that is not several times the noise of one score cannot be cut into percents; nor a fall this small.
LEAST_GAIN, LEAST_FALL = 3.0, 0.1


@figure(
    "fig2",
    "Most of the entropy is consumed, and most of the performance gained, early in a run",
    needs="runs with nothing acting on the entropy that gain more than their noise",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    runs = cast(plain_runs(library), least=8)
    made = [(m, progress(m)) for m in runs.members]
    kept = [(m, p) for m, p in made if _moved(p)]
    need(
        bool(kept),
        f"none of {len(made)} runs both consumes a tenth of its entropy and gains more than its noise",
        "train longer, or from a policy with more to gain",
    )
    members, moved = [m for m, _ in kept], [p for _, p in kept]
    fig, axes = panels.subplots(COLUMN_WIDTH, 2.7)
    ax, table, findings = (
        axes[0, 0],
        panels.Sheet(),
        {"runs": float(len(kept)), "left_out": float(len(made) - len(kept))},
    )
    share = 100 * shares()
    for what, label, colour, style in (
        ("consumed", "entropy consumed", panels.COLOURS[1], (0, (4, 1.2))),
        ("gained", "performance gained", panels.COLOURS[4], "-"),
    ):
        units = over_policies(members, [getattr(p, what) for p in moved])
        mean, (lo, hi) = units.mean(axis=0), bootstrap(units)
        ax.fill_between(share, 100 * lo, 100 * hi, color=colour, alpha=0.22, lw=0)
        ax.plot(share, 100 * mean, color=colour, ls=style, label=f"{label}, ours")
        table.add(
            "progress", label, "", "mean", share_of_run=share, percent=100 * mean, lo=100 * lo, hi=100 * hi
        )
        for name, at in MARKS.items():
            i = int(np.argmin(np.abs(shares() - at)))
            findings |= with_interval(f"{what}_at_a_{name}", 100 * mean[i], 100 * lo[i], 100 * hi[i])
            findings[f"{what}_at_a_{name}_paper"] = paper = _papers(what, name)
            ax.plot(
                [100 * at],
                [paper],
                marker="s" if what == "consumed" else "D",
                ms=4.2,
                mfc="white",
                mec=colour,
                mew=1.0,
                ls="",
                label=f"{label}, paper" if name == "twelfth" else None,
                zorder=4,
            )
            ax.plot([100 * at], [100 * mean[i]], "o", ms=3, color=colour, zorder=5)
            table.add("progress", label, "", "paper", share_of_run=100 * at, percent=paper)
        for name, at in MARKS.items():
            of_all = over_policies(members, [p.consumed_of_all for p in moved])
            i = int(np.argmin(np.abs(shares() - at)))
            findings[f"consumed_of_all_at_a_{name}"] = 100 * float(of_all[:, i].mean())
    units_known = len(over_policies(members, [np.zeros(1) for _ in members]))
    findings["starting_policies"] = float(units_known)
    _marks(ax, findings)
    ax.set_xlabel("share of the run (%)")
    ax.set_ylabel("share of the whole change (%)")
    lowest = float(table.frame()["percent"].min())
    ax.set_ylim(max(min(0.0, lowest), -60.0), 112)
    ax.set_xlim(0, 100)
    ax.legend(loc="lower right", labelspacing=0.3)
    caption = _caption(len(made) - len(kept), len(kept), units_known, runs)
    return Drawn(fig, table.frame(), caption.strip(), tuple(m.name for m in members), findings)


def _caption(left: int, kept: int, units: int, runs: Cast) -> str:
    band = (
        f"bands are 95 % intervals of the mean, by resampling the {units} starting policies (seeds of one are "
        "averaged first)"
        if units >= LEAST_UNITS
        else f"fewer than {LEAST_UNITS} starting policies, so no interval is given"
    )
    moved = f"{left} of {left + kept} runs moved too little to be cut into percents. " if left else ""
    return (
        "Entropy consumed, (H(0) - H(t)) / (H(0) - H(end)), and performance gained, (R(t) - R(0)) / (R(end) "
        f"- R(0)), mean of {kept} runs; {band}. Both series are smoothed first (a spline whose "
        f"stiffness the data choose) and the end is the mean over the last {END_SHARE:.0%} of the steps, so "
        "that one noisy score at either end does not move everything. Open markers: the paper's 73 % and 76 "
        "% at step 200 of 2,400, and 94 % of the entropy and 93 % of the performance at step 800 (11 models; "
        "its normalisation is not stated). Steps are shares of each run's own length: a run stopped earlier "
        f"would look slower. {moved}{runs.about}"
    )


def _moved(p: RunProgress) -> bool:
    return bool(
        p.rose > LEAST_GAIN * p.noise
        and p.rose > 0
        and p.fell > LEAST_FALL * (p.fell / p.consumed_of_all[-1] if p.consumed_of_all[-1] > 0 else np.inf)
        and np.isfinite(p.consumed).all()
        and np.isfinite(p.gained).all()
    )


def _papers(what: str, mark: str) -> float:
    word = "entropy" if what == "consumed" else "performance"
    step = "200" if mark == "twelfth" else "800"
    rows = numbers("Fig 2")
    at = rows["item"].str.startswith(word) & rows["item"].str.contains(f"at {step} ")
    return float(rows.loc[at, "value"].iloc[0])


def _marks(ax: object, findings: dict[str, float]) -> None:
    for name, at in MARKS.items():
        ax.axvline(100 * at, color=panels.GREY, lw=0.7, ls=":")  # type: ignore[attr-defined]
        told = "1/12" if name == "twelfth" else "1/3"
        ours = [findings[f"{what}_at_a_{name}"] for what in ("consumed", "gained")]
        papers = [findings[f"{what}_at_a_{name}_paper"] for what in ("consumed", "gained")]
        ax.annotate(  # type: ignore[attr-defined]
            f"{told}: ours {ours[0]:.0f}, {ours[1]:.0f} %\npaper {papers[0]:.0f}, {papers[1]:.0f} %",
            (100 * at, 44 if name == "twelfth" else 72),
            fontsize=5.8,
            xytext=(2, 0),
            textcoords="offset points",
            va="top",
        )
