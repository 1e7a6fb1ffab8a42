"""The report as one HTML page that needs nothing else: no network, no server, no JavaScript to be read.

Style and script are package files (``page/``) written into the page. Its content security policy allows these two
texts, by their hashes, and forbids everything else: nothing can be loaded, and nothing that a log smuggled in can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from entlaw.findings import Finding
from entlaw.law.examined import Examined
from entlaw.law.settings import Settings
from entlaw.law.summary import describe_pairing, list_findings
from entlaw.report.html_plot import SYMBOLS, Shown, law_plot, steps_plot, thin
from entlaw.report.html_words import describe_all, describe_row, methods, name, resource, sentence, text
from entlaw.report.picture import points_csv
from entlaw.report.table import badge, data_uri, runs_csv, table

# About this many points are drawn on a page, and about so many bytes of CSV embedded, shared among its runs: a page
# that people mail stays small. The floors leave every run readable.
_POINTS, _LEAST_POINTS, _MOST_POINTS = 8000, 60, 400
_CSV_BYTES, _ROW_BYTES, _LEAST_ROWS = 1_200_000, 75, 80
# So many runs are shown unfolded.
_UNFOLDED = 6
_SEVERITY = {"error": ("✕", "Refused because"), "warning": ("▲", "Caution"), "info": ("●", "Note")}

TrackFunction = Callable[[Iterable[Any], str], Iterator[Any]]


def untracked(items: Iterable[Any], _: str) -> Iterator[Any]:
    """No progress to show."""
    return iter(items)


@dataclass(frozen=True)
class Origin:
    """Where a run came from.

    Attributes
    ----------
    path : str
        As the user gave it or as it was found below what the user gave.
    size : int or None
        Bytes; None for what is no file.
    sha256 : str or None
    """

    path: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class About:
    """What a page says about itself.

    Attributes
    ----------
    title, command, version : str
    date : str or None
        Left out when None, so that equal input gives equal bytes.
    origins : tuple of Origin
        One a run.
    """

    title: str
    command: str
    version: str
    date: str | None = None
    origins: tuple[Origin, ...] = ()

    def kicker(self, n: int) -> str:
        """The line above the title of a report of n runs."""
        return f"entlaw report · {n} run{'' if n == 1 else 's'}" + (f" · {self.date}" if self.date else "")


def page(
    rows: Sequence[Examined], about: About, settings: Settings | None = None, track: TrackFunction = untracked
) -> str:
    """The whole page.

    Parameters
    ----------
    rows : sequence of Examined
        At least one.
    about : About
    settings : Settings, optional
        With which the runs were examined; the methods are described by it.
    track : callable
        Wraps the runs while they are drawn, to show progress; its second argument says what is done.

    Returns
    -------
    str
        HTML; equal for equal input.
    """
    style, script = resource("report.css"), resource("report.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    one = len(rows) == 1
    return Template(resource("report.html")).substitute(
        policy=policy,
        style=style,
        script=script,
        version=text(about.version),
        title=text(about.title),
        kicker=text(about.kicker(len(rows))),
        symbols=SYMBOLS,
        verdict=badge(rows[0].verdict) + _describe(rows[0]) if one else _describe_set(rows),
        table=table(rows),
        runs_csv=data_uri(runs_csv(rows)),
        key=_KEY,
        methods=methods(settings or Settings()),
        cards_title="The run" if one else "Each run",
        cards="".join(_card(e, i, len(rows)) for i, e in track(list(enumerate(rows)), "writing")),
        provenance=_provenance(rows, about),
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


_BOX = '<svg viewBox="-7 -7 14 14" aria-hidden="true">'
_KEY = "".join(
    f'<span class="key">{_BOX}{drawn}</svg>{words}</span>'
    for drawn, words in (
        ('<use class="mf" href="#mf"/>', "fitted point"),
        ('<use class="ml" href="#ml"/>', "point held out"),
        ('<use class="mc" href="#mc"/>', "ceiling, interval"),
        ('<use class="mx" href="#mx"/>', "forecast, interval"),
        ('<path class="law" d="M-7 0H7"/>', "the law"),
        ('<path class="bl" d="M-7-5H7V5H-7z"/>', "line, interval"),
        ('<path class="bp" d="M-7-5H7V5H-7z"/>', "next score, interval"),
        ('<path class="ent" d="M-7 0H7"/>', "entropy as logged"),
    )
)


def _describe_set(rows: Sequence[Examined]) -> str:
    lead, details = describe_all(rows)
    items = "".join(f"<li>{text(d)}</li>" for d in details)
    return f'<p class="headline">{text(lead)}</p>' + (f"<ul>{items}</ul>" if items else "")


def _describe(e: Examined) -> str:
    lead, pairs = describe_row(e)
    return f'<p class="headline">{text(lead)}</p>{_pairs(pairs)}'


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{text(a)}</dt><dd>{text(b)}</dd>' for a, b in pairs)}</dl>" if pairs else ""


def _card(e: Examined, i: int, total: int) -> str:
    """One run: verdict, plots, findings, what was read."""
    is_open = " open" if total <= _UNFOLDED else ""
    # The target is inside, because a browser unfolds what holds the target of a link.
    return (
        f'<details class="run"{is_open}><summary><h3>{name(e.label)}</h3>{badge(e.verdict)}</summary>'
        f'<div class="inside" id="run{i}">{_describe(e) if total > 1 else ""}{_plots(e, i, total)}{_findings(e)}'
        f"{_read(e)}</div></details>\n"
    )


def _plots(e: Examined, i: int, total: int) -> str:
    if e.result is None or not e.result.points.n:
        return ""
    n = e.result.points.n
    embedded = thin(n, max(_LEAST_ROWS, _CSV_BYTES // _ROW_BYTES // total))
    drawn = thin(len(embedded), min(max(_POINTS // total, _LEAST_POINTS), _MOST_POINTS))
    shown = Shown(embedded[drawn], drawn)
    whole = len(embedded) == n
    csv = points_csv(e.result, None if whole else embedded)
    said = ""
    if len(drawn) < n:
        said = f" {len(drawn)} of {n} points are drawn"
        said += (
            "." if whole else f", {len(embedded)} are in the CSV; <code>entlaw fit --plot</code> writes all."
        )
    refused = "" if e.result.law is not None else " No law is drawn, because it is refused."
    drawings = law_plot(e.result, e.label, f"a{i}", shown) + steps_plot(e.result, e.label, f"b{i}", shown)
    return (
        f'<figure class="plots" data-name="{text(e.label)}">{drawings}'
        "<figcaption>In the first plot training runs to the right, toward H = 0; the second has the same points "
        "against the step. A cross is a predicted score: the last one, as predicted at the end of the window, or a "
        "later one, predicted from all steps seen."
        f"{said}{refused} "
        f'<a class="points" download="{text(_file(e.label))}.csv" href="{data_uri(csv)}">points (CSV)</a></figcaption>'
        "</figure>"
    )


def _file(label: str) -> str:
    """A name that any file system takes."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in label)
    return kept.strip("-.")[:80] or "run"


