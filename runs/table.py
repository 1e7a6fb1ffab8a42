"""What the runs in this folder did, and what they say about the paper's claims: ``python runs/make.py --table``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import entlaw
from entlaw.errors import EntlawError, FitRefused
from entlaw.law.shapes import Fit


@dataclass(frozen=True)
class Summary:
    """One run in numbers."""

    name: str
    method: str
    size: str
    parameters: int
    wall_s: float
    entropy: tuple[float, float]
    """First, and after the last update."""
    validation: tuple[float, float]
    """Before training, and the mean of the last five."""
    early: Fit | None
    """The careful fit on steps <= 36, even where it is refused."""
    early_refused: bool
    paper_ceiling: float
    whole: Fit | None
    """Least squares on the whole run."""
    careful: Fit | None
    """The careful fit on the whole run."""


def forced(run: entlaw.Run, **how: object) -> tuple[Fit | None, bool]:
    """A fit and whether its diagnostics refuse it."""
    try:
        return entlaw.fit(run, **how).law, False  # type: ignore[arg-type]
    except FitRefused as refused:
        return refused.fit, True
    except EntlawError:
        return None, True


def summarise(folder: Path) -> Summary:
    info = json.loads((folder / "run.json").read_text())
    (run,) = entlaw.read(folder, entlaw.Selection(on="val"))
    h = run.metrics["actor/entropy"].dropna().to_numpy()
    r = run.metrics["val/accuracy"].dropna().to_numpy()
    early, refused = forced(run)
    paper, _ = forced(run, method="paper")
    whole, _ = forced(run, method="paper", until_step=None)
    careful, _ = forced(run, until_step=None)
    return Summary(
        folder.name,
        folder.name.rsplit("-", 2)[0],
        info["recipe"]["policy"]["size"],
        info["parameters"],
        info["wall_s"],
        (h[0], h[-1]),
        (r[0], float(r[-5:].mean())),
        early,
        refused,
        paper.ceiling if paper else float("nan"),
        whole,
        careful,
    )


def summaries(root: Path) -> list[Summary]:
    """All finished runs, in the order of their making."""
    return [summarise(path.parent) for path in sorted(root.glob("*/run.json"), key=lambda p: p.parent.name)]


def table(root: Path) -> str:
    """One row a run."""
    lines = [
        "| run | parameters | H first → last | validation first → last | R² (H: straight line) "
        "| ceiling from step ≤ 36: paper | careful, 95 % | wall (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for s in sorted(summaries(root), key=lambda s: (s.parameters, s.name)):
        careful = "none"
        if s.early is not None:
            i = s.early.ceiling_interval
            careful = f"{s.early.ceiling:.3f} [{i.lo:.3f}, {i.hi:.3f}]" + (
                " refused" if s.early_refused else ""
            )
        lines.append(
            f"| {s.name} | {s.parameters:,} | {s.entropy[0]:.3f} → {s.entropy[1]:.3f} | "
            f"{s.validation[0]:.3f} → {s.validation[1]:.3f} | {r_squared(s)} | {s.paper_ceiling:.3f} | {careful} | "
            f"{s.wall_s:.0f} |"
        )
    return "\n".join(lines)


def r_squared(s: Summary) -> str:
    """R² of the law over the whole run, and of a straight line in H: of two trending series neither proves much."""
    if s.whole is None:
        return "none"
    h, r = s.whole.points.entropy, s.whole.points.score
    law, line = (np.corrcoef(x, r)[0, 1] ** 2 for x in (np.exp(h), h))
    return f"{law:.3f} ({line:.3f})"


def by_method(found: list[Summary]) -> dict[str, list[Summary]]:
    """The runs of size m from base policy 0, by method: they differ in the seed of RL alone."""
    groups: dict[str, list[Summary]] = {}
    for s in found:
        if s.size == "m" and "-rl" in s.name and s.whole is not None:
            groups.setdefault(s.method, []).append(s)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def methods(root: Path) -> str:
    """Least squares a, b over whole runs, method by method, and whether they differ from GRPO's.

    p is Welch's t-test of the seeds' values against GRPO's: between-seed spread, not the fit's own interval.
    """
    from scipy.stats import ttest_ind

    groups = by_method(summaries(root))
    head = (
        "| method (size m, one base policy) | runs | a | b | b - a | H last | validation last "
        "| p of a | p of b | p of last |"
    )
    lines = [head, "|---" * 10 + "|"]
    reference = columns(groups["grpo"])
    for method, group in groups.items():
        mine = columns(group)
        cells = [spread(values) for values in mine.values()]
        tests = ["" for _ in range(3)]
        if method != "grpo" and len(group) > 1 and len(groups["grpo"]) > 1:
            tests = [
                f"{ttest_ind(mine[key], reference[key], equal_var=False).pvalue:.3f}"
                for key in ("a", "b", "last")
            ]
        lines.append(f"| {method} | {len(group)} | " + " | ".join([*cells, *tests]) + " |")
    return "\n".join(lines)


def columns(group: list[Summary]) -> dict[str, list[float]]:
    fits = [s.whole for s in group if s.whole is not None]
    return {
        "a": [f.a for f in fits],
        "b": [f.b for f in fits],
        "ceiling": [f.ceiling for f in fits],
        "H": [s.entropy[1] for s in group],
        "last": [s.validation[1] for s in group],
    }


def sizes(root: Path) -> str:
    """a, b and what was reached against ln N, and how far a line through the smaller sizes misses the largest."""
    ladder = [
        s
        for s in summaries(root)
        if s.method == "grpo" and s.whole is not None and not s.name.endswith(("rl1", "rl2"))
    ]
    ladder.sort(key=lambda s: (s.parameters, s.name))
    lines = ["| run | parameters | a | b | b - a | reached |", "|---" * 6 + "|"]
    lines += [
        f"| {s.name} | {s.parameters:,} | {f.a:.3f} | {f.b:.3f} | {f.ceiling:.3f} | {s.validation[1]:.3f} |"
        for s in ladder
        if (f := s.whole) is not None
    ]
    x = np.log([s.parameters for s in ladder])
    largest = x == x.max()
    for name, y in {**columns(ladder)}.items():
        if name == "H":
            continue
        values = np.array(y)
        slope, intercept = np.polyfit(x, values, 1)
        r2 = np.corrcoef(x, values)[0, 1] ** 2
        foretold = np.polyval(np.polyfit(x[~largest], values[~largest], 1), x.max())
        lines.append(
            f"\n{name} = {intercept:.3f} + {slope:.3f} ln N, R² {r2:.2f}; a line through the smaller sizes foretells "
            f"{foretold:.3f} for the largest, which has {values[largest].mean():.3f}"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean and standard deviation over runs."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.3f}"
