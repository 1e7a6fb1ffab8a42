"""The report on paper: verdict, table, reasons, a page for each run that has a fit. By matplotlib; no browser."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from entlaw.law.examined import Examined
from entlaw.law.result import Result
from entlaw.law.settings import Settings
from entlaw.law.summary import list_findings
from entlaw.report import style, table
from entlaw.report.html_page import About, TrackFunction, untracked
from entlaw.report.html_words import describe_all, describe_row, plain_methods, sentence
from entlaw.report.plots import draw_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = (8.27, 11.69)  # inches, A4
_LEFT, _TOP, _BOTTOM = 0.09, 0.94, 0.06  # shares of the page
_POINT = 1 / 72 / _PAGE[1]  # a point of type as a share of the page's height
_NAME = 30  # characters of a name in the table; the run's own page has it whole

Line = tuple[str, float, str]  # text, size in points, weight or family


def pdf_report(
    rows: Sequence[Examined], about: About, settings: Settings, track: TrackFunction = untracked
) -> bytes:
    """The report as PDF.

    Parameters
    ----------
    rows : sequence of Examined
        At least one.
    about : About
    settings : Settings
    track : callable
        Wraps the runs while their pages are drawn, to show progress.

    Returns
    -------
    bytes
        Equal for equal input.
    """
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(style.rc()), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the HTML page has it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with PdfPages(out, metadata={**style.METADATA["pdf"], "Title": _one_line(about.title)}) as pages:
            first = [*_verdict(rows, about), *_table(rows, settings.level), *_unanswered(rows)]
            for part in _paged(first):
                pages.savefig(_text_page(Figure, part))
            for e in track(rows, "drawing"):
                if e.result is not None and e.result.points.n:
                    pages.savefig(_run_page(Figure, e, e.result))
            for part in _paged(_methods(settings, about, rows)):
                pages.savefig(_text_page(Figure, part))
    return out.getvalue()


def _verdict(rows: Sequence[Examined], about: About) -> list[Line]:
    if len(rows) == 1:
        lead, pairs = describe_row(rows[0])
        details = _join(pairs)
    else:
        lead, details = describe_all(rows)
    lines: list[Line] = [
        (about.kicker(len(rows)), 9, "normal"),
        *_wrap(about.title, 17, "bold"),
        ("", 8, ""),
        *_wrap(lead, 12, "bold"),
        ("", 4, ""),
    ]
    for d in details:
        lines += [*_wrap("• " + d, 10, "normal", "  "), ("", 3, "")]
    return lines


def _table(rows: Sequence[Examined], level: float) -> list[Line]:
    """The table in type of one width: columns line up and need no rules."""
    heads = [h.replace("R^2", "R²") for h in table.columns(level)]
    cells = [[_short(_one_line(e.label)), *table.cells(e)] for e in rows]
    widths = [max(len(r[i]) for r in [heads, *cells]) for i in range(len(heads))]

    def set_out(row: list[str]) -> str:
        last = len(row) - 1
        return "  ".join(
            c.ljust(w) if i in (0, last) else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )

    size = min(7.0, 7.05 * 72 / (0.602 * len(set_out(heads))))
    lines: list[Line] = [("", 10, ""), ("Runs", 12, "bold"), ("", 3, ""), (set_out(heads), size, "mono-bold")]
    lines += [(set_out(row), size, "mono") for row in cells]
    return [*lines, ("", 4, ""), *_wrap(table.note(rows).replace("R^2", "R²"), 8, "normal")]


def _unanswered(rows: Sequence[Examined]) -> list[Line]:
    """Why some runs get no ceiling; empty when all do."""
    without = [(e, e.failure) for e in rows if e.failure is not None]
    lines: list[Line] = [("", 12, ""), ("Runs without a ceiling", 12, "bold"), ("", 4, "")] if without else []
    for e, failure in without:
        lines += _wrap(f"{e.label} – {e.verdict}", 9, "bold")
        for said in (failure.what, failure.why, failure.hint):
            lines += _wrap(sentence(said), 9, "normal") if said else []
        lines.append(("", 6, ""))
    return lines


def _methods(settings: Settings, about: About, rows: Sequence[Examined]) -> list[Line]:
    lines: list[Line] = [("How this was done", 12, "bold"), ("", 4, "")]
    for paragraph in plain_methods(settings):
        lines += [*_wrap(paragraph, 9, "normal"), ("", 4, "")]
    lines += [("", 6, ""), ("Where this comes from", 12, "bold"), ("", 4, "")]
    lines += [
        *_wrap(f"Command: {about.command}", 8, "normal"),
        (f"Version: entlaw {about.version}", 8, "normal"),
    ]
    for e, o in zip(rows, about.origins, strict=False):
        size = f"{o.size:,} bytes" if o.size is not None else "not a file"
        lines += [*_wrap(f"{e.label}: {o.path}, {size}", 7, "normal")]
        if o.sha256:
            lines.append((f"SHA-256 {o.sha256}", 6, "mono"))
    return lines


def _run_page(figure: type[Figure], e: Examined, result: Result) -> Figure:
    """One run: verdict, plots, findings."""
    page = figure(figsize=_PAGE)
    lead, pairs = describe_row(e)
    lines: list[Line] = [*_wrap(e.label, 12, "bold"), *_wrap(lead, 9, "bold"), ("", 2, "")]
    for d in _join(pairs):
        lines += _wrap("• " + d, 7.5, "normal", "  ")
    height = _draw(page, lines, _TOP)
    found = list_findings(result)
    below: list[Line] = [("Findings", 9, "bold"), ("", 2, "")] if found else []
    for f in found:
        below += _wrap(f"• {f.severity}: {sentence(f.what)} {sentence(f.why)}", 7.5, "normal", "  ")
    room = sum(size for _, size, _ in below) * 1.4 * _POINT
    # A run with many findings keeps its plot; the HTML page has all.
    bottom = min(_BOTTOM + room + 0.01, 0.40)
    left, right = 0.14, 0.86
    # The room between the texts.
    page.set_layout_engine("constrained", rect=(left, bottom, right - left, height - 0.01 - bottom))
    draw_all(page, result)
    kept, used = [], 0.0
    for line in below:
        used += line[1] * 1.4 * _POINT
        if used > bottom - _BOTTOM:
            break
        kept.append(line)
    _draw(page, kept, bottom - 0.005)
    return page


def _join(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Pairs of a label and a text as lines; a pair without a label continues the one before it."""
    lines: list[str] = []
    for label, said in pairs:
        if label or not lines:
            lines.append(f"{label}: {said}")
        else:
            lines[-1] += f"; {said}"
    return lines


