"""What people give to the Python API, as runs, settings and results.

A run is given as a :class:`entlaw.Run`, points, a result, a frame, arrays, or as a path that is read; many runs as a
list of these, a folder or a glob.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from entlaw.errors import DataError, EntlawError, UsageError, nearest
from entlaw.limits import Unset
from entlaw.wording import in_python

if TYPE_CHECKING:
    import pandas as pd

    from entlaw.law.examined import Examined
    from entlaw.law.result import Result
    from entlaw.law.settings import Settings
    from entlaw.law.shapes import Method
    from entlaw.points import Points
    from entlaw.runs.prepare import Selection
    from entlaw.runs.reader import Reading
    from entlaw.runs.run import Align, Run
    from entlaw.runs.wandb.listing import Query

Place = str | os.PathLike[str]


class ReadKeywords(TypedDict, total=False):
    """How a log is read: the fields of :class:`entlaw.Selection` as keywords."""

    on: str | None
    align: Align | None
    scale: float | None
    step_key: str | None
    entropy_key: str | None
    join: bool
    query: Query | None


class FitOptions(TypedDict, total=False):
    """How a law is fitted: fields of :class:`entlaw.law.settings.Settings` as keywords."""

    until_step: float | Unset | None
    method: Method
    level: float
    problems: float | None
    samples: float | None
    force: bool
    total_steps: float | None


class Options(FitOptions, ReadKeywords, total=False):
    """Both."""


@contextmanager
def python_words() -> Iterator[None]:
    """Let errors on their way to a caller name keywords, not the command line's options."""
    try:
        yield
    except EntlawError as error:
        in_python(error)
        raise


def selection_of(given: Selection | None, options: dict[str, Any]) -> Selection:
    """A selection with some of its fields from keywords."""
    from entlaw.runs.prepare import Selection

    _check_names(options, ReadKeywords.__annotations__)
    return replace(given or Selection(), **options)


def settings_of(
    options: dict[str, Any], selection: Selection | None = None
) -> tuple[Settings, Selection | None]:
    """Keywords shared out; the selection is None where nothing was said of reading."""
    from entlaw.law.settings import Settings

    mine = FitOptions.__annotations__
    _check_names(options, {**mine, **ReadKeywords.__annotations__})
    settings = Settings(**{k: v for k, v in options.items() if k in mine})
    settings.check()
    reading = {k: v for k, v in options.items() if k not in mine}
    return settings, selection_of(selection, reading) if reading else selection


def read_all(source: Place | Iterable[Place], selection: Selection | None) -> list[Run]:
    """All usable runs of a source, in Python's words."""
    from entlaw.runs import reader

    return [in_python(run) for run in reader.read(source, selection)]


def scan_all(source: Place | Iterable[Place], selection: Selection | None) -> Iterator[Reading]:
    """All runs of a source, usable or not, in Python's words."""
    from entlaw.runs import reader

    for reading in reader.scan(source, selection):
        yield replace(reading, run=in_python(reading.run), error=in_python(reading.error))


def one_run(given: Any, selection: Selection | None = None) -> Run | Points:
    """The one run that something holds.

    Raises
    ------
    UsageError
        It holds several, or is of no known kind.
    DataError
        It cannot be read.
    """
    import pandas as pd

    from entlaw.points import Points
    from entlaw.runs.run import Run

    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, (str, os.PathLike)):
        found = read_all(given, selection)
        if len(found) > 1:
            hint = "fit_all(...) fits all; read(...) gives them, to choose one"
            raise UsageError(f"there are {len(found)} runs", where=os.fspath(given), hint=hint)
        return found[0]
    if isinstance(given, pd.DataFrame):
        return _of_frame(given, selection)
    if selection is not None:
        kind = type(given).__name__
        hint = "give on, entropy_key and the like to read(...)"
        raise UsageError(f"options of reading do not apply to a {kind}", why="it is read already", hint=hint)
    if isinstance(given, Run):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        try:
            return Points.from_arrays(*given)
        except UsageError as error:
            error.what = "steps, H and R must be numbers, one-dimensional and of equal length"
            raise
    return Points.of(given)


def the_run(given: Any) -> Run:
    """As :func:`one_run`, but a run: points alone are not enough."""
    from entlaw.runs.run import Run

    run = one_run(given)
    if not isinstance(run, Run):
        raise UsageError(f"a run is needed, not {type(run).__name__}", hint="read(...) gives runs")
    return run


def result_of(
    data: tuple[Any, ...], settings: Settings, selection: Selection | None = None, name: str | None = None
) -> Result:
    """All that is said of one run, in Python's words: of what holds it, or of arrays H, R or steps, H, R."""
    from entlaw.law.result import Result, examine

    if len(data) == 2:
        data = (range(_length(data[0])), *data)
        if isinstance(settings.until_step, Unset):  # there is no step 36
            settings = replace(settings, until_step=None)
    given: Any = data[0] if len(data) == 1 else data
    if isinstance(given, Result):
        source = given.points if given.run is None else given.run
        result = examine(source, settings, points=given.points, name=name or given.name)
    else:
        result = examine(one_run(given, selection), settings, name=name)
    refusal = None if result.refusal is None else in_python(result.refusal)
    return replace(result, law=in_python(result.law), refusal=refusal, reword=in_python)


