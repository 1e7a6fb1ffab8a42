"""What a recipe will need before it is run: memory of each device, disk, arithmetic, time.

The parts are in ``footprint_shapes`` (models), ``footprint_memory``, ``footprint_cost`` and ``footprint_machine``;
which setting to turn where it does not fit is in ``footprint_advice``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from entlaw.train import footprint_memory as memory
from entlaw.train.footprint_cost import Cost, Lengths, cost
from entlaw.train.footprint_machine import GB, Machine
from entlaw.train.footprint_memory import WIDTH, Pass, Resident
from entlaw.train.footprint_shapes import Shape, shape_of
from entlaw.train.rules_update import mini_batches
from entlaw.train.schema import Recipe

_PROCESS = 0.7 * GB  # Python, torch and transformers on a CPU
_ENGINE, _GRAPHS = 1.5 * GB, 1.0 * GB  # vLLM's own: activations of a prefill, sampler; captured graphs
_TYPICAL_RESPONSE, _TYPICAL_PROMPT, _SUM = 1024, 256, 16


@dataclass(frozen=True)
class Engine:
    """vLLM on one device.

    Attributes
    ----------
    weights, cache : float
        Bytes of its copy of the weights and of its key-value cache.
    room : float
        Bytes that it takes in all.
    sequences : int
        Responses of mean length that the cache holds, ``vllm.max_sequences`` at most.
    """

    weights: float
    cache: float
    room: float
    sequences: int


@dataclass(frozen=True)
class Footprint:
    """What a recipe needs on a machine; bytes are of one device.

    Attributes
    ----------
    batch : int
        The step's batch as tensors.
    update : Pass
        What a micro-batch adds.
    rows : int
        Responses in it.
    prompt, response : int
        Longest prompt and response, which memory is counted for.
    engine : Engine or None
        None with ``rollout.engine = hf``.
    update_peak, rollout_peak : float
    checkpoint : int
        Bytes of one on disk.
    lengths : Lengths
        Mean lengths, which time is counted for.
    problems : tuple of str
        Why it does not fit; empty if it does.
    """

    shape: Shape
    machine: Machine
    resident: Resident
    batch: int
    update: Pass
    rows: int
    prompt: int
    response: int
    engine: Engine | None
    update_peak: float
    rollout_peak: float
    checkpoint: int
    lengths: Lengths
    cost: Cost
    problems: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the machine's memory will do."""
        return not self.problems


def estimate(
    recipe: Recipe, machine: Machine, *, shape: Shape | None = None, lengths: Lengths | None = None
) -> Footprint | None:
    """The footprint of a recipe; None where the model's shape cannot be known without network.

    Parameters
    ----------
    lengths : Lengths, optional
        Mean lengths. Default: responses of 1024 tokens, or the longest allowed; prompts of 256 (16 for sums).
    """
    shape = shape or shape_of(recipe.policy)
    if shape is None:
        return None
    devices, cpu = machine.count, machine.cpu
    typical = _SUM if recipe.task.name == "arithmetic" else _TYPICAL_PROMPT
    prompt = recipe.rollout.max_prompt_tokens or min(2 * typical, shape.context)
    response = recipe.rollout.max_tokens
    lengths = lengths or Lengths(float(min(typical, prompt)), float(min(_TYPICAL_RESPONSE, response)))

    each = -(-recipe.rollout.prompts * recipe.rollout.group_size // devices)
    mini = -(-each // mini_batches(recipe))
    rows = min(recipe.loss.micro_batch or mini, mini)
    resident = memory.resident(shape, recipe, devices)
    update = memory.one_pass(
        shape, recipe, responses=rows, prompt=prompt, response=response, devices=devices, cpu=cpu
    )
    batch = memory.rollout_tensors(recipe, each, prompt, response)
    engine = _engine(shape, recipe, machine, prompt + response, lengths)
    beside = engine is not None and recipe.rollout.engine == "vllm"

    base = resident.total + batch + (_PROCESS if cpu else 0.0)
    update_peak = base + working(update, resident, rows >= mini)
    rollout_peak = base
    if engine is None:
        rollout_peak += memory.hf_rollout(shape, recipe, each, prompt, response)
        if devices > 1:  # every rank samples with a whole copy
            rollout_peak += shape.parameters * WIDTH[recipe.policy.dtype]
    elif beside:
        rollout_peak += engine.room
        update_peak += 0.0 if recipe.vllm.sleep and not cpu else engine.room
    concurrent = engine.sequences if engine is not None else recipe.rollout.batch or each
    found = Footprint(
        shape, machine, resident, batch, update, rows, prompt, response, engine, update_peak, rollout_peak,
        memory.checkpoint_bytes(shape, recipe), lengths, cost(shape, recipe, machine, lengths, concurrent), (),
    )  # fmt: skip
    return replace(found, problems=tuple(_problems(found, recipe)))


def working(update: Pass, resident: Resident, alone: bool) -> float:
    """Bytes of an update beyond what is resident.

    Parameters
    ----------
    alone : bool
        The mini-batch is one micro-batch: then gradients come as activations go, and never are there together.
    """
    if not alone:
        return update.peak
    # Towards the end nearly all gradients are there, and the first layers still at work.
    return max(update.peak, resident.gradients + max(update.end, update.layer)) - resident.gradients


def _engine(shape: Shape, recipe: Recipe, machine: Machine, longest: int, lengths: Lengths) -> Engine | None:
    """vLLM's part of a device: its share of a GPU, or weights and the cache that a CPU is given."""
    if recipe.rollout.engine == "hf":
        return None
    v = recipe.vllm
    named = v.dtype if v.dtype != "auto" else "bfloat16" if recipe.policy.autocast else recipe.policy.dtype
    width = WIDTH[named]
    split = 1 if machine.cpu else min(v.tensor_parallel, machine.count)
    weights = shape.parameters * width / split
    per_token = memory.cache_per_token(shape, width) / split
    if machine.cpu:
        cache = v.kv_cache_gb * 2**30
        room = weights + cache
    else:
        room = v.memory_share * machine.memory
        cache = room - weights - _ENGINE - (0.0 if v.eager else _GRAPHS)
    mean = per_token * (lengths.prompt + lengths.response)
    sequences = 0 if cache < per_token * longest else min(v.max_sequences, int(cache / mean))
    return Engine(weights, max(cache, 0.0), room, sequences)


def _problems(f: Footprint, recipe: Recipe) -> Iterator[str]:
    device = "the machine" if f.machine.cpu else "each GPU"
    room = f"{in_gb(f.machine.usable)} that can be used of {device}"
    if f.update_peak > f.machine.usable:
        yield f"the update needs {in_gb(f.update_peak)}, more than the {room}"
    if f.rollout_peak > f.machine.usable:
        yield f"the rollout needs {in_gb(f.rollout_peak)}, more than the {room}"
    if f.engine is not None and not f.engine.sequences:
        setting = "vllm.kv_cache_gb" if f.machine.cpu else "vllm.memory_share"
        yield (
            f"{setting} leaves vLLM {in_gb(f.engine.cache)} of cache beside {in_gb(f.engine.weights)} of weights: not "
            f"one response of {f.prompt + f.response} tokens"
        )
    if f.response >= f.shape.context:
        yield f"rollout.max_tokens = {f.response} leaves no room for a prompt in a context of {f.shape.context}"


def in_gb(size: float) -> str:
    """Bytes in words."""
    return f"{size / GB:.1f} GB"
