"""The table of runs: as HTML, as CSV, and for a paper as LaTeX (booktabs) or Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from entlaw.law.ahead import MEANINGFUL_GAIN
from entlaw.law.examined import Examined, RowVerdict
from entlaw.law.summary import LAW_VERDICTS, describe_window, format_interval, format_number
from entlaw.report.html_plot import mini
from entlaw.report.html_words import VERDICTS, clean, name, text

# Shape and word say the same as the colour.
_MARKS: dict[RowVerdict, str] = {"ok": "●", "caution": "▲", "passed": "◆", "refused": "✕", "unreadable": "–"}
# A spreadsheet would run a cell that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_LATEX_NAMES = {
    "\\": "backslash",
    "~": "asciitilde",
    "^": "asciicircum",
    "<": "less",
    ">": "greater",
    "|": "bar",
    '"': "quotedbl",
    "'": "quotesingle",
    "`": "asciigrave",
}
# A character and what LaTeX writes for it. A row that begins with one of the last would be an argument of the \\
# before it.
LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: rf"\text{name}{{}}" for c, name in _LATEX_NAMES.items()},
    **{c: f"{{{c}}}" for c in "[]*"},
}
# All that Markdown and the HTML within it give a meaning inside a cell; a backslash takes it away.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$:@])")

_POINTS = f"{100 * MEANINGFUL_GAIN:g} point"
# Heading, what it means, the column of `list_numbers`, and its decimals; the first has no number.
COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Run", "", "", 0),
    ("Verdict", "; ".join(f"{v}: {words}" for v, words in LAW_VERDICTS.items()), "", 0),
    ("Ceiling", "the law at H = 0, b − a, fitted to the window", "ceiling", 3),
    ("Interval", "of the ceiling; the square is the last score", "", 0),
    ("Last R", "the last measured score", "last_score", 3),
    ("Forecast", "of the score at the step below it, from all steps seen (model growth)", "forecast", 3),
    (
        "P(gain)",
        f"chance of gaining more than {_POINTS} (of rewards, 1 % of their range) by the step of the forecast",
        "p_gain",
        2,
    ),
    ("H", "entropy at the last point, nats per token", "last_entropy", 3),
    ("n", "fitted points", "n_fitted", 0),
    ("a", "slope", "a", 3),
    ("b", "intercept", "b", 3),
    ("R²", "in-sample; proves nothing by itself", "r_squared", 2),
    ("RMSE law", "held out, given the entropy that was reached", "held_out_rmse", 3),
    ("RMSE base", "held out, of the baseline “no change”", "held_out_rmse_baseline", 3),
)


def list_numbers(rows: Sequence[Examined]) -> pd.DataFrame:
    """The numbers of all runs, one row each.

    Parameters
    ----------
    rows : sequence of Examined

    Returns
    -------
    DataFrame
        Columns ``run`` (the label), ``source``, ``verdict``, ``reason`` (why there is no ceiling), and those of
        :meth:`entlaw.law.result.Result.to_frame`; what a run has not is NaN.
    """
    known = [e.result.to_frame() if e.result is not None else pd.DataFrame(index=[0]) for e in rows]
    made = pd.concat(known, ignore_index=True)
    made["verdict"] = [e.verdict for e in rows]
    first = {
        "run": [e.label for e in rows],
        "source": [e.reading.path for e in rows],
        "verdict": made.pop("verdict"),
        "reason": [e.failure.what if e.failure is not None else "" for e in rows],
    }
    return pd.concat([pd.DataFrame(first, dtype=object), made], axis="columns")


def badge(verdict: RowVerdict) -> str:
    """The verdict's mark and word."""
    mark = f'<span class="mark" aria-hidden="true">{_MARKS[verdict]}</span>'
    return f'<span class="badge {verdict}">{mark}{verdict}</span>'


def table(rows: Sequence[Examined]) -> str:
    """All runs, one a row; report.js makes its headings sort."""
    head = "".join(
        f'<th scope="col"{" class=n" if i > 1 else ""} data-kind="{"number" if i else "text"}"'
        + (f' title="{text(means)}"' if means else "")
        + f">{text(title)}</th>"
        for i, (title, means, *_) in enumerate(COLUMNS)
    )
    legend = "".join(f"<dt>{text(title)}</dt><dd>{text(means)}</dd>" for title, means, *_ in COLUMNS if means)
    numbers = list_numbers(rows)
    bounds = _bounds(numbers)
    body = "".join(_row(e, i, numbers.iloc[i], bounds) for i, e in enumerate(rows))
    return (
        '<div class="scroll" role="region" aria-label="Table of runs" tabindex="0"><table id="runs">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<details class="read"><summary>What the columns mean</summary><dl>{legend}</dl></details>'
    )


