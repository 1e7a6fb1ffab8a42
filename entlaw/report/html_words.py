"""Words of a report that are not about one run alone: what all runs together show, and how it was done.

What is said of one run is :mod:`entlaw.law.summary`'s. `clean`, `text` and `name` are the one door through which
anything of a log enters the page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape, unescape
from importlib import resources
from string import Template

from entlaw.law.ahead import LIKELY, MEANINGFUL_GAIN, ForecastVerdict
from entlaw.law.examined import Examined, RowVerdict
from entlaw.law.result import Result
from entlaw.law.settings import Settings
from entlaw.law.shapes import LATE
from entlaw.law.summary import describe_window, headline, list_rows

VERDICTS: tuple[RowVerdict, ...] = ("ok", "caution", "passed", "refused", "unreadable")
_COUNTED: dict[ForecastVerdict, str] = {
    "improving": f"likely to gain more than {100 * MEANINGFUL_GAIN:g} point",
    "plateau": "unlikely to",
    "uncertain": "uncertain",
    "refused": "refused",
}
_LEADS = {
    "planned-end": "By the planned end",
    "last-score": "By the last score",
    "as-long-again": "After as long again",
}
# Below this a sign test is called evidence; it takes the runs to be independent, which seeds of one family are not.
SURE = 0.05
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(value: str) -> str:
    """Text without control characters and lone surrogates, a replacement character for each."""
    return _CONTROL.sub("\ufffd", value)


def text(value: str) -> str:
    """Text of any origin as HTML text or attribute."""
    return escape(clean(value), quote=True)


def name(value: str) -> str:
    """A name from a log: escaped, and set apart so that its writing direction touches nothing else."""
    return f"<bdi>{text(value)}</bdi>"


def resource(file: str) -> str:
    """Text of a file that ships with the package in ``entlaw/report/page``."""
    return (resources.files("entlaw.report") / "page" / file).read_text(encoding="utf-8").strip()


def sentence(text: str) -> str:
    """A finding's fragment as a sentence of its own."""
    text = text.strip()
    if not text:
        return ""
    first, _, rest = text.partition(" ")
    # A key ("trainer.lr") and a symbol ("a = 0.1") keep their spelling.
    if first.rstrip(",;:").isalpha() and not rest.startswith("="):
        text = text[0].upper() + text[1:]
    return text + ("" if text[-1] in ".!?" else ".")


def describe_row(e: Examined) -> tuple[str, list[tuple[str, str]]]:
    """The headline of one run, and pairs of a label and a text below it."""
    if e.result is not None:
        return headline(e.result), list_rows(e.result)
    if e.error is None:
        return "This log cannot be read.", []
    said = [("why", e.error.why), ("next", e.error.hint)]
    return f"This log cannot be read: {sentence(e.error.what)}", [(label, t) for label, t in said if t]


def describe_all(rows: Sequence[Examined]) -> tuple[str, list[str]]:
    """What all runs together show: a headline, and further sentences, most important first."""
    results = [e.result for e in rows if e.result is not None]
    answered = [r for r in results if r.law is not None]
    said = (_describe_passed(answered), _describe_held_out(answered), _describe_covered(results))
    lead = f"A ceiling is given for {len(answered)} of {len(rows)} run{'s' if len(rows) > 1 else ''}"
    return f"{lead}: {_count(rows)}.", [*filter(None, said), *_list_ahead(results)]


def _count(rows: Sequence[Examined]) -> str:
    counts = [(verdict, sum(e.verdict == verdict for e in rows)) for verdict in VERDICTS]
    return ", ".join(f"{n} {verdict}" for verdict, n in counts if n)


def _describe_passed(answered: Sequence[Result]) -> str:
    """How many runs are above what the law allowed them."""
    later = [r for r in answered if r.held_out is not None]
    above = sum(r.passed for r in later)
    if not later:
        return ""
    said = f"{above} of {len(later)} runs with later points passed their ceiling by more than noise"
    return said + (": do not quote the ceilings of this set." if 2 * above > len(later) else ".")


