"""Checkpoints that all ranks write together, and that any number of ranks can go on from.

``shards/`` is a folder of torch.distributed.checkpoint: each rank writes its part of weights and optimiser states, and
a reader takes from the parts what it needs, whatever its own number of ranks. ``policy/`` is the whole policy as a
Hugging Face folder, for everybody else. The folder appears by one rename of the first rank's, as with one rank.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from entlaw.errors import UnreadableSource
from entlaw.train import checkpoint
from entlaw.train.distributed_model import like, save_policy

if TYPE_CHECKING:
    from entlaw.train.loop import Trainer

SHARDS = "shards"


def save(trainer: Trainer, state: dict[str, Any], folder: Path, step: int, keep: int) -> None:
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


def load(trainer: Trainer, folder: Path, groups: dict[str, Any]) -> None:
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


def spread(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
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
def fill(module: nn.Module, weights: dict[str, Tensor]) -> None:
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
