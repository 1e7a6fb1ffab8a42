"""The trainer inside verl: its own steps around ours, with verl's real store (TransferQueue) on a local Ray.

What is not verl's here is the GPU workers: a policy of a few numbers stands for them, updated by verl's own mini-batch
iterator and loss driver, cut into ranks as verl's dispatch cuts.
"""

import os
import types

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("verl", reason="needs verl in a venv of its own: `make test-verl`")
tq = pytest.importorskip("transfer_queue", reason="needs TransferQueue (`make test-verl`)")

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import datasets  # noqa: E402
import numpy as np  # noqa: E402
import ray  # noqa: E402
from hydra import compose, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from transfer_queue import KVBatchMeta  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.utils.config import omega_conf_to_dataclass  # noqa: E402
from verl.utils.transferqueue_utils import _meta_to_realdata  # noqa: E402
from verl.workers.utils.losses import ppo_loss  # noqa: E402

from entlaw.engines.verl import checks, plugin  # noqa: E402
from entlaw.engines.verl.rollout_batch import settings as own_settings  # noqa: E402
from entlaw.engines.verl.trainer import WholeBatchTrainer, mean_accuracy  # noqa: E402
from entlaw.engines.whole_batch import choose_steps, read, step_rows  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.train import measure  # noqa: E402
from entlaw.train.batch import Batch  # noqa: E402
from entlaw.train.choice import choose  # noqa: E402
from entlaw.train.policy import Scores  # noqa: E402
from entlaw.train.randomness import torch_generator  # noqa: E402
from entlaw.train.schema import ClipCov, Controls, KlCov, Loss  # noqa: E402
from entlaw.train.update import objective  # noqa: E402

torch.set_num_threads(1)
PROMPTS, GROUP, T, P, RANKS = 8, 4, 9, 3, 2
B = PROMPTS * GROUP
LR = 30.0
BASE = [
    "trainer.v1.trainer_mode=entlaw_sync",
    "actor_rollout_ref.rollout.name=vllm",
    f"actor_rollout_ref.rollout.n={GROUP}",
    f"data.train_batch_size={PROMPTS}",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
    "algorithm.adv_estimator=entlaw_grpo",
    "actor_rollout_ref.actor.policy_loss.clip_cov_ratio=0.1",
    "actor_rollout_ref.actor.policy_loss.clip_cov_lb=0.01",
    "actor_rollout_ref.actor.policy_loss.kl_cov_ratio=0.1",
    "actor_rollout_ref.actor.policy_loss.ppo_kl_coef=0.7",
    "actor_rollout_ref.actor.clip_ratio_c=0.0",
    "critic.enable=false",
    "+trainer.v1.entlaw.seed=11",
]
LOSS = Loss(kind="ppo_clip")
CASES = {
    "clip_cov": ("entlaw_clip_cov", LOSS, Controls(clip_cov=ClipCov(0.1, 0.01, 5.0))),
    "kl_cov": (
        "entlaw_policy_gradient_kl_cov_k2",
        Loss(kind="policy_gradient"),
        Controls(kl_cov=KlCov(0.1, 0.7, "k2")),
    ),
}


def config(*extra):
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [*BASE, *extra])


