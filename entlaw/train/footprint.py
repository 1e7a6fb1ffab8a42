"""What a recipe will need before it is run: memory of each device, disk, arithmetic, time.

And which setting to turn where memory does not do: before a run by the estimate, and after it has run out. The parts
are in ``footprint_shapes`` (models), ``footprint_memory`` and ``footprint_cost`` (devices and time).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from entlaw.errors import EntlawError, OutOfMemory
from entlaw.findings import Finding
from entlaw.train import footprint_memory as memory
from entlaw.train.footprint_cost import GB, Cost, Lengths, Machine, cost, here
from entlaw.train.footprint_memory import WIDTH, Pass, Resident
from entlaw.train.footprint_shapes import Shape, shape_of
from entlaw.train.recipe import put, show
from entlaw.train.rules_update import mini_batches
from entlaw.train.schema import Recipe

_PROCESS = 0.7 * GB  # Python, torch and transformers on a CPU
_ENGINE, _GRAPHS = 1.5 * GB, 1.0 * GB  # vLLM's own: activations of a prefill, sampler; captured graphs
_TYPICAL_RESPONSE, _TYPICAL_PROMPT, _SUM = 1024, 256, 16


@dataclass(frozen=True)
class EngineMemory:
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
    engine : EngineMemory or None
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
    engine: EngineMemory | None
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
        shape,
        machine,
        resident,
        batch,
        update,
        rows,
        prompt,
        response,
        engine,
        update_peak,
        rollout_peak,
        memory.checkpoint_bytes(shape, recipe),
        lengths,
        cost(shape, recipe, machine, lengths, concurrent),
        (),
    )
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


def _engine(
    shape: Shape, recipe: Recipe, machine: Machine, longest: int, lengths: Lengths
) -> EngineMemory | None:
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
    return EngineMemory(weights, max(cache, 0.0), room, sequences)


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


# Which setting to turn --------------------------------------------------------------------------------


def knobs(recipe: Recipe, f: Footprint) -> tuple[str, ...]:
    """Changes that would each make the recipe fit, tried by the same estimate, those that change nothing first."""
    return tuple(dict.fromkeys(_knobs(recipe, f)))


def _fits(f: Footprint, recipe: Recipe, machine: Machine) -> bool:
    found = estimate(recipe, machine, shape=f.shape, lengths=f.lengths)
    return found is not None and found.fits


def _knobs(recipe: Recipe, f: Footprint) -> Iterator[str]:
    """In order: what leaves the result alone, then more devices, then what makes another experiment."""
    rollout, v, machine = recipe.rollout, recipe.vllm, f.machine

    def first(key: str, values: Iterable[bool | float]) -> list[str]:
        """The first value of a setting with which it fits."""
        for value in values:
            if _fits(f, put(recipe, {key: value}), machine):
                return [f"{key} = {show(value)}"]
        return []

    if not recipe.policy.gradient_checkpointing:
        yield from first("policy.gradient_checkpointing", [True])
    yield from first("loss.micro_batch", [m for m in (64, 32, 16, 8, 4, 2, 1) if m < f.rows])
    if rollout.engine == "hf":
        now = rollout.batch or rollout.prompts * rollout.group_size
        fewer = [b for b in (256, 128, 64, 32, 16, 8) if rollout.group_size <= b < now]
        yield from first("rollout.batch", fewer)
    elif not machine.cpu:
        if not v.sleep:
            yield from first("vllm.sleep", [True])
        yield from first("vllm.memory_share", (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.8, 0.9))
    tight, changes = _tightest(recipe, f)
    changed = " and ".join(changes)
    if len(changes) > 1 and _fits(f, tight, machine):
        yield changed
    if not machine.cpu:
        n, least = smallest(recipe, f), smallest(tight, f)
        if n:
            yield f"{n} GPUs (torchrun)"
        if least and (n is None or least < n):
            yield f"{least} GPUs (torchrun) with {changed}"
    shorter = (rollout.max_tokens // 2**halved for halved in range(1, rollout.max_tokens.bit_length()))
    for text in first("rollout.max_tokens", (length for length in shorter if length >= 64)):
        yield f"{text} (another experiment)"


def _tightest(recipe: Recipe, f: Footprint) -> tuple[Recipe, list[str]]:
    """The recipe with every setting that leaves its result alone at what needs least memory, and those settings."""
    tight = put(recipe, {"policy.gradient_checkpointing": True, "loss.micro_batch": min(f.rows, 1)})
    texts = [] if recipe.policy.gradient_checkpointing else ["policy.gradient_checkpointing = true"]
    texts += ["loss.micro_batch = 1"] if f.rows > 1 else []
    if recipe.rollout.engine == "vllm" and not f.machine.cpu:
        texts += [] if recipe.vllm.sleep else ["vllm.sleep = true"]
        for share in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            shared = put(tight, {"vllm.sleep": True, "vllm.memory_share": share})
            found = estimate(shared, f.machine, shape=f.shape, lengths=f.lengths)
            # A quarter of what it could sample at once is the least worth having.
            room = found.engine.sequences if found is not None and found.engine is not None else 0
            if room >= recipe.vllm.max_sequences / 4:
                if share < recipe.vllm.memory_share:
                    return shared, [*texts, f"vllm.memory_share = {share}"]
                break
    return tight, texts


def smallest(recipe: Recipe, f: Footprint, most: int = 1024) -> int | None:
    """Fewest devices of the machine's kind, a power of two, that the recipe fits on; None above ``most``."""
    counts = (2**n for n in range(most.bit_length()))
    return next((n for n in counts if _fits(f, recipe, replace(f.machine, count=n))), None)


