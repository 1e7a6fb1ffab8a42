"""Which score is chosen: by what was logged, not by a name alone; what is said of logs that are no RL."""

import shlex

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import MissingSeries
from entlaw.runs.choose import choose_entropy
from entlaw.runs.choose_score import ENOUGH_BY_NAME, ENOUGH_VALIDATIONS, choose_score, score_candidates
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import read, scan
from tests.conftest import write_jsonl
from tests.runs.test_choose import metrics, table

VALIDATIONS = [
    "val-core/math/acc/mean@8",
    "val/test_score/math",
    "val_correct/all/mean",
    "val/success_rate",
    "val/accuracy",
    "eval/all/avg_score",
    "test/env/all/correct",
    "eval/pass_at_1",
    "eval_accuracy",
]
TRAININGS = ["critic/score/mean", "reward", "env/all/correct", "scores", "mean_reward"]


def logged(counts, n=40):
    frame = table({}, n)
    frame["actor/entropy"] = np.linspace(1, 0.1, n)
    for key, count in counts.items():
        frame[key] = np.where(np.arange(n) < count, np.linspace(0.1, 0.6, n), np.nan)
    return frame


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(VALIDATIONS), st.integers(1, 40), max_size=4),
    st.dictionaries(st.sampled_from(TRAININGS), st.integers(1, 40), max_size=3),
)
def test_a_series_with_few_values_never_beats_one_with_enough(validations, trainings):
    if not validations and not trainings:
        return
    frame = logged({**validations, **trainings})
    score = choose_score(frame, "actor/entropy")[0]
    n = {**validations, **trainings}[score.key]
    most = max({**validations, **trainings}.values())
    most_val = max(validations.values(), default=0)
    by_name = {c.key for c in score_candidates(frame) if c.rule.by_name_only}
    known = max((n for key, n in validations.items() if key not in by_name), default=0)
    trained = any(n >= ENOUGH_VALIDATIONS for key, n in trainings.items() if key not in by_name)
    if known < ENOUGH_VALIDATIONS <= most_val < ENOUGH_BY_NAME and trained and most > most_val:
        assert score.kind == "training"  # logged more often, under a known key
    elif max(validations.values(), default=0) >= ENOUGH_VALIDATIONS:
        assert score.kind == "validation" and n >= ENOUGH_VALIDATIONS
    elif trainings:
        assert score.kind == "training"
    if most < ENOUGH_VALIDATIONS:
        return
    assert n >= min(ENOUGH_VALIDATIONS, max(trainings.values(), default=most))


@pytest.mark.parametrize("rare", VALIDATIONS)
def test_one_value_gives_way_and_is_named(rare):
    other = "eval_maths_accuracy"
    score, choice, _ = choose_score(logged({rare: 1, other: 18, "critic/score/mean": 40}), "actor/entropy")
    assert score.key == other and f"{rare} has only 1" in choice.why


def test_with_a_single_validation_key_of_one_value_the_training_score_is_taken():
    score, choice, _ = choose_score(logged({"val/accuracy": 1, "critic/score/mean": 40}), "actor/entropy")
    assert score.key == "critic/score/mean" and "only 1 evaluations" in choice.why


def test_an_entropy_of_one_value_gives_way_too():
    frame = logged({})
    frame["actor/entropy_loss"] = frame["actor/entropy"]
    frame.loc[frame.index > 1, "actor/entropy"] = np.nan
    assert choose_entropy(frame, {})[0].key == "actor/entropy_loss"


@pytest.mark.parametrize(
    "one, two",
    [
        ("val-core/a b/acc/mean@1", "val-core/c/acc/mean@1"),
        ("eval/eval_aime_pass1", "eval/eval_math_pass1"),
        ("eval/aime/avg@4", "eval/math/avg@4"),
        ("eval_aime_accuracy", "eval_math_accuracy"),
        ("val_correct/aime/mean", "val_correct/math/mean"),
    ],
)
def test_of_two_validation_sets_the_hint_names_both(one, two):
    score, _, (finding,) = choose_score(logged({one: 10, two: 10}), "actor/entropy")
    assert finding.code == "several-validations" and finding.value == 2
    words = shlex.split(finding.hint.replace(",", " "))
    named = [words[i + 1] for i, word in enumerate(words) if word == "--on"]
    assert set(named[:2]) == {one, two} and score.key in named
    for key in named[:2]:
        assert choose_score(logged({one: 10, two: 10}), "actor/entropy", key)[0].key == key


def test_a_total_beside_its_parts_is_no_arbitrary_choice():
    for total, part in (
        ("val/success_rate", "val/pick_success_rate"),
        ("eval/all/avg_score", "eval/a/avg_score"),
    ):
        score, _, findings = choose_score(logged({total: 10, part: 10}), "actor/entropy")
        assert score.key == total and not findings


