r"""Where the final answer of a response is, and one spelling for each answer. Text in, text out.

An answer is looked for in the last ``\boxed{}``; where a task allows it also after ``####``, after "the answer is", and
at last in the last number. Everything here takes time linear in the text: responses come from an untrusted model.
"""

from __future__ import annotations

import re
from typing import Literal

Where = Literal["boxed", "any"]

_TOKEN = re.compile(
    r"(\\(?:boxed|fbox)\s{0,9}\{)|\\(?:boxed|fbox)\s{0,9}(\d+|[A-Za-z]\b)|\\.|[{}]", re.DOTALL
)
# Between boxes that together are one answer: "\boxed{1}$ and $\boxed{3}".
_JOIN = re.compile(r"[\s$,;]*(?:and|or|\\text\s*\{\s*(?:and|or)\s*\})?[\s$,;]*", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_SAID = re.compile(r"\banswer\s*(?:is|are|:|=)\s*:?[ \t]*(?:\*\*)?[ \t]*([^\n]{1,300})", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?|-?\.\d+%?")
LONGEST = 2000
"""Characters; no reference answer is nearly as long, and a longer one is not looked at."""


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""All complete ``\boxed{...}`` (also ``\boxed 5``): start, end, content; a box within a box is not listed.

    ``\{`` and ``\}`` are no braces; a box that never closes hides none behind it.
    """
    found: list[tuple[int, int, str]] = []
    opened: list[int] = []  # where a box begins, or -1 for any other brace
    for token in _TOKEN.finditer(text):
        if token.group() == "}":
            start = opened.pop() if opened else -1
            if start >= 0:
                inside = text.index("{", start) + 1
                while found and found[-1][0] > start:
                    found.pop()
                found.append((start, token.end(), text[inside : token.start()].strip()))
        elif token.group().endswith("{") and token.group() != "\\{":
            opened.append(token.start() if token.group(1) else -1)
        elif token.group(2):
            found.append((token.start(), token.end(), token.group(2)))
    return found


def last_box(text: str) -> str | None:
    r"""What the last ``\boxed{}`` holds; boxes next to each other (``\boxed{1}, \boxed{3}``) are one list."""
    found = boxes(text)
    if not found:
        return None
    start, _, content = found.pop()
    while found:
        before = found.pop()
        if start - before[1] > 30 or not _JOIN.fullmatch(text, before[1], start):
            break
        start, content = before[0], f"{before[2]}, {content}"
    return content or None


def last_hashes(text: str) -> str | None:
    """What follows the last ``####`` on its line, as GSM8K marks answers."""
    found = _HASHES.findall(text)
    return found[-1].strip() or None if found else None


def last_number(text: str) -> str | None:
    """The last number in a text, with its sign, thousands separators, simple denominator and percent sign."""
    found = None
    for match in _NUMBER.finditer(text):
        found = match
    if found is None:
        return None
    number = found.group()
    # The hyphen of "10-3" or "A-3" joins, it is no sign.
    joined = number.startswith("-") and found.start() > 0 and text[found.start() - 1].isalnum()
    return number[1:] if joined else number


def final_answer(response: str, where: Where = "any") -> str | None:
    """The answer that a response ends on.

    Parameters
    ----------
    where : {"boxed", "any"}
        boxed: the last box alone, as the paper's recipes ask for it. any: else after ``####``, else after "the answer
        is", else the last number.

    Returns
    -------
    str or None
        None if there is none, or it is longer than :data:`LONGEST`.
    """
    answer = last_box(response)
    if answer is None and where == "any":
        answer = last_hashes(response) or _last_stated_answer(response) or last_number(response)
    return answer if answer is None or len(answer) <= LONGEST else None


def _last_stated_answer(response: str) -> str | None:
    """What follows the last "the answer is": its LaTeX, or its number, or its word."""
    found = _SAID.findall(response)
    if not found:
        return None
    said = found[-1].strip()
    formula = re.match(r"\$+([^$]+)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]", said)
    if formula:
        return next(g for g in formula.groups() if g is not None).strip()
    said = re.split(r"\.(?:\s|$)|\*\*", said)[0].strip()
    words = said.split()
    if len(words) <= 2 or "\\" in said:
        return said or None
    return last_number(said) or said


# One spelling ------------------------------------------------------------------------------------

_SPACING = re.compile(
    r"(?<!\\)\\(?:[,;:! ]|quad\b|qquad\b|displaystyle\b|limits\b|left\b\.?|right\b\.?|[bB]igg?[lr]?\b)|~"
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|operatorname|mbox|hbox)\s*\{([^{}]*)\}"
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree\b")
_PREFIX = re.compile(r"^\s*([A-Za-z]\w*(?:_\{?\w+\}?)?(?:\([A-Za-z]\w*\))?)\s*=(?!=)")


def plain(text: str) -> str:
    r"""A formula without what only sets type: ``$``, ``\left``, ``\,``, ``\dfrac``, ``\text``, a final full stop."""
    text = text.strip().replace("−", "-").replace("\\$", "").replace("$", " ").replace("\u00a0", " ")
    text = (
        re.sub(r"\\\(|\\\)|\\\[(?![^\[\]]*\\\\)|\\\](?!\w)", " ", text)
        if "\\(" in text or "\\[" in text
        else text
    )
    text = _SPACING.sub(" ", text)
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\frac\s*(\\[a-z]+)\s*", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*(\d|[A-Za-z]\b|\\[a-z]+)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\d|[A-Za-z]|\\pi\b)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(?:le|leqslant)\b(?!q)", r"\\leq", text)
    text = re.sub(r"\\(?:ge|geqslant)\b(?!q)", r"\\geq", text)
    text = re.sub(r"\\(?:lbrace|rbrace)\b", lambda m: "\\{" if "l" in m.group()[:2] else "\\}", text)
    text = _DEGREES.sub(r"\\degree ", text).replace("\\%", "%")
    return re.sub(r"\s+", " ", text).strip().rstrip(".").strip()


def without_text(text: str) -> str:
    r"""``\text{...}`` and its relatives replaced by what they hold."""
    return _TEXT.sub(r" \1 ", text)


def without_prefix(text: str) -> tuple[str, str]:
    """``x = 5`` as ("x", "5"); ("", text) where there is no single name before a single equals sign."""
    match = _PREFIX.match(text)
    if match is None or "=" in text[match.end() :]:
        return "", text
    return re.sub(r"\s|[{}]", "", match.group(1)), text[match.end() :].strip()


def canonical(text: str) -> str:
    """The spelling under which two answers are the same text: no spaces, words in lower case, no degree sign."""
    bare = without_text(plain(text)).replace("\\degree", "")
    bare = re.sub(r"\s+", "", bare)
    if re.fullmatch(r"\(?[A-Za-z]\)?", bare):
        return bare.strip("()").upper()
    return bare.lower() if re.fullmatch(r"[A-Za-z]{2,}", bare) else bare


# Format ------------------------------------------------------------------------------------------


def one_box(response: str) -> float:
    r"""1 if the response holds exactly one complete, non-empty ``\boxed{}``, else 0."""
    found = boxes(response)
    return float(len(found) == 1 and bool(found[0][2]))


def box_last(response: str) -> float:
    r"""1 if at most 100 characters follow the last complete ``\boxed{}``, else 0: the answer ends the response."""
    found = boxes(response)
    return float(bool(found) and bool(found[-1][2]) and len(response) - found[-1][1] <= 100)


def thought(response: str) -> float:
    """1 if the response is one ``<think>...</think>`` followed by an answer outside of it, else 0."""
    opened, closed = response.count("<think>"), response.count("</think>")
    head, _, tail = response.partition("</think>")
    return float(opened == closed == 1 and head.lstrip().startswith("<think>") and bool(tail.strip()))


FORMATS = {"one-box": one_box, "box-last": box_last, "thought": thought}
"""Format rewards by name, each a response's in [0, 1]."""
