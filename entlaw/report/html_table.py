"""The report's table of runs, and the CSV files that a reader takes from it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from urllib.parse import quote

import numpy as np
import pandas as pd

from entlaw.report.fitplot import fit_csv
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
    f, h = (e.fit if e.answered else None), e.holdout
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
        if e.answered and e.fit is not None:
            seen += [e.fit.ceiling, *([e.last[1]] if e.last else [])]
            ends += [e.fit.ceiling_interval.lo, e.fit.ceiling_interval.hi]
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
        f, h, ahead = (e.fit if e.answered else None), e.holdout, e.future
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


def points_csv(e: Entry, rows: np.ndarray | None = None) -> str:
    """The points of a run: step, entropy as logged and as used, performance, whether it was fitted, the law's value.

    Parameters
    ----------
    e : Entry
        With a run.
    rows : ndarray of int, optional
        Only these points.

    Returns
    -------
    str
    """
    assert e.run is not None
    if e.answered and e.fit is not None:
        whole = fit_csv(e.fit, e.run)
        if rows is None:
            return whole
        lines = whole.splitlines()
        return "\n".join([lines[0], *(lines[1 + i] for i in rows)]) + "\n"
    frame: pd.DataFrame = e.run.points[["step", "entropy", "performance"]].rename(
        columns={"entropy": "entropy_logged"}
    )
    frame = frame if rows is None else frame.iloc[rows]
    frame = frame.assign(entropy_used=frame["entropy_logged"], fitted=0, law="")
    order = ["step", "entropy_logged", "entropy_used", "performance", "fitted", "law"]
    return frame[order].to_csv(index=False, float_format="%.10g", lineterminator="\n")


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
