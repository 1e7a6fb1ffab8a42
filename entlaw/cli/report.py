"""``entlaw report``: one page about any set of runs, to pass around; the same as PDF, as tables and as data."""

from __future__ import annotations

import datetime
import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.fit import examine_sources, exit_code
from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags, Sources, TotalSteps, output_option
from entlaw.cli.output import check_folder, console, dump_json, print_json, track, write_bytes
from entlaw.errors import DataError, UsageError
from entlaw.wording import describe_suffix

if TYPE_CHECKING:
    from entlaw.law.examined import Examined
    from entlaw.law.settings import Settings
    from entlaw.report.html_page import About, Origin

_SUFFIXES = (".html", ".htm", ".pdf", ".md", ".tex", ".csv", ".json")


def report(
    source: Sources,
    /,
    *,
    output: Annotated[
        tuple[Path, ...],
        output_option(
            "FILE.html, .pdf: the report; .md, .tex, .csv: the table of runs; .json: all of it (repeat for more). By "
            "default report.html, or nothing beside --json."
        ),
    ] = (),
    title: Annotated[str | None, Parameter(help="Title of the page.")] = None,
    date: Annotated[
        str | None, Parameter(help="Date to print, e.g. 2026-11-23; by default none, or SOURCE_DATE_EPOCH's.")
    ] = None,
    total_steps: TotalSteps = None,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Write one self-contained page: verdict, table, interactive plots, findings, forecasts, methods, provenance.

    The page loads nothing from anywhere, works without JavaScript, and is the same, byte for byte, for the same input.
    Runs whose law is refused or that cannot be read are on it with their reason. Exit code 0 when at least one run
    gets a ceiling; otherwise that of the first failure (3 unreadable, 4 refused), the page being written all the same.
    """
    settings = how.settings(total_steps=total_steps)
    targets = output or (() if json else (Path("report.html"),))
    _check(targets)
    when = _date(date)

    from entlaw._version import __version__
    from entlaw.report.html_page import About

    rows = examine_sources(source, read, settings)
    if not rows:
        raise DataError(
            "no run was found", where=", ".join(source), hint="`entlaw doctor SOURCE` says what is there"
        )
    about = About(
        title or _title(rows, source),
        command(source, read, how, total_steps),
        __version__,
        when,
        tuple(_origin(e.reading.path) for e in rows),
    )
    for path in targets:
        write_bytes(path, _render(path.suffix.lower(), rows, about, settings))
    if json:
        print_json(as_dict(rows, about))
    else:
        _show(rows)
    for path in targets:
        console(stderr=True).print(f"wrote {path} ({path.stat().st_size / 1000:,.0f} kB)", style="dim")
    return exit_code(rows)


def _title(rows: Sequence[Examined], source: list[str]) -> str:
    """The one run's name; of several what was asked for, where that is short."""
    asked = ", ".join(source)
    return rows[0].label if len(rows) == 1 else asked if len(asked) <= 60 else f"{len(rows)} runs"


def _render(suffix: str, rows: Sequence[Examined], about: About, settings: Settings) -> bytes:
    """The file of a suffix."""
    if suffix == ".pdf":
        from entlaw.report.html_pdf import pdf_report

        return pdf_report(rows, about, settings, track)
    if suffix in (".html", ".htm"):
        from entlaw.report.html_page import page

        return page(rows, about, settings, track).encode(errors="replace")
    from entlaw.report import table

    if suffix == ".json":
        return dump_json(as_dict(rows, about)).encode(errors="replace")
    if suffix == ".csv":
        return table.runs_csv(rows).encode(errors="replace")
    make = table.latex if suffix == ".tex" else table.markdown
    return make(rows, settings.level, about.version).encode(errors="replace")


def _check(targets: Sequence[Path]) -> None:
    """Refuse what cannot be written, or would overwrite itself, before any work is done."""
    for i, path in enumerate(targets):
        if path.is_dir():
            raise UsageError("this is a folder", where=str(path), hint=f"e.g. -o {path / 'report.html'}")
        if path.suffix.lower() not in _SUFFIXES:
            raise UsageError(
                f"cannot write a report to {describe_suffix(path)}",
                where=str(path),
                hint=f"use one of {', '.join(_SUFFIXES)}",
            )
        if path in targets[:i]:
            raise UsageError("-o names the same file twice", where=str(path), hint="name each file once")
        check_folder(path.parent)


def _date(given: str | None) -> str | None:
    """The date to print: as given, or the day of SOURCE_DATE_EPOCH; never the clock's."""
    if given is not None:
        try:
            return datetime.date.fromisoformat(given).isoformat()
        except ValueError as error:
            raise UsageError(f"--date {given} is no date", hint="e.g. --date 2026-11-23") from error
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"SOURCE_DATE_EPOCH={epoch} is no time", hint="seconds since 1970") from error


def command(source: list[str], read: ReadFlags, how: FitFlags, total_steps: float | None) -> str:
    """The command that makes the same numbers again; where they are written to does not matter for that."""
    words = ["entlaw", "report", *source]
    for flags in (read, how):
        for field in fields(flags):
            value, option = getattr(flags, field.name), "--" + field.name.replace("_", "-")
            if value == field.default:
                continue
            if value is True:
                words.append(option)
            else:
                many = value if isinstance(value, tuple) else (value,)
                words += [
                    w for one in many for w in (option, f"{one:g}" if isinstance(one, float) else str(one))
                ]
    if total_steps is not None:
        words += ["--total-steps", f"{total_steps:g}"]
    return shlex.join(words)


def _origin(path: str) -> Origin:
    """Size and checksum of a source; of a run on a server, or a folder, neither."""
    from entlaw.report.html_page import Origin

    file = Path(path)
    try:
        if not file.is_file():
            return Origin(path)
        with file.open("rb") as handle:
            return Origin(path, file.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest())
    except OSError:
        return Origin(path)  # its own error is on the page already


def _show(rows: Sequence[Examined]) -> None:
    """The verdict on all, on stdout; of a single run what is known of it."""
    from entlaw.report.html_words import describe_all, describe_row

    out = console()
    if len(rows) == 1 and rows[0].result is not None:
        out.print(rows[0].result.summary())
        return
    if len(rows) == 1:
        lead, pairs = describe_row(rows[0])
        details = [f"{label:<10}{said}" for label, said in pairs]
    else:
        lead, details = describe_all(rows)
    out.print(lead, style="bold")
    for line in details:
        out.print(f"  {line}")


def as_dict(rows: Sequence[Examined], about: About) -> dict[str, Any]:
    """Schema ``entlaw.report/2``: what the page says, as data."""
    from entlaw.report.html_words import describe_all, describe_row

    runs = []
    for e, origin in zip(rows, about.origins, strict=True):
        head, pairs = describe_row(e)
        told = {"bytes": origin.size, "sha256": origin.sha256, "headline": head, "details": pairs}
        runs.append(e.to_dict() | told)
    lead, details = describe_all(rows) if len(rows) > 1 else (runs[0]["headline"], [])
    return {
        "schema": "entlaw.report/2",
        "version": about.version,
        "title": about.title,
        "command": about.command,
        "date": about.date,
        "headline": lead,
        "details": details,
        "runs": runs,
    }
