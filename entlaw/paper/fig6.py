"""Figure 6: do different algorithms lie on one curve? With a test of equal (a, b), runs being the units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from entlaw.law.meta import Equality, equal_coefficients
from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, need
from entlaw.paper.members import Cast, Member, cast
from entlaw.paper.numbers import FittedLine, least_squares, one_way, score_at, shared_entropy, whole_line

WORDS = {
    "grpo": "GRPO",
    "rloo": "RLOO",
    "reinforce": "REINFORCE",
    "reinforce_plus_plus": "REINFORCE++",
    "ppo": "PPO",
    "prime": "PRIME",
}
# PRIME's reward is not the verifier's alone: the rest are tested with it and without it.
APART = "prime"
LEVEL = 0.95
# A run whose law explains less than this has no a and b to be equal to others'.
LEAST_FIT = 0.3


@figure(
    "fig6",
    "Algorithms on one curve, and a test of equal a and b",
    needs="runs of two algorithms or more from one starting policy, nothing acting on the entropy",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    runs, extra = _chosen(library)
    groups: dict[str, list[Member]] = {}
    for m in runs.members:
        groups.setdefault(m.facts.algorithm, []).append(m)
    groups = dict(
        sorted(groups.items(), key=lambda g: (g[0] == APART, list(WORDS).index(g[0]) if g[0] in WORDS else 9))
    )
    lines = {m.name: whole_line(m) for m in (*runs.members, *(extra.members if extra else ()))}
    fig, axes = panels.subplots(panels.WIDE, 2.7, 1, 3, width_ratios=[1.5, 1.0, 1.0])
    common = [m for name, of in groups.items() if name != APART for m in of] or list(runs.members)
    table = panels.Sheet()
    pooled = _one_curve(axes[0, 0], table, groups, common)
    _coefficients(list(axes[0, 1:]), table, groups, extra, lines)
    panels.letters(axes[0])
    without = _test({n: g for n, g in groups.items() if n != APART}, lines)
    everyone = _test(groups, lines)
    findings = _findings(groups, lines, without, everyone, common, pooled)
    bases = f"Bars: {len(extra.members)} runs from other starting policies of that size. " if extra else ""
    prime = _describe_prime(groups, findings)
    caption = (
        f"(a) {len(runs.members)} runs of {len(groups)} algorithms from one starting policy (size "
        f"{common[0].label}), and one line, R = b - a exp(H), fitted by least squares to all of "
        f"them{' but PRIME' if APART in groups else ''}. (b, c) a and the ceiling b - a of each run (open) "
        f"and mean of an algorithm's runs (filled). {bases}{_describe_test(without)} {_level(findings)}{prime}The "
        "paper shows GRPO, RLOO, PRIME and REINFORCE++, one run each, on one line with Qwen2.5-7B, without a "
        f"test and without its a, b. {runs.about}"
    )
    used = [*runs.names, *(extra.names if extra else ())]
    return Drawn(fig, table.frame(), caption.strip(), tuple(used), findings)


def _chosen(library: Library) -> tuple[Cast, Cast | None]:
    """The runs of one starting policy with most algorithms, and plain runs of its size from other policies."""
    task = library.main_task()
    sets: dict[tuple[object, ...], list[Any]] = {}
    for f, r in library.select(is_plain=True, task=task):
        if f.algorithm:
            sets.setdefault(f.policy, []).append((f, r))
    best = max(sets.values(), key=lambda s: (len({f.algorithm for f, _ in s}), len(s)), default=[])
    need(
        len({f.algorithm for f, _ in best}) >= 2,
        "no starting policy (or model) from which two algorithms were run, nothing acting on the entropy",
        "run GRPO and RLOO from the same model on the same data",
    )
    usual = Counter((f.strength, f.coefficient) for f, _ in best if f.algorithm == APART).most_common(1)
    kept = [(f, r) for f, r in best if f.algorithm != APART or (f.strength, f.coefficient) == usual[0][0]]
    runs = cast(kept)
    one = best[0][0]
    grpo = max(
        {f.algorithm for f, _ in kept}, key=lambda a: (a == "grpo", sum(f.algorithm == a for f, _ in kept))
    )
    others = [
        (f, r)
        for f, r in library.select(
            is_plain=True, task=task, family=one.family, size=one.size, start=one.start
        )
        if f.base_seed != one.base_seed and f.algorithm == grpo
    ]
    return runs, cast(others) if others else None


def _one_curve(
    ax: Any, table: panels.Sheet, groups: dict[str, list[Member]], common: Sequence[Member]
) -> tuple[float, float]:
    everyone = [m for of in groups.values() for m in of]
    scale = panels.factor(everyone)
    for i, (name, of) in enumerate(groups.items()):
        for m in of:
            at = panels.measured(m, m.entropy > 0, scale)
            ax.plot(
                at["entropy"],
                at["score"],
                ls="",
                ms=2.2,
                mew=0.45,
                mfc="none",
                alpha=0.7,
                **panels.marker_style(i),
            )
            table.add("one curve", WORDS.get(name, name), m.name, "measured", **at)
    h = np.concatenate([m.entropy for m in common])
    a, b = least_squares(np.exp(h), np.concatenate([m.score for m in common]))
    x = np.geomspace(h.max(), h[h > 0].min(), panels.LINE_POINTS)
    y = scale * (b - a * np.exp(x))
    ax.plot(x, y, color=panels.INK, lw=1.5)
    table.add("one curve", "one line", "", "fit", entropy=x, score=y)
    panels.entropy_axis(ax, [m.entropy for m in everyone])
    panels.score_axis(ax, everyone)
    ax.set_title("one curve?")
    panels.key(ax, [WORDS.get(n, n) for n in groups], loc="upper right", fontsize=5.8)
    return a, b


def _coefficients(
    axes: Any,
    table: panels.Sheet,
    groups: dict[str, list[Member]],
    extra: Cast | None,
    lines: dict[str, FittedLine],
) -> None:
    """A row an algorithm: each run's a and ceiling, and their mean; the others' starting policies below."""
    import pandas as pd

    everyone = [m for of in groups.values() for m in of]
    scale = panels.factor(everyone)
    unit = " (points)" if scale == 100 else ""
    labelled = [(WORDS.get(name, name), of) for name, of in groups.items()]
    labelled += [("other starts", list(extra.members))] if extra else []
    for ax, label, value in (
        (axes[0], f"a{unit}", lambda line: scale * line.a),
        (axes[1], f"ceiling b - a{unit}", lambda line: scale * line.ceiling),
    ):
        for y, (name, of) in enumerate(labelled):
            at = np.array([value(lines[m.name]) for m in of])
            look = {"color": panels.INK, "marker": "|"} if name == "other starts" else panels.marker_style(y)
            ax.plot(at, np.full(len(at), y + 0.16), ls="", ms=3.4, mew=0.7, mfc="none", **look)
            if name != "other starts":
                ax.plot([at.mean()], [y - 0.16], ls="", ms=5, mec=panels.INK, mew=0.5, **look)
        panels.name_rows(ax, [name if ax is axes[0] else "" for name, _ in labelled])
        ax.set_xlabel(label)
    axes[0].set_title("a by run")
    axes[1].set_title("ceiling by run")
    for name, of in labelled:
        each = panels.of_lines(of, lines, "a", "b", "ceiling", "r_squared")
        each = {k: v if k == "r_squared" else [scale * x for x in v] for k, v in each.items()}
        table.add("coefficients", name, [m.name for m in of], "fit", **each)
        table.add("coefficients", name, "", "mean", **pd.DataFrame(each).mean())


def _test(groups: dict[str, list[Member]], lines: dict[str, FittedLine]) -> Equality | None:
    """None of fewer than two algorithms."""
    if len(groups) < 2:
        return None
    labelled = [(name, lines[m.name]) for name, of in groups.items() for m in of]
    return equal_coefficients(
        [n for n, _ in labelled], [x.a for _, x in labelled], [x.b for _, x in labelled]
    )


def _findings(
    groups: dict[str, list[Member]],
    lines: dict[str, FittedLine],
    without: Equality | None,
    everyone: Equality | None,
    common: Sequence[Member],
    pooled: tuple[float, float],
) -> dict[str, Any]:
    out: dict[str, Any] = {"algorithms": float(len(groups)), "runs": float(sum(map(len, groups.values())))}
    for name, test in (("without_prime" if APART in groups else "all", without), ("with_prime", everyone)):
        if test is not None and (name != "with_prime" or APART in groups):
            out |= {f"p_equal_{name}": test.p_value, f"f_{name}": test.f}
    shown = without or everyone
    if shown is not None:
        out |= {"a_lowest": float(shown.means[:, 0].min()), "a_highest": float(shown.means[:, 0].max())}
        out |= {"b_lowest": float(shown.means[:, 1].min()), "b_highest": float(shown.means[:, 1].max())}
        out |= {"a_sd_of_seeds": float(shown.spread[0]), "b_sd_of_seeds": float(shown.spread[1])}
        out["a_difference_that_could_be_seen"] = _visible(shown, 0)
        out["b_difference_that_could_be_seen"] = _visible(shown, 1)
    common_groups = (
        [of for name, of in groups.items() if name != APART] if len(groups) > 2 else list(groups.values())
    )
    out["equal_entropy"] = where = shared_entropy(common)
    out["p_equal_score_at_equal_entropy"] = one_way(
        [[score_at(m, where) for m in of] for of in common_groups]
    )[2]
    for name, of in groups.items():
        out[f"score_at_equal_entropy {name}"] = float(np.mean([score_at(m, where) for m in of]))
    a, b = pooled
    out |= {"a_pooled": a, "b_pooled": b}
    for name, of in groups.items():
        r2 = [lines[m.name].r_squared for m in of]
        off = np.concatenate([m.score - (b - a * np.exp(m.entropy)) for m in of])
        out[f"r_squared {name}"] = float(np.mean(r2))
        out[f"off_the_curve {name}"] = float(np.mean(off))
        out[f"a {name}"] = float(np.mean([lines[m.name].a for m in of]))
        out[f"b {name}"] = float(np.mean([lines[m.name].b for m in of]))
    return out


def _visible(test: Equality, which: int) -> float:
    """Half the width of a 95 % interval of the difference of two algorithms' means: smaller ones cannot be seen."""
    from scipy.special import stdtrit

    inside = sum(test.runs) - len(test.groups)
    if inside < 1:
        return float("nan")
    per = float(np.mean(test.runs))
    return float(stdtrit(inside, 0.5 * (1 + LEVEL)) * test.spread[which] * np.sqrt(2.0 / per))


