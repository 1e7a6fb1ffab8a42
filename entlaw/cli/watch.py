"""``entlaw watch``: a run that is still going, judged after every new validation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, ReadFlags
from entlaw.cli.watch_show import Show, choose_show
from entlaw.errors import UsageError
from entlaw.limits import UNSET

if TYPE_CHECKING:
    from entlaw.watch.course import Event, Watched
    from entlaw.watch.follow import Seen
    from entlaw.watch.notify import Notifier
    from entlaw.watch.watcher import Watcher

EXIT_STOPPED = 5
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|min|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_BROKEN = frozenset({"crashed", "failed", "killed"})


def watch(
    source: Annotated[list[str], Parameter(help="Logs being written, folders, or W&B runs.")],
    /,
    *,
    every: Annotated[str, Parameter(help="Time between two looks: 30, 30s, 5m.")] = "",
    total_steps: Annotated[
        float | None, Parameter(help="Where the run will end; its configuration tells by default.")
    ] = None,
    target: Annotated[float | None, Parameter(help="Performance it is meant to reach (fraction).")] = None,
    stop_when: Annotated[
        str | None, Parameter(help='Exit with 5 when this holds, e.g. "P(gain > 1%%) < 0.05".')
    ] = None,
    patience: Annotated[int, Parameter(help="Validations in a row at which it has to hold.")] = 3,
    level: Annotated[float, Parameter(help="Nominal coverage of the intervals.")] = 0.95,
    once: Annotated[bool, Parameter(negative="", help="Look once and end.")] = False,
    until_idle: Annotated[
        str | None, Parameter(help="End when nothing has changed for this long: 10m.")
    ] = None,
    bell: Annotated[bool, Parameter(help="Ring the terminal's bell on alerts.")] = True,
    webhook: Annotated[
        str | None, Parameter(help="POST alerts as JSON to this URL (Slack understands it).")
    ] = None,
    wandb_alert: Annotated[bool, Parameter(negative="", help="Raise alerts on the watched W&B run.")] = False,
    all: Annotated[
        bool, Parameter(negative="", help="Fit the law to all steps so far instead of those up to 36.")
    ] = False,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Fit and forecast after every new validation, as entlaw fit does; alert; stop by a rule.

    On a terminal a live view, elsewhere a line for each new report; --json prints one object a line (schema
    entlaw.watch/2, at the end entlaw.watch.end/2). Exit codes: 0 the run is over, 3 nothing to read, 5 stop rule fired.
    """
    from entlaw.watch.course import course
    from entlaw.watch.follow import Follower
    from entlaw.watch.watcher import Watcher

    seconds = _duration(every, "--every") if every else _usual(source)
    idle = _duration(until_idle, "--until-idle") if until_idle else None
    selection = read.selection()

    def make(seen: Seen | None) -> Watcher:
        raw = seen.reading.raw if seen is not None else None
        return Watcher(
            total_steps if total_steps is not None else seen.total_steps if seen is not None else None,
            name=raw.name if raw is not None else None,
            target=target,
            stop_when=stop_when,
            level=level,
            until_step=None if all else UNSET,
            selection=selection,
            patience=patience,
        )

    make(None)  # a rule that cannot be read is told before anything is waited for
    show = choose_show(json)
    notifier = _notifier(bell and not json, webhook, wandb_alert, source, show)
    watched: dict[str, Watched] = {}
    events = course(
        Follower(source, selection),
        make,
        every=seconds,
        once=once,
        until_idle=idle,
        watched=watched,
        sleep=show.wait,
    )
    with show.open(watched):
        return _run(events, show, notifier)


def _run(events: Iterator[Event], show: Show, notifier: Notifier) -> int:
    before: dict[str, str] = {}
    for event in events:
        show.take(event)
        if event.report is not None and event.watched is not None and not event.past and event.report.alerts:
            notifier.send(event.report, event.watched.details)
        if event.kind == "status" and event.watched is not None:
            _broken(event.watched, before.get(event.watched.key, ""), show, notifier)
            before[event.watched.key] = event.watched.status
        if event.kind == "end":
            if event.text == "stop-rule":
                return EXIT_STOPPED
            if event.text in ("once", "idle") and not show.any_report:
                return 3
    return 0


def _broken(watched: Watched, before: str, show: Show, notifier: Notifier) -> None:
    """Tell of a run that ended badly under our eyes."""
    from entlaw.watch.report import Alert

    report = watched.watcher.report
    if report is None or not before or watched.status not in _BROKEN:
        return
    alert = Alert("run-ended", report.step, f"the run is {watched.status}")
    show.alert(watched, alert)
    notifier.send(replace(report, alerts=(alert,)), watched.details)


def _usual(source: list[str]) -> float:
    """A server is asked less often than a disk."""
    from entlaw.runs.reader import on_server

    return 30.0 if any(on_server(s) is not None for s in source) else 5.0


def _duration(text: str, option: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text} is no duration", hint="e.g. 30, 30s, 5m, 1h")
    value = float(match.group(1)) * _UNITS[match.group(2) or ""]
    if value <= 0:
        raise UsageError(f"{option} must be longer than nothing", hint="e.g. 30s")
    return value


def _notifier(bell: bool, webhook: str | None, wandb_alert: bool, source: list[str], show: Show) -> Notifier:
    from entlaw.runs.reader import on_server
    from entlaw.watch.notify import Bell, Channel, Notifier, WandbAlert, Webhook

    channels: list[Channel] = []
    if bell and sys.stderr.isatty():
        channels.append(Bell(_ring))
    if webhook is not None:
        channels.append(Webhook(webhook))
    if wandb_alert:
        addresses = [on_server(s) for s in source]
        if any(a is None for a in addresses):
            raise UsageError(
                "--wandb-alert needs runs on a W&B server", hint="--webhook works for any source"
            )
        channels.append(WandbAlert(next(a.host for a in addresses if a is not None)))
    return Notifier(channels, show.say)


def _ring() -> None:
    sys.stderr.write("\a")
    sys.stderr.flush()
