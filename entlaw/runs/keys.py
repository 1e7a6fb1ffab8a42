"""Which key is the entropy, and which the step: the registry, one line a spelling (scores: ``score_keys.py``).

Keys are compared in a canonical form (lower case, every run of punctuation one underscore), so that
``actor/entropy``, ``actor_entropy`` (a CSV export) and ``actor.entropy`` are one key, and ``mean@8`` equals
MLflow's ``mean_at_8``. Earlier lines win. Sources of the spellings: the trainers' own code and documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from entlaw.runs.bounds import LONGEST_KEY


def canonical(key: str) -> str:
    """Lower case, punctuation runs as one underscore, ``_at_`` for ``@`` undone.

    A key too long to be a spelling of anything becomes words that no pattern knows, others for every such key.
    """
    if len(key) > LONGEST_KEY:
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return f"too long {int.from_bytes(digest)}"
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
    last: bool = False  # not the entropy of a token: only where the log has no other


def _entropy(
    pattern: str,
    framework: str,
    *,
    by_name_only: bool = False,
    beside: str | None = None,
    last: bool = False,
    **meaning: Any,
) -> EntropyRule:
    near = re.compile(beside) if beside else None
    return EntropyRule(re.compile(pattern), framework, meaning, by_name_only, near, last)


_EXACT: dict[str, Any] = {"estimator": "exact", "unit": "nats/token"}
_TOKEN: dict[str, Any] = {**_EXACT, "averaging": "token-mean"}
_RESPONSE: dict[str, Any] = {**_EXACT, "averaging": "response-mean-of-token-means"}
_SAMPLED: dict[str, Any] = {"estimator": "sampled", "unit": "nats/token", "averaging": "token-mean"}
_ROLLOUT: dict[str, Any] = {"temperature": "rollout", "when": "during-update"}
_MINUS_LOG_P = "mean of -log p of the sampled tokens"
# Keys that only trainers built on Hugging Face's Trainer log beside an entropy.
_HF_REWARDS = r"(train_)?(reward_std|rewards_.+_(mean|std)|frac_reward_zero_std|completions_.+)"

ENTROPY_RULES: tuple[EntropyRule, ...] = (
    _entropy(
        r"train_entropy_all",
        "verl (entropy-mechanism code)",
        **_RESPONSE,
        temperature="1",
        when="before-update",
        note="measured after the all-right/all-wrong filter",
    ),
    _entropy(r"(train_)?actor_entropy", "verl", **_TOKEN, temperature="rollout", when="before-update"),
    _entropy(
        r"actor_entropy_loss",
        "EasyR1",
        beside=r"reward_overall|val_reward_score|val_overall_reward",
        **_SAMPLED,
        **_ROLLOUT,
        note=_MINUS_LOG_P,
    ),
    _entropy(
        r"(train_)?actor_entropy_loss",
        "verl",
        **_TOKEN,
        **_ROLLOUT,
        note="verl <= 0.3: the same number as the later actor/entropy; later: measured inside the update",
    ),
    _entropy(r"(ppo|grpo)_actor_(update_)?entropy_avg", "AReaL", **_TOKEN, **_ROLLOUT),
    _entropy(r"policy_policy_entropy", "SkyRL", **_TOKEN, when="during-update"),
    _entropy(
        r"optim_entropy",
        "tinker-cookbook",
        **_SAMPLED,
        temperature="rollout",
        when="before-update",
        note=_MINUS_LOG_P,
    ),
    _entropy(
        r"train_entropy",
        "rLLM",
        beside=r"train_(perplexity|kl_sample_train_v\d)",
        **_SAMPLED,
        temperature="rollout",
        when="before-update",
        note=_MINUS_LOG_P,
    ),
    _entropy(r"entropy_all_mean", "prime-rl", **_TOKEN, when="during-update"),
    _entropy(
        r"critic_entropy_mean",
        "ROLL",
        **_EXACT,
        when="before-update",
        note="averaged as loss_agg_mode says",
    ),
    _entropy(r"rollout_entropy", "slime", **_RESPONSE, when="before-update"),
    _entropy(r"train_entropy_loss", "OpenRLHF or slime", **_TOKEN, when="during-update"),
    _entropy(
        r"rl_entropy",
        "PipelineRL",
        **_EXACT,
        averaging="response-mean-of-token-means",
        when="during-update",
    ),
    _entropy(
        r"(train_)?approx_entropy",
        "NeMo-RL",
        **_SAMPLED,
        when="during-update",
        note="approximate: -log p of the sampled tokens, weighted by the ratio to the policy that sampled them",
    ),
    _entropy(
        r"policy_entropy_avg",
        "open-instruct",
        beside=r"objective_kl\d_avg|objective_verifiable_.+|val_num_(total|step)_tokens|"
        r"(real|unsolved)_batch_size_ratio",
        **_RESPONSE,
        **_ROLLOUT,
        note="a mean over samples of their token means",
    ),
    _entropy(
        r"train_policy_token_entropy_mean_over_minibatches",
        "CS285 homework",
        **_SAMPLED,
        temperature="1",
        when="during-update",
        note=_MINUS_LOG_P + "; they may be drawn at another temperature",
    ),
    _entropy(r"(train_)?ppo_policy_entropy", "TRL (PPO, <= 0.11)", **_TOKEN, when="during-update"),
    _entropy(
        r"(train_)?policy_entropy_avg",
        "TRL (PPO/RLOO)",
        **_EXACT,
        **_ROLLOUT,
        note="a mean over all positions of a micro-batch; padding counts too",
    ),
    _entropy(
        r"(train_)?entropy",
        "TRL",
        beside=r"(train_)?(reward_std|rewards_.+_(mean|std)|frac_reward_zero_std|num_tokens|completion_length|"
        r"completions_(mean|min|max)_.*length|mean_token_accuracy)",
        **_TOKEN,
        **_ROLLOUT,
        note="TRL logs it from 0.20 on: a mean over micro-batches of their token means (RLOO from 1.9 on: over "
        "all tokens)",
    ),
    _entropy(
        r"(train_)?entropy_entropy_mean", "ms-swift", **_RESPONSE, **_ROLLOUT, note="the Megatron trainer's"
    ),
    _entropy(r"(train_)?entropy_mean", "ms-swift", beside=_HF_REWARDS, **_RESPONSE, **_ROLLOUT),
    _entropy(
        r"entropy_mean",
        "prime-rl",
        beside=r"(mismatch_kl|loss|kl_ent_ratio|importance_ratio)_mean|optim_grad_norm",
        **_TOKEN,
        when="during-update",
    ),
    _entropy(r"entropy_(?!all)[a-z0-9_]+_mean", "prime-rl", **_TOKEN, when="during-update"),
    _entropy(
        r"entropy|(mean|avg|policy|token|train|actor|h)_entropy|entropy_(avg|mean|token)",
        "unknown",
        by_name_only=True,
    ),
    _entropy(r"(.*_)?entropy(_.*)?", "unknown", by_name_only=True),
    _entropy(
        r"(train_)?objective_entropy",
        "TRL (PPO/RLOO)",
        last=True,
        estimator="sampled",
        unit="nats/sequence",
        averaging="sequence-sum",
        note="a sum over the response, not a mean over tokens: exp(H) overflows",
    ),
    _entropy(
        r"rollout_correct_entropy",
        "slime",
        last=True,
        estimator="sampled",
        unit="nats/token",
        note="right answers only: not the entropy of the policy on its prompts",
    ),
)

# A key that contains "entropy" and is something else: a duration, a coefficient, a spread, a target; or the entropy of
# other probabilities than the policy's over its tokens (attention, a router of experts), or one that is worked out.
NOT_ENTROPY = re.compile(
    r"(^|_)(timing|time|times|seconds|sec|s|ms|perf|coef|coeff|coefficient|alpha|target|bonus|min|max|std|var|"
    r"next|change|delta|diff|grad|ratio|frac|threshold|quantile|p\d+|memory|gb|kl|test|after|cross|binary|"
    r"attn|attention|router|gate|experts?|semantic|boundary|involvement|headroom|implied)(_|$)"
)
