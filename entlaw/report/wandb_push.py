"""What `entlaw push` writes to a W&B server, as plain data: nothing here asks or writes.

Two forms: keys in the summary of the run that was fitted, and a run of its own (``job_type="analysis"``) with a
table, the figures and an artifact of type ``entlaw-fit``. Neither holds a time or a path of this machine, so that
the same fits give the same bytes, and pushing them twice changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entlaw.law.result import Result
from entlaw.runs.wandb.stored import Identity

SCHEMA = "entlaw.fit/2"
ARTIFACT_TYPE = "entlaw-fit"
JOB_TYPE = "analysis"
TABLE_KEY, FIGURES_KEY, DIGEST_KEY = "entlaw/fits", "entlaw/figures", "entlaw/digest"
PREFIX = "entlaw/"

# One list for the summary and the table, so that a query on one is a query on the other. The law's window ends at
# until_step; the forecast's, where another, at forecast_until_step, or it has all that is logged.
VALUES: dict[str, type] = {
    "verdict": str,
    "reason": str,
    "state": str,
    "ceiling": float,
    "ceiling_lo": float,
    "ceiling_hi": float,
    "level": float,
    "a": float,
    "b": float,
    "n": int,
    "until_step": float,
    "fitted_at_step": float,
    "r_squared": float,
    "entropy_first": float,
    "entropy_last": float,
    "method": str,
    "forecast_verdict": str,
    "forecast_model": str,
    "forecast_n": int,
    "forecast_until_step": float,
    "forecast_step": float,
    "forecast_median": float,
    "forecast_lo": float,
    "forecast_hi": float,
    "forecast_p_gain": float,
    "performance_key": str,
    "entropy_key": str,
    "findings": str,
    "version": str,
}
SUMMARY_KEYS = tuple(PREFIX + name for name in VALUES)
TABLE_COLUMNS = ("run", "path", *VALUES)


@dataclass(frozen=True)
class Pushed:
    """One run as others may see it: no path of this machine, no number of a refused law.

    Attributes
    ----------
    name : str
    path : str
        ``entity/project/run_id`` where the run is one of a server, else the name of its file.
    identity : Identity or None
        Where the run is on a server; None for a local log.
    result : Result
    document : mapping
        The run in schema ``entlaw.fit/2``.
    """

    name: str
    path: str
    identity: Identity | None
    result: Result
    document: Mapping[str, Any]

    @property
    def reason(self) -> str | None:
        """Why the law is refused, or would be had it not been forced; None where it is not."""
        r = self.result
        if r.refusal is not None:
            return r.refusal.what
        return r.findings[0].what if r.verdict == "refused" else None


def identity_of(details: Mapping[str, Any], host: str) -> Identity | None:
    """Where a run is on a server, from what its reader noted (``Provenance.details``).

    Parameters
    ----------
    details : mapping
    host : str
        The server that is meant when the notes name none, as those of offline files do.
    """
    parts = [details.get(key) for key in ("entity", "project", "run_id")]
    if not all(isinstance(part, str) and part for part in parts):
        return None
    return Identity(str(details.get("host") or host).rstrip("/"), *map(str, parts))


def pushed(result: Result, path: str, identity: Identity | None, document: Mapping[str, Any]) -> Pushed:
    """A result as others may see it.

    Parameters
    ----------
    result : Result
    path : str
        As read; of a local path only the last part is kept.
    identity : Identity or None
    document : mapping
        The result's ``to_dict()``, as JSON can hold it.
    """
    shown = str(identity) if identity else re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    told = {key: value for key, value in document.items() if key != "error"} | {"path": shown}
    # A run of a pulled file and the run itself are the same; how it came here is no part of the result.
    if identity is not None:
        told.pop("format", None)
    made = Pushed(result.name, shown, identity, result, told)
    return made if made.reason is None else replace(made, document=told | {"reason": made.reason})


def values(one: Pushed, version: str) -> dict[str, Any]:
    """The values of one run by name, in the order of ``VALUES``; what is not known or not finite is left out."""
    r, law, ahead = one.result, one.result.law, one.result.forecast
    found: dict[str, Any] = {
        "verdict": r.verdict,
        "reason": one.reason,
        "state": r.state,
        "forecast_verdict": ahead.verdict,
        "performance_key": None if r.run is None else r.run.performance_key,
        "entropy_key": None if r.run is None else r.run.entropy.key,
        "entropy_log_key": None if r.run is None else (r.run.entropy_log or r.run.entropy).key,
        "findings": ", ".join(dict.fromkeys(f.code for f in r.findings)) or None,
        "version": version,
    }
    if law is not None:
        points = law.points
        found |= {
            "ceiling": law.ceiling,
            "ceiling_lo": law.ceiling_interval.lo,
            "ceiling_hi": law.ceiling_interval.hi,
            "a": law.a,
            "b": law.b,
            "n": law.n,
            "until_step": law.until_step,
            "fitted_at_step": points.step[-1],
            "r_squared": law.r_squared,
            "entropy_first": points.entropy[0],
            "entropy_last": points.entropy[-1],
            "method": law.method,
        }
    for at in ahead.at[:1]:
        found |= {
            "forecast_model": at.model,
            "forecast_n": at.n,
            "forecast_until_step": at.until_step,
            "forecast_step": at.step,
            "forecast_median": at.median,
            "forecast_lo": at.interval.lo,
            "forecast_hi": at.interval.hi,
        }
    if ahead.gain is not None:
        found["forecast_p_gain"] = ahead.gain.probability_above()
    if law is not None or ahead.answered:
        found["level"] = r.settings.level
    told = {}
    for name, kind in VALUES.items():
        value = found.get(name)
        if value is not None and not (kind is float and not math.isfinite(value)):
            told[name] = kind(value)
    return told


def summary(one: Pushed, version: str) -> dict[str, Any]:
    """Keys and values for the summary of the run itself."""
    return {PREFIX + name: value for name, value in values(one, version).items()}


def stale(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Keys of an earlier push that no longer hold, such as the ceiling of a fit that is refused by now."""
    return [key for key in SUMMARY_KEYS if key in current and key not in wanted]


