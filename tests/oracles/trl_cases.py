"""Our losses, advantages and head against TRL's own trainer, run for real on the CPU.

A ``GRPOTrainer`` is built on a tiny Llama and its ``_compute_loss`` is called with a batch made by hand: prompts padded
on the left, responses of different lengths, old log-probs off policy. Each loss is compared twice:

* through the model, float32: loss and the gradient of every parameter, their head and loss against ours as the trainer
  calls them from a recipe's settings;
* through log-probs and entropies in float64 put in place of the head's: the pure functions alone.

Known differences, on purpose: TRL's groups are divided by std + 1e-4 (ours, as in the reference code, by std + 1e-6);
its reference KL is multiplied by the ratio unless ``use_bias_correction_kl=False`` (ours is not); its CISPO has an
upper limit only and names the limit itself, where ours names the distance from 1; its RLOO loss takes the product of
the ratios of a response, ours one ratio a token, so they share the gradient on policy only.
"""

from __future__ import annotations

import copy
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from entlaw.dynamics.entropy import token_statistics
from entlaw.train import advantages, controls, losses
from entlaw.train.choice import TokenChoice
from entlaw.train.losses import aggregate
from entlaw.train.policy import Scores
from entlaw.train.schema import Controls, Loss
from entlaw.train.update import objective

from .common import Batch, Comparison, batch, compare, recipe_batch

