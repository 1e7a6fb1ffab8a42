"""Our losses inside verl: through its own loss driver ``ppo_loss``, for any cut into micro-batches and ranks."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("verl", reason="needs verl in a venv of its own: `make test-verl`")

from tensordict import TensorDict  # noqa: E402
from verl.trainer.ppo import core_algos  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.workers.config import FSDPActorConfig  # noqa: E402
from verl.workers.config.actor import PolicyLossConfig  # noqa: E402
from verl.workers.utils.losses import ppo_loss  # noqa: E402

from entlaw.engines.verl import plugin  # noqa: E402
from entlaw.engines.verl.names import LossName, estimators, loss_names  # noqa: E402
from entlaw.engines.whole_batch import choose_steps, step_rows  # noqa: E402
from entlaw.train.batch import Batch  # noqa: E402
from entlaw.train.choice import choose  # noqa: E402
from entlaw.train.policy import Scores  # noqa: E402
from entlaw.train.schema import ClipCov, Controls, KlCov, Loss  # noqa: E402
from entlaw.train.update import objective  # noqa: E402

torch.set_num_threads(1)
B, T, PROMPT = 24, 11, 3
CLIP_COV = ClipCov(ratio=0.05, lower=0.05, upper=5.0)


def batch(seed=0, weights=False):
    """A rollout of float64 with responses of every length, four to a prompt."""
    g = torch.Generator().manual_seed(seed)
    length = torch.randint(1, T + 1, (B,), generator=g)
    length[0] = T
    mask = (torch.arange(T) < length[:, None]).double()
    old = -torch.rand(B, T, generator=g, dtype=torch.float64) * 3 * mask
    advantages = torch.randn(B, 1, generator=g, dtype=torch.float64) * mask
    weight = (torch.rand(B, T, generator=g, dtype=torch.float64) + 0.3) * mask if weights else None
    nothing = torch.zeros(B, PROMPT, dtype=torch.int64)
    return Batch(
        prompt_BP=nothing,
        prompt_mask_BP=nothing == 0,
        response_BT=torch.zeros(B, T, dtype=torch.int64),
        mask_BT=mask,
        finished_B=length > 0,
        group_B=torch.arange(B) // 4,
        reward_B=advantages[:, 0],
        log_prob_BT=old,
        advantages_BT=advantages,
        rollout_weight_BT=weight,
        entropy_BT=torch.rand(B, T, generator=g, dtype=torch.float64) * mask,
    )


def moved(b, seed=1):
    """Log-probs of a policy that has left the rollout policy."""
    g = torch.Generator().manual_seed(seed)
    return b.log_prob_BT + 0.4 * torch.randn(B, T, generator=g, dtype=torch.float64) * b.mask_BT


def nested(values_BT, length_B):
    return torch.nested.as_nested_tensor(
        [row[:n] for row, n in zip(values_BT, length_B.tolist(), strict=True)], layout=torch.jagged
    )


def through_verl(b, log_prob_BT, carried_BT, config, micro_batches, ranks=1):
    """The loss of one optimiser step by verl's driver: micro-batches of each rank, averaged over ranks."""
    tokens = int(b.mask_BT.sum())
    total = 0.0
    for rows in micro_batches:
        part, mask = b.rows(rows), b.mask_BT[rows]
        length = mask.sum(-1).long()
        # A model's output stands at every token of prompt and response, the prediction one place ahead.
        full = torch.cat(
            [torch.zeros(len(rows), PROMPT - 1), log_prob_BT[rows], torch.zeros(len(rows), 1)], 1
        )
        full = torch.nested.nested_tensor_from_jagged(
            torch.cat(
                [
                    torch.cat([row[: PROMPT - 1 + n], row.new_zeros(1)])
                    for row, n in zip(full, length.tolist(), strict=True)
                ]
            ),
            torch.cat([torch.zeros(1, dtype=torch.long), (length + PROMPT).cumsum(0)]),
        )
        data = {
            "prompts": nested(torch.zeros(len(rows), PROMPT), torch.full((len(rows),), PROMPT)),
            "responses": nested(torch.zeros(len(rows), T), length),
            "response_mask": nested(mask, length),
            "old_log_probs": nested(part.log_prob_BT, length),
            "advantages": nested(part.advantages_BT, length),
        }
        if carried_BT is not None:
            data["rollout_is_weights"] = nested(carried_BT[rows], length)
        td = TensorDict(data, batch_size=len(rows))
        tu.assign_non_tensor(td, dp_size=ranks, batch_num_tokens=tokens, global_batch_size=B)
        loss, metrics = ppo_loss(config, {"log_probs": full}, td)
        total = total + loss / ranks
    return total, metrics


