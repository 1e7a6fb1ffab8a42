"""``--join``: one run that was logged in several places, put together by step.

Records are never matched by their number. A part without a step of its own, or with another axis than the others, is
refused unless all parts log one key that counts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from entlaw.errors import DataError, EntlawError, MissingSeries, UnreadableSource
from entlaw.findings import Finding
from entlaw.runs.assemble import Assembled, assemble
from entlaw.runs.axes import axis_rule, is_axis
from entlaw.runs.ending import details_of_all
from entlaw.runs.fill import in_logged_order
from entlaw.runs.gather import Part, list_names
from entlaw.runs.keys import NOT_ENTROPY, canonical
from entlaw.runs.prepare import Selection, to_run
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.steps import resolve_step
from entlaw.runs.trace import agree_by_step, tells, trace_of

# Names of one axis: the optimiser step of a trainer.
_ONE_AXIS = frozenset(
    {
        *("step", "global_step", "train_step", "training_step", "step_num"),
        *("training_global_step", "train_global_step", "trainer_global_step"),
    }
)
_COUNTS = re.compile(r"(^|_)(steps?|iter|iterations?|updates?|rounds?|rollouts?)(_|$)")
_ROLLOUT = re.compile(r"(^|_)(grpo|ppo|rl|rollouts?|rounds?|global)(_|$)")
_EVALUATION = re.compile(
    r"(^|[/_.\-\s])(evals?|evaluations?|val|valid|validations?|test)([/_.\-\s\d]|$)", re.I
)
_EVALUATED = re.compile(r"(^|_)(evals?|evaluation|val|valid|validation|test)(_|$)")
_FEW = 0.5  # of the training log's records


@dataclass(eq=False)
class _Piece:
    """One part, one row a step."""

    raw: RawRun
    assembled: Assembled
    is_evaluation: bool = False

    @property
    def metrics(self) -> pd.DataFrame:
        return self.assembled.metrics

    @property
    def first(self) -> float:
        return float(self.metrics.index[0])

    @property
    def last(self) -> float:
        return float(self.metrics.index[-1])


def join_runs(runs: Sequence[RawRun], where: str, selection: Selection) -> RawRun:
    """One logical run logged as several: outer join by step.

    Of parts that log the same keys, one that starts later is a later pass: it replaces all from its first step on.
    Otherwise a key logged twice keeps the first part's values. Keys of an evaluation's log that the training log has
    too get the prefix ``eval/``, and so does its entropy: it is of other responses.

    Parameters
    ----------
    runs : sequence of RawRun
    where : str
        The source, for errors.
    selection : Selection

    Raises
    ------
    UnreadableSource
        The parts have no step in common to be joined by.
    MissingSeries
        A part does not log the key that the user named as the step.
    """
    runs = [raw for raw in runs if len(raw.rows)] or list(runs)
    axes = _axes(runs, where, selection.step_key)
    pieces = [_Piece(raw, assemble(raw.rows, axis)) for raw, axis in zip(runs, axes, strict=True)]
    pieces = [p for p in pieces if len(p.metrics)] or pieces
    _mark_evaluations(pieces)
    metrics, notes = _merge(sorted(pieces, key=lambda p: p.first if len(p.metrics) else 0.0))
    early = [p for p in pieces if p.is_evaluation and len(p.metrics)]
    order = pd.DataFrame(1, index=metrics.index, columns=metrics.columns)
    starts = [p.first for p in pieces if not p.is_evaluation and len(p.metrics)]
    for piece in early:  # an evaluation at the step at which training starts was made before it
        before = metrics.index.isin(piece.metrics.index) & (metrics.index <= min([*starts, 0.0]))
        order.loc[before, [c for c in piece.metrics.columns if c in order.columns]] = 0
    rows = _in_rows(Assembled(metrics, order, (), ()), selection.step_key, axes)
    names = " + ".join(raw.name for raw in runs)
    axis = list_names(dict.fromkeys(axes))
    findings = (
        Finding("joined", "info", f"{len(runs)} runs joined by step ({axis}): {names}"),
        *notes,
        *(f for raw in runs for f in raw.findings),
        *(f for p in pieces for f in p.assembled.findings),
    )
    config = {k: v for raw in reversed(runs) for k, v in raw.config.items()}
    first = runs[0].provenance
    provenance = Provenance(where, first.format, first.framework, details_of_all(runs))
    return RawRun(names, rows, config, provenance, findings)


# The step ------------------------------------------------------------------------------------------


def _axes(runs: Sequence[RawRun], where: str, step_key: str | None) -> list[str]:
    """The key of each part's step.

    Raises
    ------
    UnreadableSource, MissingSeries
    """
    if step_key is not None:
        without = [raw for raw in runs if step_key not in raw.rows.columns]
        if without:
            raise MissingSeries(
                f"no key {step_key!r} in {list_names(raw.name for raw in without)}",
                where=where,
                why="parts are joined by a step that each of them logs",
                hint=_describe_counters(runs),
            )
        return [step_key] * len(runs)
    found = [resolve_step(raw.rows).key for raw in runs]
    known = [key for key in found if key is not None]
    if len(known) == len(runs) and len({_axis_class(key) for key in known}) == 1:
        return known
    counters = [_counters(raw) for raw in runs]
    common = set(counters[0]).intersection(*counters[1:])
    if common:
        best = min(common, key=_preference)
        return [c[best] for c in counters]
    spelled = ", ".join(
        f"{raw.name}: {key or 'records are only numbered'}" for raw, key in zip(runs, found, strict=True)
    )
    raise UnreadableSource(
        f"the {len(runs)} parts have no common step to be joined by",
        where=where,
        why=f"{spelled}; matched by their number, records of different steps would be paired",
        hint=_describe_counters(runs),
    )


def _axis_class(key: str) -> str:
    name = "_step" if key == "_step" else canonical(key)
    return "step" if name in _ONE_AXIS else name


def _in_rows(joined: Assembled, step_key: str | None, axes: Sequence[str]) -> pd.DataFrame:
    """Rows of the joined log, its step under a name that is taken for the step whatever else a part counts."""
    if step_key is not None:
        return in_logged_order(joined, step_key)
    name = axes[0] if is_axis(axes[0]) and len(set(axes)) == 1 else "step"
    rows = in_logged_order(_without(joined, name), name)
    if name == "step" or resolve_step(rows).key == name:
        return rows
    return in_logged_order(_without(joined, "step"), "step")


def _without(joined: Assembled, name: str) -> Assembled:
    """Without one part's own count under the name of the step that all share."""
    return replace(joined, metrics=joined.metrics.drop(columns=name, errors="ignore"))


