"""Names under which verl knows our losses, advantage estimators and trainer, and what each of them means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["ppo_clip", "policy_gradient", "gspo", "cispo"]
Control = Literal["", "clip_cov", "kl_cov"]
Penalty = Literal["abs", "k1", "k2", "k3"]

PREFIX = "entlaw_"
TRAINER = "entlaw_sync"
"""verl's synchronous trainer, with the choice of tokens over whole optimiser steps."""
TESTED = "0.9.1"
"""The version of verl that this was written for and is tested with."""


@dataclass(frozen=True)
class LossName:
    """A policy loss and what happens to the chosen tokens."""

    kind: Kind
    control: Control = ""
    penalty: Penalty = "abs"

    def __str__(self) -> str:
        if not self.control:
            return f"{PREFIX}{self.kind}"
        if self.control == "clip_cov":
            return f"{PREFIX}{self.kind}_clip_cov"
        return f"{PREFIX}{self.kind}_kl_cov_{self.penalty}"


def loss_names() -> dict[str, LossName]:
    """Every policy loss by its registered name."""
    found = []
    for kind in get_args(Kind):
        found += [LossName(kind), LossName(kind, "clip_cov")]
        found += [LossName(kind, "kl_cov", penalty) for penalty in get_args(Penalty)]
    named = {str(name): name for name in found}
    # The methods by their own names: as the paper's scripts run them.
    named[f"{PREFIX}clip_cov"] = LossName("ppo_clip", "clip_cov")
    named[f"{PREFIX}kl_cov"] = LossName("policy_gradient", "kl_cov", "abs")
    return named


ESTIMATORS = (
    "reinforce",
    "reinforce_batch_mean",
    "grpo",
    "dr_grpo",
    "rloo",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
)
"""Advantage estimators, without the prefix."""


def estimator_names() -> tuple[str, ...]:
    """Every advantage estimator's registered name."""
    return tuple(PREFIX + name for name in ESTIMATORS)
