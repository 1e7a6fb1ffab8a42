"""Logs that continue each other: restarts of a scheduler's jobs, rotated logs, a run resumed into a new file.

They are put together where it is safe to know: names that differ by a counter or a time only, one configuration as far
as it is logged, the same keys, and steps that go on where those before ended, less what a resume repeats. A run is
resumed from its last checkpoint, so that less than half of its steps are repeated. Which pass is the later one is told
by the steps and by the number or time in the name, which must agree; the time of a file on disk says nothing, since
copies lose it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from entlaw.findings import Finding
from entlaw.runs.run import RawRun
from entlaw.runs.trace import Trace, goes_on

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = re.compile(rf"(?<![a-z])({'|'.join(_MONTHS)})(?=[\d_-])")
_ROTATED = re.compile(r"(?P<base>.+\.[a-z]+)[.-](?P<n>\d[\d_-]*)(\.(gz|bz2|xz|zst))?")
_COUNTER = re.compile(
    r"(?:[-_. (#]+(?:resumed?|restart(?:ed)?|cont(?:inued?)?|part|retry|again|attempt))?[-_. (#]*\d+\)?"
)
_AGAIN = re.compile(r"[-_. ]+(?:resumed?|restart(?:ed)?|cont(?:inued?)?|retry|again)(?![a-z])")
# Numbers that tell runs, writers or models apart.
_NOT_COUNTERS = re.compile(
    r"(?:seeds?|rank|node|worker|host|gpu|replica|lr|beta|kl|temp\w*|size|fold|bs|batch|gamma|alpha|coef\w*|eps\w*|"
    r"clip\w*|ent\w*)[-_.=]*\d[\d.e-]*|(?<![a-z])[sn]\d+(?![a-z\d])|\d+(?:\.\d+)?[bm](?![a-z])"
)
_OF_THE_START = re.compile(
    r"resum|restor|load|ckpt|checkpoint|path|dir|file|time|date|port|host|addr|name|(^|[._/])id$|_id$|url|hash|version|"
    r"log|save|steps|epochs|node|gpu|device|world|rank|output|command|argv|debug",
    re.I,
)
_LONG_AGO = 1e15  # more than a date and time as digits
_REPEATED = 0.5  # of the steps before, at most: a checkpoint every c steps, and a crash before the next one
_SHARED_KEYS = 0.8
_MOST_TRIED = 64


@dataclass(frozen=True, eq=False)
class Chain:
    """A log that may continue another, or be continued."""

    path: Path
    raw: RawRun
    trace: Trace

    @cached_property
    def name(self) -> tuple[str, tuple[str, ...]]:
        """The path without its counters, and the numbers in it that are none: equal for files that are counted."""
        text = self._text()
        fixed = tuple(_NOT_COUNTERS.findall(text))
        rotated = _ROTATED.fullmatch(text)
        text = rotated["base"] if rotated else text.removesuffix(".gz")
        text = _NOT_COUNTERS.sub("", text)
        return _AGAIN.sub("", _COUNTER.sub("", _MONTH.sub("0", text))), fixed

    @cached_property
    def turn(self) -> tuple[float, ...]:
        """What orders files of one name: the numbers in it. A rotated log comes before the one still written."""
        text = self._text()
        rotated = _ROTATED.fullmatch(text)
        if rotated is None:
            return (*_numbers(text), 1.0 if _AGAIN.search(text) else 0.0)
        digits = re.sub(r"\D", "", rotated["n"])
        age = (
            _LONG_AGO - float(digits) if len(digits) >= 6 else float(digits)
        )  # a date, or the older the higher
        return (*_numbers(rotated["base"]), -age)

    def _text(self) -> str:
        return self.path.absolute().as_posix().lower()

    @property
    def telling(self) -> bool:
        """Whether there is a real step and enough on it."""
        return self.trace.axis is not None and len(self.trace.step) >= 2 and len(self.trace.names) > 0


def _numbers(text: str) -> tuple[float, ...]:
    text = _MONTH.sub(lambda m: f"{_MONTHS.index(m[1]) + 1:02d}", text)
    return tuple(float(n) for n in re.findall(r"\d+", text))


@dataclass(eq=False)
class _Open:
    """A chain so far."""

    members: list[int]
    first: float
    last: float
    every: float

    def takes(self, trace: Trace, before: Trace) -> bool:
        """Whether a log goes on from here."""
        least = self.first + (1 - _REPEATED) * (self.last - self.first)
        later = trace.first > before.first or (trace.first == before.first and trace.last > self.last)
        return later and least < trace.first - self.every and trace.first <= self.last + 2 * self.every


def chains(
    parts: Sequence[Chain], likely: Sequence[Sequence[int]]
) -> tuple[list[list[int]], dict[int, Finding]]:
    """Which logs continue which.

    Parameters
    ----------
    parts : sequence of Chain
    likely : sequence of sequence of int
        Of each part the others that share values with it.

    Returns
    -------
    found : list of list of int
        Positions of the parts of each run in order.
    hints : dict
        Of a part that may continue another, but is not known to: a finding that says so.
    """
    following = _by_value(parts, likely)
    found: list[list[int]] = []
    named: dict[Hashable, list[int]] = {}
    for i, part in enumerate(parts):
        if part.telling:
            named.setdefault((part.name, part.trace.axis), []).append(i)
    unsure: dict[int, int] = {}
    for members in named.values():
        if len(members) > 1:
            in_turn = sorted(members, key=lambda i: parts[i].turn)
            chained, open_questions = _chained(parts, in_turn, following)
            found += chained
            unsure.update(open_questions)
    taken = {i for members in found for i in members}
    found += _linked({i: j for i, j in following.items() if i not in taken and j not in taken})
    taken = {i for members in found for i in members}
    return found, _hints(parts, taken, unsure)


def _by_value(parts: Sequence[Chain], likely: Sequence[Sequence[int]]) -> dict[int, int]:
    """Of each log the one that repeats its last steps with equal values and goes on, whatever its name."""
    following: dict[int, int] = {}
    preceded: set[int] = set()
    for i in sorted((i for i, part in enumerate(parts) if part.telling), key=lambda i: parts[i].trace.first):
        after = [j for j in likely[i] if parts[j].telling and goes_on(parts[i].trace, parts[j].trace)]
        if after:
            nearest = min(after, key=lambda j: parts[j].trace.first)
            if nearest not in preceded and len({parts[j].trace.first for j in after}) == len(after):
                following[i] = nearest
                preceded.add(nearest)
    return following


def _linked(following: dict[int, int]) -> list[list[int]]:
    """Chains of links."""
    found = []
    for i in following.keys() - set(following.values()):
        chain = [i]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        found.append(chain)
    return sorted(found)


def _chained(
    parts: Sequence[Chain], members: list[int], following: dict[int, int]
) -> tuple[list[list[int]], dict[int, int]]:
    """Chains among files of one name in their order; those that two chains could go on with stay apart."""
    chains: list[_Open] = []
    unsure: dict[int, int] = {}
    for i in members:
        trace = parts[i].trace
        tried = chains[-_MOST_TRIED:]
        fitting = [c for c in tried if following.get(c.members[-1]) == i] or [
            c
            for c in tried
            if c.takes(trace, parts[c.members[-1]].trace) and _alike(parts[c.members[-1]], parts[i])
        ]
        if len(fitting) == 1:
            chain = fitting[0]
            chain.members.append(i)
            chain.last = max(chain.last, trace.last)
        else:
            if fitting:
                unsure[i] = fitting[-1].members[-1]
            chains.append(_Open([i], trace.first, trace.last, _interval(trace)))
    return [c.members for c in chains if len(c.members) > 1], unsure


def _interval(trace: Trace) -> float:
    return float(np.median(np.diff(trace.step)))


def _alike(a: Chain, b: Chain) -> bool:
    """The same keys, and one configuration as far as it is known."""
    mine, theirs = set(a.trace.names), set(b.trace.names)
    if len(mine & theirs) < _SHARED_KEYS * min(len(mine), len(theirs)):
        return False
    shared = a.raw.config.keys() & b.raw.config.keys()
    return not any(a.raw.config[k] != b.raw.config[k] for k in shared if not _OF_THE_START.search(k))


def _hints(parts: Sequence[Chain], taken: set[int], unsure: dict[int, int]) -> dict[int, Finding]:
    """Logs that start where another ends, whatever their names."""
    alike: dict[Hashable, list[int]] = {}
    for i, part in enumerate(parts):
        if part.telling and i not in taken:
            alike.setdefault((part.trace.axis, part.trace.names[0]), []).append(i)
    before = dict(unsure)
    for members in alike.values():
        start = min(parts[i].trace.first for i in members)
        heads = [i for i in members if parts[i].trace.first == start][:_MOST_TRIED]
        for i in members:
            late = parts[i].trace
            if i in before or late.first == start:
                continue
            for j in heads:
                head = parts[j].trace
                open_end = _Open([j], head.first, head.last, _interval(head))
                if open_end.takes(late, head) and late.last > head.last and _alike(parts[j], parts[i]):
                    before[i] = j
                    break
    return {i: _may_continue(parts[j], parts[i]) for i, j in before.items()}


def _may_continue(head: Chain, tail: Chain) -> Finding:
    return Finding(
        "may-continue",
        "warning",
        f"{tail.path.name} starts at step {tail.trace.first:g} and {head.path.name} ends at step "
        f"{head.trace.last:g}: they may be one resumed run",
        "they log the same keys, but their names do not tell that one continues the other",
        f"--join reads {head.path.name} and {tail.path.name} as one run; of steps in both the later pass counts",
    )
