"""The Python API: what ``entlaw.fit`` and its neighbours are. Thin functions over the rooms that do the work.

All take what people have at hand: a run as :func:`read` gives it, points, a pandas frame, a path, arrays. Errors and
findings name keywords here where the command line names options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from entlaw.errors import DataError, EntlawError, UsageError
from entlaw.limits import PAPER_WINDOW, UNSET, Unset
from entlaw.wording import in_python

if TYPE_CHECKING:
    import pandas as pd

    from entlaw.law.compare import Comparison
    from entlaw.law.examined import Examined
    from entlaw.law.forecast import Forecast, Model
    from entlaw.law.result import Result, Settings
    from entlaw.law.shapes import Method
    from entlaw.law.sizes import Sizes
    from entlaw.points import Points
    from entlaw.runs.prepare import Align, Selection
    from entlaw.runs.reader import Reading
    from entlaw.runs.run import Run
    from entlaw.runs.wandb.listing import Query
    from entlaw.watch.report import Report

Path_ = str | os.PathLike[str]


class ReadOptions(TypedDict, total=False):
    """How a log is read: the fields of :class:`entlaw.Selection` as keywords."""

    on: str | None
    align: Align | None
    scale: float | None
    step_key: str | None
    entropy_key: str | None
    performance_key: str | None
    join: bool
    query: Query | None


class FitOptions(TypedDict, total=False):
    """How a law is fitted: fields of :class:`entlaw.law.result.Settings` as keywords."""

    until_step: float | None | Unset
    method: Method
    level: float
    problems: float | None
    samples: float | None
    force: bool
    total_steps: float | None


class Options(FitOptions, ReadOptions, total=False):
    """Both."""


def read(
    source: Path_ | Iterable[Path_], selection: Selection | None = None, **options: Unpack[ReadOptions]
) -> list[Run]:
    """Read all usable runs of a source.

    Parameters
    ----------
    source : path, glob, folder, W&B address or URL, or a list of them
    selection : Selection, optional
    **options
        The fields of :class:`entlaw.Selection`, one by one: ``on``, ``align``, ``scale``, ``step_key``,
        ``entropy_key``, ``performance_key``, ``join``, ``query``.

    Returns
    -------
    list of Run
        At least one.

    Raises
    ------
    SourceNotFound
        A source does not exist.
    UnreadableSource, MissingSeries, ServerError
        Not a single run is usable: the first error found.
    UsageError
        An empty list of sources, or an unknown keyword.
    """
    from entlaw.runs import reader

    with _python_words():
        return [in_python(run) for run in reader.read(source, _selection(selection, dict(options)))]


def scan(
    source: Path_ | Iterable[Path_], selection: Selection | None = None, **options: Unpack[ReadOptions]
) -> Iterator[Reading]:
    """Read every run of a source, unusable ones too: each has its run or its error.

    Parameters
    ----------
    source, selection, **options
        As :func:`read` takes them.

    Yields
    ------
    entlaw.runs.reader.Reading

    Raises
    ------
    SourceNotFound, UnreadableSource, ServerError
        The only source given does not exist or holds no log.
    """
    from entlaw.runs import reader

    with _python_words():
        for reading in reader.scan(source, _selection(selection, dict(options))):
            yield replace(reading, run=in_python(reading.run), error=in_python(reading.error))


def fit(*data: Any, name: str | None = None, **options: Unpack[Options]) -> Result:
    """Fit the law to one run and say everything of it.

    Parameters
    ----------
    *data
        One run: a :class:`entlaw.Run`, :class:`entlaw.Points`, a frame, a path or W&B address, or arrays ``H, R`` or
        ``steps, H, R``. A frame with the columns ``entropy`` and ``performance`` holds points, its steps in the column
        ``step`` or the index; any other is read like a log. Arrays without steps are all used: there is no step 36.
    name : str, optional
        By default the run's own.
    **options
        ``until_step``: look at steps up to this one only, None for all; by default the law has the steps up to 36 and
        the forecast has all. ``method``: ``"careful"`` or ``"paper"``. ``level``: of the intervals, 0.95.
        ``problems``, ``samples``: size of the test, where the log does not tell. ``force``: fit where the findings
        refuse. ``total_steps``: where the run will end. And those of :func:`read` where something is to be read.

    Returns
    -------
    Result
        With ``ceiling``, ``ceiling_interval``, ``verdict``, ``forecast``, ``findings``, ``summary()``, ``plot()``.

    Raises
    ------
    FitRefused
        The findings speak against the law and ``force`` is not set; ``error.result`` is the result all the same.
    DataError
        Data cannot be read.
    UsageError
        An input of another kind, or options that make no sense.

    Examples
    --------
    >>> import numpy as np
    >>> import entlaw
    >>> H = 0.1 + np.exp(-np.arange(20) / 6)
    >>> R = 0.9 - 0.3 * np.exp(H) + 0.004 * np.cos(9 * np.arange(20))
    >>> round(entlaw.fit(H, R).ceiling, 2)
    0.6
    """
    with _python_words():
        settings, selection = _settings(dict(options))
        result = _examine(data, settings, selection, name)
        if result.law is None:
            assert result.refusal is not None
            result.refusal.result = result
            raise result.refusal
        return result


def fit_all(
    source: Any, *, selection: Selection | None = None, **options: Unpack[Options]
) -> pd.DataFrame:
    """Fit many runs; one row a run, those that are refused or cannot be read too.

    Parameters
    ----------
    source : path, Run, Points, DataFrame, or a list of these
        Folders, globs and W&B projects give all their runs.
    selection : Selection, optional
    **options
        As :func:`fit` takes them.

    Returns
    -------
    pandas.DataFrame
        Indexed by the run's name. ``verdict`` is ok, caution, passed, refused or unreadable; ``error`` says why there
        is no ceiling; ``source`` is where the run was read from.

    Raises
    ------
    UsageError
        Options that make no sense, or no source at all. One bad run never raises.
    """
    import pandas as pd

    with _python_words():
        settings, selection = _settings(dict(options), selection)
        rows = _examine_all(source, settings, selection)
    parts = []
    for one in rows:
        row = {"verdict": one.verdict} if one.result is None else one.result.to_row()
        failure = one.failure
        row |= {"error": "" if failure is None else failure.what, "source": one.reading.path}
        parts.append(row)
    index = pd.Index([one.label for one in rows], name="run")
    return pd.DataFrame(parts, index=index)


@overload
def forecast(
    data: Any, *, step: float | None = None, entropy: float | None = None, model: Model = "growth",
    width: float = 1.0, **options: Unpack[Options],
) -> Forecast: ...  # fmt: skip
@overload
def forecast(
    data: Any, *, step: Sequence[float], model: Model = "growth", width: float = 1.0, **options: Unpack[Options]
) -> list[Forecast]: ...  # fmt: skip
@overload
def forecast(
    data: Any, *, entropy: Sequence[float], model: Model = "growth", width: float = 1.0,
    **options: Unpack[Options],
) -> list[Forecast]: ...  # fmt: skip
def forecast(
    data: Any,
    *,
    step: float | Sequence[float] | None = None,
    entropy: float | Sequence[float] | None = None,
    model: Model = "growth",
    width: float = 1.0,
    **options: Unpack[Options],
) -> Forecast | list[Forecast]:
    """Predict a score at a later step, or at an entropy.

    Parameters
    ----------
    data : Run, Points, Result, DataFrame, path or tuple of arrays
        As :func:`fit` takes it.
    step, entropy : float or sequence of float, optional
        One of them: where to predict. Without, at the planned end of the run, or after as long a time again.
    model : {"growth", "law"}
        The law with what grows beside it, from all that was logged; or the fitted law alone, from steps up to 36.
    width : float
        Factor by which intervals are stretched.
    **options
        As of :func:`fit`; ``until_step`` is the step from which the run is looked at.

    Returns
    -------
    Forecast, or list of Forecast where a sequence was given
        With ``median``, ``interval``, ``interval_at(level)``, ``probability_above(score)``.

    Raises
    ------
    FitRefused
        The run so far says nothing about its future, or (``model="law"``) the law is refused.
    UsageError
        A step that is not later than what is seen, an impossible entropy, or both given.

    Examples
    --------
    >>> import entlaw
    >>> there = entlaw.forecast(entlaw.example(), step=480)
    >>> there.interval.lo < there.median < there.interval.hi
    True
    """
    with _python_words():
        if step is not None and entropy is not None:
            raise UsageError("give a step or an entropy, not both")
        asked = step if entropy is None else entropy
        wanted = () if asked is None else tuple(map(float, _listed(asked)))
        settings, selection = _settings(dict(options))
        where = {"steps": wanted} if entropy is None else {"entropies": wanted}
        settings = replace(settings, model=model, width=width, **where)  # type: ignore[arg-type]
        ahead = _examine((data,), settings, selection, None).forecast
        if ahead.failures:
            raise ahead.failures[0]
        if asked is None and not ahead.at:
            raise UsageError("there is no point to look from")
        return list(ahead.at) if _is_many(asked) else ahead.at[0]


def compare(
    a: Any, b: Any, *, paired: bool = True, selection: Selection | None = None, **options: Unpack[Options]
) -> Comparison:
    """Compare two runs or two groups of seeds: better, or noise?

    Parameters
    ----------
    a, b : path, Run, Points, DataFrame, or a list of these
    paired : bool
        Pair runs of equal seed, where every run has its partner.
    selection : Selection, optional
    **options
        As :func:`fit` takes them. A refused law's ceiling is not compared.

    Returns
    -------
    entlaw.law.compare.Comparison
        ``differences`` in final performance, ceiling, at equal entropy and in entropy spent; ``to_frame()``.

    Raises
    ------
    EntlawError
        No usable run on one side: the first run's error.
    UsageError
        A run that is on both sides.
    """
    from entlaw.law import compare as law

    with _python_words():
        settings, selection = _settings(dict(options), selection)
        sides = [[_usable(one) for one in _results(x, settings, selection)] for x in (a, b)]
        tracks = [[law.track_of(result, paired=paired) for result in side] for side in sides]
        return in_python(law.compare(tracks[0], tracks[1], settings.level))


def sizes(
    source: Any,
    *,
    size: Mapping[str, float | str] | None = None,
    entropy: Sequence[float] = (),
    selection: Selection | None = None,
    **options: Unpack[Options],
) -> Sizes:
    """Fit runs of several model sizes, and a, b and the ceiling as lines over the size.

    Parameters
    ----------
    source : path, Run, or a list of these
    size : mapping, optional
        Size of runs whose log does not tell: glob of names to size, e.g. ``{"*-7b-*": "7B"}``.
    entropy : sequence of float
        Also R at these entropies, over sizes.
    selection : Selection, optional
    **options
        As :func:`fit` takes them. Runs whose law is refused are left out.

    Returns
    -------
    entlaw.law.sizes.Sizes
        ``lines``, ``findings``, ``at(parameters)`` for a size that was not trained.

    Raises
    ------
    DataError
        No run can be used.
    """
    from entlaw.law.sizes import fit_sizes, sized_fits

    with _python_words():
        settings, selection = _settings(dict(options), selection)
        told = {glob: _size(glob, value) for glob, value in (size or {}).items()}
        used, left = sized_fits(_examine_all(source, settings, selection), told)
        if not used:
            name, why = next(iter(left.items()))
            raise DataError(f"none of {len(left)} runs can be used", why=f"{name}: {why}")
        return in_python(fit_sizes(used, entropies=entropy, level=settings.level))


def plan(
    *,
    margin: float = 0.02,
    until_step: float = PAPER_WINDOW,
    problems: Sequence[int] = (30, 100, 500, 2000, 8000),
    samples: Sequence[int] = (1, 4),
    every: Sequence[int] = (1, 2, 4, 6),
    like: Any = None,
    within: float | None = None,
    level: float = 0.95,
    replicates: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate ways of validating: which of them would know the ceiling in time?

    Parameters
    ----------
    margin : float
        Half the ceiling's interval that is wanted (fraction).
    until_step : float
        By which step.
    problems, samples, every : sequence of int
        Sizes of the test, samples per problem, and steps between validations to try.
    like : Run, Points, DataFrame or path, optional
        An earlier run: its law, entropy curve and noise instead of the defaults.
    within : float, optional
        Share of p(1-p) within problems: 1 if all are alike, less if many are always right or wrong.
    level : float
    replicates : int
        Simulated runs for each design.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row a design, fewest answers first; ``cheapest`` marks the first whose interval is within ``margin``.

    Raises
    ------
    UsageError
        Numbers that make no sense.
    """
    import pandas as pd

    from entlaw.law import plan as law

    with _python_words():
        assumed = law.Assumed() if like is None else law.assumed_from(_run_of(like))
        if within is not None:
            assumed = replace(assumed, within=within)
        assumed.check()
        designs = law.designs(problems, samples, every, until_step)
        made = law.plan(assumed, designs, margin=margin, level=level, replicates=replicates, seed=seed)
        budgets = sorted(made, key=lambda b: b.design.answers)
    best = law.cheapest(budgets, margin)
    return pd.DataFrame(
        {
            **{f.name: getattr(b.design, f.name) for f in fields(b.design)},
            "validations": b.design.validations,
            "answers": b.design.answers,
            **{f.name: getattr(b, f.name) for f in fields(b) if f.name != "design"},
            "cheapest": b is best,
        }
        for b in budgets
    )


