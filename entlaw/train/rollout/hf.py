"""Rollouts by the trained model itself, on any device torch has: right, small, and fast for small models.

Each prompt is read once; its cache is repeated for the samples of its group.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entlaw.train.batch import Batch, concatenate
from entlaw.train.policy import LanguageModel, autocast, position_ids
from entlaw.train.rollout import Sampling


class HFEngine:
    """Samples with the key-value cache of the Hugging Face model."""

    def __init__(self, policy: LanguageModel) -> None:
        self.policy = policy

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[str], sampling: Sampling, seed: Sequence[int], first: int = 0
    ) -> Batch:
        """As :class:`entlaw.train.rollout.Engine`."""
        was_training = self.policy.model.training
        self.policy.model.eval()
        at_once = max(sampling.batch // sampling.samples, 1) if sampling.batch else len(prompts)
        parts = []
        for start in range(0, len(prompts), at_once):
            some = prompts[start : start + at_once]
            part = self._part(some, sampling, uniform(seed, first + start, len(some), sampling))
            parts.append(replace(part, group_B=part.group_B + start))
        self.policy.model.train(was_training)
        return concatenate(parts, self.policy.pad_id)

    def sync(self) -> None:
        """Nothing to do: it samples from the trained weights themselves."""

    def rest(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to give back."""

    def _part(self, prompts: Sequence[str], sampling: Sampling, uniform_BT: Tensor) -> Batch:
        from transformers import DynamicCache

        policy, k = self.policy, sampling.samples
        prompt, mask = encode(policy, prompts)
        stop = torch.tensor(policy.stop_ids, device=policy.device)
        cache = DynamicCache(config=policy.model.config)
        cached = {cache_argument(policy.model): cache}
        with autocast(policy.device, policy.autocast):
            out = policy.model(
                prompt,
                attention_mask=mask.long(),
                position_ids=position_ids(mask),
                logits_to_keep=1,
                **cached,
            )
            logits = out.logits[:, -1].repeat_interleave(k, 0)
            cache.batch_repeat_interleave(k)
            prompt, mask = prompt.repeat_interleave(k, 0), mask.repeat_interleave(k, 0)
            position, seen = mask.sum(1, keepdim=True), mask.long()
            alive = torch.ones(len(prompt), 1, dtype=torch.bool, device=policy.device)
            pad = torch.tensor(policy.pad_id, device=policy.device)
            tokens: list[Tensor] = []
            alive_at: list[Tensor] = []
            uniform_BT = uniform_BT.to(policy.device)
            for i in range(sampling.max_tokens):
                token = torch.where(alive, draw(logits, sampling, uniform_BT[:, i]), pad)
                tokens.append(token)
                alive_at.append(alive)
                alive = alive & ~torch.isin(token, stop)
                if i + 1 == sampling.max_tokens or not alive.any():
                    break
                seen = torch.cat([seen, torch.ones_like(position)], 1)
                out = policy.model(token, attention_mask=seen, position_ids=position, **cached)
                logits, position = out.logits[:, -1], position + 1
        group = torch.arange(len(prompts), device=policy.device).repeat_interleave(k)
        mask_BT = torch.cat(alive_at, 1).float()
        return Batch(prompt, mask, torch.cat(tokens, 1), mask_BT, ~alive[:, 0], group)


def cache_argument(model: Any) -> str:
    """Name of the argument of a model's ``forward`` that takes the key-value cache.

    ``cache`` from transformers 5.24 on, ``past_key_values`` before and in models that bring their own code. The
    model is asked, not the version: both kinds can be loaded by one version.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def encode(policy: LanguageModel, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids of the prompts and their mask, padded on the left, shape [B, P]."""
    rows = policy.tokenizer(list(prompts))["input_ids"]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = True
    return ids.to(policy.device), mask.to(policy.device)


def uniform(seed: Sequence[int], first: int, n: int, sampling: Sampling) -> Tensor:
    """Random numbers in [0, 1) for ``n`` prompts from number ``first`` on, one a token, float32, shape [B, T].

    Each prompt has a stream of its own, so a response is the same whatever is sampled beside it.
    """
    shape = (sampling.samples, sampling.max_tokens)
    rows = [np.random.default_rng([*seed, first + i]).random(shape, dtype=np.float32) for i in range(n)]
    return torch.from_numpy(np.concatenate(rows))


def draw(logits_BV: Tensor, sampling: Sampling, uniform_B: Tensor) -> Tensor:
    """One token a row, shape [B, 1]: greedy at temperature 0, else from the truncated softmax in float32.

    The token is where the cumulated probability passes ``uniform_B``, a random number in [0, 1).
    """
    if sampling.temperature == 0:
        return logits_BV.argmax(-1, keepdim=True)
    logits_BV = logits_BV.float() / sampling.temperature
    if sampling.top_k:
        kth = logits_BV.topk(min(sampling.top_k, logits_BV.shape[-1])).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < kth, -torch.inf)
    if sampling.top_p < 1:
        ordered, index = logits_BV.sort(descending=True)
        p = ordered.softmax(-1)
        # A token stays while the mass before it is below top_p, so the first always does.
        out = (p.cumsum(-1) - p) >= sampling.top_p
        logits_BV = logits_BV.masked_fill(out.scatter(1, index, out), -torch.inf)
    # Cumulated in double precision: of a large vocabulary the last tokens would otherwise share rounding errors.
    mass_BV = logits_BV.softmax(-1).double().cumsum(-1)
    reached_B1 = uniform_B.double()[:, None] * mass_BV[:, -1:]
    return torch.searchsorted(mass_BV, reached_B1, right=True).clamp(max=logits_BV.shape[-1] - 1)


def texts(policy: LanguageModel, batch: Batch) -> list[str]:
    """The responses as text, without the token that ended them."""
    lengths = (batch.mask_BT > 0).sum(1) - batch.finished_B.long()
    rows = [row[:n].tolist() for row, n in zip(batch.response_BT.cpu(), lengths.tolist(), strict=True)]
    return list(policy.tokenizer.batch_decode(rows, skip_special_tokens=True))
