"""Names under which verl knows our losses, advantage estimators and trainer, and what each of them means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from entlaw.errors import UsageError
from entlaw.train.advantages import ESTIMATORS, Estimator
from entlaw.train.losses import LOSSES
from entlaw.train.recipe import flat, settings
from entlaw.train.schema import Recipe

# The controls whose parameters verl's own configuration has places for.
ControlName = Literal["", "clip_cov", "kl_cov"]
Penalty = Literal["abs", "k1", "k2", "k3"]

PREFIX = "entlaw_"
TRAINER = "entlaw_sync"
"""verl's synchronous trainer, with the choice of tokens over whole optimiser steps."""
TESTED = "0.9.1"
"""The version of verl that this was written for and is tested with."""


@dataclass(frozen=True)
class LossName:
    """A policy loss and what happens to the chosen tokens."""

    kind: str
    control: ControlName = ""
    penalty: Penalty = "abs"

    def __post_init__(self) -> None:
        if self.control not in get_args(ControlName):
            raise UsageError(
                f"verl has no name for a policy loss with {self.control}",
                why="its configuration has places for the parameters of Clip-Cov and KL-Cov only",
                hint="switch that control off, or use `entlaw train`",
            )

    def __str__(self) -> str:
        if not self.control:
            return f"{PREFIX}{self.kind}"
        if self.control == "clip_cov":
            return f"{PREFIX}{self.kind}_clip_cov"
        return f"{PREFIX}{self.kind}_kl_cov_{self.penalty}"


def loss_names() -> dict[str, LossName]:
    """Every policy loss by its registered name."""
    found = []
    for kind in LOSSES:
        found += [LossName(kind), LossName(kind, "clip_cov")]
        found += [LossName(kind, "kl_cov", penalty) for penalty in get_args(Penalty)]
    named = {str(name): name for name in found}
    # The methods by their own names: as the paper's scripts run them.
    named[f"{PREFIX}clip_cov"] = LossName("ppo_clip", "clip_cov")
    named[f"{PREFIX}kl_cov"] = LossName("policy_gradient", "kl_cov", "abs")
    return named


def estimator_name(entry: Estimator, baseline: str = "none") -> str:
    """An estimator's registered name, or that of verl's own; one with a baseline has a name for each."""
    if entry.verl:
        return entry.verl
    ending = "" if baseline == "none" or "baseline" not in entry.wants else f"_{baseline.replace('-', '_')}"
    return f"{PREFIX}{entry.name}{ending}"


def estimators() -> dict[str, tuple[Estimator, str]]:
    """Every advantage estimator and its baseline by registered name: those that need rewards alone."""
    return {
        estimator_name(entry, baseline): (entry, baseline)
        for entry in ESTIMATORS.values()
        if not entry.verl and not entry.critic and not entry.reward_model
        for baseline in get_args(settings()["algorithm.baseline"].kind)
    }


def named(recipe: Recipe, *keys: str) -> Iterator[tuple[str, Any]]:
    """Settings that one of verl's takes as they are: its name, and the value."""
    values = flat(recipe)
    return ((settings()[key].verl.text, values[key]) for key in keys)


def all_named(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """All of them that have an effect."""
    known = [s for s in settings().values() if s.verl.how == "named"]
    return named(recipe, *(s.key for s in known if s.has_effect(recipe)))