def _describe_test(test: Equality | None) -> str:
    if test is None or not test.testable:
        return "No algorithm has two runs, so whether a and b are equal cannot be tested."
    held = "do not differ measurably" if test.p_value >= 0.05 else "differ"
    return (
        f"Their (a, b) {held}: F = {test.f:.2f} on {test.df[0]:.0f} and {test.df[1]:.0f} degrees of freedom, "
        f"p = {test.p_value:.2g} (Wilks' Lambda, runs as "
        f"units{', PRIME apart' if APART not in test.groups else ''}); "
        f"with {min(test.runs)} seeds a difference in a below about {_visible(test, 0):.3f} would not be detected."
    )


def _level(f: dict[str, Any]) -> str:
    p = f["p_equal_score_at_equal_entropy"]
    if p != p:
        return ""
    return f"At an entropy that all have reached ({f['equal_entropy']:.2f}) their scores are equal with p = {p:.2g}. "


def _describe_prime(groups: dict[str, list[Member]], findings: dict[str, Any]) -> str:
    if APART not in groups:
        return ""
    p = findings.get("p_equal_with_prime", float("nan"))
    tested = f" (with it the test gives p = {p:.1g})" if p == p else ""
    weak = findings[f"r_squared {APART}"] < LEAST_FIT
    why = (
        ": its entropy falls and its accuracy does not rise with it, so that it has no law to share"
        if weak
        else ""
    )
    return f"PRIME is drawn and left out of the line{tested}{why}. "