def actor(loss_mode, *, aggregation="token-mean", coef=1.0, low=0.2, high=0.2, c=0.0, scale=None):
    return FSDPActorConfig(
        strategy="fsdp",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=low,
        clip_ratio_high=high,
        clip_ratio_c=c,
        loss_agg_mode=aggregation,
        loss_scale_factor=scale,
        policy_loss=PolicyLossConfig(loss_mode=loss_mode, ppo_kl_coef=coef),
    )


def ours(b, log_prob_BT, choice, loss, controls, on_policy=False):
    result, _ = objective(
        Scores(log_prob_BT, 0 * log_prob_BT.detach(), 0 * log_prob_BT.detach()),
        b,
        choice,
        loss,
        controls,
        entropy_coeff=0.0,
        tokens=float(b.mask_BT.sum()),
        responses=float(B),
        norm_length=9.0,
        on_policy=on_policy,
    )
    return result


CUTS = {
    "whole": [torch.arange(B)],
    "one by one": [torch.tensor([i]) for i in range(B)],
    "uneven": [torch.arange(0, 5), torch.arange(5, 6), torch.arange(6, 19), torch.arange(19, B)],
    "shuffled": list(torch.randperm(B, generator=torch.Generator().manual_seed(5)).split(7)),
}
CASES = {
    "ppo_clip": (LossName("ppo_clip"), Controls()),
    "policy_gradient": (LossName("policy_gradient"), Controls()),
    "gspo": (LossName("gspo"), Controls()),
    "cispo": (LossName("cispo"), Controls()),
    "clip_cov": (LossName("ppo_clip", "clip_cov"), Controls(clip_cov=CLIP_COV)),
    "cispo clip_cov": (LossName("cispo", "clip_cov"), Controls(clip_cov=CLIP_COV)),
    "80/20": (LossName("ppo_clip"), Controls(high_entropy_share=0.2)),
    "80/20 clip_cov": (LossName("ppo_clip", "clip_cov"), Controls(high_entropy_share=0.2, clip_cov=CLIP_COV)),
    "80/20 kl_cov": (
        LossName("policy_gradient", "kl_cov", "k2"),
        Controls(high_entropy_share=0.2, kl_cov=KlCov(0.1, 0.7, "k2")),
    ),
} | {
    f"kl_cov {p}": (LossName("policy_gradient", "kl_cov", p), Controls(kl_cov=KlCov(0.1, 0.7, p)))
    for p in ("abs", "k1", "k2", "k3")
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("weights", [False, True])
def test_the_loss_through_verls_driver_is_ours_however_the_batch_is_cut(case, cut, weights):
    name, controls = CASES[case]
    b = batch(weights=weights)
    current = moved(b)
    loss = Loss(kind=name.kind)
    g = torch.Generator().manual_seed(7)
    choice = choose(b.log_prob_BT, b, loss, controls, g)
    carried, shares = choose_steps(
        b, [torch.arange(B)], loss, controls, torch.Generator().manual_seed(7), first_is_on_policy=False
    )
    assert all(share > 0 for share in shares.values())
    mine, theirs = current.clone().requires_grad_(), current.clone().requires_grad_()
    expected = ours(b, mine, choice, loss, controls)
    expected.backward()
    for ranks in (1, 3):
        theirs.grad = None
        got, metrics = through_verl(
            b, theirs, carried, actor(str(name), coef=controls.kl_cov.coef), CUTS[cut], ranks
        )
        got.backward()
        assert abs(float(got.detach() - expected.detach())) < 1e-7 * max(1.0, abs(float(expected.detach())))
        assert mine.grad.abs().max() > 1e-3
        # Weights travel as float32.
        torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-6, atol=1e-9)
    assert {"actor/ppo_kl", "actor/pg_loss"} <= set(metrics)


@pytest.mark.parametrize(
    "aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
)
def test_every_aggregation_and_dual_clip(aggregation):
    b = batch(3)
    current = moved(b)
    loss = Loss(clip_ratio_high=0.28, clip_ratio_c=1.5, aggregation=aggregation)
    expected = ours(b, current, choose(current, b, loss, Controls(), torch.Generator()), loss, Controls())
    config = actor("entlaw_ppo_clip", aggregation=aggregation, high=0.28, c=1.5, scale=9)
    for cut in CUTS.values():
        got, _ = through_verl(b, current, None, config, cut)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_verls_own_clip_cov_depends_on_the_cut_where_ours_does_not():
    """The reason for all of this; and that the comparison above can fail."""
    b = batch()
    values = {}
    for cut in ("whole", "one by one"):
        torch.manual_seed(0)
        leaf = moved(b).requires_grad_()
        got, _ = through_verl(b, leaf, None, actor("kl_cov"), CUTS[cut])
        got.backward()
        values[cut] = leaf.grad
    assert (values["whole"] - values["one by one"]).abs().max() > 1e-3


