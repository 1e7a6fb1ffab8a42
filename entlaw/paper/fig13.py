"""Figure 13: the same policy trained on other data: a and b are not of the model alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from entlaw.law.meta import equal_coefficients
from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, NotEnoughRuns, need
from entlaw.paper.members import (
    Cast,
    Member,
    cast,
    difference,
    first_of_each,
    main_algorithm,
    second_task,
    settings,
)
from entlaw.paper.numbers import one_way, score_at, shared_entropy, whole_line
from entlaw.report.style import COLUMN_WIDTH


@figure(
    "fig13",
    "The same policy trained on other data",
    needs="runs of one policy on several data sets, nothing acting on the entropy",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    main = library.main_task()
    runs = _same_policy(library, main)
    lines = {m.name: whole_line(m, bend=True) for m in runs.members}
    groups = runs.by(lambda m: m.facts.task)
    need(
        len(groups) >= 2,
        "no policy that was trained on two data sets and can be compared",
        "validate both on the same problems",
    )
    words = {task: difference(str(task), main, "the usual data") for task in groups}
    ladder = first_of_each(sorted(runs.members, key=lambda m: m.facts.task != main), lambda m: m.facts.task)
    ladder, more = panels.at_most(runs, ladder, "data sets")
    fig, axes = panels.subplots(COLUMN_WIDTH, 2.7)
    ax, table = axes[0, 0], panels.Sheet()
    scale = panels.factor(runs.members)
    for i, first in enumerate(ladder):
        label = words[first.facts.task]
        for m in groups[first.facts.task]:
            line = lines[m.name]
            panels.points_and_line(ax, table, "data", m, line, i, scale, label=label, points=m is first)
    panels.entropy_axis(ax, [m.entropy for m in runs.members])
    panels.score_axis(ax, runs.members)
    panels.key(ax, [words[m.facts.task] for m in ladder])
    labels = [words[m.facts.task] for m in runs.members]
    each = panels.of_lines(runs.members, lines, "a", "b", "ceiling", "r_squared", "curvature_p")
    table.add("coefficients", labels, list(runs.names), "fit", **each)
    findings = _findings(runs, lines, words)
    caption = (
        f"{len(runs.members)} runs from one starting policy (size {runs.members[0].label}), trained on "
        f"different data{', validated on the same problems' if _same_test(groups) else ''}; R = b - a exp(H) "
        f"by least squares over each run, thin dashed lines for further seeds. {more}{_describe_findings(findings)} "
        "The paper's Figure 13 shows Qwen2.5-7B on four data sets, with other a and b on each, none of them "
        f"printed. {runs.about}"
    )
    return Drawn(fig, table.frame(), caption.strip(), runs.names, findings)


def _same_policy(library: Library, main: str) -> Cast:
    """Plain runs of the policy with most data sets; a task that a whole family was trained on is another figure's."""
    try:
        elsewhere = second_task(library)
    except NotEnoughRuns:
        elsewhere = ""
    algorithm = main_algorithm(library, main)
    sets: dict[tuple[object, ...], list[Any]] = {}
    for f, r in library.select(lambda f: f.is_plain and bool(f.task), algorithm=algorithm):
        if f.task != elsewhere and (f.size or f.family):
            sets.setdefault(f.policy, []).append((f, r))
    best = max(sets.values(), key=lambda s: (len({f.task for f, _ in s}), len(s)), default=[])
    need(
        len({f.task for f, _ in best}) >= 2,
        "no policy that was trained on two data sets, nothing acting on the entropy",
        "train the same model with the same algorithm on other data",
    )
    return cast(best)


def _same_test(groups: dict[object, list[Member]]) -> bool:
    """Whether only what is trained on differs, as far as the settings tell."""
    tests = [settings(str(task)) for task in groups]
    known = [{k: v for k, v in t.items() if not k.startswith("train_")} for t in tests if t is not None]
    return len(known) == len(tests) and all(t == known[0] for t in known)


def _findings(runs: Cast, lines: dict[str, Any], words: dict[object, str]) -> dict[str, Any]:
    labels = [words[m.facts.task] for m in runs.members]
    of = [lines[m.name] for m in runs.members]
    test = equal_coefficients(labels, [x.a for x in of], [x.b for x in of])
    out: dict[str, Any] = {
        "data_sets": float(len(set(labels))),
        "runs": float(len(labels)),
        "p_equal": test.p_value,
        "f": test.f,
        "a_sd_of_seeds": float(test.spread[0]),
        "b_sd_of_seeds": float(test.spread[1]),
    }
    for label, (a, b) in zip(test.groups, test.means, strict=True):
        chosen = [m for m, other in zip(runs.members, labels, strict=True) if other == label]
        out |= {f"a {label}": float(a), f"b {label}": float(b), f"ceiling {label}": float(b - a)}
        out[f"r_squared {label}"] = float(np.mean([lines[m.name].r_squared for m in chosen]))
        tail = [m.score[-max(1, len(m.score) // 10) :].mean() for m in chosen]
        out[f"reached {label}"] = float(np.mean(tail))
    where = shared_entropy(runs.members)
    there = {
        label: [score_at(m, where) for m, other in zip(runs.members, labels, strict=True) if other == label]
        for label in test.groups
    }
    out["equal_entropy"] = where
    out["p_equal_score_at_equal_entropy"] = one_way(list(there.values()))[2]
    out |= {f"score_at_equal_entropy {label}": float(np.mean(r)) for label, r in there.items()}
    return out


def _describe_findings(f: dict[str, Any]) -> str:
    at = f["equal_entropy"]
    scores = [v for k, v in f.items() if k.startswith("score_at_equal_entropy ")]
    spread = f"At an entropy that all have reached ({at:.2f}) scores go from {min(scores):.3g} to {max(scores):.3g}"
    if not np.isfinite(f["p_equal"]):
        return f"{spread}; with one run a data set, whether seeds differ as much cannot be tested."
    verdict = "differ" if f["p_equal"] < 0.05 else "do not differ measurably"
    return (
        f"{spread} (p = {f['p_equal_score_at_equal_entropy']:.2g}, F test of runs); a and b together {verdict} (p = "
        f"{f['p_equal']:.2g}, Wilks' Lambda with runs as units; how much seeds differ is known from "
        f"{f['runs'] - f['data_sets']:.0f} runs more than data sets)."
    )
