"""One optimiser step: the same for every cut into micro-batches, and the gradient of the formula it says it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from entlaw.train.choice import choose
from entlaw.train.schema import ClipCov, Controls, KlCov, Loss
from entlaw.train.update import backward, update
from tests.train.common import gradients, tiny_batch, tiny_policy

CONTROLS = {
    "none": Controls(),
    "clip_cov": Controls(clip_cov=ClipCov(ratio=0.1, lower=-0.5, upper=5.0)),
    "kl_cov": Controls(kl_cov=KlCov(ratio=0.1, coef=1.0)),
    "both": Controls(clip_cov=ClipCov(ratio=0.05, lower=-0.5), kl_cov=KlCov(ratio=0.1, penalty="k3")),
    "bonus and kl": Controls(kl_coef=0.3, kl_kind="k3"),
    "80/20": Controls(high_entropy_share=0.2),
}


def run(policy, batch, loss, controls, entropy_coeff=0.0, on_policy=False, seed=3):
    policy.model.zero_grad()
    metrics = backward(
        policy,
        batch,
        loss,
        controls,
        temperature=1.0,
        entropy_coeff=entropy_coeff,
        norm_length=6.0,
        generator=torch.Generator().manual_seed(seed),
        on_policy=on_policy,
    )
    return gradients(policy), metrics


@pytest.fixture(scope="module")
def policy():
    return tiny_policy()


@pytest.fixture(scope="module")
def batch(policy):
    return tiny_batch(policy)


AGGREGATIONS = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", CONTROLS)
def test_micro_batches_change_nothing(policy, batch, name, aggregation):
    loss = Loss(aggregation=aggregation)
    whole, metrics = run(policy, batch, loss, CONTROLS[name], entropy_coeff=0.01)
    assert whole.abs().max() > 1e-4
    for size in (1, 3, 8):
        cut, cut_metrics = run(
            policy, batch, replace(loss, micro_batch=size), CONTROLS[name], entropy_coeff=0.01
        )
        assert (cut - whole).abs().max() < 1e-10
        assert cut_metrics.keys() == metrics.keys()
        for key, value in metrics.items():
            assert cut_metrics[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_the_authors_way_depends_on_the_micro_batch(policy, batch, name):
    controls = replace(CONTROLS[name], reference_code=True)
    whole, _ = run(policy, batch, Loss(), controls)
    cut, metrics = run(policy, batch, Loss(micro_batch=3), controls)
    assert (cut - whole).abs().max() > 1e-4  # this is why it is not the default
    if name == "kl_cov":  # at least one token of each of the six micro-batches
        assert metrics["kl_cov/effective_ratio"] * float(batch.mask_BT.sum()) >= 6 - 1e-9


def test_the_authors_clip_cov_selects_nothing_at_one_response_a_micro_batch(policy, batch):
    controls = Controls(clip_cov=ClipCov(ratio=0.1, lower=1e-9), reference_code=True)
    _, metrics = run(policy, batch, Loss(micro_batch=1), controls)
    assert metrics["clip_cov/effective_ratio"] == 0.0
    _, metrics = run(policy, batch, Loss(micro_batch=1), replace(controls, reference_code=False))
    assert metrics["clip_cov/effective_ratio"] == pytest.approx(0.1, abs=0.02)


def plain_log_prob(policy, batch):
    """Log-probs by the model's own logits: nothing of ours but the batch."""
    tokens = torch.cat([batch.prompt_BP, batch.response_BT], 1)
    mask = torch.cat([batch.prompt_mask_BP, batch.mask_BT > 0], 1).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = policy.model(tokens, attention_mask=mask, position_ids=positions).logits
    log_p = logits[:, batch.prompt_BP.shape[1] - 1 : -1].log_softmax(-1)
    return log_p.gather(-1, batch.response_BT[..., None])[..., 0], -(log_p.exp() * log_p).sum(-1)


def test_gradient_of_everything_at_once_against_plain_autograd(policy, batch):
    """PPO clip with clip-higher, Clip-Cov, KL-Cov, reference KL and bonus, written out with plain logits."""
    loss = Loss(clip_ratio_low=0.2, clip_ratio_high=0.28)
    controls = Controls(
        clip_cov=ClipCov(ratio=0.1, lower=-0.5), kl_cov=KlCov(ratio=0.1, coef=0.7), kl_coef=0.3, kl_kind="k2"
    )
    got, _ = run(policy, batch, loss, controls, entropy_coeff=0.05)

    policy.model.zero_grad()
    log_p, entropy = plain_log_prob(policy, batch)
    mask, advantage, old = batch.mask_BT, batch.advantages_BT, batch.log_prob_BT
    chosen = choose(log_p.detach() * mask, batch, loss, controls, torch.Generator().manual_seed(3))
    ratio = (log_p - old).exp()
    per_token = torch.where(
        advantage >= 0, -advantage * ratio.clamp(max=1.28), -advantage * ratio.clamp(min=0.8)
    )
    per_token = torch.where(chosen["clip_cov"], torch.zeros_like(per_token), per_token)
    per_token = per_token + 0.7 * chosen["kl_cov"].to(mask) * (log_p - old).abs()
    per_token = per_token + 0.3 * 0.5 * (log_p - batch.ref_log_prob_BT) ** 2 - 0.05 * entropy
    ((per_token * mask).sum() / mask.sum()).backward()
    assert (gradients(policy) - got).abs().max() < 1e-10


