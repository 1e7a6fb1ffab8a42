"""The entropy that an evaluation measures itself: which key it is, and which scores it belongs to.

Where an entropy was measured decides which score it belongs to (:mod:`entlaw.runs.align`). One that an evaluation
measures on its own responses is of the policy whose score it logs, on the same problems, and usually a mean over more
tokens than a training batch has. So a validation score takes it where it is logged; the entropy of the training batches
stays the run's entropy log, because it is there at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.keys import NOT_ENTROPY, EntropyRule, canonical
from entlaw.runs.keys_evaluation import EVALUATION_RULES, EVALUATION_WORD, NO_EVALUATION_ENTROPY
from entlaw.runs.run import Choice, EntropyMeaning

# An evaluation's entropy is taken where it is there for this share of the scores.
_ENOUGH = 0.9
# Beyond this ratio the entropies of evaluations and of batches are two levels, and not one with noise.
_ONE_LEVEL = 1.25
# Fewer pairs than this show no ratio.
_FEWEST = 4
# Parts of a name that say which number of an evaluation it is, or that it is about all problems: no data set.
_NO_SET = frozenset(
    {
        "core",
        "aux",
        "all",
        "overall",
        "total",
        "entropy",
        "policy",
        "token",
        "actor",
        "mean",
        "avg",
        "exact",
        "per",
    }
)
# Words of one kind of evaluation. A test set beside a validation set is another evaluation.
_TEST = frozenset({"test"})


def is_of_evaluation(key: str) -> bool:
    """Whether a key's name says that it was measured in an evaluation."""
    return bool(EVALUATION_WORD.search(canonical(key)))


def evaluation_candidates(metrics: pd.DataFrame) -> list[tuple[str, EntropyRule]]:
    """Keys that spell the entropy of an evaluation, best rule first; all-NaN columns left out."""
    names = {str(column): canonical(str(column)) for column in metrics.columns}
    found: dict[str, EntropyRule] = {}
    for rule in EVALUATION_RULES:
        if rule.beside is not None and not any(rule.beside.fullmatch(name) for name in names.values()):
            continue
        for key, name in names.items():
            if key in found or not rule.pattern.fullmatch(name) or (rule.by_name_only and _is_other(name)):
                continue
            if metrics[key].notna().any():
                found[key] = rule
    return list(found.items())


def _is_other(name: str) -> bool:
    """Whether a name says that a number is no entropy of the policy; that it is of a test does not."""
    rest = EVALUATION_WORD.sub("", name)
    return bool(NOT_ENTROPY.search(rest) or NO_EVALUATION_ENTROPY.search(rest))


def entropy_of_scores(
    metrics: pd.DataFrame, scores: pd.Series, keys: Sequence[str]
) -> tuple[str, EntropyRule, tuple[str, ...]] | None:
    """The entropy that the evaluations behind scores measured, where they did.

    Parameters
    ----------
    metrics : pandas.DataFrame
        One row a step.
    scores : pandas.Series
        Validation scores, NaN where there is none.
    keys : sequence of str
        The logged keys behind them.

    Returns
    -------
    key : str
    rule : EntropyRule
    others : tuple of str
        Other entropies of these evaluations.

    None where no entropy is of the same evaluation and problems, or it is missing for more than a tenth of the scores.
    """
    scored = scores.notna()
    n = int(scored.sum())
    fit = []
    for rank, (key, rule) in enumerate(evaluation_candidates(metrics)):
        there = int((metrics[key].notna() & scored).sum())
        if key not in keys and n and there >= _ENOUGH * n and all(_belongs(key, score) for score in keys):
            fit.append((-len(_data_set(key)), rank, key, rule))
    if not fit:
        return None
    best, *others = sorted(fit, key=lambda f: f[:3])
    return best[2], best[3], tuple(f[2] for f in others)


def as_logged(meaning: EntropyMeaning, metrics: pd.DataFrame, scores: pd.Series) -> EntropyMeaning:
    """An entropy that does not say where it was measured, by when it is logged.

    Where it is there only with validation scores, and other numbers are logged between them, the validation measured
    it.

    Parameters
    ----------
    meaning : EntropyMeaning
    metrics : pandas.DataFrame
        One row a step.
    scores : pandas.Series
        Validation scores, NaN where there is none.
    """
    logged = metrics[meaning.key].notna()
    alone = bool((logged & scores.isna()).any()) or not logged.any()
    if meaning.of != "unknown" or alone or len(metrics) < 2 * int(logged.sum()):
        return meaning
    note = "logged only with the validations, so that they measured it"
    return replace(meaning, of="evaluation", note="; ".join(filter(None, (meaning.note, note))))


def level_findings(
    points: pd.DataFrame, own: EntropyMeaning, log: EntropyMeaning, metrics: pd.DataFrame
) -> list[Finding]:
    """Say where the evaluations' entropies are at another level than those of the batches.

    Parameters
    ----------
    points : pandas.DataFrame
        As of :class:`entlaw.runs.run.Run`.
    own, log : EntropyMeaning
        Of the evaluations and of the batches.
    metrics : pandas.DataFrame
    """
    series = metrics[log.key].dropna()
    step, h = series.index.to_numpy(float), series.to_numpy(float)
    at = np.searchsorted(step, points["step"].to_numpy(float), side="right")
    there = at < len(step)
    mine, theirs = points["entropy"].to_numpy(float)[there], h[at[there]]
    positive = (mine > 0) & (theirs > 0)
    if positive.sum() < _FEWEST:
        return []
    ratio = float(np.exp(np.median(np.log(mine[positive] / theirs[positive]))))
    if 1 / _ONE_LEVEL <= ratio <= _ONE_LEVEL:
        return []
    return [
        Finding(
            "entropy-levels-differ",
            "info",
            f"{own.key} is {ratio:.2f} times the next {log.key} (median of {int(positive.sum())})",
            "other problems, or responses sampled greedily or at another temperature: a, b and a forecast at an "
            "entropy are in terms of the first",
            f"--entropy-key {log.key} fits the entropy of the training batches",
            ratio,
        )
    ]


def pair_choices(own: str, why: str, others: tuple[str, ...], log: Choice) -> tuple[Choice, Choice]:
    """The choice of the scores' entropy, and that of the log beside it."""
    alternatives = (
        log.chosen,
        *others,
        *(key for key in log.alternatives if key != own and key not in others),
    )
    return (
        Choice("entropy", own, why, alternatives),
        Choice("entropy log", log.chosen, f"{log.why}; what the entropy does is read from it", (own,)),
    )


def _belongs(entropy: str, score: str) -> bool:
    """Whether an entropy is of the evaluation behind a score: of the same problems, or of all."""
    words = canonical(score).split("_")
    mine = _words(entropy)
    theirs = {w for w in words if EVALUATION_WORD.fullmatch(w)}
    if theirs and not any((w in _TEST) == (m in _TEST) for w in theirs for m in mine):
        return False
    return _data_set(entropy) <= set(words)


def _words(key: str) -> set[str]:
    return {w for w in canonical(key).split("_") if EVALUATION_WORD.fullmatch(w)}


def _data_set(key: str) -> frozenset[str]:
    """Words of a key that name a data set."""
    words = canonical(key).split("_")
    rest = (w for i, w in enumerate(words) if not (w.isdigit() and i and words[i - 1] in ("mean", "avg")))
    return frozenset(w for w in rest if w not in _NO_SET and not EVALUATION_WORD.fullmatch(w))
