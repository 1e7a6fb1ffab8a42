"""Which keys are entropies that an evaluation measures, in canonical form as in :mod:`entlaw.runs.keys`."""

from __future__ import annotations

import re

from entlaw.runs.keys import _TOKEN, EntropyRule, _entropy

# An evaluation's words in a key: what is logged under it was measured on the evaluation's responses.
_WORDS = r"(evals?|evaluation|val|valid|validation|test|dev|heldout|holdout)"
EVALUATION_WORD = re.compile(rf"(?:^|(?<=_)){_WORDS}(?=_|$)")
_WHOSE, _HOW = (
    r"(?:(?:policy|token|actor|mean|avg)_)*",
    r"(?:_(?:mean|avg|token_mean|per_token|mean_\d+|avg_\d+|all))?",
)

# Entropies that an evaluation measures. They are taken for its own scores, and for the run's log only where there is no
# other (runs/evaluated.py).
EVALUATION_RULES: tuple[EntropyRule, ...] = (
    _entropy(
        r"val_entropy",
        "entlaw",
        beside=r"val_entropy_response_mean",
        **_TOKEN,
        temperature="1",
        note="full vocabulary, on the responses of the validation",
    ),
    _entropy(
        r"eval_entropy",
        "TRL",
        beside=r"eval_(reward|reward_std|rewards_.+|frac_reward_zero_std|num_tokens)",
        **_TOKEN,
        temperature="rollout",
        note="on the responses of the evaluation",
    ),
    _entropy(
        rf"(.+_)?{_WORDS}(_.+)?_{_WHOSE}entropy{_HOW}|{_WHOSE}entropy{_HOW}_{_WORDS}(_.+)?",
        "unknown",
        by_name_only=True,
        note="by its name, on the responses of an evaluation; greedy ones, or ones sampled at another temperature, "
        "have another entropy than the training batch's",
    ),
)
# Beside those that NOT_ENTROPY names: of training, a loss called entropy can be the entropy (verl's, EasyR1's).
NO_EVALUATION_ENTROPY = re.compile(r"(^|_)loss(_|$)")
