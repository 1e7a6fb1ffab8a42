"""A trainer's state on disk and back: everything that a step changes, bit for bit.

A checkpoint holds ``policy/`` (a Hugging Face folder that any tool can load) and ``state.pt`` (optimisers, critic,
reward model, counters); one that several ranks saved holds weights and optimisers in ``shards/``
(:mod:`entlaw.train.distributed_checkpoint`). Either can be gone on from by any number of ranks. Random numbers need no
saving: they depend on seed and step alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from entlaw.train import checkpoint, distributed_checkpoint
from entlaw.train.loop import Trainer
from entlaw.train.policy import load, quiet, save
from entlaw.train.schema import Policy


def save_checkpoint(trainer: Trainer, extra: dict[str, Any], folder: Path, step: int, keep: int) -> None:
    """A checkpoint of the trainer in the run's folder, by all its ranks.

    Parameters
    ----------
    extra : dict
        Plain data of the caller, given back by :func:`load_trainer`; the first rank's counts.

    Raises
    ------
    CheckpointError
    """
    if trainer.world.many:
        distributed_checkpoint.save(trainer, _counted(trainer, extra), folder, step, keep)
    else:
        checkpoint.save(folder, step, lambda into: save_trainer(trainer, extra, into), keep=keep)


def _counted(trainer: Trainer, extra: dict[str, Any]) -> dict[str, Any]:
    counters = {
        "drawn": trainer.drawn,
        "updates": trainer.updates,
        "idle_steps": trainer.idle_steps,
        "entropy_coeff": trainer.entropy_coeff,
    }
    return {"counters": counters, "extra": extra}


def save_trainer(trainer: Trainer, extra: dict[str, Any], folder: Path) -> None:
    """Write a trainer of one rank into a folder that exists."""
    save(trainer.policy, folder / "policy")
    state = {
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        "critic": None if trainer.critic is None else trainer.critic.state_dict(),
        "process": None if trainer.process is None else trainer.process.model.state_dict(),
        **_counted(trainer, extra),
    }
    torch.save(state, folder / "state.pt")


def load_trainer(trainer: Trainer, folder: Path, settings: Policy) -> dict[str, Any]:
    """Put a saved state into a trainer of the same recipe; returns the caller's ``extra``."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    if (folder / distributed_checkpoint.SHARDS).is_dir():
        distributed_checkpoint.load(trainer, folder, state["groups"])
    else:
        _load_whole(trainer, folder, settings, state)
    counters = state["counters"]
    trainer.drawn, trainer.updates = counters["drawn"], counters["updates"]
    trainer.idle_steps, trainer.entropy_coeff = counters["idle_steps"], counters["entropy_coeff"]
    extra: dict[str, Any] = state["extra"]
    return extra


def _load_whole(trainer: Trainer, folder: Path, settings: Policy, state: dict[str, Any]) -> None:
    """What one rank saved."""
    with quiet():
        # By way of the CPU: a second copy of everything would not fit on the device that holds the first.
        saved = load(folder / "policy", settings, torch.device("cpu"))
    distributed_checkpoint.fill(trainer.policy.model, saved.model.state_dict())
    for name, optimizer in trainer.optimizers.items():
        optimizer.load_state_dict(distributed_checkpoint.spread(optimizer, state["optimizers"][name]))
    if trainer.critic is not None:
        distributed_checkpoint.fill(trainer.critic, state["critic"])
    if trainer.process is not None:
        distributed_checkpoint.fill(trainer.process.model, state["process"])
