"""A tiny policy and a rollout of it, in float64, for tests that look at gradients."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from entlaw.tasks.arithmetic import Arithmetic
from entlaw.train import ladder
from entlaw.train.batch import Batch
from entlaw.train.policy import LanguageModel, wrap
from entlaw.train.rollout import Sampling
from entlaw.train.rollout.hf import HFEngine
from entlaw.train.schema import Policy


def tiny_policy(dtype="float64", seed=0, size="xs", family="llama") -> LanguageModel:
    """An untrained ladder model: its entropy is near log 16 and everything has a gradient."""
    tokenizer = ladder.build_tokenizer()
    settings = Policy(size=size, seed=seed, dtype=dtype, family=family)
    model = ladder.build_model(settings, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    if dtype == "float64":
        _exact_norms(model)
    return wrap(model, tokenizer)


def _exact_norms(model) -> None:
    """RMSNorm in the model's own precision: the library's rounds to float32 inside, which hides 1e-8 errors."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(_norm, module)


def _norm(module, x):
    return module.weight * x * torch.rsqrt((x**2).mean(-1, keepdim=True) + module.variance_epsilon)


def tiny_batch(policy: LanguageModel, groups=4, k=4, max_tokens=6, seed=0, off_policy=0.3) -> Batch:
    """A real rollout with made-up rewards, GRPO-like advantages and slightly wrong rollout log-probs.

    ``off_policy`` is the standard deviation of the error, so that ratios differ from 1 and clips act.
    """
    problems = Arithmetic().training(seed, 0, groups)
    batch = HFEngine(policy).generate([p.prompt for p in problems], Sampling(k, max_tokens), [seed])
    batch = batch.cast(torch.float64) if policy.model.dtype == torch.float64 else batch
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        scores = policy.score(batch)
    noise = off_policy * torch.randn(
        scores.log_prob_BT.shape, generator=generator, dtype=scores.log_prob_BT.dtype
    )
    advantage_B = torch.randn(len(batch), generator=generator, dtype=batch.mask_BT.dtype)
    return replace(
        batch,
        correct_B=(advantage_B > 0).to(batch.mask_BT),
        reward_B=(advantage_B > 0).to(batch.mask_BT),
        log_prob_BT=(scores.log_prob_BT + noise) * batch.mask_BT,
        ref_log_prob_BT=(scores.log_prob_BT - noise.flip(0)) * batch.mask_BT,
        entropy_BT=scores.entropy_BT,
        advantages_BT=advantage_B[:, None] * batch.mask_BT,
    )


def gradients(policy: LanguageModel) -> torch.Tensor:
    """All gradients as one vector."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in policy.model.parameters()]
    return torch.cat([p.flatten() for p in parts])
