"""A trainer's state on disk and back: everything that a step changes, bit for bit.

A checkpoint holds ``policy/`` (a Hugging Face folder that any tool can load) and ``state.pt`` (optimisers, critic,
reward model, counters). Random numbers need no saving: they depend on seed and step alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from entlaw.train.loop import Trainer
from entlaw.train.policy import load, quiet, save
from entlaw.train.schema import Policy


def save_trainer(trainer: Trainer, extra: dict[str, Any], folder: Path) -> None:
    """Write a trainer into a folder that exists.

    Parameters
    ----------
    extra : dict
        Plain data of the caller, given back by :func:`load_trainer`.
    """
    save(trainer.policy, folder / "policy")
    state = {
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        "critic": None if trainer.critic is None else trainer.critic.state_dict(),
        "process": None if trainer.process is None else trainer.process.model.state_dict(),
        "counters": {
            "drawn": trainer.drawn,
            "updates": trainer.updates,
            "idle_steps": trainer.idle_steps,
            "entropy_coeff": trainer.entropy_coeff,
        },
        "extra": extra,
    }
    torch.save(state, folder / "state.pt")


def load_trainer(trainer: Trainer, folder: Path, settings: Policy) -> dict[str, Any]:
    """Put a saved state into a trainer of the same recipe; returns the caller's ``extra``."""
    with quiet():
        # By way of the CPU: a second copy of everything would not fit on the device that holds the first.
        saved = load(folder / "policy", settings, torch.device("cpu"))
    trainer.policy.model.load_state_dict(saved.model.state_dict())
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    for name, optimizer in trainer.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if trainer.critic is not None:
        trainer.critic.load_state_dict(state["critic"])
    if trainer.process is not None:
        trainer.process.model.load_state_dict(state["process"])
    counters = state["counters"]
    trainer.drawn, trainer.updates = counters["drawn"], counters["updates"]
    trainer.idle_steps, trainer.entropy_coeff = counters["idle_steps"], counters["entropy_coeff"]
    extra: dict[str, Any] = state["extra"]
    return extra
