"""From rewards to a table: a row a model, a column a data set, two averages, and the differences between models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from entlaw.findings import Finding, Severity, worst_first
from entlaw.suites.collect import Job
from entlaw.suites.definition import Suite, SuiteColumn
from entlaw.suites.statistics import Estimate, averaged, clustered, paired, upper_bound

LEVEL = 0.95
_FEWEST = 10
"""Problems below which no score is called best: the errors themselves are guesses then."""


@dataclass(frozen=True)
class Column:
    """One data set in the table.

    Attributes
    ----------
    name, label : str
    weight : float
        In the row-weighted average; all weights add up to 1.
    """

    name: str
    label: str
    weight: float


@dataclass(frozen=True)
class Responses:
    """What the responses of a model to a data set were like; shares of responses.

    Attributes
    ----------
    problems, samples : int
    no_answer : float
        Held nothing that could be an answer.
    undecided : float
        Held an answer that nothing here can read; counted as wrong.
    cut : float
        Were cut off at the longest length.
    tokens : float
        Mean length.
    """

    problems: int
    samples: int
    no_answer: float
    undecided: float
    cut: float
    tokens: float


@dataclass(frozen=True)
class ScoreRow:
    """A model's scores, or a difference of two models'.

    Attributes
    ----------
    label : str
    kind : {"measured", "published", "difference"}
    scores : tuple of Estimate
        A column each.
    equal, weighted : Estimate
        Averages with equal weights, and with the columns' weights.
    printed : float or None
        The average that a publication states.
    responses : tuple of Responses
        A column each; empty but for measured rows.
    """

    label: str
    kind: Literal["measured", "published", "difference"]
    scores: tuple[Estimate, ...]
    equal: Estimate
    weighted: Estimate
    printed: float | None = None
    responses: tuple[Responses, ...] = ()

    @property
    def cells(self) -> tuple[Estimate, ...]:
        """Columns, then the two averages."""
        return (*self.scores, self.equal, self.weighted)


@dataclass(frozen=True)
class Table:
    """All that a suite found.

    Attributes
    ----------
    suite : Suite
    columns : tuple of Column
    weights_from : {"suite", "responses"}
        Whether the row weights are the suite's own, or the numbers of responses.
    rows : tuple of ScoreRow
        Measured, then published.
    differences : tuple of ScoreRow
        Each further model minus the first, on the same problems.
    best : tuple of int or None
        Row of each cell's best model, None where it does not differ measurably from another.
    findings : tuple of Finding
    """

    suite: Suite
    columns: tuple[Column, ...]
    weights_from: Literal["suite", "responses"]
    rows: tuple[ScoreRow, ...]
    differences: tuple[ScoreRow, ...]
    best: tuple[int | None, ...]
    findings: tuple[Finding, ...] = ()


def build(suite: Suite, jobs: Sequence[Sequence[Job]], with_paper: bool = False) -> Table:
    """The table of finished jobs.

    Parameters
    ----------
    jobs : sequence of sequence of Job
        A model each, with the same data sets in the same order.
    with_paper : bool
        Add the suite's published rows.
    """
    scores = [[job.scores() for job in row] for row in jobs]
    columns, origin = _columns(suite, [job.held.member for job in jobs[0]], scores[0])
    measured = [
        _row(row[0].model.label, "measured", [clustered(s) for s in of], columns, _responses(row))
        for row, of in zip(jobs, scores, strict=True)
    ]
    published = [_published(suite, i, columns) for i in range(len(suite.published))] if with_paper else []
    findings = [f for row in measured for f in _findings(row, columns)]
    findings += _flips("measured", measured) + _flips("published", published)
    differences = [
        _row(
            f"{row[0].model.label} − {jobs[0][0].model.label}",
            "difference",
            [paired(a, b) for a, b in zip(scores[0], of, strict=True)],
            columns,
        )
        for row, of in zip(jobs[1:], scores[1:], strict=True)
    ]
    return Table(
        suite,
        columns,
        origin,
        (*measured, *published),
        tuple(differences),
        _best(measured, scores, columns),
        worst_first(findings),
    )


def _columns(
    suite: Suite, members: Sequence[SuiteColumn], scores: Sequence[np.ndarray]
) -> tuple[tuple[Column, ...], Literal["suite", "responses"]]:
    raw = [m.rows if suite.weighted else s.size for m, s in zip(members, scores, strict=True)]
    columns = tuple(Column(m.name, m.label, w / sum(raw)) for m, w in zip(members, raw, strict=True))
    return columns, "suite" if suite.weighted else "responses"


def _row(
    label: str,
    kind: Literal["measured", "published", "difference"],
    scores: Sequence[Estimate],
    columns: Sequence[Column],
    responses: tuple[Responses, ...] = (),
    printed: float | None = None,
) -> ScoreRow:
    equal = averaged(scores, [1.0] * len(scores))
    weighted = averaged(scores, [c.weight for c in columns])
    return ScoreRow(label, kind, tuple(scores), equal, weighted, printed, responses)


def _published(suite: Suite, i: int, columns: Sequence[Column]) -> ScoreRow:
    told = suite.published[i]
    by_name = {m.name: s for m, s in zip(suite.sets, told.scores, strict=True)}
    whole = len(columns) == len(suite.sets)  # a part of the columns has another average than the one printed
    scores = [Estimate(by_name[c.name]) for c in columns]
    return _row(told.model, "published", scores, columns, printed=told.printed if whole else None)


def _responses(jobs: Sequence[Job]) -> tuple[Responses, ...]:
    told = []
    for job in jobs:
        items = list(job.items())
        verdicts, n = Counter(i.verdict for i in items), len(items)
        told.append(
            Responses(
                problems=len(job.held.problems),
                samples=n // len(job.held.problems),
                no_answer=verdicts["no-answer"] / n,
                undecided=verdicts["undecided"] / n,
                cut=sum(not i.finished for i in items) / n,
                tokens=sum(i.tokens for i in items) / n,
            )
        )
    return tuple(told)


# What is best ------------------------------------------------------------------------------------


def _best(
    rows: Sequence[ScoreRow], scores: Sequence[Sequence[np.ndarray]], columns: Sequence[Column]
) -> tuple[int | None, ...]:
    """The best measured model of each cell, where it differs measurably from every other one.

    The one with the highest score is compared with each other by paired differences; the two-sided level is divided by
    the number of comparisons (Bonferroni), so that among equal models one is called best in at most 5 % of cells.
    """
    many = [len(s) >= _FEWEST for s in scores[0]]
    enough = (*many, all(many), all(many))
    leaders: list[int | None] = []
    for cell in range(len(columns) + 2):
        values = [row.cells[cell].value for row in rows]
        top = int(np.argmax(values))
        others = [i for i in range(len(rows)) if i != top]
        clear = bool(others) and enough[cell]
        for i in others:
            parts = [paired(a, b) for a, b in zip(scores[i], scores[top], strict=True)]
            ahead = _row("", "difference", parts, columns).cells[cell]
            clear = clear and ahead.value > 0 and ahead.p_value() < (1 - LEVEL) / len(others)
        leaders.append(top if clear else None)
    return tuple(leaders)


# What a reader must know -------------------------------------------------------------------------

# Code, severity, which share of responses, from where on it is told, what, why, what to do.
_SHARES: tuple[tuple[str, Severity, str, float, str, str, str], ...] = (
    (
        "no-answers",
        "warning",
        "no_answer",
        0.1,
        "responses without a final answer",
        "they count as wrong",
        "try --chat or --no-chat, or a larger --max-tokens; the responses are in the results' folder",
    ),
    ("undecided-answers", "info", "undecided", 0.0, "answers that cannot be read", "they count as wrong", ""),
    (
        "cut-responses",
        "warning",
        "cut",
        0.05,
        "responses cut at the longest length",
        "their score is that of shorter thoughts than the model wants to have",
        "raise --max-tokens",
    ),
)


def _findings(row: ScoreRow, columns: Sequence[Column]) -> list[Finding]:
    """One finding of a kind a model, naming its data sets."""
    told = list(zip(columns, row.scores, row.responses, strict=True))
    alone = [c.label for c, _, r in told if r.problems < 2]
    still = [
        (f"{c.label} {100 * e.value:.0f} %", r.problems) for c, e, r in told if r.problems > 1 and e.se == 0
    ]
    found = []
    if alone:
        what = f"{row.label}: one problem of {', '.join(alone)}, and so no standard error"
        why = "one problem does not show how scores vary, so the averages have no error either"
        found.append(Finding("no-error", "warning", what, why, "more problems"))
    if still:
        bound = upper_bound(min(n for _, n in still), LEVEL)
        what = f"{row.label}: all problems score alike in {', '.join(s for s, _ in still)}; the error comes out as 0"
        why = f"up to {100 * bound:.1f} % of problems may be otherwise, and the averages' errors do not show it either"
        found.append(Finding("no-spread", "warning", what, why, "more problems", bound))
    for code, severity, name, least, what, why, hint in _SHARES:
        shares = [(c.label, getattr(r, name)) for c, _, r in told if getattr(r, name) > least]
        if shares:
            text = ", ".join(f"{label} {100 * share:.1f} %" for label, share in shares)
            worst = max(share for _, share in shares)
            found.append(Finding(code, severity, f"{row.label}: {what}: {text}", why, hint, worst))
    return found


def _flips(kind: str, rows: Sequence[ScoreRow]) -> list[Finding]:
    found = []
    for i, a in enumerate(rows):
        for b in rows[i + 1 :]:
            equal, weighted = a.equal.value - b.equal.value, a.weighted.value - b.weighted.value
            if equal * weighted < 0:
                first, second = (a, b) if equal > 0 else (b, a)
                what = (
                    f"{first.label} leads {second.label} by {100 * abs(equal):.1f} points with equal weights and "
                    f"trails by {100 * abs(weighted):.1f} with row weights"
                )
                why = "which of the two is better depends on how the sets are weighted" + (
                    " (published rows)" if kind == "published" else ""
                )
                found.append(Finding("ranking-depends-on-weights", "info", what, why))
    return found


# Plain data --------------------------------------------------------------------------------------


def as_dict(table: Table) -> dict[str, Any]:
    """For JSON: fractions, intervals of 95 %, nothing rounded."""
    return {
        "schema": "entlaw.eval-suite/1",
        "suite": table.suite.name,
        "title": table.suite.title,
        "note": table.suite.note,
        "row_weights_from": table.weights_from,
        "sets": [asdict(c) for c in table.columns],
        "rows": [_row_dict(row, table.columns) for row in table.rows],
        "differences": [_row_dict(row, table.columns) for row in table.differences],
        "best": {name: _label(table, i) for name, i in zip(_cells(table), table.best, strict=True)},
        "findings": [f.as_dict() for f in table.findings],
    }


def _label(table: Table, i: int | None) -> str | None:
    return None if i is None else table.rows[i].label


def _cells(table: Table) -> list[str]:
    return [*(c.name for c in table.columns), "average_equal", "average_rows"]


def _row_dict(row: ScoreRow, columns: Sequence[Column]) -> dict[str, Any]:
    told: dict[str, Any] = {"model": row.label, "kind": row.kind, "scores": {}}
    for i, (column, score) in enumerate(zip(columns, row.scores, strict=True)):
        told["scores"][column.name] = _estimate(score) | (asdict(row.responses[i]) if row.responses else {})
    told |= {"average_equal": _estimate(row.equal), "average_rows": _estimate(row.weighted)}
    return told | ({"average_printed": row.printed} if row.kind == "published" else {})


def _estimate(score: Estimate) -> dict[str, Any]:
    lo, hi = score.interval(LEVEL)
    return {
        "value": score.value,
        "se": score.se,
        "df": score.df,
        "interval": None if math.isnan(lo) else [lo, hi],
    }
