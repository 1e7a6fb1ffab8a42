"""TRL's real trainer with whole-step Clip-Cov and KL-Cov, on a tiny model."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("trl", reason="needs the dev extra (trl)")

from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import WhitespaceSplit  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from entlaw.engines.trl import CovGRPOTrainer  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.train.choice import TokenChoice, choose  # noqa: E402
from entlaw.train.policy import Scores  # noqa: E402
from entlaw.train.randomness import torch_generator  # noqa: E402
from entlaw.train.schema import ClipCov, Controls, KlCov, Loss  # noqa: E402
from entlaw.train.update import objective  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # what TRL and transformers warn of is theirs
torch.set_num_threads(1)
WORDS = 24
CLIP = Controls(clip_cov=ClipCov(ratio=0.05, lower=1e-4, upper=5.0))
KL = Controls(kl_cov=KlCov(ratio=0.1, coef=0.7, penalty="k2"))


def reward(completions, **kwargs):
    """A count of one word: the policy can learn to say it, and groups differ."""
    return [float(text.split().count("w5")) for text in completions]


def trainer(
    kind=CovGRPOTrainer, *, micro=8, steps=1, callbacks=None, seed=0, lr=1e-2, folder, options=(), **kwargs
):
    """A trainer of a Llama with two layers: 8 responses an optimiser step, however many a micro-batch."""
    torch.manual_seed(3)
    words = {"<pad>": 0, "<eos>": 1} | {f"w{i}": i + 2 for i in range(WORDS)}
    raw = Tokenizer(WordLevel(words, unk_token="<pad>"))
    raw.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            initializer_range=0.5,
        )
    )
    settings = {
        "loss_type": "dapo",
        "beta": 0.0,
        "num_generations": 4,
        "max_completion_length": 7,
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": 8 // micro,
        "logging_steps": 1,
        "learning_rate": lr,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "use_cpu": True,
        "seed": seed,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "output_dir": str(folder),
        "gradient_checkpointing": False,
        "bf16": False,
        "shuffle_dataset": False,
    } | dict(options)
    prompts = [f"w{i} w{(7 * i) % WORDS} w{(3 * i) % WORDS}" for i in range(16)]
    return kind(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(**settings),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        callbacks=callbacks,
        **kwargs,
    )


def weights(t):
    return torch.cat([p.detach().flatten() for p in t.model.parameters()])


class Watched(CovGRPOTrainer):
    """Keeps what each optimiser step chose, by the response's tokens."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps, self.losses, self.parts = [], [], []

    def _choose(self, parts):
        super()._choose(parts)
        chosen = {}
        for part in parts:
            choice = part["entlaw_chosen"]
            tokens = next(iter(choice.tokens.values()))
            for ids, mask, row in zip(part["completion_ids"], part["completion_mask"], tokens, strict=True):
                n = int(mask.sum())
                key = tuple(ids[:n].tolist())
                chosen.setdefault(key, []).append(tuple(row[:n].tolist()))
        self.steps.append({key: sorted(rows) for key, rows in chosen.items()})

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        self.losses.append(float(loss.detach()))
        self.parts.append(inputs)
        return loss


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("controls", [CLIP, KL], ids=["clip_cov", "kl_cov"])
def test_choice_gradient_and_log_do_not_depend_on_the_micro_batch(controls, tmp_path):
    """Two updates a generation, so that the second is off policy and KL-Cov acts."""
    seen = {}
    for micro in (8, 4, 2):
        options = {"steps_per_generation": 2 * 8 // micro}
        t = trainer(
            Watched, micro=micro, steps=2, folder=tmp_path / str(micro), options=options, controls=controls
        )
        t.train()
        assert len(t.steps) == 2
        key = "clip_cov/effective_ratio" if controls is CLIP else "kl_cov/effective_ratio"
        seen[micro] = t.steps, weights(t), [row for row in t.state.log_history if key in row], key
    steps, after, rows, key = seen[8]
    marked = [sum(sum(map(sum, rows)) for rows in step.values()) for step in steps]
    assert marked[1] > 0 and (marked[0] > 0) == (controls is CLIP), "KL-Cov has nothing to pull on policy"
    for micro in (4, 2):
        assert seen[micro][0] == steps
        torch.testing.assert_close(seen[micro][1], after, rtol=1e-4, atol=1e-5)
        for one, other in zip(seen[micro][2], rows, strict=True):
            for name in (key, "cov/mean", "cov/top_0.02"):
                assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-7), name


