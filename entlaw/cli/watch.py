"""``entlaw watch``: a run that is still going, judged after every new validation."""

from __future__ import annotations

import io
import json as json_
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, ReadFlags
from entlaw.cli.output import console, plain
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.watch.course import Event, Watched
    from entlaw.watch.follow import Seen
    from entlaw.watch.notify import Notifier
    from entlaw.watch.report import Alert
    from entlaw.watch.watcher import Watcher

EXIT_STOPPED = 5
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|min|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_BROKEN = frozenset({"crashed", "failed", "killed"})
_ENDS = {
    "run-over": "the run is over", "steps-done": "the last step is done", "idle": "nothing has changed for long enough",
    "once": "", "stop-rule": "the stop rule fired",
}  # fmt: skip


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
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Refit after every new validation; show entropy, performance, forecast and verdict; stop by a rule.

    On a terminal a live view, elsewhere a line for each new report; --json prints one object a line (schema
    entlaw.watch/1, at the end entlaw.watch.end/1). Exit codes: 0 the run is over, 3 nothing to read, 5 stop rule fired.
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
            name=raw.name if raw is not None else "run", target=target, stop_when=stop_when, level=level,
            selection=selection, patience=patience,
        )  # fmt: skip

    make(None)  # a rule that cannot be read is told before anything is waited for
    show = _shower(json)
    notifier = _notifier(bell and not json, webhook, wandb_alert, source, show)
    watched: dict[str, Watched] = {}
    events = course(
        Follower(source, selection), make, every=seconds, once=once, until_idle=idle, watched=watched,
        sleep=show.wait,
    )  # fmt: skip
    with show.open(watched):
        return _run(events, show, notifier)


def _run(events: Iterator[Event], show: _Show, notifier: Notifier) -> int:
    states: dict[str, str] = {}
    for event in events:
        show.take(event)
        if event.report is not None and event.watched is not None and not event.past and event.report.alerts:
            notifier.send(event.report, event.watched.details)
        if event.kind == "state" and event.watched is not None:
            _broken(event.watched, states.get(event.watched.key, ""), show, notifier)
            states[event.watched.key] = event.watched.state
        if event.kind == "end":
            if event.text == "stop-rule":
                return EXIT_STOPPED
            if event.text in ("once", "idle") and not show.any_report:
                return 3
    return 0


def _broken(watched: Watched, before: str, show: _Show, notifier: Notifier) -> None:
    """Tell of a run that ended badly under our eyes."""
    from entlaw.watch.report import Alert

    report = watched.watcher.report
    if report is None or not before or watched.state not in _BROKEN:
        return
    alert = Alert("run-ended", report.step, f"the run is {watched.state}")
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


def _notifier(bell: bool, webhook: str | None, wandb_alert: bool, source: list[str], show: _Show) -> Notifier:
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


def _shower(json: bool) -> _Show:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # a character that the terminal lacks must not end the watching
    if json:
        return _Json()
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return _Live()
    return _Lines()


def _end(event: Event) -> str:
    """Why it is over, and where a rule fired."""
    text = _ENDS[event.text]
    fired = next(
        (r for r in event.watched.watcher.reports if r.stop is not None and r.stop.fired), None
    ) if event.watched is not None and event.text == "stop-rule" else None  # fmt: skip
    if fired is None or fired.stop is None or event.watched is None:
        return text
    return f"{text} at step {fired.step:g} of {event.watched.name}: {fired.stop.rule}"


def _last(w: Watched) -> dict[str, Any]:
    """How a run stood when the watching ended."""
    report = w.watcher.report
    step, verdict = (report.step, report.verdict) if report is not None else (None, None)
    return {"name": w.name, "state": w.state or None, "step": step, "verdict": verdict}


class _Show:
    """How events are shown."""

    any_report = False

    @contextmanager
    def open(self, watched: dict[str, Watched]) -> Iterator[None]:
        """While it is shown."""
        yield

    def take(self, event: Event) -> None:
        """Show one."""
        if event.report is not None:
            self.any_report = True
        self._take(event)

    def _take(self, event: Event) -> None:
        raise NotImplementedError

    def alert(self, watched: Watched, alert: Alert) -> None:
        """Show an alert that came without a report."""
        self.say(f"ALERT {watched.name}, step {alert.step:g}: {alert.what}")

    def say(self, text: str) -> None:
        """Chatter."""
        sys.stderr.write(f"entlaw: {text}\n")
        sys.stderr.flush()

    def wait(self, seconds: float) -> None:
        """Until the next look."""
        time.sleep(seconds)


