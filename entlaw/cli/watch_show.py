"""How ``entlaw watch`` is shown: a live view on a terminal, lines elsewhere, JSON for scripts."""

from __future__ import annotations

import io
import json as json_
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from entlaw.cli.output import console, plain

if TYPE_CHECKING:
    from entlaw.watch.course import Event, Watched
    from entlaw.watch.report import Alert

_ENDS = {
    "run-over": "the run is over",
    "steps-done": "the last step is done",
    "idle": "nothing has changed for long enough",
    "once": "",
    "stop-rule": "the stop rule fired",
}


def choose_show(json: bool) -> Show:
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
    reports = event.watched.watcher.reports if event.watched is not None and event.text == "stop-rule" else []
    fired = next((r for r in reports if r.stop is not None and r.stop.fired), None)
    if fired is None or fired.stop is None or event.watched is None:
        return text
    return f"{text} at step {fired.step:g} of {event.watched.name}: {fired.stop.rule}"


def _last(w: Watched) -> dict[str, Any]:
    """How a run stood when the watching ended."""
    report = w.watcher.report
    told: dict[str, Any] = {"name": w.name, "status": w.status or None, "step": None, "state": None}
    if report is None:
        return told | {"verdict": None, "forecast": None}
    result = report.result
    forecast = {"verdict": result.forecast.verdict}
    return told | {
        "step": report.step,
        "state": result.state,
        "verdict": result.verdict,
        "forecast": forecast,
    }


class Show:
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


class _Json(Show):
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
            self._line(event.report.to_dict())
        elif event.kind in ("waiting", "trouble"):
            self.say(event.text)
        elif event.kind == "end":
            name = event.watched.name if event.watched is not None else None
            runs = [_last(w) for w in self._watched.values()]
            self._line({"schema": "entlaw.watch.end/2", "why": event.text, "name": name, "runs": runs})

    def _line(self, data: dict[str, Any]) -> None:
        sys.stdout.write(json_.dumps(plain(data), ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


class _Lines(Show):
    """One line a report, no control characters."""

    def _take(self, event: Event) -> None:
        from entlaw.watch.view import format_line

        if event.report is not None:
            if not event.past:
                console().print(format_line(event.report))
                for alert in event.report.alerts:
                    console().print(f"  ALERT {alert.code}: {alert.what}")
                sys.stdout.flush()
        elif event.kind in ("waiting", "trouble") or (event.kind == "status" and event.text):
            self.say(event.text)
        elif event.kind == "end" and _ENDS.get(event.text):
            self.say(_end(event))


class _Live(Show):
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
            body: Any = view.draw_run(
                runs[0], width, height, idle=idle, alerts=list(self._alerts), braille=braille
            )
        elif runs:
            lines = [Text(f"alert  step {a.step:g}: {a.what}", style="yellow") for a in self._alerts]
            body = Group(view.draw_table(runs, width, braille=braille), *lines)
        else:
            body = Text("waiting for a log", style="dim")
        if self._live is not None:
            self._live.update(Group(body, *words), refresh=True)
