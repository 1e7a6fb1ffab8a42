"""The real vLLM, on a CPU, with a small model: its responses and log-probs are the policy's, before and after updates.

Runs where vLLM is installed: `make test-vllm`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from entlaw.errors import EntlawError, UnreadableSource
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import policy as policies
from entlaw.train.failure import TrainingFailed
from entlaw.train.policy import LanguageModel, device_of, load, save
from entlaw.train.rollout import Sampling, core_settings
from entlaw.train.rollout.hf import HFEngine, encode
from entlaw.train.schema import Policy, Recipe, Rollout, Vllm

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vLLM is not installed here: `make test-vllm` runs these in an environment that has it",
    ),
    # Its own imports warn of much.
    pytest.mark.filterwarnings("default"),
]

ROOT = Path(__file__).parents[2]
PROMPTS = [p.prompt for p in Arithmetic().training(0, 0, 6)]


def small(seed: int = 0, tied: bool = True) -> LanguageModel:
    """A Llama that vLLM's CPU kernels can run (heads of 32), over the ladder's characters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from entlaw.train.ladder import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return policies.wrap(LlamaForCausalLM(config), tokenizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    save(small(), where)
    return where


@pytest.fixture(scope="module")
def policy(folder):
    return load(folder, Policy(), device_of("cpu"))


def settings_of(policy, folder, **changes):
    rollout, vllm = Rollout(max_tokens=16), Vllm(kv_cache_gb=1, max_sequences=64)
    return replace(core_settings(vllm, Policy(), rollout, policy, str(folder), 0), **changes)


@pytest.fixture(scope="module")
def engine(policy, folder):
    from entlaw.train.rollout.vllm import in_process

    made = in_process(policy, settings_of(policy, folder), False)
    yield made
    made.close()


@pytest.fixture
def restored(policy, engine):
    """Weights as they were, in both places."""
    before = {k: v.clone() for k, v in policy.model.state_dict().items()}
    yield
    policy.model.load_state_dict(before)
    engine.sync()


def own_log_prob(policy, batch, temperature=1.0):
    with torch.no_grad():
        return policy.score(batch, temperature).log_prob_BT


def gap(policy, batch, temperature=1.0):
    valid = batch.mask_BT > 0
    return float((own_log_prob(policy, batch, temperature) - batch.rollout_log_prob_BT)[valid].abs().max())


def test_greedy_is_the_policys_greedy(policy, engine):
    ours = HFEngine(policy).generate(PROMPTS, Sampling(1, 12, 0.0), [0])
    theirs = engine.generate(PROMPTS, Sampling(1, 12, 0.0), [0])
    assert torch.equal(ours.response_BT, theirs.response_BT)
    assert torch.equal(ours.mask_BT, theirs.mask_BT)
    assert torch.equal(ours.finished_B, theirs.finished_B)
    assert torch.equal(ours.prompt_BP, theirs.prompt_BP)
    assert torch.equal(ours.group_B, theirs.group_B)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_log_probs_are_of_the_distribution_that_was_drawn_from(policy, engine, temperature):
    batch = engine.generate(PROMPTS, Sampling(8, 12, temperature), [1])
    assert gap(policy, batch, temperature) < 1e-4
    if temperature != 1:
        assert gap(policy, batch, 1.0) > 0.05


@pytest.mark.parametrize(("top_p", "top_k"), [(0.7, 0), (1.0, 3)])
def test_truncated_sampling_renormalises(policy, engine, top_p, top_k):
    batch = engine.generate(PROMPTS, Sampling(8, 1, 1.0, top_p, top_k), [2])
    ids, mask = encode(policy, PROMPTS)
    with torch.no_grad():
        logits = policy.model(
            ids, attention_mask=mask.long(), position_ids=policies.position_ids(mask)
        ).logits
    p_BV = logits[:, -1].double().softmax(-1).repeat_interleave(8, 0)
    ordered, index = p_BV.sort(descending=True)
    keep = (ordered.cumsum(-1) - ordered) < top_p if top_p < 1 else torch.arange(p_BV.shape[1]) < top_k
    kept = torch.zeros_like(p_BV).scatter(1, index, ordered * keep)
    expected = (kept / kept.sum(-1, keepdim=True)).gather(1, batch.response_BT).log()
    assert torch.allclose(expected[:, 0], batch.rollout_log_prob_BT[:, 0].double(), atol=1e-4)


def test_draws_have_the_models_probabilities(policy, engine):
    n = 4000
    batch = engine.generate(PROMPTS[:1], Sampling(n, 1), [3])
    ids, mask = encode(policy, PROMPTS[:1])
    with torch.no_grad():
        p = policy.model(ids, attention_mask=mask.long()).logits[0, -1].double().softmax(-1).numpy()
    counts = np.bincount(batch.response_BT[:, 0].numpy(), minlength=len(p))
    likely = p * n > 5
    observed = [*counts[likely], counts[~likely].sum()]
    expected = np.array([*p[likely], p[~likely].sum()]) * n
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_seeds_and_batching(engine):
    one, two, other = (engine.generate(PROMPTS, Sampling(4, 8), [s]) for s in (1, 1, 2))
    assert torch.equal(one.response_BT, two.response_BT)
    assert not torch.equal(one.response_BT[:, 0], other.response_BT[:, 0])
    cut = engine.generate(PROMPTS, Sampling(4, 8, batch=8), [1])
    width = min(one.response_BT.shape[1], cut.response_BT.shape[1])
    assert torch.equal(one.response_BT[:, :width], cut.response_BT[:, :width])
    groups = one.response_BT.reshape(len(PROMPTS), 4, -1)
    assert all(len(torch.unique(g, dim=0)) > 1 for g in groups), "responses of a group are drawn apart"


def test_rows_end_where_they_end(policy, engine):
    batch = engine.generate(PROMPTS, Sampling(16, 9), [4])
    assert batch.group_B.tolist() == [i for i in range(6) for _ in range(16)]
    for row, mask, finished in zip(batch.response_BT, batch.mask_BT, batch.finished_B, strict=True):
        n = int(mask.sum())
        tokens = row[:n].tolist()
        assert all(t not in policy.stop_ids for t in tokens[:-1])
        assert bool(finished) == (tokens[-1] in policy.stop_ids)
        assert bool(finished) or n == 9
    assert batch.finished_B.any() and not batch.finished_B.all()


def test_after_an_update_it_samples_from_the_new_weights(policy, engine, restored):
    before = engine.generate(PROMPTS, Sampling(4, 8), [5])
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    stale = engine.generate(PROMPTS, Sampling(4, 8), [5])
    assert torch.equal(before.response_BT, stale.response_BT)
    assert gap(policy, stale) > 0.1
    engine.sync()
    # The same prompts: keys and values cached for the old weights must not be used.
    assert gap(policy, engine.generate(PROMPTS, Sampling(4, 8), [5])) < 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_weights_as_a_file_are_the_same_weights(tmp_path, tied):
    from safetensors.torch import load_file

    from entlaw.train.rollout.vllm import write_weights

    lm = small(7, tied)
    kept = load_file(f"{write_weights(lm, torch.bfloat16, tmp_path)}/model.safetensors")
    state = lm.model.state_dict()
    assert set(kept) == set(state)
    assert all(torch.equal(kept[name], state[name].to(torch.bfloat16)) for name in kept)


@pytest.fixture(scope="module")
def remote(policy, folder):
    from entlaw.train.rollout.vllm_process import own_process

    made = own_process(policy, settings_of(policy, folder), Vllm(sync="file"))
    yield made
    made.close()


class TestInItsOwnProcess:
    def test_it_samples_what_the_one_in_process_samples(self, engine, remote):
        here = engine.generate(PROMPTS, Sampling(4, 8), [6])
        there = remote.generate(PROMPTS, Sampling(4, 8), [6])
        assert torch.equal(here.response_BT, there.response_BT)
        assert torch.allclose(here.rollout_log_prob_BT, there.rollout_log_prob_BT, atol=1e-5)

    def test_weights_reach_it(self, policy, engine, remote, restored):
        with torch.no_grad():
            for p in policy.model.parameters():
                p.mul_(1.2)
        assert gap(policy, remote.generate(PROMPTS, Sampling(4, 8), [7])) > 0.01
        remote.sync()
        assert gap(policy, remote.generate(PROMPTS, Sampling(4, 8), [7])) < 1e-4

    def test_killed_in_the_middle_it_comes_back_with_the_present_weights(self, policy, remote, restored):
        with torch.no_grad():
            for p in policy.model.parameters():
                p.mul_(0.9)
        remote.sync()
        calm = remote.generate(PROMPTS, Sampling(8, 16), [8])
        first = remote.core.pid
        killer = threading.Timer(0.05, os.kill, (first, signal.SIGKILL))
        killer.start()
        disturbed = remote.generate(PROMPTS * 40, Sampling(8, 16), [8])
        killer.join()
        again = remote.generate(PROMPTS, Sampling(8, 16), [8])
        assert remote.core.pid != first
        assert len(disturbed) == 40 * 6 * 8
        assert torch.equal(again.response_BT, calm.response_BT)
        assert gap(policy, again) < 1e-4

    def test_killed_between_rollouts_it_comes_back_at_the_next_update(self, policy, remote, restored):
        remote.core.restarts = 0
        os.kill(remote.core.pid, signal.SIGKILL)
        with torch.no_grad():
            for p in policy.model.parameters():
                p.mul_(1.1)
        remote.sync()
        assert gap(policy, remote.generate(PROMPTS, Sampling(4, 8), [8])) < 1e-4

    def test_killed_again_and_again_it_gives_up(self, remote):
        core = remote.core
        core.restarts = 2
        os.kill(core.pid, signal.SIGKILL)
        with pytest.raises(TrainingFailed, match="died 3 times") as caught:
            remote.generate(PROMPTS, Sampling(2, 4), [9])
        assert "signal 9" in caught.value.why


def test_a_model_it_cannot_run_is_an_error_for_people(policy, tmp_path):
    from entlaw.train.rollout.vllm_process import RemoteCore

    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["Nobody"]}')
    with pytest.raises((UnreadableSource, EntlawError)) as caught:
        RemoteCore(settings_of(policy, tmp_path))
    assert caught.value.what and caught.value.hint


