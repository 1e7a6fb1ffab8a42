"""Do our reading and our fit agree with independent ones, on real public logs?

For every raw log of a folder laid out as NAME/{meta.json, raw/, run*.csv}: read it with no option given, compare
(step, entropy, performance) with the csv, an independent reading of the same file, and compare the `paper` fit on
the steps up to 36 with numpy's least squares: a, b, R^2 and the RMSE on the rest.

Run: python benchmarks/agreement.py [FOLDER]     (default: ../shared/data/runs beside the repository)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import entlaw
from entlaw import Run, Selection
from entlaw.errors import EntlawError
from entlaw.law.fit import fit_points
from entlaw.law.shapes import hold_out
from entlaw.points import Points

DEFAULT = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "runs"


@dataclass(frozen=True)
class Pair:
    """A raw log and an independent reading of it."""

    raw: Path
    csv: Path


def pairs(folder: Path) -> Iterator[Pair]:
    """All (raw, csv) pairs that the meta.json files name."""
    for meta in sorted(folder.glob("*/meta.json")):
        told = json.loads(meta.read_text())
        for entry in told if isinstance(told, list) else [told]:
            yield Pair(meta.parent / entry["raw"], meta.parent / entry["csv"])


def differences(run: Run, csv: Path) -> dict[str, tuple[int, int, float, list[float]]]:
    """Per column: values in the csv, values in ours, largest difference, steps where one has it and the other not."""
    table = pd.read_csv(csv).set_index("step")
    ours = {
        "entropy": run.metrics[(run.entropy_log or run.entropy).key],
        "performance": run.metrics[run.performance_key] * run.performance_scale,
    }
    found = {}
    for column, series in ours.items():
        theirs, mine = table[column].dropna(), series.dropna()
        both = theirs.index.intersection(mine.index)
        gap = float(np.abs(theirs[both] - mine[both]).max()) if len(both) else np.nan
        found[column] = (len(theirs), len(mine), gap, sorted(set(theirs.index) ^ set(mine.index)))
    return found


def least_squares(points: pd.DataFrame, until: float = 36.0) -> tuple[float, float, float, float]:
    """a, b, R^2 on the points up to ``until`` and RMSE on the rest, by numpy alone."""
    early = points[points["step"] <= until]
    design = np.column_stack([-np.exp(early["entropy"]), np.ones(len(early))])
    (a, b), *_ = np.linalg.lstsq(design, early["performance"].to_numpy(), rcond=None)
    residual = early["performance"].to_numpy() - design @ [a, b]
    spread = early["performance"].to_numpy() - early["performance"].mean()
    rest = points[points["step"] > until]
    error = b - a * np.exp(rest["entropy"]) - rest["performance"]
    return a, b, 1 - (residual @ residual) / (spread @ spread), float(np.sqrt((error**2).mean()))


def main() -> int:
    """Print both tables."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    if not folder.is_dir():
        print(f"no such folder: {folder}")
        return 3
    print(
        f"{'reading, no option given':<28}{'entropy: csv/ours':>19}{'max diff':>12}{'score: csv/ours':>21}"
        f"{'max diff':>12}   steps that only one has"
    )
    for pair in pairs(folder):
        (run,) = entlaw.read(pair.raw)
        d = differences(run, pair.csv)
        e, p = d["entropy"], d["performance"]
        print(
            f"{pair.csv.parent.name + '/' + pair.csv.stem:<28}{e[0]:>10}/{e[1]:<8}{e[2]:>12.1e}{p[0]:>12}/{p[1]:<8}"
            f"{p[2]:>12.1e}   entropy {e[3] or '-'} score {p[3] or '-'}"
        )

    print(
        "\nfit on steps <= 36, training score (validation has 3 points by then), paper method against numpy lstsq"
    )
    print(
        f"{'log':<58}{'n':>4}{'a':>9}{'b':>8}{'R^2':>7}{'RMSE':>8}{'max |diff|':>12}   "
        f"{'paper ceiling, 95 %':<24}{'careful ceiling, 95 %':<24}"
    )
    for pattern in ("verl_notebook_ppo/raw/*", "verl_data/raw/*"):
        for path in sorted(folder.glob(pattern)):
            try:
                (run,) = entlaw.read(path, Selection(on="train"))
            except EntlawError as error:
                print(f"{path.name:<58} {error.what}")
                continue
            points = Points.of(run)
            paper = fit_points(points, method="paper", until_step=36.0)
            careful = fit_points(points, method="careful", until_step=36.0)
            later = hold_out(paper, points)
            a, b, r2, rmse = least_squares(run.points)
            assert later is not None
            worst = max(abs(paper.a - a), abs(paper.b - b), abs(paper.r_squared - r2), abs(later.rmse - rmse))
            i, c = paper.ceiling_interval, careful.ceiling_interval
            print(
                f"{path.name[:57]:<58}{paper.n:>4}{paper.a:>9.4f}{paper.b:>8.4f}{paper.r_squared:>7.3f}{later.rmse:>8.4f}"
                f"{worst:>12.1e}   {paper.ceiling:.3f} [{i.lo:.3f}, {i.hi:.3f}]    "
                f"{careful.ceiling:.3f} [{c.lo:.3f}, {c.hi:.3f}]"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
