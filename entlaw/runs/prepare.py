"""From a raw log to a run: assemble, choose the series, decide its unit, align. Every decision is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from entlaw.errors import MissingSeries, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.runs.align import default_align, pair
from entlaw.runs.assemble import Assembled, assemble
from entlaw.runs.choose import ChosenScore, choose_entropy, choose_score, entropy_meaning, suggest_keys
from entlaw.runs.evaluated import entropy_of_scores, level_findings, pair_choices
from entlaw.runs.keys import canonical
from entlaw.runs.run import Align, Choice, EntropyMeaning, RawRun, Run

if TYPE_CHECKING:
    from entlaw.runs.wandb.listing import Query


# A mean of 0/1 scores may exceed 1 by rounding only.
_TOLERANCE = 1e-6
# One-per-cent scores exist ("0.8 %"), so values below 1 are suspicious only when their neighbours are this much larger.
_JUMP = 20.0
# A score that never exceeds this may be a small percentage or a reward of a few points: not decided silently.
_SURE_PERCENT = 5.0


@dataclass(frozen=True)
class Selection:
    """The user's say in what is read.

    Attributes
    ----------
    on : str or None
        ``val``, ``train``, a key or a glob of keys; None leaves the choice to the rules.
    align : {"next", "same", "previous"} or None
        None decides by where score and entropy were measured (:mod:`entlaw.runs.align`). Where it is given, it is about
        the run's entropy log: the entropy that evaluations measured is then not taken.
    scale : float or None
        Factor from the logged score to a fraction; None decides from the numbers.
    step_key, entropy_key : str or None
    join : bool
        Join all runs of the source into one by step (a trainer and an orchestrator that log apart); on a W&B
        server those of one group.
    query : entlaw.runs.wandb.listing.Query or None
        Which runs of a W&B project.
    """

    on: str | None = None
    align: Align | None = None
    scale: float | None = None
    step_key: str | None = None
    entropy_key: str | None = None
    join: bool = False
    query: Query | None = None


def to_run(raw: RawRun, selection: Selection | None = None) -> Run:
    """Assemble, choose the series, align.

    Raises
    ------
    MissingSeries
        No entropy or no performance, or a key the user named is not in the log.
    UsageError
        An unknown alignment, a scale that is not positive, or one key named for both series.
    """
    selection = selection or Selection()
    _check(raw, selection)
    assembled = assemble(raw.rows, selection.step_key)
    metrics = assembled.metrics
    meaning, framework, entropy_choice, findings = choose_entropy(metrics, raw.config, selection.entropy_key)
    score, score_choice, more = choose_score(metrics, meaning.key, selection.on)
    findings += more
    if meaning.key in score.keys:
        raise UsageError(
            f"{meaning.key!r} cannot be the entropy and the performance at once",
            hint="name two different keys with --entropy-key and --on",
        )
    if selection.align is not None and selection.align not in get_args(Align):
        raise UsageError(f"unknown alignment {selection.align!r}", hint="use next, same or previous")
    log: EntropyMeaning | None = None
    if (found := _evaluations_entropy(raw, selection, metrics, score, meaning, entropy_choice)) is not None:
        log, (meaning, *entropy_choices) = meaning, found
    else:
        entropy_choices = [entropy_choice]
    align: Align = selection.align or default_align(score.kind, meaning)
    before = _before_training(assembled, align, meaning.key, score.keys)
    points, more = pair(metrics[meaning.key], score.series, align, before)
    findings += more
    if log is not None:
        findings += level_findings(points, meaning, log, metrics)
    if selection.scale is None:
        scale, more = performance_scale(score.series.to_numpy(float), score.is_accuracy)
        findings += more
    else:
        scale = selection.scale
    points = points.assign(performance=points["performance"] * scale)
    infinite = int(np.isinf(metrics[meaning.key]).sum() + np.isinf(score.series).sum())
    if infinite:
        points = points[np.isfinite(points).all(axis=1)].reset_index(drop=True)
        findings.append(Finding("infinite-values", "warning", f"{infinite} infinite values were left out"))
    framework = str(
        raw.config.get("framework", framework)
    )  # what the run says of itself beats its keys' spelling
    if raw.provenance.framework in ("unknown", "") and framework != "unknown":
        raw = replace(raw, provenance=replace(raw.provenance, framework=framework))
    problems, samples = _test_size(metrics) if score.kind == "validation" else (None, None)
    size = () if problems is None else (_size_choice(problems, samples),)
    return Run(
        name=raw.name,
        metrics=metrics.assign(**{score.key: score.series}),
        points=points,
        entropy=meaning,
        performance_key=score.key,
        performance_kind=score.kind,
        performance_scale=scale,
        align=align,
        config=raw.config,
        provenance=raw.provenance,
        choices=(
            *assembled.choices,
            *entropy_choices,
            score_choice,
            _align_choice(selection, score.kind, align, meaning, before),
            *size,
        ),
        findings=worst_first([*raw.findings, *assembled.findings, *findings]),
        problems=problems,
        samples=samples,
        entropy_log=log,
    )


def _evaluations_entropy(
    raw: RawRun,
    selection: Selection,
    metrics: pd.DataFrame,
    score: ChosenScore,
    log: EntropyMeaning,
    log_choice: Choice,
) -> tuple[EntropyMeaning, Choice, Choice] | None:
    """The entropy that the evaluations behind the scores measured, and both choices; None where they did not."""
    if selection.entropy_key is not None or selection.align is not None or score.kind != "validation":
        return None
    found = entropy_of_scores(metrics, score.series, score.keys)
    if found is None or found[0] == log.key:
        return None
    key, rule, others = found
    why = "by its name" if rule.by_name_only else f"as {rule.framework} spells it"
    why = f"measured by the evaluations whose scores are used, {why}"
    return entropy_meaning(key, rule, raw.config), *pair_choices(key, why, others, log_choice)


def _before_training(
    assembled: Assembled, align: Align, entropy_key: str, score_keys: Sequence[str]
) -> float | None:
    """Step of the evaluation that was made before any training, where the alignment has to know it."""
    if align == "next":
        return pretraining_step(assembled, entropy_key, score_keys)
    if align == "previous":
        return pretraining_step(assembled, score_keys[0], (entropy_key,))
    return None


def _check(raw: RawRun, selection: Selection) -> None:
    """Refuse what no choice of series can mend."""
    if len(raw.rows) == 0:
        raise MissingSeries(
            "no metrics were logged",
            why=raw.findings[0].what if raw.findings else None,
            hint="the run stopped before its first step, or logs its metrics elsewhere",
        )
    if selection.step_key is not None and selection.step_key not in raw.rows.columns:
        raise MissingSeries(
            f"no key {selection.step_key!r} in this log",
            hint=suggest_keys(selection.step_key, [str(c) for c in raw.rows.columns]),
        )
    if selection.scale is not None and not (np.isfinite(selection.scale) and selection.scale > 0):
        raise UsageError(
            f"a scale of {selection.scale:g} is no factor", hint="0.01 turns percent into fractions"
        )


def _test_size(metrics: pd.DataFrame) -> tuple[int | None, int | None]:
    """Problems and samples per problem of the validation, where the log holds them and they never change."""
    sizes: list[int | None] = []
    for name in ("val_problems", "val_samples"):
        columns = [c for c in metrics.columns if canonical(str(c)) == name]
        values = metrics[columns[0]].dropna().unique() if columns else []
        sizes.append(int(values[0]) if len(values) == 1 and values[0] >= 1 else None)
    return (sizes[0], sizes[1]) if sizes[0] else (None, None)


def _size_choice(problems: int, samples: int | None) -> Choice:
    return Choice(
        "test size", f"{problems} problems x {samples or 1} samples", "as logged: binomial noise is known"
    )


def pretraining_step(assembled: Assembled, batch_key: str, keys: Sequence[str]) -> float | None:
    """Step of an evaluation that was logged before the first number of a batch: it is of the untrained policy."""
    order = assembled.first_row
    keys = [k for k in keys if k in order.columns]
    if not keys or batch_key not in order.columns:
        return None
    batch_rows = order[batch_key].to_numpy()
    batch_rows = batch_rows[batch_rows >= 0]
    if len(batch_rows) == 0:
        return None
    rows = order[keys].to_numpy()
    rows = np.where(rows >= 0, rows, np.iinfo(np.int64).max).min(axis=1)
    first = int(np.argmin(rows))
    return float(order.index[first]) if rows[first] < batch_rows.min() else None


_ALIGN_REASONS: dict[Align, str] = {
    "next": "a score at step t is of the policy after update t, so it pairs with the next entropy",
    "same": "both are of the same rollout",
    "previous": "the entropy at step t is of the policy after update t, so it pairs with the next score",
}


def _align_choice(
    selection: Selection, kind: str, align: Align, entropy: EntropyMeaning, before: float | None
) -> Choice:
    measured = " and an entropy that evaluations measure" if entropy.of == "evaluation" else ""
    why = f"as told by --align {align}" if selection.align else f"default for a {kind} score{measured}"
    same = align == "same" and bool(measured)
    why += f": {'both are of the same evaluation' if same else _ALIGN_REASONS[align]}"
    if before is not None:
        why += f"; the one at step {before:g} was made before training and pairs with the first"
    return Choice("alignment", align, why, tuple(a for a in get_args(Align) if a != align))


def performance_scale(values: np.ndarray, is_accuracy: bool) -> tuple[float, list[Finding]]:
    """What to multiply a logged score by to get a fraction.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Scores as logged, in order of step; NaN ignored.
    is_accuracy : bool
        Whether the key names an accuracy-like score; a reward is never rescaled.

    Returns
    -------
    scale : float
        1.0 or 0.01.
    findings : list of Finding
        ``percent`` (info), ``mixed-units`` (error) or ``not-a-score`` (warning).
    """
    v = values[np.isfinite(values)]
    if len(v) == 0 or (v.max() <= 1 + _TOLERANCE and v.min() >= -_TOLERANCE):
        return 1.0, []
    if not is_accuracy or v.min() < -_TOLERANCE or not _SURE_PERCENT < v.max() <= 100 + 1e-4:
        return 1.0, [
            Finding(
                "not-a-score",
                "warning",
                f"performance runs from {v.min():.4g} to {v.max():.4g}, so it is not a score in [0, 1]",
                "the numbers a, b and the ceiling are then in the unit of that reward, and bounds cannot be checked",
                "use an accuracy if the log has one (--on KEY); if it is a percentage, say --scale 0.01",
                float(v.max()),
            )
        ]
    small = (v > 0) & (v <= 1)
    large = v > 1
    middle = float(np.median(v[large]))
    if small.any():
        # Read as percent, a small value must be near its neighbours; read as a fraction, 100 v would be.
        idx = np.flatnonzero(large)
        odd = 0
        for i in np.flatnonzero(small):
            near = v[idx[np.argsort(np.abs(idx - i))[:3]]]
            reference = float(np.median(near))
            odd += v[i] * _JUMP < reference and abs(np.log(100 * v[i] / reference)) < np.log(3)
        if odd:
            return 1.0, [
                Finding(
                    "mixed-units",
                    "error",
                    f"{odd} scores look like fractions among percentages (median of the others {middle:.4g})",
                    "percent and fraction in one series make any fit meaningless",
                    "convert the log to one unit",
                    float(odd),
                )
            ]
    return 0.01, [
        Finding("percent", "info", f"scores run to {v.max():.4g}: read as percent and divided by 100")
    ]
