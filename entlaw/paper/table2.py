"""Table 2: methods by benchmark, with standard errors, averaged with equal weights and with one weight a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from entlaw.paper import reported
from entlaw.paper.control_panels import about, key_of
from entlaw.paper.controls import LAST, Trial
from entlaw.paper.fig11 import chosen
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library, NotEnoughRuns
from entlaw.paper.typeset import Block, latex, markdown, picture

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 7.0
# Rows of the validation set that reproduce the printed averages: AIME and AMC come 32 times each, the others once.
PAPER_PROBLEMS = {
    "AIME24": 30,
    "AIME25": 30,
    "AMC": 83,
    "MATH-500": 500,
    "OMNI-MATH": 2821,
    "OlympiadBench": 675,
    "Minerva": 272,
}
PAPER_COPIES = {"AIME24": 32, "AIME25": 32, "AMC": 32}
SHORT = {"OMNI-MATH": "OMNI", "OlympiadBench": "Olymp.", "MATH-500": "MATH"}
# Parts of a validation set under the names that this project, verl and others log them by.
_PARTS = (
    re.compile(r"val/level_(?P<name>\d+)"),
    re.compile(r"val-core/(?P<name>[^/]+)/(?:acc|reward)/mean@\d+"),
    re.compile(r"val/test_score/(?P<name>.+)"),
)
_SCALE = 100.0


@dataclass(frozen=True)
class MethodRow:
    """A method's accuracies in percent.

    Attributes
    ----------
    label : str
    parts : ndarray, shape (benchmarks,)
    equal, rows : float
        Averages; ``rows`` is NaN where the weights are unknown.
    parts_se : ndarray, shape (benchmarks,)
        Standard errors over seeds; NaN of one run.
    equal_se, rows_se : float
    """

    label: str
    parts: np.ndarray
    equal: float
    rows: float
    parts_se: np.ndarray
    equal_se: float
    rows_se: float


@figure(
    "table2",
    "Methods by benchmark, and two ways to average them",
    needs="runs with controls of the entropy, validated by benchmark, beside the same without",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    found = chosen(library)
    arms = [found.baseline, *found.arms]
    keys = _benchmarks([t for arm in arms for t in arm.trials])
    rows_of = row_weights([t for arm in arms for t in arm.trials], list(keys.values()))
    ours = [_ours(arm.label, arm.trials, list(keys.values()), rows_of) for arm in arms]
    theirs = {backbone: _theirs(of) for backbone, of in reported.table2().groupby("backbone", sort=False)}
    blocks = [_block("Ours, accuracy (%) ± standard error over seeds", [_name(k) for k in keys], ours)]
    if (shared := _by_problems(ours[0], rows_of, found.baseline.trials[0].run.problems)) is not None:
        blocks[0] = replace(blocks[0], rows=(*blocks[0].rows, shared))
    for backbone, rows in theirs.items():
        printed = [f"{v:.1f}" for v in reported.table2().query("backbone == @backbone")["Avg"]]
        names = [SHORT.get(n, n) for n in PAPER_PROBLEMS]
        blocks.append(_block(f"The paper, {backbone}, one run a row", names, rows, printed))
    findings = _findings(ours, theirs, rows_of)
    caption = _caption(ours, theirs, rows_of, findings) + " " + about(found, lent=False)
    table = _table(list(keys), ours, theirs, rows_of)
    return Drawn(
        picture(blocks, WIDTH), table, caption.strip(), found.names, findings, markdown(blocks), latex(blocks)
    )


def row_weights(trials: Sequence[Trial], keys: Sequence[str]) -> np.ndarray | None:
    """Share of the validation rows in each benchmark, found from the log alone: the total is their weighted mean.

    Parameters
    ----------
    trials : sequence of Trial
    keys : sequence of str
        Of the benchmarks.

    Returns
    -------
    ndarray, shape (benchmarks,) or None
        None where no weights reproduce the total (it is another mean), or too few validations tell.
    """
    parts, total = [], []
    for t in trials:
        if t.run.performance_key not in t.run.metrics:
            continue
        of = t.run.metrics[[*keys, t.run.performance_key]].dropna()
        parts.append(of[list(keys)].to_numpy(float))
        total.append(of[t.run.performance_key].to_numpy(float))
    if not parts or sum(map(len, parts)) < 2 * len(keys) or t.run.performance_key in keys:
        return None
    x, y = np.concatenate(parts), np.concatenate(total)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    scale = float(np.abs(y).max()) or 1.0
    exact = (
        np.abs(x @ weights - y).max() < 1e-4 * scale and weights.min() > 0 and abs(weights.sum() - 1) < 1e-3
    )
    return weights / weights.sum() if exact else None


def problem_error(accuracy: np.ndarray, problems: np.ndarray) -> np.ndarray:
    """Largest standard error of accuracies (percent) by the choice of problems: all copies of a problem agree.

    sqrt(p (1 - p) / n): what another draw of as many problems moves it by; less where answers to one problem differ.
    """
    p = accuracy / _SCALE
    return _SCALE * np.sqrt(p * (1 - p) / problems)


def _benchmarks(trials: Sequence[Trial]) -> dict[str, str]:
    """Names of the parts that every run's validation is logged by, and their keys."""
    for pattern in _PARTS:
        held = [
            {m["name"]: str(c) for c in t.run.metrics.columns if (m := pattern.fullmatch(str(c)))}
            for t in trials
        ]
        common = [n for n in held[0] if all(n in h and h[n] == held[0][n] for h in held)]
        if len(common) > 1:
            return {n: held[0][n] for n in sorted(common, key=lambda n: (len(n), n))}
    raise NotEnoughRuns(
        "the runs' validation is not logged by benchmark",
        why="the table has a column for each part of the validation set",
        hint="log the accuracy of each (val/level_2, val-core/NAME/acc/mean@1)",
    )


