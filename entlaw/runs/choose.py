"""Choosing the entropy and the performance series of a run, with the reason for each choice."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from entlaw.errors import MissingSeries, nearest
from entlaw.findings import Finding
from entlaw.runs.evaluated import evaluation_candidates, is_of_evaluation
from entlaw.runs.keys import (
    ACCURACY_NAME,
    CORRECT_TERM,
    ENTROPY_RULES,
    FORMAT_TERM,
    NOT_ENTROPY,
    NOT_SCORE,
    SCORE_RULES,
    EntropyRule,
    ScoreRule,
    canonical,
)
from entlaw.runs.run import Choice, EntropyMeaning, PerformanceKind

# Fewer validations than this and a training score, logged every step, tells more (the law warns below 8 too).
ENOUGH_VALIDATIONS = 8


@dataclass(frozen=True)
class ChosenScore:
    """The performance series that was chosen."""

    key: str
    series: pd.Series
    kind: PerformanceKind
    is_accuracy: bool
    keys: tuple[str, ...]  # the logged keys behind it; several when averaged or coalesced


def suggest_keys(key: str, known: list[str]) -> str:
    """A sentence naming the keys most like ``key``, or the first ones there are."""
    if hint := nearest(key, known, cutoff=0.5):
        return hint
    shown = ", ".join(known[:12]) + (f" ... ({len(known)} in all)" if len(known) > 12 else "")
    return f"keys in this log: {shown}" if known else "the log holds no numeric key"


def entropy_candidates(metrics: pd.DataFrame) -> list[tuple[str, EntropyRule]]:
    """Keys that spell an entropy, best rule first; all-NaN columns left out."""
    found = []
    names = [canonical(str(column)) for column in metrics.columns]
    for rank, rule in enumerate(ENTROPY_RULES):
        if rule.beside is not None and not any(rule.beside.fullmatch(name) for name in names):
            continue
        for column, name in zip(metrics.columns, names, strict=True):
            if rule.pattern.fullmatch(name) and not (rule.by_name_only and NOT_ENTROPY.search(name)):
                found.append((rank, str(column), rule))
    # An evaluation's entropy is the run's only where there is no other.
    evaluated = evaluation_candidates(metrics)
    found.sort(key=lambda f: f[0])
    batch = [f[1:] for f in found if not is_of_evaluation(f[1])]
    seen: dict[str, EntropyRule] = {}
    for column, rule in [*batch, *evaluated, *(f[1:] for f in found)]:
        if metrics[column].notna().any():
            seen.setdefault(column, rule)
    return list(seen.items())


def choose_entropy(
    metrics: pd.DataFrame, config: Mapping[str, Any], wanted: str | None = None
) -> tuple[EntropyMeaning, str, Choice, list[Finding]]:
    """Choose the entropy series.

    Returns
    -------
    meaning, framework, choice, findings

    Raises
    ------
    MissingSeries
        No key of the log is an entropy, or the wanted one is not there.
    """
    columns = [str(c) for c in metrics.columns]
    candidates = entropy_candidates(metrics)
    if wanted is not None:
        return _named_entropy(metrics, config, wanted, candidates)
    if not candidates:
        blank = entropy_candidates(metrics.fillna(0.0))
        if blank:
            raise _empty(blank[0][0], "--entropy-key")
        raise MissingSeries(
            "no entropy in this log",
            why="none of its keys is a known spelling of the policy's entropy",
            hint="turn entropy logging on in the trainer, or name the key with --entropy-key; "
            + suggest_keys("entropy", columns),
        )
    key, rule = candidates[0]
    findings = []
    if rule.by_name_only:
        findings.append(
            Finding(
                "entropy-by-name",
                "info"
                if canonical(key) == "entropy"
                else "warning",  # plainly called so: only its kind is open
                f"{key!r} was taken for the entropy by its name alone",
                "what it measures (tokens or responses, exact or sampled, which temperature) is not known",
                "check it, or name another key with --entropy-key",
            )
        )
    why = "only its name suggests it" if rule.by_name_only else f"as {rule.framework} spells it"
    others = tuple(c for c, _ in candidates[1:])
    meaning = entropy_meaning(key, rule, config)
    if (
        canonical(key) == "actor_entropy_loss"
        and str(config.get("actor_rollout_ref.actor.use_dynamic_bsz")) == "True"
    ):
        findings.append(
            Finding(
                "verl-dynamic-batch-entropy",
                "warning",
                "actor/entropy_loss with use_dynamic_bsz=True",
                "verl <= 0.4 and the entropy-mechanism code apply the mask of another sequence to it when batches are "
                "dynamic: it reads about 0.6 where about 1.0 is right",
                "use train_entropy/all or actor/entropy of a later version if the log has it",
            )
        )
    return meaning, rule.framework, Choice("entropy", key, why, others), findings


def _named_entropy(
    metrics: pd.DataFrame,
    config: Mapping[str, Any],
    wanted: str,
    candidates: list[tuple[str, EntropyRule]],
) -> tuple[EntropyMeaning, str, Choice, list[Finding]]:
    """The entropy that the user named."""
    columns = [str(c) for c in metrics.columns]
    if wanted not in columns:
        raise MissingSeries(f"no key {wanted!r} in this log", hint=suggest_keys(wanted, columns))
    if not metrics[wanted].notna().any():
        raise _empty(wanted, "--entropy-key")
    rule = next((r for c, r in candidates if c == wanted), None)
    framework = rule.framework if rule else "unknown"
    return (
        entropy_meaning(wanted, rule, config),
        framework,
        Choice("entropy", wanted, "as told by --entropy-key", tuple(c for c, _ in candidates if c != wanted)),
        [],
    )


def _empty(key: str, option: str) -> MissingSeries:
    return MissingSeries(
        f"{key!r} holds no number",
        why="every value logged under it is NaN or null, or is missing",
        hint=f"look for what went wrong in the trainer, or name another key with {option}",
    )


def entropy_meaning(key: str, rule: EntropyRule | None, config: Mapping[str, Any]) -> EntropyMeaning:
    """What is known of an entropy: by its spelling, by where its name says that it was measured, and by the config."""
    known: dict[str, Any] = {}
    if is_of_evaluation(key):
        known = {"of": "evaluation", "when": "after-update"}
    elif rule is not None and not rule.by_name_only:
        known = {"of": "batch"}
    return _refine(EntropyMeaning(key, **{**known, **(rule.meaning if rule else {})}), config)


def _refine(meaning: EntropyMeaning, config: Mapping[str, Any]) -> EntropyMeaning:
    """Let what the log's own config says override what the registry assumes."""
    told = {
        name: config[f"entropy_meaning.{name}"]
        for name in ("estimator", "unit", "averaging", "temperature", "when", "of", "note")
        if f"entropy_meaning.{name}" in config
        and config.get("entropy_meaning.key", meaning.key) == meaning.key
    }
    temperature = config.get("actor_rollout_ref.rollout.temperature", config.get("temperature"))
    if meaning.temperature == "rollout" and str(temperature) in ("1", "1.0"):
        told.setdefault("temperature", "1")
    return EntropyMeaning(**{**meaning.__dict__, **told}) if told else meaning