@pytest.mark.parametrize(
    "terms, wanted",
    [
        ({"rewards/accuracy_reward": 0.5, "rewards/format_reward": 0.9}, "rewards/accuracy_reward"),
        (
            {"rewards/correctness_reward_func": 1.4, "rewards/int_reward_func": 0.4},
            "rewards/correctness_reward_func",
        ),
        ({"rewards/r1": 0.5}, "reward"),
        ({"train/rewards/accuracy_reward": 0.5, "train/rewards/len": 0.2}, "train/rewards/accuracy_reward"),
    ],
)
def test_reward_terms_of_old_trl_have_no_mean_behind_their_name(terms, wanted):
    total = "train/reward" if any(k.startswith("train/") for k in terms) else "reward"
    frame = metrics(**{"entropy": 0.5, total: 3.0, **terms})
    assert choose_score(frame, "entropy")[0].key == wanted


def test_evaluations_of_trl_take_the_correctness_too():
    frame = logged({"eval_rewards/b_correct/mean": 10, "eval_rewards/a_format/mean": 10, "eval_reward": 10})
    score, _, findings = choose_score(frame, "actor/entropy")
    assert score.key == "eval_rewards/b_correct/mean" and not findings


OTHERS = {
    "TRL SFT": [
        "entropy",
        "mean_token_accuracy",
        "num_tokens",
        "loss",
        "eval_mean_token_accuracy",
        "eval_entropy",
    ],
    "TRL SFT in W&B": ["train/entropy", "train/mean_token_accuracy", "eval/mean_token_accuracy", "eval/loss"],
    "ms-swift SFT": ["token_acc", "loss", "eval_token_acc", "entropy"],
    "TRL DPO": ["entropy", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"],
    "TRL DPO, evaluations": ["entropy", "eval_rewards/chosen", "eval_rewards/accuracies", "eval_loss"],
    "SFT without entropy": ["mean_token_accuracy", "loss", "num_tokens"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_learning_without_a_reward_is_refused(tmp_path, name):
    records = [{"step": s, **dict.fromkeys(OTHERS[name], 0.5 + s / 100)} for s in range(1, 41)]
    (reading,) = scan(write_jsonl(tmp_path / "m.jsonl", records))
    assert isinstance(reading.error, MissingSeries)
    word = "preference" if "DPO" in name else "SFT"
    assert word in reading.error.what and "reinforcement learning" in reading.error.why


def test_a_named_token_accuracy_is_read_with_a_warning(tmp_path):
    records = [{"step": s, "entropy": 1 / s, "eval_mean_token_accuracy": s / 50} for s in range(1, 41)]
    (run,) = read(write_jsonl(tmp_path / "m.jsonl", records), Selection(on="eval_mean_token_accuracy"))
    assert "not-rl" in {f.code for f in run.findings}


def test_a_reward_beside_a_token_accuracy_is_rl():
    frame = logged({"reward": 40, "mean_token_accuracy": 40})
    assert choose_score(frame, "actor/entropy")[0].key == "reward"


@pytest.mark.parametrize("marker", ["eval_step", "val/step", "is_eval", "eval_loss", "test/n"])
@pytest.mark.parametrize("every", [1, 2])
def test_an_accuracy_in_the_records_of_an_evaluation_is_a_validation(tmp_path, marker, every):
    records = []
    for s in range(1, 41):
        records.append({"step": s, "entropy": 1 / s, "loss": 0.1})
        if s % every == 0:
            records.append({"step": s, marker: s, "accuracy": s / 50})
    (run,) = read(write_jsonl(tmp_path / "m.jsonl", records))
    assert (run.performance_key, run.performance_kind) == ("accuracy", "validation")


def test_an_accuracy_in_the_records_of_training_is_no_validation(tmp_path):
    records = [{"step": s, "entropy": 1 / s, "accuracy": s / 50, "eval_step": 10} for s in range(1, 41)]
    (run,) = read(write_jsonl(tmp_path / "m.jsonl", records))
    assert run.performance_kind == "training"


@pytest.mark.parametrize(
    "keys, wanted",
    [
        (["test/env/all/reward/total", "env/all/reward/total"], "test/env/all/reward/total"),
        (["success_rate"], "success_rate"),
        (["rollout/mean_total_reward_across_all_completions", "rollout/std_total_reward_across_all"], None),
        (["eval/sum_fraction_exact_match_using_boxed", "eval/gap_exact_minus_relaxed"], None),
        (["eval/copy_fraction_matches_target_exactly", "eval/copy_number_of_examples"], None),
        (["rollout/ep_rew_mean", "rollout/ep_len_mean"], None),
        (["solve_rate", "solve_time"], None),
    ],
)
def test_scores_of_courses_and_cookbooks(keys, wanted):
    assert choose_score(logged(dict.fromkeys(keys, 12)), "actor/entropy")[0].key == (wanted or keys[0])
