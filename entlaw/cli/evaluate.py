"""``entlaw eval``: how good a checkpoint is on its own task, or checkpoints on a suite of benchmarks."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, meaning, output_option
from entlaw.cli.output import console, dump_json, print_json, write_text
from entlaw.cli.suite import SuiteFlags, SuiteSampling, evaluate_suite
from entlaw.cli.train import spinner
from entlaw.cli.training import need_torch, resolve
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.train.evaluate import Evaluation


# Of the evaluation on a run's own task; a suite's data sets have defaults of their own.
_PROBLEMS, _SAMPLES, _TEMPERATURE = 512, 8, 1.0


def evaluate(
    checkpoints: Annotated[
        list[str],
        Parameter(
            help="Folder of a run (its newest checkpoint), a checkpoint, or a model's folder or hub id; with --suite "
            "also several."
        ),
    ],
    /,
    *,
    problems: Annotated[
        int | None,
        Parameter(help=meaning("problems", "Held out (512); with --suite at most so many of each set.")),
    ] = None,
    samples: Annotated[
        int | None, Parameter(help=meaning("samples", "8; in suites as the data set is decoded."))
    ] = None,
    temperature: Annotated[
        float | None, Parameter(help="Of sampling, 0: greedy (1; in suites as the data set is decoded).")
    ] = None,
    top_p: Annotated[float, Parameter(help="Nucleus of the sampling.")] = 1.0,
    max_tokens: Annotated[
        int | None, Parameter(help="Longest response; by default as in training, or as the suite says.")
    ] = None,
    seed: Annotated[int, Parameter(help=meaning("seed", "They choose problems and responses."))] = 12345,
    recipe: Annotated[
        Path | None, Parameter(help="Recipe with the task, where the checkpoint's folder holds none.")
    ] = None,
    output: Annotated[
        Path | None,
        output_option("FILE.json; with --suite a folder."),
    ] = None,
    flags: SuiteFlags | None = None,
    json: JsonFlag = False,
) -> int:
    """Evaluate a policy on held-out problems of its task, or several on a suite of benchmarks (--suite).

    A suite's responses are kept in a folder, and an evaluation that was interrupted goes on there when it is run again.
    """
    flags = flags or SuiteFlags()
    limits = (
        ("--problems", problems, 1),
        ("--samples", samples, 1),
        ("--temperature", temperature, 0),
        ("--max-tokens", max_tokens, 1),
        ("--seed", seed, 0),
    )
    for name, value, least in limits:
        if value is not None and not least <= value < math.inf:
            raise UsageError(f"{name} {value:g} is not a finite number of at least {least}")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p {top_p:g} is not in (0, 1]")
    if flags.suite is not None:
        sampling = SuiteSampling(problems, samples, temperature, top_p, max_tokens, seed)
        return evaluate_suite(checkpoints, flags, sampling, recipe, output, json)
    if flags.used():
        raise UsageError(f"{', '.join(flags.used())} without --suite", hint="e.g. --suite paper-math")
    if len(checkpoints) != 1:
        raise UsageError(f"{len(checkpoints)} checkpoints without --suite", hint="give one, or --suite NAME")
    return _evaluate_task(
        checkpoints[0],
        problems or _PROBLEMS,
        samples or _SAMPLES,
        _TEMPERATURE if temperature is None else temperature,
        top_p,
        max_tokens,
        seed,
        recipe,
        output,
        json,
    )


def _evaluate_task(
    checkpoint: str,
    problems: int,
    samples: int,
    temperature: float,
    top_p: float,
    max_tokens: int | None,
    seed: int,
    recipe: Path | None,
    output: Path | None,
    json: bool,
) -> int:
    need_torch()
    from entlaw.train.evaluate import evaluate as measure
    from entlaw.train.policy import device_of, load, quiet
    from entlaw.train.rollout import Sampling
    from entlaw.train.rollout.hf import HFEngine
    from entlaw.train.tasks import build_task, with_stop

    model, settings = resolve(checkpoint, recipe)
    with spinner(f"evaluating {checkpoint}"), quiet():
        policy = load(model, settings.policy, device_of(settings.run.device))
        policy = with_stop(policy, settings.rollout.stop)
        task = build_task(settings.task, policy.tokenizer)
        try:
            chosen = task.validation(problems, seed)
        except ValueError as error:
            raise UsageError(str(error), hint="ask for fewer with --problems") from error
        limit = max_tokens or settings.rollout.max_tokens
        sampling = Sampling(samples, limit, temperature, top_p, 0, settings.rollout.batch)
        found = measure(policy, HFEngine(policy), task, chosen, sampling, seed, settings.loss.micro_batch)
    result = {
        "schema": "entlaw.eval/1",
        "checkpoint": checkpoint,
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": limit,
        "seed": seed,
        **asdict(found),
    }
    if output:
        write_text(output, dump_json(result))
    if json:
        print_json(result)
    else:
        _show(found)
    return 0


def _show(found: Evaluation) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("measure", "value"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    table.add_row(f"mean@{found.samples}", f"{found.mean_at_k:.4f} ± {found.standard_error:.4f}")
    for k, value in found.pass_at_k.items():
        table.add_row(f"pass@{k}", f"{value:.4f}")
    table.add_row(f"maj@{found.samples}", f"{found.maj_at_k:.4f}")
    table.add_row("entropy, nats/token", f"{found.entropy:.4f}")
    table.add_row("response length", f"{found.response_length:.2f}")
    table.add_row("responses that ended", f"{found.finished:.4f}")
    for level, value in found.by_level.items():
        table.add_row(f"  level {level}", f"{value:.4f}")
    out = console()
    out.print(
        f"{found.problems} problems x {found.samples} responses; ± is one standard error, clustered by problem"
    )
    out.print(table)
