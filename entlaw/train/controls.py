"""What acts on the entropy, beside the policy gradient: one small class each, registered by :func:`control`.

To add one, write it here. Its fields are its settings, a table ``[controls.NAME]`` of the recipe, for which
:class:`Controls` gets a field of that name; its methods, of which it overrides those that it needs, are called by the
update:

* ``choose``: which tokens of the optimiser step are treated specially. Over all of its tokens, before the loss is
  computed in micro-batches, so the choice is the same for any micro-batch size and any number of ranks. (Choosing
  within each micro-batch, as the reference code does, makes the algorithm depend on memory settings: with one sequence
  a micro-batch the advantage is constant, its covariance zero, and Clip-Cov never acts.)
* ``weigh``: what becomes of the policy loss of each token;
* ``pull``: what is added to the loss of each token;
* ``term``: what is added to the loss.

Shares are fractions, not percent. Shapes: B responses, T response tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from entlaw.registry import Registry
from entlaw.train import losses, uses
from entlaw.train.settings import IDLE, TRANSLATED, refused, setting, table

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from entlaw.train.batch import Batch
else:
    from entlaw.train import lazy_torch as torch

_C = TypeVar("_C", bound="type[Control]")
_POLICY_LOSS = "actor_rollout_ref.actor.policy_loss"


@dataclass(frozen=True)
class Step:
    """What a control may look at when it chooses: all responses of an optimiser step.

    Attributes
    ----------
    log_prob_BT : Tensor, shape [B, T]
        Of the policy as it is now, without gradient.
    batch : Batch
        With ``log_prob_BT`` of the rollout policy and ``advantages_BT``.
    clip : (float, float) or None
        The clip that stops tokens.
    generator : torch.Generator
        On the CPU; the same seed gives the same choice on any device.
    """

    log_prob_BT: Tensor
    batch: Batch
    clip: tuple[float, float] | None
    generator: torch.Generator

    @cached_property
    def covariance_BT(self) -> Tensor:
        """Of log-prob and advantage, over the step's tokens (Eq. 10)."""
        from entlaw.dynamics.covariance import token_covariance

        assert self.batch.advantages_BT is not None
        return token_covariance(self.log_prob_BT, self.batch.advantages_BT, self.batch.mask_BT)

    @cached_property
    def stopped_BT(self) -> Tensor:
        """Tokens that the policy loss's clip gives no gradient already."""
        advantages_BT, old_BT = self.batch.advantages_BT, self.batch.log_prob_BT
        assert advantages_BT is not None and old_BT is not None
        if self.clip is None:
            return torch.zeros_like(self.batch.mask_BT, dtype=torch.bool)
        ratio_BT = losses.log_ratio(self.log_prob_BT, old_BT).exp()
        clipped_BT = ratio_BT.clamp(1 - self.clip[0], 1 + self.clip[1])
        return -advantages_BT * clipped_BT > -advantages_BT * ratio_BT


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch of an optimiser step, for the loss.

    Attributes
    ----------
    total : callable
        A loss per token as the recipe aggregates it, over the whole step.
    tokens : float
        Of the whole step.
    entropy_coeff : float
        Of this step.
    """

    log_prob_BT: Tensor
    entropy_BT: Tensor
    batch: Batch
    total: Callable[[Tensor], Tensor]
    tokens: float
    entropy_coeff: float


class Control:
    """Nothing: what a control is that overrides none of it."""

    name: ClassVar[str]
    label: ClassVar[str]
    """As people call it."""
    reference: ClassVar[str]
    switch: ClassVar[str]
    """The setting that turns it on, by its full name."""
    current: ClassVar[bool] = False
    """It chooses by the log-probs of the policy as it is before the optimiser step."""
    marks: ClassVar[bool] = False
    """Another trainer's loss can do the same to the chosen tokens when it is given which they are."""

    @classmethod
    def of(cls, controls: Controls) -> Control:
        """The control that a recipe's table describes: a control with settings is a field of that table."""
        own: Control = getattr(controls, cls.name)
        return own

    @property
    def on(self) -> bool:
        """Whether it acts."""
        raise NotImplementedError

    @property
    def needs_reference(self) -> bool:
        """Whether it needs the base policy's log-probs."""
        return False

    @property
    def idle_on_policy(self) -> bool:
        """Whether it does nothing while the policy still is the rollout policy."""
        return False

    def choose(self, step: Step) -> Tensor | None:
        """The tokens that it treats specially; bool, shape [B, T]."""
        return None

    def weigh(self, loss_BT: Tensor, chosen_BT: Tensor) -> Tensor:
        """The policy loss of each token."""
        return loss_BT

    def pull(self, log_prob_BT: Tensor, old_log_prob_BT: Tensor, chosen_BT: Tensor) -> Tensor | None:
        """What is added to the loss of each token."""
        return None

    def term(self, part: MicroBatch, metrics: dict[str, Tensor]) -> Tensor | None:
        """What is added to the loss; metrics of it are put to the others."""
        return None