def _row(e: Examined, i: int, n: pd.Series, bounds: tuple[float, float]) -> str:
    verdict = e.result.forecast.verdict if e.result is not None else ""
    known = {title: _number(n.get(column), digits) for title, _, column, digits in COLUMNS if column}
    bar, width = "–", float("nan")
    if pd.notna(n.get("ceiling")):
        lo, hi = n["ceiling_lo"], n["ceiling_hi"]
        drawn, width = mini(*bounds, n["ceiling"], lo, hi, n["last_score"]), hi - lo
        bar = f'{drawn}<span class="range">[{format_number(lo)}, {format_number(hi)}]</span>'
    step = n.get("forecast_step")
    known |= {
        "Run": f'<th scope="row" data-v="{text(e.label)}"><a href="#run{i}">{name(e.label)}</a></th>',
        "Verdict": f'<td data-v="{VERDICTS.index(e.verdict)}">{badge(e.verdict)}</td>',
        "Interval": f'<td class="n" data-v="{_value(width)}">{bar}</td>',
        "Forecast": _number(n.get("forecast"), 3, f"step {step:g}" if pd.notna(step) else ""),
        "P(gain)": _number(n.get("p_gain"), 2, verdict),
    }
    return f"<tr>{''.join(known[title] for title, *_ in COLUMNS)}</tr>"


def _number(value: Any, digits: int, below: str = "") -> str:
    """A cell of a number; a dash where there is none."""
    told = format_number(float(value), digits) if pd.notna(value) else "–"
    return f'<td class="n" data-v="{_value(value)}">{told}{f"<span class=sub>{below}</span>" if below else ""}</td>'


def _value(value: Any) -> str:
    """For sorting; empty where there is none, which sorts last either way."""
    return "" if pd.isna(value) else f"{value:.6g}"


def _bounds(numbers: pd.DataFrame) -> tuple[float, float]:
    """One scale for all bars: of ceilings and scores, with at most as much again for intervals."""
    if "ceiling" not in numbers:
        return 0.0, 1.0
    shown = numbers[np.isfinite(numbers["ceiling"])]
    seen = shown[["ceiling", "last_score"]].to_numpy()
    ends = shown[["ceiling_lo", "ceiling_hi"]].to_numpy()
    if not seen.size:
        return 0.0, 1.0
    lo, hi = seen.min(), seen.max()
    span = (hi - lo) or 0.1
    ends = np.append(ends[np.isfinite(ends)], [lo, hi])
    return float(max(ends.min(), lo - span)), float(min(ends.max(), hi + span))


def runs_csv(rows: Sequence[Examined]) -> str:
    """The table as CSV, numbers in full; text that a spreadsheet would run is quoted."""
    numbers = list_numbers(rows).replace([np.inf, -np.inf], np.nan)
    texts = numbers.select_dtypes(exclude="number").columns
    numbers[texts] = numbers[texts].map(_plain)
    return numbers.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def data_uri(csv_text: str) -> str:
    """A CSV as a link that needs no server: as an attribute's value, escaped."""
    return "data:text/csv;charset=utf-8," + quote(csv_text, safe=",.:;/()[]=+ ").replace(" ", "%20")


