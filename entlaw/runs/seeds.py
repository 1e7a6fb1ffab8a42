"""Runs of several seeds in one log, told apart by the column that holds the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from entlaw.findings import Finding
from entlaw.runs.keys import canonical
from entlaw.runs.run import RawRun
from entlaw.runs.steps import resolve_step

_SEEDS = ("seed", "run_seed", "random_seed")
_MOST = 64  # runs of a sweep over seeds; more are drawn anew in each row
_LEAST_STEPS = 3
_LEAST_SHARE = 0.5  # of the steps of the longest: what a run still going, or stopped early, has


def by_seed(raw: RawRun, step_key: str | None = None) -> list[RawRun]:
    """The run of each seed where several seeds go over the same steps; the log as it is otherwise.

    A seed that changes as a run is resumed goes over other steps, and one drawn for each step goes over a single one.
    """
    column = next((c for c in raw.rows.columns if canonical(str(c)) in _SEEDS), None)
    if column is None or column == step_key or (step_key is not None and step_key not in raw.rows.columns):
        return [raw]
    seed = raw.rows[column].to_numpy(float)
    if not np.isfinite(seed).all() or (seed != np.round(seed)).any():
        return [raw]
    seeds = list(dict.fromkeys(seed.tolist()))
    if not 2 <= len(seeds) <= _MOST:
        return [raw]
    key = resolve_step(raw.rows, step_key).key
    if key is None or key == column:
        return [raw]
    step = raw.rows[key].to_numpy(float)
    steps = [set(step[(seed == one) & np.isfinite(step)].tolist()) for one in seeds]
    longest = max(steps, key=len)
    if any(s - longest or len(s) < max(_LEAST_STEPS, _LEAST_SHARE * len(longest)) for s in steps):
        return [raw]
    names = [f"{one:.0f}" for one in seeds]
    shown = ", ".join(names[:5]) + ("" if len(names) <= 5 else ", ...")
    note = Finding(
        "several-runs",
        "warning",
        f"{len(seeds)} runs share this file; they were taken apart by {str(column)!r}: {shown}",
        "each of these seeds goes over the same steps; the configuration shown is that of all",
        "give each run a log of its own",
        float(len(seeds)),
    )
    return [
        replace(
            raw,
            name=f"{raw.name} ({column} {name})",
            rows=raw.rows[seed == one].reset_index(drop=True),
            findings=(note, *raw.findings),
        )
        for one, name in zip(seeds, names, strict=True)
    ]