@pytest.fixture(scope="module", autouse=True)
def store():
    """verl's store on a Ray of this machine."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    c = config()
    c.transfer_queue.backend.SimpleStorage.num_data_storage_units = 1
    tq.init(c.transfer_queue)
    yield
    tq.close()
    ray.shutdown()


def responses(seed=0):
    """A rollout: two prompts with one reward for all, the others mixed."""
    g = torch.Generator().manual_seed(seed)
    length = torch.randint(2, T + 1, (B,), generator=g)
    score = torch.randint(0, 2, (B,), generator=g).float()
    score[:GROUP], score[GROUP : 2 * GROUP] = 1.0, 0.0
    score[2 * GROUP :: GROUP], score[2 * GROUP + 1 :: GROUP] = 1.0, 0.0
    tokens = torch.randint(0, 40, (B, T), generator=g)
    return length, score, tokens


class Policy:
    """One logit a vocabulary entry and place: what the GPU workers hold."""

    def __init__(self):
        self.table = torch.randn(T, 40, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def log_prob(self, tokens_BT):
        return torch.log_softmax(self.table[: tokens_BT.shape[1]], -1)[
            torch.arange(tokens_BT.shape[1]), tokens_BT
        ]


class Workers:
    """What the trainer asks of its actors, by verl's own pieces: dispatch, mini-batches, loss driver, store."""

    def __init__(self, policy, actor, tokens, lr=LR):
        self._dispatch_info = {"actor": list(range(RANKS))}
        self.policy, self.actor, self.tokens, self.lr = policy, actor, tokens, lr
        self.updates, self.scored = [], 0

    def _rows(self, batch):
        return [int(key.split("_")[1]) for key in batch.keys]

    def compute_log_prob(self, batch):
        self.scored += 1
        rows = self._rows(batch)
        length = torch.tensor([tag["response_len"] for tag in batch.tags])
        with torch.no_grad():
            log_prob = self.policy.log_prob(self.tokens[rows])
        full = [
            torch.cat([torch.zeros(P - 1), row[:n], torch.zeros(1)])
            for row, n in zip(log_prob, length.tolist(), strict=True)
        ]
        entropy = [torch.rand(P + n, generator=torch.Generator().manual_seed(n)) for n in length.tolist()]
        fields = {
            name: torch.nested.as_nested_tensor(t, layout=torch.jagged)
            for name, t in (("log_probs", full), ("entropy", entropy))
        }
        tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(rows))
        )
        return batch

    def update_actor(self, batch):
        mini, size = batch.extra_info["mini_batch_size"] // RANKS, self.actor.ppo_micro_batch_size_per_gpu
        # As verl's dispatch: runs of rows, one a rank; then each worker's own iterator.
        ranks = [_meta_to_realdata(part) for part in batch.chunk(RANKS)]
        iterators = [
            tu.make_iterator(
                data,
                mini_batch_size=mini,
                epochs=batch.extra_info["epochs"],
                seed=batch.extra_info["seed"] + rank,
                dataloader_kwargs=batch.extra_info["dataloader_kwargs"],
            )
            for rank, data in enumerate(ranks)
        ]
        for shards in zip(*iterators, strict=True):
            self._step(shards, size)
        return {"metrics": {"actor/pg_loss": [0.0], "mfu": [0.0]}}

    def _step(self, shards, size):
        tokens = int(sum(shard["loss_mask"].values().sum() for shard in shards))
        rows_all = sum(len(shard) for shard in shards)
        total = 0.0
        for shard in shards:
            for start in range(0, len(shard), size):
                part = tu.index_select_tensor_dict(shard, torch.arange(start, start + size))
                rows = part["row"].tolist()
                length = part["responses"].offsets().diff().tolist()
                log_prob = self.policy.log_prob(self.tokens[rows])
                full = torch.cat(
                    [
                        torch.cat([torch.zeros(P - 1), row[:n], torch.zeros(1)])
                        for row, n in zip(log_prob, length, strict=True)
                    ]
                )
                tu.assign_non_tensor(part, dp_size=RANKS, batch_num_tokens=tokens, global_batch_size=rows_all)
                loss, _ = ppo_loss(self.actor, {"log_probs": full}, part)
                total = total + loss / RANKS
        self.policy.table.grad = None
        total.backward()
        gradient = self.policy.table.grad.clone()
        with torch.no_grad():
            self.policy.table -= self.lr * gradient
        self.updates.append((float(total.detach()), gradient))


