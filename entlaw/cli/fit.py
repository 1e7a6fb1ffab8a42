"""``entlaw fit``: where each run will end, the law's ceiling and whether it may be quoted, a plot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from entlaw.cli.options import FitFlags, JsonFlag, PlotFlag, ReadFlags, Sources, TotalSteps, output_option
from entlaw.cli.output import check_folder, console, dump_json, print_json, track, write_bytes, write_text
from entlaw.errors import UsageError
from entlaw.wording import describe_suffix

if TYPE_CHECKING:
    from entlaw.law.examined import Examined
    from entlaw.law.settings import Settings
    from entlaw.runs.reader import Reading

PLOT_SUFFIXES = (".pdf", ".svg", ".png")
RESULT_SUFFIXES = (".json", ".csv")


def fit(
    source: Sources,
    /,
    *,
    total_steps: TotalSteps = None,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    plot: PlotFlag = None,
    output: Annotated[
        Path | None, output_option("FILE.json: all of it; FILE.csv: one row for each run.")
    ] = None,
    json: JsonFlag = False,
) -> int:
    """Fit R = -a exp(H) + b on the early steps of each run: the ceiling b - a, its verdict, and a forecast.

    The law has the steps up to 36, the forecast all that is logged; --until-step and --all say otherwise. Exit code 0
    when the law of at least one run is not refused; otherwise that of the first failure (3 unreadable, 4 refused).
    """
    settings = how.settings(total_steps=total_steps)
    check_targets(plot, output, RESULT_SUFFIXES)
    examined = examine_sources(source, read, settings)
    written = write_plots(examined, plot) if plot else []
    whole = {"schema": "entlaw.fit/2", "version": _version(), "runs": [e.to_dict() for e in examined]}
    if output:
        if output.suffix.lower() == ".csv":
            from entlaw.report.table import runs_csv

            write_text(output, runs_csv(examined))
        else:
            write_text(output, dump_json(whole))
        written.append(output)
    if json:
        print_json(whole)
    else:
        from entlaw.cli.fit_view import show

        show(examined)
    show_written(written)
    return exit_code(examined)


def exit_code(examined: Sequence[Examined]) -> int:
    """0 when the law of a run is not refused, otherwise that of the first failure."""
    failures = [e.failure for e in examined]
    if None in failures:
        return 0
    return next((error.exit_code for error in failures if error is not None), 3)


def show_written(written: list[Path]) -> None:
    """Name the files, or count them when there are many."""
    lines = [f"wrote {path}" for path in written]
    if len(written) > 4:
        kinds = [p.suffix for p in written]
        counted = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
        lines = [f"wrote {counted} files into {written[0].parent}"]
    for line in lines:
        console(stderr=True).print(line, style="dim")


def _version() -> str:
    from entlaw._version import __version__

    return __version__


def scan_sources(source: Sequence[str], read: ReadFlags) -> Iterator[Reading]:
    """Readings of all sources; imported late so that ``--help`` stays quick."""
    from entlaw.runs.reader import scan

    kept = without_given_copies(source)
    for left in [one for one in source if one not in kept]:
        console(stderr=True).print(
            f"entlaw: {left} is passed over: the packed copy of {left.removesuffix('.gz')}, which is given too"
        )
    return scan(kept, read.selection())


def without_given_copies(source: Sequence[str]) -> list[str]:
    """The sources without each ``x.gz`` whose ``x`` is given as well: one log must not count twice."""
    files = {Path(one).resolve() for one in source if Path(one).is_file()}
    return [
        one for one in source if not (one.endswith(".gz") and Path(one).resolve().with_suffix("") in files)
    ]


def print_gathered(readings: Iterable[Reading]) -> None:
    """Say which logs were taken for one run."""
    for reading in readings:
        for found in () if reading.raw is None else reading.raw.findings:
            if found.code in ("same-run", "continued"):
                console(stderr=True).print(f"{found.code}: {found.what}", style="dim", markup=False)


def examine_sources(
    source: Sequence[str], read: ReadFlags, settings: Settings, *, ahead: bool = True
) -> list[Examined]:
    """Read and examine all runs; one bad run does not spoil the others.

    Parameters
    ----------
    source : sequence of str
    read : ReadFlags
    settings : Settings
    ahead : bool
        Make the forecasts too, while the progress is shown; otherwise they are made when asked for.
    """
    from entlaw.law.examined import examine_reading, label_runs
    from entlaw.law.summary import list_rows

    readings = list(track(scan_sources(source, read), "reading"))
    if len(readings) > 1:  # a single run shows its findings
        print_gathered(readings)
    named = list(zip(readings, label_runs(readings), strict=True))
    examined = []
    for reading, label in track(named, "fitting"):
        examined.append(examine_reading(reading, settings, label))
        if ahead and (result := examined[-1].result) is not None:
            list_rows(result)  # a result computes when asked: here, where progress is shown
    return examined


def check_targets(plot: Path | None, output: Path | None, suffixes: tuple[str, ...] = ()) -> None:
    """Refuse targets that cannot be written before any work is done.

    Parameters
    ----------
    plot, output : Path or None
    suffixes : tuple of str
        What ``output`` may end with; anything where empty.
    """
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(
            f"cannot plot to {describe_suffix(plot)}",
            where=str(plot),
            hint=f"use one of {', '.join(PLOT_SUFFIXES)}",
        )
    if output is not None and suffixes and output.suffix.lower() not in suffixes:
        raise UsageError(
            f"cannot write a result to {describe_suffix(output)}",
            where=str(output),
            hint=f"-o takes a file that ends with {' or '.join(suffixes)}",
        )
    if plot is not None and output is not None and output in (plot, plot.with_suffix(".csv")):
        raise UsageError(
            "--plot and -o would write the same file",
            where=str(output),
            hint="--plot writes its numbers as .csv beside the figure; name another file with -o",
        )
    for path in (plot, output):
        if path is not None:
            check_folder(path.parent)


def write_plots(examined: Sequence[Examined], plot: Path) -> list[Path]:
    """One figure and one CSV for each run with points; several runs get their name in the file's name."""
    from entlaw.report.picture import points_csv
    from entlaw.report.plots import result_figure

    drawable = [(e.label, e.result) for e in examined if e.result is not None and e.result.points.n]
    written: list[Path] = []
    taken: set[Path] = set()
    for label, result in drawable:
        path = plot
        if len(drawable) > 1:
            slug = re.sub(r"[^\w.-]+", "-", label).strip("-")[:60] or "run"
            path = plot.with_name(f"{plot.stem}-{slug}{plot.suffix}")
            number = 2
            while path in taken:
                path, number = plot.with_name(f"{plot.stem}-{slug}-{number}{plot.suffix}"), number + 1
            taken.add(path)
        write_bytes(path, result_figure(result, path.suffix.lower().lstrip(".")))
        write_text(path.with_suffix(".csv"), points_csv(result))
        written += [path, path.with_suffix(".csv")]
    return written
