"""``entlaw fit``: the law, the ceiling with an interval, a verdict, a plot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags
from entlaw.cli.outcome import Outcome as Outcome
from entlaw.cli.output import console, dump_json, print_json, track, write_bytes, write_text
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.law.shapes import Fit
    from entlaw.runs.reader import Reading

PLOT_SUFFIXES = (".pdf", ".svg", ".png")


def fit(
    source: Annotated[list[str], Parameter(help="Files, folders or quoted globs.")],
    /,
    *,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    plot: Annotated[Path | None, Parameter(help="Write the figure (.pdf, .svg or .png) and its CSV.")] = None,
    output: Annotated[
        Path | None, Parameter(name=["-o", "--output"], help="Write the JSON result to a file.")
    ] = None,
    json: JsonFlag = False,
) -> int:
    """Fit R = -a exp(H) + b on the early steps of each run and report the ceiling b - a with its interval.

    Exit code 0 when at least one run got an answer; otherwise that of the first failure (3 unreadable, 4 refused).
    """
    how.check()
    check_targets(plot, output)
    outcomes = [one(reading, how) for reading in track(scan_sources(source, read), "fitting")]
    result = {"schema": "entlaw.fit/1", "version": _version(), "runs": [as_dict(o) for o in outcomes]}
    written = write_plots(outcomes, plot, how.level) if plot else []
    if output:
        write_text(output, dump_json(result))
        written.append(output)
    if json:
        print_json(result)
    else:
        from entlaw.cli.fit_view import show

        show(outcomes)
    _say_written(written)
    if any(o.error is None for o in outcomes):
        return 0
    return next((o.error.exit_code for o in outcomes if o.error is not None), 3)


def _say_written(written: list[Path]) -> None:
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


def scan_sources(source: list[str], read: ReadFlags) -> Any:
    """Readings of all sources; imported late so that ``--help`` stays quick."""
    from entlaw.runs.reader import scan

    kept = without_given_copies(source)
    for left in [one for one in source if one not in kept]:
        console(stderr=True).print(
            f"entlaw: {left} is passed over: the packed copy of {left.removesuffix('.gz')}, which is given too"
        )
    return scan(kept, read.selection())


def without_given_copies(source: list[str]) -> list[str]:
    """The sources without each ``x.gz`` whose ``x`` is given as well: one log must not count twice."""
    files = {Path(one).resolve() for one in source if Path(one).is_file()}
    return [
        one for one in source if not (one.endswith(".gz") and Path(one).resolve().with_suffix("") in files)
    ]


def check_targets(plot: Path | None, output: Path | None) -> None:
    """Refuse targets that cannot be written before any work is done."""
    if plot is not None and plot.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(f"cannot plot to {plot.suffix or 'a file without suffix'!r}", where=str(plot),
                         hint=f"use one of {', '.join(PLOT_SUFFIXES)}")  # fmt: skip
    if plot is not None and output is not None and output in (plot, plot.with_suffix(".csv")):
        raise UsageError(
            "--plot and -o would write the same file", where=str(output),
            hint="--plot writes its numbers as .csv beside the figure; name another file with -o",
        )  # fmt: skip
    for path in (plot, output):
        if path is not None and not path.parent.is_dir():
            raise UsageError(
                "the folder does not exist", where=str(path.parent), hint=f"mkdir -p {path.parent}"
            )


def one(reading: Reading, how: FitFlags) -> Outcome:
    """Fit one run; errors are kept, not raised, so that one bad run does not spoil a table."""
    from entlaw.errors import FitRefused
    from entlaw.law.fit import fit as fit_run
    from entlaw.law.shapes import holdout
    from entlaw.points import Points

    if reading.run is None:
        return Outcome(reading, None, None, reading.error)
    try:
        fitted = fit_run(
            reading.run, until_step=how.window, method=how.method, level=how.level, problems=how.problems,
            samples=how.samples, force=how.force,
        )  # fmt: skip
    except FitRefused as error:
        return Outcome(reading, error.fit, None, error)
    return Outcome(reading, fitted, holdout(fitted, Points.from_run(reading.run)), None)


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """One run of schema ``entlaw.fit/1``."""
    reading, fit_, run = outcome.reading, outcome.fit, outcome.reading.run
    told: dict[str, Any] = {"name": reading.name, "path": reading.path, "verdict": outcome.verdict}
    if run is not None:
        told |= {
            "format": run.provenance.format, "framework": run.provenance.framework, "entropy": run.entropy.__dict__,
            "performance_key": run.performance_key, "performance_kind": run.performance_kind,
            "performance_scale": run.performance_scale, "align": run.align,
            "choices": [c.__dict__ for c in run.choices],
        }  # fmt: skip
    if fit_ is not None:
        told["fit"] = fit_as_dict(fit_)
    if outcome.holdout is not None:
        told["holdout"] = outcome.holdout.__dict__
    told["findings"] = [f.as_dict() for f in outcome.findings]
    if outcome.error is not None:
        told["error"] = outcome.error.as_dict()
    return told


def fit_as_dict(fit_: Fit) -> dict[str, Any]:
    """The fit as plain data; lengths in the arrays equal ``n``."""
    p = fit_.points
    return {
        "method": fit_.method, "until_step": fit_.until_step, "n": fit_.n, "a": fit_.a, "b": fit_.b,
        "covariance": fit_.covariance, "ceiling": fit_.ceiling, "ceiling_interval": fit_.ceiling_interval.__dict__,
        "r_squared": fit_.r_squared, "residual_sd": fit_.residual_sd,
        "residual_autocorrelation": fit_.residual_autocorrelation, "entropy_range": fit_.entropy_range,
        "noise": fit_.noise,
        "points": {
            "step": p.step, "entropy": p.entropy, "entropy_logged": p.given.entropy, "performance": p.score,
            "leverage": p.leverage, "ceiling_without": p.ceiling_without,
        },
    }  # fmt: skip


def write_plots(outcomes: list[Outcome], plot: Path, level: float) -> list[Path]:
    """One figure and one CSV a run that has a fit; several runs get their name in the file's name."""
    from entlaw.report.picture import points_csv
    from entlaw.report.plots import fit_figure

    drawable = [o for o in outcomes if o.fit is not None and o.reading.run is not None]
    written: list[Path] = []
    taken: set[Path] = set()
    for o in drawable:
        assert o.fit is not None and o.reading.run is not None
        path = plot
        if len(drawable) > 1:
            slug = re.sub(r"[^\w.-]+", "-", o.reading.name).strip("-")[:60] or "run"
            path = plot.with_name(f"{plot.stem}-{slug}{plot.suffix}")
            number = 2
            while path in taken:
                path, number = plot.with_name(f"{plot.stem}-{slug}-{number}{plot.suffix}"), number + 1
            taken.add(path)
        write_bytes(path, fit_figure(o.fit, o.reading.run, path.suffix.lower().lstrip("."), level=level))
        write_text(path.with_suffix(".csv"), points_csv(o.reading.run, o.fit))
        written += [path, path.with_suffix(".csv")]
    return written
