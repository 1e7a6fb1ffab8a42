"""The policy: its scores are the model's own, and what cannot be trained with is refused in words."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch

from entlaw.errors import SourceNotFound, UnreadableSource, UsageError
from entlaw.train import ladder, policy
from entlaw.train.batch import Batch, concatenate
from entlaw.train.critic import Critic
from entlaw.train.schema import Policy
from tests.train.common import tiny_batch, tiny_policy


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_the_models_logits(family, temperature):
    lm = tiny_policy(family=family)
    batch = tiny_batch(lm)
    scores = lm.score(batch, temperature)
    for row in range(len(batch)):  # one sequence at a time, without any padding
        prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]]
        response = batch.response_BT[row][batch.mask_BT[row] > 0]
        logits = lm.model(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1] / temperature
        log_p = logits.log_softmax(-1)
        n = len(response)
        expected = log_p[torch.arange(n), response]
        assert torch.allclose(scores.log_prob_BT[row, :n], expected, atol=1e-9)
        assert torch.allclose(scores.entropy_BT[row, :n], -(log_p.exp() * log_p).sum(-1), atol=1e-9)
        assert torch.allclose(scores.sum_p_squared_BT[row, :n], (log_p.exp() ** 2).sum(-1), atol=1e-9)
        assert (scores.log_prob_BT[row, n:] == 0).all() and (scores.entropy_BT[row, n:] == 0).all()


def test_cutting_padding_off_changes_no_score():
    lm = tiny_policy()
    batch = tiny_batch(lm, groups=6)
    short = batch.rows((batch.mask_BT.sum(1) <= 3).nonzero()[:, 0])
    assert 0 < len(short) < len(batch)
    cut = short.trimmed()
    assert cut.response_BT.shape[1] <= 3
    width = cut.response_BT.shape[1]
    assert torch.allclose(lm.score(cut).log_prob_BT, lm.score(short).log_prob_BT[:, :width], atol=1e-12)


def test_batches_come_apart_and_together():
    lm = tiny_policy("float32")
    batch = tiny_batch(lm)
    together = concatenate([part for _, part in batch.pieces(5)], lm.pad_id)
    for name in ("prompt_BP", "response_BT", "mask_BT", "group_B", "log_prob_BT"):
        assert torch.equal(getattr(together, name), getattr(batch, name))
    narrow = batch.rows((batch.mask_BT.sum(1) <= 2).nonzero()[:, 0]).trimmed()
    wide = concatenate([narrow, batch], lm.pad_id)
    assert wide.response_BT.shape[1] == batch.response_BT.shape[1]
    assert (wide.mask_BT[: len(narrow), narrow.mask_BT.shape[1] :] == 0).all()


def test_empty_batches_can_be_trimmed():
    lm = tiny_policy("float32")
    nothing = tiny_batch(lm).rows(torch.tensor([], dtype=torch.long))
    assert len(nothing.trimmed()) == 0


def saved(folder, change=None, drop=()):
    """A ladder model's folder, with something wrong in it."""
    lm = tiny_policy("float32")
    policy.save(lm, folder)
    for name in drop:
        (folder / name).unlink()
    if change:
        for name, entries in change.items():
            data = json.loads((folder / name).read_text())
            data.update(entries)
            (folder / name).write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
    return folder


def load(folder):
    return policy.load(folder, Policy(), torch.device("cpu"))


def test_a_saved_policy_is_the_same_when_loaded(tmp_path):
    again = load(saved(tmp_path))
    original = tiny_policy("float32")
    for a, b in zip(again.model.parameters(), original.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (again.pad_id, again.stop_ids) == (original.pad_id, original.stop_ids)


def test_a_folder_without_tokenizer_is_told(tmp_path):
    with pytest.raises(UnreadableSource, match="no tokenizer"):
        load(saved(tmp_path, drop=("tokenizer.json", "tokenizer_config.json")))


def test_a_folder_without_weights_is_told(tmp_path):
    with pytest.raises(UnreadableSource, match="no causal language model"):
        load(saved(tmp_path, drop=("model.safetensors",)))


def test_a_path_that_is_nowhere_is_told(tmp_path):
    with pytest.raises(SourceNotFound, match="no such folder"):
        load(tmp_path / "nowhere")


def test_a_tokenizer_without_a_pad_token_pads_with_the_end(tmp_path):
    lm = load(saved(tmp_path, change={"tokenizer_config.json": {"pad_token": None}}))
    assert lm.tokenizer.pad_token is None and lm.pad_id == lm.stop_ids[0]


def test_no_end_of_sequence_is_told(tmp_path):
    change = {
        "tokenizer_config.json": {"eos_token": None},
        "generation_config.json": {"eos_token_id": None},
        "config.json": {"eos_token_id": None},
    }
    with pytest.raises(UnreadableSource, match="end-of-sequence"):
        load(saved(tmp_path, change=change))


def test_heads_that_are_more_than_a_matrix_are_refused():
    lm = tiny_policy("float32")
    lm.model.config.final_logit_softcapping = 30.0
    with pytest.raises(UnreadableSource, match="final_logit_softcapping"):
        policy.wrap(lm.model, lm.tokenizer)


def test_devices():
    assert policy.device_of("cpu").type == "cpu"
    with pytest.raises(UsageError, match="cannot be used"):
        policy.device_of("cuda:77")
    with pytest.raises(UsageError, match="cannot be used"):
        policy.device_of("gpu")


def test_ladder_sizes_and_seeds():
    tokenizer = ladder.build_tokenizer()
    sizes = []
    for size in ladder.SIZES:
        model = ladder.build_model(Policy(size=size), len(tokenizer), 14, 15)
        sizes.append(sum(p.numel() for p in model.parameters()))
    assert 15_000 < sizes[0] < 20_000 and 0.9e6 < sizes[-1] < 1.1e6
    assert all(2 < b / a < 3.5 for a, b in itertools.pairwise(sizes))
    state = torch.get_rng_state()
    one, two, other = (
        next(ladder.build_model(Policy(size="xs", seed=s), 16, 14, 15).parameters()) for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used up


def test_the_tokenizer_gives_text_back():
    tokenizer = ladder.build_tokenizer()
    text = "3+5*2-7=869"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_autocast_scores_are_near_and_in_float32():
    lm = tiny_policy("float32", size="s")
    batch = tiny_batch(lm)
    half = replace(lm, autocast=True).score(batch)
    full = lm.score(batch)
    assert half.log_prob_BT.dtype == half.entropy_BT.dtype == torch.float32
    assert not torch.equal(half.log_prob_BT, full.log_prob_BT)
    assert torch.allclose(half.log_prob_BT, full.log_prob_BT, atol=0.15)


def test_a_batch_has_no_field_that_rows_forgets():
    lm = tiny_policy("float32")
    batch = tiny_batch(lm)
    given = ("value_BT", "return_BT", "sampling_entropy_BT", "rollout_log_prob_BT", "rollout_weight_BT")
    full = replace(batch, **dict.fromkeys(given, batch.mask_BT))
    assert all(getattr(full, name) is not None for name in Batch.__dataclass_fields__)
    part = full.rows(torch.tensor([2, 0]))
    for name in Batch.__dataclass_fields__:
        assert torch.equal(getattr(part, name), getattr(full, name)[[2, 0]])


def foreign(folder, tied=True):
    """A GPT-2: dropout everywhere, tied embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = ladder.build_tokenizer()
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        eos_token_id=end,
        bos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_with_dropout_scores_the_same_every_time(tmp_path):
    lm = load(foreign(tmp_path))
    batch = tiny_batch(lm)
    lm.model.train()
    with torch.no_grad():
        assert torch.equal(lm.score(batch).log_prob_BT, lm.score(batch).log_prob_BT)


@pytest.mark.parametrize("tied", [True, False])
def test_a_critics_input_embedding_learns_and_its_idle_head_does_not(tmp_path, tied):
    body = Critic(load(foreign(tmp_path, tied))).body
    assert body.get_input_embeddings().weight.requires_grad
    assert body.get_output_embeddings().weight.requires_grad == tied


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_told(tmp_path, name):
    file = saved(tmp_path) / name
    file.write_bytes(b'{"version": "1.0", "model": 7}' if name.endswith("json") else file.read_bytes()[:100])
    with pytest.raises(UnreadableSource, match="can be loaded from here"):
        load(tmp_path)
