"""Text of the page: what comes from a log, made harmless, and what ships with the package.

`clean`, `text` and `name` are the one door through which anything of a log enters the page. The words of the method
section are in ``page/*.html``; here is chosen which of them apply.
"""

from __future__ import annotations

import re
from html import escape, unescape
from importlib import resources
from string import Template

from entlaw.report.html_entry import Settings

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
        f"The size of the test was given ({s.problems} problems, {s.samples or 1} answers each), so the binomial part "
        "of the noise is known."
        if s.problems is not None
        else "Where a run’s log tells the size of its test, the binomial part of the noise is taken as known."
    )
    level = f"{100 * s.level:.3g} %"
    fit = Template(resource(f"fit-{s.method}.html")).substitute(
        {"level": level, "known": known} if s.method == "careful" else {"level": level}
    )
    return Template(resource("methods.html")).substitute(
        window="all points" if s.until_step is None else f"the points up to step {s.until_step:g}",
        level=level, fit=fit, more=resource("references-careful.html") if s.method == "careful" else "",
    )  # fmt: skip


def plain_methods(s: Settings) -> list[str]:
    """The same as paragraphs of plain text, for paper."""
    texts = re.findall(r"<(?:p|li|h3)[^>]*>(.*?)</(?:p|li|h3)>", methods(s), flags=re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", t)) for t in texts]