def score_candidates(metrics: pd.DataFrame) -> list[tuple[str, ScoreRule, str]]:
    """(key, rule, data set) of everything that spells a score, best rule first."""
    found: dict[str, tuple[int, ScoreRule, str]] = {}
    for rank, rule in enumerate(SCORE_RULES):
        for column in metrics.columns:
            name, key = canonical(str(column)), str(column)
            match = rule.pattern.fullmatch(name)
            if key in found or not match or (rule.by_name_only and NOT_SCORE.search(name)):
                continue
            if metrics[key].notna().any():
                groups = match.groupdict()
                found[key] = (rank, rule, groups.get("set") or groups.get("fn") or "")
    ordered = sorted(found.items(), key=lambda item: (item[1][0], item[0]))
    return [(key, rule, name) for key, (_, rule, name) in ordered]


def choose_score(
    metrics: pd.DataFrame, entropy_key: str, on: str | None = None
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """Choose the performance series.

    Parameters
    ----------
    metrics : pandas.DataFrame
    entropy_key : str
    on : str, optional
        ``val``, ``train``, a key, or a glob over keys (``val-core/*/mean@1``: the equal-weight mean of all that
        match, at steps where all were logged). By default a validation with at least 8 evaluations, else the
        training score, else whatever validation there is.

    Raises
    ------
    MissingSeries
    """
    columns = [str(c) for c in metrics.columns]
    if on is not None and on not in ("val", "train", "auto"):
        return _named_score(metrics, on, columns)
    dense = max(int(metrics[entropy_key].notna().sum()), 1)
    validations: list[tuple[str, ScoreRule, str]] = []
    trainings: list[tuple[str, ScoreRule, str]] = []
    for key, rule, name in score_candidates(metrics):
        sparse = metrics[key].notna().sum() < 0.6 * dense
        kind = rule.kind if rule.kind != "either" else ("validation" if sparse else "training")
        (validations if kind == "validation" else trainings).append((key, rule, name))
    n_val = max((int(metrics[k].notna().sum()) for k, _, _ in validations), default=0)
    if on == "val" or (
        on in (None, "auto") and validations and (n_val >= ENOUGH_VALIDATIONS or not trainings)
    ):
        pool: list[tuple[str, ScoreRule, str]] = validations
        kind = "validation"
    else:
        pool, kind = trainings, "training"
    if not pool:
        blank = score_candidates(metrics.fillna(0.0))
        if blank and not validations and not trainings:
            raise _empty(blank[0][0], "--on")
        wanted = {"val": "validation score", "train": "training score"}.get(on or "", "performance score")
        raise MissingSeries(
            f"no {wanted} in this log",
            why="none of its keys is a known spelling of one",
            hint="name the key with --on; " + suggest_keys("accuracy", columns),
        )
    if kind == "validation":
        return _pick_validation(metrics, pool)
    return _pick_training(metrics, pool, few_validations=n_val if on != "train" else 0)


def _named_score(
    metrics: pd.DataFrame, on: str, columns: list[str]
) -> tuple[ChosenScore, Choice, list[Finding]]:
    keys = [on] if on in columns else fnmatch.filter(columns, on)
    if not keys:
        raise MissingSeries(f"no key {on!r} in this log", hint=suggest_keys(on, columns))
    if not metrics[keys].notna().any(axis=None):
        raise _empty(on, "--on")
    rules = {key: rule for key, rule, _ in score_candidates(metrics)}
    rule = rules.get(keys[0])
    series = metrics[keys].mean(axis=1, skipna=False) if len(keys) > 1 else metrics[keys[0]]
    sparse = series.notna().sum() < 0.6 * len(metrics)
    kind: PerformanceKind
    if rule is not None and rule.kind != "either":
        kind = "validation" if rule.kind == "validation" else "training"
    else:
        kind = "validation" if sparse else "training"
    why = "as told" if len(keys) == 1 else f"equal-weight mean of {len(keys)} keys, as told"
    accuracy = rule.is_accuracy if rule else bool(ACCURACY_NAME.search(canonical(on)))
    chosen = ChosenScore(on, series, kind, accuracy, tuple(keys))
    return chosen, Choice("performance", on, f"{why}; {kind}", tuple(k for k in rules if k not in keys)), []


def _pick_validation(
    metrics: pd.DataFrame, pool: list[tuple[str, ScoreRule, str]]
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """The best rule's key with the most evaluations; an older spelling of the same set fills its gaps."""
    best = pool[0][1]
    same = [p for p in pool if p[1] is best]
    same.sort(key=lambda p: (-int(metrics[p[0]].notna().sum()), p[0]))
    key, rule, name = same[0]
    series, keys = metrics[key], [key]
    for other, _, other_name in pool:  # e.g. verl's pre-training test_score/X beside val/test_score/X
        if other != key and name and other_name == name and rule.framework == "verl":
            fresh = series.isna() & metrics[other].notna()
            if fresh.any() and not (series.notna() & metrics[other].notna()).any():
                series, keys = series.fillna(metrics[other]), [*keys, other]
    n = int(series.notna().sum())
    why = f"a validation as {rule.framework} spells it, {n} evaluations"
    if rule.by_name_only:
        why = f"a validation by its name, {n} evaluations"
    if len(keys) > 1:
        why += f"; {', '.join(keys[1:])} holds the rest of the same set"
    findings = []
    if len(same) > 1:
        findings.append(
            Finding(
                "several-validations",
                "info",
                f"{len(same)} validation scores of the same kind; {key!r} was used",
                "a mean over sets depends on the weights, so none is taken silently",
                "choose with --on KEY, or average equally with --on 'glob*'",
                float(len(same)),
            )
        )
    chosen = ChosenScore(key, series, "validation", rule.is_accuracy, tuple(keys))
    return chosen, Choice("performance", key, why, tuple(p[0] for p in pool if p[0] not in keys)), findings


def _pick_training(
    metrics: pd.DataFrame, pool: list[tuple[str, ScoreRule, str]], few_validations: int
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """The best rule's key; among TRL's reward terms, the one that scores being right if the sum is no score."""
    key, rule, _ = pool[0]
    why = (
        f"a training score as {rule.framework} spells it"
        if not rule.by_name_only
        else "a training score by its name"
    )
    if rule.framework == "TRL":
        key, why = _trl_reward(metrics, pool)
    if few_validations:
        why += f"; validation has only {few_validations} evaluations (--on val to use it)"
    chosen = ChosenScore(key, metrics[key], "training", rule.is_accuracy, (key,))
    return chosen, Choice("performance", key, why, tuple(p[0] for p in pool if p[0] != key)), []


def _trl_reward(metrics: pd.DataFrame, pool: list[tuple[str, ScoreRule, str]]) -> tuple[str, str]:
    """TRL logs the weighted sum as ``reward`` and each term apart; the sum is a score only if it is bounded."""
    terms = [(key, name) for key, rule, name in pool if name and rule.framework == "TRL"]
    total = next((key for key, rule, name in pool if not name and rule.framework == "TRL"), None)
    if total is not None and len(terms) <= 1:
        return total, "TRL's training reward (one term)"
    right = [t for t in terms if not FORMAT_TERM.search(t[1])]
    named = [t for t in right if CORRECT_TERM.search(t[1])]
    for some, why in ((named, "named as correctness"), (right, "not a format term")):
        bounded = [t for t in some if metrics[t[0]].min() >= 0 and metrics[t[0]].max() <= 1]
        if len(bounded) == 1:
            return bounded[0][
                0
            ], f"the one reward term within [0, 1] {why}; the total mixes {len(terms)} terms"
    if total is not None:
        return total, f"TRL's total of {len(terms)} reward terms: no single term is clearly the correctness"
    return terms[0][0], "the first of TRL's reward terms"