def _name(part: str) -> str:
    return f"{part} ops" if part.isdigit() else part


def _ours(label: str, trials: Sequence[Trial], keys: Sequence[str], weights: np.ndarray | None) -> MethodRow:
    each = np.array([[_end(t, key) for key in keys] for t in trials])
    w = np.full(len(keys), np.nan) if weights is None else weights
    equal, rows = each.mean(axis=1), each @ w
    return MethodRow(
        label,
        each.mean(axis=0),
        float(equal.mean()),
        float(rows.mean()),
        *(_se(v) for v in (each, equal, rows)),
    )


def _end(t: Trial, key: str) -> float:
    values = t.run.metrics[key].dropna().to_numpy(float)[-LAST:]
    return _SCALE * t.run.performance_scale * (float(values.mean()) - t.run.performance_offset)


def _se(values: np.ndarray) -> Any:
    n = len(values)
    out = values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(values.shape[1:], np.nan)
    return out if np.ndim(out) else float(out)


def paper_weights() -> np.ndarray:
    """Share of the rows of each of the paper's benchmarks (a reconstruction)."""
    rows = np.array([n * PAPER_COPIES.get(name, 1) for name, n in PAPER_PROBLEMS.items()], dtype=float)
    return rows / rows.sum()


def _theirs(of: pd.DataFrame) -> list[MethodRow]:
    parts = of[list(PAPER_PROBLEMS)].to_numpy(float)
    nothing = np.full(parts.shape[1], np.nan)
    return [
        MethodRow(
            str(label), p, float(p.mean()), float(p @ paper_weights()), nothing, float("nan"), float("nan")
        )
        for label, p in zip(of["method"], parts, strict=True)
    ]


def ranking(rows: Sequence[MethodRow], how: str) -> list[str]:
    """Methods from best to worst by ``equal`` or ``rows``."""
    return [r.label for r in sorted(rows, key=lambda r: -getattr(r, how))]


def swaps(rows: Sequence[MethodRow]) -> list[tuple[str, str]]:
    """Pairs of methods (first ahead with equal weights) that the row weights turn round."""
    return [(a.label, b.label) for a in rows for b in rows if a.equal > b.equal and a.rows < b.rows]


def _block(
    title: str, names: Sequence[str], rows: Sequence[MethodRow], printed: Sequence[str] | None = None
) -> Block:
    with_rows = bool(np.isfinite(rows[0].rows))
    header = [
        "method",
        *names,
        "equal",
        *(["by row"] if with_rows else []),
        *(["printed"] if printed else []),
    ]
    lines, columns = [], []
    for i, r in enumerate(rows):
        values = [*r.parts, r.equal, *([r.rows] if with_rows else [])]
        errors = [*r.parts_se, r.equal_se, *([r.rows_se] if with_rows else [])]
        columns.append(values)
        cells = [_cell(v, e) for v, e in zip(values, errors, strict=True)]
        lines.append((r.label, *cells, *([printed[i]] if printed else [])))
    best = {(int(np.argmax(column)), c + 1) for c, column in enumerate(np.array(columns).T)}
    if printed:
        best.add((int(np.argmax([float(p) for p in printed])), len(header) - 1))
    return Block(title, tuple(header), tuple(lines), frozenset(best))


def _cell(value: float, error: float) -> str:
    return f"{value:.1f} ± {error:.1f}" if np.isfinite(error) else f"{value:.1f}"


def _by_problems(row: MethodRow, weights: np.ndarray | None, problems: int | None) -> tuple[str, ...] | None:
    """The error that all methods share, of drawing these problems, at one method's accuracies; None where unknown."""
    if weights is None or not problems:
        return None
    error = problem_error(row.parts, weights * problems)
    share = np.full(len(weights), 1 / len(weights))
    averages = (float(np.sqrt(np.sum((w * error) ** 2))) for w in (share, weights))
    return ("± by problems", *(f"{e:.1f}" for e in (*error, *averages)))


