"""From a raw log to a run: assemble, choose the series, decide its unit, align. Every decision is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from entlaw.errors import MissingSeries, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.runs.assemble import assemble
from entlaw.runs.choose import choose_entropy
from entlaw.runs.choose_score import ChosenScore, choose_score
from entlaw.runs.diverged import find_divergence
from entlaw.runs.keys import canonical
from entlaw.runs.missing import suggest_keys
from entlaw.runs.pairing import pair_up
from entlaw.runs.run import Align, Choice, RawRun, Run
from entlaw.runs.units import ScoreUnit, decide_unit, drop_placeholders, extremes

if TYPE_CHECKING:
    from entlaw.runs.wandb.listing import Query


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
    score_range : tuple of float or None
        Worst and best score as logged, which become 0 and 1: ``(-1, 1)`` for rewards of -1 and +1.
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
    score_range: tuple[float, float] | None = None
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
    unread = raw.rows.attrs.get("unread", {})
    meaning, framework, entropy_choice, findings = choose_entropy(
        metrics, raw.config, selection.entropy_key, unread
    )
    score, score_choice, more = choose_score(metrics, meaning.key, selection.on, assembled.first_row, unread)
    findings += more
    if meaning.key in score.keys:
        raise UsageError(
            f"{meaning.key!r} cannot be the entropy and the performance at once",
            hint="name two different keys with --entropy-key and --on",
        )
    if selection.align is not None and selection.align not in get_args(Align):
        raise UsageError(f"unknown alignment {selection.align!r}", hint="use next, same or previous")
    score, unit, more = _measure(metrics, meaning.key, score, selection, raw.rows.attrs.get("nan", {}))
    findings += more
    own = selection.entropy_key is None and selection.align is None
    paired = pair_up(assembled, raw.config, score, meaning, entropy_choice, align=selection.align, own=own)
    findings += paired.findings
    points = paired.points.assign(performance=unit.scale * (paired.points["performance"] - unit.offset))
    points, more = _drop_infinite(points, metrics[paired.entropy.key], score.series)
    findings += more
    # What the run says of itself beats its keys' spelling.
    framework = str(raw.config.get("framework", framework))
    if raw.provenance.framework in ("unknown", "") and framework != "unknown":
        raw = replace(raw, provenance=replace(raw.provenance, framework=framework))
    problems, samples = _test_size(metrics) if score.kind == "validation" else (None, None)
    size = () if problems is None else (_size_choice(problems, samples),)
    return Run(
        name=raw.name,
        metrics=metrics.assign(**{score.key: score.series}),
        points=points,
        entropy=paired.entropy,
        performance_key=score.key,
        performance_kind=score.kind,
        performance_scale=unit.scale,
        performance_offset=unit.offset,
        align=paired.align,
        config=raw.config,
        provenance=raw.provenance,
        choices=(
            *assembled.choices,
            *paired.choices[:-1],
            score_choice,
            paired.choices[-1],
            *size,
        ),
        findings=worst_first([*raw.findings, *assembled.findings, *findings]),
        problems=problems,
        samples=samples,
        entropy_log=paired.log,
    )


def _drop_infinite(
    points: pd.DataFrame, entropy: pd.Series, scores: pd.Series
) -> tuple[pd.DataFrame, list[Finding]]:
    infinite = int(np.isinf(entropy).sum() + np.isinf(scores).sum())
    if not infinite:
        return points, []
    kept = points[np.isfinite(points).all(axis=1)].reset_index(drop=True)
    return kept, [Finding("infinite-values", "warning", f"{infinite} infinite values were left out")]


def _measure(
    metrics: pd.DataFrame,
    entropy_key: str,
    score: ChosenScore,
    selection: Selection,
    nan: Mapping[str, int],
) -> tuple[ChosenScore, ScoreUnit, list[Finding]]:
    """The scores that are scores, and their unit: what a broken run logged has no say in it."""
    # Evaluations may stop before the training does; only NaN says that one failed.
    watched = [score.key] if score.kind == "training" or nan.get(score.key) else []
    end = find_divergence(metrics.assign(**{score.key: score.series}), entropy_key, watched, nan)
    single = extremes(metrics, score.key)
    series, findings = drop_placeholders(score.series, single)
    findings += [] if end is None else [end]
    score = replace(score, series=series)
    if selection.score_range is not None:
        return score, ScoreUnit.of_range(*selection.score_range), findings
    if selection.scale is not None:
        return score, ScoreUnit(selection.scale), findings
    sound = series if end is None or end.value is None else series[series.index < end.value]
    unit, more = decide_unit(sound.to_numpy(float), score.is_accuracy, score.key, single)
    return score, unit, findings + more


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
    if selection.score_range is not None:
        low, high = selection.score_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UsageError(
                f"a score range from {low:g} to {high:g} is none",
                hint="the worst score first: --score-range=-1,1 for rewards of -1 and +1",
            )
        if selection.scale is not None:
            raise UsageError(
                "--scale and --score-range exclude each other", hint="give one of them: both set the unit"
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
