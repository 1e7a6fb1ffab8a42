"""``entlaw pull``: W&B runs into a folder, from which everything else works without the server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, QueryFlags, output_option
from entlaw.cli.output import console, print_findings, print_json, show_error
from entlaw.errors import DataError, EntlawError, UsageError

if TYPE_CHECKING:
    from entlaw.runs.wandb.client import Client
    from entlaw.runs.wandb.listing import Query, RunRef
    from entlaw.runs.wandb.pull import Pulled

SCHEMA = "entlaw.pulled/1"


def pull(
    source: Annotated[
        list[str],
        Parameter(help="W&B runs: entity/project/run, entity/project, or their URLs (also self-hosted)."),
    ],
    /,
    *,
    output: Annotated[
        Path,
        output_option("A folder, made if missing. It is a SOURCE itself."),
    ],
    which: QueryFlags = QueryFlags(),  # noqa: B008 - frozen
    only: Annotated[
        tuple[str, ...],
        Parameter(help="Only keys that match this glob (repeat for more). Steps come with them."),
    ] = (),
    refresh: Annotated[
        bool, Parameter(negative="", help="Fetch everything anew, also what is there and unchanged.")
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Pull complete histories from a W&B server into a folder: one Parquet file a run, and only what is new next time.

    Everything else then works offline: `entlaw fit DIR`. Exit code 0 when every run was pulled, otherwise that of the
    first failure; the other runs are pulled all the same.
    """
    from entlaw.runs.wandb.client import Client
    from entlaw.runs.wandb.pull import pull as pull_all

    if output.exists() and not output.is_dir():
        raise UsageError("this is no folder", where=str(output), hint="-o takes the folder to pull into")
    query = which.query()
    pulled: list[Pulled] = []
    missed: list[EntlawError] = []
    requests = 0
    for host, addresses in _by_host(source).items():
        client = Client(host)
        refs, errors = _refs(client, addresses, query, alone=len(source) == 1)
        missed += errors
        pulled += _watched(pull_all(client, refs, output, keys=only or None, refresh=refresh), len(refs))
        requests += client.requests
    if json:
        print_json(
            {
                "schema": SCHEMA,
                "folder": str(output),
                "requests": requests,
                "runs": [as_dict(one) for one in pulled],
                "errors": [e.as_dict() for e in missed],
            }
        )
    else:
        if pulled:
            show(pulled)
        _show_totals(pulled, missed, requests, output)
    failed = [*missed, *(one.error for one in pulled if one.error is not None)]
    return failed[0].exit_code if failed else 0


def _by_host(source: list[str]) -> dict[str | None, list[Any]]:
    """Addresses by the server they are on."""
    from entlaw.runs.wandb.address import parse

    found: dict[str | None, list[Any]] = {}
    for text in source:
        address = parse(text)
        if address is None:
            raise UsageError(
                "not a run or project on a W&B server",
                where=text,
                hint="entity/project/run_id, entity/project or a URL; files are read as they are, without pulling",
            )
        found.setdefault(address.host, []).append(address)
    return found


def _refs(
    client: Client, addresses: list[Any], query: Query, alone: bool
) -> tuple[list[RunRef], list[EntlawError]]:
    """The runs that are meant, each once; of several sources, one that is not there does not cost the others."""
    from entlaw.runs.wandb.listing import find

    found: dict[str, RunRef] = {}
    missed: list[EntlawError] = []
    for address in addresses:
        try:
            found |= {ref.path: ref for ref in find(client, address, query) if ref.path not in found}
        except DataError as error:
            if alone:
                raise
            missed.append(error)
    return list(found.values()), missed


def _watched(pulled: Iterator[Pulled], total: int) -> Iterator[Pulled]:
    """The same with a bar on stderr, shown only on a terminal and only while it runs."""
    if not sys.stderr.isatty():
        yield from pulled
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("pulling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for one in pulled:
            progress.update(task, advance=1, description=one.name)
            yield one


def show(pulled: list[Pulled]) -> None:
    """The table: what was pulled, and what could not be."""
    from rich.table import Table

    out = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "state", "last step", "rows", "new", "requests", "seconds", "file"):
        out.add_column(head, justify="left" if head in ("run", "state", "file") else "right", no_wrap=True)
    for one in pulled:
        if one.error is not None:
            out.add_row(one.name, "not pulled", "-", "-", "-", "-", f"{one.seconds:.1f}", one.error.what)
            continue
        step = "-" if one.last_step is None else str(one.last_step)
        out.add_row(
            one.name,
            one.state,
            step,
            str(one.rows),
            str(one.rows_new),
            str(one.requests),
            f"{one.seconds:.1f}",
            one.path.name if one.path else "-",
        )
    console().print(out)


def _show_totals(pulled: list[Pulled], missed: list[EntlawError], requests: int, folder: Path) -> None:
    """On stderr: what needs attention, and the sum."""
    err = console(stderr=True)
    for one in pulled:
        told = [f for f in one.findings if f.severity != "info"]
        if told:
            err.print(f"{one.name}:")
            print_findings(told, stderr=True)
        if one.error is not None:
            show_error(one.error)
    for error in missed:
        show_error(error)
    good = [one for one in pulled if one.error is None]
    new = sum(one.rows_new for one in good)
    bad = len(pulled) - len(good) + len(missed)
    failed = f", {bad} not pulled" if bad else ""
    err.print(f"{len(good)} runs in {folder} ({new:,} new rows, {requests} requests){failed}", style="dim")


def as_dict(one: Pulled) -> dict[str, Any]:
    """One run of schema ``entlaw.pulled/1``."""
    error: EntlawError | None = one.error
    return {
        "name": one.name,
        "path": None if one.path is None else str(one.path),
        "state": one.state or None,
        "last_step": one.last_step,
        "rows": one.rows,
        "rows_new": one.rows_new,
        "requests": one.requests,
        "seconds": round(one.seconds, 3),
        "findings": [f.as_dict() for f in one.findings],
        "error": None if error is None else error.as_dict(),
    }
