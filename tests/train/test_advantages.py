"""Each estimator against a plain loop, and the identities they must keep."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.train import advantages as adv  # noqa: E402

torch.set_num_threads(1)


def batch(seed=0, n_groups=4, k=8, t=6):
    g = torch.Generator().manual_seed(seed)
    reward = torch.randint(0, 2, (n_groups * k,), generator=g).double()
    group = torch.arange(n_groups).repeat_interleave(k)[torch.randperm(n_groups * k, generator=g)] * 7 + 3
    length = torch.randint(1, t + 1, (n_groups * k,), generator=g)
    mask = (torch.arange(t) < length[:, None]).double()
    return reward, group, mask


def by_group(reward, group):
    return {int(g): reward[group == g] for g in group.unique()}


@pytest.mark.parametrize("seed", range(5))
def test_grpo_equals_a_loop(seed):
    reward, group, mask = batch(seed)
    groups = by_group(reward, group)
    got = adv.grpo(reward, group, mask)
    for i, (r, g) in enumerate(zip(reward, group, strict=True)):
        members = groups[int(g)]
        want = (r - members.mean()) / (members.std() + 1e-6)
        torch.testing.assert_close(got[i], want * mask[i], rtol=0, atol=1e-12)


def test_grpo_sums_to_zero_in_each_group_and_dr_grpo_keeps_the_scale():
    reward, group, mask = batch(1)
    one = torch.ones_like(mask[:, :1])
    for norm in (True, False):
        a = adv.grpo(reward, group, one, norm_by_std=norm)[:, 0]
        for g in group.unique():
            assert abs(float(a[group == g].sum())) < 1e-9
    torch.testing.assert_close(
        adv.grpo(reward, group, one, norm_by_std=False)[:, 0], reward - adv.group_mean(reward, group)
    )


def test_group_of_one():
    reward, group, mask = torch.tensor([1.0, 0.0]), torch.tensor([0, 1]), torch.ones(2, 3)
    torch.testing.assert_close(
        adv.grpo(reward, group, mask), torch.tensor([[1.0] * 3, [0.0] * 3]), rtol=0, atol=2e-6
    )
    torch.testing.assert_close(adv.rloo(reward, group, mask), torch.tensor([[1.0] * 3, [0.0] * 3]))


@pytest.mark.parametrize("seed", range(5))
def test_rloo_equals_leaving_one_out(seed):
    reward, group, mask = batch(seed)
    got = adv.rloo(reward, group, mask)
    for i in range(len(reward)):
        others = [float(reward[j]) for j in range(len(reward)) if group[j] == group[i] and j != i]
        want = float(reward[i]) - sum(others) / len(others)
        torch.testing.assert_close(got[i], want * mask[i], rtol=0, atol=1e-12)


def test_returns_to_go_equals_a_loop_and_ignores_padding():
    _, _, mask = batch(2)
    g = torch.Generator().manual_seed(9)
    token_reward = torch.randn(mask.shape, generator=g, dtype=torch.double)
    got = adv.returns_to_go(token_reward, mask, gamma=0.9)
    for i in range(len(mask)):
        n = int(mask[i].sum())
        want = [sum(0.9 ** (u - t) * float(token_reward[i, u]) for u in range(t, n)) for t in range(n)]
        torch.testing.assert_close(got[i, :n], torch.tensor(want, dtype=torch.double), rtol=0, atol=1e-12)
        assert float(got[i, n:].abs().sum()) == 0


def test_reward_sits_on_the_last_token():
    mask = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 0, 0]])
    out = adv.at_last_token(torch.tensor([2.0, 3.0, 5.0]), mask)
    assert out.tolist() == [[0, 2, 0], [0, 0, 3], [0, 0, 0]]


def test_whitening():
    reward, _, mask = batch(3)
    a = adv.reinforce_plus_plus(adv.at_last_token(reward, mask), mask)
    valid = a[mask > 0]
    assert float(valid.mean()) == pytest.approx(0, abs=1e-12)
    assert float(valid.std()) == pytest.approx(1, abs=1e-6)
    assert float((a * (1 - mask)).abs().sum()) == 0


def test_gae_equals_the_sum_over_deltas():
    _, _, mask = batch(4)
    g = torch.Generator().manual_seed(1)
    reward, value = torch.randn((2, *mask.shape), generator=g, dtype=torch.double)
    gamma, lam = 0.95, 0.8
    advantage, returns = adv.gae(reward * mask, value * mask, mask, gamma, lam)
    for i in range(len(mask)):
        n = int(mask[i].sum())
        v = [*value[i, :n].tolist(), 0.0]
        delta = [float(reward[i, t]) + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            want = sum((gamma * lam) ** (u - t) * delta[u] for u in range(t, n))
            assert float(advantage[i, t]) == pytest.approx(want, abs=1e-12)
            assert float(returns[i, t]) == pytest.approx(want + v[t], abs=1e-12)


def test_gae_with_lambda_one_and_no_values_is_the_return():
    _, _, mask = batch(5)
    reward = adv.at_last_token(torch.ones(len(mask), dtype=torch.double), mask)
    advantage, _ = adv.gae(reward, torch.zeros_like(reward), mask)
    torch.testing.assert_close(advantage, adv.returns_to_go(reward, mask))


def test_prime_with_zero_process_reward_is_whitened_rloo():
    reward, group, mask = batch(6)
    got = adv.prime(torch.zeros_like(mask), reward, group, mask)
    torch.testing.assert_close(got, adv.masked_whiten(adv.rloo(reward, group, mask), mask), rtol=0, atol=1e-7)


def test_prime_process_part_equals_a_loop():
    reward, group, mask = batch(7)
    g = torch.Generator().manual_seed(2)
    q = torch.randn(mask.shape, generator=g, dtype=torch.double) * mask
    got = adv.prime(q, reward, group, mask, process_weight=1.0, outcome_weight=0.0)
    means = [(q[i].sum() / mask[i].sum()) for i in range(len(q))]
    raw = torch.zeros_like(q)
    for i in range(len(q)):
        members = [j for j in range(len(q)) if group[j] == group[i]]
        k = len(members)
        base = sum(means[j] for j in members) / k
        n = int(mask[i].sum())
        for t in range(n):
            raw[i, t] = sum((q[i, u] - base) * k / (k - 1) for u in range(t, n))
    torch.testing.assert_close(got, adv.masked_whiten(raw, mask), rtol=0, atol=1e-9)