PEER = "TRL"
VOCABULARY, LENGTH, PROMPT, TEMPERATURE = 64, 12, 5, 0.9
OurLoss = Callable[[Tensor, Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Case:
    """One loss in both houses.

    Attributes
    ----------
    settings : mapping
        Of TRL's ``GRPOConfig``.
    ours : callable
        (log_prob_BT, entropy_BT, batch) to a scalar, from the pure functions.
    loss, controls : Loss, Controls
        The same as a recipe says it.
    """

    settings: Mapping[str, Any]
    ours: OurLoss
    loss: Loss
    controls: Controls = field(default_factory=Controls)


def _ppo(mode: losses.Aggregation, **clip: float) -> OurLoss:
    def loss(log_prob_BT: Tensor, entropy_BT: Tensor, b: Batch) -> Tensor:
        loss_BT, _ = losses.ppo_clip(log_prob_BT, b.old_log_prob_BT, b.advantages_BT, b.mask_BT, **clip)
        return aggregate(loss_BT, b.mask_BT, mode, norm_length=LENGTH)

    return loss


def _gspo(log_prob_BT: Tensor, entropy_BT: Tensor, b: Batch) -> Tensor:
    loss_BT, _ = losses.gspo(log_prob_BT, b.old_log_prob_BT, b.advantages_BT, b.mask_BT, 0.05, 0.08)
    return aggregate(loss_BT, b.mask_BT, "seq-mean-token-mean")


def _cispo(log_prob_BT: Tensor, entropy_BT: Tensor, b: Batch) -> Tensor:
    loss_BT, _ = losses.cispo(log_prob_BT, b.old_log_prob_BT, b.advantages_BT, b.mask_BT, 1.0, 0.3)
    return aggregate(loss_BT, b.mask_BT, "token-mean")


def _reference_kl(log_prob_BT: Tensor, entropy_BT: Tensor, b: Batch) -> Tensor:
    kl_BT = losses.kl_penalty(log_prob_BT, b.ref_log_prob_BT, "k3")
    return _ppo("seq-mean-token-mean")(log_prob_BT, entropy_BT, b) + 0.3 * aggregate(
        kl_BT, b.mask_BT, "seq-mean-token-mean"
    )


def _entropy_bonus(log_prob_BT: Tensor, entropy_BT: Tensor, b: Batch) -> Tensor:
    bonus = aggregate(entropy_BT, b.mask_BT, "token-mean")
    return _ppo("seq-mean-token-mean")(log_prob_BT, entropy_BT, b) - 0.2 * bonus


_GRPO = Loss(aggregation="seq-mean-token-mean")

CASES: dict[str, Case] = {
    "GRPO": Case({"loss_type": "grpo"}, _ppo("seq-mean-token-mean"), _GRPO),
    "DAPO (token mean, clip-higher)": Case(
        {"loss_type": "dapo", "epsilon_high": 0.28},
        _ppo("token-mean", clip_ratio_high=0.28),
        Loss(clip_ratio_high=0.28),
    ),
    "Dr. GRPO (constant length)": Case(
        {"loss_type": "dr_grpo"}, _ppo("seq-mean-token-sum-norm"), Loss(aggregation="seq-mean-token-sum-norm")
    ),
    "PPO clip, token mean": Case({"loss_type": "bnpo"}, _ppo("token-mean"), Loss()),
    "dual clip (TRL: delta)": Case(
        {"loss_type": "grpo", "delta": 1.5},
        _ppo("seq-mean-token-mean", clip_ratio_c=1.5),
        replace(_GRPO, clip_ratio_c=1.5),
    ),
    "GSPO": Case(
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.08},
        _gspo,
        replace(_GRPO, kind="gspo", clip_ratio_low=0.05, clip_ratio_high=0.08),
    ),
    "CISPO": Case(
        {"loss_type": "cispo", "epsilon_high": 1.3},
        _cispo,
        Loss(kind="cispo", clip_ratio_low=1.0, clip_ratio_high=0.3),
    ),
    "GRPO + reference KL (k3)": Case(
        {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
        _reference_kl,
        _GRPO,
        Controls(kl_coef=0.3, kl_kind="k3"),
    ),
    "GRPO + entropy bonus": Case(
        {"loss_type": "grpo", "entropy_coef": 0.2}, _entropy_bonus, _GRPO, Controls(entropy_coeff=0.2)
    ),
}


class Bench:
    """A tiny model saved to disk, from which a real trainer of TRL's is built for each case."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        words = {"<pad>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")),
            pad_token="<pad>",
            eos_token="<eos>",
        )
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
        self.model = LlamaForCausalLM(config)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        g = torch.Generator().manual_seed(7)
        self.batch = batch(seed=3, length=LENGTH)
        b = len(self.batch.mask_BT)
        self.prompt_BP = torch.randint(2, VOCABULARY, (b, PROMPT), generator=g)
        self.prompt_mask_BP = (torch.arange(PROMPT) >= torch.randint(0, PROMPT, (b, 1), generator=g)).long()
        self.response_BT = torch.randint(2, VOCABULARY, (b, LENGTH), generator=g)

    def trainer(self, rewards: Callable[..., list[float]] | None = None, **settings: Any) -> GRPOTrainer:
        """TRL's trainer with one micro-batch a step, built from the saved model."""
        kind, config = (RLOOTrainer, RLOOConfig) if settings.pop("rloo", False) else (GRPOTrainer, GRPOConfig)
        made = kind(
            model=LlamaForCausalLM.from_pretrained(self.folder, dtype=torch.float32),
            reward_funcs=rewards or (lambda completions, **_: [0.0] * len(completions)),
            args=config(
                output_dir=self.folder,
                per_device_train_batch_size=16,
                num_generations=4,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                max_completion_length=LENGTH,
                temperature=TEMPERATURE,
                **{"epsilon": 0.2, **settings},
            ),
            train_dataset=Dataset.from_dict({"prompt": ["w2 w3"] * 16}),
            processing_class=self.tokenizer,
        )
        made.current_gradient_accumulation_steps = 1  # set by the training loop, which is not run here
        made.model.train()
        return made

    def our_scores(self, model: LlamaForCausalLM) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the responses through our head, [B, T], with gradient."""
        tokens = torch.cat([self.prompt_BP, self.response_BT], 1)
        mask = torch.cat([self.prompt_mask_BP, self.batch.mask_BT.long()], 1)
        hidden = model.model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
        got = token_statistics(
            hidden[:, PROMPT - 1 : -1].flatten(0, 1),
            model.lm_head.weight,
            self.response_BT.flatten(),
            TEMPERATURE,
        )
        return got.log_prob.view(self.response_BT.shape), got.entropy.view(self.response_BT.shape)

    def float32_batch(self) -> Batch:
        """The batch with old and reference log-probs near those of the model, so that ratios are near 1."""
        with torch.no_grad():
            log_prob_BT, _ = self.our_scores(self.model)
        b = self.batch
        shift = {
            name: log_prob_BT + (getattr(b, name) - b.log_prob_BT.detach()).float()
            for name in ("old_log_prob_BT", "ref_log_prob_BT")
        }
        return Batch(
            log_prob_BT,
            shift["old_log_prob_BT"],
            shift["ref_log_prob_BT"],
            b.entropy_BT,
            b.advantage_B.float(),
            b.reward_B.float(),
            b.group_B,
            b.mask_BT.float(),
        )

    def inputs(self, b: Batch) -> dict[str, Tensor]:
        """What ``_compute_loss`` asks for."""
        return {
            "prompt_ids": self.prompt_BP,
            "prompt_mask": self.prompt_mask_BP,
            "completion_ids": self.response_BT,
            "completion_mask": b.mask_BT.to(b.advantage_B.dtype),
            "advantages": b.advantage_B,
            "old_per_token_logps": b.old_log_prob_BT,
            "ref_per_token_logps": b.ref_log_prob_BT,
            "num_items_in_batch": b.mask_BT.sum(),
        }


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(folder)


def through_the_model(at: Bench, name: str, case: Case) -> Comparison:
    """Loss and the gradient of every parameter, float32, their head against ours."""
    b = at.float32_batch()
    trainer = at.trainer(**case.settings)
    theirs = trainer._compute_loss(trainer.model, at.inputs(b))
    theirs.backward()
    model = copy.deepcopy(at.model).train()
    ours, _ = objective(
        Scores(*at.our_scores(model), torch.zeros_like(b.mask_BT)),
        recipe_batch(b),
        TokenChoice(),
        case.loss,
        case.controls,
        entropy_coeff=case.controls.entropy_coeff,
        tokens=float(b.mask_BT.sum()),
        responses=len(b.mask_BT),
        norm_length=LENGTH,
    )
    ours.backward()
    named = dict(trainer.model.named_parameters())
    pairs = [(p.grad, named[n].grad) for n, p in model.named_parameters()]
    return compare(
        f"{name}, all parameters, fp32", PEER, (ours, theirs), ([a for a, _ in pairs], [c for _, c in pairs])
    )


def through_log_probs(at: Bench, name: str, case: Case, ours: OurLoss | None = None) -> Comparison:
    """Loss and the gradient of log-probs and entropies, float64: the formula without the head."""
    b = at.batch
    trainer = at.trainer(**case.settings)

    def given(self: Any, *_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return b.log_prob_BT, b.entropy_BT, None

    trainer._get_per_token_logps_and_entropies = types.MethodType(given, trainer)
    leaves = (b.log_prob_BT, b.entropy_BT)
    theirs = trainer._compute_loss(trainer.model, at.inputs(b))
    value = (ours or case.ours)(*leaves, b)

    def gradients(loss: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]

    return compare(f"{name}, log-probs, fp64", PEER, (value, theirs), (gradients(value), gradients(theirs)))


def micro_batches(at: Bench) -> Comparison:
    """DAPO cut into micro-batches of 12 and 4 responses: the sum of TRL's losses and of ours."""
    b, trainer = at.batch, at.trainer(loss_type="dapo", epsilon_high=0.28, gradient_accumulation_steps=1)
    theirs, ours = torch.zeros(()), torch.zeros(())
    for rows in (slice(0, 12), slice(12, 16)):
        part = Batch(*(getattr(b, f)[rows] for f in Batch.__dataclass_fields__))

        def given(*_: Any, part: Batch = part, **__: Any) -> tuple[Tensor, Tensor, None]:
            return part.log_prob_BT, part.entropy_BT, None

        trainer._get_per_token_logps_and_entropies = given
        cut = {k: v[rows] for k, v in at.inputs(b).items() if v.ndim}
        theirs = theirs + trainer._compute_loss(trainer.model, {**cut, "num_items_in_batch": b.mask_BT.sum()})
        loss_BT, _ = losses.ppo_clip(
            part.log_prob_BT, part.old_log_prob_BT, part.advantages_BT, part.mask_BT, clip_ratio_high=0.28
        )
        ours = ours + aggregate(loss_BT, part.mask_BT, "token-mean", total_tokens=float(b.mask_BT.sum()))
    pair = [torch.autograd.grad(x, b.log_prob_BT)[0] for x in (ours, theirs)]
    return compare("DAPO, two uneven micro-batches, fp64", PEER, (ours, theirs), (pair[0], pair[1]))


def rloo_on_policy(at: Bench) -> Comparison:
    """RLOO's loss at ratio 1: the same gradient; the values have no common meaning."""
    b = at.batch
    trainer = at.trainer(rloo=True, beta=0.0)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (b.log_prob_BT, b.entropy_BT, None)
    old_B = (b.log_prob_BT * b.mask_BT).sum(1).detach()
    theirs = trainer._compute_loss(trainer.model, {**at.inputs(b), "old_logps": old_B})
    loss_BT, _ = losses.policy_gradient(b.log_prob_BT, b.log_prob_BT.detach(), b.advantages_BT, b.mask_BT)
    ours = aggregate(loss_BT, b.mask_BT, "seq-mean-token-sum")
    pair = [torch.autograd.grad(x, b.log_prob_BT)[0] for x in (ours, theirs)]
    return compare("RLOO, sequence sum, on policy, fp64", PEER, None, (pair[0], pair[1]))


def trl_advantages(at: Bench, rewards: list[float], **settings: Any) -> Tensor:
    """Advantages that TRL's trainer makes of these rewards in its own rollout, [B]."""
    trainer = at.trainer(rewards=lambda completions, **_: rewards, **settings)
    made = trainer._generate_and_score_completions([{"prompt": "w2 w3"} for _ in rewards])
    return made["advantages"].double()


def group_advantages(at: Bench) -> list[Comparison]:
    """Group-normalised, group-centred and leave-one-out advantages of random rewards."""
    r_B, group_B = at.batch.reward_B.float().double(), at.batch.group_B  # TRL keeps rewards in float32
    one_B1 = torch.ones_like(r_B)[:, None]
    plain = r_B.tolist()
    std_B = torch.stack([r_B[group_B == g].std() for g in group_B])
    normal_B = advantages.grpo(r_B, group_B, one_B1)[:, 0]
    theirs_B = trl_advantages(at, plain, scale_rewards="group")
    centred_B = advantages.grpo(r_B, group_B, one_B1, norm_by_std=False)[:, 0]
    return [
        compare("GRPO advantage as it is (TRL: std + 1e-4)", PEER, (normal_B, theirs_B)),
        compare("GRPO advantage, same guard", PEER, (normal_B * (std_B + 1e-6) / (std_B + 1e-4), theirs_B)),
        compare("Dr. GRPO advantage", PEER, (centred_B, trl_advantages(at, plain, scale_rewards="none"))),
        compare(
            "RLOO advantage",
            PEER,
            (advantages.rloo(r_B, group_B, one_B1)[:, 0], trl_advantages(at, plain, rloo=True)),
        ),
    ]


def head(vocabulary: int = 70_000, tokens: int = 40, width: int = 16) -> list[Comparison]:
    """The tiled head: log-prob, entropy and sum of squares with their gradients, over more than one tile each."""
    g = torch.Generator().manual_seed(0)
    hidden = (0.5 * torch.randn((tokens, width), generator=g)).requires_grad_()
    weight = torch.randn((vocabulary, width), generator=g).requires_grad_()
    label = torch.randint(0, vocabulary, (tokens,), generator=g)
    w_log, w_entropy = torch.randn((2, tokens), generator=g)
    ours = token_statistics(hidden, weight, label, TEMPERATURE)
    outputs = ("entropy", "log_sum_sq_probs")
    theirs = ChunkedLogProbFunction.apply(
        hidden, weight, None, label, TEMPERATURE, 32_768, None, 1.0, outputs
    )
    rows = [
        ("log-prob", ours.log_prob, theirs[0], w_log),
        ("entropy", ours.entropy, theirs[1], w_entropy),
    ]
    found = []
    for name, mine, other, w in rows:
        pair = [
            torch.autograd.grad((w * x).sum(), (hidden, weight), retain_graph=True) for x in (mine, other)
        ]
        found.append(
            compare(f"head: {name}, V = {vocabulary:,}, fp32", PEER, (mine, other), (pair[0], pair[1]))
        )
    return [*found, compare("head: sum p^2, fp32", PEER, (ours.sum_p_squared, theirs[2].exp()))]


def high_entropy(at: Bench, share: float) -> tuple[Tensor, Tensor]:
    """Tokens of the 80/20 rule, ours and TRL's, bool [B, T]."""
    b = at.batch
    theirs = at.trainer().get_high_entropy_mask(b.entropy_BT.detach(), b.mask_BT, 1 - share)
    return controls.high_entropy_tokens(b.entropy_BT.detach(), b.mask_BT, share), theirs


def all_comparisons() -> list[Comparison]:
    """Every row of the table."""
    with bench() as at:
        rows = [through_the_model(at, *item) for item in CASES.items()]
        rows += [through_log_probs(at, *item) for item in CASES.items()]
        rows += [micro_batches(at), rloo_on_policy(at), *group_advantages(at)]
    return rows + head()
