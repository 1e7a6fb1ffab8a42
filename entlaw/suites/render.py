"""A table as text: for the terminal, CSV, Markdown and LaTeX. In percent, ± one standard error."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from entlaw.suites.statistics import Estimate
from entlaw.suites.table import LEVEL, ScoreRow, Table

_NO_SPREAD = "†"
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "†": r"\dag{}",
    "±": r"$\pm$",
    "[": "{[}",
    "]": "{]}",
}


@dataclass(frozen=True)
class Grid:
    """Text in cells; ``bold`` marks the cells (row, column) that are set in bold."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    rules: frozenset[int] = frozenset()
    """Rows with a line above them."""


def heads(table: Table) -> tuple[str, ...]:
    """Heads of the columns behind the model."""
    if len(table.columns) == 1:
        return (table.columns[0].label,)  # its averages are itself
    weights = "suite's rows" if table.weights_from == "suite" else "responses"
    if table.suite.name.startswith("paper"):
        weights = weights.replace("suite's", "paper's")
    part = f", {len(table.columns)} of {len(table.suite.sets)} sets"
    part = part if len(table.columns) < len(table.suite.sets) else ""
    return (*(c.label for c in table.columns), f"Avg. (equal{part})", f"Avg. ({weights}{part})")


def scores(table: Table) -> Grid:
    """The main table."""
    shown = len(heads(table))
    body = [(_name(row), *(_cell(e) for e in row.cells[:shown])) for row in table.rows]
    printed = any(row.printed is not None for row in table.rows)
    if printed:
        body = [
            (*line, _percent(row.printed) if row.printed is not None else "")
            for line, row in zip(body, table.rows, strict=True)
        ]
    bold = {(row, cell + 1) for cell, row in enumerate(table.best[:shown]) if row is not None}
    rules = {i for i, row in enumerate(table.rows) if row.kind == "published"}
    head = ("model", *heads(table), *(["Avg. (as printed)"] if printed else []))
    return Grid(
        table.suite.title or table.suite.name,
        head,
        tuple(body),
        frozenset(bold),
        frozenset({min(rules)}) if rules else frozenset(),
    )


def _name(row: ScoreRow) -> str:
    return f"{row.label} (published)" if row.kind == "published" else row.label


def differences(table: Table) -> Grid:
    """Second and further models minus the first, with their intervals."""
    shown = len(heads(table))
    body = tuple((row.label, *(_difference(e) for e in row.cells[:shown])) for row in table.differences)
    return Grid("paired differences", ("difference", *heads(table)), body)


def responses(table: Table) -> Grid:
    """What the responses were like."""
    head = ("model", "set", "problems", "samples", "no answer", "unreadable", "cut", "tokens")
    body = tuple(
        (
            row.label,
            column.label,
            f"{told.problems:,}",
            str(told.samples),
            f"{100 * told.no_answer:.1f} %",
            f"{100 * told.undecided:.1f} %",
            f"{100 * told.cut:.1f} %",
            f"{told.tokens:,.1f}",
        )
        for row in table.rows
        for column, told in zip(table.columns, row.responses, strict=False)
    )
    return Grid("responses", head, body)


def notes(table: Table, mark: str = "Bold") -> list[str]:
    """The notes under the table; ``mark`` is how the best is marked in it."""
    told = ["Accuracy in percent, ± one standard error, clustered by problem."]
    if len(table.columns) > 1:
        weights = ", ".join(f"{c.label} {c.weight:.3f}" for c in table.columns)
        told.append(f"Row weights: {weights}.")
    if any(e.se == 0 for row in table.rows for e in row.cells):
        told.append(
            f"{_NO_SPREAD} All problems score alike: nothing to estimate an error from, which does not make it 0."
        )
    if any(row.kind == "published" for row in table.rows):
        told.append(
            "Published rows are the publication's numbers, without errors; their averages by weight are computed here."
        )
    if table.differences:
        told.append(
            f"Differences are paired by problem; in brackets their {100 * LEVEL:.0f} % interval (Student's t)."
        )
        if any(i is not None for i in table.best):
            told.append(
                f"{mark}: best, and distinguishable from every other measured model (paired, 5 % by Bonferroni)."
            )
        else:
            told.append(
                "No best is marked: in no column is it distinguishable from every other measured model."
            )
    if table.suite.note:
        told.append(table.suite.note)
    return told


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _cell(e: Estimate) -> str:
    if e.se == 0:
        return f"{_percent(e.value)} {_NO_SPREAD}"
    if math.isfinite(e.se):
        return f"{_percent(e.value)} ± {_percent(e.se)}"
    return _percent(e.value)


def _difference(e: Estimate) -> str:
    if not math.isfinite(e.se):
        return f"{100 * e.value:+.1f}"
    lo, hi = e.interval(LEVEL)
    return f"{100 * e.value:+.1f} ± {_percent(e.se)} [{100 * lo:+.1f}, {100 * hi:+.1f}]"


# Formats -----------------------------------------------------------------------------------------


def render(table: Table, form: Literal["csv", "markdown", "latex"]) -> str:
    """The whole report in one format (CSV: the scores alone)."""
    if form == "csv":
        return scores_csv(table)
    grids = [scores(table), *([differences(table)] if table.differences else [])]
    if form == "markdown":
        parts = [markdown(grid) for grid in grids]
        told = "\n".join(f"- {markdown_text(line)}" for line in notes(table))
        return "\n".join([*parts, told, ""])
    return "\n".join(latex(grid, notes(table) if i == 0 else []) for i, grid in enumerate(grids))


def scores_csv(table: Table) -> str:
    """A row a model; percent, not rounded; standard errors in columns of their own."""
    names = [*(c.name for c in table.columns), "average_equal", "average_rows"]
    head = ["model", "kind", *(f"{n}{s}" for n in names for s in ("_percent", "_se"))]
    lines = [
        [row.label, row.kind, *(_number(100 * v) for e in row.cells for v in (e.value, e.se))]
        for row in (*table.rows, *table.differences)
    ]
    return _csv([head, *lines])


def _number(value: float) -> str:
    return f"{value:.10g}" if math.isfinite(value) else ""


def _csv(lines: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", text).replace("\n", " ")


def markdown(grid: Grid) -> str:
    """A pipe table."""
    lines = [_pipes(grid.head, markdown_text)]
    lines.append("|" + "|".join([" --- "] + [" ---: "] * (len(grid.head) - 1)) + "|")
    for i, row in enumerate(grid.body):
        cells = [
            f"**{markdown_text(cell)}**" if (i, j) in grid.bold else markdown_text(cell)
            for j, cell in enumerate(row)
        ]
        lines.append(_pipes(cells, str))
    return "\n".join(lines) + "\n"


def _pipes(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    escaped = "".join(_LATEX.get(c, c) for c in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def latex(grid: Grid, under: Sequence[str] = ()) -> str:
    """A ``table`` for booktabs."""
    rows = []
    for i, row in enumerate(grid.body):
        if i in grid.rules:
            rows.append(r"\midrule")
        cells = [
            rf"\textbf{{{latex_text(c)}}}" if (i, j) in grid.bold else latex_text(c)
            for j, c in enumerate(row)
        ]
        rows.append(" & ".join(cells) + r" \\")
    caption = " ".join([grid.title.rstrip(".") + ".", *under])
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            rf"\caption{{{latex_text(caption)}}}",
            r"\begin{tabular}{l" + "r" * (len(grid.head) - 1) + "}",
            r"\toprule",
            " & ".join(map(latex_text, grid.head)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