class _Json(_Show):
    """One object a line."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}

    @contextmanager
    def open(self, watched: dict[str, Watched]) -> Iterator[None]:
        self._watched = watched
        yield

    def alert(self, watched: Watched, alert: Alert) -> None:
        self._line({"schema": "entlaw.alert/1", "name": watched.name, **asdict(alert)})

    def _take(self, event: Event) -> None:
        if event.report is not None and not event.past:
            self._line(event.report.as_dict())
        elif event.kind in ("waiting", "trouble"):
            self.say(event.text)
        elif event.kind == "end":
            name = event.watched.name if event.watched is not None else None
            runs = [_last(w) for w in self._watched.values()]
            self._line({"schema": "entlaw.watch.end/1", "why": event.text, "name": name, "runs": runs})

    def _line(self, data: dict[str, Any]) -> None:
        sys.stdout.write(json_.dumps(plain(data), ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


class _Lines(_Show):
    """One line a report, no control characters."""

    def _take(self, event: Event) -> None:
        from entlaw.watch.view import plain_line

        if event.report is not None:
            if not event.past:
                console().print(plain_line(event.report))
                for alert in event.report.alerts:
                    console().print(f"  ALERT {alert.code}: {alert.what}")
                sys.stdout.flush()
        elif event.kind in ("waiting", "trouble") or (event.kind == "state" and event.text):
            self.say(event.text)
        elif event.kind == "end" and _ENDS.get(event.text):
            self.say(_end(event))


class _Live(_Show):
    """The whole terminal's width, redrawn."""

    def __init__(self) -> None:
        from collections import deque

        self._alerts: deque[Alert] = deque(maxlen=4)
        self._words: deque[str] = deque(maxlen=3)
        self._watched: dict[str, Watched] = {}
        self._passing: deque[str] = deque(maxlen=3)
        self._live: Any = None
        self._console = console()

    @contextmanager
    def open(self, watched: dict[str, Watched]) -> Iterator[None]:
        from rich.live import Live

        self._watched = watched
        with Live(console=self._console, auto_refresh=False, transient=False) as self._live:
            try:
                yield
            finally:
                self._draw()

    def alert(self, watched: Watched, alert: Alert) -> None:
        self._alerts.append(alert)
        self._draw()

    def _take(self, event: Event) -> None:
        if event.report is not None and not event.past:
            self._alerts.extend(event.report.alerts)
            self._passing.clear()  # what was waited for has come
        elif event.kind in ("waiting", "trouble"):
            word = "waiting for " if event.kind == "waiting" else ""
            self._passing.append(word + event.text)
        elif event.kind == "end" and _ENDS.get(event.text):
            self._words.append(_end(event))
        if not event.past:
            self._draw()

    def say(self, text: str) -> None:
        self._words.append(text)
        self._draw()

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        from entlaw.watch import view

        width, height = self._console.size
        # Room for the ^C that a terminal echoes: wrapped, it would move what is redrawn.
        width = max(width - 2, 1)
        braille = (self._console.encoding or "").lower().startswith("utf")
        words = [Text(text, style="dim") for text in (*self._passing, *self._words)]
        runs = list(self._watched.values())
        height = max(height - len(words) - 1, 4)
        if len(runs) == 1:
            idle = time.monotonic() - runs[0].changed_at
            body: Any = view.one(
                runs[0], width, height, idle=idle, alerts=list(self._alerts), braille=braille
            )
        elif runs:
            lines = [Text(f"alert  step {a.step:g}: {a.what}", style="yellow") for a in self._alerts]
            body = Group(view.several(runs, width, braille=braille), *lines)
        else:
            body = Text("waiting for a log", style="dim")
        if self._live is not None:
            self._live.update(Group(body, *words), refresh=True)
