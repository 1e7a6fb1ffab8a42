"""``entlaw predict``: where performance will be, at a given entropy or at a given step."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.fit import Outcome, one, scan_sources
from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags
from entlaw.cli.output import console, law_text, print_findings, print_json, show_error, track
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.law.library import Calibration, Lesson
    from entlaw.law.shapes import Forecast

MOST_STEPS = 1e9  # a step a second for thirty years
FAR = 20.0  # times the log: beyond, the forecast says what form was assumed, not what the run does


def predict(
    source: Annotated[list[str], Parameter(help="Files, folders or quoted globs.")],
    /,
    *,
    entropy: Annotated[
        list[float] | None, Parameter(help="R given that this entropy will be reached.")
    ] = None,
    step: Annotated[
        list[float] | None, Parameter(help="R at this step, the entropy being forecast too.")
    ] = None,
    library: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Finished runs of yours (repeat the option): forecasts at a step become as wide as those runs needed.",
        ),
    ] = (),
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Predict performance at an entropy (--entropy, the paper's claim) or at a step (--step, entropy forecast too).

    With neither, the last logged step of each run is forecast. At a step the forecast holds what the law leaves out:
    that accuracy goes on growing when entropy hardly falls. --method paper is the law alone.
    """
    how.check()
    for value in entropy or []:
        if value < 0:
            raise UsageError(
                f"--entropy {value:g} is negative", hint="entropy in nats per token is at least 0"
            )
    for value in step or []:
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"--step {value:g} is no step of a run", hint="e.g. --step 500")
        if value > MOST_STEPS:
            raise UsageError(f"--step {value:g}: no run has that many steps", hint="e.g. --step 500")
    lessons = _lessons(library, read, how)
    outcomes = [one(reading, how) for reading in track(scan_sources(source, read), "predicting")]
    answers = [_answer(o, entropy or [], step or [], how, lessons) for o in outcomes]
    for o in outcomes:
        _warn_far(o, step or [])
    if json:
        told = [_as_dict(o, f) | ({"library": asdict(c)} if c else {}) for o, f, c in answers]
        print_json({"schema": "entlaw.predict/1", "runs": told})
    else:
        for c in {c for *_, c in answers if c is not None}:
            console(stderr=True).print(
                f"library: {c.forecasts} forecasts of {c.runs} runs needed intervals {c.raw:.2f} times as wide; "
                f"forecasts at a step are given {c.factor:.2f} times as wide", highlight=False,
            )  # fmt: skip
        for o, made, _ in answers:
            _show(o, made)
    if any(o.error is None for o in outcomes):
        return 0
    return next((o.error.exit_code for o in outcomes if o.error is not None), 3)


def _warn_far(o: Outcome, steps: list[float]) -> None:
    """Say on stderr which steps are so far out that the forecast is about the curve's form, not the run."""
    if o.error is not None or o.reading.run is None:
        return
    last = float(o.reading.run.metrics.index.max())
    far = [t for t in steps if t > FAR * max(last, 1.0)]
    if far:
        shown = ", ".join(f"{t:g}" for t in far)
        console(stderr=True).print(
            f"entlaw: {o.reading.name}: step {shown} is more than {FAR:g} times the last logged one ({last:g}): "
            "this is extrapolation, and nothing in the log supports it"
        )


def _lessons(library: tuple[str, ...], read: ReadFlags, how: FitFlags) -> list[Lesson] | None:
    """What the library's runs tell; None without one."""
    if not library:
        return None
    if how.method != "careful":
        raise UsageError(
            f"--library calibrates the careful forecast, not --method {how.method}",
            hint="leave one of them out",
        )
    from entlaw.law.library import learn
    from entlaw.points import Points

    readings = list(track(scan_sources(list(library), read), "reading the library"))
    runs = [reading.run for reading in readings if reading.run is not None]
    lessons = learn(Points.from_run(run) for run in track(runs, "learning from the library"))
    if left := len(readings) - len(lessons):
        console(stderr=True).print(
            f"library: nothing to learn from {left} of {len(readings)} runs: not readable, or never answered"
        )
    return lessons


