"""Logs inside the entries of Docker, Kubernetes or a log service: unwrapped once, then read as what they hold.

Docker's ``json-file`` driver, Kubernetes' CRI files, and what Google Cloud, Loki, CloudWatch, Elasticsearch, Splunk
and structured loggers write: JSON lines, one JSON document or a CSV export. The text goes to a temporary file that any
other source may take, so that a wrapped JSONL is JSONL and a wrapped console log a console log.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.keys import canonical
from entlaw.runs.parsing.envelopes import (
    Entry,
    cri_entry,
    entries_in,
    entry_of,
    falls,
    in_order,
    is_metrics,
    text_lines,
)
from entlaw.runs.parsing.text import (
    LineBlocks,
    ReadNotes,
    chunks,
    head_bytes,
    head_is_whole,
    opened,
    read_all,
    run_name,
)
from entlaw.runs.run import RawRun
from entlaw.runs.source import Head, ReadOptions, Source, cut_line, unread
from entlaw.runs.table import parse_number

_LOOK_AT = 200  # lines or objects of the head
_MOST_STARTS = 2000  # braces tried as the beginning of an object of a document longer than the head
_LOKI = re.compile(r'"values"\s*:\s*\[\s*\[\s*"\d{10,}"\s*,\s*"')  # nanoseconds and a line
_COLUMNS = ("message", "textpayload", "line", "log", "msg", "raw", "content", "body")


@dataclass(frozen=True)
class _Form:
    """How entries are written.

    Attributes
    ----------
    name : str
        For people.
    entries : callable
        ``entries(path, tally)``: all entries of a file.
    ends_marked, newest_first : bool
    """

    name: str
    entries: Callable[[Path, _Tally], Iterator[Entry]]
    ends_marked: bool = False
    newest_first: bool = False


class _Tally:
    """What reading the entries met."""

    def __init__(self) -> None:
        self.notes = ReadNotes()
        self.taken = self.bad = 0
        self.cut = False


def sniff(head: Head) -> bool:
    """Whether the file begins with entries of a log service that hold text, and no metrics beside it."""
    return _recognise(head) is not None


def _recognise(head: Head) -> _Form | None:
    start = head_bytes(head).lstrip()
    if start[:1] in (b"{", b"["):
        if b'"cells"' in start and b'"nbformat' in start + b'"nbformat':
            return None
        return _json_lines(head) or _document(head)
    seen = _head_lines(head)
    found = [entry for entry in map(cri_entry, seen) if entry is not None]
    if found and 2 * len(found) >= len(seen):
        return _Form("Kubernetes (CRI)", _by_line(cri_entry))
    return _table(seen)


def _head_lines(head: Head) -> list[str]:
    """Whole lines of the head; a carriage return is part of an entry's text."""
    text = head_bytes(head).decode("utf-8", errors="replace")
    found = text.split("\n")
    if not head_is_whole(head) and len(found) > 1:
        found.pop()
    return [line for line in found if line.strip()][:_LOOK_AT]


def _json_lines(head: Head) -> _Form | None:
    seen = _head_lines(head)
    records = [record for line in seen if isinstance(record := _parse(line), dict)]
    if not records or 2 * len(records) < len(seen) or (len(seen) < 2 and not _is_entry_alone(records[0])):
        return None
    found = _all_texts(records)
    if found is None:
        return None
    ended = sum(entry.text.endswith("\n") for entry in found)
    docker = 2 * ended > len(found)
    name = "Docker (json-file)" if docker and all("log" in r for r in records) else "JSON entries"
    return _Form(name, _by_line(lambda line: entry_of(_parse(line))), docker, falls(found))


def _is_entry_alone(record: dict[str, Any]) -> bool:
    """One object is an entry, not a document, if it says of itself that it is one."""
    return "stream" in record or "textPayload" in record


def _all_texts(records: Iterable[Any]) -> list[Entry] | None:
    """The entries of objects most of which hold text and none of which metrics; None for other objects."""
    entries = [entry_of(record) for record in records]
    found = [entry for entry in entries if entry is not None]
    if not found or 2 * len(found) < len(entries) or any(entry.is_record for entry in found):
        return None
    return found


def _document(head: Head) -> _Form | None:
    text = head_bytes(head).decode("utf-8", errors="replace").lstrip()
    form = _Form("a JSON export of a log service", _of_document)
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        pass
    else:
        found = [] if text[end:].strip() else entries_in(value)
        return form if found and not any(entry.is_record for entry in found) else None
    if _LOKI.search(text):
        return form
    return form if _all_texts(_objects(text)) is not None else None


def _objects(text: str) -> Iterator[Any]:
    """The objects that are whole in the beginning of a document, the document itself not among them."""
    decoder = json.JSONDecoder()
    position = tried = found = 0
    while (position := text.find("{", max(position, 1))) >= 0 and tried < _MOST_STARTS and found < _LOOK_AT:
        tried += 1
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        found += 1
        yield value