def rows_of(source: Any, settings: Settings, selection: Selection | None) -> list[Examined]:
    """One row a run, whatever becomes of it.

    Raises
    ------
    UsageError
        There is none, or the settings make no sense.
    """
    from entlaw.law.examined import Examined, label_runs

    found = []
    for reading, given in _readings(source, selection):
        result = None
        if reading.error is None:
            result = result_of((reading.run if given is None else given,), settings)
        found.append((reading, result))
    if not found:
        raise UsageError("no run was given", hint="give a path, a run, or a list of them")
    labels = label_runs([reading for reading, _ in found])
    return [
        Examined(reading, result, reading.error, label)
        for (reading, result), label in zip(found, labels, strict=True)
    ]


def results_of(source: Any, settings: Settings, selection: Selection | None) -> list[Result]:
    """The results of :func:`rows_of`.

    Raises
    ------
    EntlawError
        That of the first run, where none can be read.
    """
    rows = rows_of(source, settings, selection)
    usable = [row.result for row in rows if row.result is not None]
    if not usable:
        assert rows[0].error is not None
        raise rows[0].error
    return usable


def points_of_all(source: Any, selection: Selection | None) -> list[Points]:
    """Points of all that can be read; each item of a list counts as one source of runs.

    Raises
    ------
    DataError
        There are none.
    """
    from entlaw.points import Points

    found = []
    for reading, given in _readings(source, selection):
        if reading.error is None:
            points = Points.of(reading.run if given is None else getattr(given, "points", given))
            found.append(replace(points, source=reading.source or points.source))
    if not found:
        raise DataError("no run can be used", hint="fit_all(...) says what is wrong with each")
    return found


def is_many(asked: Any) -> bool:
    """Whether several values are asked for."""
    return asked is not None and hasattr(asked, "__len__") and not isinstance(asked, str)


def numbers(asked: Any) -> tuple[float, ...]:
    """One number or many as a tuple."""
    try:
        return tuple(float(x) for x in (asked if is_many(asked) else (asked,)))
    except (TypeError, ValueError):
        raise UsageError(f"steps and entropies are numbers, not {asked!r}") from None


def _check_names(options: dict[str, Any], known: dict[str, Any]) -> None:
    for name in options:
        if name not in known:
            raise UsageError(
                f"no keyword {name!r}", hint=nearest(name, known) or f"there are {', '.join(known)}"
            )


def _of_frame(frame: pd.DataFrame, selection: Selection | None) -> Run | Points:
    from entlaw.points import Points
    from entlaw.runs.frame import runs_in_frame
    from entlaw.runs.prepare import to_run

    if selection is None and _holds_points(frame):
        told = frame if "step" in frame.columns else frame.assign(step=frame.index)
        log = None if "entropy_step" in told.columns else (told["step"], told["entropy"])
        return Points.from_frame(told, log=log)
    raws = runs_in_frame(frame)
    if len(raws) > 1:
        raise UsageError(f"the frame holds {len(raws)} runs", hint="fit_all(...) fits all of them")
    return in_python(to_run(raws[0], selection))


def _holds_points(frame: pd.DataFrame) -> bool:
    return {"entropy", "performance"} <= set(frame.columns)


def _readings(source: Any, selection: Selection | None) -> Iterator[tuple[Reading, Any]]:
    """Each run as it was read; of what was no log, a reading without a run beside what it is instead."""
    import pandas as pd

    from entlaw.law.result import Result
    from entlaw.points import Points
    from entlaw.runs.frame import runs_in_frame
    from entlaw.runs.prepare import Selection
    from entlaw.runs.reader import Reading, reading
    from entlaw.runs.run import RawRun, Run

    if isinstance(source, list) and source and all(isinstance(one, (str, os.PathLike)) for one in source):
        yield from ((found, None) for found in scan_all(source, selection))  # copies among them are known
        return
    single = isinstance(source, (str, os.PathLike, Run, Points, Result, pd.DataFrame, tuple))
    for i, one in enumerate([source] if single else source):
        label = str(getattr(one, "name", "")) or f"{type(one).__name__} {i}"
        is_path = isinstance(one, (str, os.PathLike))
        try:
            if is_path:
                label = os.fspath(one)
                yield from ((found, None) for found in scan_all(one, selection))
            elif isinstance(one, pd.DataFrame) and not _holds_points(one):
                for raw in runs_in_frame(one, label):
                    found = reading(label, raw, selection or Selection(), label)
                    yield replace(found, run=in_python(found.run), error=in_python(found.error)), None
            elif isinstance(one, Run):
                raw = RawRun(one.name, one.metrics.reset_index(), one.config, one.provenance, one.findings)
                yield Reading(one.provenance.path, raw, one, None), None
            else:
                yield Reading(label, None, None, None), one if isinstance(one, Result) else one_run(one)
        except EntlawError as error:
            if is_path and isinstance(error, UsageError):  # options for the reader that make no sense
                raise
            yield Reading(label, None, None, in_python(error)), None


def _length(given: Any) -> int:
    try:
        return len(given)
    except TypeError:
        raise UsageError(f"H must be a sequence of numbers, not {type(given).__name__}") from None
