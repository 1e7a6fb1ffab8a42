"""Which tokens Clip-Cov and KL-Cov choose: over the whole batch, reproducibly, and nothing else."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.dynamics.covariance import group_covariance, token_covariance, top_share_means  # noqa: E402
from entlaw.train import controls  # noqa: E402

torch.set_num_threads(1)


def batch(seed=0, b=24, t=40):
    g = torch.Generator().manual_seed(seed)
    log_prob = -torch.rand((b, t), generator=g, dtype=torch.double).pow(-0.4) + 0.9
    advantage = torch.randn((b, 1), generator=g, dtype=torch.double).expand(b, t).clone()
    mask = (torch.arange(t) < torch.randint(1, t + 1, (b, 1), generator=g)).double()
    return log_prob, advantage, mask


def test_token_covariance_averages_to_the_covariance():
    log_prob, advantage, mask = batch()
    c = token_covariance(log_prob, advantage, mask)
    stacked = torch.stack([log_prob[mask > 0], advantage[mask > 0]])
    assert float(c.sum() / mask.sum()) == pytest.approx(
        float(torch.cov(stacked, correction=0)[0, 1]), abs=1e-13
    )
    assert float((c * (1 - mask)).abs().sum()) == 0


def test_one_sequence_alone_has_no_covariance():
    # Why a choice within micro-batches of one sequence cannot work.
    log_prob, advantage, mask = batch()
    assert float(token_covariance(log_prob[:1], advantage[:1], mask[:1]).abs().max()) == pytest.approx(
        0, abs=1e-15
    )


def test_top_shares_are_the_means_of_the_sorted_values():
    log_prob, advantage, mask = batch(1)
    c = token_covariance(log_prob, advantage, mask)
    values = sorted(c[mask > 0].tolist(), reverse=True)
    got = top_share_means(c, mask, (0.0001, 0.02, 0.2, 1.0))
    for share, mean in got.items():
        k = max(round(share * len(values)), 1)
        assert mean == pytest.approx(sum(values[:k]) / k, abs=1e-12)


@pytest.mark.parametrize("times", [False, True])
def test_group_covariance_equals_a_loop(times):
    log_prob, advantage, mask = batch(2)
    group = torch.arange(24) % 5
    got, ids = group_covariance(log_prob, advantage[:, 0], group, mask, times)
    for value, g in zip(got, ids, strict=True):
        members = [i for i in range(24) if group[i] == g]
        logs = [float((log_prob[i] * mask[i]).sum() / mask[i].sum()) for i in members]
        a = [
            float(advantage[i, 0]) * (2.718281828459045 ** logs[j] if times else 1)
            for j, i in enumerate(members)
        ]
        ml, ma = sum(logs) / len(logs), sum(a) / len(a)
        want = sum((x - ml) * (y - ma) for x, y in zip(logs, a, strict=True)) / len(a)
        assert float(value) == pytest.approx(want, abs=1e-12)


def test_kl_cov_takes_the_largest():
    log_prob, advantage, mask = batch(3)
    c = token_covariance(log_prob, advantage, mask)
    chosen = controls.kl_cov_tokens(c, mask, 0.05)
    n = int(mask.sum())
    assert int(chosen.sum()) == int(0.05 * n)
    assert c[chosen].min() >= c[(~chosen) & (mask > 0)].max()


def test_at_least_one_token_and_none_when_switched_off():
    log_prob, advantage, mask = batch(4)
    c = token_covariance(log_prob, advantage, mask)
    assert int(controls.kl_cov_tokens(c, mask, 1e-9).sum()) == 1
    assert int(controls.kl_cov_tokens(c, mask, 0.0).sum()) == 0
    assert int(controls.kl_cov_tokens(c, mask * 0, 0.5).sum()) == 0


def clip(c, mask, ratio, seed, lower=0.2, upper=1.0):
    g = torch.Generator().manual_seed(seed)
    return controls.clip_cov_tokens(c, mask, int(mask.sum()), ratio, lower, upper, generator=g)


def test_clip_cov_draws_its_quota_from_the_band():
    log_prob, advantage, mask = batch(5)
    c = token_covariance(log_prob, advantage, mask)
    chosen = clip(c, mask, 0.03, 0)
    assert int(chosen.sum()) == int(0.03 * int(mask.sum()))
    assert ((c[chosen] >= 0.2) & (c[chosen] <= 1.0)).all() and (mask[chosen] > 0).all()


def test_clip_cov_is_seeded_and_uniform():
    log_prob, advantage, mask = batch(6)
    c = token_covariance(log_prob, advantage, mask)
    assert torch.equal(clip(c, mask, 0.02, 1), clip(c, mask, 0.02, 1))
    assert not torch.equal(clip(c, mask, 0.02, 1), clip(c, mask, 0.02, 2))
    inside = (mask > 0) & (c >= 0.2) & (c <= 1.0)
    counts = sum(clip(c, mask, 0.02, s).double() for s in range(2000))
    quota = int(0.02 * int(mask.sum()))
    rate = quota / int(inside.sum())
    sd = (rate * (1 - rate) / 2000) ** 0.5
    assert float((counts[inside] / 2000 - rate).abs().max()) < 5 * sd
    assert float(counts[~inside].sum()) == 0


def test_no_candidate_no_choice():
    log_prob, advantage, mask = batch(7)
    c = token_covariance(log_prob, advantage, mask)
    assert int(clip(c, mask, 0.1, 0, lower=1e6, upper=2e6).sum()) == 0


def test_high_entropy_tokens():
    _, _, mask = batch(8)
    h = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    chosen = controls.high_entropy_tokens(h, mask)
    assert int(chosen.sum()) == int(0.2 * int(mask.sum()))
    assert h[chosen].min() >= h[(~chosen) & (mask > 0)].max()
