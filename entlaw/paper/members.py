"""Which runs the figures of the law are drawn from: by facts, comparable with one another, in a fixed order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entlaw.paper.library import Library, NotEnoughRuns, Pair, RunFacts, commonest, small_models
from entlaw.runs.run import Run

# A line, its error and one point to be wrong about.
MIN_POINTS = 4
# exp of more is no entropy of a token's distribution.
_MAX_ENTROPY = 20.0
_UNITS = {
    "train_operations": "{} operations",
    "operations": "{} operations",
    "train_operators": "operators {}",
    "operators": "operators {}",
}


@dataclass(frozen=True)
class Member:
    """One run as a figure of the law sees it.

    Attributes
    ----------
    facts : RunFacts
    run : Run
    label : str
        What a legend calls its kind: the size, or the run's name where the size is unknown.
    step, entropy, score, entropy_step : ndarray, shape (n,)
        Its points in order of steps; nats/token; fraction; the step whose entropy was paired.
    """

    facts: RunFacts
    run: Run
    label: str
    step: np.ndarray
    entropy: np.ndarray
    score: np.ndarray
    entropy_step: np.ndarray

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def policy(self) -> tuple[object, ...]:
        """The starting policy: runs that share it are no independent witnesses of a model."""
        if self.facts.base_seed is None:
            return (self.facts.name,)
        return (self.facts.task, *self.facts.policy)


@dataclass(frozen=True)
class Cast:
    """The runs of a figure.

    Attributes
    ----------
    members : tuple of Member
        By size, starting policy and seed.
    note : str
        What was left out and why, as a sentence; empty where nothing was.
    """

    members: tuple[Member, ...]
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs, in order."""
        return tuple(m.name for m in self.members)

    @property
    def about(self) -> str:
        """What a caption must say of these runs: whose they are, and what was left out."""
        unknown = sum(not m.facts.method for m in self.members)
        blind = f"{unknown} logs do not show whether anything acts on the entropy."
        keys = {m.run.entropy.key for m in self.members if m.run.entropy_log is not None}
        own = (
            f"The entropy of a score is that of its own evaluation ({', '.join(sorted(keys))})."
            if keys
            else ""
        )
        said = [own, small_models(m.facts for m in self.members), blind if unknown else "", self.note]
        return " ".join(part for part in said if part)

    def by(self, key: Callable[[Member], object]) -> dict[object, list[Member]]:
        """Members in groups, in order of first appearance."""
        out: dict[object, list[Member]] = {}
        for m in self.members:
            out.setdefault(key(m), []).append(m)
        return out


def main_algorithm(library: Library, task: str) -> str:
    """The algorithm of most runs in which nothing acts on the entropy."""
    return commonest(f.algorithm for f in library.facts if f.is_plain and f.task == task)


def plain_runs(library: Library, task: str | None = None, start: str | None = None) -> list[Pair]:
    """Runs of the main algorithm on a task (the main one) from a kind of start (the main one), nothing acting on H.

    Raises
    ------
    NotEnoughRuns
        There is none.
    """
    task = library.main_task() if task is None else task
    algorithm = main_algorithm(library, task)
    plain = [f for f in library.facts if f.is_plain and f.task == task and f.algorithm == algorithm]
    start = commonest(f.start for f in plain) if start is None else start
    pairs = library.select(is_plain=True, algorithm=algorithm, task=task, start=start)
    if not pairs:
        raise NotEnoughRuns(
            "no run in which nothing acts on the entropy",
            why="the law was found in such runs, and a control of the entropy changes it",
            hint="train one without entropy bonus, reference KL, clip-higher or covariance control",
        )
    return pairs


def second_task(library: Library) -> str:
    """A task other than the main one that several model sizes were trained on.

    Raises
    ------
    NotEnoughRuns
        There is none.
    """
    main = library.main_task()
    sizes: dict[str, set[str]] = {}
    for f in library.facts:
        if f.is_plain and f.task != main and f.task:
            sizes.setdefault(f.task, set()).add(f.size or f.name)
    wide = {task: len(of) for task, of in sizes.items() if len(of) >= 2}
    if not wide:
        raise NotEnoughRuns(
            "no second task that models of at least two sizes were trained on, nothing acting on the entropy",
            hint="train two sizes or more on another task",
        )
    return max(wide, key=wide.__getitem__)


