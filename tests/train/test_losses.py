"""Losses against hand formulas, finite differences and loops; invariance to how a batch is cut."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.train import losses  # noqa: E402

torch.set_num_threads(1)


def batch(seed=0, b=12, t=5):
    g = torch.Generator().manual_seed(seed)
    old = -torch.rand((b, t), generator=g, dtype=torch.double) * 3 - 0.1
    new = (old + 0.4 * torch.randn((b, t), generator=g, dtype=torch.double)).requires_grad_()
    advantage = torch.randn((b, 1), generator=g, dtype=torch.double).expand(b, t)
    mask = (torch.arange(t) < torch.randint(1, t + 1, (b, 1), generator=g)).double()
    return new, old, advantage, mask


LOSSES = {
    "policy gradient": losses.policy_gradient,
    "ppo": losses.ppo_clip,
    "clip-higher": lambda *a: losses.ppo_clip(*a, clip_ratio_high=0.28),
    "dual clip": lambda *a: losses.ppo_clip(*a, clip_ratio_c=1.2),
    "gspo": lambda *a: losses.gspo(*a, clip_ratio_low=0.05, clip_ratio_high=0.05),
    "cispo": lambda *a: losses.cispo(*a, clip_ratio_high=0.3),
}


def reference(name, new, old, a, mask, i, t):
    """The loss of one token, written out independently."""
    rho = float(torch.exp(new[i, t] - old[i, t]))
    adv = float(a[i, t])
    if name == "policy gradient":
        return -adv * rho
    if name in ("ppo", "clip-higher", "dual clip"):
        high = 1.28 if name == "clip-higher" else 1.2
        value = max(-adv * rho, -adv * min(max(rho, 0.8), high))
        return min(value, -adv * 1.2) if name == "dual clip" and adv < 0 else value
    if name == "gspo":
        n = int(mask[i].sum())
        s = float(torch.exp((new[i, :n] - old[i, :n]).mean()))
        return max(-adv * s, -adv * min(max(s, 0.95), 1.05))
    return -min(rho, 1.3) * adv * float(new[i, t])


@pytest.mark.parametrize("name", LOSSES)
def test_each_token_equals_the_formula(name):
    new, old, a, mask = batch(1)
    loss, _ = LOSSES[name](new, old, a, mask)
    for i in range(len(mask)):
        for t in range(int(mask[i].sum())):
            assert float(loss[i, t].detach()) == pytest.approx(
                reference(name, new.detach(), old, a, mask, i, t), abs=1e-12
            )


@pytest.mark.parametrize("name", ["policy gradient", "ppo", "clip-higher", "dual clip"])
def test_gradient_against_finite_differences(name):
    new, old, a, mask = batch(2)

    def total(x):
        return losses.aggregate(LOSSES[name](x, old, a, mask)[0], mask)

    (grad,) = torch.autograd.grad(total(new), new)
    h = 1e-6
    for i, t in [(0, 0), (3, 0), (7, 0), (11, 0)]:
        bump = torch.zeros_like(new)
        bump[i, t] = h
        numeric = (total(new.detach() + bump) - total(new.detach() - bump)) / (2 * h)
        assert float(grad[i, t]) == pytest.approx(float(numeric), abs=1e-8)


def test_gspo_gradient_is_that_of_the_sequence_ratio():
    new, old, a, mask = batch(3)
    wide = {"clip_ratio_low": 10.0, "clip_ratio_high": 10.0}
    (got,) = torch.autograd.grad(
        losses.aggregate(losses.gspo(new, old, a, mask, **wide)[0], mask, "seq-mean-token-mean"), new
    )
    s = torch.exp(((new - old) * mask).sum(-1) / mask.sum(-1))
    (want,) = torch.autograd.grad((-a[:, 0] * s).mean(), new)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_cispo_gradient_is_the_clipped_weight_times_the_score():
    new, old, a, mask = batch(4)
    (got,) = torch.autograd.grad(losses.aggregate(losses.cispo(new, old, a, mask, 1.0, 0.3)[0], mask), new)
    weight = torch.exp(new.detach() - old).clamp(0.0, 1.3)
    torch.testing.assert_close(got, -weight * a * mask / mask.sum(), rtol=0, atol=1e-12)


def test_on_policy_all_ratio_losses_have_the_policy_gradient():
    _, old, a, mask = batch(5)
    want = -a * mask / mask.sum()
    for name in ("policy gradient", "ppo", "clip-higher"):
        new = old.clone().requires_grad_()
        (got,) = torch.autograd.grad(losses.aggregate(LOSSES[name](new, old, a, mask)[0], mask), new)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
)
@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_aggregation_does_not_depend_on_micro_batches(mode, size):
    new, old, a, mask = batch(6)
    loss, _ = losses.ppo_clip(new, old, a, mask)
    (whole,) = torch.autograd.grad(losses.aggregate(loss, mask, mode), new, retain_graph=True)
    parts = torch.zeros_like(whole)
    totals = {"total_tokens": float(mask.sum()), "total_responses": float(len(mask))}
    for start in range(0, len(mask), size):
        cut = slice(start, start + size)
        part = losses.aggregate(
            losses.ppo_clip(new[cut], old[cut], a[cut], mask[cut])[0], mask[cut], mode, **totals
        )
        parts += torch.autograd.grad(part, new)[0]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-14)


def test_aggregation_modes_by_hand():
    loss = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert float(losses.aggregate(loss, mask, "token-mean")) == pytest.approx(7 / 3)
    assert float(losses.aggregate(loss, mask, "seq-mean-token-mean")) == pytest.approx((1.5 + 4) / 2)
    assert float(losses.aggregate(loss, mask, "seq-mean-token-sum")) == pytest.approx((3 + 4) / 2)
    assert float(losses.aggregate(loss, mask, "seq-mean-token-sum-norm")) == pytest.approx((1 + 4 / 3) / 2)
    with pytest.raises(ValueError, match="aggregation"):
        losses.aggregate(loss, mask, "mean")


def test_clip_fractions_by_sign():
    old = torch.zeros(1, 4, dtype=torch.double)
    new = torch.log(torch.tensor([[1.5, 0.5, 1.5, 0.5]], dtype=torch.double))
    a = torch.tensor([[1.0, 1.0, -1.0, -1.0]], dtype=torch.double)
    _, m = losses.ppo_clip(new, old, a, torch.ones_like(a))
    assert (float(m["actor/pg_clipfrac_high"]), float(m["actor/pg_clipfrac_low"])) == (0.25, 0.25)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_estimators_have_the_right_mean_or_are_close(kind):
    # Exact expectation under pi over a small vocabulary, near the reference: k1 and k3 exact, k2 to second order.
    g = torch.Generator().manual_seed(0)
    z = torch.randn(20, generator=g, dtype=torch.double)
    p, q = (
        torch.log_softmax(z, 0),
        torch.log_softmax(z + 0.02 * torch.randn(20, generator=g, dtype=torch.double), 0),
    )
    exact = float((p.exp() * (p - q)).sum())
    got = float((p.exp() * losses.kl_penalty(p, q, kind)).sum())
    assert got == pytest.approx(exact, rel=0.05 if kind == "k2" else 1e-9)


def test_freak_ratio_stays_finite():
    new = torch.zeros(1, 1, dtype=torch.double, requires_grad=True)
    loss, _ = losses.policy_gradient(
        new, torch.full((1, 1), -500.0, dtype=torch.double), -torch.ones(1, 1), torch.ones(1, 1)
    )
    assert torch.isfinite(loss).all()
