"""What is said of a log without entropy, and of values that are no numbers."""

import json
import time

import pytest

from entlaw.errors import MissingSeries
from entlaw.runs.choose import choose_entropy
from entlaw.runs.keys import canonical
from entlaw.runs.missing import list_keys
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import scan
from tests.conftest import write_jsonl
from tests.runs.test_choose import table


def error_of(path, selection=None):
    (reading,) = scan(path, selection)
    assert isinstance(reading.error, MissingSeries)
    return reading.error


@pytest.mark.parametrize(
    "keys, words",
    [
        (["actor/pg_loss", "critic/score/mean"], "calculate_entropy=True"),
        (["reward", "reward_std", "completion_length", "rewards/r1"], "trl>=0.20"),
        (["train/policy_loss", "train/reward"], "--actor.entropy_coef 0"),
        (["policy_loss", "reward", "response_length", "kl"], "--actor.entropy_coef 0"),
        (["policy_loss", "reward", "lr"], "docs: Trainers and their keys"),
        (["reward", "reward_std", "train_speed(s/it)", "memory(GiB)"], "--log_entropy true"),
        (["scores", "objective/kl1_avg"], "--record_entropy"),
        (["current_steps", "reward", "percentage"], "LLaMA-Factory logs no entropy"),
    ],
)
def test_it_says_how_to_turn_the_entropy_on(keys, words):
    with pytest.raises(MissingSeries, match="no entropy") as caught:
        choose_entropy(table(dict.fromkeys(keys, 1)), {})
    assert words in caught.value.hint and all(key in caught.value.hint for key in keys)


def test_the_framework_that_a_log_names_is_believed():
    with pytest.raises(MissingSeries) as caught:
        choose_entropy(table({"reward": 1, "reward_std": 1}), {"framework": "verl"})
    assert "calculate_entropy" in caught.value.hint


@pytest.mark.parametrize("neighbours", [["n_groups"], ["entropy_coef"], ["entry", "n_trophies"]])
def test_useful_keys_come_first_and_resemblance_is_no_help(neighbours):
    keys = [*neighbours, *(f"timing/{i}" for i in range(30)), "zeta_reward", "zeta_accuracy"]
    with pytest.raises(MissingSeries) as caught:
        choose_entropy(table(dict.fromkeys(keys, 1)), {})
    hint = caught.value.hint
    assert "nearest" not in hint and f"({len(keys)} in all)" in hint
    assert hint.index("zeta_accuracy") < hint.index("zeta_reward") < hint.index("timing/0")


def test_a_key_too_long_to_be_one_is_no_spelling_and_takes_no_time():
    slashes, reward = "a/" * 20_000, "reward/" * 2_000 + "entropy"
    assert canonical(slashes) != canonical(slashes + "b") and canonical("a/" * 400) == "a_" * 399 + "a"
    began = time.process_time()
    with pytest.raises(MissingSeries, match="no entropy") as caught:
        choose_entropy(table({slashes: 1, reward: 1}), {})
    assert time.process_time() - began < 2 and len(caught.value.hint) < 500


def test_no_key_at_all():
    assert list_keys([]) == "the log holds no numeric key"


VALUES = [[0.98], [0.98, 0.97], "0.98 ± 0.02", "0.98 nats", "0.98+/-0.02", "98%", ["0.98"], "1,234.5 nats"]


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_values_that_are_no_numbers_are_shown(tmp_path, value, nested):
    entropy = {"actor": {"entropy": value}} if nested else {"actor/entropy": value}
    records = [{"step": s, **entropy, "critic/score/mean": 0.5} for s in range(1, 20)]
    error = error_of(write_jsonl(tmp_path / "m.jsonl", records))
    assert "entropy" in error.what and "no plain number" in error.what
    assert repr(value)[:20] in error.why
    named = error_of(
        tmp_path / "m.jsonl", Selection(entropy_key="actor.entropy" if nested else "actor/entropy")
    )
    assert named.why == error.why