def backtest(
    source: Any,
    *,
    origin: Sequence[float] | None = None,
    step: Sequence[float] | None = None,
    by: str | Sequence[str] = (),
    rivals: bool = True,
    workers: int = 1,
    selection: Selection | None = None,
    **options: Unpack[ReadOptions],
) -> pd.DataFrame:
    """Forecast finished runs from their past and score the forecasts against what was measured.

    Parameters
    ----------
    source : path, Run, Points, DataFrame, or a list of these
        Each path counts as one source of runs.
    origin, step : sequence of float, optional
        From which shares of a run, and from which steps, it is looked at.
    by : str or sequence of str
        Break the table down: source, run, horizon, regime.
    rivals : bool
        Score the rivals too.
    workers : int
        Processes.
    selection : Selection, optional
    **options
        As :func:`read` takes them.

    Returns
    -------
    pandas.DataFrame
        One row a forecaster: errors, CRPS, skill against the last value, coverage. Of the forecasts that would have
        been given; :func:`entlaw.law.backtest.backtest` gives every forecast.

    Raises
    ------
    DataError
        No run can be used.
    """
    from entlaw.law import backtest as law

    with _python_words():
        chosen = law.Plan(rivals=rivals)
        if origin is not None or step is not None:
            chosen = law.Plan(tuple(origin or ()), tuple(step or ()), rivals)
        runs = _points_of_all(source, _selection(selection, dict(options)))
        answered = law.answered_only(law.backtest(runs, chosen, workers=workers))
        if answered.empty:
            raise DataError(
                f"none of {len(runs)} runs was answered from any step", hint="give longer runs, or look from later"
            )
        return law.table(answered, [by] if isinstance(by, str) else by)


