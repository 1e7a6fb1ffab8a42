"""Which key is the entropy and which the performance: every framework's spelling, and the traps."""

import numpy as np
import pandas as pd
import pytest

from entlaw.errors import MissingSeries
from entlaw.runs.choose import choose_entropy
from entlaw.runs.choose_score import choose_score
from entlaw.runs.keys import canonical
from entlaw.runs.run import EntropyMeaning


def metrics(n=40, **columns):
    data = {}
    for key, value in columns.items():
        data[key] = np.resize(np.asarray(value, float), n)
    return pd.DataFrame(data, index=pd.Index(np.arange(1.0, n + 1), name="step"))


def table(keys, n=40):
    """All keys present with plausible values; validation keys every fourth step."""
    frame = pd.DataFrame(index=pd.Index(np.arange(1.0, n + 1), name="step"))
    for key, every in keys.items():
        values = np.full(n, np.nan)
        values[::every] = 0.5
        frame[key] = values
    return frame


FRAMEWORKS = {
    # framework: (logged keys with their spacing, entropy key, validation key, training key)
    "verl": (
        {
            "actor/entropy": 1,
            "actor/entropy_loss": 1,
            "critic/score/mean": 1,
            "critic/rewards/mean": 1,
            "val-core/openai/gsm8k/acc/mean@1": 4,
            "val-aux/openai/gsm8k/reward/std@4": 4,
            "timing_s/entropy": 1,
        },
        "actor/entropy",
        "val-core/openai/gsm8k/acc/mean@1",
        "critic/score/mean",
    ),
    "verl, old": (
        {"actor/entropy_loss": 1, "critic/score/mean": 1, "val/test_score/openai/gsm8k": 4},
        "actor/entropy_loss",
        "val/test_score/openai/gsm8k",
        "critic/score/mean",
    ),
    "verl, wide csv": (
        {"actor_entropy": 1, "critic_score_mean": 1, "val-core_openai_gsm8k_reward_mean_at_8": 4},
        "actor_entropy",
        "val-core_openai_gsm8k_reward_mean_at_8",
        "critic_score_mean",
    ),
    "paper's code": (
        {
            "actor/entropy_loss": 1,
            "train_entropy/all": 1,
            "test_entropy/all": 4,
            "train_entropy/math": 1,
            "val/score-all": 4,
            "critic/score/mean": 1,
        },
        "train_entropy/all",
        "val/score-all",
        "critic/score/mean",
    ),
    "TRL": (
        {
            "entropy": 1,
            "reward": 1,
            "reward_std": 1,
            "rewards/reward_fn/mean": 1,
            "entropy_coef": 1,
            "eval_reward": 4,
            "eval_runtime": 4,
        },
        "entropy",
        "eval_reward",
        "reward",
    ),
    "TRL in W&B": (
        {
            "train/entropy": 1,
            "train/reward": 1,
            "train/rewards/accuracy_reward/mean": 1,
            "train/rewards/format_reward/mean": 1,
            "eval/reward": 4,
        },
        "train/entropy",
        "eval/reward",
        "train/rewards/accuracy_reward/mean",
    ),
    "OpenRLHF": (
        {
            "train/entropy_loss": 1,
            "train/reward": 1,
            "eval/eval_math_pass1": 4,
            "eval/eval_math_response_length_mean": 4,
        },
        "train/entropy_loss",
        "eval/eval_math_pass1",
        "train/reward",
    ),
    "prime-rl": (
        {
            "entropy/all/mean": 1,
            "entropy/all/std": 1,
            "entropy/all/max": 1,
            "train/agg/all/agent/reward/mean": 1,
            "eval/math/full/agent/avg@8": 4,
            "kl_ent_ratio/mean": 1,
        },
        "entropy/all/mean",
        "eval/math/full/agent/avg@8",
        "train/agg/all/agent/reward/mean",
    ),
    "slime": (
        {
            "train/entropy_loss": 1,
            "rollout/entropy": 1,
            "rollout/correct_entropy": 1,
            "rollout/raw_reward": 1,
            "eval/aime": 4,
            "rollout/response_len/mean": 1,
        },
        "rollout/entropy",
        "eval/aime",
        "rollout/raw_reward",
    ),
    "AReaL": (
        {
            "ppo_actor/update/entropy/avg": 1,
            "ppo_actor/update/entropy/min": 1,
            "ppo_actor/task_reward/avg": 1,
            "eval-rollout/reward": 4,
        },
        "ppo_actor/update/entropy/avg",
        "eval-rollout/reward",
        "ppo_actor/task_reward/avg",
    ),
    "SkyRL": (
        {
            "policy/policy_entropy": 1,
            "reward/avg_raw_reward": 1,
            "eval/all/avg_score": 4,
            "eval/math/avg_score": 4,
        },
        "policy/policy_entropy",
        "eval/all/avg_score",
        "reward/avg_raw_reward",
    ),
    "tinker-cookbook": (
        {"optim/entropy": 1, "env/all/correct": 1, "env/all/reward/total": 1, "test/env/all/correct": 4},
        "optim/entropy",
        "test/env/all/correct",
        "env/all/correct",
    ),
    "entlaw": (
        {
            "actor/entropy": 1,
            "actor/entropy_response_mean": 1,
            "reward/mean": 1,
            "val/accuracy": 4,
            "val/problems": 4,
        },
        "actor/entropy",
        "val/accuracy",
        "reward/mean",
    ),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_frameworks_spelling(name):
    keys, entropy, validation, training = FRAMEWORKS[name]
    frame = table(keys)
    assert choose_entropy(frame, {})[0].key == entropy
    assert choose_score(frame, entropy)[0].key == validation
    assert choose_score(frame, entropy, "val")[0].kind == "validation"
    assert choose_score(frame, entropy, "train")[0].key == training


def test_meaning_travels_with_the_key():
    meaning = choose_entropy(table({"optim/entropy": 1}), {})[0]
    assert (meaning.estimator, meaning.unit) == ("sampled", "nats/token")
    meaning = choose_entropy(table({"objective/entropy": 1}), {})[0]
    assert (meaning.unit, meaning.averaging) == ("nats/sequence", "sequence-sum")
    paper = choose_entropy(table({"train_entropy/all": 1}), {})[0]
    assert (paper.averaging, paper.temperature) == ("response-mean-of-token-means", "1")


def test_rollout_temperature_one_is_resolved_from_the_config():
    frame = table({"actor/entropy": 1})
    assert choose_entropy(frame, {})[0].temperature == "rollout"
    assert choose_entropy(frame, {"actor_rollout_ref.rollout.temperature": 1.0})[0].temperature == "1"


def test_a_run_that_states_its_meaning_is_believed():
    config = {
        "entropy_meaning.key": "actor/entropy",
        "entropy_meaning.temperature": "1",
        "entropy_meaning.when": "after-update",
    }
    meaning = choose_entropy(table({"actor/entropy": 1}), config)[0]
    assert (meaning.temperature, meaning.when) == ("1", "after-update")


@pytest.mark.parametrize(
    "key", ["timing_s/entropy", "perf/entropy_time", "entropy_coeff", "entropy/target", "entropy_max"]
)
def test_a_key_that_only_contains_the_word_is_not_the_entropy(key):
    with pytest.raises(MissingSeries):
        choose_entropy(table({key: 1}), {})


def test_entropy_by_name_alone_is_warned_of():
    meaning, _, choice, findings = choose_entropy(table({"entropy_avg": 1}), {})
    assert meaning.estimator == "unknown" and [f.code for f in findings] == ["entropy-by-name"]
    assert "only its name" in choice.why


@pytest.mark.parametrize(
    "of", ["attention_", "router/", "attn/", "moe/router_", "gate_", "expert_", "semantic_"]
)
def test_the_entropy_of_something_else_than_the_policy_is_not_taken(of):
    with pytest.raises(MissingSeries, match="no entropy"):
        choose_entropy(table({f"{of}entropy": 1}), {})
    assert choose_entropy(table({f"{of}entropy": 1, "action_entropy": 1}), {})[0].key == "action_entropy"


def test_verl_dynamic_batch_entropy_is_flagged():
    config = {"actor_rollout_ref.actor.use_dynamic_bsz": True}
    assert [f.code for f in choose_entropy(table({"actor/entropy_loss": 1}), config)[3]] == [
        "verl-dynamic-batch-entropy"
    ]
    assert choose_entropy(table({"actor/entropy": 1}), config)[3] == []


def test_few_validations_give_way_to_the_training_score():
    frame = table({"entropy": 1, "reward": 1, "eval_reward": 10})
    score, choice, _ = choose_score(frame, "entropy")
    assert score.key == "reward" and "only 4 evaluations" in choice.why
    assert choose_score(frame, "entropy", "val")[0].key == "eval_reward"


def test_old_verl_pretraining_key_fills_the_same_set():
    frame = table({"actor/entropy_loss": 1, "val/test_score/gsm8k": 4})
    frame["test_score/gsm8k"] = np.nan
    frame.loc[3.0, "test_score/gsm8k"] = 0.25
    score = choose_score(frame, "actor/entropy_loss")[0]
    assert score.series[3.0] == 0.25 and score.series.notna().sum() == 11
    assert score.keys == ("val/test_score/gsm8k", "test_score/gsm8k")


def test_total_of_mixed_rewards_gives_way_to_the_correctness_term():
    frame = metrics(
        **{
            "entropy": 0.5,
            "reward": [1.7, 3.6],
            "rewards/think_format_reward/mean": 0.1,
            "rewards/mc_idx_reward/mean": [0.6, 0.9],
            "rewards/length/mean": 0.3,
        }
    )
    assert choose_score(frame, "entropy")[0].key == "rewards/mc_idx_reward/mean"


def test_glob_averages_with_equal_weights_where_all_are_there():
    frame = table({"h": 1, "val-core/a/acc/mean@1": 4, "val-core/b/acc/mean@1": 4})
    frame.loc[1.0, "val-core/b/acc/mean@1"] = 0.7
    frame.loc[5.0, "val-core/b/acc/mean@1"] = np.nan
    score = choose_score(frame, "h", "val-core/*/mean@1")[0]
    assert score.series[1.0] == pytest.approx(0.6)
    assert np.isnan(score.series[5.0])


def test_several_validation_sets_are_said_not_silently_averaged():
    frame = table({"h": 1, "val-core/a/acc/mean@1": 4, "val-core/b/acc/mean@1": 4})
    score, choice, findings = choose_score(frame, "h")
    assert score.key == "val-core/a/acc/mean@1" and choice.alternatives == ("val-core/b/acc/mean@1",)
    assert [f.code for f in findings] == ["several-validations"]


def test_missing_series_names_what_is_there():
    with pytest.raises(MissingSeries, match="no entropy") as caught:
        choose_entropy(table({"loss": 1}), {})
    assert "loss" in (caught.value.hint or "")
    with pytest.raises(MissingSeries, match="entropi") as caught:
        choose_entropy(table({"actor/entropy": 1}), {}, "actor/entropi")
    assert "actor/entropy" in (caught.value.hint or "")
    with pytest.raises(MissingSeries, match="no performance"):
        choose_score(table({"actor/entropy": 1}), "actor/entropy")


def test_all_nan_columns_do_not_count():
    frame = table({"actor/entropy_loss": 1})
    frame["actor/entropy"] = np.nan
    assert choose_entropy(frame, {})[0].key == "actor/entropy_loss"


@pytest.mark.parametrize(
    "one, two",
    [
        ("actor/entropy", "actor_entropy"),
        ("val-core/x/acc/mean@8", "val_core.x.acc.mean_at_8"),
        ("A/B", "a b"),
    ],
)
def test_canonical_form(one, two):
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    "beside, framework", [("reward_std", "TRL"), ("num_tokens", "TRL"), ("epoch", "unknown")]
)
def test_a_plain_entropy_is_trls_only_beside_another_key_of_trl(beside, framework):
    """A spreadsheet's column says nothing of how it was measured; TRL's does."""
    meaning, told, _, found = choose_entropy(metrics(entropy=0.5, accuracy=0.2, **{beside: 1.0}), {})
    assert (meaning.key, told) == ("entropy", framework)
    if framework == "TRL":
        assert meaning.estimator == "exact" and not found
    else:
        assert meaning == EntropyMeaning("entropy")
        assert [(f.code, f.severity) for f in found] == [("entropy-by-name", "info")]


@pytest.mark.parametrize("wanted", [None, "actor/entropy"])
def test_an_entropy_of_nothing_but_nan_is_named_as_such(wanted):
    frame = metrics(**{"actor/entropy": np.nan, "val/accuracy": 0.5})
    with pytest.raises(MissingSeries, match="'actor/entropy' holds no number"):
        choose_entropy(frame, {}, wanted)


@pytest.mark.parametrize("on", [None, "val/accuracy", "val*"])
def test_a_score_of_nothing_but_nan_is_named_as_such(on):
    frame = metrics(**{"actor/entropy": 0.5, "val/accuracy": np.nan})
    with pytest.raises(MissingSeries, match="holds no number"):
        choose_score(frame, "actor/entropy", on)
