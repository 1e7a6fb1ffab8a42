"""How this process comes to be one of several ranks: torchrun's variables, or a process group that is there already."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from datetime import timedelta

import torch

from entlaw.errors import UsageError
from entlaw.train.distributed import World

# A rank may wait for another one's longest response, or for a warm-up of the base policy, but not for ever.
_PATIENCE = timedelta(minutes=60)


def expected() -> int:
    """How many ranks the launcher of this process says there are (torchrun's variables); 1 without one."""
    with contextlib.suppress(ValueError):
        return max(int(os.environ.get("WORLD_SIZE", "1")), 1) if "RANK" in os.environ else 1
    return 1


def rank() -> int:
    """This process's rank as its launcher says, before anybody has joined."""
    return int(os.environ["RANK"]) if expected() > 1 else 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """The world this process is in, for the time of a run.

    A process group that is there already (Ray Train makes one) is used and left alone; else one is made from
    torchrun's variables, with NCCL for tensors on GPUs and gloo for everything else.

    Parameters
    ----------
    device : str
        ``run.device`` of the recipe.

    Raises
    ------
    UsageError
        The recipe names one device and there are several ranks; the ranks do not find each other.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        yield _world()
        return
    if expected() == 1:
        yield World()
        return
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"run.device = {device!r} names one device, and there are {expected()} ranks",
            hint="use run.device = 'auto', 'cuda' or 'cpu': each rank takes the device of its number",
        )
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the ranks do not find each other: {str(error).splitlines()[0]}",
            why="RANK and WORLD_SIZE are set, so other ranks are expected",
            hint="start all ranks by torchrun (docs/distributed.md), or unset RANK and WORLD_SIZE",
        ) from error
    yield _world()
    # Only after a run that ended well: a rank that failed must not wait for anybody, and its end tells the others.
    gc.collect()  # what still holds on to the group must go before it
    if not dist.is_initialized():  # vLLM, which ends last, has taken it down with its own groups
        return
    dist.barrier()  # nobody hangs up on the others
    if (
        on_gpu
    ):  # gloo's (torch 2.13) now and then aborts the process instead; left alone, it ends with the process
        dist.destroy_process_group()


def _world() -> World:
    import torch.distributed as dist

    size = dist.get_world_size()
    return World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0"))) if size > 1 else World()


def device_of(world: World, device: torch.device) -> torch.device:
    """The rank's own device: with several ranks, the GPU it joined with."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if world.many and device.type == "cuda" else device
    )
