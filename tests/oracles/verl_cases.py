"""Our advantages, losses and token choices against verl's ``core_algos``, on the same float64 tensors.

verl 0.9 adds 1e-8 to some counts, so what it averages over tokens or responses is compared at 1e-8, the rest at 1e-12.
Clip-Cov draws its tokens at random: both draw with ``torch.randperm`` over candidates in row order, so the same seed
gives the same tokens; where the quota is no smaller than the number of candidates the draw does not matter at all.

Known differences, on purpose: verl's interval of Clip-Cov is open, ours closed (the paper's text); its GAE comes
whitened, ours does not; its GSPO limits the log-ratio at 10, ours at 20; it clamps k3 to [-10, 10]; its Clip-Cov and
KL-Cov see one micro-batch, ours the whole batch (compared here where these are the same).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import verl.utils.torch_functional as verl_functional
from torch import Tensor
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig
from verl.workers.config.actor import PolicyLossConfig

from entlaw.dynamics.covariance import token_covariance
from entlaw.dynamics.entropy import token_statistics
from entlaw.train import advantages, controls, losses
from entlaw.train.choice import choose
from entlaw.train.losses import aggregate
from entlaw.train.policy import Scores
from entlaw.train.schema import ClipCov, Controls, KlCov, Loss
from entlaw.train.update import objective

from .common import Batch, Comparison, batch, compare, recipe_batch

PEER = "verl"
MODES = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")


def _config(**settings: Any) -> ActorConfig:
    policy = PolicyLossConfig(
        **{k: settings.pop(k) for k in list(settings) if k in PolicyLossConfig.__dataclass_fields__}
    )
    return ActorConfig(
        strategy="fsdp",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        policy_loss=policy,
        **settings,
    )


def policy_loss(b: Batch, mode: str, name: str, **settings: Any) -> Tensor:
    """The scalar loss of one of verl's registered policy losses."""
    loss, _ = core_algos.get_policy_loss_fn(name)(
        old_log_prob=b.old_log_prob_BT,
        log_prob=b.log_prob_BT,
        advantages=b.advantages_BT,
        response_mask=b.mask_BT,
        loss_agg_mode=mode,
        config=_config(**settings),
    )
    return loss


def _row(name: str, b: Batch, ours: Tensor, theirs: Tensor) -> Comparison:
    pair = [torch.autograd.grad(x, b.log_prob_BT)[0] for x in (ours, theirs)]
    return compare(name, PEER, (ours, theirs), (pair[0], pair[1]))