CONTROLS: Registry[type[Control]] = Registry("control")


def control(cls: _C) -> _C:
    """Register a control under its name."""
    CONTROLS.add(cls.name, cls)
    return cls


@control
@table(used=uses.CLIP_COV)
@dataclass(frozen=True)
class ClipCov(Control):
    """Clip-Cov (paper, Eq. 11-12): detach random tokens of high covariance."""

    name, label, reference = "clip_cov", "Clip-Cov", "arXiv 2505.22617"
    switch, current, marks = "controls.clip_cov.ratio", True, True

    ratio: float = setting(
        0.0,
        "Share of the response tokens of an optimiser step; 0: off. The paper: 2e-4.",
        range="[0, 1]",
        aliases="clip_cov_ratio",
        verl=f"{_POLICY_LOSS}.clip_cov_ratio",
    )
    lower: float = setting(
        1.0,
        "Lowest covariance of a token that may be drawn.",
        range="(-inf, inf)",
        aliases="clip_cov_lb",
        verl=f"{_POLICY_LOSS}.clip_cov_lb",
    )
    upper: float = setting(
        5.0,
        "Highest covariance of a token that may be drawn.",
        range="(-inf, inf)",
        aliases="clip_cov_ub",
        verl=f"{_POLICY_LOSS}.clip_cov_ub",
    )

    @property
    def on(self) -> bool:
        return self.ratio > 0

    def choose(self, step: Step) -> Tensor:
        mask_BT = step.batch.mask_BT
        return clip_cov_tokens(
            step.covariance_BT,
            (mask_BT > 0) & ~step.stopped_BT,
            int(mask_BT.sum()),
            self.ratio,
            self.lower,
            self.upper,
            generator=step.generator,
        )

    def weigh(self, loss_BT: Tensor, chosen_BT: Tensor) -> Tensor:
        return torch.where(chosen_BT, loss_BT.detach(), loss_BT)


