"""The runs of the figures of controls: one setting, a baseline, and arms that differ from it by one control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from entlaw.paper.library import Library, NotEnoughRuns, RunFacts
from entlaw.paper.numbers import moving_mean
from entlaw.runs.run import Run

# Values that the end of a run is the mean of: one validation of a thousand answers moves by 1.5 points by itself.
LAST = 5
# A run needs this many validations, and entropies, to be drawn as a curve.
MIN_VALIDATIONS = LAST
MIN_ENTROPIES = 10
# The names under which the trainers log how long responses are.
_LENGTHS = ("response_length/mean", "completions/mean_length", "completion_length", "val/response_length")


@dataclass(frozen=True)
class LoggedSeries:
    """A logged number along a run.

    Attributes
    ----------
    step, value : ndarray, shape (n,)
        Steps increase.
    """

    step: np.ndarray
    value: np.ndarray

    def mean(self, after: float, until: float = np.inf) -> float:
        """Mean over the steps in (after, until], NaN of none."""
        inside = self.value[(self.step > after) & (self.step <= until)]
        return float(inside.mean()) if len(inside) else float("nan")


@dataclass(frozen=True)
class Trial:
    """One run of an arm.

    Attributes
    ----------
    facts : RunFacts
    run : Run
    entropy, accuracy : Series
        Nats per token; fraction.
    length : LoggedSeries or None
        Mean response length in tokens, None where it is not logged.
    """

    facts: RunFacts
    run: Run
    entropy: LoggedSeries
    accuracy: LoggedSeries
    length: LoggedSeries | None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def last(self) -> float:
        """Accuracy at the end: the mean of the last five validations."""
        return float(self.accuracy.value[-LAST:].mean())

    @property
    def last_entropy(self) -> float:
        """Mean entropy over the steps of those validations."""
        return self.entropy.mean(self.accuracy.step[-LAST] - 0.5)

    @property
    def last_length(self) -> float:
        """Mean response length over the steps of those validations, NaN where it is not logged."""
        return float("nan") if self.length is None else self.length.mean(self.accuracy.step[-LAST] - 0.5)

    @property
    def level(self) -> float:
        """Mean entropy over the second half of the steps."""
        return self.entropy.mean(float(self.entropy.step[-1]) / 2)


@dataclass(frozen=True)
class Arm:
    """Runs that differ by their seed alone.

    Attributes
    ----------
    label : str
    method : str
        As in `RunFacts`.
    strength, coefficient : float or None
    trials : tuple of Trial
    """

    label: str
    method: str
    strength: float | None
    coefficient: float | None
    trials: tuple[Trial, ...]

    def of(self, what: str) -> np.ndarray:
        """One number of each run: ``last``, ``last_entropy``, ``last_length`` or ``level``; shape (runs,)."""
        return np.array([getattr(t, what) for t in self.trials])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its runs."""
        return tuple(t.name for t in self.trials)

    @property
    def runs(self) -> str:
        """The same as one cell of a table."""
        return ";".join(self.names)


