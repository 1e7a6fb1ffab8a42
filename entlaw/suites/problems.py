"""What is asked: the problems of a suite's data sets, each once, the same ones for the same limit and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from entlaw.errors import MissingSeries, SourceNotFound, UsageError
from entlaw.findings import Finding
from entlaw.suites.definition import ARITHMETIC, Suite, SuiteColumn
from entlaw.tasks import dataset_task, datasets, manifest
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.tasks.manifest import Decode

ProblemKind = Literal["math", "code", "arithmetic"]
_ARITHMETIC_PROBLEMS = 512


@dataclass(frozen=True)
class SuiteProblem:
    """One problem."""

    id: str
    """Of its question, whatever file it came from."""
    row: int
    """In its data set."""
    text: str
    """The question in its template, without a chat around it."""
    answer: str
    """The reference; of programs the JSON of what their tests need."""


@dataclass(frozen=True)
class ProblemSet:
    """One column's problems, and how they are asked and checked."""

    member: SuiteColumn
    kind: ProblemKind
    problems: tuple[SuiteProblem, ...]
    decode: Decode
    checksum: str
    """Of the problems, so that a data set that changed is noticed."""
    total: int
    """Problems there are without a limit."""
    source: str
    revision: str = ""
    template: str = ""
    where: Literal["boxed", "any"] = "any"
    rounded: bool = False
    arithmetic: Arithmetic | None = None
    findings: tuple[Finding, ...] = ()


def load(
    suite: Suite,
    data_dir: Path | None,
    limit: int | None,
    seed: int,
    arithmetic: Arithmetic | None = None,
    skip_missing: bool = False,
) -> list[ProblemSet]:
    """The problems of all sets of a suite.

    Parameters
    ----------
    limit : int, optional
        At most this many a set, drawn by ``seed`` without replacement.
    arithmetic : Arithmetic, optional
        For the set of that name.
    skip_missing : bool
        Leave out the sets that are nowhere to be found, with a finding each.

    Raises
    ------
    SourceNotFound
        Sets are missing; the message names all of them.
    MissingSeries, UnreadableSource, MissingExtra
        As :func:`entlaw.tasks.datasets.load`.
    """
    found: list[ProblemSet] = []
    missing: list[tuple[SuiteColumn, SourceNotFound]] = []
    for member in suite.sets:
        try:
            found.append(_one(member, data_dir, limit, seed, arithmetic))
        except SourceNotFound as error:
            missing.append((member, error))
            if data_dir is None and not skip_missing:
                break  # the hub is out of reach: asking again for every other set takes minutes
    if missing and (not skip_missing or not found):
        raise _all_missing(missing, data_dir)
    for member, why in missing:
        counted = f"the averages are over {len(found)} of {len(suite.sets)} sets"
        what = f"{member.name} is missing and was left out: {counted}"
        told = Finding("set-missing", "warning", what, why.what, why.hint or "")
        found[0] = _with(found[0], told)
    return found


def _with(held: ProblemSet, finding: Finding) -> ProblemSet:
    from dataclasses import replace

    return replace(held, findings=(*held.findings, finding))


def _all_missing(
    missing: Sequence[tuple[SuiteColumn, SourceNotFound]], data_dir: Path | None
) -> SourceNotFound:
    member, first = missing[0]
    names = [m.name for m, _ in missing]
    fetch = "; ".join(f"`entlaw data fetch {name} -o FOLDER`" for name in names[:2])
    fetched = f"fetch {'it' if len(names) == 1 else 'them'} where there is access to the hub"
    whole = first.hint or ""
    if "data fetch" not in whole:  # the hub's own message says it already
        whole += f"; or {fetched} ({fetch}{' ...' if len(names) > 2 else ''}) and give --data-dir FOLDER"
    return SourceNotFound(
        first.what if len(names) == 1 else f"data sets are missing: {', '.join(names)}",
        where=first.where,
        why=first.why if len(names) == 1 or data_dir is None else f"{member.name}: {first.what}; {first.why}",
        hint=f"{whole}; --skip-missing continues without",
    )


def _one(
    member: SuiteColumn, data_dir: Path | None, limit: int | None, seed: int, arithmetic: Arithmetic | None
) -> ProblemSet:
    if member.name == ARITHMETIC:
        return _sums(member, limit, seed, arithmetic or Arithmetic())
    spec = manifest.get(member.name)
    loaded = datasets.load(spec, data_dir)
    items = loaded.items
    findings = dataset_task.findings_of(loaded)
    if member.part == "held-out":
        # The same tenth that training holds out, whatever the file's order.
        items = tuple(i for i in items if dataset_task.is_held_out(i.question))
    named = [(dataset_task.problem_id(i.question), i) for i in items]
    once = dict(reversed(named))
    if len(once) < len(named):
        what = f"{spec.name}: {len(named) - len(once)} questions occur more than once and are asked once"
        why = "copies of a problem add no information, and standard errors would be too small"
        findings.append(Finding("repeated-questions", "info", what, why))
    kept = [(key, item) for key, item in named if once.get(key) is item]
    if not kept:
        raise MissingSeries(f"no held-out problem in {spec.name}", where=loaded.source)
    problems = [SuiteProblem(key, item.row, spec.prompt(item.question), item.answer) for key, item in kept]
    return ProblemSet(
        member=member,
        kind=spec.kind,
        problems=chosen(problems, limit, seed),
        decode=spec.decode,
        checksum=_checksum(problems),
        total=len(problems),
        source=loaded.source,
        revision=spec.revision,
        template=spec.template,
        where=spec.where,
        rounded=spec.rounded,
        findings=tuple(findings),
    )


def _sums(member: SuiteColumn, limit: int | None, seed: int, task: Arithmetic) -> ProblemSet:
    asked = limit or _ARITHMETIC_PROBLEMS
    try:
        drawn = task.validation(asked, seed)
    except ValueError as error:
        raise UsageError(str(error), hint="ask for fewer with --problems") from error
    problems = tuple(
        SuiteProblem(dataset_task.problem_id(p.prompt), i, p.prompt, p.answer) for i, p in enumerate(drawn)
    )
    return ProblemSet(
        member,
        "arithmetic",
        problems,
        Decode(temperature=1.0, samples=8),
        _checksum(problems),
        asked,
        "made up",
        template=f"operations {task.operations}, operators {task.operators}",
        arithmetic=task,
    )


def chosen(problems: Sequence[SuiteProblem], limit: int | None, seed: int) -> tuple[SuiteProblem, ...]:
    """At most ``limit`` problems, in their order; which ones, ``seed`` alone decides."""
    if limit is None or limit >= len(problems):
        return tuple(problems)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(problems))[:limit])
    return tuple(problems[i] for i in drawn)


def _checksum(problems: Sequence[SuiteProblem]) -> str:
    lines = (json.dumps([p.text, p.answer], ensure_ascii=False) for p in problems)
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
