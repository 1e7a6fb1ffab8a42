"""What another trainer's loss cannot carry is an error, not the loss without it."""

from __future__ import annotations

import pytest
import torch

from entlaw.engines.verl.names import LossName
from entlaw.engines.whole_batch import carry
from entlaw.errors import UsageError
from entlaw.train.choice import TokenChoice

MASK = torch.ones(2, 3)
SOME = torch.tensor([[True, False, False], [False, True, False]])


def test_marked_tokens_are_carried_by_the_sign():
    carried = carry(TokenChoice({"clip_cov": SOME}), MASK)
    assert torch.equal(carried < 0, SOME)


@pytest.mark.parametrize("name", ["entropy_bonus", "reference_kl"])
def test_a_choice_that_a_sign_cannot_carry_is_refused(name):
    with pytest.raises(UsageError, match="cannot be carried"):
        carry(TokenChoice({name: SOME}), MASK)


def test_verl_has_no_name_for_another_control():
    with pytest.raises(UsageError, match="no name for a policy loss with high_entropy"):
        LossName("ppo_clip", "high_entropy")
