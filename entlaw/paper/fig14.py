"""Figure 14: other starting policies, taught for longer as instruct models are."""

from __future__ import annotations

from collections import Counter

from entlaw.paper import panels
from entlaw.paper.fig3_4 import describe_summary, summary
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, need
from entlaw.paper.members import Cast, Member, cast, difference, first_of_each, main_algorithm, plain_runs
from entlaw.paper.numbers import whole_line
from entlaw.report.style import COLUMN_WIDTH


@figure(
    "fig14", "Other starting policies", needs="runs on the main task from starting policies of another kind"
)
def draw(library: Library) -> Drawn:
    """See the module."""
    usual = cast(plain_runs(library))
    main = usual.members[0].facts
    runs, start = _others(library, main.task, main.start)
    lines = {m.name: whole_line(m, bend=True) for m in (*runs.members, *usual.members)}
    ladder, more = panels.at_most(runs, first_of_each(runs.members, lambda m: (m.facts.family, m.label)))
    fig, axes = panels.subplots(COLUMN_WIDTH, 2.8)
    ax, table, beside = axes[0, 0], panels.Sheet(), []
    scale = panels.factor(runs.members)
    for i, m in enumerate(ladder):
        panels.points_and_line(ax, table, "other start", m, lines[m.name], i, scale)
        if (twin := _twin(m, usual)) is not None:
            beside.append((m, twin))
            panels.points_and_line(ax, table, "usual start", twin, lines[twin.name], i, scale, points=False)
    panels.entropy_axis(ax, [m.entropy for m in (*ladder, *(t for _, t in beside))])
    panels.score_axis(ax, [*ladder, *(t for _, t in beside)])
    panels.key(ax, [m.label for m in ladder])
    findings = summary(runs, {m.name: lines[m.name] for m in runs.members})
    for m, twin in beside:
        ours, theirs = lines[m.name], lines[twin.name]
        findings |= {
            f"a {m.label} less usual": ours.a - theirs.a,
            f"b {m.label} less usual": ours.b - theirs.b,
            f"ceiling {m.label} less usual": ours.ceiling - theirs.ceiling,
            f"first_entropy {m.label}": float(m.entropy[0]),
            f"first_entropy {m.label} usual": float(twin.entropy[0]),
        }
    what = difference(start, main.start, "another start")
    caption = (
        f"Starting policies with {what} (the usual ones: {difference(main.start, start, 'as these')}): "
        "points and lines R = b - a exp(H) by least squares over each run; thin dashed, the usual policy of "
        f"the same size. {more}{describe_summary(findings)} The paper's Figure 14 shows Qwen2.5 1.5B-, 3B- "
        f"and 7B-Instruct on mathematics: its fit stays valid, no numbers given. {runs.about}"
    )
    used = dict.fromkeys([*runs.names, *(t.name for _, t in beside)])
    return Drawn(fig, table.frame(), caption.strip(), tuple(used), findings)


def _others(library: Library, task: str, usual: str) -> tuple[Cast, str]:
    """Plain runs on the main task from the start, other than the usual one, of most runs."""
    algorithm = main_algorithm(library, task)
    pairs = library.select(
        lambda f: f.is_plain and f.start not in ("", usual), task=task, algorithm=algorithm
    )
    need(
        bool(pairs),
        "no run on the main task from a starting policy of another kind",
        "train one from a policy with a longer warm-up (warmup.clean_steps)",
    )
    start = Counter(f.start for f, _ in pairs).most_common(1)[0][0]
    return cast([(f, r) for f, r in pairs if f.start == start]), start


def _twin(member: Member, usual: Cast) -> Member | None:
    """The run from the usual policy of the same family and size, of the same seed where there is one."""
    f = member.facts
    alike = [u for u in usual.members if (u.facts.family, u.facts.size) == (f.family, f.size)]
    return min(alike, key=lambda u: (u.facts.base_seed != f.base_seed, u.facts.seed != f.seed), default=None)
