"""The Python API: what ``entlaw.fit`` and its neighbours are. Thin functions over the rooms that do the work.

All take what people have at hand: a run as :func:`read` gives it, points, a pandas frame, a path, arrays. Errors and
findings name keywords here where the command line names options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from entlaw import given
from entlaw.errors import DataError, UsageError
from entlaw.given import Options, Place, ReadKeywords, python_words
from entlaw.limits import PAPER_WINDOW, UNSET, Unset
from entlaw.wording import describe_suffix, in_python

if TYPE_CHECKING:
    import pandas as pd

    from entlaw.law.compare import Comparison
    from entlaw.law.forecast import Forecast, ForecastModel
    from entlaw.law.result import Result
    from entlaw.law.sizes import Sizes
    from entlaw.runs.prepare import Selection
    from entlaw.runs.reader import Reading
    from entlaw.runs.run import Run
    from entlaw.watch.report import WatchReport


def read(
    source: Place | Iterable[Place], selection: Selection | None = None, **options: Unpack[ReadKeywords]
) -> list[Run]:
    """Read all usable runs of a source.

    Parameters
    ----------
    source : path, glob, folder, W&B address or URL, or a list of them
    selection : Selection, optional
    **options
        The fields of :class:`entlaw.Selection`, one by one: ``on``, ``align``, ``scale``, ``step_key``,
        ``entropy_key``, ``join``, ``query``.

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
    with python_words():
        return given.read_all(source, given.selection_of(selection, dict(options)))