def _findings(
    ours: Sequence[MethodRow], theirs: Mapping[str, Sequence[MethodRow]], weights: np.ndarray | None
) -> dict[str, Any]:
    out: dict[str, Any] = {"runs_by_method": "; ".join(r.label for r in ours)}
    for how in ("equal", "rows") if weights is not None else ("equal",):
        out[f"best_ours_{how}"] = ranking(ours, how)[0]
        for r in ours:
            out[f"{how}_{key_of(r.label)}"] = getattr(r, how)
            out[f"{how}_{key_of(r.label)}_standard_error"] = getattr(r, f"{how}_se")
    if weights is not None:
        out["swaps_ours"] = "; ".join(f"{a} and {b}" for a, b in swaps(ours)) or "none"
    for backbone, rows in theirs.items():
        for how in ("equal", "rows"):
            out[f"best_paper_{backbone}_{how}"] = ranking(rows, how)[0]
        out[f"swaps_paper_{backbone}"] = "; ".join(f"{a} and {b}" for a, b in swaps(rows)) or "none"
    printed = reported.table2()["Avg"].to_numpy(float)
    again = np.array([r.rows for rows in theirs.values() for r in rows])
    equal = np.array([r.equal for rows in theirs.values() for r in rows])
    out["paper_printed_less_by_row_largest"] = float(np.abs(printed - again).max())
    out["paper_printed_less_equal_largest"] = float(np.abs(printed - equal).max())
    return out


def paper_problem_error(row: MethodRow) -> float:
    """Largest standard error of a paper's average by row, by the choice of its problems, in points."""
    error = problem_error(row.parts, np.array(list(PAPER_PROBLEMS.values()), dtype=float))
    return float(np.sqrt(np.sum((paper_weights() * error) ** 2)))


def _table(
    parts: Sequence[str],
    ours: Sequence[MethodRow],
    theirs: Mapping[str, Sequence[MethodRow]],
    weights: np.ndarray | None,
) -> pd.DataFrame:
    import pandas as pd

    lines: list[tuple[Any, ...]] = []
    for source, rows, names, shares in (
        ("ours", ours, parts, weights),
        *((f"paper, {b}", rows, list(PAPER_PROBLEMS), paper_weights()) for b, rows in theirs.items()),
    ):
        w = np.full(len(names), np.nan) if shares is None else shares
        for r in rows:
            lines += [(source, r.label, *of) for of in zip(names, r.parts, r.parts_se, w, strict=True)]
            lines.append((source, r.label, "mean, equal weights", r.equal, r.equal_se, np.nan))
            lines.append((source, r.label, "mean, by row", r.rows, r.rows_se, np.nan))
    printed = reported.table2()
    lines += [
        (f"paper, {b}", m, "mean, as printed", v, np.nan, np.nan)
        for b, m, v in zip(printed["backbone"], printed["method"], printed["Avg"], strict=True)
    ]
    columns = ["source", "method", "benchmark", "accuracy", "standard_error", "weight"]
    return pd.DataFrame(lines, columns=columns)


def _caption(
    ours: Sequence[MethodRow],
    theirs: Mapping[str, Sequence[MethodRow]],
    weights: np.ndarray | None,
    findings: Mapping[str, Any],
) -> str:
    known = (
        f"by row: one weight a validation row (shares {', '.join(f'{w:.2f}' for w in weights)}, which follow exactly "
        f"from the logged total); ± by problems: the most that drawing other problems moves {ours[0].label}'s row, "
        "shared by all methods as they answer the same problems. "
        f"Ranking by equal weights: {' > '.join(ranking(ours, 'equal'))}; by row: {' > '.join(ranking(ours, 'rows'))}. "
        if weights is not None
        else f"The log does not state how many rows each has. Ranking: {' > '.join(ranking(ours, 'equal'))}. "
    )
    turned = "; ".join(
        f"{b}: {a.label} {a.equal:.1f} against {c.label} {c.equal:.1f} with equal weights, {a.rows:.2f} against "
        f"{c.rows:.2f} by row"
        for b, rows in theirs.items()
        for a in rows
        for c in rows
        if (a.label, c.label) in swaps(rows)
    )
    error = max(paper_problem_error(r) for rows in theirs.values() for r in rows)
    return (
        f"Accuracy at the end (mean of the last {LAST} validations) by benchmark; ours are groups of the validation "
        "problems by their number of operations. Bold: the best of a column. equal: plain mean of the benchmarks; "
        f"{known}The paper's printed average is no plain mean: weights of one a row (AIME and AMC 32 times each "
        "problem, OMNI-MATH 2,821 rows; a reconstruction) give it within "
        f"{findings['paper_printed_less_by_row_largest']:.2f} points, equal weights within "
        f"{findings['paper_printed_less_equal_largest']:.1f}. What wins depends on it: {turned}. The paper has one run "
        f"a row and no error; the choice of problems alone is worth up to {error:.1f} points of its average by row."
    )
