"""TRL's real trainer as an oracle (see ``trl_cases.py``)."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("trl", reason="needs TRL: pip install 'trl==1.16.0'")

from entlaw.train import losses  # noqa: E402

from . import trl_cases as cases  # noqa: E402
from .common import batch  # noqa: E402

torch.set_num_threads(1)

# TRL 1.16 sets an option that transformers 5.23 calls by another name; it is theirs to change.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing. is deprecated:FutureWarning")

# Float32 through two layers and a head that sums in another order: a few units in the last place of gradients near 1.
FLOAT32, FLOAT64 = 2e-6, 1e-12


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    return cases.Bench(str(tmp_path_factory.mktemp("trl")))


@pytest.mark.parametrize("name", cases.CASES)
def test_loss_and_gradient_of_every_parameter(at, name):
    got = cases.through_the_model(at, name, cases.CASES[name])
    assert got.scale > 0.1, "a gradient of nothing proves nothing"
    assert got.loss <= 1e-6 and got.gradient <= FLOAT32 * max(got.scale, 1), got


@pytest.mark.parametrize("name", cases.CASES)
def test_formula_in_float64(at, name):
    got = cases.through_log_probs(at, name, cases.CASES[name])
    assert got.scale > 1e-3
    assert got.worst <= FLOAT64, got


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("GRPO", cases._ppo("token-mean")),
        ("GRPO", cases._ppo("seq-mean-token-mean", clip_ratio_low=0.21)),
        ("DAPO (token mean, clip-higher)", cases._ppo("token-mean")),
        ("Dr. GRPO (constant length)", cases._ppo("seq-mean-token-sum")),
        ("dual clip (TRL: delta)", cases._ppo("seq-mean-token-mean")),
        ("GSPO", cases._ppo("seq-mean-token-mean", clip_ratio_low=0.05, clip_ratio_high=0.08)),
        ("CISPO", cases._ppo("token-mean", clip_ratio_high=0.3)),
        ("GRPO + reference KL (k3)", cases._ppo("seq-mean-token-mean")),
        ("GRPO + entropy bonus", cases._ppo("seq-mean-token-mean")),
    ],
)
def test_the_oracle_sees_a_wrong_loss(at, name, wrong):
    assert cases.through_log_probs(at, name, cases.CASES[name], ours=wrong).worst > 1e-4


def test_the_batch_reaches_every_branch():
    b = batch(seed=3, length=cases.LENGTH)
    arguments = (b.log_prob_BT, b.old_log_prob_BT, b.advantages_BT, b.mask_BT)
    _, metrics = losses.ppo_clip(*arguments, clip_ratio_c=1.5)
    for key in ("pg_clipfrac_high", "pg_clipfrac_low", "pg_clipfrac_dual"):
        assert 0 < float(metrics[f"actor/{key}"]) < 0.5, key
    assert 0 < float(losses.gspo(*arguments, 0.05, 0.08)[1]["actor/pg_clipfrac"]) < 0.9
    assert 0 < float(losses.cispo(*arguments, 1.0, 0.3)[1]["actor/pg_clipfrac"]) < 0.5
    assert len({int(n) for n in b.mask_BT.sum(1)}) > 4, "lengths differ"


def test_micro_batches(at):
    assert cases.micro_batches(at).worst <= FLOAT64


def test_rloo_gradient_on_policy(at):
    got = cases.rloo_on_policy(at)
    assert got.gradient <= FLOAT64 and got.scale > 1e-3


def test_advantages(at):
    as_it_is, same_guard, centred, leave_one_out = cases.group_advantages(at)
    assert same_guard.worst <= 2e-6 and centred.worst <= 1e-6 and leave_one_out.worst <= 1e-6
    # TRL divides by std + 1e-4, we by std + 1e-6: apart by |A| 1e-4 / std, which a group with little spread shows.
    assert 1e-5 < as_it_is.worst < 1e-2


def test_head_over_several_tiles():
    for got in cases.head():
        assert got.scale > 1e-3 and got.worst <= 3e-6 * max(got.scale, 1), got


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_high_entropy_tokens_are_trls_but_for_the_rounding_of_the_quota(at, share):
    ours, theirs = cases.high_entropy(at, share)
    assert (ours & ~theirs).sum() == 0 and int(theirs.sum() - ours.sum()) in (0, 1)
