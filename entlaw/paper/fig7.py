"""Figure 7: a and b against model size, each size predicted from the others, and the paper's own sizes likewise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from entlaw.law.shapes import Interval
from entlaw.law.sizes import SizedFit, Sizes, curvature_p, fit_sizes
from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, NotEnoughRuns, need
from entlaw.paper.members import Cast, Member, cast, plain_runs
from entlaw.paper.numbers import whole_line, with_interval
from entlaw.paper.panels import Sheet
from entlaw.paper.reported import qwen_curves

QUANTITIES = ("a", "b", "ceiling")
# Parameters without embeddings, in billions, of the Qwen2.5 model cards: the paper's axis.
NON_EMBEDDING = {0.5: 0.36, 1.5: 1.31, 3.0: 2.77, 7.0: 6.53, 32.0: 31.0}
# Standard error of a and b read off a picture, in points.
READING_ERROR = 0.3
LEVEL = 0.95


@figure(
    "fig7",
    "a and b against model size, and each size predicted from the others",
    needs="runs of three model sizes or more in one family, nothing acting on the entropy",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    runs = _sized(library)
    ours = [_fit(of) for of in runs.by(lambda m: m.policy).values()]
    sizes = sorted({f.parameters for f in ours})
    need(
        len(sizes) >= 3,
        f"known model sizes in one family: {len(sizes)}, and a line over sizes needs three",
        "train other sizes, nothing acting on the entropy",
    )
    fig, axes = panels.subplots(panels.WIDE, 3.9, 2, 3)
    table = Sheet()
    findings: dict[str, Any] = {
        "runs": float(len(runs.members)),
        "starting_policies": float(len(ours)),
        "sizes": float(len(sizes)),
    }
    for row, (who, fits) in enumerate((("ours", ours), ("paper", papers_fits()))):
        found = fit_sizes(fits)
        left_out = leave_one_out(fits)
        for ax, quantity in zip(axes[row], QUANTITIES, strict=True):
            _panel(ax, table, who, quantity, fits, found, left_out)
        findings |= _findings("" if who == "ours" else "paper_", found, left_out)
    panels.letters(list(axes.flat))
    family = runs.members[0].facts.family
    caption = (
        f"Top: coefficients of {len(ours)} starting policies{f' ({family})' if family else ''} of "
        f"{len(sizes)} sizes (dots: mean of a policy's seeds; bars: mean of a size and its standard error, "
        "of fits and between policies), a line in ln N with its 95 % band, and each size predicted from the "
        "others (diamonds with 95 % intervals; the largest filled). Bottom: the same for the paper's Qwen2.5 "
        "fits on mathematics, read off its Figure 1, against parameters without embeddings; its Figure 7 "
        f"prints no numbers, and predicts no size from the others. {_describe_prediction(findings, '', 'Ours')} "
        f"{_describe_prediction(findings, 'paper_', 'The paper’s')} {runs.about}"
    )
    return Drawn(fig, table.frame(), caption.strip(), runs.names, findings)


def _sized(library: Library) -> Cast:
    """Runs of the family with most known sizes."""
    pairs = [(f, r) for f, r in plain_runs(library) if f.parameters]
    sizes: dict[str, set[float]] = {}
    for f, _ in pairs:
        sizes.setdefault(f.family, set()).add(float(f.parameters or 0))
    if not sizes:
        raise NotEnoughRuns(
            "no run states its model's size", hint="name the size in the run's name or configuration"
        )
    family = max(sizes, key=lambda name: (len(sizes[name]), sum(f.family == name for f, _ in pairs)))
    runs = cast([(f, r) for f, r in pairs if f.family == family])
    need(
        panels.are_shares(runs.members),
        "scores that are not shares of right answers, which the paper's a and b are of",
        "choose a score in [0, 1]",
    )
    return runs


def _fit(members: list[Member]) -> SizedFit:
    """Of one starting policy: the mean of its seeds' coefficients, with the error of one, since they share it."""
    lines = [whole_line(m) for m in members]
    return SizedFit(
        members[0].name,
        float(members[0].facts.parameters or np.nan),
        float(np.mean([x.a for x in lines])),
        float(np.mean([x.b for x in lines])),
        np.mean([x.covariance for x in lines], axis=0),
    )


def papers_fits() -> list[SizedFit]:
    """The paper's five sizes, as fractions, with the error of reading them off a picture."""
    error = np.diag([READING_ERROR, READING_ERROR]) ** 2 * 1e-4
    return [
        SizedFit(c.model, NON_EMBEDDING[float(c.params_billion)] * 1e9, c.a / 100, c.b / 100, error)
        for c in qwen_curves().itertuples()
    ]


def leave_one_out(fits: Sequence[SizedFit]) -> dict[str, list[tuple[float, float, Interval, float]]]:
    """Each size predicted from the others: parameters, forecast, interval, what was found; empty below four sizes."""
    sizes = sorted({f.parameters for f in fits})
    out: dict[str, list[tuple[float, float, Interval, float]]] = {q: [] for q in QUANTITIES}
    if len(sizes) < 4:
        return out
    whole = fit_sizes(fits)
    for i, size in enumerate(sizes):
        others = fit_sizes([f for f in fits if f.parameters != size])
        for quantity in QUANTITIES:
            line, found = others.lines[quantity], whole.lines[quantity]
            x = np.array([1.0, np.log(size) - line.centre])
            interval = line.fit.interval(x, LEVEL, new_unit=True, extra=float(found.variance[i]))
            out[quantity].append((size, line.fit.mean(x), interval, float(found.value[i])))
    return out


