"""Choosing the entropy series of a run, with the reason for the choice (the score: ``choose_score.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from entlaw.errors import MissingSeries
from entlaw.findings import Finding
from entlaw.runs.choose_score import count_values, drop_scarce
from entlaw.runs.evaluated import evaluation_candidates, is_of_evaluation
from entlaw.runs.keys import ENTROPY_RULES, NOT_ENTROPY, EntropyRule, canonical
from entlaw.runs.missing import NOTHING_UNREAD, as_if_read, no_entropy, suggest_keys, without_values
from entlaw.runs.run import Choice, EntropyMeaning


def entropy_candidates(metrics: pd.DataFrame) -> list[tuple[str, EntropyRule]]:
    """Keys that spell an entropy, best rule first; columns of nothing but NaN, and of 0 throughout, left out.

    A key that hardly holds values comes after those that do, and what is no entropy of a token after both.
    """
    names = [canonical(str(column)) for column in metrics.columns]
    of_entropy = [(str(c), name) for c, name in zip(metrics.columns, names, strict=True) if "entropy" in name]
    found: dict[str, tuple[int, EntropyRule]] = {}
    for rank, rule in enumerate(ENTROPY_RULES):
        if rule.beside is not None and not any(rule.beside.fullmatch(name) for name in names):
            continue
        for column, name in of_entropy:
            known = found.get(column)
            if known is not None and not (known[1].by_name_only and rule.last):
                continue
            if rule.pattern.fullmatch(name) and not (rule.by_name_only and NOT_ENTROPY.search(name)):
                found[column] = (rank, rule)
    counts = {
        key: count_values(metrics[key])
        for key, _ in sorted(found.items(), key=lambda f: (f[1][1].last, f[1][0]))
        if metrics[key].notna().any() and (metrics[key].dropna() != 0).any()
    }
    frequent = drop_scarce({key: n for key, n in counts.items() if not found[key][1].last})
    order = [(key, found[key][1]) for key in (*frequent, *(key for key in counts if key not in frequent))]
    # An evaluation's entropy is the run's only where the batches have none.
    batch = [one for one in order if not one[1].last and not is_of_evaluation(one[0])]
    out: dict[str, EntropyRule] = {}
    for key, rule in (*batch, *evaluation_candidates(metrics), *order):
        out.setdefault(key, rule)
    return list(out.items())


def choose_entropy(
    metrics: pd.DataFrame,
    config: Mapping[str, Any],
    wanted: str | None = None,
    unread: Mapping[str, str] = NOTHING_UNREAD,
) -> tuple[EntropyMeaning, str, Choice, list[Finding]]:
    """Choose the entropy series.

    Parameters
    ----------
    metrics : pandas.DataFrame
    config : mapping
        What the log says of its own settings.
    wanted : str, optional
        The key that the user named.
    unread : mapping
        Keys under which no number was read, with a value of each (``attrs["unread"]`` of a reader's frame).

    Returns
    -------
    meaning, framework, choice, findings

    Raises
    ------
    MissingSeries
        No key of the log is an entropy, or the wanted one is not there.
    """
    candidates = entropy_candidates(metrics)
    if wanted is not None:
        return _named_entropy(metrics, config, wanted, candidates, unread)
    if not candidates:
        spelled = entropy_candidates(as_if_read(metrics, unread))
        if spelled:
            raise without_values(spelled[0][0], metrics, unread, "--entropy-key")
        raise no_entropy(metrics, config)
    key, rule = candidates[0]
    why = "only its name suggests it" if rule.by_name_only else f"as {rule.framework} spells it"
    others = tuple(c for c, _ in candidates[1:])
    meaning = entropy_meaning(key, rule, config)
    return meaning, rule.framework, Choice("entropy", key, why, others), _doubts(key, rule, config)


def _doubts(key: str, rule: EntropyRule, config: Mapping[str, Any]) -> list[Finding]:
    """What speaks against a key that was chosen by the rules."""
    findings = unit_findings(key, rule)
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
    return findings


def _named_entropy(
    metrics: pd.DataFrame,
    config: Mapping[str, Any],
    wanted: str,
    candidates: list[tuple[str, EntropyRule]],
    unread: Mapping[str, str],
) -> tuple[EntropyMeaning, str, Choice, list[Finding]]:
    """The entropy that the user named."""
    columns = [str(c) for c in metrics.columns]
    if wanted not in columns and wanted not in unread:
        raise MissingSeries(f"no key {wanted!r} in this log", hint=suggest_keys(wanted, columns))
    if wanted in unread or not metrics[wanted].notna().any():
        raise without_values(wanted, metrics, unread, "--entropy-key")
    rule = next((r for c, r in candidates if c == wanted), None)
    framework = rule.framework if rule else "unknown"
    return (
        entropy_meaning(wanted, rule, config),
        framework,
        Choice("entropy", wanted, "as told by --entropy-key", tuple(c for c, _ in candidates if c != wanted)),
        unit_findings(wanted, rule),
    )


def unit_findings(key: str, rule: EntropyRule | None) -> list[Finding]:
    """Says of an entropy that is none of a token what it is."""
    if rule is None or not rule.last:
        return []
    of_sequence = rule.meaning.get("unit") == "nats/sequence"
    return [
        Finding(
            "entropy-per-sequence" if of_sequence else "entropy-of-a-part",
            "warning",
            f"{key!r} is {rule.meaning['note']}",
            "the law is in exp(H) of the entropy per token; a sum over a response grows with its length"
            if of_sequence
            else "the law is about the entropy of the policy on all its prompts",
            "log the entropy per token (mean over response tokens), and name its key with --entropy-key",
        )
    ]


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