def _preference(name: str) -> tuple[int, bool, str]:
    rule = axis_rule(name)
    place = 1000 if rule is None else rule[0]
    return place, _ROLLOUT.search(name) is None, name


def _counters(raw: RawRun) -> dict[str, str]:
    """Keys of a part that count steps, by canonical name."""
    found = {}
    for column in raw.rows.columns:
        name = canonical(str(column))
        # W&B's own counter counts calls: no axis unless every part has nothing else.
        if column != "_step" and _COUNTS.search(name) and name not in found:
            values = raw.rows[column].dropna().to_numpy(float)
            whole = len(values) >= 2 and (values == np.round(values)).all() and values[0] < values[-1]
            if whole and 2 * len(values) >= len(raw.rows) and (np.diff(values) >= 0).mean() >= 0.9:
                found[name] = str(column)
    return found


def _describe_counters(runs: Sequence[RawRun]) -> str:
    told = []
    for raw in runs:
        keys = list_names(_counters(raw).values()) or "no key that counts"
        told.append(f"{raw.name}: {keys}")
    return f"--step-key takes a key that all parts log ({'; '.join(told)})"


# The values ----------------------------------------------------------------------------------------


def _mark_evaluations(pieces: Sequence[_Piece]) -> None:
    """Which parts are an evaluation's log: named like one, or logging like one, beside the log of training."""
    longest = max(len(p.metrics) for p in pieces)
    for piece in pieces:
        few = len(piece.metrics) <= _FEW * longest
        file = piece.raw.provenance.path.replace("\\", "/").rsplit("/", 1)[-1]
        named = bool(_EVALUATION.search(piece.raw.name) or _EVALUATION.search(file))
        keys = [canonical(str(c)) for c in piece.metrics.columns if tells(str(c))]
        logs = len(keys) > 0 and 2 * sum(bool(_EVALUATED.search(k)) for k in keys) > len(keys)
        piece.is_evaluation = few and (named or logs)
    if all(p.is_evaluation for p in pieces):
        for piece in pieces:
            piece.is_evaluation = False


def _merge(pieces: Sequence[_Piece]) -> tuple[pd.DataFrame, list[Finding]]:
    notes: list[Finding] = []
    training = [p for p in pieces if not p.is_evaluation]
    metrics = training[0].metrics
    for piece in training[1:]:
        more, note = _later_or_beside(metrics, piece)
        notes += note
        metrics = more.combine_first(piece.metrics)
    for piece in pieces:
        if piece.is_evaluation:
            named = {c: _evaluation_key(str(c), metrics) for c in piece.metrics.columns}
            changed = [f"{c} -> {new}" for c, new in named.items() if c != new]
            if changed:
                notes.append(
                    Finding(
                        "evaluation-keys",
                        "info",
                        f"{piece.raw.name} is an evaluation's log: {list_names(changed)}",
                        "its entropy and scores are of other responses than those of training",
                    )
                )
            renamed = piece.metrics.rename(columns=named)
            piece.assembled = replace(piece.assembled, metrics=renamed)
            metrics = metrics.combine_first(renamed)
    return metrics, notes


