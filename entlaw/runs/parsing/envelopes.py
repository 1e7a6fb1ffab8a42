"""Log lines inside the entries of a container runtime or a log service: which entries there are, and what they hold.

An entry is an object with one text and facts about it: when, which stream, which pod. What a trainer printed is the
text; whatever reads logs can read it once it stands on lines of its own again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from entlaw.runs.keys import canonical
from entlaw.runs.parsing.records import METRIC_NAME
from entlaw.runs.table import flatten, parse_number

# Fields that hold the text, the surest first (canonical form).
_TEXTS = (
    "log",
    "message",
    "msg",
    "line",
    "textpayload",
    "text_payload",
    "raw",
    "log_message",
    "logmessage",
    "text",
    "body",
    "event",
)
# Objects around the entry: Elasticsearch, Splunk, Google Cloud, loguru, Datadog, Loki in a browser.
_AROUND = ("_source", "result", "jsonPayload", "json_payload", "record", "attributes", "fields")
_TIMES = (
    "time",
    "timestamp",
    "ts",
    "date",
    "datetime",
    "asctime",
    "eventtime",
    "receivetimestamp",
    "realtime_timestamp",
)
# Numbers that say something about the entry and nothing about the training.
_FACTS = re.compile(
    r"(^|_)(time|timestamp|ts|date|created|msecs|relativecreated|pid|tid|process|thread|lineno|line_number|level|"
    r"levelno|severity|priority|offset|sequence|seq|rank|node|version|v|id|size|attempt|uid|gid|port|partial\w*)(_|$)"
)
_CRI = re.compile(
    r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)) (stdout|stderr) ([FP](?::\S*)?) ?(.*)", re.DOTALL
)
_DEEPEST = 8
_PAIR = 2  # time and text


@dataclass(frozen=True)
class Entry:
    """One entry of a log service.

    Attributes
    ----------
    text : str
    stream : str
        Standard output or error, as far as it is known: a line may go on in a later entry of its own stream.
    time : float or str or None
    partial : bool
        Whether the line goes on in the next entry of the stream.
    is_record : bool
        Whether the text is the object itself, which logs metrics.
    """

    text: str
    stream: str = ""
    time: float | str | None = None
    partial: bool = False
    is_record: bool = False


def is_metrics(record: Mapping[str, Any]) -> bool:
    """Whether an object logs numbers of the training itself, so that its text is a remark beside them."""
    numbers = [canonical(str(k)) for k, v in flatten(record) if not isinstance(v, str) and _is_number(v)]
    own = [key for key in numbers if not _FACTS.search(key)]
    return len(own) > 1 or any(METRIC_NAME.search(key) for key in own)


def _is_number(value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and parse_number(value) is not None


def entry_of(record: Any) -> Entry | None:
    """The entry that an object is; None for any other. One that logs numbers itself is its own text, as JSON."""
    if not isinstance(record, Mapping):
        record = _named_fields(record)
    if record is None:
        return None
    inner = record
    for name in _AROUND:
        if isinstance(record.get(name), Mapping) and not _text_of(record):
            inner = record[name]
            break
    if is_metrics(inner):
        return Entry(json.dumps(dict(inner)), "", _time_of(record), is_record=True)
    text = _text_of(inner)
    if text is None:
        return None
    partial = str(record.get("logtag", "")) == "P" or (
        str(record.get("partial_message", "")).lower() == "true"
        and str(record.get("partial_last", "")).lower() != "true"
    )
    return Entry(text, str(record.get("stream", "")), _time_of(record), partial)


def _named_fields(record: Any) -> Mapping[str, Any] | None:
    """``[{"field": "@message", "value": "..."}, ...]`` (CloudWatch's Insights) as an object."""
    if not isinstance(record, list) or not record:
        return None
    if not all(isinstance(cell, Mapping) and {"field", "value"} <= cell.keys() for cell in record):
        return None
    return {str(cell["field"]): cell["value"] for cell in record}


def _text_of(record: Mapping[str, Any]) -> str | None:
    named = {canonical(str(k)): v for k, v in record.items()}
    for name in _TEXTS:
        value = named.get(name)
        if isinstance(value, Mapping):  # OpenTelemetry
            value = value.get("stringValue")
        if isinstance(value, str):
            return value
    return None


def _time_of(record: Mapping[str, Any]) -> float | str | None:
    named = {canonical(str(k)): v for k, v in record.items()}
    for name in _TIMES:
        value = named.get(name)
        if isinstance(value, (int, float, str)) and value != "":
            return _clock(value)
    return None


def _clock(value: float | str) -> float | str:
    """A time that can be compared: nanoseconds since 1970 are whole numbers that no float holds."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    number = parse_number(value)
    return str(value) if number is None else value if isinstance(value, int) else number


def cri_entry(line: str) -> Entry | None:
    """An entry of Kubernetes' container runtime interface: time, stream, F (full) or P (partial), text."""
    found = _CRI.fullmatch(line)
    return Entry(found[4], found[2], found[1], found[3].startswith("P")) if found else None


def entries_in(document: Any) -> list[Entry]:
    """All entries of a JSON document, wherever its lists of entries stand, in the order of their times."""
    return in_order(list(_walk(document, "", 0)))


def _walk(value: Any, key: str, depth: int) -> Iterator[Entry]:
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, (list, Mapping)):
                yield from _walk(inner, str(name), depth + 1)
        return
    if key == "values" and all(_is_pair(pair) for pair in value):  # Loki's streams
        yield from (Entry(pair[1], "", _clock(pair[0])) for pair in value)
        return
    for item in value:
        entry = entry_of(item)
        if entry is not None:
            yield entry
        elif isinstance(item, (list, Mapping)):
            yield from _walk(item, "", depth + 1)


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) >= _PAIR
        and isinstance(pair[0], str)
        and isinstance(pair[1], str)
    )


def falls(entries: Sequence[Entry]) -> bool:
    """Whether the newest entry comes first, as many log services list them."""
    times = [entry.time for entry in entries]
    if not _comparable(times):
        return False
    return times[0] > times[-1] and all(a >= b for a, b in pairwise(times))  # type: ignore[operator]


def _comparable(times: Sequence[float | str | None]) -> bool:
    return bool(times) and (
        all(isinstance(t, str) for t in times) or all(isinstance(t, (int, float)) for t in times)
    )


def in_order(entries: list[Entry]) -> list[Entry]:
    """Entries by time; those of one time stay in the order in which they were written."""
    if falls(entries):
        entries = entries[::-1]
    if not _comparable([entry.time for entry in entries]):
        return entries
    return sorted(entries, key=lambda entry: entry.time)  # type: ignore[arg-type, return-value]


def text_lines(entries: Iterable[Entry], ends_marked: bool) -> Iterator[str]:
    """The text of the entries as it was printed, in pieces that end with a line.

    Parameters
    ----------
    entries : iterable of Entry
    ends_marked : bool
        Whether a text holds the newline that ended it, so that one without a newline goes on in the next entry.
    """
    waiting: dict[str, str] = {}
    for entry in entries:
        text = waiting.pop(entry.stream, "") + entry.text
        if entry.partial or (ends_marked and not text.endswith("\n")):
            waiting[entry.stream] = text
        else:
            yield text if text.endswith("\n") else text + "\n"
    yield from (text for text in waiting.values() if text)
