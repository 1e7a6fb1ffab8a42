"""``entlaw report``: one page about any set of runs, to pass around; the same as PDF and as tables for a paper."""

from __future__ import annotations

import datetime
import hashlib
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from entlaw.cli.fit import fit_as_dict, scan_sources
from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags
from entlaw.cli.output import console, print_json, track, write_bytes, write_text
from entlaw.errors import DataError, UsageError

if TYPE_CHECKING:
    from entlaw.report.html_entry import Entry, Settings
    from entlaw.report.html_page import About, Origin

T = TypeVar("T")
_PATIENCE = 2.0  # seconds before progress is shown


def report(
    source: Annotated[list[str], Parameter(help="Files, folders or quoted globs.")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["-o", "--output"], help="Write the page; report.html when no other output is asked for."
        ),
    ] = None,
    pdf: Annotated[Path | None, Parameter(help="Write verdicts, table and plots as PDF.")] = None,
    latex: Annotated[
        Path | None,
        Parameter(allow_leading_hyphen=True, help="Write the table for LaTeX (booktabs); - for stdout."),
    ] = None,
    markdown: Annotated[
        Path | None, Parameter(allow_leading_hyphen=True, help="Write the table in Markdown; - for stdout.")
    ] = None,
    title: Annotated[str | None, Parameter(help="Title of the page.")] = None,
    date: Annotated[
        str | None, Parameter(help="Date to print, e.g. 2026-11-23; by default none, or SOURCE_DATE_EPOCH's.")
    ] = None,
    total_steps: Annotated[
        float | None, Parameter(help="Where the runs will end; their configuration tells by default.")
    ] = None,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Write one self-contained page: verdict, table, interactive plots, findings, forecasts, methods, provenance.

    The page loads nothing from anywhere, works without JavaScript, and is the same, byte for byte, for the same input.
    Runs that are refused or cannot be read are on it with their reason. Exit code 0 when at least one run got an
    answer; otherwise that of the first failure (3 unreadable, 4 refused), the page being written all the same.
    """
    how.check()
    targets = {"-o": output, "--pdf": pdf, "--latex": latex, "--markdown": markdown}
    if not any(targets.values()) and not json:
        output = targets["-o"] = Path("report.html")
    _check(targets, total_steps, json)
    when = _date(date)

    from entlaw._version import __version__
    from entlaw.report.html_entry import examine, labels
    from entlaw.report.html_page import About, page

    readings = list(track(scan_sources(source, read), "reading"))
    if not readings:
        raise DataError(
            "no run was found", where=", ".join(source), hint="`entlaw doctor SOURCE` says what is there"
        )
    settings = _settings(how, total_steps)
    named = list(zip(readings, labels(readings), strict=True))
    entries = [examine(r, settings, label) for r, label in _slow(named, "fitting")]
    about = About(
        title or _title(entries, source),
        command(source, read, how, total_steps), __version__, when, tuple(_origin(e.reading.path) for e in entries),
    )  # fmt: skip
    if output is not None:
        write_text(output, page(entries, about, settings, _slow))
    if pdf is not None:
        from entlaw.report.html_pdf import pdf_report

        write_bytes(pdf, pdf_report(entries, about, settings, _slow))
    _tables(entries, how.level, __version__, latex, markdown)
    if json:
        print_json(as_dict(entries, about))
    elif Path("-") not in (latex, markdown):
        _tell(entries)
    for path in (p for p in targets.values() if p is not None and p != Path("-")):
        console(stderr=True).print(f"wrote {path} ({path.stat().st_size / 1000:,.0f} kB)", style="dim")
    if any(e.answered for e in entries):
        return 0
    return next((e.error.exit_code for e in entries if e.error is not None), 3)


def _title(entries: list[Entry], source: list[str]) -> str:
    """The one run's name; of several what was asked for, where that is short."""
    asked = ", ".join(source)
    return entries[0].label if len(entries) == 1 else asked if len(asked) <= 60 else f"{len(entries)} runs"


def _settings(how: FitFlags, total_steps: float | None) -> Settings:
    from entlaw.report.html_entry import Settings

    return Settings(how.window, how.method, how.level, how.problems, how.samples, how.force, total_steps)


