"""A trainer's state on disk and back: everything that a step changes, bit for bit.

A checkpoint holds ``policy/`` (a Hugging Face folder that any tool can load) and ``state.pt`` (optimisers, critic,
reward model, counters). Random numbers need no saving: they depend on seed and step alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from entlaw.train.loop import Trainer
from entlaw.train.policy import LanguageModel, load
from entlaw.train.schema import Policy


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save_policy(policy: LanguageModel, folder: Path) -> None:
    """Weights, configuration and tokenizer as a Hugging Face folder."""
    with quiet():
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)


def save_trainer(trainer: Trainer, extra: dict[str, Any], folder: Path) -> None:
    """Write a trainer into a folder that exists.

    Parameters
    ----------
    extra : dict
        Plain data of the caller, given back by :func:`load_trainer`.
    """
    save_policy(trainer.policy, folder / "policy")
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
        saved = load(folder / "policy", settings, trainer.policy.device)
    trainer.policy.model.load_state_dict(saved.model.state_dict())
    state = torch.load(folder / "state.pt", map_location=trainer.policy.device, weights_only=True)
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
