"""``entlaw predict``: where the score will be, at a given step or at a given entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from entlaw.cli.fit import examine_sources, scan_sources
from entlaw.cli.options import Entropies, FitFlags, JsonFlag, ReadFlags, Sources, TotalSteps
from entlaw.cli.output import console, print_json, track
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.law.examined import Examined
    from entlaw.law.library import Calibration, Lesson
    from entlaw.law.result import Result

FAR = 20.0  # times the log: beyond, the forecast says what form was assumed, not what the run does


def predict(
    source: Sources,
    /,
    *,
    step: Annotated[
        tuple[float, ...],
        Parameter(help="Predict the score at this step, and the entropy (repeat for more)."),
    ] = (),
    entropy: Entropies = (),
    model: Annotated[
        Literal["growth", "law"] | None,
        Parameter(
            help="growth (by default): the law, with a score that goes on growing; law: the fitted law alone, which "
            "--method paper implies."
        ),
    ] = None,
    total_steps: TotalSteps = None,
    library: Annotated[
        tuple[str, ...],
        Parameter(
            help="Finished runs of yours (repeat for more): forecasts at a step become as wide as those runs needed."
        ),
    ] = (),
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Predict the score at a step (--step, the entropy being predicted too) or at an entropy (--entropy).

    With neither, at the planned end of each run, or after as long again. The model growth uses all that is logged, the
    model law the steps up to 36; --until-step and --all say otherwise. Exit code 0 when a forecast is given; 4 when
    every run is refused.
    """
    if how.method == "paper" and model == "growth":
        raise UsageError(
            "--method paper and --model growth exclude each other",
            why="plain least squares knows no growth: it gives the law alone",
            hint="leave one of them out",
        )
    chosen = model or ("law" if how.method == "paper" else "growth")
    settings = how.settings(steps=step, entropies=entropy, total_steps=total_steps, model=chosen)
    lessons = _lessons(library, read, chosen)
    examined = examine_sources(source, read, settings, ahead=lessons is None)
    learned: list[Calibration | None] = [None] * len(examined)
    if lessons is not None:
        examined, learned = _stretch(examined, lessons)
    for e in examined:
        _warn_far(e, step)
    if json:
        told = [
            e.to_dict() | ({"library": asdict(c)} if c else {})
            for e, c in zip(examined, learned, strict=True)
        ]
        print_json({"schema": "entlaw.predict/2", "runs": told})
    else:
        _show_library(learned)
        for e in examined:
            _show(e, implied=model is None and chosen == "law")
    return exit_code(examined)


def exit_code(examined: Sequence[Examined]) -> int:
    """0 when any number is predicted; 2 when all that was asked cannot be asked; 4 when refused; 3 when unreadable."""
    results = [e.result for e in examined if e.result is not None]
    if any(r.forecast.at for r in results):
        return 0
    if not results:
        return next((e.error.exit_code for e in examined if e.error is not None), 3)
    failures = [error for r in results for error in r.forecast.failures]
    if failures and all(isinstance(error, UsageError) for error in failures):
        return UsageError.exit_code
    return 4


def _warn_far(e: Examined, steps: tuple[float, ...]) -> None:
    """Say on stderr which steps are so far out that the forecast is about the curve's form, not the run."""
    if e.result is None or e.result.run is None:
        return
    last = float(e.result.run.metrics.index.max())
    far = [one.step for one in e.result.forecast.at if one.step in steps and one.step > FAR * max(last, 1.0)]
    if far:
        shown = ", ".join(f"{t:g}" for t in far)
        console(stderr=True).print(
            f"entlaw: {e.label}: step {shown} is more than {FAR:g} times the last logged one ({last:g}): "
            "this is extrapolation, and nothing in the log supports it"
        )


def _lessons(library: tuple[str, ...], read: ReadFlags, model: str) -> list[Lesson] | None:
    """What the library's runs tell; None without one."""
    if not library:
        return None
    if model != "growth":
        raise UsageError(
            f"--library calibrates the model growth, not the model {model}", hint="leave one of them out"
        )
    from entlaw.law.library import learn
    from entlaw.points import Points

    readings = list(track(scan_sources(library, read), "reading the library"))
    runs = [reading.run for reading in readings if reading.run is not None]
    lessons = learn(Points.from_run(run) for run in track(runs, "learning from the library"))
    if left := len(readings) - len(lessons):
        console(stderr=True).print(
            f"library: nothing to learn from {left} of {len(readings)} runs: not readable, or never answered"
        )
    return lessons


def _stretch(
    examined: Sequence[Examined], lessons: list[Lesson]
) -> tuple[list[Examined], list[Calibration | None]]:
    """The runs with forecasts as wide as the library's runs needed, and what each learned from them."""
    from entlaw.law.library import calibrate_for

    made: list[tuple[Examined, Calibration | None]] = []
    for e in examined:
        if e.result is None:
            made.append((e, None))
            continue
        learned = calibrate_for(e.result.points, lessons)
        settings = replace(e.result.settings, width=learned.factor)
        made.append((replace(e, result=replace(e.result, settings=settings)), learned))
    return [e for e, _ in made], [c for _, c in made]


def _show_library(learned: Sequence[Calibration | None]) -> None:
    for c in {c for c in learned if c is not None}:
        console(stderr=True).print(
            f"library: {c.forecasts} forecasts of {c.runs} runs needed intervals {c.raw:.2f} times as wide; "
            f"forecasts at a step are given {c.factor:.2f} times as wide",
            highlight=False,
        )


def _show(e: Examined, implied: bool) -> None:
    """The numbers that were asked for, each with its model and window; the law where it is the model."""
    from entlaw.cli.fit_view import describe_force, show_one, show_result
    from entlaw.law.summary import describe_forecast, describe_gain, list_rows

    r = e.result
    if r is None:
        show_one(e)
        return
    told = [describe_forecast(one) for one in r.forecast.at]
    told += [f"no answer: {describe_failure(error)}" for error in r.forecast.failures]
    answer, *others = told or [f"no forecast: {r.forecast.why}"]
    rows = [("", text) for text in others]
    if implied:
        rows.append(("model", "the law alone, as --method paper implies"))
    if not (r.settings.steps or r.settings.entropies) and r.forecast.gain is not None:
        rows.insert(0, ("gain", f"{describe_gain(r.forecast)}."))
    wanted = ("read", "law", "verdict") if r.settings.model == "law" else ("read", "verdict")
    rows += [row for row in list_rows(r) if row[0] in wanted] + _note(r)
    if r.settings.model == "law":
        show_result(e.label, r, answer, rows, r.findings, describe_force(r))
    else:
        seen = r.forecast.outlook
        force = "--force predicts all the same" if seen.points.n >= 2 and not seen.can_answer else ""
        show_result(e.label, r, answer, rows, r.forecast.findings, force)


def describe_failure(error: Any) -> str:
    """Why a number is not given and what to do, as a user of the command line says it."""
    from entlaw.law.summary import describe_error

    return describe_error(error).replace("(until_step)", "with --until-step")


def _note(r: Result) -> list[tuple[str, str]]:
    """Of a number that no score can be."""
    beyond = r.points.shares and any(not 0 <= one.median <= 1 for one in r.forecast.at)
    return (
        [("note", "a score cannot go there: the law must bend before (shown as computed)")] if beyond else []
    )