def _check(targets: dict[str, Path | None], total_steps: float | None, json: bool) -> None:
    """Refuse what cannot be written, or would overwrite itself, before any work is done."""
    import math

    given = [(option, path) for option, path in targets.items() if path is not None]
    for i, (option, path) in enumerate(given):
        stdout = path == Path("-")
        if not stdout and path.name.startswith("-"):
            raise UsageError(f"{option} {path} has no file name", hint=f"e.g. {option} table.tex")
        if stdout and (option in ("-o", "--pdf") or json):
            raise UsageError(
                f"{option} - cannot go to stdout" + (" beside --json" if json else ""), hint="name a file"
            )
        for other, same in given[:i]:
            if same == path:
                raise UsageError(f"{other} and {option} would write the same file", where=str(path))
        if not stdout and path.is_dir():
            raise UsageError(
                "this is a folder", where=str(path), hint=f"e.g. {option} {path / 'report.html'}"
            )
        if not stdout and not path.parent.is_dir():
            raise UsageError(
                "the folder does not exist", where=str(path.parent), hint=f"mkdir -p {path.parent}"
            )
    if total_steps is not None and not (math.isfinite(total_steps) and total_steps > 0):
        raise UsageError(
            f"--total-steps {total_steps:g} is no number of steps", hint="e.g. --total-steps 500"
        )


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


def _slow(items: Iterable[T], description: str) -> Iterator[T]:
    """Iterate with a bar on stderr, which comes only when it takes longer than :data:`_PATIENCE`, on a terminal."""
    listed = list(items)
    if not sys.stderr.isatty():
        yield from listed
        return
    from rich.progress import Progress

    progress = Progress(console=console(stderr=True), transient=True)
    task = progress.add_task(description, total=len(listed))
    started = time.monotonic()
    try:
        for item in listed:
            yield item
            progress.advance(task)
            if not progress.live.is_started and time.monotonic() - started > _PATIENCE:
                progress.start()
    finally:
        progress.stop()


def _tables(
    entries: list[Entry], level: float, version: str, latex: Path | None, markdown: Path | None
) -> None:
    from entlaw.report import table

    for path, make in ((latex, table.latex), (markdown, table.markdown)):
        if path == Path("-"):
            sys.stdout.write(make(entries, level, version))
        elif path is not None:
            write_text(path, make(entries, level, version))


def _tell(entries: list[Entry]) -> None:
    """The verdict on all, on stdout."""
    from entlaw.report.html_words import overall

    told = overall(entries)
    out = console()
    out.print(told.headline, style="bold")
    for line in told.details:
        out.print(f"  {line}")


def as_dict(entries: list[Entry], about: About) -> dict[str, Any]:
    """Schema ``entlaw.report/1``: what the page says, as data."""
    from entlaw.report.html_words import overall

    told = overall(entries)
    return {
        "schema": "entlaw.report/1", "version": about.version, "title": about.title, "command": about.command,
        "date": about.date, "verdict": {"headline": told.headline, "details": told.details},
        "runs": [_run_dict(e, o) for e, o in zip(entries, about.origins, strict=True)],
    }  # fmt: skip


def _run_dict(e: Entry, origin: Origin) -> dict[str, Any]:
    from entlaw.report.html_words import of_run

    told, future = of_run(e), e.future
    found: dict[str, Any] = {
        "name": e.label, "path": e.reading.path, "bytes": origin.size, "sha256": origin.sha256, "verdict": e.use,
        "headline": told.headline, "details": told.details, "planned_steps": e.planned,
        "last": None if e.last is None else {"step": e.last[0], "performance": e.last[1]},
        "fit": None if e.shown is None else fit_as_dict(e.shown),
        "holdout": None if e.holdout is None else e.holdout.__dict__,
        "forecast_of_last": _forecast(e.early), "findings": [f.as_dict() for f in e.findings], "future": None,
    }  # fmt: skip
    if future is not None:
        found["future"] = {
            "verdict": future.verdict, "why": future.why, "p_gain": future.probability, "end": future.end,
            "final": _forecast(future.final),
            "ceiling": None if future.ceiling is None else
            {"performance": future.ceiling[0], "interval": future.ceiling[1].__dict__},
        }  # fmt: skip
    if e.error is not None:
        found["error"] = e.error.as_dict()
    return found


def _forecast(f: Any) -> dict[str, Any] | None:
    if f is None:
        return None
    return {
        "step": f.target,
        "performance": f.performance,
        "interval": f.interval.__dict__,
        "entropy": f.entropy,
    }