def _plain(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    line = " ".join(clean(cell).split())
    return f"'{line}" if line.startswith(_FORMULA) else line


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is, in any of its engines.

    Hyphens are kept apart, so that ``--`` does not become a dash. What pdfTeX has no letter for is written as its code
    point, ``[U+1F600]``, rather than dropped.
    """
    out = []
    for c in _clean(text):
        if c in LATEX:
            out.append(LATEX[c])
        elif c.isascii() or (ord(c) <= 0xFF and unicodedata.category(c) in ("Ll", "Lu")):
            out.append(c)
        else:
            out.append(f"{{[}}U+{ord(c):04X}{{]}}")
    return re.sub("-(?=-)", "-{}", "".join(out))


def markdown_text(text: str) -> str:
    """Text that Markdown, and HTML within it, shows as it is."""
    return _MARKDOWN.sub(r"\\\1", _clean(text))


def _clean(text: str) -> str:
    """One line without control characters."""
    spaced = "".join(" " if c.isspace() else c for c in text)
    return (
        "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs", "Cf")).strip() or "(no name)"
    )


def columns(level: float) -> tuple[str, ...]:
    """Headings of :func:`cells`, with the run's before them."""
    interval = f"{level:.0%} interval"
    return (
        "run",
        "n",
        "a",
        "b",
        "R^2",
        "ceiling",
        interval,
        "last score",
        "RMSE",
        "RMSE baseline",
        "verdict",
    )


def cells(e: Examined) -> tuple[str, ...]:
    """One run's cells, after its name; numbers only where there is an answer."""
    law, last = (None, None) if e.result is None else (e.result.law, e.result.last)
    score = format_number(last[1]) if last is not None else "–"
    if e.result is None or law is None:
        return ("–",) * 6 + (score, "–", "–", e.verdict)
    held = e.result.held_out
    errors = [format_number(held.rmse), format_number(held.rmse_baseline)] if held is not None else ["–", "–"]
    numbers = [format_number(v) for v in (law.a, law.b)]
    ceiling = (format_number(law.ceiling), format_interval(law.ceiling_interval))
    return (str(law.n), *numbers, format_number(law.r_squared, 2), *ceiling, score, *errors, e.verdict)


def note(rows: Sequence[Examined]) -> str:
    """What a reader of the table has to know."""
    law = next((e.result.law for e in rows if e.result is not None and e.result.law is not None), None)
    if law is None:
        return "No run gets a ceiling."
    how = "plain least squares" if law.method == "paper" else "smoothed entropy, AR(1) and binomial noise"
    return (
        f"R = b - a exp(H) fitted to {describe_window(law.until_step)} ({how}); the ceiling is R at H = 0, b - a, with "
        f"its {law.ceiling_interval.level:.0%} interval. RMSE: of the law on held-out later points, given the entropy "
        'that was reached; RMSE baseline: of "no change", the last fitted score. R^2 is in-sample, of two series '
        "with a trend, and proves nothing by itself."
    )


def latex(rows: Sequence[Examined], level: float, version: str) -> str:
    """A ``table`` environment.

    Parameters
    ----------
    rows : sequence of Examined
    level : float
    version : str
        Of entlaw.

    Returns
    -------
    str
        Needs ``booktabs``, ``graphicx`` (to fit the page's width) and ``textcomp`` in old LaTeX.
    """
    heads = [_latex_head(c) for c in columns(level)]
    body = [" & ".join([latex_text(e.label), *map(_latex_cell, cells(e))]) + r" \\" for e in rows]
    caption = r"  \caption{" + _latex_note(note(rows)) + "}"
    lines = [
        f"% entlaw {version}; needs \\usepackage{{booktabs,graphicx}} and \\usepackage[T1]{{fontenc}}",
        *(
            r"\begin{table*}",
            r"  \centering",
            caption,
            r"  \label{tab:entlaw}",
            r"  \resizebox{\textwidth}{!}{%",
        ),
        *(r"  \begin{tabular}{l" + "r" * (len(heads) - 2) + "l}", r"    \toprule"),
        *("    " + " & ".join(heads) + r" \\", r"    \midrule"),
        *("    " + row for row in body),
        *(r"    \bottomrule", r"  \end{tabular}}", r"\end{table*}"),
    ]
    return "\n".join(lines) + "\n"


def markdown(rows: Sequence[Examined], level: float, version: str) -> str:
    """A table in GitHub's Markdown, with its note below."""
    heads = columns(level)
    lines = [
        "| " + " | ".join(h.replace("R^2", "R²") for h in heads) + " |",
        "|" + "|".join([":--", *["--:"] * (len(heads) - 2), ":--"]) + "|",
        *("| " + " | ".join([markdown_text(e.label), *cells(e)]) + " |" for e in rows),
    ]
    told = note(rows).replace("R^2", "R²").replace(" - ", " − ")
    return "\n".join(lines) + f"\n\n{told} (entlaw {version})\n"


def _latex_cell(text: str) -> str:
    if text == "–":
        return "--"
    if any(c.isdigit() for c in text):
        return f"${text}$"
    return latex_text(text)


def _latex_head(text: str) -> str:
    return {"n": "$n$", "a": "$a$", "b": "$b$", "R^2": "$R^2$"}.get(text, latex_text(text))


def _latex_note(text: str) -> str:
    """The note with its mathematics set as such."""
    plain = latex_text(text)
    for written, formula in (
        ("R = b - a exp(H)", r"$R = b - a \exp(H)$"),
        (", b - a,", ", $b - a$,"),
        (r"R\textasciicircum{}2", "$R^2$"),
        ("R at H = 0", "$R$ at $H = 0$"),
    ):
        plain = plain.replace(written, formula)
    return plain
