"""``entlaw verl``: a recipe, run by verl on Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, meaning, output_option
from entlaw.cli.output import console, print_findings, print_json, write_text
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.engines.verl.mapping import VerlRun


def verl(
    recipe: Annotated[
        Path, Parameter(help="TOML file, or a name of `entlaw train --list`, or several joined by +.")
    ],
    /,
    *extra: Annotated[
        str, Parameter(help="Behind --: overrides in verl's own words, which win.", show=False)
    ],
    overrides: Annotated[
        list[str] | None,
        Parameter(name="--set", help=meaning("set")),
    ] = None,
    output: Annotated[Path | None, output_option("A folder of the run: data, log, checkpoints.")] = None,
    nodes: Annotated[int, Parameter(help="Machines.")] = 1,
    gpus_per_node: Annotated[
        int | None, Parameter(help="GPUs of each machine; this machine's without, 8 if it has none.")
    ] = None,
    ray: Annotated[str | None, Parameter(help=meaning("ray", "Without, verl starts one here."))] = None,
    print_command: Annotated[
        bool,
        Parameter(name="--print", negative="", help="Print verl's command and stop; nothing is written."),
    ] = False,
    check: Annotated[
        bool,
        Parameter(
            negative="",
            help=meaning(
                "check", "Whether verl, here and in every Ray worker, knows entlaw and takes the settings."
            ),
        ),
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Train by verl on Ray: one machine with GPUs, or a cluster, with the paper's controls over whole batches.

    The recipe becomes verl's settings, its data sets Parquet files; what verl does otherwise is said, what it cannot
    do is refused. The log is one that `entlaw fit` reads. Overrides behind -- are verl's: `entlaw verl R -- a.b=c`.
    """
    from entlaw.engines.verl import checks, mapping, prepare
    from entlaw.engines.verl.launch import overrides as as_overrides
    from entlaw.engines.verl.launch import shell
    from entlaw.train import recipe as recipes
    from entlaw.train.catalogue import name_of
    from entlaw.train.rules import check as obey

    settings = recipes.load(recipe, overrides or ())
    doubts = obey(settings)
    if bad := [text for text in extra if "=" not in text]:
        raise UsageError(f"{bad[0]!r} is no override", hint="behind -- comes key=value, in verl's words")
    if nodes < 1 or (gpus_per_node is not None and gpus_per_node < 1):
        raise UsageError("--nodes and --gpus-per-node are at least 1")
    folder = (output or Path(f"verl-{name_of(recipe)}")).absolute()
    cluster = mapping.Cluster(nodes, gpus_per_node if gpus_per_node is not None else _gpus_here() or 8)
    mapping.refuse(settings, cluster)
    # A model of the hub is looked up when the run is to start: to print a command must not wait for a network.
    bos = None if settings.task.chat else checks.adds_bos(settings.policy.path, not (print_command or check))
    plan = mapping.plan(settings, cluster, folder, prepare.paths(folder, settings), bos)
    where = {"+ray_kwargs.ray_init.address": ray} if ray else _small_machine()
    arguments = as_overrides(dict(plan.settings) | where, extra)
    if print_command:
        if json:
            _report(plan, arguments, folder)
        else:
            sys.stdout.write(shell(arguments, plan.environment) + "\n")
            print_findings([*doubts, *plan.findings], stderr=True)
        return 0
    print_findings([*checks.need_verl(), *doubts, *plan.findings], stderr=True)
    known = [checks.driver(), *checks.workers(ray)]
    checks.configuration(arguments)
    if check:
        if json:
            _report(plan, arguments, folder, known)
        else:
            _show(known, arguments)
        return 0
    from entlaw.engines.verl.launch import LOG, launch

    err = console(stderr=True)
    prepared = prepare.prepare(settings, folder)
    print_findings(prepared.findings, verbose=False, stderr=True)
    err.print(f"{prepared.rows[0]} training problems, {prepared.rows[1]} for validation", soft_wrap=True)
    write_text(folder / "recipe.toml", recipes.to_toml(settings))
    write_text(folder / "command.sh", shell(arguments, plan.environment) + "\n")
    err.print(shell(arguments, plan.environment), soft_wrap=True)
    code = launch(arguments, plan.environment, folder)
    if json:
        print_json(
            {
                "schema": "entlaw.verl-run/1",
                "folder": str(folder),
                "log": str(folder / LOG),
                "exit_code": code,
            }
        )
    err.print(f"next: entlaw fit {folder / LOG}", soft_wrap=True)
    return code


def _small_machine() -> dict[str, Any]:
    """verl's store starts 8 actors of a processor each, and waits for ever where there are fewer processors."""
    import os

    processors = os.cpu_count() or 1
    key = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
    return {key: max(processors // 4, 1)} if processors < 32 else {}


def _gpus_here() -> int:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def _report(
    plan: VerlRun, arguments: list[str], folder: Path, known: list[dict[str, Any]] | None = None
) -> None:
    found: dict[str, Any] = {
        "schema": "entlaw.verl/1",
        "folder": str(folder),
        "overrides": arguments,
        "environment": dict(plan.environment),
        "findings": [finding.as_dict() for finding in plan.findings],
    }
    print_json(found if known is None else found | {"registered": known, "accepted": True})


def _show(known: list[dict[str, Any]], arguments: list[str]) -> None:
    out = console()
    for number, found in enumerate(known):
        who = "driver" if not number else "Ray worker"
        counts = (
            f"{len(found['losses'])} losses, {len(found['estimators'])} advantage estimators and "
            f"{len(found['trainers'])} trainer of entlaw {found['entlaw']}"
        )
        out.print(f"{who} on {found['host']} (process {found['pid']}): verl {found['verl']} knows {counts}")
    out.print(f"verl accepts all {len(arguments)} overrides")
