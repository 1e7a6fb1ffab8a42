"""What a run is, whoever logged it: a tidy frame, what its numbers mean, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd

from entlaw.findings import Finding
from entlaw.wording import printable, printable_names, shorten

Align = Literal["next", "same", "previous"]
PerformanceKind = Literal["validation", "training"]


@dataclass(frozen=True)
class EntropyMeaning:
    """Which of the many things called entropy a series is.

    Coefficients a, b are comparable only within one meaning, so it travels with every series.

    Attributes
    ----------
    key : str
        The key it was logged under.
    estimator : {"exact", "sampled", "unknown"}
        Full-vocabulary entropy, or the mean of -log p of the sampled tokens.
    unit : {"nats/token", "nats/sequence", "unknown"}
    averaging : {"token-mean", "response-mean-of-token-means", "sequence-sum", "unknown"}
    temperature : {"1", "rollout", "unknown"}
        The softmax temperature at which it was computed.
    when : {"before-update", "during-update", "after-update", "unknown"}
        Relative to the optimiser step whose number it carries.
    of : {"batch", "evaluation", "unknown"}
        Where it was measured: on the training batch, or by an evaluation on its own responses. These are two series:
        other problems, and another level where the evaluation samples in another way.
    note : str
        What else a careful reader should know.
    """

    key: str
    estimator: Literal["exact", "sampled", "unknown"] = "unknown"
    unit: Literal["nats/token", "nats/sequence", "unknown"] = "unknown"
    averaging: Literal["token-mean", "response-mean-of-token-means", "sequence-sum", "unknown"] = "unknown"
    temperature: Literal["1", "rollout", "unknown"] = "unknown"
    when: Literal["before-update", "during-update", "after-update", "unknown"] = "unknown"
    of: Literal["batch", "evaluation", "unknown"] = "unknown"
    note: str = ""


@dataclass(frozen=True)
class Provenance:
    """Where a run was read from.

    Attributes
    ----------
    path : str
        File, folder or URL as the user gave it.
    format : str
        Name of the source that read it, e.g. ``verl-console``.
    framework : str
        Trainer that wrote it, e.g. ``verl``; ``unknown`` when nothing tells.
    details : mapping
        Reader's notes: lines read, lines skipped, byte counts, producer version.
    """

    path: str
    format: str
    framework: str = "unknown"
    details: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True, eq=False)
class RawRun:
    """What a source yields: rows in the order in which they were logged, nothing chosen yet.

    Attributes
    ----------
    name : str
        Name of the run, unique within the file.
    rows : pandas.DataFrame
        One row per logged record, float64 columns named as logged; missing values are NaN. The column
        ``step`` holds the training step as logged, NaN where a record has none. The index is 0..n-1.
    config : mapping
        Flat configuration (keys joined by ``.``) as far as the log shows it.
    provenance : Provenance
    findings : tuple of Finding
        What the reader had to repair, skip or assume.
    """

    name: str
    rows: pd.DataFrame
    config: Mapping[str, Any]
    provenance: Provenance
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        # Names come from other people's files; nothing after this has to fear a control character in them.
        object.__setattr__(self, "name", printable(self.name))
        if isinstance(
            self.rows, pd.DataFrame
        ):  # a plug-in may give anything: its reader refuses what is no frame
            names = printable_names(self.rows.columns)
            if names != list(self.rows.columns):
                object.__setattr__(self, "rows", self.rows.set_axis(names, axis=1))
        config = {
            printable(str(k)): printable(v) if isinstance(v, str) else v for k, v in self.config.items()
        }
        object.__setattr__(self, "config", config)

    def __repr__(self) -> str:
        size = f"{len(self.rows)} records, {self.rows.shape[1]} keys"
        return f"<RawRun {shorten(self.name)!r}: {size} ({self.provenance.format})>"


@dataclass(frozen=True)
class Choice:
    """A decision the reader took on the user's behalf: never silent, always overridable."""

    what: str
    chosen: str
    why: str
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """One training run, aligned and ready for the law.

    Attributes
    ----------
    name : str
    metrics : pandas.DataFrame
        Index ``step`` (unique, increasing); one float64 column per logged key.
    points : pandas.DataFrame
        Columns ``step``, ``entropy`` (nats/token), ``performance`` (fraction in [0, 1] where it is a score),
        ``entropy_step`` (the step whose entropy was paired): the pairs the law sees, after alignment.
    entropy : EntropyMeaning
        Of the entropies in ``points``.
    performance_key : str
    performance_kind : {"validation", "training"}
    performance_scale : float
        What the logged score was multiplied by to give ``points.performance`` (0.01 for percent).
    performance_offset : float
        What was taken off the logged score before that (-1 for rewards of -1 and +1).
    align : {"next", "same", "previous"}
    problems, samples : int or None
        Validation problems behind each score, and samples per problem, where the log tells: they make the binomial
        noise known.
    entropy_log : EntropyMeaning or None
        Of every logged entropy, where that is another series than the one in ``points``: the scores then have the
        entropy that their evaluations measured, and the log is of the training batches.
    config : mapping
    provenance : Provenance
    choices : tuple of Choice
    findings : tuple of Finding
    """

    name: str
    metrics: pd.DataFrame
    points: pd.DataFrame
    entropy: EntropyMeaning
    performance_key: str
    performance_kind: PerformanceKind
    performance_scale: float
    align: Align
    config: Mapping[str, Any]
    provenance: Provenance
    choices: tuple[Choice, ...] = ()
    findings: tuple[Finding, ...] = ()
    problems: int | None = None
    samples: int | None = None
    entropy_log: EntropyMeaning | None = None
    performance_offset: float = 0.0

    def __repr__(self) -> str:
        keys = f"entropy {shorten(self.entropy.key, 24)}, score {shorten(self.performance_key, 24)}"
        return f"<Run {shorten(self.name, 24)!r}: {self._size()}, {keys}>"

    def _repr_html_(self) -> str:
        rows = [
            ("read from", f"{self.provenance.path} ({self.provenance.format}, {self.provenance.framework})"),
            ("points", self._size()),
            ("entropy", f"{self.entropy.key} ({self.entropy.unit})"),
            *(() if self.entropy_log is None else (("entropy log", self.entropy_log.key),)),
            ("score", f"{self.performance_key} ({self.performance_kind})"),
            *((f.severity, f"{f.code}: {f.what}") for f in self.findings),
        ]
        cells = "".join(f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in rows)
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    def _size(self) -> str:
        step = self.points["step"]
        return f"{len(step)} points" + (f", steps {step.min():g} to {step.max():g}" if len(step) else "")

    def score_series(self) -> pd.Series:
        """Every logged score in the unit of ``points.performance``, by step; NaN where none was logged."""
        return self.performance_scale * (self.metrics[self.performance_key] - self.performance_offset)

    def entropy_series(self) -> tuple[np.ndarray, np.ndarray]:
        """Every logged entropy, not only those paired with a score: of ``entropy_log`` where there is one.

        Returns
        -------
        step, entropy : ndarray, shape (m,)
            Steps in increasing order and entropy in nats/token; rows without entropy left out.
        """
        series = self.metrics[(self.entropy_log or self.entropy).key].dropna()
        return series.index.to_numpy(dtype=float), series.to_numpy(dtype=float)
