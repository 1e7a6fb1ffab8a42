"""What a key is by the registry: looked up once for each spelling."""

from __future__ import annotations

from functools import lru_cache

from entlaw.runs.keys import ENTROPY_RULES, NOT_ENTROPY, NOT_SCORE, SCORE_RULES, ScoreRule, canonical


@lru_cache(maxsize=65536)
def is_entropy(key: str) -> bool:
    """Whether a key spells an entropy, by its name at least."""
    name = canonical(key)
    return any(
        rule.pattern.fullmatch(name) and not (rule.by_name_only and NOT_ENTROPY.search(name))
        for rule in ENTROPY_RULES
    )


@lru_cache(maxsize=65536)
def score_rule(key: str) -> ScoreRule | None:
    """The rule of a key that spells a score; None for any other."""
    name = canonical(key)
    for rule in SCORE_RULES:
        if rule.pattern.fullmatch(name) and not (rule.by_name_only and NOT_SCORE.search(name)):
            return rule
    return None
