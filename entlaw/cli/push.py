"""``entlaw push``: results back to W&B, only on request, and shown before they are written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from entlaw.cli.fit import examine_sources
from entlaw.cli.options import FitFlags, JsonFlag, ReadFlags
from entlaw.cli.output import console, plain, print_json, show_error
from entlaw.errors import EntlawError, MissingSeries, UsageError

if TYPE_CHECKING:
    from entlaw.law.examined import Examined
    from entlaw.law.settings import Settings
    from entlaw.report.wandb_push import Analysis, Pushed
    from entlaw.report.wandb_write import Write
    from entlaw.runs.wandb.client import Client
    from entlaw.runs.wandb.stored import Identity

SCHEMA = "entlaw.push/2"


def push(
    source: Annotated[
        list[str],
        Parameter(help="Runs of a W&B server, folders of pulled runs, or (--to analysis) local logs."),
    ],
    /,
    *,
    to: Annotated[
        Literal["analysis", "summary", "both"],
        Parameter(
            help="analysis: a run of its own with a table, figures and an artifact; summary: entlaw/... keys on "
            "each fitted run."
        ),
    ] = "analysis",
    project: Annotated[
        str | None, Parameter(help="ENTITY/PROJECT of the analysis run; by default that of the sources.")
    ] = None,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Show what would be written, and write nothing.")
    ] = False,
    even_running: Annotated[
        bool, Parameter(negative="", help="Write summaries of running runs too; their process may undo it.")
    ] = False,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    json: JsonFlag = False,
) -> int:
    """Examine runs and write the results to their W&B server, after showing what would be written where.

    Writes only with --yes or after a yes on the terminal. Exit code 0 when all was written or already there; 2 when
    nobody agreed or a run is still running; 3 when the server refused or a run could not be read.
    """
    settings = how.settings()
    target = _target(project)
    examined = examine_sources(source, read, settings)
    clients = _Clients()
    pushed, errors = _pushed(examined)
    if not pushed:
        raise errors[0]
    made = None if to == "summary" else _analysis(pushed, target, _settings(read, settings))
    plans = _plan(pushed, made, to, even_running, clients)
    if not json:
        show(plans)
    todo = [w for w in plans if w.status == "to write"]
    agreed = bool(todo) and not dry_run and _agreed(read.yes, len(todo))
    writes = _write(plans, made, clients) if agreed else plans
    if json:
        told = {"writes": [w.as_dict() for w in writes], "errors": [e.as_dict() for e in errors]}
        print_json({"schema": SCHEMA, "dry_run": dry_run, **told})
    _show_outcome(writes, errors, dry_run)
    return _exit_code(writes, errors, bool(todo) and not dry_run and not agreed)


def _target(project: str | None) -> tuple[str | None, str] | None:
    """Entity (None: the default one) and project."""
    if project is None:
        return None
    from entlaw.runs.wandb.address import parse

    address = parse(f"wandb:{project}") if "/" in project and not project.startswith("http") else None
    if address is None or address.kind != "project" or address.entity is None:
        raise UsageError(f"--project {project} is not ENTITY/PROJECT", hint="e.g. --project my-team/entropy")
    return address.entity, address.project


def _pushed(examined: Sequence[Examined]) -> tuple[list[Pushed], list[EntlawError]]:
    """What can be pushed, and the errors of what cannot."""
    from entlaw.report.wandb_push import identity_of, pushed

    good: list[Pushed] = []
    errors: list[EntlawError] = []
    host = _default_host()
    for e in examined:
        if e.result is None:
            errors += [] if e.error is None else [e.error]
            continue
        raw = e.reading.raw
        identity = identity_of(raw.provenance.details, host) if raw is not None else None
        good.append(pushed(e.result, e.reading.path, identity, plain(e.result.to_dict())))
    if not good and not errors:
        errors.append(MissingSeries("no run was found", hint="check the source with `entlaw doctor`"))
    return good, errors


def _default_host() -> str:
    from entlaw.runs.wandb.client import Client

    return Client().host


def _settings(read: ReadFlags, settings: Settings) -> dict[str, Any]:
    """How the results came about: what the numbers depend on, without the conditions that chose the runs."""
    used = ("method", "level", "problems", "samples", "force")
    chosen: dict[str, Any] = {name: getattr(settings, name) for name in used}
    chosen |= {"law_until_step": settings.law_until, "forecast_until_step": settings.forecast_until}
    for name in ("on", "align", "scale", "score_range", "entropy_key", "step_key", "join"):
        if value := getattr(read, name):
            chosen[name] = value
    return chosen


def _analysis(
    pushed: Sequence[Pushed], target: tuple[str | None, str] | None, settings: dict[str, Any]
) -> Analysis:
    from importlib.metadata import version

    from entlaw._version import __version__
    from entlaw.report.wandb_push import analysis

    places = dict.fromkeys(
        (p.identity.host, p.identity.entity, p.identity.project) for p in pushed if p.identity
    )
    hosts = list(dict.fromkeys(host for host, _, _ in places)) or [_default_host()]
    if len(hosts) > 1:
        raise UsageError(
            "the runs are on several servers",
            where=", ".join(hosts),
            hint="push those of one server at a time",
        )
    if target is not None:
        entity, project = target
    elif len(places) == 1:
        _, entity, project = next(iter(places))
    else:
        told = "no run knows its W&B project" if not places else "the runs are of several projects"
        raise UsageError(
            f"{told}, so the place of the analysis run is not clear", hint="--project ENTITY/PROJECT"
        )
    versions = {name: version(name) for name in ("wandb", "numpy", "scipy")}
    return analysis(pushed, hosts[0], str(entity), project, settings, {"entlaw": __version__, **versions})


class _Clients(dict[str, "Client"]):
    """One client a server, made when it is asked for."""

    def __missing__(self, host: str) -> Client:
        from entlaw.runs.wandb.client import Client

        self[host] = made = Client(host)
        return made


def _plan(
    pushed: Sequence[Pushed], made: Analysis | None, to: str, live: bool, clients: _Clients
) -> list[Write]:
    """Everything that would be written, after asking the server what is there."""
    from entlaw._version import __version__
    from entlaw.report.wandb_push import summary
    from entlaw.report.wandb_write import plan_analysis, plan_summary

    plans = []
    if to != "analysis":
        homeless = [p.name for p in pushed if p.identity is None]
        if homeless:
            raise UsageError(
                "no run of a W&B server, so there is no summary to write to",
                where=", ".join(homeless[:3]),
                hint="--to analysis --project ENTITY/PROJECT",
            )
        for identity, one in _distinct(pushed).items():
            plans.append(plan_summary(clients[identity.host], identity, summary(one, __version__), live))
    if made is not None:
        plans.append(plan_analysis(clients[made.to.host], made))
    return plans


def _distinct(pushed: Sequence[Pushed]) -> dict[Identity, Pushed]:
    """The results by their run on the server; two of one run would overwrite each other."""
    found: dict[Identity, Pushed] = {}
    for one in pushed:
        assert one.identity is not None
        if one.identity in found:
            raise UsageError(
                "the run was read twice, so it has two results for one summary",
                where=str(one.identity),
                hint="give each run once",
            )
        found[one.identity] = one
    return found


def _agreed(yes: bool, count: int) -> bool:
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"entlaw: write {'this' if count == 1 else f'these {count}'} to W&B? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(plans: list[Write], made: Analysis | None, clients: _Clients) -> list[Write]:
    """Write one after the other; what is wrong with the server itself ends it, and the rest was not tried."""
    from entlaw.report.wandb_write import write_analysis, write_summary
    from entlaw.runs.wandb.sdk import ServerError

    writes: list[Write] = []
    over = False
    for plan in plans:
        if plan.status != "to write":
            writes.append(plan)
        elif over:
            writes.append(plan.ended("not tried"))
        elif plan.what == "summary":
            writes.append(write_summary(clients[plan.to.host], plan))
        else:
            assert made is not None
            writes.append(write_analysis(clients[plan.to.host], made, plan))
        error = writes[-1].error
        # One run without access says nothing of the next; a server that is gone or wants no more requests does.
        over = over or (isinstance(error, ServerError) and error.transient)
    return writes


def show(plans: list[Write]) -> None:
    """What would be written where, key by key."""
    out = console()
    for w in plans:
        what = "summary of" if w.what == "summary" else "analysis run"
        out.print(f"{what} {w.where}: {w.status}")
        if w.status not in ("to write", "refused"):
            continue
        for key, value in w.values.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            was = f"    (now {w.before[key]})" if key in w.before else ""
            out.print(f"  {key} = {shown}{was}")
        for key in w.remove:
            out.print(f"  {key} is removed    (now {w.before.get(key)})")


def _show_outcome(writes: list[Write], errors: list[EntlawError], dry_run: bool) -> None:
    """On stderr: what became of it."""
    err = console(stderr=True)
    for error in errors:
        show_error(error)
    for w in writes:
        if w.error is not None:
            show_error(w.error)
        if w.status in ("written", "partly written", "failed", "not tried"):
            parts = f" ({', '.join(w.done)} on the server)" if w.what == "analysis" and w.done else ""
            err.print(f"{w.what} of {w.where}: {w.status}{parts}")
    waiting = sum(w.status == "to write" for w in writes)
    if waiting:
        again = "--dry-run" if dry_run else "without a yes; add --yes to write"
        err.print(f"nothing was written ({again})")
    elif writes and all(w.status == "unchanged" for w in writes):
        err.print("nothing to write: all of it is there")


def _exit_code(writes: list[Write], errors: list[EntlawError], unanswered: bool) -> int:
    codes = [w.error.exit_code for w in writes if w.error is not None] + [e.exit_code for e in errors]
    if unanswered:
        return 2
    return codes[0] if codes else 0
