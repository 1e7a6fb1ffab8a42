"""What the oracle tests and ``benchmarks/oracles.py`` share: the batch, and how a difference is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from entlaw.train.batch import Batch as TrainerBatch


@dataclass(frozen=True)
class Comparison:
    """How far our function is from a peer's, on the same numbers.

    Attributes
    ----------
    loss, gradient : float or None
        Largest absolute difference of the values, and of the gradients; None where the two do not share it.
    scale : float
        Largest absolute value compared, gradient and value together: a difference means nothing beside zero.
    """

    function: str
    peer: str
    loss: float | None
    gradient: float | None
    scale: float

    @property
    def worst(self) -> float:
        """The larger of the two differences."""
        return max(d for d in (self.loss, self.gradient) if d is not None)


def difference(ours: Tensor | Sequence[Tensor], theirs: Tensor | Sequence[Tensor]) -> tuple[float, float]:
    """Largest absolute difference, and largest absolute value of the peer's, over all tensors."""
    a, b = ([x] if isinstance(x, Tensor) else list(x) for x in (ours, theirs))
    pairs = [(x.detach().double(), y.detach().double()) for x, y in zip(a, b, strict=True)]
    if any(x.shape != y.shape for x, y in pairs):
        raise ValueError(f"shapes differ: {[(tuple(x.shape), tuple(y.shape)) for x, y in pairs]}")
    if not all(torch.isfinite(x).all() and torch.isfinite(y).all() for x, y in pairs):
        return float("inf"), float("nan")
    return max(float((x - y).abs().max()) for x, y in pairs), max(float(y.abs().max()) for _, y in pairs)


def compare(
    function: str,
    peer: str,
    values: tuple[Tensor | Sequence[Tensor], Tensor | Sequence[Tensor]] | None,
    gradients: tuple[Tensor | Sequence[Tensor], Tensor | Sequence[Tensor]] | None = None,
) -> Comparison:
    """A comparison of (ours, theirs) pairs."""
    loss, loss_scale = difference(*values) if values is not None else (None, 0.0)
    gradient, gradient_scale = difference(*gradients) if gradients is not None else (None, 0.0)
    return Comparison(function, peer, loss, gradient, max(loss_scale, gradient_scale))


@dataclass(frozen=True)
class Batch:
    """Responses of several prompts, float64. ``log_prob_BT`` is a leaf; lengths differ; masks are contiguous."""

    log_prob_BT: Tensor
    old_log_prob_BT: Tensor
    ref_log_prob_BT: Tensor
    entropy_BT: Tensor
    advantage_B: Tensor
    reward_B: Tensor
    group_B: Tensor
    mask_BT: Tensor

    @property
    def advantages_BT(self) -> Tensor:
        """The advantage of each response on its tokens."""
        return self.advantage_B[:, None] * self.mask_BT


def batch(seed: int = 0, groups: int = 4, size: int = 4, length: int = 12, drift: float = 0.35) -> Batch:
    """A random batch, far enough off policy that every clip acts on some tokens and not on others."""
    g = torch.Generator().manual_seed(seed)
    b = groups * size

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    mask_BT = (torch.arange(length) < torch.randint(1, length + 1, (b, 1), generator=g)).double()
    old_BT = -3 * torch.rand((b, length), generator=g, dtype=torch.float64) - 0.05
    return Batch(
        log_prob_BT=(old_BT + drift * normal(b, length)).requires_grad_(),
        old_log_prob_BT=old_BT,
        ref_log_prob_BT=old_BT + drift * normal(b, length),
        entropy_BT=torch.rand((b, length), generator=g, dtype=torch.float64).requires_grad_(),
        advantage_B=normal(b),
        reward_B=torch.randint(0, 2, (b,), generator=g).double() + 0.1 * normal(b),
        group_B=torch.arange(groups).repeat_interleave(size),
        mask_BT=mask_BT,
    )


def recipe_batch(b: Batch) -> TrainerBatch:
    """The same as the trainer holds it; what its losses do not read is empty."""
    rows = len(b.mask_BT)
    return TrainerBatch(
        prompt_BP=torch.zeros((rows, 1), dtype=torch.long),
        prompt_mask_BP=torch.ones((rows, 1), dtype=torch.bool),
        response_BT=torch.zeros(b.mask_BT.shape, dtype=torch.long),
        mask_BT=b.mask_BT,
        finished_B=torch.ones(rows, dtype=torch.bool),
        group_B=b.group_B,
        log_prob_BT=b.old_log_prob_BT,
        ref_log_prob_BT=b.ref_log_prob_BT,
        entropy_BT=b.entropy_BT.detach(),
        advantages_BT=b.advantages_BT,
    )


def render(rows: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table."""

    def number(x: float | None) -> str:
        return "-" if x is None else f"{x:.1e}"

    lines = [
        "| function | peer | max diff. of loss or value | of gradient | largest value |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.function} | {r.peer} | {number(r.loss)} | {number(r.gradient)} | {r.scale:.2g} |" for r in rows
    ]
    return "\n".join(lines)