def scan(
    source: Place | Iterable[Place], selection: Selection | None = None, **options: Unpack[ReadKeywords]
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
    with python_words():
        yield from given.scan_all(source, given.selection_of(selection, dict(options)))


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
    with python_words():
        settings, selection = given.settings_of(dict(options))
        result = given.result_of(data, settings, selection, name)
        if result.law is None:
            assert result.refusal is not None
            result.refusal.result = result
            raise result.refusal
        return result


def fit_all(source: Any, *, selection: Selection | None = None, **options: Unpack[Options]) -> pd.DataFrame:
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

    with python_words():
        settings, selection = given.settings_of(dict(options), selection)
        rows = given.rows_of(source, settings, selection)
    parts = []
    for one in rows:
        row = {"verdict": one.verdict} if one.result is None else one.result.to_row()
        failure = one.failure
        row |= {"error": "" if failure is None else failure.what, "source": one.reading.path}
        parts.append(row)
    index = pd.Index([one.label for one in rows], name="run", dtype=object)
    return pd.DataFrame(parts, index=index)


@overload
def forecast(
    data: Any,
    *,
    step: float | None = None,
    entropy: float | None = None,
    model: ForecastModel = "growth",
    library: Any = None,
    **options: Unpack[Options],
) -> Forecast: ...
@overload
def forecast(
    data: Any,
    *,
    step: Sequence[float],
    model: ForecastModel = "growth",
    library: Any = None,
    **options: Unpack[Options],
) -> list[Forecast]: ...
@overload
def forecast(
    data: Any,
    *,
    entropy: Sequence[float],
    model: ForecastModel = "growth",
    library: Any = None,
    **options: Unpack[Options],
) -> list[Forecast]: ...
def forecast(
    data: Any,
    *,
    step: float | Sequence[float] | None = None,
    entropy: float | Sequence[float] | None = None,
    model: ForecastModel = "growth",
    library: Any = None,
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
    library : path, Run, or a list of these, optional
        Finished runs of yours: forecasts at a step become as wide as theirs needed to be (``model="growth"``).
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
    with python_words():
        if step is not None and entropy is not None:
            raise UsageError("give a step or an entropy, not both")
        asked = step if entropy is None else entropy
        wanted = () if asked is None else given.numbers(asked)
        if asked is not None and not wanted:
            raise UsageError(
                "the list of steps or entropies is empty", hint="give one value or more, or leave it out"
            )
        if entropy is None and any(t < 0 for t in wanted):
            raise UsageError(f"{min(wanted):g} is no step of a run", hint="e.g. step=500")
        settings, selection = given.settings_of(dict(options))
        where = {"steps": wanted} if entropy is None else {"entropies": wanted}
        settings = replace(settings, model=model, **where)  # type: ignore[arg-type]
        result = given.result_of((data,), settings, selection)
        if library is not None:
            if model != "growth":
                raise UsageError(f"a library calibrates the model 'growth', not {model!r}")
            from entlaw.law.library import calibrate_for, learn

            learned = calibrate_for(result.points, learn(given.points_of_all(library, None)))
            result = replace(result, settings=replace(settings, width=learned.factor))
        ahead = result.forecast
        if ahead.failures:
            raise ahead.failures[0]
        if not ahead.at:
            raise UsageError("there is no point to look from")
        return list(ahead.at) if given.is_many(asked) else ahead.at[0]


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

    with python_words():
        settings, selection = given.settings_of(dict(options), selection)
        sides = [given.results_of(side, settings, selection) for side in (a, b)]
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

    with python_words():
        settings, selection = given.settings_of(dict(options), selection)
        told = {glob: _size(glob, value) for glob, value in (size or {}).items()}
        used, left = sized_fits(given.rows_of(source, settings, selection), told)
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

    with python_words():
        assumed = law.Assumed() if like is None else law.assumed_from(given.the_run(like))
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
    **options: Unpack[ReadKeywords],
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

    with python_words():
        chosen = law.Plan(rivals=rivals)
        if origin is not None or step is not None:
            chosen = law.Plan(tuple(origin or ()), tuple(step or ()), rivals)
        runs = given.points_of_all(source, given.selection_of(selection, dict(options)))
        answered = law.answered_only(law.backtest(runs, chosen, workers=workers))
        if answered.empty:
            raise DataError(
                f"none of {len(runs)} runs was answered from any step",
                hint="give longer runs, or look from later",
            )
        return law.table(answered, [by] if isinstance(by, str) else by)


def watch(
    source: Place | Sequence[Place],
    *,
    every: float | None = None,
    once: bool = False,
    until_idle: float | None = None,
    total_steps: float | None = None,
    target: float | None = None,
    stop_when: str | None = None,
    patience: int = 3,
    level: float = 0.95,
    until_step: float | Unset | None = UNSET,
    selection: Selection | None = None,
    **options: Unpack[ReadKeywords],
) -> Iterator[WatchReport]:
    """Follow runs that are still going: a report after every new validation.

    Parameters
    ----------
    source : path, W&B address, or a list of them
        Logs that are being written.
    every : float, optional
        Seconds between two looks; by default 5, and 30 where a server is asked.
    once : bool
        Look once and end.
    until_idle : float, optional
        End when nothing has changed for so many seconds.
    total_steps : float, optional
        Where the run will end; its configuration tells by default.
    target : float, optional
        Performance that it is meant to reach (fraction).
    stop_when : str, optional
        End when this rule holds at ``patience`` validations in a row, e.g. ``"P(gain > 1%) < 0.05"``.
    patience : int
    level : float
    until_step : float or None, optional
        As of :func:`fit`.
    selection, **options
        As of :func:`read`.

    Yields
    ------
    WatchReport
        Of what was logged before the watching began too. The last one's ``stop.fired`` says whether the rule ended it.

    Raises
    ------
    UsageError
        A rule that cannot be read, or numbers that make no sense: at the call, not at the first report.
    DataError
        Nothing to read was found by the end.
    """
    from entlaw.runs.files import on_server
    from entlaw.watch.course import Event, course
    from entlaw.watch.follow import Follower, Seen
    from entlaw.watch.watcher import Watcher

    sources = [str(one) for one in ([source] if isinstance(source, (str, os.PathLike)) else source)]

    def make(seen: Seen | None) -> Watcher:
        raw = None if seen is None else seen.reading.raw
        return Watcher(
            seen.total_steps if total_steps is None and seen is not None else total_steps,
            name="run" if raw is None else raw.name,
            target=target,
            stop_when=stop_when,
            level=level,
            until_step=until_step,
            selection=chosen,
            patience=patience,
        )

    def reports(events: Iterator[Event]) -> Iterator[WatchReport]:
        said, any_report = "", False
        with python_words():
            for event in events:
                if event.report is not None:
                    any_report = True
                    yield event.report
                elif event.kind in ("waiting", "trouble"):
                    said = event.text
            if not any_report:
                raise DataError(said or "nothing was logged")

    with python_words():
        chosen = given.selection_of(selection, dict(options))
        make(None)
        if every is None:
            every = 30.0 if any(on_server(one) is not None for one in sources) else 5.0
        if not every > 0:
            raise UsageError(f"every must be a positive number of seconds, not {every:g}")
    return reports(course(Follower(sources, chosen), make, every=every, once=once, until_idle=until_idle))


def report(
    source: Any,
    output: Place = "report.html",
    *,
    title: str | None = None,
    date: str | None = None,
    selection: Selection | None = None,
    **options: Unpack[Options],
) -> Path:
    """Write a report on any number of runs: one self-contained page, a PDF, or a table.

    Parameters
    ----------
    source : path, Run, DataFrame, or a list of these
    output : path
        ``.html`` and ``.pdf`` hold the whole report, ``.md``, ``.tex`` and ``.csv`` the table of runs.
    title : str, optional
        By default the run's name.
    date : str, optional
        To print; by default none, so that equal input gives an equal file.
    selection : Selection, optional
    **options
        As :func:`fit` takes them.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    UsageError
        Another suffix, a folder that does not exist, or no run.
    """
    from entlaw._version import __version__
    from entlaw.files import write_whole
    from entlaw.report import table
    from entlaw.report.html_page import About, Origin, page

    path = Path(output)
    with python_words():
        if path.suffix.lower() not in (".html", ".htm", ".pdf", ".md", ".tex", ".csv"):
            raise UsageError(
                f"cannot write a report to {describe_suffix(path)}",
                where=str(path),
                hint="use .html, .pdf, .md, .tex or .csv",
            )
        settings, selection = given.settings_of(dict(options), selection)
        rows = given.rows_of(source, settings, selection)
        name = title or (rows[0].label if len(rows) == 1 else f"{len(rows)} runs")
        origins = tuple(Origin(row.reading.path) for row in rows)
        about = About(name, f"entlaw.report(..., {path.name!r})", __version__, date, origins)
        if path.suffix.lower() == ".pdf":
            from entlaw.report.html_pdf import pdf_report

            data = pdf_report(rows, about, settings)
        elif path.suffix.lower() == ".csv":
            data = table.runs_csv(rows).encode(errors="replace")
        elif path.suffix.lower() in (".md", ".tex"):
            make = table.latex if path.suffix.lower() == ".tex" else table.markdown
            data = make(rows, settings.level, __version__).encode(errors="replace")
        else:
            data = page(rows, about, settings).encode(errors="replace")
        try:
            write_whole(path, data)
        except OSError as error:
            hint = "give a file in a folder that exists and can be written to"
            raise UsageError(f"cannot write: {error.strerror}", where=str(path), hint=hint) from error
    return path


def _size(glob: str, value: float | str) -> float:
    from entlaw.runs.model_size import parse_size

    found = parse_size(str(value))
    if found is None:
        raise UsageError(f"size[{glob!r}] = {value!r} is no model size", hint="e.g. '7B', '135M' or 7e9")
    return found
