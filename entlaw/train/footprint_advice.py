"""Which setting to turn where memory does not do: before a run by the estimate, and after it has run out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from entlaw.errors import EntlawError, OutOfMemory
from entlaw.findings import Finding
from entlaw.train.footprint import Footprint, estimate, in_gb
from entlaw.train.footprint_machine import GB, Machine, here
from entlaw.train.schema import Recipe


def knobs(recipe: Recipe, f: Footprint) -> tuple[str, ...]:
    """Changes that would each make the recipe fit, tried by the same estimate, those that change nothing first."""
    tried = _changes(recipe, f)
    return tuple(dict.fromkeys(text for text, changed, machine in tried if _fits(f, changed, machine)))


def _fits(f: Footprint, recipe: Recipe, machine: Machine) -> bool:
    found = estimate(recipe, machine, shape=f.shape, lengths=f.lengths)
    return found is not None and found.fits


def _changes(recipe: Recipe, f: Footprint) -> Iterator[tuple[str, Recipe, Machine]]:
    """Candidates in order: what leaves the result alone, then more devices, then what makes another experiment."""
    p, v, machine = recipe.policy, recipe.vllm, f.machine
    if not p.gradient_checkpointing:
        checkpointed = replace(recipe, policy=replace(p, gradient_checkpointing=True))
        yield "policy.gradient_checkpointing = true", checkpointed, machine
    smaller = [m for m in (64, 32, 16, 8, 4, 2, 1) if m < f.rows]
    first = next((m for m in smaller if _fits(f, _micro(recipe, m), machine)), None)
    if first is not None:
        yield f"loss.micro_batch = {first}", _micro(recipe, first), machine
    if recipe.rollout.engine == "hf":
        now = recipe.rollout.batch or recipe.rollout.prompts * recipe.rollout.group_size
        fewer = [b for b in (256, 128, 64, 32, 16, 8) if recipe.rollout.group_size <= b < now]
        batched = {b: replace(recipe, rollout=replace(recipe.rollout, batch=b)) for b in fewer}
        b = next((b for b in fewer if _fits(f, batched[b], machine)), None)
        if b is not None:
            yield f"rollout.batch = {b}", batched[b], machine
    elif not machine.cpu:
        if not v.sleep:
            yield "vllm.sleep = true", replace(recipe, vllm=replace(v, sleep=True)), machine
        for share in (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.8, 0.9):
            shared = replace(recipe, vllm=replace(v, memory_share=share))
            if _fits(f, shared, machine):
                yield f"vllm.memory_share = {share}", shared, machine
                break
    tight, changed = _tightest(recipe, f)
    if changed.count(" = ") > 1:
        yield changed, tight, machine
    if not machine.cpu:
        n, least = smallest(recipe, f), smallest(tight, f)
        if n:
            yield f"{n} GPUs (torchrun)", recipe, replace(machine, count=n)
        if least and (n is None or least < n):
            yield f"{least} GPUs (torchrun) with {changed}", tight, replace(machine, count=least)
    length = recipe.rollout.max_tokens // 2
    while length >= 64:
        shorter = replace(recipe, rollout=replace(recipe.rollout, max_tokens=length))
        if _fits(f, shorter, machine):
            yield f"rollout.max_tokens = {length} (another experiment)", shorter, machine
            return
        length //= 2


def _tightest(recipe: Recipe, f: Footprint) -> tuple[Recipe, str]:
    """The recipe with every setting that leaves its result alone at what needs least memory, and those settings."""
    tight = _micro(
        replace(recipe, policy=replace(recipe.policy, gradient_checkpointing=True)), min(f.rows, 1)
    )
    texts = [] if recipe.policy.gradient_checkpointing else ["policy.gradient_checkpointing = true"]
    texts += ["loss.micro_batch = 1"] if f.rows > 1 else []
    if recipe.rollout.engine == "vllm" and not f.machine.cpu:
        texts += [] if recipe.vllm.sleep else ["vllm.sleep = true"]
        for share in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            shared = replace(tight, vllm=replace(recipe.vllm, sleep=True, memory_share=share))
            found = estimate(shared, f.machine, shape=f.shape, lengths=f.lengths)
            # A quarter of what it could sample at once is the least worth having.
            room = found.engine.sequences if found is not None and found.engine is not None else 0
            if room >= recipe.vllm.max_sequences / 4:
                texts += [f"vllm.memory_share = {share}"] if share < recipe.vllm.memory_share else []
                return (shared if share < recipe.vllm.memory_share else tight), " and ".join(texts)
    return tight, " and ".join(texts)


def _micro(recipe: Recipe, rows: int) -> Recipe:
    return replace(recipe, loss=replace(recipe.loss, micro_batch=rows))


def smallest(recipe: Recipe, f: Footprint, most: int = 1024) -> int | None:
    """Fewest devices of the machine's kind, a power of two, that the recipe fits on; None above ``most``."""
    count = 1
    while count <= most:
        if _fits(f, recipe, replace(f.machine, count=count)):
            return count
        count *= 2
    return None


# Before and after ------------------------------------------------------------------------------------


def foresee(recipe: Recipe) -> Finding | None:
    """A warning before a run that this machine's memory will not hold; None if it will, or nobody can tell."""
    found = estimate(recipe, here(recipe.run.device))
    if found is None or found.fits:
        return None
    turn = knobs(recipe, found)
    return Finding(
        "memory-short", "warning", "; ".join(found.problems),
        "estimated for the longest prompts and responses that the recipe allows; see `entlaw train --check`",
        f"any of: {'; '.join(turn)}" if turn else "take a smaller model, or more and larger GPUs",
        max(found.update_peak, found.rollout_peak) / found.machine.usable,
    )  # fmt: skip


_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|No available memory for the cache blocks",
    re.IGNORECASE,
)  # fmt: skip


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
    return OutOfMemory("memory ran out", where=None, why=why, hint=f"{hint}; then go on with --resume")


def _pinched(f: Footprint) -> Footprint:
    """A machine on which the estimate just does not fit, since memory ran out: what needs 5 % less would help."""
    tight = max(f.update_peak, f.rollout_peak)
    machine = replace(f.machine, free=tight if f.machine.cpu else tight + 0.8 * GB)
    return replace(f, machine=machine)


def _line(error: BaseException) -> str:
    text: Any = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).split(" Tried to", 1)[0][:300]
