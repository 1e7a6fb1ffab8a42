"""Any console that prints a step and pairs on one line: ``12/40 | entropy=0.41 | acc=15.0%``, ``Step 3 | Reward: 0.2``.

Answers of a model hold such lines too, so a line counts only in company: lines with the same keys, at least three of
them, and in its place: its step is one of those that the main group has reached there.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.cuts import LineEnds
from entlaw.runs.parsing.forms import Forms
from entlaw.runs.parsing.physical import displayed, plain, unlabelled
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.records import METRIC_NAME, prefixed
from entlaw.runs.parsing.torn import are_whole, broken_records
from entlaw.runs.source import ReadOptions

_LONGEST = 1 << 13  # bytes; a longer line is an answer
_COMPANY = 3
_IN_PLACE = 0.9  # of a group's lines stand where the steps of the main group say
_MOST_GROUPS = 256
_MOST_WAITING = 4096
# Not `0.`: that is the beginning of a number.
_NUMBER = r"[-+]?(?:(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)"
_END = r"(?=%?(?:$|[\s,;|)\]/}]))"
_NAME = r"[A-Za-z_][\w./@\-]*(?:\([\w@%/]+\))?"
_BEFORE = r"(?<![\w./@\-])"
# What a segment may hold: words with one number; pairs side by side; a metric and its number.
_WHOLE = re.compile(
    rf"(?P<key>[A-Za-z_][\w./@\-]*(?: [\w./@()\-]+){{1,3}})\s*[:=]\s*(?P<number>{_NUMBER})%?", re.IGNORECASE
)
_PAIR = re.compile(rf"{_BEFORE}(?P<key>{_NAME})\s*[=:]\s*(?P<number>{_NUMBER}){_END}", re.IGNORECASE)
_WORD_PAIR = re.compile(
    rf"{_BEFORE}(?P<key>[\w/.]*(?:entropy|reward|loss|accuracy|acc|score))\s+(?P<number>{_NUMBER}){_END}",
    re.IGNORECASE,
)
_APART = re.compile(r"[|,;\t\]]\s*|\s[-–—•·]\s|\s{2,}")
# Whether a line may hold a metric and its number at all: most lines of prose stop here.
_HINT = re.compile(
    rb"(?:ntropy|NTROPY|ent|eward|EWARD|acc|Acc|ACC|core|CORE|ass@\d+)[\w./@)-]*\s*[=:]?\s*[-+.\d]"
)
_COVERED = 0.35  # of a line of metrics are pairs; an answer is prose around a few
_STEP = re.compile(
    r"(?<![\w/.])(?:(?:global|train|training|rl|grpo|ppo)[ _])?(?P<word>step|iteration|iter|update|rollout|epoch)s?\b"
    r"\s*[#:=]?\s*[\[(]?\s*(?P<n>\d{1,12})(?![\w.])",
    re.IGNORECASE,
)
_OF_TOTAL = re.compile(r"(?<![\w./\-])(\d{1,12})\s*/\s*(\d{1,12})(?![\w./\-])")
_NAMES_STEP = re.compile(
    r"(?:step|iteration|iter|update|rollout)s?\s*[#:=]?\s*[\[(]?\s*\d|\d/\d", re.IGNORECASE
)
_LONGEST_HEADING = 200
# Aligned columns have blanks in front of a colon or behind it, which separate nothing.
_ALIGNED = re.compile(r"(?<=[\w)\]])[ \t]*([:=])[ \t]*(?=[-+]?[.\d]|nan|inf)", re.IGNORECASE)
# A line that was cut inside a pair: behind its colon, or inside a number.
_INSIDE_PAIR = re.compile(r"[\w)\]]\s*[:=]\s*(?:[-+]|[-+]?\d+\.|[-+]?[\d.]+[eE][-+]?)?\s*\Z")
_BULLETS = " \t\r•*–—-│├└─>=#"
_ONE_PAIR = re.compile(
    rf"[A-Za-z_][\w ./@()\-]{{0,60}}?\s*[:=]\s*{_NUMBER}\s*(?:%|[A-Za-z/]{{1,12}})?(?:\s*\([^()]*\))?",
    re.IGNORECASE,
)
_STAMP = re.compile(r"\W{0,3}\d{4}-\d\d-\d\d[ T][\d:.,]+\S*\s*")
_LEVEL = re.compile(r"(?:(?:INFO|DEBUG|WARNING|WARN|ERROR|SUCCESS|TRACE)\b[ :\]-]*)+", re.IGNORECASE)
_EVAL = re.compile(r"(?<![\w/])(?:eval|evaluation|val|valid|validation|test)\b", re.IGNORECASE)
_SCORES = (b"acc", b"Acc", b"eward", b"core", b"pass@", b"Pass@", b"ass rate")


class _End(NamedTuple):
    """How a line ends, for :class:`LineEnds`: the key of the number that it ends with, if any."""

    key: str
    n_bytes: int
    n_chars: int
    offset: int
    broken: bool


class _Line(NamedTuple):
    """One record line: its place in the log, the number of its form, its end (None: not known), its numbers."""

    place: int
    form: int
    end: _End | None
    numbers: list[float]


@dataclass
class _Group:
    """Lines with the same keys: how often their step rose above all before it."""

    number: int
    climbs: int = 0
    last: float = math.nan
    _highest: float = -math.inf

    def take(self, step: float) -> None:
        """Take the step of the next line."""
        self.last = step
        if step > self._highest:
            self._highest, self.climbs = step, self.climbs + 1


class KeyValueLines(Lines):
    """Lines with a step and pairs, one of which is a known metric."""

    order = 90
    weight = 0.25  # a trainer's own form is surer
    is_fallback = True
    needles = (b"ntropy", b"NTROPY", b"ent=", b"ent:", *_SCORES, b"tep ", b"tep:", b"teration ")
    example = "`12/40 | entropy=0.41 | acc=0.15` (any console)"
    noun = "lines with a step and pairs"

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        super().__init__(options, track)
        self._known = {key for key in (options.entropy_key, options.on, options.step_key) if key}
        self._waiting: dict[tuple[str, ...], list[_Line]] = {}
        self._groups: dict[tuple[str, ...], _Group] = {}
        # Of each row: its place in the log, its group, its step, its form.
        self._place, self._group, self._step, self._form = array("q"), array("q"), array("d"), array("q")
        self._ends = LineEnds()
        self._forms = Forms()  # of lines that were read
        self._unused = Counter[int]()  # forms of lines that name a step and are no record
        self._last_key: dict[int, str] = {}  # of each row that ends in a number
        self._end_key = ""
        self._broken = 0
        self._seen = self._left_out = 0
        self._has_pairs = False  # behind the heading at hand

    def looks_for(self, block: bytes) -> tuple[bytes, ...]:
        """Nothing where no entropy was printed so far."""
        if self._seen or any(needle in block for needle in self.needles[:4]):
            return self.needles
        return ()

    def begins(self, line: bytes) -> bool:
        """Whether a line names a step, so that pairs on the lines below are its own."""
        if (
            len(line) > _LONGEST_HEADING
            or b"{" in line
            or b"%|" in line
            or b" - " in line
            or _HINT.search(line)
        ):
            return False
        text = plain(line)
        self._has_pairs = b" | " in line
        return bool(_STEP.search(text) or _OF_TOTAL.search(text))

    def glue(self, line: bytes, following: bytes) -> bytes | None:
        """One pair on a line of its own, behind any bullet; also a blank line and a heading in front of the pairs."""
        if len(line) > _LONGEST or len(following) > _LONGEST_HEADING:
            return None
        text = unlabelled(plain(following)).strip(_BULLETS)
        if _STEP.search(text):
            return None
        if _ONE_PAIR.fullmatch(text):
            self._has_pairs = True
            return b" | " + text.encode()
        is_heading = text[-1:] in ("", ":") and not any(c.isdigit() for c in text)
        return b" " if is_heading and not self._has_pairs else None

    def take(self, line: bytes, closed: bool) -> bool:
        """Take the pairs of a line that names its step."""
        if len(line) > _LONGEST or not _HINT.search(line) or b"%|" in line or b"{'" in line or b'{"' in line:
            return False
        text = plain(line)
        record = self._record(text, closed)
        if record is None:
            if closed and _NAMES_STEP.search(text):
                self._unused[self._forms.add(text, False)] += 1
            return False
        self._seen += 1
        keys = tuple(record)
        form = self._forms.add(text, closed)
        taken = _Line(self._seen, form, self._end(line, text) if closed else None, list(record.values()))
        if keys in self._groups:
            self._add(keys, taken)
        else:
            self._wait(keys, taken)
        return True

    def _end(self, line: bytes, text: str) -> _End:
        # Of a line that was put together, the length says nothing.
        as_read = self.last_line == line and displayed(line.rstrip()) <= len(text)
        key = self._end_key if not text[-1:].isspace() else ""  # a blank shows that the number is whole
        broken = not key and _INSIDE_PAIR.search(text) is not None
        last = key.rpartition("/")[2]  # as logged: "eval/" may have been put in front
        offset = max(text.rfind(last), 0) if as_read and (key or broken) else -1
        return _End(key, len(self.last_line), displayed(self.last_line), offset, broken)

    def _record(self, text: str, closed: bool) -> dict[str, float] | None:
        text = _LEVEL.sub("", _STAMP.sub("", unlabelled(text), count=1)).strip()
        text = _ALIGNED.sub(r"\1 ", text)
        pairs = list(_pairs(text))
        first = text.find(pairs[0].group()) if pairs else 0
        covered = sum(len(found.group()) for found in pairs)
        at_end = bool(pairs) and text.endswith(pairs[-1].group()) and text[-1:].isalnum()
        last = pairs[-1]["key"] if at_end else ""
        if not closed and pairs and text.endswith(pairs[-1].group()):
            pairs.pop()  # its number may be half of one
            self.cut = "the value it ends with was left out, since it may be half a number"
        record: dict[str, float] = {}
        for found in pairs:
            record.setdefault(found["key"], float(found["number"]))
        if not self._is_metrics(record):
            return None
        if not any(map(is_axis, record)):
            step = _step(text, first)
            if step is None:
                return None
            covered += step.width
            record = {step.axis: step.value, **{k: v for k, v in record.items() if k.lower() != step.axis}}
        if covered < _COVERED * len(text) or not self._is_metrics(record):
            return None
        kind = _EVAL.search(text[:first])
        named = dict(prefixed(record, kind.group().lower())) if kind else record
        self._end_key = next((new for old, new in zip(record, named, strict=True) if old == last), "")
        return named

    def _is_metrics(self, record: Iterable[str]) -> bool:
        return any(key in self._known or METRIC_NAME.search(key.lower()) for key in record)

    def _wait(self, keys: tuple[str, ...], line: _Line) -> None:
        if len(self._waiting) > _MOST_WAITING:
            self._left_out += len(self._waiting.pop(next(iter(self._waiting))))
        group = self._waiting.setdefault(keys, [])
        group.append(line)
        if len(group) >= _COMPANY and len(self._groups) < _MOST_GROUPS:
            self._keep(keys)

    def _keep(self, keys: tuple[str, ...]) -> None:
        self._groups[keys] = _Group(len(self._groups))
        for line in self._waiting.pop(keys):
            self._add(keys, line)

    def _add(self, keys: tuple[str, ...], line: _Line) -> None:
        group, values = self._groups[keys], line.numbers
        row = self.rows.n_rows
        if line.end is not None:
            self._ends.add(row, *line.end, rest=False)
            if line.end.key:
                self._last_key[row] = line.end.key
        group.take(next((v for k, v in zip(keys, values, strict=True) if is_axis(k)), math.nan))
        self._place.append(line.place)
        self._form.append(line.form)
        self._group.append(group.number)
        self._step.append(group.last)
        self.rows.add_numbers(keys, values)
        self.n_values += len(values)

    def finish(self) -> None:
        """Take the few lines whose keys are mostly those of the main group."""
        main = set(self._main())
        for keys in list(self._waiting):
            if 2 * len(main & set(keys)) > len(main | set(keys)) and len(self._groups) < _MOST_GROUPS:
                self._keep(keys)

    def _main(self) -> tuple[str, ...]:
        """The keys of the group whose steps go furthest, one with an entropy if there is one."""
        entropies = [keys for keys in self._groups if any("ent" in key.lower() for key in keys)]
        return max(
            entropies or self._groups, key=lambda k: (self._groups[k].climbs * len(k), len(k)), default=()
        )

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows in the order of the log: the main group, and the groups whose steps keep to it."""
        order = np.argsort(np.frombuffer(self._place, dtype=np.int64), kind="stable")
        group = np.frombuffer(self._group, dtype=np.int64)[order]
        step = pd.Series(np.frombuffer(self._step)[order])
        is_main = group == self._groups[self._main()].number
        main = step.where(is_main)
        before, after = main.ffill().fillna(-np.inf), main.bfill().fillna(np.inf)
        in_place = ((step >= before - 1) & (step <= after + 1)) | step.isna()
        share = in_place.groupby(group).mean()
        kept = is_main | (share.reindex(group).to_numpy() >= _IN_PLACE)
        self._left_out += int((~kept).sum())
        rows, cut = self.rows.frame(), self._ends.cut()
        form = np.frombuffer(self._form, dtype=np.int64)
        torn, short = self._forms.judged(set(form[order][kept].tolist()))
        ends_early = [(row, self._last_key[row]) for row in self._last_key if int(form[row]) in short]
        for row, key in (*cut.numbers, *ends_early):
            rows.loc[row, key] = np.nan
        self._broken = len(set(ends_early) - set(cut.numbers))
        self._broken += sum(n for number, n in self._unused.items() if number in torn)
        for keys, lines in self._waiting.items():
            self._waiting[keys] = [line for line in lines if line.form not in torn]
            self._broken += len(lines) - len(self._waiting[keys])
        rows, whole = rows.iloc[order], ~np.isin(form[order], list(torn))
        self._left_out -= int((~kept & ~whole).sum())
        self._broken += int((~whole).sum())
        rows = rows[kept & whole]
        single = are_whole(rows)
        self._broken += int((~single).sum())
        rows = rows[single].dropna(axis=1, how="all")
        return rows.reset_index(drop=True), "key-value-console", "unknown", cut.findings()

    def findings(self, chosen: bool) -> list[Finding]:
        """Records that are not whole, and lines that look like records and stand alone."""
        if not chosen:
            return []
        broken = [broken_records(self._broken)] if self._broken else []
        alone = self._left_out + sum(map(len, self._waiting.values()))
        if not alone:
            return broken
        what = f"{alone} lines with a step and pairs have other keys than the rest and were left out"
        why = "answers of a model hold such lines too"
        return [*broken, Finding("lines-alone", "info", what, why, value=float(alone))]