def _evaluation_key(key: str, training: pd.DataFrame) -> str:
    name = canonical(key)
    if _EVALUATED.search(name) or is_axis(key):
        return key
    is_entropy = "entropy" in name and not NOT_ENTROPY.search(name)
    return f"eval/{key}" if is_entropy or (key in training.columns and tells(key)) else key


def _later_or_beside(metrics: pd.DataFrame, piece: _Piece) -> tuple[pd.DataFrame, list[Finding]]:
    """What stays of the parts so far when the next one is added."""
    so_far = trace_of(RawRun("", metrics.reset_index(names="step"), {}, piece.raw.provenance))
    added = trace_of(RawRun("", piece.metrics.reset_index(names="step"), {}, piece.raw.provenance))
    common = [name for name in added.names if name in so_far.column]
    found = agree_by_step(so_far, added)
    alike = 2 * len(common) > min(len(added.names), len(so_far.names))
    if not common or found.same or (found.cells == 0 and not alike):
        return metrics, []
    if piece.first > metrics.index[0] and piece.last >= metrics.index[-1]:
        dropped = int((metrics.index >= piece.first).sum())
        return metrics[metrics.index < piece.first], [
            Finding(
                "resumed",
                "info",
                f"{piece.raw.name} resumed at step {piece.first:g}; {dropped} steps of the earlier pass were replaced",
                "steps after the last checkpoint were trained twice; only the later pass led to the final policy",
            )
        ]
    if found.cells == found.equal:
        return metrics, []
    return metrics, [
        Finding(
            "join-conflict",
            "warning",
            f"{found.cells - found.equal} of {found.cells} values that {piece.raw.name} logs too are others there; "
            "those of the part before were kept",
            "two runs, or two ranks of one, log the same keys",
            "join only parts of one run",
            float(found.cells - found.equal),
        )
    ]


# Which ---------------------------------------------------------------------------------------------


def by_run(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts that belong together: by the run's name where charts hold a column of each run, by folder where each
    folder holds the parts of a run, else all.
    """
    for key in (lambda p: p.raw.name, lambda p: str(p.path.absolute().parent)):
        groups: dict[str, list[Part]] = {}
        for part in parts:
            groups.setdefault(key(part), []).append(part)
        if len(groups) > 1 and all(_complement(found) for found in groups.values()):
            return list(groups.values())
    return [list(parts)]


def _complement(parts: Sequence[Part]) -> bool:
    """Whether several files log other keys each."""
    keys = [frozenset(c for c in part.raw.rows.columns if tells(str(c))) for part in parts]
    return len({str(p.path) for p in parts}) > 1 and len(set(keys)) == len(keys)


def joined(parts: Sequence[Part], where: str, selection: Selection) -> list[Part]:
    """The parts of a source under ``--join``."""
    return [
        found[0]
        if len(found) == 1
        else replace(found[0], raw=_named(found, join_runs([p.raw for p in found], where, selection)))
        for found in by_run(parts)
    ]


def _named(parts: Sequence[Part], raw: RawRun) -> RawRun:
    names = list(dict.fromkeys(p.raw.name for p in parts))
    return replace(raw, name=names[0]) if len(names) == 1 else raw


def hint_to_join(parts: Sequence[Part], errors: Sequence[EntlawError | None], selection: Selection) -> None:
    """Say of runs that lack a series whether ``--join`` would give them one."""
    lacking = [part for part, error in zip(parts, errors, strict=True) if isinstance(error, MissingSeries)]
    by_name: dict[str, list[Part]] = {}
    for part in lacking:
        by_name.setdefault(part.raw.name, []).append(part)
    groups = [g for g in by_name.values() if len({str(p.path) for p in g}) > 1]
    if not groups and len(lacking) > 1 and len(lacking) == len(parts):
        groups = [lacking]
    for group in groups:
        try:
            n = len(to_run(join_runs([p.raw for p in group], "", selection), selection).points)
        except DataError:
            continue
        if n == 0:
            continue
        where = " ".join(dict.fromkeys(shlex.quote(p.source) for p in group))
        for part, error in zip(parts, errors, strict=True):
            if part in group and error is not None:
                error.why = "; ".join(
                    filter(None, [error.why, "each of these files holds a part of what is needed"])
                )
                error.hint = f"`entlaw fit --join {where}` reads them as one run ({n} points)"
