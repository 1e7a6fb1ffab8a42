"""Random numbers that depend on (seed, purpose, step) and on nothing that happened before.

A resumed run needs no saved generator: step 17 draws the same numbers whether or not it was reached in one go.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Purpose = Literal["sampling", "order", "selection", "reward", "validation", "evaluation", "warmup", "weights"]
_CODE: dict[str, int] = {
    "sampling": 1, "order": 2, "selection": 3, "reward": 4, "validation": 5, "evaluation": 6, "warmup": 7, "weights": 8,
}  # fmt: skip


def numpy_generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A NumPy generator for one purpose at one step."""
    return np.random.default_rng([seed, _CODE[purpose], *counters])


def torch_generator(
    seed: int, purpose: Purpose, *counters: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator for one purpose at one step."""
    state = np.random.SeedSequence([seed, _CODE[purpose], *counters]).generate_state(2, np.uint32)
    return torch.Generator(device=device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
