"""The choice of tokens of a whole optimiser step, made in one place and carried to where the loss is computed.

Frameworks compute a policy loss from one micro-batch on one rank, and hand it one free number a token: an importance
weight. The weight's sign carries the choice: a positive weight is a weight; a negative one says that the token was
chosen (Clip-Cov: detach, KL-Cov: penalise) and is minus its weight; zero says that the token does not learn (the
high-entropy filter). Weights themselves are never zero or negative, so nothing is lost, and negation is exact.

Shapes: B responses, T response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entlaw.errors import UsageError
from entlaw.train.batch import Batch
from entlaw.train.choice import TokenChoice, choose
from entlaw.train.controls import CONTROLS, Controls
from entlaw.train.losses import masked_mean
from entlaw.train.schema import Loss


def carry(choice: TokenChoice, mask_BT: Tensor, weight_BT: Tensor | None = None) -> Tensor:
    """A choice and importance weights as one number a token, shape [B, T], float32.

    Parameters
    ----------
    weight_BT : Tensor, shape [B, T], optional
        Positive; 1 without.

    Raises
    ------
    UsageError
        Clip-Cov and KL-Cov at once, a choice that a sign cannot carry, or a weight that is not positive.
    """
    if stray := [name for name in choice.tokens if name != "high_entropy" and not CONTROLS[name].marks]:
        raise UsageError(
            f"what {' and '.join(stray)} chose cannot be carried to another trainer's loss",
            why="a sign and a size per token distinguish marked tokens from idle ones, nothing else",
            hint="use `entlaw train`",
        )
    marking = [CONTROLS[name] for name in choice.tokens if CONTROLS[name].marks]
    if len(marking) > 1:
        raise UsageError(
            f"{' and '.join(c.label for c in marking)} at once cannot be carried to another trainer's loss",
            why="one sign per token shows whether it was chosen, not by which of the two",
            hint=f"set {' or '.join(c.switch for c in marking)} to 0, or use `entlaw train`",
        )
    carried_BT = torch.ones_like(mask_BT, dtype=torch.float32) if weight_BT is None else weight_BT.float()
    if bool(((carried_BT <= 0) & (mask_BT > 0)).any()):
        raise UsageError("importance weights must be positive", why="their sign carries the choice of tokens")
    if marking:
        carried_BT = torch.where(choice[marking[0].name], -carried_BT, carried_BT)
    learning_BT = choice.get("high_entropy")
    if learning_BT is not None:
        # What KL-Cov chose is still pulled back, so it keeps its mark: its weight becomes negligible instead of zero.
        idle_BT = ~learning_BT
        pulled_BT = choice.get("kl_cov")
        chosen = torch.zeros_like(idle_BT) if pulled_BT is None else pulled_BT
        carried_BT = torch.where(idle_BT & ~chosen, torch.zeros_like(carried_BT), carried_BT)
        carried_BT = torch.where(idle_BT & chosen, torch.full_like(carried_BT, -_IDLE), carried_BT)
    return carried_BT


_IDLE = 1e-30
"""Weight of a token that KL-Cov pulls and that has no policy gradient: 1e-30 of a gradient is none in float32."""


def read(carried_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Importance weights and what was chosen (bool), from :func:`carry`'s numbers."""
    return carried_BT.abs(), carried_BT < 0


def step_rows(n_rows: int, ranks: int, rows_a_step: int) -> list[Tensor]:
    """Which rows of a rollout make up each optimiser step, where a rollout is cut into ``ranks`` equal runs of rows.

    Each rank goes through its run in order, ``rows_a_step / ranks`` rows at a time.

    Raises
    ------
    UsageError
        The rows do not divide.
    """
    each, share = divmod(rows_a_step, ranks)
    if share or n_rows % rows_a_step:
        raise UsageError(
            f"{n_rows} responses cannot be cut into steps of {rows_a_step} on {ranks} ranks",
            hint="choose prompts, mini-batches and ranks that divide",
        )
    table = torch.arange(n_rows).view(ranks, n_rows // rows_a_step, each)
    return [table[:, step].reshape(-1) for step in range(table.shape[1])]


def choose_steps(
    batch: Batch,
    steps: Sequence[Tensor],
    loss: Loss,
    controls: Controls,
    generator: torch.Generator,
    *,
    log_prob_BT: Tensor | None = None,
    first_is_on_policy: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """Each optimiser step's choice, over all of its tokens, for a whole rollout at once.

    Parameters
    ----------
    batch : Batch
        The rollout, with ``log_prob_BT`` and ``advantages_BT`` (and ``entropy_BT`` for the high-entropy filter).
    steps : sequence of Tensor
        Rows of each optimiser step.
    log_prob_BT : Tensor, optional
        Of the policy that the choice looks at; the rollout policy's without.
    first_is_on_policy : bool
        The first step's policy is the rollout policy. KL-Cov then has nothing to pull, and the sign of rounding errors
        would be its gradient, so nothing is chosen (unless the estimator is k1, whose gradient is not zero there).

    Returns
    -------
    carried_BT : Tensor, shape [B, T]
        As :func:`carry`.
    metrics : dict
        Share of tokens each control acts on, over the rollout.
    """
    log_prob_BT = batch.log_prob_BT if log_prob_BT is None else log_prob_BT
    assert log_prob_BT is not None
    carried_BT = torch.ones_like(batch.mask_BT, dtype=torch.float32)
    weight_BT = batch.rollout_weight_BT
    totals: dict[str, float] = {}
    tokens = float(batch.mask_BT.sum().clamp(min=1))
    for number, rows in enumerate(steps):
        part = batch.rows(rows)
        choice = choose(log_prob_BT[rows], part, loss, controls, generator)
        if number == 0 and first_is_on_policy:
            choice = choice.without_idle(controls)
        carried_BT[rows] = carry(choice, part.mask_BT, None if weight_BT is None else weight_BT[rows])
        share = float(part.mask_BT.sum()) / tokens
        for key, value in choice.metrics(part.mask_BT).items():
            totals[key] = totals.get(key, 0.0) + share * value
    return carried_BT, totals


def weight_metrics(carried_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Mean importance weight and share of chosen tokens of a micro-batch."""
    weight_BT, chosen_BT = read(carried_BT)
    return {
        "actor/importance_weight": masked_mean(weight_BT, mask_BT),
        "actor/chosen_ratio": masked_mean(chosen_BT.to(weight_BT.dtype), mask_BT),
    }