def _size(glob: str, value: float | str) -> float:
    from entlaw.runs.model_size import parse_size

    found = parse_size(str(value))
    if found is None:
        raise UsageError(f"size[{glob!r}] = {value!r} is no model size", hint="e.g. '7B', '135M' or 7e9")
    return found


# What was given ---------------------------------------------------------------------------------------------------------


@contextmanager
def _python_words() -> Iterator[None]:
    """Errors on their way to a caller name keywords, not options."""
    try:
        yield
    except EntlawError as error:
        in_python(error)
        raise


def _selection(given: Selection | None, options: dict[str, Any]) -> Selection:
    from entlaw.runs.prepare import Selection

    names = [f.name for f in fields(Selection)]
    for name in options:
        if name not in names:
            raise UsageError(f"no keyword {name!r}", hint=f"there are {', '.join(names)}")
    return replace(given or Selection(), **options)


def _settings(
    options: dict[str, Any], selection: Selection | None = None
) -> tuple[Settings, Selection | None]:
    """Options shared out; the selection is None where nothing was said of reading."""
    from entlaw.law.result import Settings

    mine = FitOptions.__annotations__
    settings = Settings(**{k: v for k, v in options.items() if k in mine})
    settings.check()
    reading = {k: v for k, v in options.items() if k not in mine}
    unknown = [k for k in reading if k not in ReadOptions.__annotations__]
    if unknown:
        known = (*mine, *ReadOptions.__annotations__)
        raise UsageError(f"no keyword {unknown[0]!r}", hint=f"there are {', '.join(known)}")
    return settings, _selection(selection, reading) if reading else selection


def _examine(
    data: tuple[Any, ...], settings: Settings, selection: Selection | None, name: str | None
) -> Result:
    from entlaw.law.result import Result, examine

    if len(data) == 2:
        data = (range(_length(data[0])), *data)
        if isinstance(settings.until_step, Unset):
            settings = replace(settings, until_step=None)
    given: Any = data[0] if len(data) == 1 else data
    if isinstance(given, Result):
        run, points, name = given.run, given.points, name or given.name
        result = examine(points if run is None else run, settings, points=points, name=name)
    else:
        result = examine(_one(given, selection), settings, name=name)
    refusal = None if result.refusal is None else in_python(result.refusal)
    return replace(result, law=in_python(result.law), refusal=refusal, reword=in_python)


def _one(given: Any, selection: Selection | None) -> Run | Points:
    """One run of whatever holds it."""
    import pandas as pd

    from entlaw.points import Points
    from entlaw.runs.run import Run

    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, (str, os.PathLike)):
        found: list[Any] = read(given, selection)
        if len(found) > 1:
            raise UsageError(
                f"there are {len(found)} runs", where=os.fspath(given),
                hint="fit_all(...) fits all; read(...) gives them, to choose one",
            )  # fmt: skip
        return found[0]  # type: ignore[no-any-return]
    if isinstance(given, pd.DataFrame):
        return _of_frame(given, selection)
    if selection is not None:
        raise UsageError(
            f"how to read cannot be told of a {type(given).__name__}", why="it is read already",
            hint="give on, entropy_key, ... to read(...)",
        )  # fmt: skip
    if isinstance(given, Run):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        try:
            return Points.from_arrays(*given)
        except UsageError as error:
            error.what = "steps, H and R must be numbers, one-dimensional and of equal length"
            raise
    return Points.of(given)


def _of_frame(frame: pd.DataFrame, selection: Selection | None) -> Run | Points:
    from entlaw.points import Points
    from entlaw.runs.frame import runs_in_frame
    from entlaw.runs.prepare import to_run

    if selection is None and {"entropy", "performance"} <= set(frame.columns):
        told = frame if "step" in frame.columns else frame.assign(step=frame.index)
        log = None
        if "entropy_step" not in told.columns:
            log = (told["step"], told["entropy"])
        return Points.from_frame(told, log=log)
    raws = runs_in_frame(frame)
    if len(raws) > 1:
        raise UsageError(f"the frame holds {len(raws)} runs", hint="fit_all(...) fits all of them")
    return in_python(to_run(raws[0], selection))


def _run_of(given: Any) -> Run:
    from entlaw.runs.run import Run

    run = _one(given, None)
    if not isinstance(run, Run):
        raise UsageError(f"a run is needed, not {type(run).__name__}", hint="read(...) gives runs")
    return run


def _examine_all(source: Any, settings: Settings, selection: Selection | None) -> list[Examined]:
    """One row a run, whatever becomes of it."""
    from entlaw.law.examined import Examined, label_runs
    from entlaw.law.result import Result

    found: list[tuple[Reading, Result | None]] = []
    for reading, given in _readings(source, selection):
        result = None
        if reading.error is None:
            data = reading.run if given is None else given
            result = _examine((data,), settings, None, None)
        found.append((reading, result))
    if not found:
        raise UsageError("no run was given", hint="give a path, a run, or a list of them")
    labels = label_runs([reading for reading, _ in found])
    rows = zip(found, labels, strict=True)
    return [Examined(reading, result, reading.error, label) for (reading, result), label in rows]


