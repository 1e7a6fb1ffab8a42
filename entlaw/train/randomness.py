"""Random numbers that depend on (seed, purpose, step) and on nothing that happened before.

A resumed run needs no saved generator: step 17 draws the same numbers whether or not it was reached in one go.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Purpose = Literal["order", "selection", "reward", "warmup"]
# 1 and 5 are the sampling of rollouts and of evaluations (entlaw.train.rollout).
_CODE: dict[str, int] = {"order": 2, "selection": 3, "reward": 4, "warmup": 7}


def numpy_generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A NumPy generator for one purpose at one step."""
    return np.random.default_rng([seed, _CODE[purpose], *counters])


def torch_generator(
    seed: int, purpose: Purpose, *counters: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator for one purpose at one step."""
    state = np.random.SeedSequence([seed, _CODE[purpose], *counters]).generate_state(2, np.uint32)
    return torch.Generator(device=device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
