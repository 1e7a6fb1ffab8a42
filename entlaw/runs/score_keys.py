"""Which key is the performance: the registry, one line a spelling, in canonical form (``keys.canonical``).

Earlier lines win, unless what they name was hardly logged (``choose_score.py``). Sources of the spellings: the
trainers' own code and documentation (``trainers.toml``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

ScoreKind = Literal["validation", "training", "either"]


@dataclass(frozen=True)
class ScoreRule:
    """A spelling of a performance score."""

    pattern: re.Pattern[str]
    framework: str
    kind: ScoreKind
    is_accuracy: bool = True  # False: a reward, whose unit is the user's business
    by_name_only: bool = False


def _score(
    pattern: str, framework: str, kind: ScoreKind, accuracy: bool = True, by_name: bool = False
) -> ScoreRule:
    return ScoreRule(re.compile(pattern), framework, kind, accuracy, by_name)


_EVAL = r"(eval|val|valid|validation|test|dev|heldout|holdout)"
# Shares of right answers, whoever logs them.
_SHARE = (
    r"(acc|accuracy|correct|correct_rate|correctness|pass_?1|success|success_rate|solve_rate|pass_rate|win_rate|"
    r"exact_match|performance)"
)
_MEAN_REWARD = (
    r"(rewards?|(mean|avg|average|total)_(total_)?(reward|return)s?|(rewards?|return)_(mean|avg|total))"
)

SCORE_RULES: tuple[ScoreRule, ...] = (
    # validation
    _score(r"val_score_all", "verl (entropy-mechanism code)", "validation"),
    _score(r"val_accuracy", "entlaw", "validation"),
    _score(r"val_core_(?P<set>.+)_acc_mean_\d+", "verl", "validation"),
    _score(r"val_core_(?P<set>.+)_(reward|score)_mean_\d+", "verl", "validation"),
    _score(r"val_test_score_(?P<set>.+)", "verl", "validation"),
    _score(r"test_score_(?P<set>.+)", "verl", "validation"),
    _score(r"val_aux_(?P<set>.+)_acc_mean_\d+", "verl", "validation"),
    _score(r"val_aux_(?P<set>.+)_(reward|score)_mean_\d+", "verl", "validation", False),
    _score(r"val_correct_all_mean|val_correct_mean", "ROLL", "validation"),
    _score(r"val_correct_(?P<set>.+)_mean", "ROLL", "validation"),
    _score(r"val_env_(?P<set>.+)_success", "RAGEN", "validation"),
    _score(r"val_success_rate", "verl-agent", "validation"),
    _score(r"val_(?P<set>.+)_success_rate", "verl-agent", "validation"),
    _score(r"val_(?P<set>.+)_pass_1", "rLLM", "validation"),
    _score(r"val_(?P<set>.+)_test_score", "verl-agent", "validation", False),
    _score(r"val_accuracy_reward", "EasyR1", "validation"),
    _score(r"val_reward_score", "EasyR1", "validation", False),
    _score(r"eval_all_avg_score", "SkyRL", "validation"),
    _score(r"eval_(?P<set>.+)_avg_score", "SkyRL", "validation"),
    _score(r"test_env_all_correct", "tinker-cookbook", "validation"),
    _score(r"test_env_(?P<set>.+)_correct", "tinker-cookbook", "validation"),
    _score(r"test_env_all_reward_total", "tinker-cookbook", "validation", False),
    _score(r"test_env_(?P<set>.+)_reward_total", "tinker-cookbook", "validation", False),
    _score(r"eval_eval_(?P<set>.+)_pass1", "OpenRLHF", "validation"),
    _score(r"eval_(?P<set>.+)_avg_\d+", "prime-rl", "validation"),
    _score(r"eval_rollout_reward|grpo_eval_task_reward_avg", "AReaL", "validation", False),
    _score(r"validation_accuracy", "NeMo-RL", "validation"),
    _score(r"actor_test_success_mean", "PipelineRL", "validation"),
    _score(r"eval_pass_1", "open-instruct", "validation"),
    _score(r"eval_objective_verifiable_correct_rate", "open-instruct", "validation"),
    _score(r"eval_scores", "open-instruct", "validation", False),
    _score(r"eval_rewards_(?P<fn>.+)_mean", "TRL", "validation", False),
    _score(r"eval_reward", "TRL", "validation", False),
    _score(
        r"eval_rewards_(?!(chosen|rejected|margins|accuracies)$)(?P<fn>.+)(?<!_std)",
        "TRL",
        "validation",
        False,
    ),
    _score(rf"{_EVAL}_({_SHARE}|score|scores)", "unknown", "validation", by_name=True),
    _score(
        rf"{_EVAL}_(?P<set>.+)_({_SHARE}|score|mean_\d+|avg_\d+)",
        "unknown",
        "validation",
        by_name=True,
    ),
    _score(
        rf"{_EVAL}_(?P<set>.*(exact_match|exactly|accuracy|correct|success|solve|pass_rate|win_rate).*)",
        "unknown",
        "validation",
        by_name=True,
    ),
    _score(r"eval_(?P<set>[a-z0-9]+(_\d{2,4})?)", "slime", "validation", by_name=True),
    _score(rf"{_EVAL}_((?P<set>.+)_)?{_MEAN_REWARD}", "unknown", "validation", False, True),
    _score(r"pass_1", "nanochat", "validation"),
    _score(_SHARE, "unknown", "either", by_name=True),
    # training
    _score(r"episode_success_rate", "verl-agent", "training"),
    _score(r"critic_correct_mean", "ROLL", "training"),
    _score(r"reward_accuracy", "EasyR1", "training"),
    _score(r"train_(?P<set>.+)_success", "RAGEN", "training"),
    _score(r"critic_score_mean", "verl", "training"),
    _score(r"critic_rewards_mean", "verl", "training", False),
    _score(r"episode_reward_mean", "verl-agent", "training", False),
    _score(r"env_all_correct", "tinker-cookbook", "training"),
    _score(r"env_all_reward_total", "tinker-cookbook", "training", False),
    _score(r"(ppo|grpo)_actor_task_reward_avg|rollout_reward", "AReaL", "training", False),
    _score(r"rollout_raw_reward|rollout_rewards", "slime", "training", False),
    _score(r"reward_avg_raw_reward|loss_avg_final_rewards", "SkyRL", "training", False),
    _score(r"train_agg_(all|effective)_.+_reward_mean", "prime-rl", "training", False),
    _score(r"reward_overall", "EasyR1", "training", False),
    _score(r"actor_success_mean", "PipelineRL", "training"),
    _score(r"actor_reward_mean|rl_reward", "PipelineRL", "training", False),
    _score(r"objective_verifiable_correct_rate", "open-instruct", "training"),
    _score(r"objective_verifiable_reward|scores", "open-instruct", "training", False),
    _score(r"(env_reward_mean|ppo_mean_scores)", "TRL (PPO, <= 0.11)", "training", False),
    _score(r"(train_)?objective_scores", "TRL (PPO/RLOO)", "training", False),
    _score(r"(train_)?objective_rlhf_reward", "TRL (PPO/RLOO)", "training", False),
    _score(r"reward_mean", "entlaw", "training"),
    _score(r"reward_all_mean", "prime-rl", "training", False),
    _score(r"(train_)?rewards_(?P<fn>.+)_mean", "TRL", "training", False),
    _score(r"(train_)?reward", "TRL", "training", False),  # OpenRLHF's, NeMo-RL's train/reward too
    # TRL <= 0.16 logs a term's mean under its bare name; DPO logs four numbers there that are no score.
    _score(
        r"(train_)?rewards_(?!(chosen|rejected|margins|accuracies)$)(?P<fn>.+)(?<!_std)",
        "TRL",
        "training",
        False,
    ),
    _score(r"reward_(?P<set>.+)_mean", "prime-rl or rLLM", "training", False),
    _score(r"train_score", "OpenRLHF", "training", False),
    _score(r"(train|training)_(acc|accuracy|correct|performance)", "unknown", "training", True, True),
    _score(rf"(train|training|rollout|batch)_{_SHARE}", "unknown", "training", True, True),
    _score(
        rf"((train|training|rollout|batch|episode)_)?({_MEAN_REWARD}(_(across|over|per|of)_.+)?|score|(mean|avg)_score)|"
        r"(rollout_)?ep_rew_mean",
        "unknown",
        "training",
        False,
        True,
    ),
)

NOT_SCORE = re.compile(
    r"(^|_)(timing|time|runtime|seconds|loss|kl|length|len|lengths|step|steps|lr|std|min|max|tokens|epoch|"
    r"per_second|samples_per_second|clip|clipped|ratio|num|count|memory|gb|problems|samples|entropy|perplexity|ppl|"
    r"nll|token_acc|token_accuracy|gap|minus|not|only|without|none|delta|diff|margin|margins|chosen|rejected|"
    r"accuracies)(_|$)"
)


@lru_cache(maxsize=65536)
def spelled_score(name: str) -> tuple[int, str] | None:
    """Place in SCORE_RULES of the rule that a key in canonical form follows, and the data set or term that it names."""
    for rank, rule in enumerate(SCORE_RULES):
        match = rule.pattern.fullmatch(name)
        if match and not (rule.by_name_only and NOT_SCORE.search(name)):
            groups = match.groupdict()
            return rank, groups.get("set") or groups.get("fn") or ""
    return None


# A key of the user's own that may be in percent; a reward that runs to 8 must not become 0.08.
ACCURACY_NAME = re.compile(
    r"acc|correct|pass|score|solve|percent|pct|performance|(^|_)(mean|avg|maj|best)_\d+(_|$)"
)

# A reward term that scores the shape of an answer, not whether it is right.
FORMAT_TERM = re.compile(r"format|think|xml|tag|length|cosine|repetition|language|soft_overlong|structure")
CORRECT_TERM = re.compile(r"acc|correct|answer|match|math|solution|verif|exact|right")

# Learning that is not reinforcement learning, by what only it logs: the law says nothing of it.
OTHER_LEARNING = (
    (re.compile(r"(^|_)(mean_)?token_acc(uracy)?(_|$)"), "supervised fine-tuning (SFT)", "a token accuracy"),
    (
        re.compile(r"(.*_)?rewards_(chosen|rejected|margins|accuracies)"),
        "preference learning (DPO and its kin)",
        "rewards of chosen and rejected answers",
    ),
)
