"""verl's ``core_algos`` as an oracle (see ``verl_cases.py``)."""

import os

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip(
    "verl",
    reason="needs verl in a venv of its own: "
    "pip install torch==2.13.0 verl==0.9.1 cachetools uvicorn fastapi TransferQueue",
)

from entlaw.train import losses  # noqa: E402
from entlaw.train.losses import aggregate  # noqa: E402

from . import verl_cases as cases  # noqa: E402
from .common import batch  # noqa: E402

torch.set_num_threads(1)

BATCH = batch(seed=3)
EXACT, NEAR = cases.exact(BATCH), cases.near(BATCH)


@pytest.mark.parametrize("at", range(len(EXACT)))
@pytest.mark.parametrize("seed", [3, 11])
def test_to_rounding(at, seed):
    got = cases.exact(batch(seed=seed))[at]()
    assert got.scale > 1e-3 and got.worst <= 1e-12, got


@pytest.mark.parametrize("at", range(len(NEAR)))
@pytest.mark.parametrize("seed", [3, 11])
def test_to_the_1e_minus_8_that_verl_adds_to_counts(at, seed):
    got = cases.near(batch(seed=seed))[at]()
    assert got.scale > 1e-3 and got.worst <= 1e-8 * max(1.0, got.scale), got


@pytest.mark.parametrize("singles", [True, False])
def test_advantages(singles):
    for got in cases.advantage_rows(cases.uneven(BATCH, singles)):
        # verl's vectorised GRPO counts in float32; its loop holds the std of a group of one in float32.
        assert got.scale > 0.1 and got.worst <= 5e-7, got


def test_head():
    for got in cases.entropy_head():
        assert got.scale > 1e-2 and got.worst <= 1e-11, got


@pytest.mark.parametrize(
    "ratio, lower, upper, epsilon", [(1.0, 0.2, 5.0, 0.2), (0.05, 0.2, 5.0, 0.2), (0.02, 0.1, 5.0, 1.0)]
)
def test_clip_cov_chose_some_tokens_and_left_some(ratio, lower, upper, epsilon):
    chosen, _ = cases.our_clip_cov(BATCH, ratio, lower, upper, 5, epsilon)
    n = int(BATCH.mask_BT.sum())
    assert 0 < int(chosen.sum()) <= max(int(ratio * n), 1) < n or ratio == 1.0
    other, _ = cases.our_clip_cov(BATCH, ratio, lower, upper, 6, epsilon)
    assert bool((other == chosen).all()) == (ratio == 1.0), "the draw matters exactly when the quota binds"


def test_the_oracle_sees_another_draw_and_another_rule():
    assert cases.clip_cov(BATCH, 0.05, 0.2, 5.0).worst <= 1e-12
    torch.manual_seed(6)
    theirs = cases.policy_loss(
        BATCH, "token-mean", "clip_cov", clip_cov_ratio=0.05, clip_cov_lb=0.2, clip_cov_ub=5.0
    )
    chosen, loss = cases.our_clip_cov(BATCH, 0.05, 0.2, 5.0, 5, 0.2)
    assert abs(float((aggregate(loss * ~chosen, BATCH.mask_BT) - theirs).detach())) > 1e-6
    plain, _ = losses.policy_gradient(*cases._arguments(BATCH))
    theirs = cases.policy_loss(BATCH, "token-mean", "kl_cov", kl_cov_ratio=0.1, ppo_kl_coef=0.7)
    assert abs(float((aggregate(plain, BATCH.mask_BT) - theirs).detach())) > 1e-4


@pytest.mark.skipif(
    "ENTLAW_PRIME_RECIPE" not in os.environ,
    reason="verl's PRIME recipe is in no package: set ENTLAW_PRIME_RECIPE to its prime_core_algos.py",
)
def test_prime():
    got = cases.prime(cases.load_prime(os.environ["ENTLAW_PRIME_RECIPE"]), BATCH)
    assert got.scale > 0.1 and got.worst <= 2e-6, got
