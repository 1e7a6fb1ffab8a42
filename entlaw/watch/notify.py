"""Alerts to where people are: the terminal's bell, a webhook, W&B. None of them may end the watching."""

from __future__ import annotations

import importlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from entlaw.errors import EntlawError, UsageError
from entlaw.watch.report import Alert, WatchReport

_SECONDS = 10.0
_TRIES = 3

# The GraphQL mutation that `run.alert` of the SDK sends.
_MUTATION = """
mutation NotifyScriptableRunAlert($entityName: String!, $projectName: String!, $runName: String!, $title: String!,
    $text: String!, $severity: AlertSeverity = INFO, $waitDuration: Duration) {
  notifyScriptableRunAlert(input: {entityName: $entityName, projectName: $projectName, runName: $runName,
      title: $title, text: $text, severity: $severity, waitDuration: $waitDuration}) {
    success
  }
}
"""


class Channel(Protocol):
    """Somewhere to send alerts."""

    name: str

    def send(self, report: WatchReport, alert: Alert, details: Mapping[str, Any]) -> None:
        """Send one; raises EntlawError or OSError when it cannot."""


class Webhook:
    """POST an alert as JSON: ``text`` for chat services (Slack, Mattermost), and the report for programs.

    Parameters
    ----------
    url : str

    Raises
    ------
    UsageError
        Not an http or https URL.
    """

    name = "webhook"

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")) or " " in url:
            raise UsageError(
                "--webhook is not an http or https URL", hint="e.g. https://hooks.example.com/services/..."
            )
        self._url = url

    def send(self, report: WatchReport, alert: Alert, details: Mapping[str, Any]) -> None:
        """Send one alert, again after an answer of 429 or 5xx or none.

        Raises
        ------
        OSError
            It could not be delivered. The URL, which may hold a secret, is not in the message.
        """
        body = json.dumps(
            {
                "text": text_of(report, alert),
                "schema": "entlaw.alert/1",
                "alert": asdict(alert),
                "report": _plain(report),
            }
        ).encode()
        problem = ""
        for _ in range(_TRIES):
            request = urllib.request.Request(
                self._url, data=body, headers={"Content-Type": "application/json", "User-Agent": "entlaw"}
            )
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS):
                    return
            except urllib.error.HTTPError as error:
                problem = f"answered {error.code}"
                error.close()
                if error.code != 429 and error.code < 500:
                    break
            except OSError as error:
                reason = getattr(error, "reason", error)
                problem = str(getattr(reason, "strerror", None) or reason or type(error).__name__)
        raise OSError(f"the webhook {problem}")


class Bell:
    """The terminal's bell.

    Parameters
    ----------
    ring : callable
        Writes the bell to the terminal.
    """

    name = "bell"

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def send(self, report: WatchReport, alert: Alert, details: Mapping[str, Any]) -> None:
        """Ring."""
        self._ring()


class WandbAlert:
    """A W&B alert on the watched run, as its own process would raise one with ``run.alert``.

    Parameters
    ----------
    host : str, optional
        Base URL of a self-hosted server.
    """

    name = "W&B alert"

    def __init__(self, host: str | None = None) -> None:
        self._host = host

    def send(self, report: WatchReport, alert: Alert, details: Mapping[str, Any]) -> None:
        """Raise the alert on the run that ``details`` names (entity, project, run_id).

        Raises
        ------
        EntlawError
            Not a run on a server, or the server refuses.
        """
        from entlaw.runs.wandb.client import Client

        try:
            where = {
                "entityName": details["entity"],
                "projectName": details["project"],
                "runName": details["run_id"],
            }
        except KeyError:
            raise UsageError("only runs on a W&B server take W&B alerts", where=report.result.name) from None
        variables = {
            **where,
            "title": f"entlaw: {alert.code}",
            "text": text_of(report, alert),
            "severity": "WARN",
            "waitDuration": 0,
        }
        client = Client(self._host)
        answer = client.call(
            "raising an alert", "/".join(map(str, where.values())), lambda: post(client.api, variables)
        )
        told = answer.get("notifyScriptableRunAlert") if isinstance(answer, Mapping) else None
        if not (isinstance(told, Mapping) and told.get("success")):
            raise OSError("the server took no alert for this run")


def post(api: Any, variables: Mapping[str, Any]) -> Any:
    """Send the mutation with the SDK's own client, whichever form of it this release has; gives its answer."""
    service = getattr(api, "_service_api", None)
    if service is not None and hasattr(service, "execute_graphql"):
        return service.execute_graphql(_MUTATION, dict(variables))
    gql = importlib.import_module("wandb_gql").gql  # SDK before 0.29
    return api.client.execute(gql(_MUTATION), variable_values=dict(variables))


class Notifier:
    """All channels; what fails in one is told once and goes on.

    Parameters
    ----------
    channels : sequence of Channel
    complain : callable
        Called with what went wrong.
    """

    def __init__(self, channels: list[Channel], complain: Callable[[str], None]) -> None:
        self._channels, self._complain = channels, complain
        self._told: set[str] = set()

    def send(self, report: WatchReport, details: Mapping[str, Any]) -> None:
        """Send every alert of a report to every channel."""
        for alert in report.alerts:
            for channel in self._channels:
                try:
                    channel.send(report, alert, details)
                    self._told.discard(channel.name)
                except (EntlawError, OSError) as error:
                    what = error.what if isinstance(error, EntlawError) else str(error)
                    if channel.name not in self._told:
                        self._complain(f"{channel.name}: {what}; the watching goes on")
                    self._told.add(channel.name)


def text_of(report: WatchReport, alert: Alert) -> str:
    """An alert in one or two sentences."""
    text = f"{report.result.name}, step {report.step:g}: {alert.what}"
    return f"{text} ({alert.why})" if alert.why else text


def _plain(report: WatchReport) -> Any:
    """The report as JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if hasattr(value, "tolist"):
            return plain(value.tolist())
        if isinstance(value, float) and not abs(value) < float("inf"):
            return None
        return value

    return plain(report.to_dict())
