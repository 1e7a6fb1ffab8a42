"""The table of runs: as HTML, as CSV, and for a paper as LaTeX (booktabs) or Markdown."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from entlaw.report.html_entry import Entry, Use
from entlaw.report.html_plot import mini
from entlaw.report.html_text import clean, name, text
from entlaw.report.html_words import AHEAD_WORDS, USE_WORDS, number

# Shape and word say the same as the colour.
_MARKS: dict[Use, str] = {
    "no objection": "●", "with care": "▲", "forced": "◆", "refused": "✕", "unusable": "–"
}  # fmt: skip
_ORDER: dict[Use, int] = {use: i for i, use in enumerate(USE_WORDS)}
# A spreadsheet would run a cell that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

# A character and what LaTeX writes for it.
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # a row that begins with one would be an argument of the \\ before it
}  # fmt: skip
# All that Markdown and the HTML within it give a meaning inside a cell; a backslash takes it away.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$:@])")

# Heading, what it means, and whether it is a number.
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("Run", "", False),
    ("Verdict", "may the fit be used?", False),
    ("Ceiling", "R at H = 0, b − a, fitted on the window", True),
    ("Interval", "of the ceiling; the square is the last score", True),
    ("Last R", "the last measured score", True),
    ("P(gain)", "probability of gaining more than 0.01 from the last point on", True),
    ("H", "entropy at the last point, nats per token", True),
    ("n", "fitted points", True),
    ("a", "slope", True),
    ("b", "intercept", True),
    ("R²", "in-sample; proves nothing by itself", True),
    ("RMSE law", "on later points, given the entropy that was reached", True),
    ("RMSE last", "on later points, of “the last value stays”", True),
)

CSV_COLUMNS = (
    "run", "source", "verdict", "reason", "n", "a", "b", "r_squared", "ceiling", "ceiling_lo", "ceiling_hi", "level",
    "last_step", "last_score", "later_points", "rmse_law", "rmse_last_value", "forecast_step", "forecast",
    "forecast_lo", "forecast_hi", "ahead", "p_gain",
)  # fmt: skip


def badge(e: Entry, words: str = "") -> str:
    """The verdict's mark and words, by default those of :data:`entlaw.report.html_words.USE_WORDS`."""
    return (
        f'<span class="badge {e.use.replace(" ", "-")}"><span class="mark" aria-hidden="true">{_MARKS[e.use]}</span>'
        f"{words or text(USE_WORDS[e.use])}</span>"
    )


def table(entries: Sequence[Entry]) -> str:
    """All runs, one a row; report.js makes its headings sort."""
    head = "".join(
        f'<th scope="col"{" class=n" if numeric else ""} data-kind="{"text" if title == "Run" else "number"}"'
        + (f' title="{text(means)}"' if means else "")
        + f">{text(title)}</th>"
        for title, means, numeric in COLUMNS
    )
    legend = "".join(f"<dt>{text(title)}</dt><dd>{text(means)}</dd>" for title, means, _ in COLUMNS if means)
    bounds = _bounds(entries)
    body = "".join(_row(e, i, bounds) for i, e in enumerate(entries))
    return (
        '<div class="scroll" role="region" aria-label="Table of runs" tabindex="0"><table id="runs">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<details class="read"><summary>What the columns mean</summary><dl>{legend}</dl></details>'
    )


