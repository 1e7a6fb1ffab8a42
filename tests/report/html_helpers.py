"""Runs for tests of the report, and a reader of pages that is not the one that made them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from entlaw.law.examined import Examined, examine_readings
from entlaw.law.settings import Settings
from entlaw.report.html_page import About, Origin, page
from entlaw.runs.reader import Reading, scan

from ..conftest import law_records, write_jsonl

VOID = {"meta", "input", "br", "hr", "img", "link", "base"}


def logged(folder: Path, name: str = "run", **kw: object) -> Reading:
    """A reading of a run that obeys the law, or is made not to."""
    path = write_jsonl(folder / f"{name}.jsonl", law_records(**kw))
    return next(scan(str(path)))


def named(reading: Reading, name: str) -> Reading:
    """The same run under another name, as a log could have it."""
    assert reading.raw is not None and reading.run is not None
    return replace(reading, raw=replace(reading.raw, name=name), run=replace(reading.run, name=name))


def about(rows: list[Examined], **kw: object) -> About:
    """What a page says about itself."""
    known = {"title": "made", "command": "entlaw report made.jsonl", "version": "0.0"}
    return About(**(known | kw), origins=tuple(Origin(e.reading.path, 1, "00") for e in rows))  # type: ignore[arg-type]


def page_of(readings: list[Reading], settings: Settings = Settings(), **kw: object) -> str:  # noqa: B008 - frozen
    """The page about some readings."""
    rows = examine_readings(readings, settings)
    return page(rows, about(rows, **kw), settings)


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """All elements of a page; wrongly nested ones are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[e.tag for e in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {k: v or "" for k, v in attrs}, inside=[e.tag for e in self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}, inside=[e.tag for e in self._open]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {[e.tag for e in self._open]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements by tag and attributes (``class_`` for class: one of several)."""
        wanted = {k.rstrip("_"): v for k, v in attributes.items()}

        def has(e: Element, key: str, value: str) -> bool:
            found = e.attributes.get(key, "")
            return value in found.split() if key == "class" else e.attributes.get(key) == value

        return [e for e in self.elements if e.tag == tag and all(has(e, k, v) for k, v in wanted.items())]


def csv_of(link: Element) -> str:
    """Text behind a data link."""
    head, data = link.attributes["href"].split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    return unquote(data)