def _describe_held_out(answered: Sequence[Result]) -> str:
    """The law against the baseline "no change", by a sign test."""
    scored = [r.held_out for r in answered if r.held_out is not None]
    scored = [h for h in scored if h.rmse != h.rmse_baseline]
    if not scored:
        return ""
    wins, n = sum(h.rmse < h.rmse_baseline for h in scored), len(scored)
    p = sign_test(wins, n)
    which = "the baseline is better" if 2 * wins < n else "the law is better"
    verdict = "no clear difference" if p >= SURE else f"{which}, as far as the runs are independent"
    shown = f"{p:.2f}" if p >= 0.005 else f"{p:.1g}"
    return (
        f'Held out: given the entropy that was reached, the law has a smaller RMSE than the baseline "no change" on '
        f"{wins} of {n} runs (sign test p = {shown}): {verdict}."
    )


def _describe_covered(results: Sequence[Result]) -> str:
    """How many early forecasts covered the last score."""
    known = [(r.early, r.covered) for r in results if r.early is not None]
    if not known:
        return ""
    early = known[0][0]
    return (
        f"Predicted from {describe_window(early.until_step)} (model {early.model}), the last score is covered by its "
        f"{early.level:.0%} interval in {sum(bool(covered) for _, covered in known)} of {len(known)} runs."
    )


def _list_ahead(results: Sequence[Result]) -> list[str]:
    """What is predicted of all runs, counted, one sentence a horizon."""
    kinds: dict[str, list[ForecastVerdict]] = {}
    for r in results:
        if (gain := r.forecast.gain) is not None:
            lead = "If training continued as long again" if gain.if_continued else _LEADS[gain.until]
            kinds.setdefault(lead, []).append(r.forecast.verdict)
    said = [
        f"{lead}: {', '.join(f'{v.count(k)} {words}' for k, words in _COUNTED.items() if k in v)}."
        for lead, v in kinds.items()
    ]
    without = sum(r.forecast.gain is None for r in results)
    return [*said, f"No forecast: {without} run{'s' if without > 1 else ''}."] if without else said


def sign_test(wins: int, n: int) -> float:
    """Two-sided exact p of ``wins`` of ``n`` under even odds.

    Parameters
    ----------
    wins, n : int

    Returns
    -------
    float
    """
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(max(wins, n - wins), n + 1))
    return min(1.0, 2.0 * tail / 2**n)


def methods(s: Settings) -> str:
    """What was fitted, which intervals these are and what they assume, as HTML.

    Parameters
    ----------
    s : Settings
        What was asked for: the text says only what applies.

    Returns
    -------
    str
    """
    known = (
        f"The size of the test was given ({s.problems:g} problems, {s.samples or 1:g} answers each), so the binomial "
        "part of the noise is known."
        if s.problems is not None
        else "Where a run’s log tells the size of its test, the binomial part of the noise is taken as known."
    )
    values = {"level": f"{100 * s.level:.3g} %", "known": known}
    return Template(resource("methods.html")).substitute(
        values,
        window=describe_window(s.law_until),
        late=str(LATE),
        points=f"{100 * MEANINGFUL_GAIN:g}",
        likely=f"{LIKELY:.0%}",
        unlikely=f"{1 - LIKELY:.0%}",
        seen="all that was logged" if s.forecast_until is None else describe_window(s.forecast_until),
        fit=Template(resource(f"fit-{s.method}.html")).substitute(values),
        more=resource("references-careful.html") if s.method == "careful" else "",
    )


def plain_methods(s: Settings) -> list[str]:
    """The same as paragraphs of plain text, for paper."""
    texts = re.findall(r"<(?:p|li|h3)[^>]*>(.*?)</(?:p|li|h3)>", methods(s), flags=re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", t)) for t in texts]