@pytest.mark.parametrize("value", VALUES[2:5])
def test_so_are_those_of_a_score_and_of_a_table(tmp_path, value):
    records = [{"step": s, "entropy": 0.5, "accuracy": value} for s in range(1, 20)]
    error = error_of(write_jsonl(tmp_path / "m.jsonl", records))
    assert "'accuracy'" in error.what and value in error.why
    rows = "".join(f'{s},"{value}",0.5\n' for s in range(1, 20))
    (tmp_path / "m.csv").write_text("step,entropy,accuracy\n" + rows)
    error = error_of(tmp_path / "m.csv")
    assert "'entropy'" in error.what and value in error.why


def test_so_are_those_of_a_printed_dictionary(tmp_path):
    lines = [str({"loss": 0.1, "reward": 0.5, "entropy": "0.98 nats", "epoch": i / 10}) for i in range(12)]
    (tmp_path / "log.txt").write_text("\n".join(lines) + "\n")
    assert "0.98 nats" in error_of(tmp_path / "log.txt").why


def test_a_key_with_numbers_and_words_is_not_refused(tmp_path):
    records = [{"step": s, "entropy": 1 / s, "accuracy": s / 50} for s in range(1, 30)]
    records[3]["entropy"] = "n/a"
    records[7]["accuracy"] = "broken"
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    (reading,) = scan(path)
    assert reading.run is not None and len(reading.run.points) == 27


def test_an_entropy_of_zeros_is_a_placeholder():
    frame = table({"critic/entropy/mean": 1, "critic/correct/mean": 1})
    frame["critic/entropy/mean"] = 0.0
    with pytest.raises(MissingSeries, match="is 0 in every record"):
        choose_entropy(frame, {})
    frame["other_entropy"] = 0.5
    assert choose_entropy(frame, {})[0].key == "other_entropy"


@pytest.mark.parametrize(
    "per_token", ["policy/entropy_avg", "ppo/policy/entropy", "token_entropy", "my_entropy"]
)
def test_a_sum_over_the_response_is_used_only_where_nothing_else_is(per_token):
    frame = table({"objective/entropy": 1, per_token: 1, "objective/scores": 1})
    assert choose_entropy(frame, {})[0].key == per_token
    meaning, _, _, findings = choose_entropy(frame.drop(columns=per_token), {})
    assert meaning.unit == "nats/sequence" and findings[0].code == "entropy-per-sequence"
    _, _, _, findings = choose_entropy(frame, {}, "objective/entropy")
    assert findings[0].code == "entropy-per-sequence"


@pytest.mark.parametrize(
    "key, beside, framework, averaging, estimator",
    [
        ("entropy/mean", "rewards/acc/mean", "ms-swift", "response-mean-of-token-means", "exact"),
        ("entropy/mean", "loss/mean", "prime-rl", "token-mean", "exact"),
        ("entropy/entropy_mean", "reward_std", "ms-swift", "response-mean-of-token-means", "exact"),
        ("policy/entropy_avg", "objective/kl1_avg", "open-instruct", "response-mean-of-token-means", "exact"),
        ("policy/entropy_avg", "objective/rlhf_reward", "TRL (PPO/RLOO)", "unknown", "exact"),
        ("actor/entropy_loss", "reward/overall", "EasyR1", "token-mean", "sampled"),
        ("actor/entropy_loss", "critic/score/mean", "verl", "token-mean", "exact"),
        ("train/entropy", "train/perplexity", "rLLM", "token-mean", "sampled"),
        ("train/entropy", "train/reward_std", "TRL", "token-mean", "exact"),
        ("train/approx_entropy", "train/reward", "NeMo-RL", "token-mean", "sampled"),
    ],
)
def test_one_spelling_of_two_trainers_is_told_apart_by_its_neighbours(
    key, beside, framework, averaging, estimator
):
    meaning, told, _, _ = choose_entropy(table({key: 1, beside: 1}), {})
    assert (told, meaning.averaging, meaning.estimator) == (framework, averaging, estimator)