def _row(e: Entry, i: int, bounds: tuple[float, float]) -> str:
    f, h = e.shown, e.holdout
    last = e.last
    entropy = float(e.run.points["entropy"].iloc[-1]) if e.run is not None and last is not None else None
    p = e.future.probability if e.future is not None and e.future.verdict != "does-not-apply" else None
    ahead = text(AHEAD_WORDS[e.future.verdict]) if e.future is not None else ""
    bar, width = "", None
    if f is not None:
        c = f.ceiling_interval
        width = c.hi - c.lo
        drawn = mini(*bounds, f.ceiling, c.lo, c.hi, last[1] if last else None)
        bar = f'{drawn}<span class="range">{number(c.lo)} to {number(c.hi)}</span>'
    cells = [
        f'<th scope="row" data-v="{text(e.label)}"><a href="#run{i}">{name(e.label)}</a></th>',
        f'<td data-v="{_ORDER[e.use]}">{badge(e, text(e.use))}</td>',
        _number(f.ceiling if f else None),
        f'<td class="n" data-v="{_value(width)}">{bar or "–"}</td>',
        _number(last[1] if last else None),
        f'<td class="n" data-v="{_value(p)}">{"–" if p is None else f"{p:.2f}"}<span class="sub">{ahead}</span></td>',
        _number(entropy),
        _number(float(f.n) if f else None, 0),
        _number(f.a if f else None),
        _number(f.b if f else None),
        _number(f.r_squared if f else None, 2),
        _number(h.rmse if h else None),
        _number(h.rmse_last_value if h else None),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float | None, digits: int = 3) -> str:
    return f'<td class="n" data-v="{_value(value)}">{"–" if value is None else number(value, digits)}</td>'


def _value(value: float | None) -> str:
    """For sorting; empty where there is none, which sorts last either way."""
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _bounds(entries: Sequence[Entry]) -> tuple[float, float]:
    """One scale for all bars: of ceilings and scores, with at most as much again for intervals."""
    seen, ends = [], []
    for e in entries:
        if e.shown is not None:
            seen += [e.shown.ceiling, *([e.last[1]] if e.last else [])]
            ends += [e.shown.ceiling_interval.lo, e.shown.ceiling_interval.hi]
    seen, ends = [v for v in seen if math.isfinite(v)], [v for v in ends if math.isfinite(v)]
    if not seen:
        return 0.0, 1.0
    lo, hi = min(seen), max(seen)
    span = (hi - lo) or 0.1
    return max(min([lo, *ends]), lo - span), min(max([hi, *ends]), hi + span)


def runs_csv(entries: Sequence[Entry]) -> str:
    """The table as CSV, numbers in full."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(CSV_COLUMNS)
    for e in entries:
        f, h, ahead = e.shown, e.holdout, e.future
        fitted = [f.n, f.a, f.b, f.r_squared, f.ceiling, f.ceiling_interval.lo, f.ceiling_interval.hi,
                  f.ceiling_interval.level] if f else [""] * 8  # fmt: skip
        ahead_of = (ahead.final if ahead is not None else None) or e.early
        forecast = [ahead_of.target, ahead_of.performance, ahead_of.interval.lo,
                    ahead_of.interval.hi] if ahead_of else [""] * 4  # fmt: skip
        write.writerow(_plain([
            e.label, e.reading.path, e.use, e.error.what if e.error else "", *fitted, *(e.last or ("", "")),
            *((h.n, h.rmse, h.rmse_last_value) if h else ("", "", "")), *forecast, ahead.verdict if ahead else "",
            "" if ahead is None or ahead.probability is None else ahead.probability,
        ]))  # fmt: skip
    return out.getvalue()


def data_uri(csv_text: str) -> str:
    """A CSV as a link that needs no server: as an attribute's value, escaped."""
    return "data:text/csv;charset=utf-8," + quote(csv_text, safe=",.:;/()[]=+ ").replace(" ", "%20")


def _plain(cells: Iterable[object]) -> list[object]:
    """Cells of a CSV: floats short, text that no spreadsheet runs."""
    out: list[object] = []
    for cell in cells:
        if isinstance(cell, float):
            out.append(f"{cell:.10g}" if math.isfinite(cell) else "")
        elif isinstance(cell, str):
            line = " ".join(clean(cell).split())
            out.append(f"'{line}" if line.startswith(_FORMULA) else line)
        else:
            out.append(cell)
    return out


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
    """Headings of :func:`cells`."""
    return ("run", "n", "a", "b", "R^2", "ceiling", f"{level:.0%} interval", "last score", "RMSE later",
            "RMSE last value", "verdict")  # fmt: skip


