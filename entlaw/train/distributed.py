"""Several processes that train one policy: who they are, how work is cut among them, and how they agree.

Every rank holds the whole batch, which is small (some fifty bytes a token); what is large, the model, is sharded, and
what is slow, its passes, is divided by rows. Whatever is computed *about* the batch (advantages, statistics, which
tokens are chosen) is computed from the whole batch by the same code as on one rank, so it cannot depend on the number
of ranks. :class:`World` of one rank does nothing at all, so the trainer has one code for both.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from entlaw.errors import EntlawError, UsageError
from entlaw.train.batch import Batch
from entlaw.train.failure import BROKEN, RankLost, describe, post, posted, revived

T = TypeVar("T")
# A rank may wait for another one's longest response, or for a warm-up of the base policy, but not for ever.
_PATIENCE = timedelta(minutes=60)


class Piece(NamedTuple):
    """Rows of a batch that one rank reads in one pass."""

    where: slice
    """Which rows of the whole batch; empty for a pass that is only made because other ranks make one."""
    batch: Batch

    @property
    def rows(self) -> slice:
        """The rows that are read, which count or not."""
        return self.where if self.real else slice(0, 1)

    @property
    def real(self) -> bool:
        """Whether its result counts."""
        return self.where.stop > self.where.start


@dataclass(frozen=True)
class World:
    """The ranks that train together; one of them is this process."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    @property
    def many(self) -> bool:
        """Whether there is anybody to agree with."""
        return self.size > 1

    # Cutting ------------------------------------------------------------------------------------

    def share(self, n: int, rank: int | None = None) -> slice:
        """The rank's part of ``n`` things in a row; the parts differ by one at most."""
        rank = self.rank if rank is None else rank
        return slice(n * rank // self.size, n * (rank + 1) // self.size)

    def shares(self, n: int) -> list[int]:
        """How many of ``n`` things each rank has."""
        parts = [self.share(n, rank) for rank in range(self.size)]
        return [part.stop - part.start for part in parts]

    def pieces(self, batch: Batch, micro_batch: int) -> Iterator[Piece]:
        """This rank's rows in runs of ``micro_batch`` (0: all at once), equally many runs on every rank.

        The passes of a sharded model are made by all ranks together, so a rank that has no row left reads the batch's
        first once more, for nothing.
        """
        if not self.many:
            yield from (Piece(where, part) for where, part in batch.pieces(micro_batch))
            return
        mine = self.share(len(batch))
        longest = -(-len(batch) // self.size)
        size = micro_batch or max(longest, 1)
        for start in range(mine.start, mine.start + longest, size):
            where = slice(min(start, mine.stop), min(start + size, mine.stop))
            yield Piece(where, batch.at(where if where.stop > where.start else slice(0, 1)))

    def by_rows(
        self, batch: Batch, micro_batch: int, compute: Callable[[Batch], Sequence[Tensor]]
    ) -> list[Tensor]:
        """What ``compute`` gives for each row of the whole batch, each rank computing its own rows.

        ``compute`` returns tensors with one row a response, as wide as the batch where they are [B, T].
        """
        done = [(piece, compute(piece.batch)) for piece in self.pieces(batch, micro_batch)]
        real = [values for piece, values in done if piece.real]
        empty = [value[:0] for value in done[0][1]]
        mine = [torch.cat(column) for column in zip(*real, strict=True)] if real else empty
        return [self.gather(values, self.shares(len(batch))) for values in mine]

    # Exchanging ---------------------------------------------------------------------------------

    def gather(self, mine: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all ranks in order, ``counts`` of each; the same bits everywhere."""
        if not self.many:
            return mine
        import torch.distributed as dist

        # Not every backend sends booleans.
        plain = mine.detach().to(torch.uint8) if mine.dtype == torch.bool else mine.detach()
        padded = torch.zeros((max(counts), *plain.shape[1:]), dtype=plain.dtype, device=plain.device)
        padded[: len(plain)] = plain
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).to(mine.dtype)

    def gather_batch(self, mine: Batch, pad_id: int) -> Batch:
        """The whole batch from each rank's part of it, which may be empty, padded to the widest."""
        if not self.many:
            return mine
        shape = (len(mine), mine.prompt_BP.shape[1], mine.response_BT.shape[1]) if len(mine) else (0, 0, 0)
        counts, prompts, responses = zip(*self.each(shape), strict=True)
        wide = mine.widened(max(prompts), max(responses), pad_id)
        return wide.map(lambda tensor: self.gather(tensor, counts))

    def each(self, thing: T) -> list[T]:
        """Every rank's thing, in the order of ranks."""
        if not self.many:
            return [thing]
        import torch.distributed as dist

        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return things

    def of_first(self, thing: T) -> T:
        """The first rank's thing, on every rank."""
        if not self.many:
            return thing
        import torch.distributed as dist

        held = [thing if self.first else None]
        dist.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[return-value]

    def same(self, tensor: Tensor) -> Tensor:
        """The first rank's tensor: what all must agree on to the bit, though kernels may not be deterministic."""
        if not self.many:
            return tensor
        import torch.distributed as dist

        sent = (tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor).contiguous().clone()
        dist.broadcast(sent, src=0)
        return sent.to(tensor.dtype)

    def total(self, numbers: dict[str, float]) -> dict[str, float]:
        """Sums over the ranks by name, in the order of ranks, so that they are the same everywhere."""
        if not self.many:
            return numbers
        everyone = self.each(numbers)
        return {key: sum(one[key] for one in everyone) for key in everyone[0]}

    # Agreeing -----------------------------------------------------------------------------------

    def agree(self, error: Exception | None) -> None:
        """Raise on every rank what any rank met: its own error where it has one, else that of the lowest rank.

        Raises
        ------
        Exception
        """
        if not self.many:
            if error is not None:
                raise error
            return
        told = self.each(None if error is None else describe(error))
        if isinstance(error, EntlawError):
            raise error
        for rank, one in enumerate(told):
            if rank == self.rank and error is not None:
                raise error
            if one is not None:
                raise revived(one, rank)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Work of each rank for itself, without waiting for others in it; one rank's error ends it for all."""
        error: Exception | None = None
        try:
            yield
        except Exception as met:  # told to the other ranks, which would wait for this one, and raised again
            error = met
        self.agree(error)

    def first_does(self, work: Callable[[], T]) -> T:
        """``work`` done by the first rank alone; all get its result or its error."""
        result: Any = None
        with self.together():
            if self.first:
                result = work()
        return self.of_first(result)

    def explained(self, error: BaseException) -> BaseException:
        """An error that ends this rank, as its cause; the other ranks are informed.

        When one rank ends, the others fail in their next exchange with words about sockets.
        """
        if not self.many or not isinstance(error, Exception):
            return error
        own = isinstance(error, EntlawError)
        if not own and BROKEN.search(f"{type(error).__name__}: {error}"):
            told = posted()
            if told is not None and told["rank"] != self.rank:
                return revived(told, told["rank"])
            return RankLost(
                "another rank ended without a word",
                why="it was killed, ran out of memory, or its machine is gone",
                hint="everything up to the last checkpoint is saved: continue with `entlaw train --resume`",
            )
        post({**describe(error), "rank": self.rank})
        return error

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return max(self.each(number))


ALONE = World()
"""The one rank that trains without others."""


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, gathered; every rank must ask."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


# How this process comes to be a rank: torchrun's variables, or a process group that is there already ----


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
    # gloo's (torch 2.13) now and then aborts the process instead; left alone, it ends with the process.
    if on_gpu:
        dist.destroy_process_group()


def _world() -> World:
    import torch.distributed as dist

    size = dist.get_world_size()
    return World(dist.get_rank(), size) if size > 1 else World()


def device_of(world: World, device: torch.device) -> torch.device:
    """The rank's own device: with several ranks, the GPU it joined with."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if world.many and device.type == "cuda" else device
    )