def _answer(
    o: Outcome, entropies: list[float], steps: list[float], how: FitFlags, lessons: list[Lesson] | None
) -> tuple[Outcome, list[Forecast], Calibration | None]:
    """A run's forecasts, and what the library said of their widths."""
    if lessons is None or o.error is not None or o.reading.run is None:
        return o, forecasts(o, entropies, steps, how), None
    from entlaw.law.library import calibrate_for
    from entlaw.points import Points

    learned = calibrate_for(Points.from_run(o.reading.run), lessons)
    return o, forecasts(o, entropies, steps, how, learned.factor), learned


def forecasts(
    o: Outcome, entropies: list[float], steps: list[float], how: FitFlags, width: float = 1.0
) -> list[Forecast]:
    """The forecasts asked for, none for a run without an accepted fit."""
    from entlaw.law.forecast import predict_at_entropy

    if o.error is not None or o.fit is None or o.reading.run is None:
        return []
    if not entropies and not steps:
        steps = [float(o.reading.run.metrics.index.max())]
    level = how.level
    made = [predict_at_entropy(o.fit, h, level) for h in entropies]
    return made + [_at_step(o, t, level, how, width) for t in steps]


def _at_step(o: Outcome, step: float, level: float, how: FitFlags, width: float) -> Forecast:
    """With what the law leaves out; of the law alone by --method paper, and for steps that are past."""
    from entlaw.law.forecast import Outlook, forecast_at_step

    assert o.fit is not None and o.reading.run is not None
    if how.method == "careful":
        seen = Outlook.of(o.reading.run, how.window, force=how.force)
        if seen.can_answer and step > seen.points.step[-1]:
            return replace(seen, width=width).forecast(step, level)
    return forecast_at_step(o.fit, step, o.reading.run, level)


def _as_dict(o: Outcome, made: list[Forecast]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": o.reading.name,
        "path": o.reading.path,
        "verdict": o.verdict,
        "fit": None if o.fit is None else {
            "method": o.fit.method, "until_step": o.fit.until_step, "n": o.fit.n, "a": o.fit.a, "b": o.fit.b
        },
        "forecasts": [
            {**f.__dict__, "interval": f.interval.__dict__,
             "entropy_interval": f.entropy_interval.__dict__ if f.entropy_interval else None}
            for f in made
        ],
        "findings": [f.as_dict() for f in o.findings],
    }  # fmt: skip
    if o.error is not None:
        told["error"] = o.error.as_dict()
    return told


def _show(o: Outcome, made: list[Forecast]) -> None:
    from rich.text import Text

    if o.error is not None and not o.findings:
        show_error(o.error)
        return
    out = console()
    out.print(Text(o.reading.name, style="bold underline"))
    if made and o.fit is not None:
        out.print(f"  law: {law_text(o.fit)}", markup=False)
    for f in made:
        where = f"at H = {f.target:.3f}" if f.kind == "at-entropy" else f"at step {f.target:g}"
        reach = ""
        if f.entropy_interval is not None:
            i = f.entropy_interval
            reach = f"; H forecast {f.entropy:.3f} [{i.lo:.3f}, {i.hi:.3f}]"
        out.print(f"  {where}: R = {f.performance:.3f}, {f.interval.level:.0%} prediction interval "
                  f"[{f.interval.lo:.3f}, {f.interval.hi:.3f}]{reach}", markup=False)  # fmt: skip
        if f.extrapolation > 0:
            out.print(
                f"      extrapolated by {f.extrapolation:.2f} of the fitted range of exp(H)", markup=False
            )
        if not 0 <= f.performance <= 1 and o.fit is not None and o.fit.points.given.shares:
            out.print(
                "      a score cannot go there: the law must bend before (reported as computed)", markup=False
            )
    out.print(f"  verdict: {o.verdict}")
    print_findings(o.findings)