def cells(e: Entry) -> tuple[str, ...]:
    """One run's cells, after its name; numbers only where there is an answer."""
    last = number(e.last[1]) if e.last is not None else "–"
    f, h = e.shown, e.holdout
    if f is None:
        return ("–",) * 6 + (last, "–", "–", e.use)
    c = f.ceiling_interval
    later = (number(h.rmse), number(h.rmse_last_value)) if h is not None else ("–", "–")
    return (str(f.n), number(f.a), number(f.b), number(f.r_squared, 2), number(f.ceiling),
            f"[{number(c.lo)}, {number(c.hi)}]", last, *later, e.use)  # fmt: skip


def note(entries: Sequence[Entry]) -> str:
    """What a reader of the table has to know."""
    fit = next((e.fit for e in entries if e.fit is not None), None)
    if fit is None:
        return "No run could be fitted."
    window = "all steps" if fit.until_step is None else f"steps up to {fit.until_step:g}"
    how = "plain least squares" if fit.method == "paper" else "smoothed entropy, AR(1) and binomial noise"
    return (
        f"R = b - a exp(H) fitted on {window} ({how}); the ceiling is R at H = 0, b - a, with its "
        f"{fit.ceiling_interval.level:.0%} interval. RMSE later: of the law on later points, given the entropy that "
        f"was reached; RMSE last value: of the last fitted score staying as it is. R^2 is in-sample, of two series "
        "with a trend, and proves nothing by itself."
    )


def latex(entries: Sequence[Entry], level: float, version: str) -> str:
    """A ``table`` environment.

    Parameters
    ----------
    entries : sequence of Entry
    level : float
    version : str
        Of entlaw.

    Returns
    -------
    str
        Needs ``booktabs``, ``graphicx`` (to fit the page's width) and ``textcomp`` in old LaTeX.
    """
    heads = [_latex_head(c) for c in columns(level)]
    body = [" & ".join([latex_text(e.label), *map(_latex_cell, cells(e))]) + r" \\" for e in entries]
    lines = [
        f"% entlaw {version}; needs \\usepackage{{booktabs,graphicx}} and \\usepackage[T1]{{fontenc}}",
        r"\begin{table*}", r"  \centering", r"  \caption{" + _latex_note(note(entries)) + "}", r"  \label{tab:entlaw}",
        r"  \resizebox{\textwidth}{!}{%", r"  \begin{tabular}{l" + "r" * (len(heads) - 2) + "l}", r"    \toprule",
        "    " + " & ".join(heads) + r" \\", r"    \midrule", *("    " + row for row in body), r"    \bottomrule",
        r"  \end{tabular}}", r"\end{table*}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def markdown(entries: Sequence[Entry], level: float, version: str) -> str:
    """A table in GitHub's Markdown, with its note below."""
    heads = columns(level)
    lines = ["| " + " | ".join(h.replace("R^2", "R²") for h in heads) + " |",
             "|" + "|".join([":--", *["--:"] * (len(heads) - 2), ":--"]) + "|"]  # fmt: skip
    lines += ["| " + " | ".join([markdown_text(e.label), *cells(e)]) + " |" for e in entries]
    told = note(entries).replace("R^2", "R²").replace(" - ", " − ")
    return "\n".join(lines) + f"\n\n{told} (entlaw {version})\n"


def _latex_cell(text: str) -> str:
    if text == "–":
        return "--"
    if any(c.isdigit() for c in text):
        return "$" + text.replace("−", "-") + "$"
    return latex_text(text)


def _latex_head(text: str) -> str:
    return {"n": "$n$", "a": "$a$", "b": "$b$", "R^2": "$R^2$"}.get(text, latex_text(text))


def _latex_note(text: str) -> str:
    """The note with its mathematics set as such."""
    plain = latex_text(text)
    for written, formula in (
        ("R = b - a exp(H)", r"$R = b - a \exp(H)$"), (", b - a,", ", $b - a$,"), (r"R\textasciicircum{}2", "$R^2$"),
        ("R at H = 0", "$R$ at $H = 0$"),
    ):  # fmt: skip
        plain = plain.replace(written, formula)
    return plain
