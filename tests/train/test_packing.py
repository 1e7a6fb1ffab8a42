"""Responses packed behind their prompt: the same numbers and gradients as row by row."""

import torch

from entlaw.train import policy as policies
from entlaw.train.packing import pack, pays
from tests.train.common import gradients, tiny_batch, tiny_policy


def scored(policy, batch, monkeypatch, packed):
    monkeypatch.setattr(policies, "pays", lambda *_: packed)
    policy.model.zero_grad()
    scores = policy.score(batch, 0.8)
    weight = torch.randn(
        scores.log_prob_BT.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    ((scores.log_prob_BT + 0.3 * scores.entropy_BT) * weight).sum().backward()
    return torch.stack([s.detach() for s in scores]), gradients(policy)


def uneven(policy):
    """Groups of different sizes, rows out of order, responses of different lengths, prompts with padding."""
    batch = tiny_batch(policy, groups=4, k=5)
    batch = batch.rows(torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))[:13]).trimmed()
    assert len(torch.unique(batch.mask_BT.sum(1))) > 1 and not batch.prompt_mask_BP.all()
    return batch


def test_packed_scores_and_gradients_are_those_of_padded_rows(monkeypatch):
    for family in ("llama", "qwen2"):
        policy = tiny_policy(family=family)
        batch = uneven(policy)
        plain, packed = (scored(policy, batch, monkeypatch, way) for way in (False, True))
        for a, b in zip(plain, packed, strict=True):
            assert a.abs().max() > 0.1
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_responses_do_not_see_each_other(monkeypatch):
    monkeypatch.setattr(policies, "pays", lambda *_: True)
    policy = tiny_policy()
    batch = tiny_batch(policy, groups=1, k=3)
    with torch.no_grad():
        before = policy.score(batch).log_prob_BT
        changed = batch.response_BT.clone()
        changed[0, 0] = (changed[0, 0] + 1) % 10
        batch.response_BT[0] = changed[0]
        after = policy.score(batch).log_prob_BT
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(before[1:], after[1:], rtol=0, atol=1e-12)


def test_a_pack_holds_each_prompt_once_and_nothing_twice():
    policy = tiny_policy()
    batch = uneven(policy)
    packed = pack(batch, -1)
    first_G, _ = batch.groups()
    wanted = int(batch.prompt_mask_BP[first_G].sum() + (batch.mask_BT.sum(1) - 1).sum())
    assert int((packed.tokens_GL >= 0).sum()) == wanted
    source = packed.source_BT[batch.mask_BT > 0]
    first = packed.source_BT[:, 0]
    # Only the first tokens of responses to one prompt are predicted in one place.
    assert len(torch.unique(source)) == len(source) - len(first) + len(torch.unique(first))


def test_long_responses_to_short_prompts_are_not_packed():
    policy = tiny_policy()
    batch = tiny_batch(policy, groups=2, k=4)
    assert pays(batch, 64)
    longer = torch.zeros(len(batch), 600)
    wide = batch.__class__(
        batch.prompt_BP, batch.prompt_mask_BP, longer.long(), longer + 1, batch.finished_B, batch.group_B
    )
    assert not pays(wide, 64)


def test_an_empty_prompt_is_not_packed():
    policy = tiny_policy()
    batch = tiny_batch(policy, groups=2, k=4)
    batch.prompt_mask_BP[0] = False
    assert not pays(batch, 64)
