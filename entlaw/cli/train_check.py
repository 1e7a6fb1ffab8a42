"""``entlaw train --check`` and ``--list``: what ships, what a recipe says, and what it will need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entlaw.cli.output import console, print_findings, print_json
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.findings import Finding
    from entlaw.train.footprint import Footprint
    from entlaw.train.footprint_cost import Machine
    from entlaw.train.schema import Recipe

GB = 10**9


def show_catalogue(as_json: bool) -> int:
    """All recipes, experiments and parts that ship, a line each."""
    from entlaw.train.catalogue import catalogue

    entries = list(catalogue().values())
    if as_json:
        listed = [
            {
                "name": e.name,
                "kind": e.kind,
                "says": e.says,
                "made_of": e.made_of,
                "overrides": list(e.overrides),
            }
            for e in entries
        ]
        print_json({"schema": "entlaw.recipes/1", "recipes": listed})
        return 0
    out, width = console(), max(len(e.name) for e in entries)
    said = ""
    for e in entries:
        if e.kind == "experiment":
            if e.says != said:
                out.print(f"\n{e.says}", soft_wrap=True)
            out.print("  " + f"{e.name:<{width}}  " + " ".join((e.made_of, *e.overrides)), soft_wrap=True)
            said = e.says
        else:
            heading = {"recipe": "Whole recipes", "part": "\nParts, to be joined by + (law+qwen2.5-3b+rloo)"}[
                e.kind
            ]
            if heading != said:
                out.print(heading)
            out.print(f"  {e.name:<{width}}  {e.says}", soft_wrap=True)
            said = heading
    return 0


def check(
    name: Path | None,
    recipe: Recipe,
    *,
    gpus: int | None,
    gpu: str | None,
    gpu_memory: float | None,
    prompt_tokens: float | None,
    response_tokens: float | None,
    as_json: bool,
) -> int:
    """Validate a recipe, say what it changes and what it will need.

    Raises
    ------
    UsageError
        A recipe that cannot be; options that do not go together.
    """
    from entlaw.train import footprint, rules
    from entlaw.train.footprint import knobs, smallest
    from entlaw.train.footprint_cost import Lengths

    findings = rules.check(recipe)
    machine = _machine(recipe, gpus, gpu, gpu_memory)
    shape = _shape(recipe)
    found = footprint.estimate(recipe, machine, shape=shape)
    assert found is not None  # the shape is known
    if prompt_tokens or response_tokens:
        lengths = Lengths(prompt_tokens or found.lengths.prompt, response_tokens or found.lengths.response)
        if lengths.response > recipe.rollout.max_tokens:
            raise UsageError(
                f"--response-tokens {response_tokens:g} is above rollout.max_tokens = {recipe.rollout.max_tokens}",
                hint="it is the mean length",
            )
        found = footprint.estimate(recipe, machine, shape=shape, lengths=lengths)
        assert found is not None
    turn = () if found.fits else knobs(recipe, found)
    least = None if machine.cpu else smallest(recipe, found)
    if as_json:
        print_json(_plain(name, recipe, findings, found, turn, least))
    else:
        _print(name, recipe, findings, found, turn, least)
    return 0


def _machine(recipe: Recipe, gpus: int | None, gpu: str | None, gpu_memory: float | None) -> Machine:
    from entlaw.train.footprint_cost import here, named

    if gpus is not None and gpus < 1:
        raise UsageError(f"--gpus {gpus}: there must be one at least", hint="leave it away for this machine")
    if gpu_memory is not None and not (gpu_memory > 0 and math.isfinite(gpu_memory)):
        raise UsageError(
            f"--gpu-memory {gpu_memory:g} is not a size", hint="give it in GB, as in --gpu-memory 80"
        )
    if gpus is None and gpu is None and gpu_memory is None:
        return here(recipe.run.device)
    return named(gpu or "h100", gpus or 1, gpu_memory)


def _shape(recipe: Recipe) -> Any:
    """The model's shape; where the table and the cache do not know it, its config.json is fetched.

    Raises
    ------
    UsageError, SourceNotFound, UnreadableSource
        No such model, or one that the estimate has no formula for.
    """
    from entlaw.train.footprint_shapes import from_config, shape_of

    shape = shape_of(recipe.policy)
    if shape is not None:
        return shape
    from entlaw.cli.training import need_torch
    from entlaw.train.hub import load_config

    need_torch()
    config = load_config(recipe.policy.path)
    shape = from_config(config.to_dict())
    if shape is None:
        raise UsageError(
            f"there is no estimate for models of type {config.model_type}",
            where=recipe.policy.path,
            why="memory and time are derived for llama, mistral, qwen2 and qwen3",
            hint="the recipe itself is valid",
        )
    return shape


def _plain(
    name: Path | None,
    recipe: Recipe,
    findings: tuple[Finding, ...],
    f: Footprint,
    turn: tuple[str, ...],
    least: int | None,
) -> dict[str, Any]:
    from entlaw.train import recipe as recipes

    c = f.cost
    return {
        "schema": "entlaw.check/1",
        "recipe": str(name) if name else None,
        "findings": [x.as_dict() for x in findings],
        "changes": recipes.changes(recipe),
        "model": {"path": recipe.policy.path, "parameters": f.shape.parameters, **asdict(f.shape)},
        "machine": {**asdict(f.machine), "usable": f.machine.usable},
        "memory": {
            "weights": f.resident.weights,
            "gradients": f.resident.gradients,
            "moments": f.resident.moments,
            "copies": f.resident.copies,
            "batch": f.batch,
            "micro_batch": asdict(f.update) | {"peak": f.update.peak},
            "engine": None if f.engine is None else asdict(f.engine),
            "update_peak": f.update_peak,
            "rollout_peak": f.rollout_peak,
        },
        "checkpoint_bytes": f.checkpoint,
        "lengths": asdict(f.lengths),
        "cost": asdict(c),
        "fits": f.fits,
        "problems": list(f.problems),
        "knobs": list(turn),
        "smallest_gpus": least,
    }


def _print(
    name: Path | None,
    recipe: Recipe,
    findings: tuple[Finding, ...],
    f: Footprint,
    turn: tuple[str, ...],
    least: int | None,
) -> None:
    from entlaw.train import recipe as recipes

    out = console()

    def line(text: str = "") -> None:
        out.print(text, soft_wrap=True)

    line(
        f"{name or 'the default run'}: the recipe is valid"
        + (f", {len(findings)} remark{'s' * (len(findings) > 1)}" if findings else "")
    )
    print_findings(findings)
    line("\nsettings that are not the defaults")
    for key, value in recipes.changes(recipe).items():
        line(f"  {key} = {recipes.show(value)}")
    context = f"{f.shape.context:,}" if f.shape.context < 2**31 else "any"
    line(
        f"\nmodel    {recipe.policy.path or 'ladder ' + recipe.policy.size}: {f.shape.parameters:,} parameters, "
        f"context {context}"
    )
    line(f"machine  {_machine_text(f.machine)}")
    whose = "in all" if f.machine.cpu else "each GPU"
    line(f"\nmemory, {whose}, GB = 10^9 bytes")
    for label, size in _memory(recipe, f):
        line(f"  {label:<76}{_size(size):>9}")
    verdict = "fits" if f.fits else "does not fit"
    line(
        f"  {verdict}: {_size(f.machine.usable)} GB can be used"
        + (
            f"; the fewest of these GPUs that it fits on: {least}"
            if least
            else ""
            if f.machine.cpu
            else "; it fits on no number of these GPUs up to 1024"
        )
    )
    for problem in f.problems:
        line(f"    {problem}")
    if turn:
        line("  any of these would do:")
        for knob in turn:
            line(f"    {knob}")
    kept = recipe.checkpoint.keep
    line(
        f"\ndisk     {_size(f.checkpoint)} GB a checkpoint; {kept} kept and one more while it is written: "
        f"{_size(f.checkpoint * (kept + 1))} GB"
    )
    for text in _cost(recipe, f):
        line(text)


def _machine_text(machine: Machine) -> str:
    if machine.cpu:
        return f"{machine.name}, {_size(machine.memory)} GB of memory, {_size(machine.free or 0)} GB free"
    seen = (
        f"{_size(machine.free)} GB of it free now" if machine.free is not None else "not at hand: data sheet"
    )
    return f"{machine.count} x {machine.name}, {_size(machine.memory)} GB each ({seen})"


def _memory(recipe: Recipe, f: Footprint) -> Iterator[tuple[str, float]]:
    dtype, n = recipe.policy.dtype, f.machine.count
    spread = f", spread over {n} by FSDP" if n > 1 else ""
    yield f"weights ({dtype}{spread})", f.resident.weights
    yield "gradients", f.resident.gradients
    yield "Adam's two moments", f.resident.moments
    if f.resident.copies:
        names = ["critic"] * recipe.estimator.critic + ["reward model"] * recipe.estimator.reward_model
        if recipe.needs_reference:
            names.append("reference policy")
        yield " and ".join(names), f.resident.copies
    yield "the step's responses as tensors", f.batch
    u = f.update
    how = (
        "layers made again (gradient checkpointing)"
        if recipe.policy.gradient_checkpointing
        else "all layers kept"
    )
    yield f"micro-batch of {f.rows} x ({f.prompt} + {f.response}) tokens, {how}: kept", u.kept
    yield "  one layer at work" if u.layer > u.head else "  the output head at work", max(u.layer, u.head)
    if u.gathered:
        yield "  weights gathered from the other GPUs", u.gathered
    if f.engine is not None:
        yield f"vLLM: weights {_size(f.engine.weights)}, cache {_size(f.engine.cache)}; in all", f.engine.room
        yield f"  responses of mean length that it samples at once: {f.engine.sequences}", math.nan
    yield "at most, in the update", f.update_peak
    yield "at most, in the rollout", f.rollout_peak


def _cost(recipe: Recipe, f: Footprint) -> Iterator[str]:
    from entlaw.train.footprint_cost import BAD, GOOD

    c, r = f.cost, recipe.rollout
    yield (
        f"step     {r.prompts} x {r.group_size} responses of {f.lengths.response:,.0f} tokens on average (assumed; "
        f"--response-tokens): {c.tokens:,.0f} tokens"
    )
    yield (
        f"         {c.rollout_flops:.2g} FLOPs of sampling, {c.scoring_flops:.2g} of passes without gradient, "
        f"{c.update_flops:.2g} with"
    )
    if math.isnan(c.seconds[0]):
        yield "time     not estimated here: nothing is known of this device's speed (--gpu names one)"
        return
    yield (
        f"time     {_span(c.seconds)} s a step, {_span(c.rollout_seconds)} s of it sampling; "
        f"{_span(c.validation_seconds)} s a validation"
    )
    yield f"in all   {_span(c.device_hours)} GPU-hours for {recipe.run.steps} steps with their validations"
    refills = f"; {GOOD.rounds:g} to {BAD.rounds:g} rollouts a step" if recipe.algorithm.max_refills else ""
    yield (
        f"assumed  {100 * GOOD.training:g} to {100 * BAD.training:g} % of the stated arithmetic in passes over whole "
        f"sequences, {100 * GOOD.bandwidth:g} to {100 * BAD.bandwidth:g} % of the stated bandwidth in sampling, the "
        f"longest response {GOOD.straggler:g} times the mean to as long as allowed{refills}; no waiting for verifiers"
    )


def _span(ends: tuple[float, float]) -> str:
    return f"{_round(ends[0])} to {_round(ends[1])}"


def _round(value: float) -> str:
    if value >= 100:
        return f"{float(f'{value:.2g}'):,.0f}"
    return f"{value:.2g}"


def _size(size: float | None) -> str:
    if size is None or math.isnan(size):
        return ""
    return f"{size / GB:,.1f}" if size >= 0.05 * GB or size == 0 else f"{size / GB:.4f}"
