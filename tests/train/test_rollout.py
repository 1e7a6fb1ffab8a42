"""Sampling: greedy is the library's greedy, draws have the model's probabilities, responses end where they should."""

from __future__ import annotations

import importlib.util
import types
import warnings
from dataclasses import replace

import pytest
import torch
from scipy import stats

from entlaw.errors import MissingExtra
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train.rollout import Sampling, engine_findings, vllm_core
from entlaw.train.rollout.hf import HFEngine, cache_argument, draw, encode, texts
from entlaw.train.runner import train
from entlaw.train.schema import Recipe, Rollout
from tests.train.common import tiny_policy

PROMPTS = [p.prompt for p in Arithmetic().training(0, 0, 6)]


@pytest.fixture(scope="module")
def policy():
    return tiny_policy("float32", size="s", seed=3)


def test_greedy_is_the_librarys_greedy(policy):
    batch = HFEngine(policy).generate(PROMPTS, Sampling(1, 12, temperature=0), [0])
    for i, prompt in enumerate(PROMPTS):
        ids, mask = encode(policy, [prompt])
        expected = policy.model.generate(
            ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=12, pad_token_id=policy.pad_id
        )[0, ids.shape[1] :]
        got = batch.response_BT[i][batch.mask_BT[i] > 0]
        assert torch.equal(got, expected[: len(got)])
        assert batch.finished_B[i] == (policy.stop_ids[0] in expected.tolist())


def test_rows_groups_and_ends(policy):
    batch = HFEngine(policy).generate(PROMPTS, Sampling(5, 9), [1])
    assert batch.group_B.tolist() == [i for i in range(6) for _ in range(5)]
    for row, mask, finished in zip(batch.response_BT, batch.mask_BT, batch.finished_B, strict=True):
        n = int(mask.sum())
        tokens = row[:n].tolist()
        assert mask.tolist() == [1.0] * n + [0.0] * (len(mask) - n)
        assert all(t not in policy.stop_ids for t in tokens[:-1])
        assert bool(finished) == (tokens[-1] in policy.stop_ids)
        assert bool(finished) or n == 9
        assert (row[n:] == policy.pad_id).all()
    assert batch.finished_B.any() and not batch.finished_B.all()


def test_the_text_is_without_the_end(policy):
    batch = HFEngine(policy).generate(PROMPTS, Sampling(3, 9), [1])
    for text, row, mask, end in zip(
        texts(policy, batch), batch.response_BT, batch.mask_BT, batch.finished_B, strict=True
    ):
        kept = row[: int(mask.sum()) - int(end)]
        assert text == policy.tokenizer.decode(kept, skip_special_tokens=True)


def test_seeds(policy):
    engine = HFEngine(policy)
    one, two, other = (engine.generate(PROMPTS, Sampling(4, 6), [s]) for s in (1, 1, 2))
    assert torch.equal(one.response_BT, two.response_BT)
    assert one.response_BT.shape != other.response_BT.shape or not torch.equal(
        one.response_BT, other.response_BT
    )


def test_first_tokens_have_the_models_probabilities(policy):
    prompt = PROMPTS[:1]
    n = 4000
    batch = HFEngine(policy).generate(prompt, Sampling(n, 1, temperature=0.8), [5])
    ids, _ = encode(policy, prompt)
    with torch.no_grad():
        p = (policy.model(ids).logits[0, -1] / 0.8).softmax(-1)
    counts = torch.bincount(batch.response_BT[:, 0], minlength=len(p)).double()
    expected = (p * n).double()
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_second_tokens_follow_the_cache(policy):
    """The prompt's cache is repeated for each sample: the second token must depend on the sample's own first."""
    n = 6000
    batch = HFEngine(policy).generate(PROMPTS[:1], Sampling(n, 2), [6])
    first = int(torch.bincount(batch.response_BT[:, 0]).argmax())
    rows = (batch.response_BT[:, 0] == first) & (batch.mask_BT.sum(1) == 2)
    ids, _ = encode(policy, PROMPTS[:1])
    with torch.no_grad():
        p = policy.model(torch.cat([ids, torch.tensor([[first]])], 1)).logits[0, -1].softmax(-1)
    counts = torch.bincount(batch.response_BT[rows, 1], minlength=len(p)).double()
    expected = p.double() * counts.sum()
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_top_k_and_top_p_keep_the_right_tokens():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.15, 0.1]])).repeat(5000, 1)
    uniform_B = torch.rand(5000, generator=torch.Generator().manual_seed(0))

    def seen(**how):
        return set(draw(logits, Sampling(**how), uniform_B).flatten().tolist())

    assert seen(top_k=2) == {0, 1}
    assert seen(top_p=0.74) == {0, 1}
    assert seen(top_p=0.76) == {0, 1, 2}
    assert seen(top_p=1e-9) == {0}
    assert seen() == {0, 1, 2, 3}
    assert seen(temperature=0) == {0}


