"""Data sets as a task: an endless training stream, a fixed held-out part, rewards by a verifier."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from entlaw.errors import MissingSeries, UnreadableSource, UsageError
from entlaw.findings import Finding
from entlaw.tasks import Problem, manifest
from entlaw.tasks import datasets as reading
from entlaw.tasks.answers import boxes, canonical, final_answer, plain
from entlaw.tasks.datasets import LoadedDataSet
from entlaw.tasks.manifest import DataSet
from entlaw.tasks.math import MathVerifier
from entlaw.tasks.quantities import quantity

# One training problem in so many is held out, by its hash, where no other set is named for validation.
_HELD_OUT = 10

Checker = Callable[[Sequence[Problem], Sequence[str]], Sequence[float]]
"""Rewards of responses to programming problems; a problem's answer is the JSON of what its tests need."""
Wrap = Callable[[str], str]
"""From a user's message to the text that the policy continues, as a tokenizer's chat template."""


@dataclass(frozen=True)
class DataSetPart:
    """Problems of one data set."""

    spec: DataSet
    problems: tuple[Problem, ...]


class DatasetTask:
    """Training and validation problems of data sets; a :class:`entlaw.tasks.Task`.

    Parameters
    ----------
    train, held_out : sequence of DataSetPart
        Training problems and validation problems. A training problem whose question is also held out is dropped.
    verifier : MathVerifier, optional
        Kept between calls; one with one worker without.
    checker : callable, optional
        For programming problems; without it such a set is refused.

    Attributes
    ----------
    findings : list of Finding
        What was left out, and why.
    """

    def __init__(
        self,
        train: Sequence[DataSetPart],
        held_out: Sequence[DataSetPart],
        verifier: MathVerifier | None = None,
        checker: Checker | None = None,
        findings: Iterable[Finding] = (),
    ) -> None:
        self.findings = list(findings)
        kinds = {part.spec.kind for part in (*train, *held_out)}
        if "code" in kinds and checker is None:
            raise UsageError(
                "programming problems need a checker that runs programs",
                why="they are checked by running what the model wrote, which is done in a sandbox or not at all",
            )
        if "math" in kinds:
            self.verifier = verifier or MathVerifier()
        self.checker = checker
        tested = {_key(p.prompt) for part in held_out for p in part.problems}
        self._train = [p for part in train for p in part.problems if _key(p.prompt) not in tested]
        self.held_out = [p for part in held_out for p in part.problems]
        overlap = sum(len(part.problems) for part in train) - len(self._train)
        if overlap:
            what = f"{overlap} training problems are validation problems too, and were left out of training"
            self.findings.append(Finding("train-validation-overlap", "info", what, value=overlap))
        self._specs = {p: part.spec for part in (*train, *held_out) for p in part.problems}

    def __len__(self) -> int:
        """Training problems."""
        return len(self._train)

    def training(self, seed: int, start: int, n: int) -> list[Problem]:
        """As :class:`entlaw.tasks.Task`: each epoch is a permutation that depends on the seed and its number alone."""
        size = len(self._train)
        if not size:
            raise UsageError(
                "no training problem is left", hint="widen the difficulty filter, or name another data set"
            )
        return [self._train[_order(seed, i // size, size)[i % size]] for i in range(start, start + n)]

    def validation(self, n: int, seed: int) -> list[Problem]:
        """``n`` different held-out problems, the same ones for the same seed, in the data sets' order.

        Raises
        ------
        UsageError
            There are fewer.
        """
        size = len(self.held_out)
        if n > size:
            raise UsageError(
                f"{n} validation problems were asked for, and there are {size}",
                hint=f"validation.problems = {size} takes all, with more validation.samples for less noise",
            )
        chosen = np.sort(np.random.default_rng(seed).permutation(size)[:n])
        return [self.held_out[i] for i in chosen]

    def extract(self, response: str, finished: bool) -> str | None:
        """The answer in a response, equal answers spelled alike ("1/2" and "0.5"), so that they vote together."""
        where = "any" if any(s.where == "any" for s in self._specs.values()) else "boxed"
        answer = (
            final_answer(response, "any" if where == "any" else "boxed")
            if _counts(response, finished)
            else None
        )
        if answer is None:
            return None
        number = quantity(answer)
        return str(number.value) if number is not None else canonical(plain(answer))

    def score(self, problem: Problem, response: str, finished: bool) -> float:
        """1 if the response is right, else 0 (a program: what its checker says)."""
        return self.score_batch([problem], [response], [finished])[0]

    def score_batch(
        self, problems: Sequence[Problem], responses: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        """Rewards of many responses at once, in order; faster than one by one, and the same."""
        scores = [0.0] * len(problems)
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for i, (problem, response, ended) in enumerate(zip(problems, responses, finished, strict=True)):
            spec = self._specs[problem]
            if spec.kind == "code" or _counts(response, ended):
                groups.setdefault((spec.kind, spec.where, spec.rounded), []).append(i)
        for (kind, where, rounded), at in groups.items():
            given = [responses[i] for i in at]
            if kind == "code":
                assert self.checker is not None
                found = [float(s) for s in self.checker([problems[i] for i in at], given)]
            else:
                answers = [problems[i].answer for i in at]
                verdicts = self.verifier.verify_batch(
                    given, answers, "any" if where == "any" else "boxed", rounded
                )
                found = [float(v.right) for v in verdicts]
            for i, score in zip(at, found, strict=True):
                scores[i] = score
        return scores


def _counts(response: str, finished: bool) -> bool:
    """Whether a response is looked at: one that was cut off ends on some number or other, unless it has its box."""
    return finished or bool(boxes(response))


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)


# Building ----------------------------------------------------------------------------------------


def dataset_task(
    train: str,
    validation: str = "",
    data_dir: Path | None = None,
    *,
    pass_rates: Path | None = None,
    low: float = 0.0,
    high: float = 1.0,
    template: str = "",
    wrap: Wrap | None = None,
    workers: int = 1,
    checker: Checker | None = None,
) -> DatasetTask:
    """A task from the names of data sets.

    Parameters
    ----------
    train, validation : str
        Names, several separated by commas. Without ``validation`` one training problem in ten is held out, chosen by
        the hash of its question.
    data_dir : Path, optional
        Folder that holds the sets; the hub without.
    pass_rates : Path, optional
        File of pass rates (see :func:`read_pass_rates`): training problems with ``low < rate < high`` are kept, and
        those that it does not list.
    template : str, optional
        Replaces the sets' own; ``{question}`` in it is replaced by the question.
    wrap : callable, optional
        Applied to each prompt, as a chat template.
    workers : int
        Processes that check answers.

    Raises
    ------
    UsageError, SourceNotFound, MissingSeries, UnreadableSource, MissingExtra
        As :func:`entlaw.tasks.datasets.load`; a name that is not known; a filter that leaves nothing.
    """
    findings: list[Finding] = []
    rates = read_pass_rates(pass_rates) if pass_rates is not None else None
    parts, held_out = [], []
    for name in _names(train):
        loaded = reading.load(_asked(name, template), data_dir)
        findings += findings_of(loaded)
        if not validation:
            held_out.append(_part(loaded, wrap, lambda item: is_held_out(item.question)))
            loaded = _only(loaded, lambda item: not is_held_out(item.question))
        if rates is not None:
            loaded, told = filtered(loaded, rates, low, high)
            findings.append(told)
        parts.append(_part(loaded, wrap))
    for name in _names(validation):
        loaded = reading.load(_asked(name, template), data_dir)
        findings += findings_of(loaded)
        held_out.append(_part(loaded, wrap))
    math = any(part.spec.kind == "math" for part in (*parts, *held_out))
    return DatasetTask(parts, held_out, MathVerifier(workers) if math else None, checker, findings)


def _asked(name: str, template: str) -> DataSet:
    spec = manifest.get(name)
    return replace(spec, template=template) if template else spec


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _only(loaded: LoadedDataSet, keep: Callable[[reading.RawProblem], bool]) -> LoadedDataSet:
    return replace(loaded, items=tuple(item for item in loaded.items if keep(item)))


def _part(
    loaded: LoadedDataSet,
    wrap: Wrap | None = None,
    keep: Callable[[reading.RawProblem], bool] = lambda item: True,
) -> DataSetPart:
    spec = loaded.spec
    asked = [(item, spec.prompt(item.question)) for item in loaded.items if keep(item)]
    return DataSetPart(
        spec,
        tuple(
            Problem(
                wrap(text) if wrap else text,
                item.answer,
                f"{spec.name}/{item.level}" if item.level else spec.name,
            )
            for item, text in asked
        ),
    )


def findings_of(loaded: LoadedDataSet) -> list[Finding]:
    """What loading left out, as findings."""
    found = [Finding("data-set-rows", "info", f"{loaded.spec.name}: {note}") for note in loaded.notes]
    if loaded.unusable:
        first = "; ".join(f"row {u.row}: {u.why}" for u in loaded.unusable[:3])
        what = f"{loaded.spec.name}: {len(loaded.unusable)} rows cannot be used ({first})"
        hint = f"`entlaw data show {loaded.spec.name}` lists them"
        found.append(
            Finding("unusable-rows", "warning", what, "they are left out", hint, len(loaded.unusable))
        )
    return found


def is_held_out(question: str) -> bool:
    """Whether a training problem is kept for validation where no other set is named: one in ten, by its hash."""
    return hashlib.blake2b(_key(question).encode(), digest_size=4).digest()[0] % _HELD_OUT == 0


def _key(question: str) -> str:
    """A question without what copies differ in: spacing and case."""
    return " ".join(question.split()).lower()


# Difficulty filter -------------------------------------------------------------------------------


def problem_id(question: str) -> str:
    """A name for a question that does not depend on its place in a file."""
    return hashlib.blake2b(_key(question).encode(), digest_size=8).hexdigest()


def read_pass_rates(path: Path) -> dict[str, float]:
    """Pass rates by :func:`problem_id`.

    The file (JSON Lines, JSON, Parquet or CSV) has a column ``pass_rate``, in [0, 1], and a column ``id`` (of
    :func:`problem_id`) or ``question``.

    Raises
    ------
    MissingSeries, UnreadableSource, SourceNotFound
    """
    rows = reading.read(path)
    rates: dict[str, float] = {}
    for i, row in enumerate(rows):
        if "pass_rate" not in row or not ("id" in row or "question" in row):
            raise MissingSeries(
                "pass rates need the columns pass_rate and id (or question)",
                where=str(path),
                why=f"row {i} has {', '.join(row)}",
            )
        try:
            rate = float(row["pass_rate"])
        except (TypeError, ValueError):
            rate = -1.0
        if not 0 <= rate <= 1:
            raise UnreadableSource(
                f"row {i}: pass_rate = {row['pass_rate']!r} is no fraction", where=str(path)
            )
        rates[str(row["id"]) if "id" in row else problem_id(str(row["question"]))] = rate
    return rates


def filtered(
    loaded: LoadedDataSet, rates: dict[str, float], low: float = 0.0, high: float = 1.0
) -> tuple[LoadedDataSet, Finding]:
    """The problems with ``low < pass rate < high`` and those without a rate, and what was dropped.

    Raises
    ------
    UsageError
        Nothing is left.
    """
    found = [rates.get(problem_id(item.question)) for item in loaded.items]
    kept = tuple(
        item for item, rate in zip(loaded.items, found, strict=True) if rate is None or low < rate < high
    )
    easy = sum(rate is not None and rate >= high for rate in found)
    hard = sum(rate is not None and rate <= low for rate in found)
    unknown = sum(rate is None for rate in found)
    counts = f"{easy} too easy, {hard} too hard, {unknown} without a pass rate"
    what = f"{loaded.spec.name}: {len(kept)} of {len(found)} problems kept; {counts}"
    if not kept:
        raise UsageError(
            "the difficulty filter leaves no problem", why=what, hint=f"widen {low:g} < pass rate < {high:g}"
        )
    return replace(loaded, items=kept), Finding("difficulty-filter", "info", what, value=len(kept))
