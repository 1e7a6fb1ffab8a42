"""``entlaw backtest``: what would have been predicted at earlier steps of finished runs, and how wrong it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, PlotFlag, ReadFlags, check_steps, meaning, output_option
from entlaw.cli.output import console, dump_json, print_json, show_error, track, write_bytes, write_text
from entlaw.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from entlaw.points import Points


def backtest(
    source: Annotated[
        list[str], Parameter(help="Files, folders or quoted globs; each counts as one source of runs.")
    ],
    /,
    *,
    origin: Annotated[
        tuple[float, ...], Parameter(help="Look from this share of a run (repeat for more).")
    ] = (),
    origin_step: Annotated[tuple[float, ...], Parameter(help="Look from this step (repeat for more).")] = (),
    by: Annotated[
        Literal["source", "horizon", "regime", "run"] | None, Parameter(help="Break the table down.")
    ] = None,
    rivals: Annotated[bool, Parameter(help="Score the rivals too.")] = True,
    gate: Annotated[
        float | None,
        Parameter(help="Exit with 4 unless the CRPS is this share below the last value's, e.g. 0.2."),
    ] = None,
    workers: Annotated[int, Parameter(help=meaning("workers"))] = 1,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    plot: PlotFlag = None,
    output: Annotated[Path | None, output_option("FILE.csv: every forecast; FILE.json: the scores.")] = None,
    json: JsonFlag = False,
) -> int:
    """Forecast finished runs from their past and score the forecasts against what was measured.

    By default seen from 10, 15, 25, 40, 50, 60 and 75 % of each run and from step 36, halfway to its end and to the
    end. Scores are of the forecasts that would have been given (the rest are refusals), every source counting alike.
    """
    from entlaw.cli.fit import RESULT_SUFFIXES, check_targets

    _check(origin, origin_step, workers, gate, rivals)
    check_targets(plot, output, RESULT_SUFFIXES)
    from entlaw.law.backtest import OUTLOOK, Plan, answered_only, shares_answered, table
    from entlaw.law.backtest import backtest as run_backtest

    plan = Plan(rivals=rivals)
    if origin or origin_step:
        plan = Plan(origin, origin_step, rivals)
    histories, unusable = _histories(source, read)
    rows = run_backtest(histories, plan, workers=workers)
    if not (rows["crps"].notna() & rows["answered"].astype(bool)).any():
        reasons = ", ".join(sorted(set(rows["codes"]) - {""}))
        raise DataError(
            f"none of {len(histories)} runs was answered at any origin",
            why=f"{len(rows)} questions, refused for: {reasons or 'nothing to look from'}",
            hint="give longer runs, or look from later (--origin 0.5)",
        )
    answered = answered_only(rows)
    whole = table(answered)
    parts = table(answered, [by]) if by else None
    shares = {
        "all": float(shares_answered(rows, None).iloc[0]),
        "entropy_fell": _share_of_fallen(rows),
    }
    told = {
        "schema": "entlaw.backtest/1",
        "runs": len(histories),
        "sources": rows["source"].nunique(),
        "unusable": unusable,
        "share_answered": shares,
        "scores": _records(whole),
        "by": by,
        "parts": _records(parts) if parts is not None else [],
    }
    written = []
    if output:
        as_csv = output.suffix.lower() == ".csv"
        write_text(output, rows.to_csv(index=False) if as_csv else dump_json(told))
        written.append(output)
    if plot:
        from entlaw.report.plots import backtest_figure

        write_bytes(plot, backtest_figure(whole, plot.suffix.lower().lstrip(".")))
        write_text(plot.with_suffix(".csv"), whole.to_csv())
        written += [plot, plot.with_suffix(".csv")]
    skill = float(whole.loc[OUTLOOK, "skill"]) if rivals else math.nan
    if json:
        print_json(told)
    else:
        _show(whole, parts, by, shares, len(histories), unusable)
    for path in written:
        console(stderr=True).print(f"wrote {path}", style="dim")
    if gate is not None and not skill >= gate:
        said = f"entlaw: skill {skill:.3f} is below the gate of {gate:g}"
        console(stderr=True).print(said, style="bold red")
        return 4
    return 0


def _check(
    origin: tuple[float, ...], origin_step: tuple[float, ...], workers: int, gate: float | None, rivals: bool
) -> None:
    for share in origin:
        if not 0 < share < 1:
            raise UsageError(f"--origin {share:g} is not between 0 and 1", hint="e.g. --origin 0.25")
    check_steps("--origin-step", origin_step, "e.g. --origin-step 36")
    if workers < 1:
        raise UsageError(f"--workers {workers} is not a positive number")
    if gate is not None and not rivals:
        raise UsageError("--gate needs the last value", hint="leave out --no-rivals")


def _histories(source: list[str], read: ReadFlags) -> tuple[list[Points], int]:
    from entlaw.cli.fit import print_gathered, scan_sources
    from entlaw.points import Points

    histories, unusable = [], 0
    readings = list(track(scan_sources(source, read), "reading"))
    print_gathered(readings)
    for reading in readings:
        if reading.run is None:
            unusable += 1
            if reading.error is not None and len(source) == 1:
                show_error(reading.error)
        else:
            histories.append(Points.from_run(reading.run, reading.source))
    if not histories:
        raise DataError("no run can be used", hint="`entlaw doctor SOURCE` says what was found")
    return histories, unusable


def _share_of_fallen(rows: pd.DataFrame) -> float | None:
    from entlaw.law.backtest import shares_answered

    fell = rows[rows["fell"].astype(bool)]
    return float(shares_answered(fell, None).iloc[0]) if len(fell) else None


def _records(scores: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(row) for row in scores.reset_index().to_dict("records")]


def _show(
    whole: pd.DataFrame,
    parts: pd.DataFrame | None,
    by: str | None,
    shares: dict[str, float | None],
    runs: int,
    unusable: int,
) -> None:
    from rich.table import Table

    out = console()
    fell = "" if shares["entropy_fell"] is None else f", {shares['entropy_fell']:.0%} where entropy fell"
    broken = f" ({unusable} more could not be read)" if unusable else ""
    out.print(f"{runs} runs{broken}; answered {shares['all']:.0%} of all origins{fell}")
    for title, scores in (("forecasts given", whole), (f"by {by}", parts)):
        if scores is None:
            continue
        shown = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        frame = scores.reset_index()
        names = [c for c in frame.columns if c in ("source", "run", "horizon", "regime", "forecaster")]
        figures = ["median_error", "rmse", "crps", "skill", "cover50", "cover80", "cover95", "width80"]
        for name in [*names, "n", *(f for f in figures if f in frame)]:
            shown.add_column(name, justify="left" if name in names else "right")
        keys = [*(n for n in names if n != "forecaster"), "crps"]
        for _, row in frame.sort_values(keys).iterrows():
            cells = [f"{row[f]:.3f}" for f in figures if f in frame]
            shown.add_row(*(str(row[n]) for n in names), str(int(row["forecasts"])), *cells)
        out.print(shown)
