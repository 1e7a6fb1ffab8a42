"""Model sizes from configurations and names."""

import pytest

import entlaw
from entlaw.runs.model_size import model_size, parse_size, size_in
from tests.conftest import REPO


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("Qwen2.5-7B-Instruct", 7e9),
        ("Qwen2.5-0.5B-bsz256_2-prompt1024-resp512-0.567", 0.5e9),
        ("SmolLM2-135M-Instruct", 135e6),
        ("Llama-3.1-8B", 8e9),
        ("mistralai/Mistral-7B-v0.3", 7e9),
        ("llama-8bit", None),
        ("from-7B-to-1.5B", None),
        ("checkpoint-1000", None),
        ("Qwen3-30B-A3B", 30e9),
        ("", None),
    ],
)
def test_sizes_in_names(text, size):
    assert size_in(text) == size


def test_the_count_beats_the_name():
    size, choice = model_size({"parameters": 134976, "model.path": "Qwen2.5-7B"}, "run-3B")
    assert size == 134976 and "parameters" in choice.why


def test_the_policy_is_meant_not_the_reward_model():
    config = {
        "actor_rollout_ref.model.path": "Qwen/Qwen2.5-1.5B",
        "reward_model.model.path": "RM-Gemma-7B",
        "critic.model.path": "Qwen/Qwen2.5-3B",
        "critic.model.tokenizer_path": "Qwen/Qwen2.5-3B",
    }
    size, choice = model_size(config)
    assert size == 1.5e9 and "actor_rollout_ref.model.path" in choice.why


def test_two_answers_are_none():
    assert model_size({"model.path": "a-7B", "policy.path": "b-3B"}) is None
    assert model_size({"num_parameters": 10**6, "n_params": 2 * 10**6}) is None
    assert model_size({"lr": 0.1}, "grpo") is None


def test_our_own_runs_tell():
    (run,) = entlaw.read(REPO / "runs" / "grpo-m-rl0")
    assert model_size(run.config, run.name)[0] == 134976


@pytest.mark.parametrize(
    ("text", "size"), [("7e9", 7e9), ("7B", 7e9), ("1.5b", 1.5e9), ("x", None), ("-1", None), ("inf", None)]
)
def test_sizes_as_users_write_them(text, size):
    assert parse_size(text) == size