def clip_cov_tokens(
    covariance_BT: Tensor,
    eligible_BT: Tensor,
    n_tokens: int,
    clip_ratio: float = 2e-4,
    lower: float = 1.0,
    upper: float = 5.0,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Tokens that Clip-Cov detaches from the gradient (Eq. 11-12).

    Among the tokens whose covariance lies in [lower, upper], ``clip_ratio * n_tokens`` (at least one) are drawn
    uniformly at random.

    Parameters
    ----------
    covariance_BT : Tensor, shape [B, T]
        Of the whole batch (:func:`entlaw.dynamics.covariance.token_covariance`).
    eligible_BT : Tensor, shape [B, T]
        1 on response tokens that the PPO clip does not already stop.
    n_tokens : int
        Response tokens of the whole batch, the N of the quota.
    generator : torch.Generator
        On the CPU; the same seed gives the same choice on any device.

    Returns
    -------
    Tensor, shape [B, T]
        Bool, True on the chosen tokens.
    """
    inside = (eligible_BT > 0) & (covariance_BT >= lower) & (covariance_BT <= upper)
    candidates = inside.flatten().nonzero().squeeze(1)
    quota = max(int(clip_ratio * n_tokens), 1) if clip_ratio > 0 else 0
    order = torch.randperm(len(candidates), generator=generator)[:quota].to(candidates.device)
    chosen = torch.zeros_like(inside).flatten()
    chosen[candidates[order]] = True
    return chosen.view_as(inside)


@control
@table(used=uses.KL_COV)
@dataclass(frozen=True)
class KlCov(Control):
    """KL-Cov (paper, Eq. 13-14): penalise leaving the rollout policy on the tokens of highest covariance."""

    name, label, reference = "kl_cov", "KL-Cov", "arXiv 2505.22617"
    switch, current, marks = "controls.kl_cov.ratio", True, True

    ratio: float = setting(
        0.0,
        "Share of the response tokens of an optimiser step; 0: off. The paper: 2e-3 (7B), 2e-4 (32B).",
        range="[0, 1]",
        aliases="kl_cov_ratio, k_percent (a fraction: percent / 100)",
        verl=f"{_POLICY_LOSS}.kl_cov_ratio",
    )
    coef: float = setting(
        1.0,
        "Weight of the penalty.",
        range="[0, inf)",
        aliases="ppo_kl_coef",
        verl=f"{_POLICY_LOSS}.ppo_kl_coef",
    )
    penalty: Literal["abs", "k1", "k2", "k3"] = setting(
        "abs",
        "Estimator of the divergence on a chosen token; the authors' code uses |log ratio|.",
        verl=TRANSLATED,
    )

    @property
    def on(self) -> bool:
        return self.ratio > 0

    @property
    def idle_on_policy(self) -> bool:
        # Only k1's pull has a gradient there; left to rounding, that of |log ratio| would be noise of full size.
        return self.penalty != "k1"

    def choose(self, step: Step) -> Tensor:
        return kl_cov_tokens(step.covariance_BT, step.batch.mask_BT, self.ratio)

    def pull(self, log_prob_BT: Tensor, old_log_prob_BT: Tensor, chosen_BT: Tensor) -> Tensor:
        # Eq. 14's KL(pi_old || pi), estimated on samples of pi_old.
        pull_BT = losses.kl_penalty(old_log_prob_BT, log_prob_BT, self.penalty)
        return self.coef * torch.where(chosen_BT, pull_BT, torch.zeros_like(pull_BT))


def kl_cov_tokens(covariance_BT: Tensor, mask_BT: Tensor, kl_cov_ratio: float = 2e-3) -> Tensor:
    """Tokens that KL-Cov penalises (Eq. 13-14): the top ``kl_cov_ratio`` of all response tokens by covariance.

    At least one. Ties at the border are broken by position, so that the choice is reproducible.

    Returns
    -------
    Tensor, shape [B, T]
        Bool, True on the chosen tokens.
    """
    valid = (mask_BT > 0).flatten()
    quota = max(int(kl_cov_ratio * int(valid.sum())), 1) if kl_cov_ratio > 0 and valid.any() else 0
    score = torch.where(valid, covariance_BT.flatten(), torch.full_like(covariance_BT.flatten(), -torch.inf))
    chosen = torch.zeros_like(valid)
    chosen[torch.sort(score, descending=True, stable=True).indices[:quota]] = True
    return chosen.view_as(mask_BT)


class _OfTable(Control):
    """A control whose settings stand in ``[controls]`` itself."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls

    @classmethod
    def of(cls, controls: Controls) -> Control:
        return cls(controls)


@control
class HighEntropy(_OfTable):
    """The 80/20 rule: only the tokens of highest entropy learn."""

    name, label, reference = "high_entropy", "the high-entropy filter", "arXiv 2506.01939"
    switch = "controls.high_entropy_share"

    @property
    def on(self) -> bool:
        return self.controls.high_entropy_share < 1

    def choose(self, step: Step) -> Tensor:
        assert step.batch.entropy_BT is not None
        return high_entropy_tokens(
            step.batch.entropy_BT, step.batch.mask_BT, self.controls.high_entropy_share
        )

    def weigh(self, loss_BT: Tensor, chosen_BT: Tensor) -> Tensor:
        return loss_BT * chosen_BT


def high_entropy_tokens(entropy_BT: Tensor, mask_BT: Tensor, share: float = 0.2) -> Tensor:
    """The top ``share`` of response tokens by entropy (arXiv 2506.01939, the 80/20 rule); bool, shape [B, T]."""
    return kl_cov_tokens(entropy_BT, mask_BT, share)


@control
class ReferenceKl(_OfTable):
    """Divergence from the base policy, by k1, k2, k3 or the absolute log-ratio, in the loss or in the reward.

    In the reward it is :func:`entlaw.train.estimate.token_penalty`.
    """

    name, label, reference = "reference_kl", "the reference KL", "arXiv 1909.08593"
    switch = "controls.kl_coef"

    @property
    def on(self) -> bool:
        return self.controls.kl_coef > 0

    @property
    def needs_reference(self) -> bool:
        return self.on

    def term(self, part: MicroBatch, metrics: dict[str, Tensor]) -> Tensor | None:
        if not self.on or self.controls.kl_in != "loss":
            return None
        assert part.batch.ref_log_prob_BT is not None
        kl_BT = losses.kl_penalty(part.log_prob_BT, part.batch.ref_log_prob_BT, self.controls.kl_kind)
        metrics["actor/kl_loss"] = losses.masked_mean(kl_BT.detach(), part.batch.mask_BT)
        return self.controls.kl_coef * part.total(kl_BT)


@control
class EntropyBonus(_OfTable):
    """A bonus on the mean entropy of the tokens; adaptive with `controls.entropy_target` (Skywork-OR1)."""

    name, label, reference = "entropy_bonus", "the entropy bonus", "arXiv 1602.01783, 2505.22312"
    switch = "controls.entropy_coeff"

    @property
    def on(self) -> bool:
        return self.controls.entropy_coeff != 0 or self.controls.entropy_target > 0

    def moved(self, coefficient: float, entropy: float) -> tuple[float, float]:
        """The adaptive coefficient after a step's entropy has been seen, and what of it counts in this step.

        It moves up by a constant while the entropy is below its target and down above, and counts only below.
        """
        c = self.controls
        below = entropy <= c.entropy_target
        moved = min(max(coefficient + (c.entropy_step if below else -c.entropy_step), 0.0), c.entropy_max)
        return moved, moved if below else 0.0

    def term(self, part: MicroBatch, metrics: dict[str, Tensor]) -> Tensor | None:
        if not part.entropy_coeff:
            return None
        # Per token of the whole step for every aggregation, so that one coefficient means one thing.
        entropy = (part.entropy_BT * part.batch.mask_BT).sum()
        return -part.entropy_coeff * entropy / max(part.tokens, 1.0)


@dataclass(frozen=True)
class Controls:
    """What acts on the entropy, beside the policy gradient."""

    entropy_coeff: float = setting(
        0.0,
        "Weight of the mean entropy of the batch's tokens, subtracted from the loss.",
        range="(-inf, inf)",
        verl="actor_rollout_ref.actor.entropy_coeff",
    )
    entropy_target: float = setting(
        0.0,
        "Above 0: the coefficient adapts, up while the entropy is below the target and off above "
        "(nats per token).",
        range="[0, inf)",
        unit="nats/token",
        verl=refused("verl's entropy coefficient is constant; set controls.entropy_coeff"),
    )
    entropy_step: float = setting(
        0.001,
        "By how much the adaptive coefficient moves in each RL step.",
        range="[0, inf)",
        used=uses.ENTROPY_TARGET,
        verl=IDLE,
    )
    entropy_max: float = setting(
        1.0, "Upper limit of the adaptive coefficient.", range="(0, inf)", used=uses.ENTROPY_TARGET, verl=IDLE
    )
    kl_coef: float = setting(
        0.0,
        "Weight of the divergence from the base policy.",
        range="[0, inf)",
        aliases="kl_loss_coef",
        verl=TRANSLATED,
    )
    kl_kind: Literal["k1", "k2", "k3", "abs"] = setting(
        "k3",
        "Estimator of that divergence; abs: the absolute log-ratio.",
        used=uses.REFERENCE_KL,
        verl=TRANSLATED,
    )
    kl_in: Literal["loss", "reward"] = setting(
        "loss",
        "Whether it is added to the loss or taken from the reward.",
        used=uses.REFERENCE_KL,
        verl=TRANSLATED,
    )
    high_entropy_share: float = setting(
        1.0,
        "Only this share of tokens, those of highest entropy, carries the policy gradient; 1: all.",
        range="(0, 1]",
        verl=TRANSLATED,
    )
    clip_cov: ClipCov = dataclasses.field(default_factory=ClipCov)
    kl_cov: KlCov = dataclasses.field(default_factory=KlCov)
    reference_code: bool = setting(
        False,
        "As the authors' code: quotas and covariance within each micro-batch, the clip widened to [0, "
        "2] with Clip-Cov and absent with KL-Cov.",
        verl=TRANSLATED,
    )

    def all(self) -> Iterator[Control]:
        """Every registered control as this table has it."""
        return (cls.of(self) for cls in CONTROLS.values())

    def active(self) -> Iterator[Control]:
        """Those that are on."""
        return (control for control in self.all() if control.on)
