"""Any console that prints a step and pairs on one line: ``12/40 | entropy=0.41 | acc=15.0%``, ``Step 3 | Reward: 0.2``.

Answers of a model hold such lines too, so a line counts only in company: lines with the same keys, at least three of
them, and in its place: its step is one of those that the main group has reached there.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.lines import Lines
from entlaw.runs.parsing.physical import plain, unlabelled
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.parsing.records import METRIC_NAME, prefixed
from entlaw.runs.source import ReadOptions

_LONGEST = 1 << 13  # bytes; a longer line is an answer
_COMPANY = 3
_IN_PLACE = 0.9  # of a group's lines stand where the steps of the main group say
_MOST_GROUPS = 256
_MOST_WAITING = 4096
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)"
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
_LONGEST_HEADING = 200
_BULLETS = " \t\r•*–—-│├└─>=#"
_ONE_PAIR = re.compile(
    rf"[A-Za-z_][\w ./@()\-]{{0,60}}?\s*[:=]\s*{_NUMBER}\s*(?:%|[A-Za-z/]{{1,12}})?(?:\s*\([^()]*\))?",
    re.IGNORECASE,
)
_STAMP = re.compile(r"\W{0,3}\d{4}-\d\d-\d\d[ T][\d:.,]+\S*\s*")
_LEVEL = re.compile(r"(?:(?:INFO|DEBUG|WARNING|WARN|ERROR|SUCCESS|TRACE)\b[ :\]-]*)+", re.IGNORECASE)
_EVAL = re.compile(r"(?<![\w/])(?:eval|evaluation|val|valid|validation|test)\b", re.IGNORECASE)
_SCORES = (b"acc", b"Acc", b"eward", b"core", b"pass@", b"Pass@", b"ass rate")


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
        self._waiting: dict[tuple[str, ...], list[tuple[int, list[float]]]] = {}
        self._groups: dict[tuple[str, ...], _Group] = {}
        # Of each row: its place in the log, its group, its step.
        self._place, self._group, self._step = array("q"), array("q"), array("d")
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
        record = self._record(plain(line), closed)
        if record is None:
            return False
        self._seen += 1
        keys, values = tuple(record), list(record.values())
        if keys in self._groups:
            self._add(keys, self._seen, values)
        else:
            self._wait(keys, values)
        return True

    def _record(self, text: str, closed: bool) -> dict[str, float] | None:
        text = _LEVEL.sub("", _STAMP.sub("", unlabelled(text), count=1)).strip()
        pairs = list(_pairs(text))
        first = text.find(pairs[0].group()) if pairs else 0
        covered = sum(len(found.group()) for found in pairs)
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
        return dict(prefixed(record, kind.group().lower())) if kind else record

    def _is_metrics(self, record: Iterable[str]) -> bool:
        return any(key in self._known or METRIC_NAME.search(key.lower()) for key in record)

    def _wait(self, keys: tuple[str, ...], values: list[float]) -> None:
        if len(self._waiting) > _MOST_WAITING:
            self._left_out += len(self._waiting.pop(next(iter(self._waiting))))
        group = self._waiting.setdefault(keys, [])
        group.append((self._seen, values))
        if len(group) >= _COMPANY and len(self._groups) < _MOST_GROUPS:
            self._keep(keys)

    def _keep(self, keys: tuple[str, ...]) -> None:
        self._groups[keys] = _Group(len(self._groups))
        for place, values in self._waiting.pop(keys):
            self._add(keys, place, values)

    def _add(self, keys: tuple[str, ...], place: int, values: list[float]) -> None:
        group = self._groups[keys]
        group.take(next((v for k, v in zip(keys, values, strict=True) if is_axis(k)), math.nan))
        self._place.append(place)
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
        rows = self.rows.frame().iloc[order][kept].dropna(axis=1, how="all")
        return rows.reset_index(drop=True), "key-value-console", "unknown", []

    def findings(self, chosen: bool) -> list[Finding]:
        """Lines that look like records and stand alone."""
        alone = self._left_out + sum(map(len, self._waiting.values()))
        if not (chosen and alone):
            return []
        what = f"{alone} lines with a step and pairs have other keys than the rest and were left out"
        return [
            Finding("lines-alone", "info", what, "answers of a model hold such lines too", value=float(alone))
        ]


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
