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
from dataclasses import dataclass
from typing import Any

from entlaw.law.shapes import Fit
from entlaw.runs.run import Run
from entlaw.runs.wandb.stored import Identity

SCHEMA = "entlaw.fit/1"
ARTIFACT_TYPE = "entlaw-fit"
JOB_TYPE = "analysis"
TABLE_KEY, FIGURES_KEY, DIGEST_KEY = "entlaw/fits", "entlaw/figures", "entlaw/digest"
PREFIX = "entlaw/"

# One list for the summary and the table, so that a query on one is a query on the other.
VALUES: tuple[tuple[str, type], ...] = (
    ("verdict", str), ("reason", str), ("ceiling", float), ("ceiling_lo", float), ("ceiling_hi", float),
    ("level", float), ("a", float), ("b", float), ("n", int), ("until_step", float), ("fitted_at_step", float),
    ("r_squared", float), ("entropy_first", float), ("entropy_last", float), ("method", str),
    ("performance_key", str), ("entropy_key", str), ("findings", str), ("version", str),
)  # fmt: skip
SUMMARY_KEYS = tuple(PREFIX + name for name, _ in VALUES)
TABLE_COLUMNS = ("run", "path", *(name for name, _ in VALUES))


@dataclass(frozen=True)
class Result:
    """One fitted run as it is pushed.

    Attributes
    ----------
    name : str
    path : str
        ``entity/project/run_id`` where the run is one of a server, else the name of its file.
    identity : Identity or None
        Where the run is on a server; None for a local log.
    verdict : str
        ``no objection``, ``with care``, ``forced`` or ``refused``.
    reason : str or None
        Why the fit was refused.
    document : mapping
        The run in schema ``entlaw.fit/1``.
    fit, run : Fit and Run, or None
        None when refused: the numbers of a fit that must not be used are not shown to others.
    """

    name: str
    path: str
    identity: Identity | None
    verdict: str
    reason: str | None
    document: Mapping[str, Any]
    fit: Fit | None
    run: Run | None


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


def result(
    name: str, path: str, identity: Identity | None, verdict: str, reason: str | None,
    document: Mapping[str, Any], fit: Fit | None, run: Run | None,
) -> Result:  # fmt: skip
    """A result as others may see it: no numbers of a refused fit, no path of this machine.

    Parameters
    ----------
    name, path : str
        As read; of a local path only the last part is kept.
    identity : Identity or None
    verdict : str
    reason : str or None
    document : mapping
        As :func:`entlaw.cli.fit.as_dict` gives it.
    fit, run : Fit and Run, or None
    """
    shown = str(identity) if identity else re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    told = {key: value for key, value in document.items() if key not in ("path", "error")}
    told["path"] = shown
    if verdict == "refused":
        told = {key: value for key, value in told.items() if key not in ("fit", "holdout")}
        told["reason"] = reason
        fit = None
    # A run of a pulled file and the run itself are the same; how it came here is no part of the result.
    if identity is not None:
        told.pop("format", None)
    return Result(name, shown, identity, verdict, reason, told, fit, run)


def values(one: Result, version: str) -> dict[str, Any]:
    """The values of one run by name, in the order of ``VALUES``; what is not known or not finite is left out."""
    findings = one.document.get("findings", ())
    found: dict[str, Any] = {
        "verdict": one.verdict, "reason": one.reason, "version": version,
        "performance_key": one.document.get("performance_key"),
        "entropy_key": (one.document.get("entropy") or {}).get("key"),
        "findings": ", ".join(dict.fromkeys(f["code"] for f in findings)) or None,
    }  # fmt: skip
    if one.fit is not None:
        fit, points = one.fit, one.fit.points
        found |= {
            "ceiling": fit.ceiling, "ceiling_lo": fit.ceiling_interval.lo, "ceiling_hi": fit.ceiling_interval.hi,
            "level": fit.ceiling_interval.level, "a": fit.a, "b": fit.b, "n": fit.n, "until_step": fit.until_step,
            "fitted_at_step": points.step[-1], "r_squared": fit.r_squared, "entropy_first": points.entropy[0],
            "entropy_last": points.entropy[-1], "method": fit.method,
        }  # fmt: skip
    told = {}
    for name, kind in VALUES:
        value = found.get(name)
        if value is not None and not (kind is float and not math.isfinite(value)):
            told[name] = kind(value)
    return told


def summary(one: Result, version: str) -> dict[str, Any]:
    """Keys and values for the summary of the run itself."""
    return {PREFIX + name: value for name, value in values(one, version).items()}


def stale(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Keys of an earlier push that no longer hold, such as the ceiling of a fit that is refused by now."""
    return [key for key in SUMMARY_KEYS if key in current and key not in wanted]


def table(results: Sequence[Result], version: str) -> list[list[Any]]:
    """One row a run, in ``TABLE_COLUMNS``; None where there is no value."""
    rows = []
    for one in results:
        known = values(one, version)
        rows.append([one.name, one.path, *(known.get(name) for name, _ in VALUES)])
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
    results: Sequence[Result], host: str, entity: str, project: str, settings: Mapping[str, Any],
    versions: Mapping[str, str], level: float = 0.95,
) -> Analysis:  # fmt: skip
    """Assemble the analysis run.

    Parameters
    ----------
    results : sequence of Result
    host, entity, project : str
        Where it goes.
    settings : mapping
        How the logs were read and fitted, as JSON can hold it.
    versions : mapping
        Of entlaw and the libraries behind the numbers.
    level : float
        Of the bands in the figures.
    """
    from entlaw.report.picture import points_csv
    from entlaw.report.plots import fit_figure

    sources = [one.path for one in results]
    key = json.dumps([sorted(sources), settings, entity, project], sort_keys=True)
    version = versions.get("entlaw", "")
    document = {"schema": SCHEMA, "version": version, "runs": [_json(one.document) for one in results]}
    files = {"fit.json": (json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()}
    figures: dict[str, bytes] = {}
    for one, stem in zip(results, _stems(results), strict=True):
        if one.fit is None or one.run is None:
            continue
        files[f"{stem}.csv"] = points_csv(one.run, one.fit).encode()
        for form in ("svg", "pdf"):
            files[f"{stem}.{form}"] = fit_figure(one.fit, one.run, form, level=level)
        figures[stem] = fit_figure(one.fit, one.run, "png", level=level)
    rows = table(results, version)
    digest = hashlib.sha256(json.dumps(rows).encode())
    for name, data in sorted({**files, **{f"{k}.png": v for k, v in figures.items()}}.items()):
        digest.update(f"\0{name}\0{len(data)}\0".encode() + data)
    return Analysis(
        Identity(host, entity, project, "entlaw-" + hashlib.sha256(key.encode()).hexdigest()[:12]),
        f"entlaw fit of {results[0].name}" if len(results) == 1 else f"entlaw fit of {len(results)} runs",
        {"entlaw": {"sources": sources, "settings": dict(settings), "versions": dict(versions)}},
        rows, figures, files, digest.hexdigest(),
    )  # fmt: skip


def _stems(results: Sequence[Result]) -> list[str]:
    """Names of files, unique also where a file system takes no account of case."""
    taken: set[str] = {"fit"}
    stems = []
    for one in results:
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