def _findings(e: Examined) -> str:
    """What the checks found, worst first."""
    found = e.findings if e.result is None else list_findings(e.result)
    if not found:
        return "<h4>Findings</h4><p>No problems found.</p>" if e.result is not None else ""
    shown = e.result is not None and e.result.law is not None
    items = "".join(_finding(f, shown) for f in found)
    return f'<h4>Findings</h4><ul class="findings">{items}</ul>'


def _finding(f: Finding, shown: bool) -> str:
    mark, word = _SEVERITY[f.severity]
    if f.severity == "error" and shown:
        word = "Error"  # the law was forced
    why = f" {text(sentence(f.why))}" if f.why else ""
    hint = f'<span class="next"><b>Next:</b> {text(sentence(f.hint))}</span>' if f.hint else ""
    return (
        f'<li class="{f.severity}"><span class="mark" aria-hidden="true">{mark}</span><div><b>{word}:</b> '
        f"{text(sentence(f.what))}{why} <code>{text(f.code)}</code>{hint}</div></li>"
    )


def _read(e: Examined) -> str:
    """What was taken from the log and why."""
    run = e.reading.run
    if run is None:
        return ""
    m = run.entropy
    scale = "" if run.performance_offset == 0 else f", less {run.performance_offset:g}"
    scale += "" if run.performance_scale == 1 else f", times {run.performance_scale:g}"
    rows = [
        ("Source", f"{run.provenance.format}, {run.provenance.framework}"),
        (
            "Entropy",
            f"{m.key}: {m.estimator}, {m.unit}, {m.averaging}, temperature {m.temperature}, {m.when}",
        ),
        *(() if run.entropy_log is None else (("Entropy log", run.entropy_log.key),)),
        ("Score", f"{run.performance_key} ({run.performance_kind}){scale}; {describe_pairing(run)}"),
        *((c.what, f"{c.chosen}, because {c.why}") for c in run.choices),
    ]
    summary = "What was read from the log, and why"
    return f'<details class="read"><summary>{summary}</summary>{_pairs(rows)}</details>'


def _provenance(shown: Sequence[Examined], about: About) -> str:
    rows = []
    for e, o in zip(shown, about.origins, strict=False):
        size = f"{o.size:,} bytes" if o.size is not None else "not a file"
        digest = f"<code>{text(o.sha256)}</code>" if o.sha256 else "–"
        cells = f'<td>{name(o.path)}</td><td class="n">{size}</td><td>{digest}</td>'
        rows.append(f'<tr><th scope="row">{name(e.label)}</th>{cells}</tr>')
    made = f"<dt>Date</dt><dd>{text(about.date)}</dd>" if about.date else ""
    heads = "".join(f'<th scope="col">{h}</th>' for h in ("Run", "Source", "Size", "SHA-256"))
    return (
        f"<dl><dt>Command</dt><dd><code>{text(about.command)}</code></dd>"
        f"<dt>Version</dt><dd>entlaw {text(about.version)}</dd>{made}</dl>"
        f"<details{' open' if len(rows) <= _UNFOLDED else ''}><summary>Sources, with SHA-256</summary>"
        '<div class="scroll" role="region" aria-label="Sources" tabindex="0"><table class="plain">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )
