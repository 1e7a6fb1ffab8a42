"""Lines of a console by their form, the text without its numbers: which are made of two records, or end early.

Most records of a run have one form. A process that writes into the line of another makes one of the beginning of a
form and a whole form; one that was killed leaves the beginning of a form.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(
    r"(?:(?<![\w.)\]])[-+])?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|(?<!\w)[-+]?(?:nan|inf)(?!\w)", re.IGNORECASE
)
_BLANKS = re.compile(r"\s+")
# What the beginning of a number leaves where the form has a whole one.
_HALF_A_NUMBER = re.compile(r"(?:(?<=#)[eE][-+]?|(?<!\w)[-+])\Z")
_STEPS = re.compile(
    r"(?:step|iteration|iter|update|rollout)s?\s*[#:=]?\s*[\[(]?\s*#|#\s*/\s*#", re.IGNORECASE
)
_MOST = 2048  # forms; a trainer has few
_MOST_COMMON = 16
_FEWEST = 3  # lines of a form that says what is common
_RARE = 6  # times rarer than the form that it is measured by


class Forms:
    """The forms of the lines of a log, and how many lines have each."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._count: list[int] = []

    def add(self, text: str, counts: bool) -> int:
        """Take a line; the number of its form, -1 where there are too many.

        A line that does not count, being cut or no record, says nothing of what is common.
        """
        form = _BLANKS.sub(" ", _NUMBER.sub("#", text)).strip()
        number = self._number.get(form, -1)
        if number < 0:
            if len(self._number) >= (_MOST if counts else _MOST // 2):
                return -1
            number = self._number[form] = len(self._count)
            self._count.append(0)
        self._count[number] += counts
        return number

    def judged(self, used: set[int]) -> tuple[set[int], set[int]]:
        """The forms made of two records, and those that end before others do, measured by common ones of ``used``."""
        by_count = sorted(
            (form for form, number in self._number.items() if number in used),
            key=lambda form: -self._count[self._number[form]],
        )
        common = [form for form in by_count if self._count[self._number[form]] >= _FEWEST][:_MOST_COMMON]
        torn: set[int] = set()
        short: set[int] = set()
        for form, number in self._number.items():
            n = self._count[number]
            more = [c for c in common if self._count[self._number[c]] > n]
            usual = [c for c in common if self._count[self._number[c]] >= _RARE * max(n, 1)]
            if any(_holds(form, c, common) for c in more) or _has_two_steps(form, usual):
                torn.add(number)
            elif any(c.startswith(form) for c in usual):
                short.add(number)
        return torn, short


def _holds(form: str, other: str, common: list[str]) -> bool:
    """Whether a form is the beginning of a common one, a whole other one and perhaps more."""
    at = form.find(other, 1)
    while at > 0:
        before = _HALF_A_NUMBER.sub("", form[:at])
        if any(c.startswith((before, before.rstrip())) for c in common):
            return True
        at = form.find(other, at + 1)
    return False


def _has_two_steps(form: str, usual: list[str]) -> bool:
    """Whether a form begins like a usual one with its step, and names more steps than that one."""
    n = len(_STEPS.findall(form))
    for other in usual:
        first = _STEPS.search(other)
        if first is None or n <= len(_STEPS.findall(other)) or not form.startswith(other[: first.end()]):
            continue
        # A whole record with something said behind it is one record.
        if not (form.startswith(other) and form[len(other)] in " ,;|)"):
            return True
    return False
