"""Which key is the entropy and which the performance: the registry, one line a spelling.

Keys are compared in a canonical form (lower case, every run of punctuation one underscore), so that
``actor/entropy``, ``actor_entropy`` (a CSV export) and ``actor.entropy`` are one key, and ``mean@8`` equals
MLflow's ``mean_at_8``. Earlier lines win. Sources of the spellings: the trainers' own code and documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

ScoreKind = Literal["validation", "training", "either"]


def canonical(key: str) -> str:
    """Lower case, punctuation runs as one underscore, ``_at_`` for ``@`` undone."""
    text = re.sub(r"[^0-9a-z]+", "_", key.lower()).strip("_")
    return re.sub(r"_at_(?=\d)", "_", text)


@dataclass(frozen=True)
class EntropyRule:
    """A spelling of the entropy and what is known about the number behind it."""

    pattern: re.Pattern[str]
    framework: str
    meaning: dict[str, Any]
    by_name_only: bool = False
    beside: re.Pattern[str] | None = (
        None  # a spelling anyone may use counts only beside a key that matches this
    )


@dataclass(frozen=True)
class ScoreRule:
    """A spelling of a performance score."""

    pattern: re.Pattern[str]
    framework: str
    kind: ScoreKind
    is_accuracy: bool = True  # False: a reward, whose unit is the user's business
    by_name_only: bool = False


def _entropy(
    pattern: str, framework: str, *, by_name_only: bool = False, beside: str | None = None, **meaning: Any
) -> EntropyRule:
    near = re.compile(beside) if beside else None
    return EntropyRule(re.compile(pattern), framework, meaning, by_name_only, near)


_EXACT: dict[str, Any] = {"estimator": "exact", "unit": "nats/token"}
_TOKEN: dict[str, Any] = {**_EXACT, "averaging": "token-mean"}

ENTROPY_RULES: tuple[EntropyRule, ...] = (
    _entropy(
        r"train_entropy_all",
        "verl (entropy-mechanism code)",
        **_EXACT,
        averaging="response-mean-of-token-means",
        temperature="1",
        when="before-update",
        note="measured after the all-right/all-wrong filter",
    ),
    _entropy(r"(train_)?actor_entropy", "verl", **_TOKEN, temperature="rollout", when="before-update"),
    _entropy(
        r"(train_)?actor_entropy_loss",
        "verl",
        **_TOKEN,
        temperature="rollout",
        when="during-update",
        note="verl <= 0.3: the same number as the later actor/entropy; later: measured inside the update",
    ),
    _entropy(r"ppo_actor_update_entropy_avg", "AReaL", **_TOKEN, temperature="rollout", when="during-update"),
    _entropy(r"policy_policy_entropy", "SkyRL", **_TOKEN, when="during-update"),
    _entropy(
        r"optim_entropy",
        "tinker-cookbook",
        estimator="sampled",
        unit="nats/token",
        averaging="token-mean",
        temperature="rollout",
        when="before-update",
        note="mean of -log p of the sampled tokens",
    ),
    _entropy(r"entropy_all_mean", "prime-rl", **_TOKEN, when="during-update"),
    _entropy(r"rollout_entropy", "slime", **_TOKEN, when="before-update"),
    _entropy(r"train_entropy_loss", "OpenRLHF or slime", **_TOKEN, when="during-update"),
    _entropy(r"policy_entropy_avg", "TRL (PPO)", **_TOKEN, when="during-update"),
    _entropy(
        r"(train_)?entropy",
        "TRL",
        beside=r"(train_)?(reward_std|rewards_.+_(mean|std)|frac_reward_zero_std|num_tokens|completion_length|"
        r"completions_(mean|min|max)_.*length|mean_token_accuracy)",
        **_TOKEN,
        temperature="rollout",
        when="during-update",
    ),
    _entropy(r"entropy_(?!all)[a-z0-9_]+_mean", "prime-rl", **_TOKEN, when="during-update"),
    _entropy(
        r"(train_)?objective_entropy",
        "TRL (PPO/RLOO)",
        estimator="sampled",
        unit="nats/sequence",
        averaging="sequence-sum",
        note="a sum over the response, not a mean over tokens: exp(H) overflows",
    ),
    _entropy(
        r"rollout_correct_entropy",
        "slime",
        estimator="sampled",
        unit="nats/token",
        note="right answers only: not the entropy of the policy on its prompts",
    ),
    _entropy(
        r"entropy|(mean|avg|policy|token|train|actor|h)_entropy|entropy_(avg|mean|token)",
        "unknown",
        by_name_only=True,
    ),
    _entropy(r"(.*_)?entropy(_.*)?", "unknown", by_name_only=True),
)

# A key that contains "entropy" and is something else: a duration, a coefficient, a spread, a target.
NOT_ENTROPY = re.compile(
    r"(^|_)(timing|time|times|seconds|sec|s|ms|perf|coef|coeff|coefficient|alpha|target|bonus|min|max|std|var|"
    r"next|change|delta|diff|grad|ratio|frac|threshold|quantile|p\d+|memory|gb|kl|test|after|cross|binary)(_|$)"
)


def _score(
    pattern: str, framework: str, kind: ScoreKind, accuracy: bool = True, by_name: bool = False
) -> ScoreRule:
    return ScoreRule(re.compile(pattern), framework, kind, accuracy, by_name)


SCORE_RULES: tuple[ScoreRule, ...] = (
    # validation
    _score(r"val_score_all", "verl (entropy-mechanism code)", "validation"),
    _score(r"val_accuracy", "entlaw", "validation"),
    _score(r"val_core_(?P<set>.+)_acc_mean_\d+", "verl", "validation"),
    _score(r"val_core_(?P<set>.+)_(reward|score)_mean_\d+", "verl", "validation"),
    _score(r"val_test_score_(?P<set>.+)", "verl", "validation"),
    _score(r"test_score_(?P<set>.+)", "verl", "validation"),
    _score(r"eval_all_avg_score", "SkyRL", "validation"),
    _score(r"eval_(?P<set>.+)_avg_score", "SkyRL", "validation"),
    _score(r"test_env_all_correct", "tinker-cookbook", "validation"),
    _score(r"eval_eval_(?P<set>.+)_pass1", "OpenRLHF", "validation"),
    _score(r"eval_(?P<set>.+)_avg_\d+", "prime-rl", "validation"),
    _score(r"eval_rollout_reward|grpo_eval_task_reward_avg", "AReaL", "validation", False),
    _score(r"eval_rewards_(?P<set>.+)_mean", "TRL", "validation", False),
    _score(r"eval_reward", "TRL", "validation", False),
    _score(
        r"(eval|val|valid|validation|test)_(acc|accuracy|score|correct|pass_1|pass1|performance)",
        "unknown",
        "validation",
        by_name=True,
    ),
    _score(
        r"(eval|val|valid|validation|test)_(?P<set>.+)_(acc|accuracy|score|correct|pass_1|pass1|mean_\d+|avg_\d+)",
        "unknown",
        "validation",
        by_name=True,
    ),
    _score(r"eval_(?P<set>[a-z0-9]+)", "slime", "validation", by_name=True),
    _score(r"pass_1", "nanochat", "validation"),
    _score(r"performance|accuracy|acc", "unknown", "either", by_name=True),
    # training
    _score(r"critic_score_mean", "verl", "training"),
    _score(r"critic_rewards_mean", "verl", "training", False),
    _score(r"env_all_correct", "tinker-cookbook", "training"),
    _score(r"env_all_reward_total", "tinker-cookbook", "training", False),
    _score(r"ppo_actor_task_reward_avg|rollout_reward", "AReaL", "training", False),
    _score(r"rollout_raw_reward|rollout_rewards", "slime", "training", False),
    _score(r"reward_avg_raw_reward|loss_avg_final_rewards", "SkyRL", "training", False),
    _score(r"train_agg_(all|effective)_.+_reward_mean", "prime-rl", "training", False),
    _score(r"reward_mean", "entlaw", "training"),
    _score(r"(train_)?rewards_(?P<fn>.+)_mean", "TRL", "training", False),
    _score(r"(train_)?reward", "TRL", "training", False),  # OpenRLHF's train/reward too
    _score(r"train_score", "OpenRLHF", "training", False),
    _score(
        r"(train|training)_(acc|accuracy|score|correct|performance)|(mean|avg)_reward|reward_avg|rewards?_mean|score",
        "unknown",
        "training",
        False,
        True,
    ),
)

NOT_SCORE = re.compile(
    r"(^|_)(timing|time|runtime|seconds|loss|entropy|kl|length|len|lengths|step|steps|lr|std|min|max|tokens|epoch|"
    r"per_second|samples_per_second|clip|clipped|ratio|num|count|memory|gb|problems|samples)(_|$)"
)

# A key of the user's own that may be in percent; a reward that runs to 8 must not become 0.08.
ACCURACY_NAME = re.compile(
    r"acc|correct|pass|score|solve|percent|pct|performance|(^|_)(mean|avg|maj|best)_\d+(_|$)"
)

# Steps by name, best first; the last resorts are the logger's own counters.
STEP_NAMES = (
    "step",
    "training_global_step",
    "train_global_step",
    "trainer_global_step",
    "global_step",
    "progress_batch",
    "train_step",
    "training_step",
    "rollout_step",
    "iteration",
    "iter",
    "update",
    "step_num",
    "_step",
)

# A reward term that scores the shape of an answer, not whether it is right.
FORMAT_TERM = re.compile(r"format|think|xml|tag|length|cosine|repetition|language|soft_overlong|structure")
CORRECT_TERM = re.compile(r"acc|correct|answer|match|math|solution|verif|exact|right")