def _arguments(b: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return b.log_prob_BT, b.old_log_prob_BT, b.advantages_BT, b.mask_BT


def ppo(b: Batch, mode: str, c: float = 3.0, high: float = 0.2) -> Comparison:
    """Clipped surrogate; verl always has the dual clip."""
    ours, _ = losses.ppo_clip(*_arguments(b), clip_ratio_low=0.2, clip_ratio_high=high, clip_ratio_c=c)
    theirs = policy_loss(b, mode, "vanilla", clip_ratio_low=0.2, clip_ratio_high=high, clip_ratio_c=c)
    return _row(f"PPO clip {high:g}, dual clip {c:g}, {mode}", b, aggregate(ours, b.mask_BT, mode), theirs)


def ppo_without_dual_clip(b: Batch) -> Comparison:
    """A bound so far away that it never acts, against no bound."""
    ours, _ = losses.ppo_clip(*_arguments(b))
    theirs = policy_loss(b, "token-mean", "vanilla", clip_ratio_c=1e9)
    return _row("PPO clip, no dual clip", b, aggregate(ours, b.mask_BT), theirs)


def gspo(b: Batch) -> Comparison:
    """GSPO with each response's ratio clipped as one."""
    mode = "seq-mean-token-mean"
    ours, _ = losses.gspo(*_arguments(b), 0.05, 0.08)
    theirs = policy_loss(b, mode, "gspo", clip_ratio_low=0.05, clip_ratio_high=0.08)
    return _row("GSPO", b, aggregate(ours, b.mask_BT, mode), theirs)


def cispo(b: Batch) -> Comparison:
    """CISPO with both limits in force."""
    ours, _ = losses.cispo(*_arguments(b), 0.2, 0.3)
    theirs = policy_loss(b, "token-mean", "cispo", clip_ratio_low=0.2, clip_ratio_high=0.3)
    return _row("CISPO", b, aggregate(ours, b.mask_BT), theirs)


def clip_cov(
    b: Batch, ratio: float, lower: float, upper: float, seed: int = 5, epsilon: float = 0.2
) -> Comparison:
    """Clip-Cov at one micro-batch, both draws from one seed."""
    torch.manual_seed(seed)  # verl draws from the global generator
    theirs = policy_loss(
        b,
        "token-mean",
        "clip_cov",
        clip_cov_ratio=ratio,
        clip_cov_lb=lower,
        clip_cov_ub=upper,
        clip_ratio=epsilon,
        clip_ratio_low=epsilon,
        clip_ratio_high=epsilon,
    )
    chosen_BT, loss_BT = our_clip_cov(b, ratio, lower, upper, seed, epsilon)
    ours = aggregate(loss_BT * ~chosen_BT, b.mask_BT)
    return _row(f"Clip-Cov, {int(chosen_BT.sum())} tokens, eps {epsilon:g}", b, ours, theirs)


def our_clip_cov(
    b: Batch, ratio: float, lower: float, upper: float, seed: int, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Our chosen tokens, and the clipped loss of every token."""
    loss_BT, _ = losses.ppo_clip(*_arguments(b), clip_ratio_low=epsilon, clip_ratio_high=epsilon)
    plain_BT, _ = losses.policy_gradient(*_arguments(b))
    chosen_BT = controls.clip_cov_tokens(
        token_covariance(b.log_prob_BT.detach(), b.advantages_BT, b.mask_BT),
        b.mask_BT * (loss_BT <= plain_BT),
        int(b.mask_BT.sum()),
        ratio,
        lower,
        upper,
        generator=torch.Generator().manual_seed(seed),
    )
    return chosen_BT, loss_BT


def kl_cov(b: Batch, ratio: float, coefficient: float = 0.7) -> Comparison:
    """KL-Cov at one micro-batch: no PPO clip, |log-ratio| on the top share."""
    theirs = policy_loss(b, "token-mean", "kl_cov", kl_cov_ratio=ratio, ppo_kl_coef=coefficient)
    covariance_BT = token_covariance(b.log_prob_BT.detach(), b.advantages_BT, b.mask_BT)
    chosen_BT = controls.kl_cov_tokens(covariance_BT, b.mask_BT, ratio)
    loss_BT, _ = losses.policy_gradient(*_arguments(b))
    kl_BT = losses.kl_penalty(b.log_prob_BT, b.old_log_prob_BT, "abs")
    loss_BT = loss_BT + coefficient * kl_BT * chosen_BT  # a number times a bool mask would be float32
    return _row(f"KL-Cov, {int(chosen_BT.sum())} tokens", b, aggregate(loss_BT, b.mask_BT), theirs)


def trainer_clip_cov(b: Batch, ratio: float = 0.05, seed: int = 5) -> Comparison:
    """The trainer's own step in its ``reference_code`` mode: gradient only, for verl zeroes the detached loss."""
    torch.manual_seed(seed)
    theirs = policy_loss(
        b,
        "token-mean",
        "clip_cov",
        clip_cov_ratio=ratio,
        clip_cov_lb=0.2,
        clip_cov_ub=5.0,
        clip_ratio=1.0,
        clip_ratio_low=1.0,
        clip_ratio_high=1.0,
    )
    ours, acted = trainer_loss(b, Controls(clip_cov=ClipCov(ratio, 0.2, 5.0), reference_code=True), seed)
    pair = [torch.autograd.grad(x, b.log_prob_BT)[0] for x in (ours, theirs)]
    return compare(f"Clip-Cov, trainer as the authors' code, {acted} tokens", PEER, None, (pair[0], pair[1]))


def trainer_kl_cov(b: Batch, ratio: float = 0.1, coefficient: float = 0.7) -> Comparison:
    """The trainer's own step in its ``reference_code`` mode."""
    theirs = policy_loss(b, "token-mean", "kl_cov", kl_cov_ratio=ratio, ppo_kl_coef=coefficient)
    ours, acted = trainer_loss(b, Controls(kl_cov=KlCov(ratio, coefficient), reference_code=True))
    return _row(f"KL-Cov, trainer as the authors' code, {acted} tokens", b, ours, theirs)


def trainer_loss(b: Batch, settings: Controls, seed: int = 0) -> tuple[Tensor, int]:
    """The trainer's loss at one micro-batch, and on how many tokens a control acted."""
    whole, loss = recipe_batch(b), Loss()
    chosen = choose(b.log_prob_BT.detach(), whole, loss, settings, torch.Generator().manual_seed(seed))
    value, _ = objective(
        Scores(b.log_prob_BT, b.entropy_BT, torch.zeros_like(b.mask_BT)),
        whole,
        chosen,
        loss,
        settings,
        entropy_coeff=0.0,
        tokens=float(b.mask_BT.sum()),
        responses=len(b.mask_BT),
        norm_length=1.0,
    )
    return value, sum(int(t.sum()) for t in chosen.tokens.values())


def kl(b: Batch, kind: str) -> Comparison:
    """A KL estimator and its gradient, summed over the valid tokens."""
    ours = (losses.kl_penalty(b.log_prob_BT, b.ref_log_prob_BT, kind) * b.mask_BT).sum()
    theirs = (core_algos.kl_penalty(b.log_prob_BT, b.ref_log_prob_BT, kind) * b.mask_BT).sum()
    return _row(f"KL penalty {kind}", b, ours, theirs)


def aggregation(b: Batch, mode: str) -> Comparison:
    """``aggregate`` alone, with one response that has no token at all."""
    mask_BT = b.mask_BT.clone()
    mask_BT[2] = 0
    ours = aggregate(b.log_prob_BT, mask_BT, mode)
    theirs = core_algos.agg_loss(b.log_prob_BT, mask_BT, mode)
    return _row(f"aggregate: {mode}", b, ours, theirs)


def aggregation_of_a_part(b: Batch, mode: str) -> Comparison:
    """One micro-batch of a larger step, with the step's totals given to both."""
    tokens, responses = float(b.mask_BT.sum()) * 3, 40
    ours = aggregate(
        b.log_prob_BT, b.mask_BT, mode, total_tokens=tokens, total_responses=responses, norm_length=50
    )
    theirs = core_algos.agg_loss(
        b.log_prob_BT,
        b.mask_BT,
        mode,
        batch_num_tokens=tokens,
        global_batch_size=responses,
        loss_scale_factor=50,
    )
    return _row(f"aggregate a part: {mode}", b, ours, theirs)


def _token_rewards(b: Batch) -> Tensor:
    out_BT = torch.zeros_like(b.mask_BT)
    for i, n in enumerate(b.mask_BT.sum(1).int().tolist()):
        out_BT[i, n - 1] = b.reward_B[i]
    return out_BT


def uneven(b: Batch, singles: bool = True) -> Batch:
    """The batch with groups of unequal size in mixed order; with ``singles`` some of size one."""
    group = [3, 0, 0, 7, 3, 3, 0, 9, 7, 7, 7, 0, 1, 3, 7, 0]
    group_B = torch.tensor(group if singles else [{9: 0, 1: 3}.get(g, g) for g in group])
    return Batch(**{**vars(b), "group_B": group_B})


def advantage_rows(b: Batch) -> list[Comparison]:
    """Every estimator that both have, on groups of uneven size, some of one."""
    r_BT, index = _token_rewards(b), np.array(b.group_B.tolist())
    estimator = core_algos.get_adv_estimator_fn
    outcome = {"response_mask": b.mask_BT, "index": index}

    def theirs(name: str, **more: Any) -> Tensor:
        return estimator(name)(token_level_rewards=r_BT.clone(), **{**outcome, **more})[0]

    rows: list[tuple[str, Tensor, Tensor]] = [
        ("GRPO", advantages.grpo(b.reward_B, b.group_B, b.mask_BT), theirs("grpo")),
        ("GRPO (vectorised)", advantages.grpo(b.reward_B, b.group_B, b.mask_BT), theirs("grpo_vectorized")),
        (
            "Dr. GRPO",
            advantages.grpo(b.reward_B, b.group_B, b.mask_BT, norm_by_std=False),
            theirs("grpo", norm_adv_by_std_in_grpo=False),
        ),
        ("RLOO", advantages.rloo(b.reward_B, b.group_B, b.mask_BT), theirs("rloo")),
        (
            "REINFORCE++-baseline",
            advantages.reinforce_plus_plus_baseline(b.reward_B, b.group_B, b.mask_BT),
            theirs("reinforce_plus_plus_baseline"),
        ),
    ]
    rows += [
        (
            f"REINFORCE++, gamma {gamma:g}",
            advantages.reinforce_plus_plus(r_BT, b.mask_BT, gamma),
            estimator("reinforce_plus_plus")(r_BT.clone(), b.mask_BT, config=AlgoConfig(gamma=gamma))[0],
        )
        for gamma in (1.0, 0.9)
    ]
    return [compare(f"advantage: {name}", PEER, (ours, other)) for name, ours, other in rows]


def gae(b: Batch, gamma: float, lam: float, holes: bool) -> Comparison:
    """Advantages (whitened, as verl's are) and returns; ``holes`` puts observation tokens inside the responses."""
    mask_BT = b.mask_BT.clone()
    if holes:
        mask_BT[:, 1:3] = 0
    reward_BT = (torch.sin(torch.arange(mask_BT.numel()).double() * 1.7).view_as(mask_BT)) * mask_BT
    value_BT = b.ref_log_prob_BT * mask_BT
    ours_BT, returns_BT = advantages.gae(reward_BT, value_BT, mask_BT, gamma, lam)
    whitened_BT = advantages.masked_whiten(ours_BT, mask_BT)
    theirs_BT, their_returns_BT = core_algos.compute_gae_advantage_return(
        reward_BT, value_BT, mask_BT, gamma, lam
    )
    return compare(
        f"advantage: GAE {gamma:g}, {lam:g}{', holes' if holes else ''}",
        PEER,
        ((whitened_BT, returns_BT), (theirs_BT * mask_BT, their_returns_BT * mask_BT)),
    )


def entropy_head(tokens: int = 30, vocabulary: int = 500, width: int = 12) -> list[Comparison]:
    """Log-prob and entropy of the tiled head against verl's functions of full logits, float64."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn((tokens, width), generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.randn((vocabulary, width), generator=g, dtype=torch.float64).requires_grad_()
    label = torch.randint(0, vocabulary, (tokens,), generator=g)
    ours = token_statistics(hidden, weight, label, token_tile=8, vocab_tile=64)
    logits = hidden @ weight.T
    pairs = [
        ("log-prob", ours.log_prob, verl_functional.logprobs_from_logits_naive(logits, label)),
        ("entropy", ours.entropy, verl_functional.entropy_from_logits(logits)),
    ]
    rows = []
    for name, mine, other in pairs:
        grads = [torch.autograd.grad(x.sum(), (hidden, weight), retain_graph=True) for x in (mine, other)]
        rows.append(compare(f"head: {name}, fp64", PEER, (mine, other), (grads[0], grads[1])))
    square = verl_functional.calculate_sum_pi_squared_from_logits(logits)
    return [*rows, compare("head: sum p^2, fp64", PEER, (ours.sum_p_squared, square))]


def load_prime(path: str | Path) -> ModuleType:
    """The functions of verl's PRIME recipe, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("prime_core_algos", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prime(recipe: ModuleType, b: Batch, size: int = 4) -> Comparison:
    """PRIME's advantages; ``b`` in groups of ``size``, in order."""
    process_BT = (0.05 * (b.log_prob_BT - b.ref_log_prob_BT)).detach()
    ours = advantages.prime(process_BT, b.reward_B, b.group_B, b.mask_BT, 5.0, 3.0)
    tensors = {
        "rm_scores": process_BT.float(),
        "acc": b.reward_B.float(),
        "prompts": torch.zeros((len(process_BT), 2)),
        "attention_mask": torch.cat([torch.ones((len(process_BT), 2)), b.mask_BT], 1).long(),
    }
    weights = {"dpo_coef": 5.0, "gt_coef": 3.0, "reward_dpo_coef": 5.0, "reward_gt_coef": 3.0}
    config = SimpleNamespace(algorithm=SimpleNamespace(**weights))
    theirs, _ = recipe.compute_rloo_advantage_return(
        SimpleNamespace(batch=tensors), b.mask_BT.float(), size, config
    )
    return compare("advantage: PRIME, fp32", PEER, (ours, theirs * b.mask_BT))


def exact(b: Batch) -> list[Callable[[], Comparison]]:
    """Comparisons that must agree to rounding (1e-12)."""
    return [
        *(lambda m=m, c=c: ppo(b, m, c) for m in ("token-mean", "seq-mean-token-sum") for c in (1.5, 3.0)),
        lambda: ppo(b, "token-mean", high=0.28),
        lambda: ppo_without_dual_clip(b),
        lambda: cispo(b),
        lambda: clip_cov(b, 1.0, 0.2, 5.0),
        lambda: clip_cov(b, 0.05, 0.2, 5.0),
        lambda: clip_cov(b, 0.05, 0.2, 5.0, epsilon=1.0),
        lambda: clip_cov(b, 2e-4, 1.0, 5.0),
        lambda: kl_cov(b, 0.1),
        lambda: kl_cov(b, 2e-4),
        lambda: trainer_clip_cov(b),
        lambda: trainer_kl_cov(b),
        *(lambda k=k: kl(b, k) for k in ("k1", "abs", "k2", "k3")),
        *(lambda m=m: aggregation(b, m) for m in MODES if m != "seq-mean-token-mean"),
        *(lambda m=m: aggregation_of_a_part(b, m) for m in MODES if m != "seq-mean-token-mean"),
    ]


def near(b: Batch) -> list[Callable[[], Comparison]]:
    """Comparisons in which verl adds 1e-8 to a count."""
    return [
        lambda: ppo(b, "seq-mean-token-mean"),
        lambda: gspo(b),
        lambda: aggregation(b, "seq-mean-token-mean"),
        lambda: aggregation_of_a_part(b, "seq-mean-token-mean"),
        *(
            lambda g=g, x=x, h=h: gae(b, g, x, h)
            for g, x, h in ((1.0, 1.0, False), (0.9, 0.8, False), (0.9, 0.8, True))
        ),
    ]


def all_comparisons(prime_recipe: str | None = None) -> list[Comparison]:
    """Every row of the table."""
    b = batch(seed=3)
    rows = [f() for f in (*exact(b), *near(b))] + advantage_rows(uneven(b)) + entropy_head()
    return rows + ([prime(load_prime(prime_recipe), b)] if prime_recipe else [])