def test_the_ends_of_the_random_numbers_are_tokens_that_can_be():
    """Neither 0 nor the largest number below 1 may choose a token that was cut away."""
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf], [-torch.inf, 0.0, 0.0, -torch.inf]])
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    assert draw(logits, Sampling(), ends).flatten().tolist() == [1, 2]


@pytest.mark.parametrize("batch", [1, 4, 8, 12])
def test_sampling_in_parts_changes_nothing(policy, batch):
    whole = HFEngine(policy).generate(PROMPTS, Sampling(4, 6), [1])
    parts = HFEngine(policy).generate(PROMPTS, Sampling(4, 6, batch=batch), [1])
    for name in ("prompt_BP", "response_BT", "mask_BT", "finished_B", "group_B"):
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name


def test_a_prompts_random_numbers_depend_on_its_number_alone(policy):
    whole = HFEngine(policy).generate(PROMPTS, Sampling(4, 6), [1])
    last = HFEngine(policy).generate(PROMPTS[4:], Sampling(4, 6), [1], first=4)
    other = HFEngine(policy).generate(PROMPTS[4:], Sampling(4, 6), [1], first=3)
    width = last.response_BT.shape[1]
    assert torch.equal(whole.response_BT[16:, :width], last.response_BT)
    assert last.group_B.tolist() == [0] * 4 + [1] * 4
    assert other.response_BT.shape != last.response_BT.shape or not torch.equal(
        other.response_BT, last.response_BT
    )


def test_training_mode_is_left_as_it_was(policy):
    policy.model.train()
    HFEngine(policy).generate(PROMPTS[:1], Sampling(1, 2), [0])
    assert policy.model.training


class Renamed(torch.nn.Module):
    """A model whose ``forward`` takes the key-value cache by a name of its own, and refuses the other."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config, self.device = inner, inner.config, inner.device

    def call(self, cache, *args, **kwargs):
        return self.inner(*args, **{cache_argument(self.inner): cache}, **kwargs)


class TakesCache(Renamed):
    def forward(self, input_ids, attention_mask, position_ids, cache, logits_to_keep=0):
        return self.call(
            cache,
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
        )


class TakesPastKeyValues(Renamed):
    def forward(self, input_ids, attention_mask, position_ids, past_key_values, logits_to_keep=0):
        return self.call(
            past_key_values,
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
        )


@pytest.mark.parametrize("kind", [TakesCache, TakesPastKeyValues])
def test_the_cache_is_given_by_the_name_that_the_model_knows(policy, kind):
    plain = HFEngine(policy).generate(PROMPTS, Sampling(2, 8), [3])
    renamed = HFEngine(replace(policy, model=kind(policy.model))).generate(PROMPTS, Sampling(2, 8), [3])
    assert torch.equal(plain.response_BT, renamed.response_BT)


def test_a_rollout_warns_of_nothing(policy):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error"
        )  # the library's own words included: a user would read them at every start
        HFEngine(policy).generate(PROMPTS, Sampling(2, 8), [3])


class TestTheEngineARecipeNames:
    def test_without_vllm_it_says_what_to_install(self, tmp_path):
        if importlib.util.find_spec("vllm") is not None:
            pytest.skip("vLLM is installed here")
        recipe = Recipe(rollout=Rollout(engine="vllm"))
        with pytest.raises(MissingExtra) as caught:
            engine_findings(recipe)
        assert caught.value.exit_code == 2
        assert "entlaw[vllm]" in caught.value.hint and "rollout.engine = hf" in caught.value.hint
        # Before a warm-up of minutes, and without leaving a run behind that would have to be resumed.
        with pytest.raises(MissingExtra):
            train(recipe, tmp_path / "run")
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
        assert not (tmp_path / "run" / "base").exists()

    def test_another_release_is_warned_of(self, monkeypatch):
        """The module's version alone is what is looked at."""
        monkeypatch.setattr(vllm_core, "import_vllm", lambda: types.SimpleNamespace(__version__="0.45.1"))
        (finding,) = engine_findings(Recipe(rollout=Rollout(engine="vllm")))
        assert finding.severity == "warning" and "0.45.1" in finding.what
        monkeypatch.setattr(vllm_core, "import_vllm", lambda: types.SimpleNamespace(__version__="0.32.4"))
        assert engine_findings(Recipe(rollout=Rollout(engine="vllm"))) == []
        assert engine_findings(Recipe()) == []
