"""The devices, and time of one RL step on them, as a range: how much there is to do is counted, how fast is assumed.

A matrix of n numbers costs a token 2 n operations forward and 4 n backward; attention costs it 4 x layers x width of
the queries x length forward (queries with keys, probabilities with values). The trainer masks rows explicitly, so it
computes the whole square of every row, not its causal half.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from entlaw.errors import UsageError, nearest
from entlaw.train.footprint_memory import WIDTH, cache_per_token
from entlaw.train.footprint_shapes import Shape
from entlaw.train.rules_update import mini_batches
from entlaw.train.schema import Recipe

GB = 10**9


@dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes
    ----------
    memory : float
        Bytes of one device; of a CPU, of the whole machine.
    flops : float
        Dense bfloat16 operations a second of one device, as its maker states them; 0 where unknown.
    bandwidth : float
        Bytes a second from its memory; 0 where unknown.
    free : float or None
        Bytes of ``memory`` that are free now; None where the device is not at hand.
    """

    name: str
    count: int
    memory: float
    flops: float = 0.0
    bandwidth: float = 0.0
    cpu: bool = False
    free: float | None = None

    @property
    def usable(self) -> float:
        """Bytes that a run can count on: less what the driver takes, and 5 % lost between blocks."""
        if self.cpu:
            return 0.95 * (self.memory if self.free is None else self.free)
        return 0.95 * (self.memory if self.free is None else self.free) - 0.8 * GB


# Data sheets of NVIDIA: memory in GB, bfloat16 without sparsity in TFLOP/s, bandwidth in GB/s.
GPUS: dict[str, tuple[float, float, float]] = {
    "a100-40": (42.9, 312, 1555),
    "a100": (85.9, 312, 2039),
    "h100": (85.9, 989, 3350),
    "h200": (151.4, 989, 4800),
    "b200": (193.3, 2250, 8000),
    "l40s": (51.5, 362, 864),
    "rtx4090": (25.8, 165, 1008),
}


def named(name: str, count: int, memory_gb: float | None = None) -> Machine:
    """GPUs that are not here.

    Parameters
    ----------
    memory_gb : float, optional
        Instead of the table's, in 10^9 bytes.

    Raises
    ------
    UsageError
        An unknown name.
    """
    key = name.lower().replace("_", "-").removesuffix("-80")
    if key not in GPUS:
        other = "for another, take a similar one and say --gpu-memory"
        hints = (f"known: {', '.join(GPUS)}", nearest(key, GPUS, n=1), other)
        raise UsageError(f"--gpu {name} is not in the table", hint="; ".join(filter(None, hints)))
    memory, tflops, bandwidth = GPUS[key]
    return Machine(key, count, (memory_gb or memory) * GB, tflops * 1e12, bandwidth * 1e9)


def here(device: str = "auto") -> Machine:
    """What this machine has: its CUDA devices, or its memory (a container's limit, where that is lower)."""
    count = int(os.environ.get("WORLD_SIZE", "0") or 0)
    if not device.startswith("cpu"):
        gpu = _cuda(device)
        if gpu is not None:
            return replace(gpu, count=count) if count else gpu
    total, free = _ram()
    return Machine("this machine's CPU", 1, total, cpu=True, free=free)


def _cuda(device: str) -> Machine | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    index = int(device.partition(":")[2] or os.environ.get("LOCAL_RANK", "0") or 0)
    if index >= torch.cuda.device_count():
        return None
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    known = next((key for key in GPUS if key.split("-")[0] in name.lower().replace(" ", "")), None)
    flops, bandwidth = (GPUS[known][1] * 1e12, GPUS[known][2] * 1e9) if known else (0.0, 0.0)
    return Machine(name, 1, float(total), flops, bandwidth, free=float(free))


