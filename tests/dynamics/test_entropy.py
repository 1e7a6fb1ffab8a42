"""The tiled head against plain logits: values and gradients in float64, any tiling, low precision, extremes."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from entlaw.dynamics.entropy import _add_product, token_statistics  # noqa: E402

torch.set_num_threads(1)


def problem(n=13, d=7, v=29, scale=1.0, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn((n, d), generator=g, dtype=torch.float64)).to(dtype).requires_grad_()
    head = torch.randn((v, d), generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    return hidden, head, torch.randint(0, v, (n,), generator=g)


def plain(hidden, head, label, temperature):
    log_p = torch.log_softmax(hidden.double() @ head.double().T / temperature, dim=-1)
    p = log_p.exp()
    return log_p.gather(1, label[:, None])[:, 0], -(p * log_p).sum(-1), (p**2).sum(-1)


@pytest.mark.parametrize("tiles", [(1, 1), (4, 5), (13, 29), (100, 100), (3, 28)])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_values_and_gradients_equal_plain_logits(tiles, temperature):
    hidden, head, label = problem()
    g = torch.Generator().manual_seed(1)
    w_log, w_ent = torch.randn((2, len(label)), generator=g, dtype=torch.float64)
    got = token_statistics(hidden, head, label, temperature, token_tile=tiles[0], vocab_tile=tiles[1])
    want = plain(hidden, head, label, temperature)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    grads = torch.autograd.grad((w_log * got[0] + w_ent * got[1]).sum(), (hidden, head))
    expected = torch.autograd.grad((w_log * want[0] + w_ent * want[1]).sum(), (hidden, head))
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("which", [0, 1])
def test_each_output_alone_has_the_right_gradient(which):
    hidden, head, label = problem(seed=3)
    got = torch.autograd.grad(
        token_statistics(hidden, head, label, vocab_tile=8)[which].sum(), (hidden, head)
    )
    want = torch.autograd.grad(plain(hidden, head, label, 1.0)[which].sum(), (hidden, head))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_gradcheck():
    hidden, head, label = problem(n=3, d=4, v=6)
    assert torch.autograd.gradcheck(
        lambda h, w: token_statistics(h, w, label, 0.8, vocab_tile=4)[:2], (hidden, head)
    )


@pytest.mark.parametrize("scale", [0.0, 30.0, 300.0])
def test_flat_and_nearly_deterministic_policies(scale):
    hidden, head, label = problem(scale=scale)
    got, want = token_statistics(hidden, head, label, vocab_tile=4), plain(hidden, head, label, 1.0)
    for a, b in zip(got, want, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    grads = torch.autograd.grad(got.entropy.sum(), (hidden, head))
    assert all(torch.isfinite(g).all() for g in grads)
    if scale == 0:
        torch.testing.assert_close(got.entropy, torch.full_like(got.entropy, float(torch.tensor(29.0).log())))


def test_bf16_input_keeps_float32_statistics():
    hidden, head, label = problem(n=200, d=64, v=512, scale=0.5, dtype=torch.bfloat16)
    got = token_statistics(hidden, head, label, vocab_tile=100)
    want = plain(hidden, head, label, 1.0)
    assert got.entropy.dtype == torch.float32
    assert float(
        (got.entropy.detach().mean() - want[1].detach().mean()) / want[1].detach().mean()
    ) == pytest.approx(0, abs=2e-3)
    (grad,) = torch.autograd.grad(got.entropy.sum(), hidden)
    assert grad.dtype == torch.bfloat16


class Largest(TorchDispatchMode):
    """Size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor):
                self.elements = max(self.elements, t.numel())
        return out


def test_no_tensor_of_all_logits_is_made():
    hidden, head, label = problem(n=64, d=4, v=96)
    bound = max(8 * 16, 96 * 4, 64 * 4)  # a tile, the gradient of the head, that of the hidden states
    with Largest() as largest:
        out = token_statistics(hidden, head, label, token_tile=8, vocab_tile=16)
        torch.autograd.grad(out.log_prob.sum() + out.entropy.sum(), (hidden, head))
    assert 96 * 4 <= largest.elements <= bound
    with Largest() as largest:
        plain(hidden, head, label, 1.0)
    assert largest.elements >= 64 * 96, "the watch would see them"


@pytest.mark.parametrize("token_tile", [64, 1000])
def test_bf16_gradients_are_summed_in_float32(token_tile):
    """Over many tiles the error is no larger than with one tile of everything."""
    hidden, head, label = problem(n=256, d=32, v=4096, scale=0.7, dtype=torch.bfloat16)
    exact = [t.detach().double().requires_grad_() for t in (hidden, head)]
    log_p = torch.log_softmax((hidden @ head.T).float(), -1)  # full logits in bf16: every sum is rounded once
    full = log_p.gather(1, label[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    got = token_statistics(hidden, head, label, token_tile=token_tile, vocab_tile=64)
    want = plain(*exact, label, 1.0)
    for which in (0, 1):
        ours, reference, expected = (
            torch.autograd.grad(x[which].sum(), inputs, retain_graph=True)
            for x, inputs in ((got, (hidden, head)), (full, (hidden, head)), (want, exact))
        )
        for a, r, b in zip(ours, reference, expected, strict=True):
            assert (a.double() - b).norm() <= 1.02 * (r.double() - b).norm() < 0.02 * b.norm()


def test_a_sum_of_bf16_products_keeps_what_each_one_rounds_away():
    g = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn((40, 64, 96), generator=g).bfloat16(),
        torch.randn((40, 96, 32), generator=g).bfloat16(),
    )
    total, exact = torch.zeros(64, 32), (a.double() @ b.double()).sum(0)
    for x, y in zip(a, b, strict=True):
        _add_product(total, x, y)
    assert float((total.double() - exact).norm() / exact.norm()) < 1e-5
    rounded = sum((x @ y).float() for x, y in zip(a, b, strict=True))
    assert float((rounded.double() - exact).norm() / exact.norm()) > 1e-3


def test_entropy_that_is_only_logged_costs_no_gradient():
    hidden, head, label = problem(seed=5)
    got = token_statistics(hidden, head, label, vocab_tile=8)
    grads = torch.autograd.grad(got.log_prob.sum() + 0 * got.entropy.detach().sum(), (hidden, head))
    want = torch.autograd.grad(plain(hidden, head, label, 1.0)[0].sum(), (hidden, head))
    for a, b in zip(grads, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_side_gets_no_gradient(frozen):
    hidden, head, label = problem(seed=6)
    (hidden, head)[frozen].requires_grad_(False)
    free = (head, hidden)[frozen]
    got = torch.autograd.grad(token_statistics(hidden, head, label, vocab_tile=8).entropy.sum(), free)
    want = torch.autograd.grad(plain(hidden, head, label, 1.0)[1].sum(), free)
    torch.testing.assert_close(got[0], want[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda h, w, y: (h[:, :3], w, y, 1.0), "do not fit"),
        (lambda h, w, y: (h, w, y[:2], 1.0), "labels"),
        (lambda h, w, y: (h, w, y, 0.0), "temperature"),
    ],
)
def test_wrong_input_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        token_statistics(*change(*problem()))
