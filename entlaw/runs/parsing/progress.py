"""Which step a record without a step belongs to, from the progress bar around it.

The Hugging Face trainers print records as ``{'loss': ...}`` without the step; the step is in tqdm's bar,
``5/200 [00:18<11:16, ...]``. A record is printed with ``tqdm.write``: clear the bar, print, draw the bar anew. So
each record leaves a blanked bar, and the counter drawn right after it is exact (the one before may lag: tqdm skips
redraws that come too fast). Where standard output is buffered, records arrive late and in bunches, while the
blanked bars stay where the records belong: the n-th blank is the n-th record's.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

RecordKind = Literal["train", "eval", "summary"]
Bar = tuple[int, int]  # counter, total

_BAR = re.compile(rb"%\|[^\r\n]{0,400}?\|\s*(\d{1,12})/(\d{1,12}) \[")
_NEEDLE = b"%|"
_REACH = 3  # bars kept on each side of an event: a nested bar may be drawn before the trainer's own
_MOST_EVENTS = 200_000
_MOST_TOTALS = 6
_UNEVEN = 0.2  # of the growth of the epoch between two records
_LEAST_PASS = 4  # records between two starts of a run on average: fewer are records that came out of order


@dataclass
class _Event:
    is_record: bool
    before: tuple[Bar, ...]
    after: list[Bar] = field(default_factory=list)


class ProgressTrack:
    """Follows the bars around blanked bars and records while the log streams by."""

    def __init__(self) -> None:
        self.events: list[_Event] = []
        self._last: deque[Bar] = deque(maxlen=_REACH)

    def event(self, is_record: bool) -> None:
        """A record without a step, or a blanked bar."""
        if len(self.events) <= _MOST_EVENTS:
            self.events.append(_Event(is_record, tuple(self._last)))
            self._last.clear()

    def gap(self, block: bytes, start: int, end: int) -> None:
        """Text between two events: only its first and last bars are looked at, however long it is."""
        if block.find(_NEEDLE, start, end) < 0:
            return
        if self.events and len(self.events[-1].after) < _REACH:
            position = start
            for _ in range(_REACH - len(self.events[-1].after)):
                bar, position = _bar_from(block, position, end)
                if bar is None:
                    break
                self.events[-1].after.append(bar)
        late: list[Bar] = []
        position = end
        while len(late) < _REACH:
            position = block.rfind(_NEEDLE, start, position)
            if position < 0:
                break
            found = _BAR.match(block, position, end)
            if found:
                late.append((int(found[1]), int(found[2])))
        self._last.extend(reversed(late))

    def without(self, dropped: set[int]) -> ProgressTrack:
        """The same without some of the records, by their number."""
        kept = ProgressTrack()
        records = (e for e in enumerate(e for e in self.events if e.is_record))
        gone = {id(event) for i, event in records if i in dropped}
        kept.events = [event for event in self.events if id(event) not in gone]
        kept._last = self._last
        return kept

    def last_counter(self, total: int) -> int | None:
        """The last counter seen of the bar with this total."""
        bars = [*self._last]
        if self.events:
            bars = [*self.events[-1].before, *self.events[-1].after, *bars]
        counters = [n for n, t in bars if t == total]
        return counters[-1] if counters else None

    def totals(self) -> list[int]:
        """Totals of the bars, the one drawn around most events first: likely the trainer's own."""
        seen = Counter(t for e in self.events for t in {t for _, t in (*e.before, *e.after)})
        seen.update(t for _, t in self._last)
        return sorted(seen, key=lambda t: (seen[t], t), reverse=True)


def _bar_from(block: bytes, start: int, end: int) -> tuple[Bar | None, int]:
    while True:
        position = block.find(_NEEDLE, start, end)
        if position < 0:
            return None, end
        found = _BAR.match(block, position, end)
        if found:
            return (int(found[1]), int(found[2])), found.end()
        start = position + 1


@dataclass(frozen=True)
class Inferred:
    """Steps of records, and by which rule.

    Attributes
    ----------
    step : ndarray, shape (n,)
    how : {"bar", "blank", "cadence", "order"}
    detail : str
        For the user.
    """

    step: np.ndarray
    how: Literal["bar", "blank", "cadence", "order"]
    detail: str


