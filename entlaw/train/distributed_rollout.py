"""Rollouts by all ranks: each samples for its part of the prompts, and all get the whole batch.

Random numbers depend on the number of a prompt in the whole rollout, so responses do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from entlaw.train.batch import Batch
from entlaw.train.distributed import World
from entlaw.train.distributed_model import WholeCopy
from entlaw.train.policy import LanguageModel
from entlaw.train.rollout import Engine, Sampling
from entlaw.train.rollout.hf import HFEngine


class RankedEngine:
    """An engine on each rank as one engine for all.

    Parameters
    ----------
    engine : Engine
        This rank's.
    copy : WholeCopy, optional
        The weights it samples from, where the policy's own are sharded.
    """

    def __init__(self, engine: Engine, world: World, pad_id: int, copy: WholeCopy | None = None) -> None:
        self.engine, self.world, self.pad_id, self.copy = engine, world, pad_id, copy

    def generate(
        self, prompts: Sequence[str], sampling: Sampling, seed: Sequence[int], first: int = 0
    ) -> Batch:
        """As :class:`entlaw.train.rollout.Engine`; the whole batch on every rank."""
        if self.copy is not None and not self.copy.filled:
            self.copy.fill()
        mine = self.world.share(len(prompts))
        with self.world.together():
            # A rank without a prompt samples one all the same, to know what a batch of this engine holds.
            here = prompts[mine] or prompts[:1]
            part = self.engine.generate(here, sampling, seed, first + mine.start)
        part = replace(part, group_B=part.group_B + mine.start)
        part = part.at(slice(0, (mine.stop - mine.start) * sampling.samples))
        return self.world.gather_batch(part, self.pad_id)

    def sync(self) -> None:
        """Bring the policy's present weights to every rank's engine."""
        if self.copy is not None:
            self.copy.fill()
        self.engine.sync()

    def rest(self) -> None:
        """Give the memory of weights and engine back until the next :meth:`sync`."""
        self.engine.rest()
        if self.copy is not None:
            self.copy.drop()

    def close(self) -> None:
        """Stop this rank's engine."""
        self.engine.close()


def ranked(engine: Engine, policy: LanguageModel, world: World) -> RankedEngine:
    """Each rank's engine for a policy that is spread over the ranks, as one engine."""
    if isinstance(engine, HFEngine):
        copy = WholeCopy(policy)
        return RankedEngine(HFEngine(copy.policy), world, policy.pad_id, copy)
    return RankedEngine(engine, world, policy.pad_id)