def cast(pairs: Iterable[Pair], least: int = MIN_POINTS) -> Cast:
    """Runs that can be drawn together: enough points, and entropy and score of the same kind as in most of them.

    Parameters
    ----------
    pairs : iterable of (RunFacts, Run)
    least : int
        Points a run needs, of distinct entropies.

    Raises
    ------
    NotEnoughRuns
        None is left.
    """
    short, wrong, kept = 0, 0, []
    for facts, run in pairs:
        member = _member(facts, run)
        short += len(np.unique(member.entropy)) < least
        wrong += bool(len(member.entropy)) and float(member.entropy.max()) > _MAX_ENTROPY
        if len(np.unique(member.entropy)) >= least and float(member.entropy.max()) <= _MAX_ENTROPY:
            kept.append(member)
    meanings = Counter(_meaning(m.run) for m in kept)
    meaning = meanings.most_common(1)[0][0] if meanings else None
    alike = [m for m in kept if _meaning(m.run) == meaning]
    if not alike:
        raise NotEnoughRuns(
            f"no run with {least} points of distinct entropies in nats per token",
            why=f"{short} have fewer and {wrong} log something else as entropy",
            hint="validate more often",
        )
    notes = []
    if short:
        notes.append(f"{short} with fewer than {least} distinct points")
    if wrong:
        notes.append(f"{wrong} whose entropy is not per token")
    if len(alike) < len(kept):
        notes.append(
            f"{len(kept) - len(alike)} whose entropy or score is defined in another way than in most"
        )
    note = f"Left out: {'; '.join(notes)}." if notes else ""
    return Cast(tuple(sorted(alike, key=_order)), note)


def first_of_each(members: Sequence[Member], key: Callable[[Member], object]) -> list[Member]:
    """One member a kind, the first; the order is kept."""
    seen: dict[object, Member] = {}
    for m in members:
        seen.setdefault(key(m), m)
    return list(seen.values())


def one_family(members: Sequence[Member]) -> list[Member]:
    """One run a size, of the family with most sizes: what is drawn where several families would hide one another."""
    sizes: dict[str, set[str]] = {}
    for m in members:
        sizes.setdefault(m.facts.family, set()).add(m.label)
    family = max(sizes, key=lambda name: len(sizes[name]))
    return first_of_each([m for m in members if m.facts.family == family], lambda m: m.label)


def short_name(name: str, length: int = 22) -> str:
    """A run's name for a legend: its middle left out where it is long."""
    return name if len(name) <= length else f"{name[: length - 10]}…{name[-9:]}"


def are_shares(members: Sequence[Member]) -> bool:
    """Whether all scores lie in [0, 1], so that they may be shown in percent."""
    return all(float(m.score.min()) >= -1e-9 and float(m.score.max()) <= 1 + 1e-9 for m in members)


def _member(facts: RunFacts, run: Run) -> Member:
    points = run.points.sort_values("step", kind="stable")
    columns = [points[c].to_numpy(float) for c in ("step", "entropy", "performance")]
    paired = points["entropy_step"].to_numpy(float) if "entropy_step" in points else columns[0]
    keep = np.all(np.isfinite(columns), axis=0)
    step, entropy, score = (c[keep] for c in columns)
    return Member(facts, run, facts.size or short_name(run.name), step, entropy, score, paired[keep])


def _meaning(run: Run) -> tuple[str, ...]:
    """What coefficients are comparable within."""
    e = run.entropy
    return (e.estimator, e.unit, e.averaging, e.of, run.performance_kind)


def _order(m: Member) -> tuple[object, ...]:
    f = m.facts
    return (
        f.parameters is None,
        f.parameters or 0.0,
        f.family,
        f.base_seed is None,
        f.base_seed or 0,
        f.seed is None,
        f.seed or 0,
        m.name,
    )


def difference(text: str, main: str, same: str) -> str:
    """Describe the settings in which one task or starting policy differs from another.

    Parameters
    ----------
    text, main : str
        Tasks or starting policies, as in `RunFacts`.
    same : str
        What to say where they are equal.

    Returns
    -------
    str
        ``2, 3 operations``; of texts that are no settings, the last part of the text.
    """
    if text == main:
        return same
    told, usual = settings(text), settings(main)
    if told is None:
        return text.rstrip("/").rsplit("/", 1)[-1] or "unknown"
    changed = {k: told.get(k) for k in sorted({*told, *(usual or {})}) if told.get(k) != (usual or {}).get(k)}
    return "; ".join(_setting(k, v) for k, v in changed.items()) or same


def settings(text: str) -> dict[str, Any] | None:
    """The settings a text of facts holds, or None where it holds none."""
    try:
        held = json.loads(text)
    except json.JSONDecodeError:
        return None
    return held if isinstance(held, dict) else None


def _setting(name: str, value: object) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return _UNITS.get(name, name.replace("_", " ") + " {}").format(shown)