def table(runs: Sequence[Pushed], version: str) -> list[list[Any]]:
    """One row a run, in ``TABLE_COLUMNS``; None where there is no value."""
    rows = []
    for one in runs:
        known = values(one, version)
        rows.append([one.name, one.path, *map(known.get, VALUES)])
    return rows


@dataclass(frozen=True)
class Analysis:
    """A run of its own with all results.

    Attributes
    ----------
    to : Identity
        Where it goes; its run id is from the sources and the settings, so that the same push finds the same run again.
    name : str
    config : mapping
        Sources, settings, versions.
    rows : list of list
        Of the table.
    figures : mapping
        Name of a run, unique, to its PNG.
    files : mapping
        Of the artifact: name to contents.
    digest : str
        sha256 over the rows, figures and files.
    """

    to: Identity
    name: str
    config: Mapping[str, Any]
    rows: list[list[Any]]
    figures: Mapping[str, bytes]
    files: Mapping[str, bytes]
    digest: str

    @property
    def artifact(self) -> str:
        """Name of the artifact."""
        return f"fit-{self.to.run_id}"


def analysis(
    runs: Sequence[Pushed],
    host: str,
    entity: str,
    project: str,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Analysis:
    """Assemble the analysis run.

    Parameters
    ----------
    runs : sequence of Pushed
    host, entity, project : str
        Where it goes.
    settings : mapping
        How the logs were read and fitted, as JSON can hold it.
    versions : mapping
        Of entlaw and the libraries behind the numbers.
    """
    from entlaw.report.picture import points_csv
    from entlaw.report.plots import result_figure

    sources = [one.path for one in runs]
    key = json.dumps([sorted(sources), settings, entity, project], sort_keys=True)
    version = versions.get("entlaw", "")
    document = {"schema": SCHEMA, "version": version, "runs": [_json(one.document) for one in runs]}
    files = {
        "fit.json": (json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode(
            errors="replace"
        )
    }
    figures: dict[str, bytes] = {}
    for one, stem in zip(runs, _stems(runs), strict=True):
        if one.result.law is None:
            continue
        files[f"{stem}.csv"] = points_csv(one.result).encode(errors="replace")
        for form in ("svg", "pdf"):
            files[f"{stem}.{form}"] = result_figure(one.result, form)
        figures[stem] = result_figure(one.result, "png")
    rows = table(runs, version)
    digest = hashlib.sha256(json.dumps(rows).encode())
    for name, data in sorted({**files, **{f"{k}.png": v for k, v in figures.items()}}.items()):
        digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
    return Analysis(
        to=Identity(host, entity, project, "entlaw-" + hashlib.sha256(key.encode()).hexdigest()[:12]),
        name=f"entlaw fit of {runs[0].name}" if len(runs) == 1 else f"entlaw fit of {len(runs)} runs",
        config={"entlaw": {"sources": sources, "settings": dict(settings), "versions": dict(versions)}},
        rows=rows,
        figures=figures,
        files=files,
        digest=digest.hexdigest(),
    )


def _stems(runs: Sequence[Pushed]) -> list[str]:
    """Names of files, unique also where a file system takes no account of case."""
    taken: set[str] = {"fit"}
    stems = []
    for one in runs:
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", one.name).strip("-.")[:60] or "run"
        if one.identity is not None and one.identity.run_id not in base:
            base = f"{base}-{one.identity.run_id}"
        stem, number = base, 2
        while stem.lower() in taken:
            stem, number = f"{base}-{number}", number + 1
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def _json(value: Any) -> Any:
    """Data as JSON can hold it: arrays as lists, NaN and infinities as null."""
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    if hasattr(value, "tolist"):
        return _json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