def _table(seen: list[str]) -> _Form | None:
    """A CSV export of a log service: a column of text and none of metrics."""
    if len(seen) < 2 or "," not in seen[0]:
        return None
    try:
        names, *cells = list(csv.reader(seen[:_LOOK_AT]))
    except csv.Error:
        return None
    column = _text_column(names)
    if column is None or is_metrics(dict.fromkeys((n for n in names if not n.startswith("_")), 1.0)):
        return None
    texts = [row[column] for row in cells if len(row) > column]
    if not texts or 2 * sum(parse_number(text) is None for text in texts) < len(texts):
        return None
    found = [entry_of(dict(zip(names, row, strict=False))) for row in cells]
    newest = falls([entry for entry in found if entry is not None])
    return _Form("a CSV export of a log service", _of_table, newest_first=newest)


def _text_column(names: list[str]) -> int | None:
    named = [canonical(name) for name in names]
    return next((named.index(name) for name in _COLUMNS if name in named), None)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _lines(path: Path, notes: ReadNotes) -> Iterator[tuple[str, bool]]:
    """Lines that end in a newline, and whether each does."""
    blocks = LineBlocks(notes, b"\n")
    with opened(path) as handle:
        for data in chunks(handle, notes):
            for line in blocks.feed(data).split(b"\n"):
                yield line.decode("utf-8", errors="replace"), True
    yield blocks.rest().decode("utf-8", errors="replace"), False


def _by_line(entry: Callable[[str], Entry | None]) -> Callable[[Path, _Tally], Iterator[Entry]]:
    def entries(path: Path, tally: _Tally) -> Iterator[Entry]:
        for line, closed in _lines(path, tally.notes):
            if not line.strip():
                continue
            found = entry(line.rstrip("\r").lstrip("\ufeff"))
            if found is not None:
                yield found
            elif closed:
                tally.bad += 1
            else:
                tally.cut = True

    return entries


def _of_document(path: Path, tally: _Tally) -> Iterator[Entry]:
    text = read_all(path, tally.notes).decode("utf-8-sig", errors="replace")
    value = _parse(text)
    if value is None:  # cut or damaged: what is whole in it
        tally.cut = True
        value = list(_whole_objects(text))
    yield from entries_in(value)


def _whole_objects(text: str) -> Iterator[Any]:
    decoder, position = json.JSONDecoder(), max(text.find("[") + 1, 0)
    while (position := text.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return
        yield value


def _of_table(path: Path, tally: _Tally) -> Iterator[Entry]:
    rows = csv.reader(line + "\n" for line, _ in _lines(path, tally.notes))
    try:
        names = [name.lstrip("\ufeff") for name in next(rows)]
        for row in rows:
            found = entry_of(dict(zip(names, row, strict=False)))
            if found is not None:
                yield found
            else:
                tally.bad += 1
    except csv.Error:  # a cell larger than any line of a log
        tally.cut = True


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Unwrap the file into a temporary one, and read that.

    Raises
    ------
    UnreadableSource
        No log in the entries.
    """
    from entlaw.runs.reader import read_raw

    head = _head(path)
    form = _recognise(head)
    if form is None:
        raise UnreadableSource("no entries with text", where=str(path), hint="point at the log itself")
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix="entlaw-") as folder:
        inner = Path(folder) / f"{run_name(path)}.txt"
        _unwrap(path, inner, form, tally)
        try:
            runs = read_raw(inner, options)
        except UnreadableSource as error:
            error.where = str(path)
            error.why = (
                f"{tally.taken:,} entries of {form.name} were unwrapped; {error.why or 'nothing was found'}"
            )
            raise
        own = run_name(inner)
    return [_outer(raw, path, form, tally, own) for raw in runs]


def _head(path: Path) -> Head:
    from entlaw.runs.source import HEAD_BYTES

    with path.open("rb") as handle:
        return Head(path, handle.read(HEAD_BYTES), path.stat().st_size)


def _unwrap(path: Path, inner: Path, form: _Form, tally: _Tally) -> None:
    def counted(entries: Iterator[Entry]) -> Iterator[Entry]:
        for tally.taken, entry in enumerate(entries, 1):
            yield entry

    entries = counted(form.entries(path, tally))
    if form.newest_first:
        entries = iter(in_order(list(entries)))
    with inner.open("w", encoding="utf-8", errors="replace", newline="") as out:
        out.writelines(text_lines(entries, form.ends_marked))


def _outer(raw: RawRun, path: Path, form: _Form, tally: _Tally, own: str) -> RawRun:
    """What was read from the unwrapped text, as a run of the file itself."""
    findings = [
        *tally.notes.findings(),
        Finding(
            "unwrapped",
            "info",
            f"{tally.taken:,} entries of {form.name} were unwrapped into the lines they hold",
        ),
        *unread(
            "lines-unread", tally.bad, "entries hold no text and were left out", "damaged, or of another kind"
        ),
    ]
    if tally.cut:
        findings.append(cut_line("the last entry is incomplete and was left out"))
    provenance = replace(
        raw.provenance,
        path=str(path),
        details={**raw.provenance.details, "bytes": tally.notes.bytes_read, "wrapped_by": form.name},
    )
    name = run_name(path) if raw.name == own else raw.name
    return replace(raw, name=name, provenance=provenance, findings=(*findings, *raw.findings))


SOURCE = Source(
    "wrapped",
    order=55,
    sniff=sniff,
    read=read,
    reference="Docker's json-file driver, Kubernetes' CRI log files, exports of log services",
)
