"""The training step of W&B rows: from the run's own metric definitions, else from names, else ``_step``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

import pandas as pd

from entlaw.runs.keys import STEP_NAMES, canonical


def resolve_steps(keys: Iterable[str], definitions: Mapping[str, str]) -> dict[str, str]:
    """Step metric of each key that has one; an exact definition beats a glob, a longer glob a shorter one."""
    globs = sorted((d for d in definitions if "*" in d), key=len, reverse=True)
    out = {}
    for key in keys:
        if key in definitions:
            out[key] = definitions[key]
        elif not key.startswith("_"):  # globs do not reach W&B's own keys
            match = next((g for g in globs if fnmatch.fnmatchcase(key, g)), None)
            if match is not None and definitions[match] != key:
                out[key] = definitions[match]
    return out


def with_step(rows: pd.DataFrame, step_metric: Mapping[str, str]) -> tuple[pd.DataFrame, str]:
    """Add the column ``step`` and say where it is from.

    In order: what all metrics were defined against; a column that is named like a training step (left for
    the assembly, which knows those names); W&B's own counter of ``log`` calls.
    """
    columns = [str(c) for c in rows.columns]
    axes = set(step_metric.values())
    metrics = [c for c in columns if not c.startswith("_") and c not in axes]
    shared = {step_metric.get(c) for c in metrics}
    axis = shared.pop() if len(shared) == 1 else None
    if axis is not None and axis in columns:
        return (rows if axis == "step" else rows.assign(step=rows[axis])), f"{axis} (define_metric)"
    known = set(STEP_NAMES) - {"_step"}
    named = next((c for c in columns if c != "_step" and canonical(c) in known), None)
    if named is not None:
        return rows, f"{named} (its name)"
    if "_step" in columns:
        return rows.assign(step=rows["_step"]), "_step (W&B's counter of log calls)"
    return rows, "none"
