"""Log-prob and entropy of a language-model head without ever holding the logits of all tokens.

Logits z = hidden @ head.T / T are made tile by tile (tokens x vocabulary), folded into running statistics, and made
again in the backward pass. Statistics and gradient sums are float32 (float64 for float64 input), whatever the dtype of
the tensors: rounding the logits to bf16 moves the mean entropy by about 0.1 %, rounding the sums by 2 %.

Memory beside the results: two tiles, and for bf16 or fp16 input a third one and a float32 block of the head's gradient
as high as a tile is wide. The backward pass goes through the vocabulary outside and the tokens inside, so that each
block of the head's gradient is finished before the next begins and no float32 copy of the whole is needed.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

# Words a tile is wide, and logits it holds. On a CPU 8 MiB of float32: what is done to each logit then happens in
# cache, at a fraction of the cost of the matrix product. On an accelerator a kernel must be large to be worth starting.
CPU_TILE = (1024, 2**21)
DEVICE_TILE = (8192, 2**24)


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
    token_tile: int | None = None,
    vocab_tile: int | None = None,
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
    token_tile, vocab_tile : int, optional
        Size of the tiles; no tensor larger than ``token_tile * vocab_tile`` logits is held. Default: of the device.

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
    width, logits = CPU_TILE if hidden_ND.device.type == "cpu" else DEVICE_TILE
    vocab_tile = vocab_tile or min(width, max(len(head_VD), 1))
    token_tile = token_tile or logits // vocab_tile
    return TokenStatistics(
        *_TokenStatistics.apply(hidden_ND, head_VD, label_N, temperature, token_tile, vocab_tile)
    )


def _statistics_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


class _Tiles:
    """Room for one tile of logits, used again for every tile."""

    def __init__(self, hidden_ND: Tensor, head_VD: Tensor, token_tile: int, vocab_tile: int) -> None:
        self.dtype = _statistics_dtype(hidden_ND, head_VD)
        self.size = (min(token_tile, len(hidden_ND)), min(vocab_tile, len(head_VD)))
        self.values, self.other = (
            torch.empty(self.size, dtype=self.dtype, device=hidden_ND.device) for _ in range(2)
        )
        same = hidden_ND.dtype == head_VD.dtype == self.dtype
        self.narrow = None if same else torch.empty(self.size, dtype=head_VD.dtype, device=hidden_ND.device)

    def logits(self, hidden_nD: Tensor, head_mD: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """z = hidden @ head.T / T in the precision of the statistics, and room for as much again."""
        n, m = len(hidden_nD), len(head_mD)
        z, other = self.values[:n, :m], self.other[:n, :m]
        if self.narrow is None:
            torch.mm(hidden_nD, head_mD.T, out=z)
        else:
            z.copy_(torch.mm(hidden_nD.to(self.narrow.dtype), head_mD.T, out=self.narrow[:n, :m]))
        if temperature != 1:
            z.mul_(1 / temperature)
        return z, other

    def factor(self, dz_nm: Tensor) -> Tensor:
        """A gradient of logits as a factor of a matrix product: rounded to the dtype of the head."""
        if self.narrow is None:
            return dz_nm
        return self.narrow[: dz_nm.shape[0], : dz_nm.shape[1]].copy_(dz_nm)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a @ b`` without rounding the product to the dtype of the factors."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    elif a.is_cuda and "dtype_out" in torch.ops.aten.addmm.overloads():
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    elif a.dtype == torch.bfloat16 and not a.is_cuda:
        # No product of bf16 factors can be had in float32 here, but addmm adds before it rounds: a second product
        # returns what the first one lost. Twice a bf16 product is half the time of one in float32.
        rounded = a @ b
        total += rounded
        total += torch.addmm(rounded, a, b, beta=-1)
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))


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
        ctx.set_materialize_grads(False)  # entropy is often only logged: then it must cost no gradient
        tiles = _Tiles(hidden_ND, head_VD, token_tile, vocab_tile)
        log_z_N, entropy_N, agree_N, log_prob_N = torch.empty(
            (4, len(hidden_ND)), dtype=tiles.dtype, device=hidden_ND.device
        )
        for start in range(0, len(hidden_ND), token_tile):
            rows = slice(start, start + token_tile)
            h, y = hidden_ND[rows], label_N[rows]
            top = torch.full((len(h),), -torch.inf, dtype=tiles.dtype, device=h.device)
            mass, first, square, picked = torch.zeros((4, len(h)), dtype=tiles.dtype, device=h.device)
            for left in range(0, len(head_VD), vocab_tile):
                z, e = tiles.logits(h, head_VD[left : left + vocab_tile], temperature)
                inside = (y >= left) & (y < left + z.shape[1])
                at = (y - left).clamp(0, z.shape[1] - 1).unsqueeze(1)
                picked = torch.where(inside, z.gather(1, at).squeeze(1), picked)
                new_top = torch.maximum(top, z.amax(dim=1))
                shrink = torch.exp(top - new_top)  # 0 on the first tile: exp(-inf)
                torch.exp(z.sub_(new_top.unsqueeze(1)), out=e)
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
        ctx.settings = (temperature, token_tile, vocab_tile)
        ctx.mark_non_differentiable(agree_N)
        return log_prob_N, entropy_N, agree_N

    @staticmethod
    def backward(
        ctx: Any, grad_log_prob_N: Tensor | None, grad_entropy_N: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden_ND, head_VD, label_N, log_z_N, entropy_N = ctx.saved_tensors
        temperature, token_tile, vocab_tile = ctx.settings
        need_hidden, need_head = ctx.needs_input_grad[:2]
        tiles = _Tiles(hidden_ND, head_VD, token_tile, vocab_tile)
        dtype, device = tiles.dtype, hidden_ND.device
        grad_hidden = torch.zeros(hidden_ND.shape, dtype=dtype, device=device) if need_hidden else None
        grad_head = torch.empty_like(head_VD) if need_head else None
        # dz_j = g 1[j = y] - p_j (slope log p_j + level), with 1/T in all three.
        g_N = (
            torch.zeros_like(log_z_N) if grad_log_prob_N is None else grad_log_prob_N.to(dtype) / temperature
        )
        slope_N = None if grad_entropy_N is None else grad_entropy_N.to(dtype) / temperature
        level_N = g_N if slope_N is None else g_N + slope_N * entropy_N
        # A product over all tokens at once is the final one; a sum of several wants the precision of the statistics.
        direct = head_VD.dtype == dtype or len(hidden_ND) <= token_tile
        for left in range(0, len(head_VD), vocab_tile):
            head, block = head_VD[left : left + vocab_tile], None
            if grad_head is not None:
                block = grad_head[left : left + vocab_tile]
                block = block.zero_() if direct else torch.zeros_like(block, dtype=dtype)
            for start in range(0, len(hidden_ND), token_tile):
                rows = slice(start, start + token_tile)
                h, y = hidden_ND[rows], label_N[rows]
                log_p, p = tiles.logits(h, head, temperature)
                torch.exp(log_p.sub_(log_z_N[rows].unsqueeze(1)), out=p)
                if slope_N is None:
                    dz = p.mul_(-level_N[rows].unsqueeze(1))
                else:
                    dz = log_p.mul_(-slope_N[rows].unsqueeze(1)).sub_(level_N[rows].unsqueeze(1)).mul_(p)
                inside = (y >= left) & (y < left + len(head))
                at = (y - left).clamp(0, len(head) - 1).unsqueeze(1)
                dz.scatter_add_(1, at, (g_N[rows] * inside).unsqueeze(1))
                factor = tiles.factor(dz)
                if grad_hidden is not None:
                    _add_product(grad_hidden[rows], factor, head)
                if block is not None:
                    _add_product(block, factor.T, h.to(factor.dtype))
            if grad_head is not None and block is not None and not direct:
                grad_head[left : left + vocab_tile] = block
        return (
            None if grad_hidden is None else grad_hidden.to(hidden_ND.dtype),
            grad_head,
            None,
            None,
            None,
            None,
        )