def infer_steps(
    kinds: Sequence[RecordKind], track: ProgressTrack, epoch: np.ndarray | None = None
) -> Inferred:
    """Steps of the records that name none, in logged order.

    Parameters
    ----------
    kinds : sequence of {"train", "eval", "summary"}, length n
        An evaluation and the closing summary share the step of a training record.
    track : ProgressTrack
    epoch : ndarray, shape (n,), optional
        Epoch of each record, NaN where it names none: where it goes back, the run was started again.

    Returns
    -------
    Inferred
        By the best rule whose result is possible: between two starts of the run steps never fall, and no two
        training records share one.
    """
    epoch = np.full(len(kinds), np.nan) if epoch is None else epoch
    starts = find_starts(epoch)
    totals = track.totals()[:_MOST_TOTALS] if len(track.events) <= _MOST_EVENTS else []
    for total in totals:
        blanks = _at_blanks(track, total)
        if len(blanks) == len(kinds) and _possible(blanks, kinds, starts):
            return Inferred(blanks, "blank", f"each record's own redraw of the bar n/{total}")
        near = _at_records(track, total)
        if len(near) == len(kinds) and _possible(near, kinds, starts):
            return Inferred(near, "bar", f"the progress bar n/{total} beside each record")
        if len(blanks) > len(kinds) and _possible(blanks[: len(kinds)], kinds, starts):
            return Inferred(
                blanks[: len(kinds)],
                "blank",
                f"the first {len(kinds)} of {len(blanks)} redraws of the bar n/{total} (records came late)",
            )
    trained = max(sum(k == "train" for k in kinds), 1)
    counter = track.last_counter(totals[0]) if totals else None
    every = counter // trained if counter else 0
    order = _by_order(kinds, epoch, starts)
    # The interval k must be the only one that gives this many records in this many steps.
    if not starts and counter and every > 1 and trained >= 4 and every * (trained + 1) > counter:
        return Inferred(
            order * every, "cadence", f"{trained} records in {counter} steps: one every {every} steps"
        )
    return Inferred(order, "order", "no progress bar tells")


def _at_blanks(track: ProgressTrack, total: int) -> np.ndarray:
    steps = []
    for event, following in zip(track.events, [*track.events[1:], None], strict=True):
        if not event.is_record:
            # Unbuffered, the record stands between the blank and the redraw.
            after = event.after or (following.after if following and following.is_record else [])
            steps.append(_counter(after, total, event.before))
    return np.array(steps, float)


def _at_records(track: ProgressTrack, total: int) -> np.ndarray:
    steps = []
    for previous, event in zip([None, *track.events], track.events, strict=False):
        if event.is_record:
            written = previous is not None and not previous.is_record and not previous.after
            # Behind a blanked bar the redraw is exact; elsewhere the bar drawn last is the record's own.
            before = event.before or (previous.before if written and previous else ())
            steps.append(
                _counter(event.after, total, before) if written else _counter(event.before[::-1], total, ())
            )
    return np.array(steps, float)


def _counter(first: Sequence[Bar], total: int, second: Sequence[Bar]) -> float:
    for n, t in (*first, *reversed(second)):
        if t == total:
            return n
    return np.nan


def find_starts(epoch: np.ndarray) -> list[int]:
    """Records at which the epoch goes back: there the run was started again."""
    known = np.flatnonzero(~np.isnan(epoch))
    starts = [int(known[i + 1]) for i in np.flatnonzero(np.diff(epoch[known]) < 0)]
    return starts if len(starts) * _LEAST_PASS <= len(known) else []


def _possible(steps: np.ndarray, kinds: Sequence[RecordKind], starts: Sequence[int]) -> bool:
    if len(steps) == 0 or np.isnan(steps).any():
        return False
    trained = np.array([k == "train" for k in kinds])
    return all(
        (np.diff(steps[a:b]) >= 0).all() and (np.diff(steps[a:b][trained[a:b]]) > 0).all()
        for a, b in pairwise([0, *starts, len(steps)])
    )


def _evenly(epoch: np.ndarray) -> np.ndarray | None:
    """Number of each training record from its epoch, None where the epoch does not grow by the same amount."""
    known = epoch[~np.isnan(epoch)]  # of a record that could not be read it is not
    growth = np.diff(known)
    growth = growth[growth > 0]
    if len(growth) < _LEAST_PASS or 2 * len(known) < len(epoch):
        return None
    number = (epoch - known[0]) / float(np.median(growth))
    whole = np.round(number)
    # Printed with few digits, an epoch may not tell two records apart. A few equal ones are of steps logged again.
    if np.nanmax(np.abs(number - whole)) > _UNEVEN or (np.diff(whole[~np.isnan(whole)]) == 0).mean() > 0.1:
        return None
    numbers = pd.Series(whole - min(np.nanmin(whole), 0.0) + 1)
    unknown = numbers.isna()  # it comes after the one before it
    since = unknown.groupby((~unknown).cumsum()).cumsum()
    return (numbers.ffill().fillna(0.0) + since).to_numpy()


def _by_order(kinds: Sequence[RecordKind], epoch: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """1, 2, ... for training records; evaluations and summaries belong to the record before them.

    A run that was started again goes on from the record of the same epoch, or the next one. Where the epoch grows
    evenly, it tells how many records are missing.
    """
    trained = np.array([k == "train" for k in kinds])
    even = _evenly(epoch[trained])
    if even is not None:
        steps = np.full(len(kinds), np.nan)
        steps[trained] = even
        return pd.Series(steps).ffill().fillna(0.0).to_numpy()
    steps = np.cumsum(trained).astype(float)
    for a, b in pairwise([*starts, len(kinds)]):
        before = trained[:a] & (epoch[:a] < epoch[a])
        steps[a:b] = np.cumsum(trained[a:b]) + (steps[:a][before].max() if before.any() else 0)
    return steps