def test_gradient_against_finite_differences(policy, batch):
    loss, controls = Loss(kind="policy_gradient"), Controls(kl_coef=0.2)
    got, _ = run(policy, batch, loss, controls, entropy_coeff=0.1)
    direction = torch.randn(len(got), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # An untrained policy may say <pad>, whose embedding torch never gives a gradient.
    hidden = policy.model.config.hidden_size
    direction[policy.pad_id * hidden : (policy.pad_id + 1) * hidden] = 0

    def value():
        _, metrics = run(policy, batch, loss, controls, entropy_coeff=0.1)
        return metrics["actor/loss"]

    def shift(amount):
        start = 0
        with torch.no_grad():
            for p in policy.model.parameters():
                p += amount * direction[start : start + p.numel()].view_as(p)
                start += p.numel()

    step = 1e-6
    shift(step)
    up = value()
    shift(-2 * step)
    down = value()
    shift(step)
    assert (up - down) / (2 * step) == pytest.approx(float(got @ direction), rel=1e-6)


def test_kl_cov_does_nothing_strictly_on_policy(policy):
    on_policy = tiny_batch(policy, off_policy=0.0)
    without, _ = run(policy, on_policy, Loss(), Controls(), on_policy=True)
    for penalty in ("abs", "k2", "k3"):
        controls = Controls(kl_cov=KlCov(ratio=0.2, coef=10.0, penalty=penalty))
        with_it, metrics = run(policy, on_policy, Loss(), controls, on_policy=True)
        assert metrics["kl_cov/effective_ratio"] > 0.1
        assert torch.equal(with_it, without)
        # Rounding apart, as between the scoring and the update of float32 models: still nothing.
        rounded = replace(on_policy, log_prob_BT=on_policy.log_prob_BT * (1 + 1e-9))
        with_it, _ = run(policy, rounded, Loss(), controls, on_policy=True)
        without_it, _ = run(policy, rounded, Loss(), Controls(), on_policy=True)
        assert torch.equal(with_it, without_it)
    k1, _ = run(policy, on_policy, Loss(), Controls(kl_cov=KlCov(ratio=0.2, penalty="k1")), on_policy=True)
    assert (k1 - without).abs().max() > 1e-4  # k1 always pulls, by a constant


def test_kl_cov_estimates_the_divergence_of_the_paper():
    """Eq. 14's KL(pi_old || pi): over tokens drawn from pi_old, k1's and k3's mean is that of the exact sum."""
    from entlaw.train.losses import kl_penalty

    generator = torch.Generator().manual_seed(0)
    old, new = torch.randn(2, 6, generator=generator, dtype=torch.float64).log_softmax(-1)
    exact = (old.exp() * (old - new)).sum()
    for kind in ("k1", "k3"):
        assert torch.allclose((old.exp() * kl_penalty(old, new, kind)).sum(), exact)
        assert not torch.allclose((old.exp() * kl_penalty(new, old, kind)).sum(), exact)


def test_clip_cov_acts_strictly_on_policy(policy):
    on_policy = tiny_batch(policy, off_policy=0.0)
    without, _ = run(policy, on_policy, Loss(), Controls(), on_policy=True)
    with_it, _ = run(policy, on_policy, Loss(), CONTROLS["clip_cov"], on_policy=True)
    assert (with_it - without).abs().max() > 1e-4


def test_knowing_that_it_is_on_policy_changes_nothing(policy):
    on_policy = tiny_batch(policy, off_policy=0.0)
    for name in ("clip_cov", "kl_cov"):
        told, _ = run(policy, on_policy, Loss(), CONTROLS[name], on_policy=True)
        found, _ = run(policy, on_policy, Loss(), CONTROLS[name], on_policy=False)
        assert torch.equal(told, found)


def test_clip_cov_with_every_token_leaves_no_policy_gradient(policy, batch):
    controls = Controls(clip_cov=ClipCov(ratio=1.0, lower=-1e9, upper=1e9))
    got, metrics = run(policy, batch, Loss(kind="policy_gradient"), controls)
    assert got.abs().max() == 0
    assert metrics["clip_cov/effective_ratio"] == 1.0


def test_dual_clip_bounds_the_loss_of_bad_tokens(policy, batch):
    far = replace(batch, log_prob_BT=batch.log_prob_BT - 3.0, advantages_BT=-batch.mask_BT)  # ratios near e^3
    free, _ = run(policy, far, Loss(), Controls())
    bounded, metrics = run(policy, far, Loss(clip_ratio_c=3.0), Controls())
    assert metrics["actor/pg_clipfrac_dual"] > 0.9
    assert bounded.norm() < 0.1 * free.norm()


def test_a_step_that_is_not_finite_is_not_taken(policy, batch):
    copy = policy.trainable_copy()
    optimizer = torch.optim.AdamW(copy.model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in copy.model.parameters()]
    bad = replace(batch, advantages_BT=batch.advantages_BT * float("nan"))
    metrics = update(
        copy,
        optimizer,
        bad,
        Loss(),
        Controls(),
        temperature=1.0,
        entropy_coeff=0.0,
        grad_clip=1.0,
        norm_length=6,
        generator=torch.Generator(),
    )
    assert metrics["actor/loss"] != metrics["actor/loss"]
    assert all(torch.equal(a, b) for a, b in zip(before, copy.model.parameters(), strict=True))
