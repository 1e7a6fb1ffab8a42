"""The measure that the oracles use must be able to fail; and what an oracle found, kept without it."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.train import advantages  # noqa: E402

from .common import batch, compare, render  # noqa: E402


def test_a_comparison_needs_equal_shapes_and_finite_numbers():
    with pytest.raises(ValueError, match="shapes"):
        compare("x", "y", (torch.zeros(2), torch.zeros(3)))
    assert compare("x", "y", (torch.tensor(torch.nan), torch.zeros(()))).worst == float("inf")


def test_a_comparison_reports_the_largest_difference():
    one = torch.ones(3)
    got = compare("x", "y", (one, one + 0.25), ((one, one), (one, -4 * one)))
    assert (got.loss, got.gradient, got.worst, got.scale) == (0.25, 5.0, 5.0, 4.0)
    assert "| x | y | 2.5e-01 | 5.0e+00 | 4 |" in render([got])


def test_group_of_one_keeps_its_reward_in_reinforce_plus_plus_baseline():
    b = batch(seed=3)
    group_B = torch.tensor([0, 0, 0, 5, *[1] * 12])
    got_BT = advantages.reinforce_plus_plus_baseline(b.reward_B, group_B, b.mask_BT)
    centred_B = b.reward_B.clone()
    for g in (0, 1):
        centred_B[group_B == g] -= b.reward_B[group_B == g].mean()
    tokens = (centred_B[:, None] * b.mask_BT)[b.mask_BT > 0]
    torch.testing.assert_close(got_BT[3, 0], (b.reward_B[3] - tokens.mean()) / tokens.std())