def test_without_controls_it_is_trls_trainer(tmp_path):
    plain = trainer(GRPOTrainer, steps=3, micro=4, folder=tmp_path / "a")
    ours = trainer(CovGRPOTrainer, steps=3, micro=4, folder=tmp_path / "b")
    for t in (plain, ours):
        torch.manual_seed(9)  # responses are sampled from the global generator
        t.train()
    assert torch.equal(weights(plain), weights(ours))
    one, other = plain.state.log_history, ours.state.log_history
    for a, b in zip(one[:3], other[:3], strict=True):
        assert a["loss"] == b["loss"] and a["grad_norm"] == b["grad_norm"]
        assert "cov/mean" in b and "cov/mean" not in a


def by_hand(rows=slice(0, 8)):
    """Eight responses of all lengths as TRL's trainer holds them, or some of them, as wide as the longest."""
    g = torch.Generator().manual_seed(1)
    length = torch.tensor([7, 5, 6, 2, 4, 1, 4, 3])
    mask = (torch.arange(7) < length[:, None]).long()
    ids = torch.randint(2, WORDS, (8, 7), generator=g) * mask
    prompt = torch.randint(2, WORDS, (8, 3), generator=g)
    advantages, width = torch.randn(8, generator=g), int(length[rows].max())
    return {
        "prompt_ids": prompt[rows],
        "prompt_mask": torch.ones_like(prompt[rows]),
        "advantages": advantages[rows],
        "completion_ids": ids[rows, :width],
        "completion_mask": mask[rows, :width],
        "num_items_in_batch": mask.sum(),
    }


@pytest.mark.parametrize("controls", [CLIP, KL], ids=["clip_cov", "kl_cov"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "bnpo"])
def test_the_loss_is_that_of_our_own_trainer(controls, loss_type, tmp_path):
    """The same tokens, log-probs, advantages through entlaw.train.update: value and gradient."""
    t = trainer(Watched, folder=tmp_path, options={"loss_type": loss_type}, controls=controls)
    t.current_gradient_accumulation_steps = 1
    t.num_iterations, t._step = 2, 1  # the second update on a generation
    part = by_hand()
    ids, prompt, mask = part["completion_ids"], part["prompt_ids"], part["completion_mask"]
    g = torch.Generator().manual_seed(2)
    current = t._log_prob(part)
    part["old_per_token_logps"] = current + 0.3 * torch.randn(8, 7, generator=g)
    t.model.train()
    t._choose([part])
    given = t._as_batch(part, current)
    names = {
        "dapo": "token-mean",
        "bnpo": "token-mean",
        "grpo": "seq-mean-token-mean",
        "dr_grpo": "seq-mean-token-sum-norm",
    }
    loss = Loss(aggregation=names[loss_type])
    expected_choice = choose(current, given, loss, controls, torch_generator(0, "selection", 0))
    tokens = expected_choice["clip_cov" if controls is CLIP else "kl_cov"]
    assert 0 < int(tokens.sum()) < int(mask.sum())
    theirs = t._compute_loss(t.model, part)
    theirs.backward()
    got = {name: p.grad.clone() for name, p in t.model.named_parameters()}
    t.model.zero_grad()
    leaf, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        t, t.model, torch.cat([prompt, ids], 1), torch.cat([torch.ones_like(prompt), mask], 1), 7
    )
    ours, _ = objective(
        Scores(leaf, leaf.detach(), leaf.detach()),
        given,
        expected_choice,
        loss,
        controls,
        entropy_coeff=0.0,
        tokens=float(mask.sum()),
        responses=8.0,
        norm_length=7.0,
    )
    ours.backward()
    assert float(theirs.detach()) == pytest.approx(float(ours.detach()), rel=1e-5, abs=1e-6)
    for name, p in t.model.named_parameters():
        torch.testing.assert_close(got[name], p.grad, rtol=2e-4, atol=1e-6)
    plain, _ = objective(
        Scores(leaf.detach(), leaf.detach(), leaf.detach()),
        given,
        TokenChoice(),
        loss,
        Controls(),
        entropy_coeff=0.0,
        tokens=float(mask.sum()),
        responses=8.0,
        norm_length=7.0,
    )
    if controls is KL:
        assert abs(float(plain) - float(theirs.detach())) > 1e-4, "the penalty counts"


@pytest.mark.parametrize(
    "controls, options, says",
    [
        (Controls(entropy_coeff=0.1), {}, "entropy_coef"),
        (CLIP, {"loss_type": "cispo"}, "loss_type"),
        (CLIP, {"importance_sampling_level": "sequence"}, "token"),
        (KL, {"steps_per_generation": 1}, "multiple"),
    ],
)
def test_what_cannot_be_is_said(controls, options, says, tmp_path):
    with pytest.raises(UsageError) as caught:
        trainer(micro=4, folder=tmp_path, controls=controls, options=options)
    assert says in str(caught.value)
