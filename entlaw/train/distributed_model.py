"""A policy whose weights are spread over the ranks (FSDP2), and the whole copy that samples.

Every decoder layer is a unit of its own, gathered just before its pass and freed behind it; what is left (embeddings,
last norm, head) belongs to the root. Gradients are *summed* over ranks: the loss of each rank is already divided by the
tokens of the whole optimiser step.

Sampling needs every weight at every token, so layers that are gathered for each would be gathered thousands of times.
:class:`WholeCopy` holds the gathered weights from the end of one update to the beginning of the next and then gives
the memory back. :class:`RankedEngine` samples by all ranks, each for its part of the prompts, and all get the whole
batch; random numbers depend on the number of a prompt in the whole rollout, so responses do not depend on the number of
ranks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from entlaw.train.batch import Batch
from entlaw.train.distributed import World, whole
from entlaw.train.policy import LanguageModel, Scores, quiet
from entlaw.train.rollout import Engine, Sampling
from entlaw.train.rollout.hf import HFEngine

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


class Root(nn.Module):
    """A policy's passes as the forward of one module: the only door through which sharded weights may be used."""

    def __init__(self, policy: LanguageModel) -> None:
        super().__init__()
        self.model = policy.model
        self.policy = policy

    def forward(self, batch: Batch, temperature: float) -> Scores:
        """As :meth:`LanguageModel.score`."""
        return self.policy.score(batch, temperature)


def sharded(policy: LanguageModel, world: World, device: torch.device) -> LanguageModel:
    """The policy with its weights spread over the ranks; its model is changed in place.

    Every rank must hold the same weights; each keeps its part, on its ``device``. Copies must be made before.
    """
    if not world.many:
        return policy
    plain = skeleton(policy.model, device)
    root = Root(policy)
    shard_module(root, policy.model, world, device, autocast=policy.autocast)
    return replace(policy, root=root, plain=plain)


def shard_module(
    root: nn.Module, body: PreTrainedModel, world: World, device: torch.device, *, autocast: bool
) -> None:
    """Spread a module's parameters over the ranks, each decoder layer of ``body`` by itself.

    Under autocast the layers travel in bfloat16, in which they are multiplied anyway, while the stream between them
    stays float32 as on one rank; gradients are summed in float32 at least.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    dtype = next(body.parameters()).dtype
    summed = torch.promote_types(dtype, torch.float32)
    narrow = torch.bfloat16 if autocast and dtype == torch.float32 else None
    mesh = _mesh(world, device)
    for layer in decoder_layers(body):
        precision = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=summed, cast_forward_inputs=False)
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    # The root too is freed behind its pass: what reads the weights between steps must find them sharded.
    precision = MixedPrecisionPolicy(reduce_dtype=summed, cast_forward_inputs=False)
    fully_shard(root, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # Else float32 gradients are summed by an operation that only NCCL has.
            module.set_force_sum_reduction_for_comms(True)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The longest list of modules in a model, which in a language model is its layers."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=lambda found: sum(p.numel() for p in found.parameters()), default=()))


def _mesh(world: World, device: torch.device) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (world.size,))


def like(full: Tensor, target: Tensor) -> Tensor:
    """A whole tensor, which every rank holds, as ``target`` is: sharded or not, and where it is."""
    if not hasattr(target, "full_tensor"):
        return full
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(target, DTensor)
    return distribute_tensor(
        full.to(target.to_local().device), target.device_mesh, target.placements, src_data_rank=None
    )


def whole_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and gathered weights one by one, tied ones as one tensor under each of their names."""
    found: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) not in found:
            found[id(parameter)] = whole(parameter.detach())
        yield name, found[id(parameter)]


def skeleton(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A model of the same make without weights; its buffers, which are small, are on ``device``."""
    # What deepcopy finds here it takes for done, so no weight is ever copied.
    done: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in model.parameters()
    }
    made = copy.deepcopy(model, done).eval()
    for module in made.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(
                name, buffer.to(device), persistent=name not in module._non_persistent_buffers_set
            )
    return made


def put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Set a parameter by its full name."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))


class WholeCopy:
    """The policy's weights gathered into a model of each rank's own, for sampling.

    Attributes
    ----------
    policy : LanguageModel
        Of use while :attr:`filled`.
    """

    def __init__(self, policy: LanguageModel) -> None:
        assert policy.plain is not None
        self.source = policy.model
        self.policy = replace(policy, model=policy.plain, root=None, plain=None)
        self.filled = False

    @torch.no_grad()
    def fill(self) -> None:
        """Gather the present weights; every rank must ask."""
        for name, tensor in whole_parameters(self.source):
            put(self.policy.model, name, tensor)
        self.filled = True

    def drop(self) -> None:
        """Give the memory back."""
        for name, parameter in list(self.policy.model.named_parameters(remove_duplicate=False)):
            put(self.policy.model, name, torch.empty_like(parameter, device="meta"))
        self.filled = False


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


@torch.no_grad()
def save_policy(policy: LanguageModel, folder: Path, world: World) -> None:
    """Weights, configuration and tokenizer as a Hugging Face folder, whole, written by the first rank."""
    if policy.plain is None:
        from entlaw.train.policy import save

        with world.together():
            if world.first:
                save(policy, folder)
        return
    # One weight at a time: only the first rank, and there only the CPU, must hold them all.
    state: dict[str, Tensor] = {}
    for name, tensor in whole_parameters(policy.model):
        if world.first:
            state[name] = tensor.cpu()
    with world.together():
        if world.first:
            made = skeleton(policy.plain, torch.device("cpu"))
            for name, tensor in state.items():
                put(made, name, tensor)
            made.tie_weights()
            with quiet():
                made.save_pretrained(folder)
                policy.tokenizer.save_pretrained(folder)
