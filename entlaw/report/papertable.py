"""The table of runs for a paper: LaTeX (booktabs) or Markdown, from the same cells as the page's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from entlaw.report.html_entry import Entry
from entlaw.report.html_words import number

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # a row that begins with one would be an argument of the \\ before it
}  # fmt: skip
# All that Markdown and the HTML within it give a meaning inside a cell; a backslash takes it away.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$:@])")


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is, in any of its engines.

    Hyphens are kept apart, so that ``--`` does not become a dash. What pdfTeX has no letter for is written as its code
    point, ``[U+1F600]``, rather than dropped.
    """
    out = []
    for c in _clean(text):
        if c in _LATEX:
            out.append(_LATEX[c])
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
    if not e.answered or e.fit is None:
        return ("–",) * 6 + (last, "–", "–", e.use)
    f, c, h = e.fit, e.fit.ceiling_interval, e.holdout
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
    for written, math in (
        ("R = b - a exp(H)", r"$R = b - a \exp(H)$"), (", b - a,", ", $b - a$,"), (r"R\textasciicircum{}2", "$R^2$"),
        ("R at H = 0", "$R$ at $H = 0$"),
    ):  # fmt: skip
        plain = plain.replace(written, math)
    return plain