def run(folder, model, steps, resume=False):
    from entlaw.train.runner import train

    recipe = Recipe()
    recipe = replace(
        recipe,
        run=replace(recipe.run, steps=steps, name="r"),
        policy=replace(recipe.policy, path=str(model)),
        rollout=replace(recipe.rollout, engine="vllm", prompts=4, group_size=4, max_tokens=6),
        vllm=Vllm(max_sequences=32),
        loss=replace(recipe.loss, mini_batches=2, rollout_correction="token"),
        optimizer=replace(recipe.optimizer, lr=1e-3),
        algorithm=replace(recipe.algorithm, filter_groups=False),
        task=replace(recipe.task, operations=(1, 2)),
        validation=replace(recipe.validation, every=2, problems=8),
    )
    train(recipe, folder, resume=resume)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_and_the_same_run_stopped_and_gone_on_with(tmp_path, folder):
    whole = run(tmp_path / "a", folder, 4)
    run(tmp_path / "b", folder, 2)
    resumed = run(tmp_path / "b", folder, 4, resume=True)
    timeless = [
        [{k: v for k, v in r.items() if not k.startswith(("time/", "perf/"))} for r in records]
        for records in (whole, resumed)
    ]
    by_step = {r["step"]: r for r in timeless[1]}
    assert all(by_step[r["step"]] == r for r in timeless[0] if r["step"] in (1, 2, 3, 4))
    for record in whole:
        if "rollout/kl" in record and record["step"] < 5:
            assert record["rollout/log_prob_difference"] < 1e-3
            assert record["rollout/weight_mean"] == pytest.approx(1, abs=1e-2)
    assert whole[-2]["actor/entropy"] != whole[1]["actor/entropy"]


def test_two_ranks_sample_what_one_samples(tmp_path, folder):
    """Under torchrun, with the weights spread over the ranks and an engine on each."""
    script = """
import pathlib
from tests.vllm.test_vllm_engine import run
run(pathlib.Path(sys.argv[1]), sys.argv[2], 2)
"""
    for ranks in (1, 2):
        launcher = (
            ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29743"]
            if ranks == 2
            else []
        )
        (tmp_path / "go.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}")
        done = subprocess.run(
            [sys.executable, *launcher, str(tmp_path / "go.py"), str(tmp_path / str(ranks)), str(folder)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        [json.loads(line) for line in (tmp_path / str(ranks) / "metrics.jsonl").read_text().splitlines()]
        for ranks in (1, 2)
    )
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        # Extremes of rounding errors are rounding errors.
        keys = [k for k in a if not k.startswith(("time/", "perf/", "rollout/"))]
        assert {k: b[k] for k in keys} == pytest.approx({k: a[k] for k in keys}, rel=1e-3, abs=1e-5)