def trainer(case, *extra, seed=0):
    """verl's trainer class with ours on top, as far as a step without GPUs needs it."""
    name, _, _ = CASES[case]
    c = config(f"actor_rollout_ref.actor.policy_loss.loss_mode={name}", *extra)
    t = object.__new__(WholeBatchTrainer)
    t._build_replay_buffer = lambda: None
    WholeBatchTrainer.__init__(t, c)
    assert t.trainer_mode == "sync", "verl treats every other name as asynchronous"
    length, score, tokens = responses(seed)
    policy = Policy()
    t.actor_rollout_wg = Workers(policy, omega_conf_to_dataclass(c.actor_rollout_ref.actor), tokens)
    t.global_steps, t.local_trigger_step, t.distillation_config = 3, 0, None
    t.tokenizer = types.SimpleNamespace(eos_token_id=1)
    keys = [f"prompt{i // GROUP}_{i}_0" for i in range(B)]
    jagged = lambda rows: torch.nested.as_nested_tensor(rows, layout=torch.jagged)  # noqa: E731
    ends = [
        torch.zeros(n).index_fill(0, torch.tensor([n - 1]), 1.0) * s
        for n, s in zip(length.tolist(), score, strict=True)
    ]
    masks = [torch.ones(n, dtype=torch.int64) for n in length.tolist()]
    fields = TensorDict(
        {
            "responses": jagged([tokens[i, :n] for i, n in enumerate(length.tolist())]),
            "prompts": jagged([torch.zeros(P, dtype=torch.int64)] * B),
            "response_mask": jagged(masks),
            "loss_mask": jagged(masks),
            "rm_scores": jagged(ends),
            "rollout_log_probs": jagged([torch.zeros(n) for n in length.tolist()]),
            "row": torch.arange(B),
        },
        batch_size=B,
    )
    for name_, values in (
        ("uid", [k.split("_")[0] for k in keys]),
        ("data_source", ["gsm8k" if i // GROUP % 2 else "svamp" for i in range(B)]),
    ):
        tu.assign_non_tensor_stack(fields, name_, values)
    tags = [{"seq_len": P + n, "response_len": n, "prompt_len": P} for n in length.tolist()]
    partition = f"train-{case}-{len(extra)}-{seed}-{np.random.default_rng().integers(1 << 40)}"
    tq.kv_batch_put(keys=keys, partition_id=partition, fields=fields, tags=tags)
    return t, KVBatchMeta(keys=keys, tags=tags, partition_id=partition, extra_info={"temperature": 1.0})


def step(t, meta):
    """verl's order of things (``_step_once``, from the log-probs on)."""
    metrics = {}
    order = list(range(0, B, 2)) + list(range(1, B, 2))  # as balancing over ranks would
    meta.reorder(order)
    meta = t._compute_old_log_prob(meta, metrics=metrics)
    meta = t._compute_advantage(meta, metrics=metrics)
    t._update_actor(meta, metrics=metrics)
    return metrics, order


def expected(case, order, *, current, epochs=1, drop=False, seed=0):
    """The same updates by our own trainer's functions."""
    _, loss, controls = CASES[case]
    length, score, tokens = responses(seed)
    policy = Policy()
    mask = (torch.arange(T) < length[:, None]).float()
    group = torch.arange(B) // GROUP
    if drop:
        mask[: 2 * GROUP] = 0
    centred = score - score.view(-1, GROUP).mean(1).repeat_interleave(GROUP)
    advantages = (centred / (score.view(-1, GROUP).std(1).repeat_interleave(GROUP) + 1e-6))[:, None] * mask
    none = torch.zeros(B, 1, dtype=torch.int64)
    with torch.no_grad():
        old = policy.log_prob(tokens) * (torch.arange(T) < length[:, None])
    whole = Batch(
        none,
        none > 0,
        tokens,
        mask,
        length > 0,
        group,
        correct_B=score,
        reward_B=score,
        log_prob_BT=old,
        entropy_BT=torch.zeros_like(mask),
        advantages_BT=advantages,
    ).rows(torch.tensor(order))
    generator = torch_generator(11, "selection", 3, 0)
    steps = step_rows(B, RANKS, 2 * GROUP)
    updates = []
    for epoch in range(epochs):
        for number, rows in enumerate(steps):
            part = whole.rows(rows)
            first = epoch == 0 and number == 0
            valid = part.mask_BT
            log_prob = policy.log_prob(part.response_BT)
            choice = choose(
                log_prob.detach() if current else part.log_prob_BT, part, loss, controls, generator
            )
            if first and choice.get("kl_cov") is not None:
                choice = choice.map(torch.zeros_like)
            result, _ = objective(
                Scores(log_prob, log_prob.detach(), log_prob.detach()),
                part,
                choice,
                loss,
                controls,
                entropy_coeff=0.0,
                tokens=float(valid.sum()),
                responses=float(len(rows)),
                norm_length=1.0,
                on_policy=first,
            )
            policy.table.grad = None
            result.backward()
            gradient = policy.table.grad.clone()
            with torch.no_grad():
                policy.table -= LR * gradient
            updates.append((float(result.detach()), gradient))
    return updates, whole


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("choose_from", ["old", "current"])
def test_a_step_of_verls_trainer_is_a_step_of_ours(case, micro, choose_from):
    """Every optimiser step: loss and gradient, through store, dispatch, mini-batches and verl's loss driver."""
    size = f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={micro}"
    epochs = 2 if choose_from == "current" else 1
    t, meta = trainer(
        case,
        size,
        f"+trainer.v1.entlaw.choose_from={choose_from}",
        f"actor_rollout_ref.actor.ppo_epochs={epochs}",
    )
    metrics, order = step(t, meta)
    want, whole = expected(case, order, current=choose_from == "current", epochs=epochs)
    got = t.actor_rollout_wg.updates
    assert len(got) == len(want) == 4 * epochs
    for (loss, gradient), (our_loss, our_gradient) in zip(got, want, strict=True):
        assert loss == pytest.approx(our_loss, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(gradient, our_gradient, rtol=1e-4, atol=1e-7)
    assert t.actor_rollout_wg.scored == (1 if choose_from == "old" else 4 * epochs)
    key = "clip_cov/effective_ratio" if case == "clip_cov" else "kl_cov/effective_ratio"
    assert 0 < metrics[key] <= 0.12
    record = measure.update_record(whole, [""] * B, (0.02, 0.2))
    for name in ("cov/mean", "cov/top_0.02", "cov/group", "cov/group_probability"):
        assert metrics[name] == pytest.approx(record[name], rel=1e-4, abs=1e-7), name
    assert {"actor/entropy", "actor/entropy_kept", "cov/level_gsm8k", "cov/accuracy_1", "reward/mean"} <= set(
        metrics
    )


def test_the_two_ways_to_choose_differ_so_the_comparison_can_fail():
    order = list(range(B))
    old, _ = expected("clip_cov", order, current=False)
    current, _ = expected("clip_cov", order, current=True)
    assert torch.equal(old[0][1], current[0][1]) and not torch.allclose(old[3][1], current[3][1], atol=1e-5)


def test_prompts_of_one_reward_are_masked_and_entropy_is_of_all():
    t, meta = trainer("clip_cov", "+trainer.v1.entlaw.drop_uniform_groups=true")
    metrics, order = step(t, meta)
    want, whole = expected("clip_cov", order, current=False, drop=True)
    for (loss, gradient), (our_loss, our_gradient) in zip(t.actor_rollout_wg.updates, want, strict=True):
        assert loss == pytest.approx(our_loss, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(gradient, our_gradient, rtol=1e-4, atol=1e-7)
    assert metrics["train/groups_dropped_share"] == 2 / PROMPTS
    _, score, _ = responses()
    assert metrics["reward/mean"] == pytest.approx(float(score.mean()))
    assert metrics["cov/mean"] == pytest.approx(
        measure.update_record(whole.rows((whole.mask_BT.sum(1) > 0).nonzero()[:, 0]), [""] * B, ())[
            "cov/mean"
        ],
        rel=1e-4,
    )
    assert "cov/accuracy_1" not in metrics and "cov/accuracy_0" not in metrics


def test_nothing_to_learn_is_skipped_not_nan():
    t, meta = trainer("kl_cov", "+trainer.v1.entlaw.drop_uniform_groups=true")
    length, _, _ = responses()
    zero = torch.nested.as_nested_tensor([torch.zeros(n) for n in length.tolist()], layout=torch.jagged)
    tq.kv_batch_put(
        keys=meta.keys, partition_id=meta.partition_id, fields=TensorDict({"rm_scores": zero}, batch_size=B)
    )
    metrics, _ = step(t, meta)
    assert metrics["actor/skipped"] == 1.0 and t.actor_rollout_wg.updates == []


def test_the_choice_reaches_the_workers_as_signs():
    t, meta = trainer("kl_cov")
    step(t, meta)
    data = _meta_to_realdata(meta)
    weight, chosen = read(data["rollout_is_weights"].values())
    assert torch.equal(weight, torch.ones_like(weight)) and int(chosen.sum()) > 0


def test_settings_that_cannot_work_are_refused():
    actor = config().actor_rollout_ref.actor
    with pytest.raises(UsageError, match="has no colour"):
        own_settings(actor, {"colour": 1})
    with pytest.raises(UsageError, match="choose_from"):
        own_settings(actor, {"choose_from": "new"})
    with pytest.raises(UsageError, match="high-entropy"):
        own_settings(actor, {"high_entropy_share": 0.2})
    actor.policy_loss.loss_mode, actor.shuffle = "entlaw_clip_cov", True
    with pytest.raises(UsageError, match="shuffle"):
        own_settings(actor, {})
    with pytest.raises(UsageError, match="bypass"):
        c = config("algorithm.rollout_correction.bypass_mode=true")
        WholeBatchTrainer(c)


def test_validation_accuracy_is_over_problems_not_over_sets():
    frame = datasets.Dataset.from_dict({"data_source": ["a", "a", "a", "b"]})
    metrics = {"val-core/a/acc/mean@1": 0.5, "val-core/b/acc/mean@1": 1.0, "val-core/b/acc/best@1": 0.1}
    assert mean_accuracy(metrics, frame) == pytest.approx(0.625)
    del metrics["val-core/b/acc/mean@1"]
    assert mean_accuracy(metrics, frame) is None and mean_accuracy(metrics, None) is None


def test_known_in_the_driver_and_in_a_ray_worker():
    found = [checks.driver(), *checks.workers(None)]
    assert len(found) == 2 and found[0]["pid"] != found[1]["pid"]
    for told in found:
        assert told["missing"] == [] and told["trainers"] == ["entlaw_sync"] and len(told["losses"]) == 26
    assert plugin.registered()["failures"] == {}


def test_a_worker_without_the_plug_in_is_told(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    with pytest.raises(Exception, match="did not load entlaw's plug-in"):
        checks.driver()


def test_own_settings_are_plain(recwarn):
    c = config("+trainer.v1.entlaw.shares=[0.5]", "actor_rollout_ref.actor.policy_loss.loss_mode=vanilla")
    found = own_settings(c.actor_rollout_ref.actor, OmegaConf.to_container(c.trainer.v1.entlaw))
    assert found.name is None and not found.chooses and found.shares == (0.5,) and found.seed == 11


def test_choose_steps_draws_anew_for_every_step():
    _, whole = expected("clip_cov", list(range(B)), current=False)
    steps = step_rows(B, RANKS, 2 * GROUP)
    carried, _ = choose_steps(
        whole, steps, LOSS, CASES["clip_cov"][2], torch_generator(11, "selection", 3, 0)
    )
    again, _ = choose_steps(whole, steps, LOSS, CASES["clip_cov"][2], torch_generator(11, "selection", 4, 0))
    assert not torch.equal(carried, again)