# Before and after ------------------------------------------------------------------------------------


def foresee(recipe: Recipe) -> Finding | None:
    """A warning before a run that this machine's memory will not hold; None if it will, or if it cannot be known."""
    found = estimate(recipe, here(recipe.run.device))
    if found is None or found.fits:
        return None
    turn = knobs(recipe, found)
    return Finding(
        "memory-short",
        "warning",
        "; ".join(found.problems),
        "estimated for the longest prompts and responses that the recipe allows; see `entlaw train --check`",
        f"any of: {'; '.join(turn)}" if turn else "take a smaller model, or more and larger GPUs",
        max(found.update_peak, found.rollout_peak) / found.machine.usable,
    )


_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|No available memory for the cache blocks",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a device or the machine that has run out of memory."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return False
        named = type(seen).__name__ == "OutOfMemoryError" or isinstance(seen, MemoryError)
        if named or (isinstance(seen, RuntimeError | OSError) and _OUT_OF_MEMORY.search(str(seen))):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def explain_oom(
    error: BaseException, recipe: Recipe, footprint: Footprint | None = None
) -> EntlawError | None:
    """What to tell of an error that says that memory ran out; None for any other error.

    Parameters
    ----------
    footprint : Footprint, optional
        Of the recipe on this machine; estimated where it is not given.

    Returns
    -------
    OutOfMemory or None
        ``if told := explain_oom(error, recipe): raise told from error``
    """
    if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
        return None
    try:
        found = footprint or estimate(recipe, here(recipe.run.device))
    except Exception:  # an error is being told: nothing may come in between
        found = None
    hint = "lower loss.micro_batch, or set policy.gradient_checkpointing = true"
    why = _line(error)
    if found is not None:
        short = found if not found.fits else _pinched(found)
        turn = knobs(recipe, short)
        hint = f"any of: {'; '.join(turn)}" if turn else f"{hint}; or more and larger GPUs"
        where = "rollout" if found.rollout_peak > found.update_peak else "update"
        most = max(found.update_peak, found.rollout_peak)
        why += f"; the estimate is {in_gb(most)}, most of it in the {where}"
    return OutOfMemory("memory ran out", where=None, why=why, hint=f"{hint}; then continue with --resume")


def _pinched(f: Footprint) -> Footprint:
    """A machine on which the estimate just does not fit, since memory ran out: what needs 5 % less would help."""
    tight = max(f.update_peak, f.rollout_peak)
    machine = replace(f.machine, free=tight if f.machine.cpu else tight + 0.8 * GB)
    return replace(f, machine=machine)


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).split(" Tried to", 1)[0][:300]