@dataclass(frozen=True)
class Trials:
    """The runs of a figure: one starting policy, one task, one algorithm.

    Attributes
    ----------
    baseline : Arm
        The algorithm with nothing acting on the entropy.
    arms : tuple of Arm
        By method as they were asked for, strength and coefficient; the authors' variants left out.
    alike : tuple of Arm
        Every arm of this setting, those not asked for included: what the spread between seeds is learned from.
    """

    baseline: Arm
    arms: tuple[Arm, ...]
    alike: tuple[Arm, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the baseline's and the arms' runs."""
        return tuple(name for arm in (self.baseline, *self.arms) for name in arm.names)

    @property
    def spread(self) -> Spread:
        """Standard deviation between seeds of the accuracy at the end."""
        return pooled([arm.of("last") for arm in self.alike])

    def gain(self, arm: Arm) -> Effect:
        """Accuracy at the end less the baseline's, as a fraction."""
        return effect(arm.of("last"), self.baseline.of("last"), self.spread)

    def ratio(self, arm: Arm, what: str = "level") -> Effect:
        """One of an arm's numbers over the baseline's, by default the level of entropy."""
        spread = pooled([np.log(one.of(what)) for one in self.alike])
        e = effect(np.log(arm.of(what)), np.log(self.baseline.of(what)), spread)
        return Effect(*(float(np.exp(v)) for v in e))

    def method(self, name: str) -> list[Arm]:
        """The arms of one method."""
        return [arm for arm in self.arms if arm.method == name]


@dataclass(frozen=True)
class Spread:
    """A standard deviation within groups and its degrees of freedom (0: unknown)."""

    sd: float
    df: int


class Effect(NamedTuple):
    """A difference of two means, or a ratio, with its 95 % interval (NaN where the spread is unknown)."""

    value: float
    lo: float
    hi: float

    def times(self, scale: float) -> Effect:
        """In another unit."""
        return Effect(*(scale * v for v in self))

    def bar(self, scale: float = 1.0) -> np.ndarray | None:
        """The interval as matplotlib's errors, shape (2, 1); None where there is none."""
        return (
            scale * np.array([[self.value - self.lo], [self.hi - self.value]])
            if np.isfinite(self.lo)
            else None
        )

    def __str__(self) -> str:
        """``+1.2 [-0.3, 2.7]``."""
        return f"{self.value:+.1f}" + (f" [{self.lo:.1f}, {self.hi:.1f}]" if np.isfinite(self.lo) else "")


def pooled(groups: Iterable[np.ndarray]) -> Spread:
    """Standard deviation within groups, from all that have two members or more.

    Parameters
    ----------
    groups : iterable of ndarray, shape (n,)
    """
    several = [np.asarray(g, dtype=float) for g in groups if len(g) >= 2 and np.all(np.isfinite(g))]
    df = sum(len(g) - 1 for g in several)
    if df == 0:
        return Spread(float("nan"), 0)
    return Spread(float(np.sqrt(sum(((g - g.mean()) ** 2).sum() for g in several) / df)), df)


def effect(values: np.ndarray, baseline: np.ndarray, spread: Spread, level: float = 0.95) -> Effect:
    """Mean of some runs less that of others, with an interval by the spread between seeds.

    Welch's interval where both have two runs or more. A single run has no spread of its own: it is lent that of all
    groups together (the t interval with a pooled variance).

    Parameters
    ----------
    values, baseline : ndarray, shape (n,), (m,)
    spread : Spread
        Pooled over groups.
    level : float
    """
    from scipy.special import stdtrit

    value = float(np.mean(values) - np.mean(baseline))
    n, m = len(values), len(baseline)
    if n > 1 and m > 1:
        parts = np.array([np.var(values, ddof=1) / n, np.var(baseline, ddof=1) / m])
        error, df = (
            np.sqrt(parts.sum()),
            parts.sum() ** 2 / max(parts**2 @ [1 / (n - 1), 1 / (m - 1)], 1e-300),
        )
    else:
        error, df = spread.sd * np.sqrt(1 / n + 1 / m), float(spread.df)
    if df <= 0:
        return Effect(value, float("nan"), float("nan"))
    half = float(stdtrit(df, 0.5 * (1 + level)) * error)
    return Effect(value, value - half, value + half)


def trials(
    library: Library,
    methods: Sequence[str],
    label: Callable[[RunFacts], str],
    where: Callable[[RunFacts], bool] | None = None,
) -> Trials:
    """Runs of some controls, and of the same without, from the setting (starting policy, task) that has most of them.

    Parameters
    ----------
    library : Library
    methods : sequence of str
        As in `RunFacts.method`.
    label : callable
        What an arm of given facts is called.
    where : callable, optional
        Which arms are wanted besides.

    Raises
    ------
    NotEnoughRuns
        No setting has a baseline and an arm.
    """
    settings: dict[tuple[object, ...], list[Trial]] = {}
    for f, r in zip(library.facts, library.runs, strict=True):
        if not f.reference_code and (one := _trial(f, r)) is not None:
            settings.setdefault(_setting(f), []).append(one)
    wanted = set(methods)

    def is_wanted(f: RunFacts) -> bool:
        return f.method in wanted and (where is None or where(f))

    best: tuple[tuple[int, int, int], list[Trial]] | None = None
    for members in settings.values():
        asked = [t for t in members if is_wanted(t.facts)]
        plain = sum(t.facts.is_plain for t in members)
        size = (len({t.facts.method for t in asked}), len(asked), plain)
        if asked and plain and (best is None or size > best[0]):
            best = size, members
    if best is None:
        raise NotEnoughRuns(
            f"no run with {' or '.join(methods)} beside one with nothing acting on the entropy",
            why="a control is compared with the same run without it: same model, data and algorithm, "
            f"{MIN_VALIDATIONS} validations or more",
            hint="train both, with nothing else changed",
        )
    everything = _arms(best[1], label)
    baseline = [a for a in everything if a.trials[0].facts.is_plain]
    arms = [a for a in everything if is_wanted(a.trials[0].facts)]
    arms.sort(key=lambda a: (list(methods).index(a.method), a.strength or 0.0, a.coefficient or 0.0))
    return Trials(max(baseline, key=lambda a: len(a.trials)), tuple(arms), tuple(everything))


def most_seeds(arms: Sequence[Arm]) -> Arm:
    """Of the strengths of a method the one with most runs; of several, the first."""
    return max(arms, key=lambda a: len(a.trials))


def mean_curve(series: Sequence[LoggedSeries], window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all series have, and mean and standard deviation over them (NaN of one) of their moving means.

    Parameters
    ----------
    series : sequence of LoggedSeries
    window : int
        Values a moving mean takes, as in `moving_mean`.
    """
    common = series[0].step
    for s in series[1:]:
        common = np.intersect1d(common, s.step)
    rows = np.stack([moving_mean(s.value[np.isin(s.step, common)], window) for s in series])
    sd = rows.std(axis=0, ddof=1) if len(series) > 1 else np.full(len(common), np.nan)
    return common, rows.mean(axis=0), sd


def _setting(f: RunFacts) -> tuple[object, ...]:
    return (f.algorithm, f.task, *f.policy)


def _arms(members: Sequence[Trial], label: Callable[[RunFacts], str]) -> list[Arm]:
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for t in members:
        groups.setdefault((t.facts.method, t.facts.strength, t.facts.coefficient), []).append(t)
    made = []
    for of in groups.values():
        of.sort(key=lambda t: (t.facts.seed is None, t.facts.seed or 0, t.name))
        f = of[0].facts
        made.append(Arm(label(f), f.method, f.strength, f.coefficient, tuple(of)))
    return made


def _trial(facts: RunFacts, run: Run) -> Trial | None:
    entropy = _logged(run, (run.entropy_log or run.entropy).key)
    points = run.points[["step", "performance"]].dropna().sort_values("step", kind="stable")
    points = points.drop_duplicates("step", keep="last")
    accuracy = LoggedSeries(points["step"].to_numpy(float), points["performance"].to_numpy(float))
    if entropy is None or len(entropy.step) < MIN_ENTROPIES or len(accuracy.step) < MIN_VALIDATIONS:
        return None
    length = next((s for key in _LENGTHS if (s := _logged(run, key)) is not None), None)
    return Trial(facts, run, entropy, accuracy, length)


def _logged(run: Run, key: str) -> LoggedSeries | None:
    if key not in run.metrics:
        return None
    series = run.metrics[key].dropna()
    return LoggedSeries(series.index.to_numpy(float), series.to_numpy(float)) if len(series) else None
