"""From the chosen score and entropy log to the pairs that the law sees: which entropy, which alignment, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.align import default_align, pair
from entlaw.runs.assemble import Assembled
from entlaw.runs.choose import entropy_meaning
from entlaw.runs.choose_score import ChosenScore
from entlaw.runs.evaluated import as_logged, entropy_of_scores, level_findings, pair_choices
from entlaw.runs.run import Align, Choice, EntropyMeaning


@dataclass(frozen=True, eq=False)
class Paired:
    """Scores with their entropies.

    Attributes
    ----------
    points : pandas.DataFrame
        As of :class:`entlaw.runs.run.Run`, scores as logged.
    entropy : EntropyMeaning
        Of the entropies in ``points``.
    log : EntropyMeaning or None
        Of the entropy log, where it is another series.
    align : {"next", "same", "previous"}
    choices : tuple of Choice
        The entropy, the log where it is another series, and last the alignment.
    findings : list of Finding
    """

    points: pd.DataFrame
    entropy: EntropyMeaning
    log: EntropyMeaning | None
    align: Align
    choices: tuple[Choice, ...]
    findings: list[Finding]


def pair_up(
    assembled: Assembled,
    config: Mapping[str, Any],
    score: ChosenScore,
    log: EntropyMeaning,
    log_choice: Choice,
    *,
    align: Align | None = None,
    own: bool = True,
) -> Paired:
    """Pair scores with the entropy that their evaluations measured, or else with that of the log.

    Parameters
    ----------
    assembled : Assembled
    config : mapping
        Of the run.
    score : ChosenScore
    log : EntropyMeaning
        The run's entropy log.
    log_choice : Choice
        Why that.
    align : {"next", "same", "previous"}, optional
        By default as follows from where both were measured.
    own : bool
        Whether an entropy that the evaluations measured is preferred.

    Returns
    -------
    Paired
    """
    metrics, kind = assembled.metrics, score.kind
    entropy = log
    choices: tuple[Choice, ...] = (log_choice,)
    found = None
    if kind == "validation" and own:
        found = _evaluations_entropy(metrics, config, score, log, log_choice)
    if found is not None:
        entropy, *both = found
        choices = (*both,)
    if kind == "validation":
        entropy = as_logged(entropy, metrics, score.series)
    used = align or default_align(kind, entropy)
    before = _before_training(assembled, used, entropy.key, score.keys)
    points, findings = pair(metrics[entropy.key], score.series, used, before)
    if found is not None:
        findings += level_findings(points, entropy, log, metrics)
    choices = (*choices, _align_choice(align, kind, used, entropy, before))
    return Paired(points, entropy, log if found is not None else None, used, choices, findings)


def _evaluations_entropy(
    metrics: pd.DataFrame,
    config: Mapping[str, Any],
    score: ChosenScore,
    log: EntropyMeaning,
    log_choice: Choice,
) -> tuple[EntropyMeaning, Choice, Choice] | None:
    """The entropy that the evaluations behind the scores measured, and both choices; None where they did not."""
    found = entropy_of_scores(metrics, score.series, score.keys)
    if found is None or found[0] == log.key:
        return None
    key, rule, others = found
    why = "by its name" if rule.by_name_only else f"as {rule.framework} spells it"
    why = f"measured by the evaluations whose scores are used, {why}"
    return entropy_meaning(key, rule, config), *pair_choices(key, why, others, log_choice)


def _before_training(
    assembled: Assembled, align: Align, entropy_key: str, score_keys: Sequence[str]
) -> float | None:
    """Step of the evaluation that was made before any training, where the alignment has to know it."""
    if align == "next":
        return pretraining_step(assembled, entropy_key, score_keys)
    if align == "previous":
        return pretraining_step(assembled, score_keys[0], (entropy_key,))
    return None


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
    told: Align | None, kind: str, align: Align, entropy: EntropyMeaning, before: float | None
) -> Choice:
    measured = " and an entropy that evaluations measure" if entropy.of == "evaluation" else ""
    why = f"as told by --align {align}" if told else f"default for a {kind} score{measured}"
    same = align == "same" and bool(measured)
    why += f": {'both are of the same evaluation' if same else _ALIGN_REASONS[align]}"
    if before is not None:
        why += f"; the one at step {before:g} was made before training and pairs with the first"
    return Choice("alignment", align, why, tuple(a for a in get_args(Align) if a != align))
