"""What is logged of every step: entropy in each of its meanings, covariance, rewards, lengths.

All means are float64 sums over the whole rollout. Keys are flat; shares are fractions, entropies nats per token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entlaw.dynamics.covariance import group_covariance, token_covariance, top_share_means
from entlaw.train.batch import Batch
from entlaw.train.estimate import group_accuracy
from entlaw.train.losses import kl_penalty

Metrics = dict[str, float]


def token_mean(values_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over all valid tokens."""
    return float((values_BT.double() * mask_BT).sum() / mask_BT.double().sum().clamp(min=1))


def response_mean(values_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over responses of the mean over their tokens (the paper's averaging, Eq. 5)."""
    length_B = mask_BT.double().sum(-1)
    mean_B = (values_BT.double() * mask_BT).sum(-1) / length_B.clamp(min=1)
    return float(mean_B[length_B > 0].mean()) if bool((length_B > 0).any()) else float("nan")


def rollout_record(batch: Batch, levels: Sequence[str]) -> Metrics:
    """Of all sampled responses, before any filter; ``levels`` holds each response's difficulty group."""
    assert batch.correct_B is not None and batch.reward_B is not None and batch.entropy_BT is not None
    length_B = batch.mask_BT.sum(-1).double()
    record: Metrics = {
        "actor/entropy": token_mean(batch.entropy_BT, batch.mask_BT),
        "actor/entropy_response_mean": response_mean(batch.entropy_BT, batch.mask_BT),
        "reward/mean": float(batch.reward_B.double().mean()),
        "train/accuracy": float(batch.correct_B.double().mean()),
        "response_length/mean": float(length_B.mean()),
        "response_length/max": float(length_B.max()),
        "response_length/clip_ratio": 1.0 - float(batch.finished_B.double().mean()),
    }
    if batch.sampling_entropy_BT is not None:
        record["actor/entropy_at_rollout_temperature"] = token_mean(batch.sampling_entropy_BT, batch.mask_BT)
    for level in sorted(set(levels) - {""}):
        rows = torch.tensor([name == level for name in levels], device=batch.reward_B.device)
        record[f"reward/level_{level}"] = float(batch.correct_B[rows].double().mean())
    return record


def mismatch_record(batch: Batch) -> Metrics:
    """How far the engine that sampled is from the policy that is trained, on the same tokens and weights.

    ``rollout/log_prob_difference`` is the mean of |log p_trainer - log p_engine|, ``rollout/probability_difference*``
    of |p_trainer - p_engine|, ``rollout/kl`` the k3 estimate of KL(engine || trainer), ``rollout/ratio_*`` p_trainer /
    p_engine: the mismatch of training and inference.
    """
    if batch.rollout_log_prob_BT is None or batch.log_prob_BT is None:
        return {}
    valid = batch.mask_BT > 0
    trainer, engine = batch.log_prob_BT[valid].double(), batch.rollout_log_prob_BT[valid].double()
    gap, difference = trainer - engine, (trainer.exp() - engine.exp()).abs()
    ratio = gap.exp()
    record: Metrics = {
        "rollout/log_prob_difference": float(gap.abs().mean()),
        "rollout/probability_difference": float(difference.mean()),
        "rollout/probability_difference_max": float(difference.max()),
        "rollout/kl": float((ratio - 1 - gap).mean()),
        "rollout/ratio_mean": float(ratio.mean()),
        "rollout/ratio_max": float(ratio.max()),
        "rollout/ratio_min": float(ratio.min()),
    }
    if batch.rollout_weight_BT is not None:
        record["rollout/weight_mean"] = float(batch.rollout_weight_BT[valid].double().mean())
    return record


def update_record(kept: Batch, levels: Sequence[str], shares: Sequence[float]) -> Metrics:
    """Of the responses that train, with their advantages: entropy after the filter, and the covariances.

    ``cov/mean`` and ``cov/top_*`` are Eq. 10 over these tokens; ``cov/group`` is the covariance within a prompt's
    responses of mean log-prob and advantage, ``cov/group_probability`` the same with exp(mean log-prob) times advantage
    (Theorem 1, Fig. 8), both as means over prompts. Minus a covariance is the entropy change it predicts for a step of
    size 1 in the logits (Theorems 1 and 2).
    """
    assert kept.advantages_BT is not None and kept.log_prob_BT is not None and kept.entropy_BT is not None
    mask_BT = kept.mask_BT
    covariance_BT = token_covariance(kept.log_prob_BT.double(), kept.advantages_BT.double(), mask_BT.double())
    advantage_B = (kept.advantages_BT * mask_BT).double().sum(-1) / mask_BT.double().sum(-1).clamp(min=1)
    record: Metrics = {
        "actor/entropy_kept": token_mean(kept.entropy_BT, mask_BT),
        "actor/entropy_kept_response_mean": response_mean(kept.entropy_BT, mask_BT),
        "cov/mean": token_mean(covariance_BT, mask_BT),
    }
    if kept.ref_log_prob_BT is not None:
        record["actor/ref_kl"] = token_mean(kl_penalty(kept.log_prob_BT, kept.ref_log_prob_BT, "k3"), mask_BT)
    for share, value in top_share_means(covariance_BT, mask_BT, shares).items():
        record[f"cov/top_{share:g}"] = value
    log_prob_BT, mask = kept.log_prob_BT.double(), mask_BT.double()
    plain_G, group_G = group_covariance(log_prob_BT, advantage_B, kept.group_B, mask)
    scaled_G, _ = group_covariance(log_prob_BT, advantage_B, kept.group_B, mask, times_probability=True)
    record["cov/group"] = float(plain_G.mean())
    record["cov/group_probability"] = float(scaled_G.mean())
    # One row a group: its accuracy and level are those of any of its responses.
    accuracy_B = group_accuracy(kept)
    row_of_G = torch.stack([(kept.group_B == g).nonzero()[0, 0] for g in group_G])
    for accuracy in sorted({round(float(a), 6) for a in accuracy_B[row_of_G]}):
        here = (accuracy_B[row_of_G] - accuracy).abs() < 1e-5
        record[f"cov/accuracy_{accuracy:g}"] = float(plain_G[here].mean())
    names = [levels[int(row)] for row in row_of_G]
    for level in sorted(set(names) - {""}):
        here = torch.tensor([name == level for name in names], device=plain_G.device)
        record[f"cov/level_{level}"] = float(plain_G[here].mean())
    return record


def mean_over_updates(records: Sequence[Metrics]) -> Metrics:
    """Each metric's mean over the optimiser steps that logged it."""
    keys = dict.fromkeys(key for record in records for key in record)
    return {key: sum(r[key] for r in records if key in r) / sum(key in r for r in records) for key in keys}


def entropy_meaning() -> dict[str, str]:
    """What ``actor/entropy`` of this trainer is (the fields of :class:`entlaw.EntropyMeaning`)."""
    return {
        "key": "actor/entropy",
        "estimator": "exact",
        "unit": "nats/token",
        "averaging": "token-mean",
        "temperature": "1",
        "when": "before-update",
        "note": "full vocabulary, on all sampled responses of the step, before the all-right/all-wrong filter",
    }