def _pairs(text: str) -> Iterator[re.Match[str]]:
    """Keys with their numbers, segment by segment."""
    for segment in _APART.split(text):
        whole = _WHOLE.fullmatch(segment.strip())
        if whole is not None and not _STEP.search(whole["key"] + " 1"):
            yield whole
        else:
            found = [*_PAIR.finditer(segment), *_WORD_PAIR.finditer(segment)]
            yield from sorted(found, key=lambda match: match.start())


class _Step(NamedTuple):
    axis: str
    value: float
    width: int


def _step(text: str, first: int) -> _Step | None:
    """The axis and its value: ``step 12``, ``iter [12]``, else ``12/40`` in front of the pairs."""
    named = list(_STEP.finditer(text))
    steps = [found for found in named if found["word"].lower() != "epoch"]
    if steps:
        return _Step("step", float(steps[0]["n"]), len(steps[0].group()))
    of_total = [
        found
        for found in _OF_TOTAL.finditer(text[:first])
        if int(found[1]) <= int(found[2]) and not any(n.start() <= found.start() < n.end() for n in named)
    ]
    if of_total:
        return _Step("step", float(of_total[-1][1]), len(of_total[-1].group()))
    return _Step("epoch", float(named[0]["n"]), len(named[0].group())) if named else None