def _text_page(figure: type[Figure], lines: Sequence[Line]) -> Figure:
    page = figure(figsize=_PAGE)
    _draw(page, lines, _TOP)
    return page


def _draw(page: Figure, lines: Sequence[Line], top: float) -> float:
    """Write lines from ``top`` downwards; returns where they end."""
    for text, size, kind in lines:
        top -= size * 1.4 * _POINT
        if text:
            written = page.text(_LEFT, top, text, fontsize=size, va="bottom", parse_math=False)
            written.set_fontweight("bold" if kind.endswith("bold") else "normal")
            if kind.startswith("mono"):
                written.set_fontfamily("monospace")
            written.set_in_layout(False)
    return top


def _paged(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines in pages' worth."""
    page: list[Line] = []
    height = _TOP
    for line in lines:
        step = line[1] * 1.4 * _POINT
        if height - step < _BOTTOM:
            yield page
            page, height = [], _TOP
        page.append(line)
        height -= step
    if any(text for text, *_ in page):
        yield page


def _wrap(text: str, size: float, kind: str, indent: str = "") -> list[Line]:
    """Text broken to the page's width; a letter is about half its size wide, a bold one a little more."""
    wide = (1 - 2 * _LEFT) * _PAGE[0] * 72 / (size * (0.57 if kind == "bold" else 0.52))
    parts = textwrap.wrap(_one_line(text), int(wide), subsequent_indent=indent) or [""]
    return [(p, size, kind) for p in parts]


def _one_line(text: str) -> str:
    """Text without what a page cannot hold: line ends, control characters, lone surrogates."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _short(text: str) -> str:
    half = (_NAME - 1) // 2
    return text if len(text) <= _NAME else f"{text[:half]}…{text[-half:]}"
