"""Which tokens of an optimiser step are treated specially: decided for all of its micro-batches at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from entlaw.train.batch import Batch
from entlaw.train.controls import Control, Controls, Step
from entlaw.train.losses import LOSSES
from entlaw.train.schema import Loss


@dataclass(frozen=True)
class TokenChoice:
    """The tokens that each control acts on, by its name; bool, shape [B, T]. A control that is off has none."""

    tokens: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, control: str) -> Tensor:
        return self.tokens[control]

    def get(self, control: str) -> Tensor | None:
        """A control's tokens; None where it is off."""
        return self.tokens.get(control)

    def of(self, control: Control) -> Tensor | None:
        """The same for the control itself."""
        return self.get(control.name)

    def part(self, where: slice) -> TokenChoice:
        """The same for some of the responses."""
        return self.map(lambda chosen_BT: chosen_BT[where])

    def map(self, change: Callable[[Tensor], Tensor]) -> TokenChoice:
        """The choice with a change made to each control's tokens."""
        return TokenChoice({name: change(chosen_BT) for name, chosen_BT in self.tokens.items()})

    def without_idle(self, controls: Controls) -> TokenChoice:
        """The choice for a policy that still is the rollout policy, where some controls have nothing to do."""
        idle = {control.name for control in controls.active() if control.idle_on_policy}
        return TokenChoice({n: torch.zeros_like(t) if n in idle else t for n, t in self.tokens.items()})

    def metrics(self, mask_BT: Tensor) -> dict[str, float]:
        """The share of tokens each control really acted on: quotas are rounded, and at least one token."""
        n = float(mask_BT.sum().clamp(min=1))
        return {f"{name}/effective_ratio": float(t.sum()) / n for name, t in self.tokens.items()}


def needs_log_prob(controls: Controls) -> bool:
    """Whether choosing needs the current policy's log-prob of the whole mini-batch before the loss is computed."""
    return not controls.reference_code and any(control.current for control in controls.active())


def effective_clip(loss: Loss, controls: Controls) -> tuple[float, float] | None:
    """Lower and upper clip ratio that stop tokens, None for no clip: the authors' code changes it with its method."""
    if not LOSSES[loss.kind].stops or (controls.reference_code and controls.kl_cov.on):
        return None
    if controls.reference_code and controls.clip_cov.on:
        return 1.0, 1.0
    return loss.clip_ratio_low, loss.clip_ratio_high


def choose(
    log_prob_BT: Tensor, batch: Batch, loss: Loss, controls: Controls, generator: torch.Generator
) -> TokenChoice:
    """The tokens of ``batch`` that the controls act on.

    Parameters
    ----------
    log_prob_BT : Tensor, shape [B, T]
        Of the policy as it is now, without gradient.
    batch : Batch
        All responses of the optimiser step (with ``reference_code``: of one micro-batch).
    generator : torch.Generator
        Of Clip-Cov's draw, on the CPU.
    """
    step = Step(log_prob_BT, batch, effective_clip(loss, controls), generator)
    chosen = {control.name: control.choose(step) for control in controls.active()}
    return TokenChoice({name: tokens_BT for name, tokens_BT in chosen.items() if tokens_BT is not None})