def _readings(source: Any, selection: Selection | None) -> Iterator[tuple[Reading, Any]]:
    """Readings of all that was given; of what was no log with what it is instead."""
    import pandas as pd

    from entlaw.points import Points
    from entlaw.runs.frame import runs_in_frame
    from entlaw.runs.prepare import Selection
    from entlaw.runs.reader import Reading, reading
    from entlaw.runs.run import RawRun, Run

    single = isinstance(source, (str, os.PathLike, Run, Points, pd.DataFrame, tuple)) or _is_result(source)
    for i, one in enumerate([source] if single else source):
        if isinstance(one, (str, os.PathLike)):
            try:
                yield from ((r, None) for r in scan(one, selection))
            except EntlawError as error:
                if isinstance(error, UsageError):
                    raise
                yield Reading(os.fspath(one), None, None, error), None
        elif isinstance(one, pd.DataFrame) and not {"entropy", "performance"} <= set(one.columns):
            label = f"frame {i}"
            try:
                raws = runs_in_frame(one, label)
            except EntlawError as error:
                yield Reading(label, None, None, error), None
                continue
            for raw in raws:
                yield reading(label, raw, selection or Selection(), label), None
        elif isinstance(one, Run):
            raw = RawRun(one.name, one.metrics.reset_index(), one.config, one.provenance, one.findings)
            yield Reading(one.provenance.path, raw, one, None), None
        else:
            told = getattr(one, "name", "") or f"{type(one).__name__} {i}"
            try:
                given = one if _is_result(one) else _one(one, None)
                yield Reading(told, None, None, None), given
            except UsageError as error:
                yield Reading(told, None, None, error), None


def _results(source: Any, settings: Settings, selection: Selection | None) -> list[Examined]:
    """The rows that can be used; the first error where none can."""
    rows = _examine_all(source, settings, selection)
    usable = [one for one in rows if one.result is not None]
    if not usable:
        raise rows[0].error or UsageError("no run was given")
    return usable


def _usable(one: Examined) -> Result:
    assert one.result is not None
    return one.result


def _points_of_all(source: Any, selection: Selection) -> list[Points]:
    from entlaw.points import Points

    listed = source if isinstance(source, list) else [source]
    found = []
    for one in listed:
        label = os.fspath(one) if isinstance(one, (str, os.PathLike)) else ""
        for reading, given in _readings(one, selection):
            if reading.error is None:
                points = Points.of(reading.run if given is None else getattr(given, "points", given))
                found.append(replace(points, source=label or points.source))
    if not found:
        raise DataError("no run can be used", hint="fit_all(...) says what is wrong with each")
    return found


def _is_result(given: Any) -> bool:
    from entlaw.law.result import Result

    return isinstance(given, Result)


def _length(given: Any) -> int:
    try:
        return len(given)
    except TypeError:
        raise UsageError(f"H must be numbers in a sequence, not {type(given).__name__}") from None


def _is_many(asked: Any) -> bool:
    return asked is not None and not isinstance(asked, (int, float, str)) and hasattr(asked, "__len__")


def _listed(asked: Any) -> Any:
    return asked if _is_many(asked) else (asked,)
