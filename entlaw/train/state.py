"""A trainer's state on disk and back: everything that a step changes, bit for bit.

A checkpoint holds ``policy/`` (a Hugging Face folder that any tool can load) and ``state.pt`` (optimisers, critic,
reward model, counters). One that several ranks write together holds weights and optimisers in ``shards/``, a folder of
torch.distributed.checkpoint: each rank writes its part, and a reader takes from the parts what it needs, whatever its
own number of ranks. Either can be gone on from by any number of ranks. Random numbers need no saving: they depend on
seed and step alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from entlaw.errors import UnreadableSource
from entlaw.train import checkpoint
from entlaw.train.distributed_model import like, save_policy
from entlaw.train.folder import SAVED_RECIPE
from entlaw.train.loop import Trainer
from entlaw.train.policy import load, quiet, save
from entlaw.train.recipe import to_toml
from entlaw.train.schema import Policy

SHARDS = "shards"


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
        _save_together(trainer, _counted(trainer, extra), folder, step, keep)
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
    _save_recipe(trainer, folder)
    state = {
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
        "critic": None if trainer.critic is None else trainer.critic.state_dict(),
        "process": None if trainer.process is None else trainer.process.model.state_dict(),
        **_counted(trainer, extra),
    }
    torch.save(state, folder / "state.pt")


def _save_recipe(trainer: Trainer, folder: Path) -> None:
    """The recipe beside the state: on resuming it is compared with the run folder's, which people edit."""
    (folder / SAVED_RECIPE).write_text(to_toml(trainer.recipe), "utf-8")


def load_trainer(trainer: Trainer, folder: Path, settings: Policy) -> dict[str, Any]:
    """Put a saved state into a trainer of the same recipe; returns the caller's ``extra``."""
    state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    if (folder / SHARDS).is_dir():
        _load_shards(trainer, folder, state["groups"])
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
    _fill(trainer.policy.model, saved.model.state_dict())
    for name, optimizer in trainer.optimizers.items():
        optimizer.load_state_dict(_spread(optimizer, state["optimizers"][name]))
    if trainer.critic is not None:
        _fill(trainer.critic, state["critic"])
    if trainer.process is not None:
        _fill(trainer.process.model, state["process"])


# Several ranks ----------------------------------------------------------------------------------------


def _save_together(trainer: Trainer, state: dict[str, Any], folder: Path, step: int, keep: int) -> None:
    """As :func:`entlaw.train.checkpoint.save`, by all ranks; ``state`` is plain data of the first.

    Raises
    ------
    CheckpointError
        On every rank, whichever could not write. What was saved before is intact.
    """
    world = trainer.world
    told = False

    def write(into: Path) -> None:
        nonlocal told
        told = True
        world.of_first(str(into))
        _write(trainer, state, into)

    error: Exception | None = None
    try:
        if world.first:
            checkpoint.save(folder, step, write, keep=keep)
        else:
            place = world.of_first("")
            if place:
                _write(trainer, state, Path(place))
    except Exception as met:  # of every rank's disk; which is told to all
        error = met
        if world.first and not told:  # the others still wait to hear where to write
            world.of_first("")
    world.agree(error)


def _write(trainer: Trainer, state: dict[str, Any], into: Path) -> None:
    import torch.distributed.checkpoint as dcp

    save_policy(trainer.policy, into / "policy", trainer.world)
    dcp.save(dict(_tensors(trainer)), checkpoint_id=into / SHARDS)
    with trainer.world.together():
        if trainer.world.first:
            groups = {
                name: [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
                for name, optimizer in trainer.optimizers.items()
            }
            torch.save({**state, "groups": groups}, into / "state.pt")
            _save_recipe(trainer, into)


def _load_shards(trainer: Trainer, folder: Path, groups: dict[str, Any]) -> None:
    """Put the weights and optimiser states of a checkpoint's ``shards/`` into a trainer, of one rank or many.

    Raises
    ------
    UnreadableSource
        They are not of this trainer's models.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.api import CheckpointException

    known = FileSystemReader(folder / SHARDS).read_metadata().state_dict_metadata
    for owner, module in _modules(trainer):
        optimizer = trainer.optimizers[owner]
        for name, parameter in module.named_parameters():
            if f"{owner}.{name}.exp_avg" in known:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        for group, saved in zip(optimizer.param_groups, groups[owner], strict=True):
            group.update(saved)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one rank is meant
            dcp.load(dict(_tensors(trainer)), checkpoint_id=folder / SHARDS, no_dist=not trainer.world.many)
    except (CheckpointException, RuntimeError, ValueError) as error:
        raise UnreadableSource(
            f"the checkpoint is not of this run's models: {str(error).splitlines()[0]}", where=str(folder)
        ) from error


def _spread(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A whole optimiser state, as one rank saves it, for an optimiser whose parameters may be sharded."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread_state = {
        i: {
            key: like(value, parameters[i]) if value.dim() and value.shape == parameters[i].shape else value
            for key, value in entries.items()
        }
        for i, entries in state["state"].items()
    }
    return {**state, "state": spread_state}


@torch.no_grad()
def _fill(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put whole weights into a module that may be sharded."""
    for name, parameter in module.named_parameters():
        parameter.copy_(like(weights[name], parameter))


def _modules(trainer: Trainer) -> Iterator[tuple[str, nn.Module]]:
    yield "policy", trainer.policy.model
    if trainer.critic is not None:
        yield "critic", trainer.critic
    if trainer.process is not None:
        yield "process", trainer.process.model


def _tensors(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """All weights and optimiser states by name; the tensors themselves, so that reading changes them in place."""
    for owner, module in _modules(trainer):
        state = trainer.optimizers[owner].state
        for name, parameter in module.named_parameters():
            yield f"{owner}.{name}", parameter.detach()
            for key, value in state.get(parameter, {}).items():
                yield f"{owner}.{name}.{key}", value
