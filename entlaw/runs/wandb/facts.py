"""What the server says about a run besides its history, and a run from both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.parsing.wandb_history import resolve_steps, with_step
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.table import flatten
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.listing import RunRef, last_step, ref_of

NAME = "wandb"

# Fields of the SDK's MetricRecord, which the config keeps as numbers.
_METRIC_NAME, _METRIC_GLOB, _METRIC_STEP, _METRIC_STEP_INDEX = "1", "2", "4", "5"


@dataclass(frozen=True)
class RemoteRun:
    """A run as the server describes it at one moment.

    Attributes
    ----------
    name, state : str
    config : mapping
        Flat, keys joined by ``.``, without the SDK's notes about itself.
    summary : mapping
        Flat; what the run says about its last values. Never used as a metric.
    step_of : mapping
        Key or glob of keys to the step metric that it was defined against (``define_metric``).
    last_step : int or None
        Highest ``_step``; None when nothing was logged.
    lines : int or None
        Rows of history, where the server counts them.
    counts : mapping
        Keys of the history to the number of rows that hold a number under it; None where it does not tell.
    media : tuple of str
        Keys that hold something else: strings, histograms, tables, images.
    details : mapping
        Plain data for provenance: run_id, entity, project, group, job_type, state, started, heartbeat, url ...
    """

    name: str
    state: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    step_of: Mapping[str, str]
    last_step: int | None
    lines: int | None
    counts: Mapping[str, int | None]
    media: tuple[str, ...]
    details: Mapping[str, Any]


def describe_remote(client: Client, ref: RunRef) -> RemoteRun:
    """Ask the server about a run; one request.

    Raises
    ------
    SourceNotFound
        Deleted meanwhile.
    ServerError
    """
    run = client.run(ref.entity, ref.project, ref.id)
    now = ref_of(run)
    counts, media = history_keys(getattr(run, "history_keys", None))
    raw = run.rawconfig or {}
    lines = getattr(run, "history_line_count", None)
    details = {
        "run_id": now.id,
        "entity": now.entity,
        "project": now.project,
        "group": now.group,
        "job_type": now.job_type,
        "tags": list(now.tags),
        "state": now.state,
        "started": now.created_at,
        "heartbeat": str(getattr(run, "heartbeat_at", None) or ""),
        "sweep": getattr(run, "sweep_name", None),
        "url": now.url,
        "host": client.host,
        "history_lines": lines,
        "last_history_step": last_step(run),
    }
    return RemoteRun(
        name=now.name,
        state=now.state,
        config=flat(run.config),
        summary=flat(run.summary_metrics),
        step_of=step_metrics(raw.get("_wandb")),
        last_step=last_step(run),
        lines=int(lines) if isinstance(lines, int) and not isinstance(lines, bool) and lines >= 0 else None,
        counts=counts,
        media=media,
        details={k: v for k, v in details.items() if v not in (None, "", [])},
    )


def flat(nested: Any) -> dict[str, Any]:
    """A configuration or summary, flat, without W&B's own entries."""
    if not isinstance(nested, Mapping):
        return {}
    return {k: v for k, v in flatten(nested) if not k.startswith(("_wandb", "wandb_version"))}


def history_keys(told: Any) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """The keys of a history that hold numbers, each with how many, and those that hold something else.

    Parameters
    ----------
    told : mapping or str
        ``historyKeys`` of the server: ``{"keys": {name: {"typeCounts": [{"type": "number", "count": 5}]}}}``.
    """
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            told = None
    keys = told.get("keys") if isinstance(told, Mapping) else None
    counts: dict[str, int | None] = {}
    media = []
    for key, about in (keys or {}).items():
        kinds = about.get("typeCounts") if isinstance(about, Mapping) else None
        kinds = [k for k in kinds or () if isinstance(k, Mapping)]
        numbers = [k for k in kinds if k.get("type") == "number"]
        if kinds and not numbers:
            media.append(str(key))
            continue
        known = [k["count"] for k in numbers if isinstance(k.get("count"), int)]
        counts[str(key)] = sum(known) if known and len(known) == len(numbers) else None
    return counts, tuple(media)


def step_metrics(internal: Any) -> dict[str, str]:
    """Metric definitions as the SDK keeps them in ``config["_wandb"]["m"]``: numbered fields, steps by position."""
    defined = internal.get("m") if isinstance(internal, Mapping) else None
    if not isinstance(defined, Sequence) or isinstance(defined, str):
        return {}
    metrics = [m if isinstance(m, Mapping) else {} for m in defined]
    out = {}
    for metric in metrics:
        name = metric.get(_METRIC_NAME) or metric.get(_METRIC_GLOB)
        step = metric.get(_METRIC_STEP)
        index = metric.get(_METRIC_STEP_INDEX)
        if step is None and isinstance(index, int) and 1 <= index <= len(metrics):
            step = metrics[index - 1].get(_METRIC_NAME)
        if isinstance(name, str) and isinstance(step, str):
            # Dots of a name are escaped, because unescaped ones lead into nested values.
            out[name.replace("\\.", ".")] = step.replace("\\.", ".")
    return out


def raw_run(ref: RunRef, known: RemoteRun, rows: pd.DataFrame, findings: Sequence[Finding] = ()) -> RawRun:
    """A run as every other source gives it.

    Parameters
    ----------
    ref : RunRef
    known : RemoteRun
    rows : pandas.DataFrame
        One row a logged ``_step``, float64 columns.
    findings : sequence of Finding
        Of the fetch.

    Returns
    -------
    RawRun
        With the column ``step``; its provenance says which axis that is.
    """
    step_metric = resolve_steps([str(c) for c in rows.columns], known.step_of)
    stepped, axis = with_step(rows, step_metric)
    details = {**known.details, "history_rows": len(rows), "step_axis": axis, "step_metric": step_metric}
    told = list(findings)
    if len(rows) == 0:
        told.insert(
            0,
            Finding(
                "no-history",
                "warning",
                "the run has no history on the server: no metric was logged",
                "without metrics there is nothing to fit",
                "it stopped before its first step, or was not synced: `wandb sync` its folder",
            ),
        )
    if known.state in ("running", "pending", "preempting"):
        told.append(
            Finding("still-running", "info", f"the run is {known.state}: what is read is its beginning")
        )
    elif known.state in ("crashed", "failed", "killed"):
        told.append(Finding("ended-early", "info", f"the run is marked as {known.state}"))
    where = str(known.details.get("url") or ref.path)
    return RawRun(
        known.name or ref.id, stepped, known.config, Provenance(where, NAME, "unknown", details), tuple(told)
    )