def _panel(
    ax: Any, table: Sheet, who: str, quantity: str, fits: Sequence[SizedFit], found: Sizes, left_out: Any
) -> None:
    line = found.lines[quantity]
    n = line.parameters
    grid = np.geomspace(n[0] / 1.3, n[-1] * 1.3, 60)
    band = [line.line_at(g, LEVEL) for g in grid]
    mean = 100 * np.array([line.at(g)[0] for g in grid])
    lo, hi = 100 * np.array([i.lo for i in band]), 100 * np.array([i.hi for i in band])
    ax.fill_between(grid, lo, hi, color="#cfe2f0", lw=0)
    ax.plot(grid, mean, color=panels.COLOURS[4], lw=1.1)
    table.add(who, quantity, "", "line", parameters=grid, value=mean, lo=lo, hi=hi)
    each = {"a": [f.a for f in fits], "b": [f.b for f in fits], "ceiling": [f.b - f.a for f in fits]}[
        quantity
    ]
    at, value = [f.parameters for f in fits], 100 * np.array(each)
    ax.plot(at, value, "o", ms=2.6, mfc="none", mec=panels.INK, mew=0.6)
    names = [f.name for f in fits]
    run, kind = (names, "run") if who == "ours" else ("", names)
    table.add(who, quantity, run, kind, parameters=at, value=value)
    centre, se = 100 * line.value, 100 * np.sqrt(line.variance)
    ax.errorbar(n, centre, yerr=se, fmt="_", ms=7, color=panels.INK, lw=0.9, capsize=0)
    table.add(who, quantity, "", "mean of a size", parameters=n, value=centre, lo=centre - se, hi=centre + se)
    for size, forecast, interval, _ in left_out[quantity]:
        told = {"value": 100 * forecast, "lo": 100 * interval.lo, "hi": 100 * interval.hi}
        place, colour = [size * 1.12], panels.COLOURS[1]
        fill = colour if size == n[-1] else "white"
        ax.plot(place * 2, [told["lo"], told["hi"]], color=colour, lw=0.8)
        ax.plot(place, [told["value"]], "D", ms=3.4, mec=colour, mfc=fill, mew=0.8)
        table.add(who, quantity, "", "predicted from the others", parameters=size, **told)
    shown = [*value, *mean, *(100 * forecast for _, forecast, _, _ in left_out[quantity])]
    margin = 0.35 * max(float(np.ptp(shown)), 1.0)
    ax.set_ylim(min(shown) - margin, max(shown) + margin)  # wide intervals must not flatten the data
    ax.set_xscale("log")
    ax.set_xlabel("parameters N" if who == "ours" else "parameters N, no embeddings")
    ax.set_ylabel({"a": "a", "b": "b", "ceiling": "ceiling b - a"}[quantity] + " (points)")
    ax.set_title(f"{'ours' if who == 'ours' else 'paper, Qwen2.5'}")


def _findings(prefix: str, found: Sizes, left_out: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for quantity in QUANTITIES:
        line, name = found.lines[quantity], f"{prefix}{quantity}"
        slope = line.slope_interval(LEVEL)
        out |= with_interval(f"{name}_slope", line.slope, slope.lo, slope.hi)
        residual = line.value - np.array([line.at(float(n))[0] for n in line.parameters])
        total = float(np.sum((line.value - line.value.mean()) ** 2))
        out[f"{name}_r_squared"] = 1 - float(residual @ residual) / total if total > 0 else float("nan")
        out[f"{name}_bend_p"] = curvature_p(line)
        if left_out[quantity]:
            _, forecast, interval, value = left_out[quantity][-1]
            out[f"{name}_largest"] = value
            out |= with_interval(f"{name}_largest_predicted", forecast, interval.lo, interval.hi)
            errors = np.array([f - v for _, f, _, v in left_out[quantity]])
            out[f"{name}_left_out_rmse"] = float(np.sqrt(np.mean(errors**2)))
            out[f"{name}_left_out_inside"] = float(
                sum(i.lo <= v <= i.hi for _, _, i, v in left_out[quantity])
            )
            out[f"{name}_left_out"] = float(len(errors))
    return out


def _describe_prediction(f: dict[str, Any], prefix: str, who: str) -> str:
    if f"{prefix}ceiling_largest" not in f:
        return f"{who}: fewer than four sizes, so none can be predicted from the others."
    largest = ", ".join(
        f"{q} {100 * f[f'{prefix}{q}_largest_predicted']:.1f} "
        f"[{100 * f[f'{prefix}{q}_largest_predicted_lo']:.0f}, {100 * f[f'{prefix}{q}_largest_predicted_hi']:.0f}] "
        f"(is {100 * f[f'{prefix}{q}_largest']:.1f})"
        for q in QUANTITIES
    )
    inside = " and ".join(
        f"{f[f'{prefix}{q}_left_out_inside']:.0f} of {f[f'{prefix}{q}_left_out']:.0f} for {q}"
        for q in ("a", "b")
    )
    return (
        f"{who}: the smaller sizes predict for the largest {largest} points; "
        f"R² {_format_r_squared(f[f'{prefix}a_r_squared'])} (a) and "
        f"{_format_r_squared(f[f'{prefix}b_r_squared'])} (b); left-out sizes inside their intervals: {inside}."
    )


def _format_r_squared(r_squared: float) -> str:
    return f"{r_squared:.2f}" if np.isfinite(r_squared) else "undefined (all sizes are equal)"
