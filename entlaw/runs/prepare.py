"""From a raw log to a run: assemble, choose the series, decide its unit, align. Every decision is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from entlaw.errors import MissingSeries, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.runs.align import pair
from entlaw.runs.assemble import Assembled, assemble
from entlaw.runs.choose import choose_entropy, choose_score, suggest_keys
from entlaw.runs.keys import canonical
from entlaw.runs.run import Align, Choice, RawRun, Run

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
    align : {"next", "same"} or None
        None: ``next`` for validations, ``same`` for training scores.
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
    if selection.align is not None and selection.align not in ("next", "same"):
        raise UsageError(f"unknown alignment {selection.align!r}", hint="use next or same")
    align: Align = selection.align or ("next" if score.kind == "validation" else "same")
    before = pretraining_step(assembled, meaning.key, score.keys) if align == "next" else None
    points, more = pair(metrics[meaning.key], score.series, align, before)
    findings += more
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
            entropy_choice,
            score_choice,
            _align_choice(selection, score.kind, align, before),
            *size,
        ),
        findings=worst_first([*raw.findings, *assembled.findings, *findings]),
        problems=problems,
        samples=samples,
    )


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


def pretraining_step(assembled: Assembled, entropy_key: str, score_keys: Sequence[str]) -> float | None:
    """Step of a validation that was logged before the first entropy: it is of the untrained policy."""
    order = assembled.first_row
    entropy_rows = order[entropy_key].to_numpy()
    entropy_rows = entropy_rows[entropy_rows >= 0]
    keys = [k for k in score_keys if k in order.columns]
    if not keys or len(entropy_rows) == 0:
        return None
    rows = order[keys].to_numpy()
    rows = np.where(rows >= 0, rows, np.iinfo(np.int64).max).min(axis=1)
    first = int(np.argmin(rows))
    return float(order.index[first]) if rows[first] < entropy_rows.min() else None


def _align_choice(selection: Selection, kind: str, align: str, before: float | None) -> Choice:
    why = f"as told by --align {align}" if selection.align else f"default for a {kind} score"
    if align == "next":
        why += ": a score at step t is of the policy after update t, so it pairs with the next entropy"
        if before is not None:
            why += f"; the one at step {before:g} was made before training and pairs with the first"
    else:
        why += ": both are of the same rollout"
    return Choice("alignment", align, why, ("same" if align == "next" else "next",))


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
            at = int(np.searchsorted(idx, i))
            around = idx[max(at - 3, 0) : at + 3]
            near = v[around[np.argsort(np.abs(around - i), kind="stable")[:3]]]
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
