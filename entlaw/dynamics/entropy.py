"""Log-prob and entropy of a language-model head without ever holding the logits of all tokens.

Logits z = hidden @ head.T / T are made tile by tile (tokens x vocabulary), folded into running statistics, and made
again in the backward pass. Statistics and gradient sums are float32 (float64 for float64 input), whatever the dtype of
the tensors: rounding the logits to bf16 moves the mean entropy by about 0.1 %, rounding the sums by 2 %.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

# A tile of 1,024 x 8,192 float32 logits is 32 MiB: large enough for a fast matrix product, small beside any model.
TOKEN_TILE = 1024
VOCAB_TILE = 8192


class TokenStatistics(NamedTuple):
    """Per token of the batch, each of shape [N]."""

    log_prob: Tensor
    """log pi(label)."""
    entropy: Tensor
    """H = -sum_v p_v log p_v, nats, exact over the full vocabulary."""
    sum_p_squared: Tensor
    """sum_v p_v^2, the probability that two samples agree; without gradient."""


def token_statistics(
    hidden_ND: Tensor,
    head_VD: Tensor,
    label_N: Tensor,
    temperature: float = 1.0,
    *,
    token_tile: int = TOKEN_TILE,
    vocab_tile: int = VOCAB_TILE,
) -> TokenStatistics:
    """Log-prob of the labels, exact entropy and sum of squared probabilities.

    Parameters
    ----------
    hidden_ND : Tensor, shape [N, D]
        Last hidden states, any floating dtype.
    head_VD : Tensor, shape [V, D]
        Weight of the output head.
    label_N : Tensor, shape [N]
        Token ids in [0, V).
    temperature : float
        Logits are divided by it.
    token_tile, vocab_tile : int
        Size of the tiles; no tensor larger than ``token_tile * vocab_tile`` logits is held.

    Returns
    -------
    TokenStatistics
        float32 (float64 for float64 input). log_prob and entropy carry gradients to ``hidden_ND`` and ``head_VD``:
        d log p(y) / dz_j = 1[j = y] - p_j and dH/dz_j = -p_j (log p_j + H).

    Raises
    ------
    ValueError
        Shapes that do not fit, or a temperature that is not positive.
    """
    if hidden_ND.ndim != 2 or head_VD.ndim != 2 or hidden_ND.shape[1] != head_VD.shape[1]:
        raise ValueError(f"hidden {tuple(hidden_ND.shape)} and head {tuple(head_VD.shape)} do not fit")
    if label_N.shape != hidden_ND.shape[:1]:
        raise ValueError(f"{tuple(label_N.shape)} labels for {hidden_ND.shape[0]} tokens")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} is not positive")
    return TokenStatistics(
        *_TokenStatistics.apply(hidden_ND, head_VD, label_N, temperature, token_tile, vocab_tile)
    )


def _statistics_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


class _TokenStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        label_N: Tensor,
        temperature: float,
        token_tile: int,
        vocab_tile: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, v = hidden_ND.shape[0], head_VD.shape[0]
        dtype = _statistics_dtype(hidden_ND, head_VD)
        log_z_N, entropy_N, agree_N, log_prob_N = (
            torch.empty(n, dtype=dtype, device=hidden_ND.device) for _ in range(4)
        )
        for start in range(0, n, token_tile):
            rows = slice(start, min(start + token_tile, n))
            h, y = hidden_ND[rows], label_N[rows]
            top = torch.full((len(h),), -torch.inf, dtype=dtype, device=h.device)
            mass, first, square, picked = (torch.zeros_like(top) for _ in range(4))
            for left in range(0, v, vocab_tile):
                z = (h @ head_VD[left : left + vocab_tile].T).to(dtype) / temperature
                inside = (y >= left) & (y < left + z.shape[1])
                at = (y - left).clamp(0, z.shape[1] - 1).unsqueeze(1)
                picked = torch.where(inside, z.gather(1, at).squeeze(1), picked)
                new_top = torch.maximum(top, z.amax(dim=1))
                shrink = torch.exp(top - new_top)  # 0 on the first tile: exp(-inf)
                z -= new_top.unsqueeze(1)
                e = z.exp()
                # first = sum e^(z - top) (z - top); moving the top by d adds d times the old mass.
                moved = torch.where(mass > 0, (top - new_top) * mass, torch.zeros_like(mass))
                first = (first + moved) * shrink + torch.linalg.vecdot(e, z)
                mass = mass * shrink + e.sum(dim=1)
                square = square * shrink**2 + torch.linalg.vecdot(e, e)
                top = new_top
            log_z_N[rows] = top + mass.log()
            entropy_N[rows] = mass.log() - first / mass
            agree_N[rows] = square / mass**2
            log_prob_N[rows] = picked - log_z_N[rows]
        ctx.save_for_backward(hidden_ND, head_VD, label_N, log_z_N, entropy_N)
        ctx.settings = (temperature, token_tile, vocab_tile, dtype)
        ctx.mark_non_differentiable(agree_N)
        return log_prob_N, entropy_N, agree_N

    @staticmethod
    def backward(
        ctx: Any, grad_log_prob_N: Tensor, grad_entropy_N: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD, label_N, log_z_N, entropy_N = ctx.saved_tensors
        temperature, token_tile, vocab_tile, dtype = ctx.settings
        need_hidden, need_head = ctx.needs_input_grad[:2]
        grad_hidden = (
            torch.zeros(hidden_ND.shape, dtype=dtype, device=hidden_ND.device) if need_hidden else None
        )
        grad_head = torch.zeros(head_VD.shape, dtype=dtype, device=head_VD.device) if need_head else None
        with_entropy = bool(grad_entropy_N.any())
        for start in range(0, hidden_ND.shape[0], token_tile):
            rows = slice(start, start + token_tile)
            h, y = hidden_ND[rows], label_N[rows]
            g, gh = grad_log_prob_N[rows].unsqueeze(1).to(dtype), grad_entropy_N[rows].unsqueeze(1).to(dtype)
            for left in range(0, head_VD.shape[0], vocab_tile):
                columns = slice(left, left + vocab_tile)
                log_p = (h @ head_VD[columns].T).to(dtype) / temperature - log_z_N[rows].unsqueeze(1)
                p = log_p.exp()
                if with_entropy:
                    dz = log_p.add_(entropy_N[rows].unsqueeze(1)).mul_(gh).add_(g).mul_(p).neg_()
                else:
                    dz = p.mul_(-g)
                inside = ((y >= left) & (y < left + dz.shape[1])).nonzero().squeeze(1)
                dz[inside, y[inside] - left] += g[inside, 0]
                dz /= temperature
                if grad_hidden is not None:
                    grad_hidden[rows] += dz @ head_VD[columns].to(dtype)
                if grad_head is not None:
                    grad_head[columns] += dz.T @ h.to(dtype)
        return (
            None if grad_hidden is None else grad_hidden.to(hidden_ND.dtype),
            None if grad_head is None else grad_head.to(head_VD.dtype),
            None, None, None, None,
        )  # fmt: skip
