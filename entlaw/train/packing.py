"""Responses to one prompt as one sequence: the prompt is read once, and padding is not read at all.

A row of a pack is ``prompt, response 1, response 2, ...`` without padding in between and without each response's last
token, behind which nothing is predicted. Every response continues the prompt and sees no other response: that is a
matter of the attention mask and of the positions, so any model that takes both computes what it computes row by row,
gradient included.

Shapes: B responses, T response tokens, G prompts, L longest row of the pack.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from entlaw.train.batch import Batch


class Pack(NamedTuple):
    """What the model is given, and where in it each response token is predicted."""

    tokens_GL: Tensor
    position_GL: Tensor
    mask_G1LL: Tensor
    """Bool: which token attends to which (query, key)."""
    source_BT: Tensor
    """int64: the place in G x L whose hidden state predicts a response token; 0 on padding."""


def pack(batch: Batch, pad_id: int) -> Pack:
    """Pack a batch whose equal ``group_B`` mean equal prompts."""
    device = batch.prompt_BP.device
    first_G, place_B = batch.groups()
    prompt_mask = batch.prompt_mask_BP[first_G]
    valid_BT = batch.mask_BT > 0
    read_BT = valid_BT[:, 1:]  # token t is read if token t + 1 is to be predicted
    in_prompt, in_response = prompt_mask.nonzero(), read_BT.nonzero()
    start_G = prompt_mask.sum(1)

    # All tokens as flat lists, sorted by row: prompt first, then one response after the other.
    row_N = torch.cat([in_prompt[:, 0], place_B[in_response[:, 0]]])
    owner_N = torch.cat([torch.zeros_like(in_prompt[:, 0]), in_response[:, 0] + 1])  # 0: the prompt
    position_N = torch.cat(
        [
            (prompt_mask.long().cumsum(1) - 1)[prompt_mask],
            start_G[place_B[in_response[:, 0]]] + in_response[:, 1],
        ]
    )
    token_N = torch.cat([batch.prompt_BP[first_G][prompt_mask], batch.response_BT[:, :-1][read_BT]])
    order_N = row_N.argsort(stable=True)
    length_G = torch.bincount(row_N, minlength=len(first_G))
    longest = int(length_G.max())
    column_N = torch.empty_like(row_N)
    column_N[order_N] = (
        torch.arange(len(row_N), device=device) - (length_G.cumsum(0) - length_G)[row_N[order_N]]
    )
    place_N = row_N * longest + column_N

    def spread(values_N: Tensor, fill: int) -> Tensor:
        out = torch.full((len(first_G) * longest,), fill, dtype=torch.int64, device=device)
        return out.index_copy_(0, place_N, values_N).view(len(first_G), longest)

    owner_GL = spread(owner_N, -1)
    earlier_LL = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    visible = (owner_GL[:, None, :] == 0) | (owner_GL[:, None, :] == owner_GL[:, :, None])
    source_BT = torch.zeros_like(batch.response_BT)
    source_BT[:, 0] = place_B * longest + start_G[place_B] - 1
    source_BT[:, 1:][read_BT] = place_N[len(in_prompt) :]
    return Pack(
        spread(token_N, pad_id), spread(position_N, 0), (visible & earlier_LL)[:, None], source_BT * valid_BT
    )


def pays(batch: Batch, hidden_size: int) -> bool:
    """Whether a pack can be made (no prompt is empty) and is less work than the padded batch.

    A layer costs a token about 12 D^2 multiplications (D the hidden size) and 2 D for each position that its row is
    long. A pack has fewer tokens and longer rows: many long responses to a short prompt are better read row by row.
    """
    if not bool(batch.prompt_mask_BP[:, -1].all()):
        return False
    groups = len(torch.unique(batch.group_B))
    rows, prompt = batch.prompt_BP.shape
    plain = prompt + batch.response_BT.shape[1]
    # An upper limit of the longest row, for prompts with equally many responses.
    packed = prompt + -(-rows // groups) * (plain - prompt - 1)
    return groups * packed * (6 * hidden_size + packed) < rows * plain * (6 * hidden_size + plain)
