"""Choosing the performance series of a run: the registry's order among what was logged often enough."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from entlaw.errors import MissingSeries
from entlaw.findings import Finding
from entlaw.runs.keys import canonical
from entlaw.runs.missing import NOTHING_UNREAD, as_if_read, no_score, suggest_keys, without_values
from entlaw.runs.run import Choice, PerformanceKind
from entlaw.runs.score_keys import (
    ACCURACY_NAME,
    CORRECT_TERM,
    FORMAT_TERM,
    OTHER_LEARNING,
    SCORE_RULES,
    ScoreRule,
    spelled_score,
)

# Fewer validations than this and a training score, logged every step, tells more (the law warns below 8 too).
ENOUGH_VALIDATIONS = 8
# One that goes by its name alone comes before a training score of a known spelling from as many on as the paper's runs
# have by step 36, validating every 4 steps.
ENOUGH_BY_NAME = 10
# A record that holds one of these beside a score that goes by any name is of an evaluation.
_OF_EVALUATION = re.compile(r"(eval|evaluation|val|valid|validation|test)_.+|is_(eval|val|test)")


@dataclass(frozen=True)
class ChosenScore:
    """The performance series that was chosen."""

    key: str
    series: pd.Series
    kind: PerformanceKind
    is_accuracy: bool
    keys: tuple[str, ...]  # the logged keys behind it; several when averaged or coalesced


@dataclass(frozen=True)
class ScoreCandidate:
    """A key that spells a score: its rule, its data set or reward term where the key names one, its values."""

    key: str
    rule: ScoreRule
    name: str
    n: int
    varies: bool


def count_values(series: pd.Series) -> int:
    """How many of the values are numbers."""
    return int(np.isfinite(series.to_numpy(float)).sum())


def drop_scarce(counts: dict[str, int]) -> list[str]:
    """The keys whose values are enough for a law, in their order; where none is, those near the most there are.

    A key with one value (its line was cut, its name changed) must not win by its name alone.
    """
    most = max(counts.values(), default=0)
    least = ENOUGH_VALIDATIONS if most >= ENOUGH_VALIDATIONS else most // 2 + 1
    return [key for key, n in counts.items() if n >= least]


def score_candidates(metrics: pd.DataFrame) -> list[ScoreCandidate]:
    """Everything that spells a score and holds a number, best rule first."""
    found: list[tuple[int, ScoreCandidate]] = []
    for column in metrics.columns:
        key = str(column)
        spelled = spelled_score(canonical(key))
        if spelled is not None and (n := count_values(metrics[key])):
            rank, name = spelled
            varies = metrics[key].nunique() > 1  # noqa: PD101 - NaN is no value here
            found.append((rank, ScoreCandidate(key, SCORE_RULES[rank], name, n, varies)))
    return [c for _, c in sorted(found, key=lambda f: (f[0], f[1].key))]


def choose_score(
    metrics: pd.DataFrame,
    entropy_key: str,
    on: str | None = None,
    first_row: pd.DataFrame | None = None,
    unread: Mapping[str, str] = NOTHING_UNREAD,
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """Choose the performance series.

    Parameters
    ----------
    metrics : pandas.DataFrame
    entropy_key : str
    on : str, optional
        ``val``, ``train``, a key, or a glob over keys (``val-core/*/mean@1``: the equal-weight mean of all that
        match, at steps where all were logged). By default a validation with at least 8 evaluations (10 where only
        its name suggests it and a training score has a known spelling), else the training score, else whatever
        validation there is.
    first_row : pandas.DataFrame, optional
        Which record first set each value (:class:`entlaw.runs.assemble.Assembled`): a score logged in the records
        of an evaluation is a validation.
    unread : mapping
        As in :func:`entlaw.runs.choose.choose_entropy`.

    Raises
    ------
    MissingSeries
    """
    columns = [str(c) for c in metrics.columns]
    if on is not None and on not in ("val", "train", "auto"):
        return _named_score(metrics, on, columns, unread)
    dense = max(count_values(metrics[entropy_key]), 1)
    pools: dict[str, list[ScoreCandidate]] = {"validation": [], "training": []}
    for c in score_candidates(metrics):
        kind: str = c.rule.kind
        if kind == "either":
            apart = c.n < 0.6 * dense or _with_evaluation(c.key, entropy_key, first_row)
            kind = "validation" if apart else "training"
        pools[kind].append(c)
    validations, trainings = (_frequent(pools[kind]) for kind in ("validation", "training"))
    n_val = max((c.n for c in validations), default=0)
    enough = ENOUGH_VALIDATIONS
    if validations and trainings and max(c.n for c in trainings) > n_val:
        guessed = validations[0].rule.by_name_only and not trainings[0].rule.by_name_only
        enough = ENOUGH_BY_NAME if guessed else enough
    if on == "val" or (on != "train" and validations and (n_val >= enough or not trainings)):
        if validations:
            return _pick_validation(metrics, validations, pools["validation"])
    elif trainings:
        return _pick_training(metrics, trainings, few_validations=n_val if on != "train" else 0)
    if not validations and not trainings:
        spelled = score_candidates(as_if_read(metrics, unread))
        if spelled:
            raise without_values(spelled[0].key, metrics, unread, "--on")
    raise no_score(metrics, on)


def _frequent(pool: list[ScoreCandidate]) -> list[ScoreCandidate]:
    kept = drop_scarce({c.key: c.n for c in pool})
    return [c for c in pool if c.key in kept]


def _with_evaluation(key: str, entropy_key: str, first_row: pd.DataFrame | None) -> bool:
    """Whether every record that holds this key holds one of an evaluation's too, which the entropy's do not."""
    if first_row is None:
        return False
    of = [c for c in first_row.columns if _OF_EVALUATION.fullmatch(canonical(str(c)))]

    def beside(one: str) -> bool:
        rows = first_row[one].to_numpy()
        logged = rows >= 0
        together = (first_row[of].to_numpy() == rows[:, None]).any(axis=1)
        return bool(together[logged].all())

    return bool(of) and beside(key) and not beside(entropy_key)


def _named_score(
    metrics: pd.DataFrame, on: str, columns: list[str], unread: Mapping[str, str]
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """The score that the user named."""
    keys = [on] if on in columns else fnmatch.filter(columns, on)
    if not keys and on not in unread:
        raise MissingSeries(f"no key {on!r} in this log", hint=suggest_keys(on, columns))
    if not metrics[keys].notna().any(axis=None):
        raise without_values(on, metrics, unread, "--on")
    rules = {c.key: c.rule for c in score_candidates(metrics)}
    rule = rules.get(keys[0])
    series = metrics[keys].mean(axis=1, skipna=False) if len(keys) > 1 else metrics[keys[0]]
    kind: PerformanceKind = "validation" if series.notna().sum() < 0.6 * len(metrics) else "training"
    if rule is not None and rule.kind != "either":
        kind = rule.kind
    why = "as told" if len(keys) == 1 else f"equal-weight mean of {len(keys)} keys, as told"
    accuracy = rule.is_accuracy if rule else bool(ACCURACY_NAME.search(canonical(on)))
    chosen = ChosenScore(on, series, kind, accuracy, tuple(keys))
    choice = Choice("performance", on, f"{why}; {kind}", tuple(k for k in rules if k not in keys))
    return chosen, choice, _no_reward(keys)


def _no_reward(keys: list[str]) -> list[Finding]:
    """A score that another kind of learning logs."""
    for pattern, learning, what in OTHER_LEARNING:
        if any(pattern.search(canonical(key)) for key in keys):
            return [
                Finding(
                    "not-rl",
                    "warning",
                    f"the score is {what}: this is {learning}",
                    "the law is about reinforcement learning, where entropy is spent for reward; on other learning "
                    "a fit describes nothing",
                    "use the log of the RL run",
                )
            ]
    return []


def _pick_validation(
    metrics: pd.DataFrame, pool: list[ScoreCandidate], spelled: list[ScoreCandidate]
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """The best rule's key with the most evaluations; an older spelling of the same set fills its gaps."""
    best = pool[0].rule
    same = sorted((c for c in pool if c.rule is best), key=lambda c: (-c.n, not c.varies, c.key))
    chosen, rule = same[0], best
    terms = [c for c in same if c.rule.framework == "TRL"]
    if len(terms) > 1:  # terms of one reward, not sets: one of them is the correctness
        key, _ = _trl_reward(metrics, pool)
        chosen = next(c for c in pool if c.key == key)
        rule = chosen.rule
    key, series, keys = chosen.key, metrics[chosen.key], [chosen.key]
    for other in spelled:  # e.g. verl's pre-training test_score/X beside val/test_score/X
        if other.key != key and chosen.name and other.name == chosen.name and rule.framework == "verl":
            there = metrics[other.key].notna()
            if (series.isna() & there).any() and not (series.notna() & there).any():
                series, keys = series.fillna(metrics[other.key]), [*keys, other.key]
    n = int(series.notna().sum())
    why = f"a validation as {rule.framework} spells it, {n} evaluations"
    if rule.by_name_only:
        why = f"a validation by its name, {n} evaluations"
    if len(keys) > 1:
        why += f"; {', '.join(keys[1:])} holds the rest of the same set"
    scarce = [c for c in spelled if c not in pool and c.key not in keys]
    if scarce:
        why += f"; {scarce[0].key} has only {scarce[0].n}"
    alternatives = tuple(c.key for c in pool if c.key not in keys)
    score = ChosenScore(key, series, "validation", rule.is_accuracy, tuple(keys))
    findings = [] if len(terms) > 1 else _several(chosen, pool, keys)
    return score, Choice("performance", key, why, alternatives), findings


def _several(chosen: ScoreCandidate, pool: list[ScoreCandidate], keys: list[str]) -> list[Finding]:
    """Says that other validation sets are as good a choice."""
    framework = chosen.rule.framework
    others = [
        c
        for c in pool
        if c.rule.framework == framework and c.name and c.name != chosen.name and c.key not in keys
    ]
    if not others or not chosen.name:
        return []
    one, two = (f"--on {shlex.quote(c.key)}" for c in (chosen, others[0]))
    return [
        Finding(
            "several-validations",
            "info",
            f"{len(others) + 1} validation scores of the same kind; {chosen.key!r} was used",
            "which one is meant is not known, and a mean over sets depends on the weights, so none is taken silently",
            f"choose with {one} or {two}, or average equally with --on 'glob*'",
            float(len(others) + 1),
        )
    ]


def _pick_training(
    metrics: pd.DataFrame, pool: list[ScoreCandidate], few_validations: int
) -> tuple[ChosenScore, Choice, list[Finding]]:
    """The best rule's key; among TRL's reward terms, the one that scores being right if the sum is no score."""
    key, rule = pool[0].key, pool[0].rule
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
    return chosen, Choice("performance", key, why, tuple(c.key for c in pool if c.key != key)), []


def _trl_reward(metrics: pd.DataFrame, pool: list[ScoreCandidate]) -> tuple[str, str]:
    """TRL logs the weighted sum as ``reward`` and each term apart; the sum is a score only if it is bounded."""
    of_trl = [c for c in pool if c.rule.framework == "TRL"]
    terms = [(c.key, c.name) for c in of_trl if c.name]
    total = next((c.key for c in of_trl if not c.name), None)
    if total is not None and len(terms) <= 1:
        return total, "TRL's training reward (one term)"
    right = [t for t in terms if not FORMAT_TERM.search(t[1])]
    named = [t for t in right if CORRECT_TERM.search(t[1])]
    if len(named) == 1:
        return named[0][0], f"the one reward term named as correctness; the total mixes {len(terms)} terms"
    for some, why in ((named, "named as correctness"), (right, "not a format term")):
        bounded = [t for t in some if metrics[t[0]].min() >= 0 and metrics[t[0]].max() <= 1]
        if len(bounded) == 1:
            reason = f"the one reward term within [0, 1] {why}; the total mixes {len(terms)} terms"
            return bounded[0][0], reason
    if total is not None:
        return total, f"TRL's total of {len(terms)} reward terms: no single term is clearly the correctness"
    return terms[0][0], "the first of TRL's reward terms"
