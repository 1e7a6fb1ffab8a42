"""The runs in runs/: every file is what it says it is, and the script that made them computes what it says."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from entlaw.runs.run import EntropyMeaning

RUNS = Path(__file__).parents[1] / "runs"
SHIPPED = sorted(path.parent for path in RUNS.glob("*/run.json") if path.parent.suffix != ".partial")
VOCAB = 16
ROLLOUT_KEYS = {
    "actor/entropy",
    "actor/entropy_response_mean",
    "reward/mean",
    "train/accuracy",
    "train/kept_groups",
    "response_length/mean",
    "time/step_s",
}
UPDATE_KEYS = {"actor/grad_norm", "actor/pg_clipfrac", "actor/ppo_kl"}
VALIDATION_KEYS = {"val/accuracy", "val/problems", "val/samples"}


def lines(folder):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def is_multiple(value, n, tolerance):
    return abs(value * n - round(value * n)) <= tolerance


def test_runs_are_shipped():
    assert {"small", "middle", "large"} <= {folder.name.split("-")[0] for folder in SHIPPED}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
class TestShippedRun:
    def test_run_json_is_complete(self, folder):
        info = json.loads((folder / "run.json").read_text())
        assert set(info) == {
            "schema",
            "name",
            "framework",
            "recipe",
            "entropy_meaning",
            "seed",
            "versions",
            "parameters",
            "created",
            "wall_s",
        }
        assert info["schema"] == "entlaw.run/1"
        assert info["framework"] == "entlaw"
        assert info["name"] == folder.name
        assert set(info["versions"]) >= {"python", "torch", "transformers", "numpy"}
        assert info["parameters"] > 0
        assert info["wall_s"] > 0
        algorithm = info["recipe"]["algorithm"]
        assert algorithm["name"] == "grpo"
        assert algorithm["kl_coef"] == 0
        assert (algorithm["entropy_coeff"] != 0) == ("entropy-bonus" in folder.name)
        assert algorithm["reward"] == ("random" if "random" in folder.name else "correct")

    def test_entropy_meaning_uses_the_words_of_the_library(self, folder):
        meaning = json.loads((folder / "run.json").read_text())["entropy_meaning"]
        EntropyMeaning(**meaning)
        for field, hint in get_type_hints(EntropyMeaning).items():
            if allowed := get_args(hint):
                assert meaning[field] in allowed, field
                assert meaning[field] != "unknown", field
        assert all(meaning["key"] in row for row in lines(folder)[1:])

    def test_steps_are_consecutive_and_validation_is_on_schedule(self, folder):
        rows, recipe = lines(folder), json.loads((folder / "run.json").read_text())["recipe"]
        assert [row["step"] for row in rows] == list(range(recipe["training"]["steps"] + 1))
        assert set(rows[0]) == {"step"} | VALIDATION_KEYS
        for row in rows[1:]:
            keys = {"step"} | ROLLOUT_KEYS
            keys |= UPDATE_KEYS if row["train/kept_groups"] > 0 else set()
            keys |= VALIDATION_KEYS if row["step"] % recipe["validation"]["every"] == 0 else set()
            assert set(row) == keys, row["step"]

    def test_values_are_possible(self, folder):
        info, rows = json.loads((folder / "run.json").read_text()), lines(folder)
        recipe = info["recipe"]
        k = recipe["algorithm"]["group_size"]
        responses = recipe["rollout"]["prompts"] * k
        for row in rows[1:]:
            for key in ("actor/entropy", "actor/entropy_response_mean"):
                assert 0 <= row[key] <= math.log(VOCAB)
            for key in ("reward/mean", "train/accuracy", "response_length/mean"):
                assert is_multiple(row[key], responses, 0.01), (row["step"], key)  # six digits were kept
            assert 0 <= row["reward/mean"] <= 1
            assert 1 <= row["response_length/mean"] <= recipe["rollout"]["max_tokens"]
            assert is_multiple(row["train/kept_groups"], recipe["rollout"]["prompts"], 0.01)
            assert 0 <= row.get("actor/pg_clipfrac", 0) <= 1
            assert row.get("actor/grad_norm", 0) >= 0
            if recipe["algorithm"]["reward"] == "correct":
                assert row["reward/mean"] == row["train/accuracy"]
        for row in rows:
            if "val/accuracy" in row:
                assert 0 <= row["val/accuracy"] <= 1
                assert is_multiple(row["val/accuracy"], row["val/problems"] * row["val/samples"], 1e-9)
        assert sum(row["time/step_s"] for row in rows[1:]) < info["wall_s"]

    def test_files_stay_small(self, folder):
        assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "run.json"}
        assert (folder / "metrics.jsonl").stat().st_size < 200_000


# The script -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("torch", reason="torch is not installed (extra: train)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra: train)")
    spec = importlib.util.spec_from_file_location("make_tiny", RUNS / "make_tiny.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def micro(script):
    recipe = copy.deepcopy(script.BASE)
    recipe["task"]["operations"] = [1, 2]
    recipe["model"] = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
    recipe["warmup"] = {
        "batch_size": 8,
        "phases": [{"steps": 3, "lr": 1e-2, "chain_share": 0.5, "slip": 0.1}],
    }
    recipe["rollout"].update(prompts=8, max_tokens=5)
    recipe["training"].update(steps=2, mini_batches=2)
    recipe["validation"].update(every=2, problems=16)
    return recipe


@pytest.fixture
def one_thread():
    torch = pytest.importorskip("torch")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def logged(script, recipe, seed, folder):
    script.train(folder.name, recipe, seed, folder)
    return [{key: v for key, v in row.items() if key != "time/step_s"} for row in lines(folder)]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_recipe_is_the_one_the_script_would_run_again(script, folder):
    info = json.loads((folder / "run.json").read_text())
    assert script.recipe_of(info["name"]) == (info["seed"], info["recipe"])
    assert info["parameters"] == sum(
        p.numel() for p in script.build_policy(info["recipe"]["model"], 0).parameters()
    )


def test_every_run_of_the_script_is_shipped_and_no_other(script):
    assert {folder.name for folder in SHIPPED} == set(script.RUNS)


def test_readme_shows_the_table_of_the_files(script):
    assert script.table() in (RUNS / "README.md").read_text()


def test_two_steps_are_deterministic_given_the_seed(script, micro, one_thread, tmp_path):
    first = logged(script, micro, 3, tmp_path / "first")
    assert logged(script, micro, 3, tmp_path / "again") == first
    assert logged(script, micro, 4, tmp_path / "other") != first
    assert [row["step"] for row in first] == [0, 1, 2]
    assert not list(tmp_path.glob("*.partial"))


def test_entropy_against_float64(script):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(0, scale, (50, VOCAB)) for scale in (0.0, 0.1, 3, 40)])
    shifted = logits - logits.max(-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    expected = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), -1)
    got64 = script.exact_entropy(torch.tensor(logits)).numpy()
    np.testing.assert_allclose(got64, expected, atol=1e-12)
    got32 = script.exact_entropy(torch.tensor(logits, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(got32, expected, atol=2e-6)
    np.testing.assert_allclose(got64[:50], math.log(VOCAB), atol=1e-12)


def test_logged_entropy_is_that_of_each_response_alone(script, micro, one_thread, monkeypatch):
    """No padding, no batch, no cache, float64: the same token mean, of the policy before its update."""
    torch, kept = one_thread, {}
    model = script.build_policy(micro["model"], 1)
    before = copy.deepcopy(model).double()
    sample = script.sample

    def remember(*args):
        kept["batch"] = sample(*args)
        return kept["batch"]

    monkeypatch.setattr(script, "sample", remember)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(5)
    metrics = script.grpo_step(model, optimizer, micro, np.random.default_rng(5), generator)
    per_response = []
    for prompt, prompt_mask, response, mask in zip(*kept["batch"], strict=True):
        prompt, response = prompt[prompt_mask], response[mask]
        with torch.no_grad():
            logits = before(torch.cat([prompt, response])[None]).logits[0].numpy()
        log_p = logits[len(prompt) - 1 : -1]
        log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
        per_response.append(-(np.exp(log_p) * log_p).sum(-1))
    assert metrics["actor/entropy"] == pytest.approx(np.concatenate(per_response).mean(), abs=2e-6)
    mean_of_means = np.mean([entropy.mean() for entropy in per_response])
    assert metrics["actor/entropy_response_mean"] == pytest.approx(mean_of_means, abs=2e-6)
    assert metrics["response_length/mean"] == np.mean([len(entropy) for entropy in per_response])


def test_sampling_with_a_cache_follows_the_full_forward_pass(script, micro, one_thread):
    """At a temperature near 0 each sampled token is the one that the full forward pass ranks first."""
    torch = one_thread
    model = script.build_policy(micro["model"], 2)
    prompts = ["3+5=", "3*5-7=", "9-0*4="]
    batch = script.sample(model, prompts, 2, 6, 1e-6, torch.Generator().manual_seed(0))
    with torch.no_grad():
        best = script.response_logits(model, *batch).argmax(-1)
    assert torch.equal(best[batch[3]], batch[2][batch[3]])
    assert batch[3].any()


def test_grading_against_the_text(script):
    torch = pytest.importorskip("torch")
    texts = ["9.", "869.", "868.", ".", "86", "9+.", "99999", "+9."]
    width = 5
    ids, mask = script.encode(texts, width, left=False)
    got = script.grade(ids, mask, torch.full((len(texts),), 9)).tolist()
    assert got == [float(text.endswith("9.")) for text in texts]


def test_problems_are_right_and_the_split_is_disjoint(script):
    rng = np.random.default_rng(0)
    drawn = {}
    for held_out in (True, False):
        drawn[held_out] = [script.problem(rng, [1, 2], held_out) for _ in range(1500)]
    prompts = {held_out: {prompt for prompt, _ in found} for held_out, found in drawn.items()}
    assert not prompts[True] & prompts[False]
    for prompt, results in drawn[True] + drawn[False]:
        value, expected = int(prompt[0]), []
        for i in range(1, len(prompt) - 1, 2):
            value = eval(f"({value}) {prompt[i]} {prompt[i + 1]}") % 10
            expected.append(value)
        assert results == expected
        chain = "".join(map(str, expected)) + "."
        assert script.demonstration(rng, prompt, results[-1], chain_share=1, slip=0) == chain
        assert script.demonstration(rng, prompt, results[-1], chain_share=0, slip=0) == chain[-2:]


@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_a_step_without_mixed_groups_changes_nothing(script, micro, one_thread, monkeypatch, verdict):
    torch = one_thread
    monkeypatch.setattr(
        script, "grade", lambda response, mask, answers: torch.full((len(response),), verdict)
    )
    model = script.build_policy(micro["model"], 1)
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    metrics = script.grpo_step(model, optimizer, micro, np.random.default_rng(0), generator)
    assert metrics["train/kept_groups"] == 0
    assert not UPDATE_KEYS & set(metrics)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_update_raises_what_was_rewarded(script, micro, one_thread, monkeypatch):
    """Rewarding responses that begin with 7 makes 7 more likely; rewarding the others makes it less so."""
    torch = one_thread
    shift = {}
    for wanted in (True, False):

        def by_first_token(response, mask, answers, wanted=wanted):
            return ((response[:, 0] == 7) == wanted).float()

        monkeypatch.setattr(script, "grade", by_first_token)
        model = script.build_policy(micro["model"], 1)

        def share_of_seven(model=model):
            prompt, _ = script.encode(["3+5=", "1*2="], 4, left=True)
            with torch.no_grad():
                return model(prompt).logits[:, -1].softmax(-1)[:, 7].mean().item()

        start = share_of_seven()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        for _ in range(8):
            script.grpo_step(model, optimizer, micro, rng, generator)
        shift[wanted] = share_of_seven() - start
    assert shift[True] > 0 > shift[False]


def test_entropy_bonus_raises_entropy(script, micro, one_thread):
    torch, last = one_thread, {}
    for coefficient in (0.0, 5.0):
        micro["algorithm"]["entropy_coeff"] = coefficient
        model = script.build_policy(micro["model"], 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        for _ in range(8):
            last[coefficient] = script.grpo_step(model, optimizer, micro, rng, generator)["actor/entropy"]
    assert last[5.0] > last[0.0]


def test_reference_kl_is_refused(script, micro, tmp_path):
    micro["algorithm"]["kl_coef"] = 0.1
    with pytest.raises(SystemExit, match="kl_coef"):
        script.train("x", micro, 0, tmp_path / "x")
