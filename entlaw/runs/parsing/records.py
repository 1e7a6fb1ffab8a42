"""From JSON records to runs: unwrap, tell runs apart, put typed rows in their place, pivot name/value pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.axes import is_axis
from entlaw.runs.bounds import check_runs
from entlaw.runs.parsing.samples import is_sample, without_samples
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.table import RowBuilder, flatten, parse_number

RUN_FIELDS = ("run_id", "run", "run_name", "experiment", "experiment_name", "exp_name")
NUMBERED_RUN_FIELDS = (
    "run_id",
    "run",
)  # a number tells runs apart here; an `experiment` number may be anything
# Fields of one number a row, in lower case: its metric's name, what the name goes on with, the number.
METRIC_FIELDS = (
    "metric",
    "name",
    "key",
    "tag",
    "metric_name",
    "metricname",
    "variable",
    "title",
    "attribute_path",
)
VARIANT_FIELDS = ("variant", "series")
CONTEXT_FIELDS = ("context", "runcontext", "metric.context")
VALUE_FIELDS = ("value", "y", "values", "data", "metricvalue", "metric_value", "float_value", "val")
# What a training's numbers are called; other objects have numbers too.
METRIC_NAME = re.compile(
    r"(^|[^a-z])(entropy|rewards?|loss|acc|accuracy|scores?|kl|grad_?norm|lr|learning_rate|performance)([^a-z]|$)"
)
# A key that names a step: "12", "step_12", "checkpoint-12".
STEP_KEY = re.compile(
    r"(?:(?:global|train|training|rollout|optimizer)?[ _/-]*"
    r"(step|steps|iter|iteration|update|rollout|batch|checkpoint|ckpt|epoch)?)[ _:/=-]*(\d{1,12})",
    re.IGNORECASE,
)

# Fields that hold the numbers of a record, for lines of JSON and for dictionaries in other lines.
WRAPPERS = ("data", "metrics", "scalars", "values", "log", "logs")
_TYPE_FIELDS = ("type", "_type", "event", "kind", "record_type", "split", "phase", "mode")
_CONFIG_TYPES = {
    "config",
    "hparams",
    "hyperparameters",
    "hyperparams",
    "args",
    "params",
    "start",
    "run_start",
    "header",
    "meta",
    "metadata",
    "init",
    "setup",
}
EVAL_TYPES = {"eval", "evaluation", "val", "valid", "validation", "test"}
# Often one row a sample, not a step: its "reward" is of one answer and must not stand for the batch.
_SAMPLE_TYPES = {
    "sample",
    "samples",
    "rollout",
    "completion",
    "generation",
    "trajectory",
    "example",
    "episode_sample",
}
_EVAL_PREFIX = ("eval", "val", "valid", "validation", "test")
_AXIS = {
    "step",
    "global_step",
    "_step",
    "epoch",
    "iteration",
    "iter",
    "_timestamp",
    "_runtime",
    "time",
    "timestamp",
}


@dataclass
class _OneRun:
    rows: RowBuilder = field(default_factory=RowBuilder)
    config: dict[str, Any] = field(default_factory=dict)
    doubtful: list[int] = field(default_factory=list)  # rows that may be of samples

    def frame(self) -> pd.DataFrame:
        """The rows without those of single samples."""
        return without_samples(self.rows.frame(), self.doubtful)


class RecordSink:
    """Takes records one by one, holding numbers only; gives the runs they belong to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: dict[str, _OneRun] = {}
        self._names: dict[str, str] = {}
        self._current = ""
        self._types: Counter[str] = Counter()
        self.wrapped = self.skipped_samples = 0

    @property
    def n_rows(self) -> int:
        """Rows with at least one number."""
        return sum(one.rows.n_rows for one in self._runs.values())

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one record.

        Raises
        ------
        UnreadableSource
            More runs in the file than there can be.
        """
        record = self._unwrap(record)
        run = self._run_of(record)
        kind = self._type_of(record)
        if kind in _CONFIG_TYPES:
            inner = {k: v for k, v in record.items() if k not in _TYPE_FIELDS}
            run.config.update(flatten(_spread(inner)))
            return
        if kind in _SAMPLE_TYPES and is_sample(record):
            self.skipped_samples += 1
            return
        named = _named_metric(record)
        if named is not None:
            record = named
        if kind in EVAL_TYPES:
            record = prefixed(record, kind)
        row = run.rows.n_rows
        run.rows.add(record)
        if kind in _SAMPLE_TYPES and run.rows.n_rows > row:
            run.doubtful.append(row)
        if run.rows.n_rows == row and not run.config and len(record) > 1:
            run.config.update(flatten(record))  # words only: what the trainer says about itself

    def _unwrap(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(record) == 1:
            ((key, inner),) = record.items()
            step = STEP_KEY.fullmatch(str(key))
            if step is not None and isinstance(inner, Mapping):
                return {"step": int(step[2]), **inner}
        self.wrapped += isinstance(record.get("data"), Mapping) and bool(record["data"])
        return unwrapped(record)

    def _run_of(self, record: Mapping[str, Any]) -> _OneRun:
        for name in RUN_FIELDS:
            value = record.get(name)
            if isinstance(value, str) or (name in NUMBERED_RUN_FIELDS and isinstance(value, int)):
                self._current = str(value)
                label = record.get("run_name")
                self._names[self._current] = label if isinstance(label, str) and label else self._current
                break
        run = self._runs.get(self._current)
        if run is None:
            run = self._runs[self._current] = _OneRun()
            hint = "rename or remove the field that differs from row to row"
            check_runs(len(self._runs), "run names", hint, self._path)
        return run

    def _type_of(self, record: Mapping[str, Any]) -> str:
        for name in _TYPE_FIELDS:
            kind = record.get(name)
            if isinstance(kind, str):
                kind = kind.strip().lower()
                self._types[kind] += 1
                if kind in _CONFIG_TYPES | EVAL_TYPES | _SAMPLE_TYPES:
                    return kind
        return ""

    def runs(
        self,
        name: str,
        form: str,
        framework: str = "unknown",
        config: Mapping[str, Any] | None = None,
        findings: tuple[Finding, ...] = (),
        details: Mapping[str, Any] | None = None,
    ) -> list[RawRun]:
        """The runs, in order of first appearance; those without a number are left out."""
        frames = {key: one.frame() for key, one in self._runs.items() if one.rows.n_rows}
        self.skipped_samples += sum(self._runs[key].rows.n_rows - len(rows) for key, rows in frames.items())
        told = (*findings, *self._findings())
        # Rows in front of the first named run (a header, say) are of no run of their own.
        filled = [(k, self._runs[k]) for k, rows in frames.items() if len(rows)]
        shared = {k: v for key, one in self._runs.items() if key == "" for k, v in one.config.items()}
        labels = Counter(self._names.get(key, "") for key, _ in filled)
        out = []
        for key, one in filled:
            label = self._names.get(key, "") or name
            if labels[self._names.get(key, "")] > 1:
                label = f"{label} ({key})"
            merged = {**(config or {}), **shared, **one.config}
            provenance = Provenance(str(self._path), form, framework, dict(details or {}))
            out.append(RawRun(label, frames[key], merged, provenance, told))
        return out

    def _findings(self) -> list[Finding]:
        findings = []
        if self.skipped_samples:
            findings.append(
                Finding(
                    "sample-rows",
                    "info",
                    f"{self.skipped_samples} rows of single samples were left out",
                    "the reward of one answer is not the performance of a step",
                )
            )
        unread: Counter[str] = Counter()
        for one in self._runs.values():
            unread.update(one.rows.unread())
        if unread:
            shown = ", ".join(f"{n} in {key}" for key, n in unread.most_common(5))
            findings.append(
                Finding(
                    "cells-unread",
                    "warning",
                    f"values that are not numbers were read as missing: {shown}",
                    "a number with a thousands separator or a unit is a word to every reader",
                    "log plain numbers",
                    float(sum(unread.values())),
                )
            )
        evals = {k: n for k, n in self._types.items() if k in EVAL_TYPES}
        if evals:
            seen = ", ".join(f"{n} of type {k!r}" for k, n in sorted(evals.items()))
            findings.append(
                Finding("typed-rows", "info", f"evaluation rows ({seen}) carry their type before their keys")
            )
        return findings


def unwrapped(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """``{"step": 3, "metrics": {...}}`` as one level; inside wins, but for the step."""
    for wrapper in WRAPPERS:
        inner = record.get(wrapper)
        if isinstance(inner, Mapping) and inner:
            outer = {k: v for k, v in record.items() if k != wrapper}
            clash = {k: v for k, v in outer.items() if k in inner and k not in _AXIS}
            return {**clash, **inner, **{k: v for k, v in outer.items() if k not in clash}}
    return record


def _spread(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """``{"config": {...}}`` and the like: the section itself."""
    for name in ("config", "args", "hparams", "params"):
        if isinstance(record.get(name), Mapping):
            return {**{k: v for k, v in record.items() if k != name}, **record[name]}
    return record


def _named_metric(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``{"name": "entropy", "value": 0.4, "step": 3}`` as ``{"entropy": 0.4, "step": 3}``."""
    lower = {str(k).lower(): v for k, v in record.items()}
    value = next((lower[f] for f in VALUE_FIELDS if f in lower), None)
    metric = next((lower[f] for f in METRIC_FIELDS if isinstance(lower.get(f), str) and lower[f]), None)
    if metric is None or value is None or parse_number(value) is None:
        return None
    rest = {k: v for k, v in record.items() if k in _AXIS or is_axis(k) or k.endswith("step")}
    return {**rest, variant_of(lower, metric): value}


def variant_of(fields: Mapping[str, Any], metric: str) -> str:
    """The full name of a metric: ClearML's variant behind it, the context that Comet and Aim keep beside in front."""
    variant = next((fields[f] for f in VARIANT_FIELDS if isinstance(fields.get(f), str) and fields[f]), "")
    context = next((fields[f] for f in CONTEXT_FIELDS if fields.get(f)), "")
    if isinstance(context, Mapping):
        context = "/".join(str(v) for v in context.values() if isinstance(v, str))
    parts = [str(context), metric, variant if variant != metric else ""]
    return "/".join(part for part in parts if part)


def prefixed(record: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Keys of an evaluation row as ``eval/key``: training rows use the same names for other numbers."""
    return {
        k if k in _AXIS or is_axis(k) or k.lower().startswith(_EVAL_PREFIX) else f"{kind}/{k}": v
        for k, v in flatten(record)
    }