def test_a_control_without_a_choice_is_refused_not_ignored():
    b = batch()
    with pytest.raises(ValueError, match="trainer_mode=entlaw_sync"):
        through_verl(b, moved(b), None, actor("entlaw_clip_cov"), CUTS["whole"])
    with pytest.raises(ValueError, match="loss_scale_factor"):
        config = actor("entlaw_ppo_clip", aggregation="seq-mean-token-sum-norm")
        through_verl(b, moved(b), None, config, CUTS["whole"])


def test_the_methods_by_their_own_names_are_the_papers():
    b = batch()
    carried, _ = choose_steps(
        b,
        [torch.arange(B)],
        Loss(kind="policy_gradient"),
        Controls(kl_cov=KlCov(0.1)),
        torch.Generator(),
        first_is_on_policy=False,
    )
    one, _ = through_verl(b, moved(b), carried, actor("entlaw_kl_cov"), CUTS["whole"])
    other, _ = through_verl(b, moved(b), carried, actor("entlaw_policy_gradient_kl_cov_abs"), CUTS["whole"])
    assert one == other


def test_each_step_has_a_quota_of_its_own_and_the_first_of_kl_cov_is_idle():
    b = batch()
    steps = step_rows(B, 2, 6)
    assert [rows.tolist() for rows in steps[:2]] == [[0, 1, 2, 12, 13, 14], [3, 4, 5, 15, 16, 17]]
    controls = Controls(kl_cov=KlCov(0.1))
    carried, _ = choose_steps(b, steps, Loss(), controls, torch.Generator())
    for number, rows in enumerate(steps):
        quota = max(int(0.1 * int(b.mask_BT[rows].sum())), 1)
        assert int((carried[rows] < 0).sum()) == (quota if number else 0)


def test_registered_under_every_name_and_again_without_harm():
    plugin.register()
    found = plugin.registered()
    assert found["missing"] == [] and found["failures"] == {}
    assert set(loss_names()) <= set(core_algos.POLICY_LOSS_REGISTRY)


REWARDS = torch.tensor([1.0, 0, 0, 1, 1, 1, 0, 0.5, 1, 1, 1, 1])


@pytest.mark.parametrize(
    "ours_name, verls_name",
    [
        ("entlaw_grpo", "grpo"),
        ("entlaw_rloo", "rloo"),
        ("entlaw_reinforce_plus_plus", "reinforce_plus_plus"),
        ("entlaw_reinforce_plus_plus_baseline", "reinforce_plus_plus_baseline"),
    ],
)
def test_estimators_are_verls_where_verl_has_them(ours_name, verls_name):
    from verl.trainer.config import AlgoConfig

    mask = (torch.arange(5) < torch.tensor([5, 4, 3, 2, 1, 5, 4, 3, 2, 1, 5, 5])[:, None]).double()
    rewards = torch.zeros_like(mask)
    rewards[torch.arange(12), mask.sum(-1).long() - 1] = REWARDS.double()
    uid = [f"prompt-{i // 4}" for i in range(12)]
    arguments = {"token_level_rewards": rewards, "response_mask": mask, "index": uid, "config": AlgoConfig()}
    import numpy as np

    got, returns = core_algos.get_adv_estimator_fn(ours_name)(**arguments)
    arguments["index"] = np.array(uid, dtype=object)
    theirs, _ = core_algos.get_adv_estimator_fn(verls_name)(**arguments)
    assert got.abs().max() > 0.5 and torch.equal(got, returns)
    torch.testing.assert_close(got, theirs.double(), rtol=1e-6, atol=1e-6)


def test_padding_responses_touch_no_estimate():
    mask = torch.ones(6, 3)
    mask[4:] = 0
    rewards = torch.zeros(6, 3)
    rewards[:4, 2] = torch.tensor([1.0, 0.0, 1.0, 1.0])
    for name in estimators():
        fn = core_algos.get_adv_estimator_fn(name)
        padded, _ = fn(token_level_rewards=rewards, response_mask=mask, index=["a", "a", "b", "b", "a", "a"])
        plain, _ = fn(token_level_rewards=rewards[:4], response_mask=mask[:4], index=["a", "a", "b", "b"])
        torch.testing.assert_close(padded[:4], plain)
        assert float(padded[4:].abs().max()) == 0.0, name
