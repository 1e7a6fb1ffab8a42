"""One rollout's responses as tensors, and cutting them up.

Shapes: B responses, P prompt tokens (padded on the left), T response tokens (padded on the right).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Prompts and responses; what is computed later is None until then. Row i of every tensor is response i."""

    prompt_BP: Tensor
    prompt_mask_BP: Tensor
    """Bool."""
    response_BT: Tensor
    mask_BT: Tensor
    """float32: 1 on response tokens, the end-of-sequence token included."""
    finished_B: Tensor
    """Bool: the response ended by itself."""
    group_B: Tensor
    """int64: which prompt; equal numbers, one group."""
    correct_B: Tensor | None = None
    """Verifiable score of each response, fraction in [0, 1]."""
    reward_B: Tensor | None = None
    """What is optimised, a KL penalty in the reward not yet taken off; differs from ``correct_B`` in controls."""
    log_prob_BT: Tensor | None = None
    """Of the rollout policy, at the rollout temperature."""
    entropy_BT: Tensor | None = None
    """Of the rollout policy at temperature 1, exact, nats."""
    sampling_entropy_BT: Tensor | None = None
    """The same at the rollout temperature, where that is not 1."""
    rollout_log_prob_BT: Tensor | None = None
    """Of each token as the engine that sampled it computed it; None where that is the policy itself."""
    rollout_weight_BT: Tensor | None = None
    """Truncated importance weight of each token's loss."""
    ref_log_prob_BT: Tensor | None = None
    """Of the base policy, at the rollout temperature."""
    value_BT: Tensor | None = None
    return_BT: Tensor | None = None
    advantages_BT: Tensor | None = None

    def __len__(self) -> int:
        return len(self.group_B)

    def groups(self) -> tuple[Tensor, Tensor]:
        """A row of each prompt, shape [G], and for each response the place of its prompt among them, shape [B]."""
        found_G, place_B = torch.unique(self.group_B, return_inverse=True)
        rows_B = torch.arange(len(self), device=place_B.device)
        # Whichever row of a prompt is written last: its prompt is the same.
        return torch.zeros_like(found_G).scatter_(0, place_B, rows_B), place_B

    def rows(self, index: Tensor) -> Batch:
        """The responses ``index`` names, in its order."""
        return self.map(lambda t: t[index])

    def at(self, where: slice) -> Batch:
        """Responses in a row."""
        return self.map(lambda t: t[where])

    def to(self, device: torch.device) -> Batch:
        """All tensors on one device."""
        return self.map(lambda t: t.to(device))

    def cast(self, dtype: torch.dtype) -> Batch:
        """Floating tensors in another precision."""
        return self.map(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor that it has changed."""
        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: change(tensor) for name, tensor in present.items()})

    def trimmed(self) -> Batch:
        """Without columns that are padding in every row: rows taken from a batch often are shorter than it."""
        left = int((~self.prompt_mask_BP).all(0).long().argmin()) if len(self) else 0
        width = max(int((self.mask_BT > 0).sum(1).max()), 1) if len(self) else 1

        def cut(name: str, tensor: Tensor) -> Tensor:
            if name.endswith("_BP"):
                return tensor[:, left:]
            return tensor[:, :width] if name.endswith("_BT") else tensor

        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: cut(name, tensor) for name, tensor in present.items()})

    def pieces(self, size: int) -> Iterator[tuple[slice, Batch]]:
        """The batch in runs of ``size`` responses (0: all at once), each with where it was."""
        size = size or max(len(self), 1)
        for start in range(0, len(self), size):
            where = slice(start, min(start + size, len(self)))
            yield where, self.at(where)

    def widened(self, p: int, t: int, pad_id: int) -> Batch:
        """The same with ``p`` columns for prompts and ``t`` for responses; columns of padding may go as well."""

        def wide(name: str, tensor: Tensor) -> Tensor:
            fill = pad_id if name in ("prompt_BP", "response_BT") else 0
            if name.endswith("_BP"):
                return torch.nn.functional.pad(tensor, (p - tensor.shape[1], 0), value=fill)
            if name.endswith("_BT"):
                return torch.nn.functional.pad(tensor, (0, t - tensor.shape[1]), value=fill)
            return tensor

        present = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(self, **{name: wide(name, tensor) for name, tensor in present.items()})


def concatenate(batches: list[Batch], pad_id: int) -> Batch:
    """Several batches as one, padded to the widest."""
    p = max(b.prompt_BP.shape[1] for b in batches)
    t = max(b.response_BT.shape[1] for b in batches)
    wide = [b.widened(p, t, pad_id) for b in batches]
    names = [f.name for f in fields(Batch) if getattr(batches[0], f.name) is not None]
    return Batch(**{n: torch.cat([getattr(b, n) for b in wide]) for n in names})
