"""Memory of one device during an update and during a rollout, in bytes, from shapes and settings alone.

What lies there all the time (weights, Adam's two moments, gradients, copies) is exact arithmetic, divided by the
number of devices that FSDP spreads it over. What comes and goes follows the passes of this trainer over models of
Hugging Face with the ``sdpa`` attention: which tensors a layer keeps for its backward pass was read off autograd's
saved tensors, and ``benchmarks/footprint.py`` compares the sum with what torch allocates.
"""

from __future__ import annotations

from dataclasses import dataclass

from entlaw.train.footprint_shapes import Shape
from entlaw.train.schema import Recipe

WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
"""Bytes of a number."""

# As entlaw.dynamics.entropy has them, which cannot be imported without torch; a test compares.
CPU_TILE, DEVICE_TILE = (1024, 2**21), (8192, 2**24)


@dataclass(frozen=True)
class Resident:
    """What each device holds throughout, by name, in bytes: the policy's states and the copies beside it."""

    weights: int
    gradients: int
    moments: int
    copies: int
    """Reference policy, critic, reward model, with gradients and moments where they learn."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.copies


def resident(shape: Shape, recipe: Recipe, devices: int = 1) -> Resident:
    """States in ``policy.dtype``, sharded over ``devices``."""
    width = WIDTH[recipe.policy.dtype]
    share = -(-shape.parameters * width // devices)
    frozen, learning = copies(recipe)
    critic = (
        shape.parameters if shape.tied else shape.parameters - shape.head
    )  # an untied head of it stays still
    extra = share * (frozen + 4 * learning)
    if recipe.estimator.critic:
        extra += share + 3 * -(-critic * width // devices)
    return Resident(share, share, 2 * share, extra)


def copies(recipe: Recipe) -> tuple[int, int]:
    """Copies of the policy beside it: frozen ones, and learning ones of the same shape (a critic apart)."""
    return int(recipe.needs_reference), int(recipe.estimator.reward_model)


@dataclass(frozen=True)
class Pass:
    """What one forward and backward pass over a micro-batch adds, in bytes.

    Attributes
    ----------
    kept : int
        Activations that wait for the backward pass.
    head : int
        The fused head at work: tiles, hidden states of the response tokens, the head's gradient.
    layer : int
        One layer at work: what it keeps where that is made again (gradient checkpointing), and its gradients.
    end : int
        The embedding's gradient, and a tied head's that waited for it, when nothing else is left.
    gathered : int
        Weights that FSDP has put together on this device.
    """

    kept: int
    head: int
    layer: int
    end: int
    gathered: int = 0

    @property
    def peak(self) -> int:
        """The most at any moment."""
        return self.gathered + max(self.kept + max(self.head, self.layer), self.end)


def one_pass(
    shape: Shape, recipe: Recipe, *, responses: int, prompt: int, response: int, devices: int, cpu: bool
) -> Pass:
    """A micro-batch of ``responses`` rows of ``prompt + response`` tokens, none of which is packed away.

    Per layer and token a pass without checkpointing keeps, in numbers: 2 norms x (input, normalised, output); queries,
    keys and values as wide as all query heads (grouped heads are repeated), their output; 4 x the feed-forward width;
    and per row and layer one mask of length x length.
    """
    weight = WIDTH[recipe.policy.dtype]
    autocast = recipe.policy.autocast and weight > 2
    compute = 2 if autocast else weight
    length = prompt + response
    tokens, answers = responses * length, responses * response
    d, q, f = shape.hidden, shape.queries, shape.inner

    norms = 2 * (4 + compute + compute if weight == 2 else 2 * weight) * d
    # Under autocast each of the five products that read a norm makes a copy of its own.
    read = 5 * d * compute if autocast else 2 * d * weight if weight > 2 else 0
    per_token = norms + read + (4 * q + 4 * f) * compute + 4 * (shape.heads + 2)
    masks = responses * length**2 * compute
    layer = tokens * per_token + masks
    # Autocast's copies of the weights; with FSDP they are what is gathered.
    casts = shape.layer_matrices * compute if autocast else 0

    # One mask for all layers, as bool; ids, positions, log-probs and the like, about twenty numbers a token.
    mask = responses * length**2 + 160 * tokens
    if recipe.policy.gradient_checkpointing:
        kept = shape.layers * tokens * d * weight + mask
        # Autocast holds its copies of all weights until the forward pass is over, checkpointed or not.
        casts_kept = shape.layers * casts if devices == 1 else 0
        again = layer + casts
    else:
        kept = shape.layers * layer + mask
        casts_kept = shape.layers * casts if devices == 1 else 0
        kept, casts_kept = kept + casts_kept, 0
        again = 0
    # Backward through a feed-forward net: three gradients of its width beside one of its outputs that is done with.
    # Under autocast, queries and keys are rotated in float32, forward and backward (read off measurements).
    rotated = 4 * q * weight if autocast else 0
    gradients = tokens * (2 * f * compute + 3 * d * weight + rotated)

    table = shape.head * weight  # a gradient as large as the vocabulary's matrix
    head = _head(shape, tokens, answers, weight, compute, cpu)
    # A tied matrix has two gradients, and the head's waits for the embedding's; under FSDP both belong to one unit.
    waits = shape.tied or devices > 1
    layer_peak = again + gradients + table * waits
    gathered = 0
    if devices > 1:
        # Two layers (one is fetched while the other works), and one's gradient in float32 before it is spread;
        # embedding and head, which travel as they are.
        roots = shape.head * (1 if shape.tied else 2)
        gathered = 2 * shape.layer * compute + shape.layer * 4 + roots * weight
    return Pass(kept, max(head, casts_kept), layer_peak, table * (1 + waits), gathered)


def _head(shape: Shape, tokens: int, answers: int, weight: int, compute: int, cpu: bool) -> int:
    """The fused head between the forward and the backward pass."""
    d = shape.hidden
    tile = _tile(shape, answers, cpu)
    width = min((CPU_TILE if cpu else DEVICE_TILE)[0], shape.vocabulary)
    tiles = tile * (16 if compute == 8 else 8 if compute == 4 else 10)
    # A block of the gradient in float32; products that are rounded, and what they lost by it.
    block = width * d * 8 + answers * d * 4 if compute == 2 else 0
    # The last norm; the states that are predicted from, as they are, as they are multiplied, and their gradients.
    states = 2 * tokens * d * weight + answers * d * (weight + compute + 4)
    narrow, wide = shape.head * compute, shape.head * weight
    if compute == weight:
        return states + tiles + block + wide
    return narrow + max(
        states + tiles + block + narrow, narrow + wide
    )  # the head's copy, its gradient, widened


def _tile(shape: Shape, answers: int, cpu: bool) -> int:
    """Logits in the fused head's tile."""
    width, logits = CPU_TILE if cpu else DEVICE_TILE
    width = min(width, shape.vocabulary)
    return width * min(logits // width, answers)


def rollout_tensors(recipe: Recipe, responses: int, prompt: int, response: int) -> int:
    """The batch of a step as tensors: ids and mask of prompts; ids and about eight float32 of responses.

    Dynamic sampling makes it larger: counted twice where the recipe allows refills.
    """
    rounds = 2 if recipe.algorithm.max_refills else 1
    return rounds * responses * (9 * prompt + 40 * response)


def cache_per_token(shape: Shape, width: int) -> int:
    """Key-value cache of one token."""
    return 2 * shape.layers * shape.keys * width


def hf_rollout(shape: Shape, recipe: Recipe, responses: int, prompt: int, response: int) -> int:
    """Sampling by the trained model itself: the cache of the responses that are sampled at once, and their logits."""
    weight = WIDTH[recipe.policy.dtype]
    at_once = min(responses, recipe.rollout.batch or responses)
    # Under autocast keys are float32 (rotated in it) and values bfloat16.
    width = (weight + 2) / 2 if recipe.policy.autocast and weight > 2 else weight
    cache = at_once * (prompt + response) * 2 * shape.layers * shape.keys * width
    growing = (
        at_once * (prompt + response) * 2 * shape.keys * width
    )  # a longer one is made before the old one goes
    logits = at_once * shape.vocabulary * 4 * 3  # float32, softmax, the random numbers of a draw
    return round(cache + growing + logits)


def checkpoint_bytes(shape: Shape, recipe: Recipe) -> int:
    """A checkpoint on disk: weights and moments of all that learns."""
    width = WIDTH[recipe.policy.dtype]
    size = 3 * shape.parameters * width * (1 + copies(recipe)[1])
    if recipe.estimator.critic:
        learning = shape.parameters if shape.tied else shape.parameters - shape.head
        size += (shape.parameters + 2 * learning) * width
    return size