def _ram() -> tuple[float, float]:
    """Total and available memory; Linux's own count, else half of nothing is known: infinite."""
    numbers: dict[str, float] = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, rest = line.partition(":")
            numbers[key] = float(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    total = numbers.get("MemTotal", float("inf"))
    free = numbers.get("MemAvailable", total)
    limit, used = _cgroup()
    return min(total, limit), min(free, max(limit - used, 0.0))


def _cgroup() -> tuple[float, float]:
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return float(Path(limit).read_text()), float(Path(used).read_text())
        except (OSError, ValueError):
            continue
    return float("inf"), 0.0


# Time -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lengths:
    """Tokens of a prompt and of a response, on average; responses are assumed, being unknown before the run."""

    prompt: float
    response: float


@dataclass(frozen=True)
class Utilisation:
    """How well the devices are used: one end of the range.

    Attributes
    ----------
    training, prefill : float
        Share of the stated operations a second that passes over whole sequences reach (MFU).
    bandwidth : float
        Share of the stated bandwidth that decoding reaches: each token needs all weights and its response's cache once.
    overhead : float
        Seconds that a layer needs at least for a token with ``rollout.engine = hf``: Python, and kernels being started.
    straggler : float
        Length of a batch's longest response, in mean lengths; the longest allowed at most. It is waited for.
    rounds : float
        Rollouts for a full batch where dynamic sampling refills it.
    """

    training: float
    prefill: float
    bandwidth: float
    overhead: float
    straggler: float
    rounds: float


GOOD = Utilisation(training=0.40, prefill=0.5, bandwidth=0.6, overhead=0.4e-3, straggler=3.0, rounds=1.0)
BAD = Utilisation(training=0.15, prefill=0.2, bandwidth=0.25, overhead=1.2e-3, straggler=100.0, rounds=2.0)


@dataclass(frozen=True)
class Cost:
    """One step.

    Attributes
    ----------
    tokens : float
        Response tokens.
    rollout_flops, scoring_flops, update_flops : float
        Sampling; passes without gradient; passes with.
    seconds : tuple of float
        A step, at best and at worst; NaN where the device's speed is unknown.
    rollout_seconds : tuple of float
        The sampling in it.
    validation_seconds : tuple of float
        A validation.
    device_hours : tuple of float
        The whole run, validations included, over all devices.
    """

    tokens: float
    rollout_flops: float
    scoring_flops: float
    update_flops: float
    seconds: tuple[float, float]
    rollout_seconds: tuple[float, float]
    validation_seconds: tuple[float, float]
    device_hours: tuple[float, float]


def forward_flops(shape: Shape, rows: float, length: float, predicted: float) -> float:
    """One forward pass over ``rows`` sequences, the head on ``predicted`` tokens of each."""
    body = 2.0 * shape.layers * shape.layer_matrices * length
    attention = 4.0 * shape.layers * shape.queries * length**2
    return rows * (body + attention + 2.0 * shape.head * predicted)


def passes(recipe: Recipe) -> tuple[float, float]:
    """Forward passes without gradient a step, and passes with gradient, over every response.

    Without: the rollout policy's log-probs (twice if the temperature is not 1), the reference's, PRIME's scores, PPO's
    values, the entropy after the update; and the choice of tokens over the mini-batch before each update but the first.
    """
    c, estimator = recipe.controls, recipe.estimator
    updates = mini_batches(recipe) * recipe.loss.epochs
    silent = 2.0 + (recipe.rollout.temperature != 1)
    silent += recipe.needs_reference + estimator.reward_model + estimator.critic
    chooses = c.clip_cov.on or c.kl_cov.on or c.high_entropy_share < 1
    if chooses and not c.reference_code:
        silent += recipe.loss.epochs * (updates - 1) / updates
    learning = float(recipe.loss.epochs) + estimator.reward_model + recipe.critic.epochs * estimator.critic
    return silent, learning


def cost(shape: Shape, recipe: Recipe, machine: Machine, lengths: Lengths, concurrent: int) -> Cost:
    """The step of a recipe on a machine.

    Parameters
    ----------
    concurrent : int
        Responses that one copy of the rollout engine samples at once.
    """
    responses = float(recipe.rollout.prompts * recipe.rollout.group_size)
    length = lengths.prompt + lengths.response
    forward = forward_flops(shape, responses, length, lengths.response)
    silent, learning = passes(recipe)
    # The fused head makes its logits again in the backward pass; checkpointing makes everything below them again.
    head_again = 2.0 * shape.head * lengths.response * responses
    body = forward - head_again
    once = 3 * forward + head_again + (body if recipe.policy.gradient_checkpointing else 0.0)
    sampling = generation_flops(shape, float(recipe.rollout.prompts), recipe.rollout.group_size, lengths)
    scoring, update = silent * forward, learning * once

    v = recipe.validation
    checks = v.problems * v.samples if v.every else 0
    both: list[tuple[float, float, float]] = []
    for assumed in (GOOD, BAD):
        rounds = assumed.rounds if recipe.algorithm.max_refills else 1.0
        rate = machine.count * machine.flops * assumed.training
        rollout = _sampling_seconds(shape, recipe, machine, lengths, responses, concurrent, assumed)
        step = _ratio(rounds * scoring + update, rate) + rounds * rollout
        check = _ratio(forward_flops(shape, checks, length, lengths.response), rate)
        if checks:
            check += _sampling_seconds(shape, recipe, machine, lengths, checks, concurrent, assumed)
        both.append((step, rounds * rollout, check))
    (fast, short, quick), (slow, late, long) = both
    n = 1 + recipe.run.steps / v.every if v.every else 0.0
    hours = tuple(
        machine.count * (recipe.run.steps * step + n * check) / 3600
        for step, check in ((fast, quick), (slow, long))
    )
    return Cost(
        responses * lengths.response,
        sampling,
        scoring,
        update,
        (fast, slow),
        (short, late),
        (quick, long),
        (hours[0], hours[1]),
    )


def generation_flops(shape: Shape, prompts: float, group: int, lengths: Lengths) -> float:
    """Sampling: prompts read once a group, then token by token, each looking back on what is there so far."""
    read = forward_flops(shape, prompts, lengths.prompt, 1)
    per_token = 2.0 * (shape.layers * shape.layer_matrices + shape.head)
    back = 4.0 * shape.layers * shape.queries * (lengths.prompt + lengths.response / 2)
    return read + prompts * group * lengths.response * (per_token + back)


def _sampling_seconds(
    shape: Shape,
    recipe: Recipe,
    machine: Machine,
    lengths: Lengths,
    responses: float,
    concurrent: int,
    assumed: Utilisation,
) -> float:
    """Decoding, one token of every response at a time: bound by memory or by arithmetic, whichever is slower."""
    if not machine.flops or not machine.bandwidth:
        return float("nan")
    hf = recipe.rollout.engine == "hf"
    split = 1 if hf else min(recipe.vllm.tensor_parallel, machine.count)
    copies = max(machine.count // split, 1)
    each = responses / copies
    at_once = max(min(float(concurrent), each), 1.0)
    width = 2 if recipe.policy.autocast or recipe.policy.dtype == "bfloat16" else WIDTH[recipe.policy.dtype]
    context = lengths.prompt + lengths.response / 2
    weights = (shape.layers * shape.layer + shape.head) * (WIDTH[recipe.policy.dtype] if hf else width)
    read = (weights + at_once * context * cache_per_token(shape, width)) / split
    per_token = 2.0 * (shape.layers * shape.layer_matrices + shape.head)
    per_token += 4.0 * shape.layers * shape.queries * context
    work = at_once * per_token / split / (machine.flops * assumed.prefill)
    tick = max(read / (machine.bandwidth * assumed.bandwidth), work)
    longest = min(assumed.straggler * lengths.response, float(recipe.rollout.max_tokens))
    if hf:  # a batch ends with its longest response, and only then the next begins
        tick = max(tick, shape.layers * assumed.overhead)
        ticks = -(-each // at_once) * longest
    else:
        ticks = max(each * lengths.response / at_once, longest)
    prompts = forward_flops(shape, responses / recipe.rollout.group_size, lengths.prompt, 1)
    return ticks * tick + prompts / (machine.count * machine.flops * assumed.prefill)


def _ratio(work: float, rate: float) -> float:
    return work / rate if rate else float("nan")
