"""Where a run is meant to end, and whether it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from entlaw.runs.run import RawRun, Run

# States of a run on a server, and of our own trainer's run.json, in which nothing more will be logged.
OVER = frozenset({"finished", "crashed", "failed", "killed", "stopped"})
# Schema of a run.json.
_OWN = "entlaw.run/"
# In order; the first that is there and positive counts.
_TOTALS = (
    "recipe.run.steps",
    "trainer.total_training_steps",
    "actor_rollout_ref.actor.optim.total_training_steps",
    "max_steps",
    "args.max_steps",
    "total_steps",
    "num_steps",
    "n_steps",
    "train.total_steps",
    "total_training_steps",
)


def planned_steps(config: Mapping[str, Any]) -> float | None:
    """Steps a run is to take, as far as its flat configuration tells.

    Parameters
    ----------
    config : mapping

    Returns
    -------
    float or None
    """
    for key in _TOTALS:
        try:
            value = float(config.get(key))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if 1 <= value < 1e9:
            return value
    return None


def reported_status(run: Run | RawRun) -> str:
    """What the source says of how a run goes (running, finished, crashed, ...); empty where it says nothing.

    A server tells it with the run; our own trainer writes it to the ``run.json`` beside its metrics.
    """
    own = run.config.get("status") if str(run.config.get("schema", "")).startswith(_OWN) else None
    return str(run.provenance.details.get("state") or own or "")


def details_of_all(runs: Sequence[RawRun]) -> dict[str, Any]:
    """What the sources of a run's parts say alike, and how the run goes: finished when all parts are.

    Parameters
    ----------
    runs : sequence of RawRun

    Returns
    -------
    dict
    """
    told = [raw.provenance.details for raw in runs]
    out = {key: value for key, value in told[0].items() if all(key in d and d[key] == value for d in told)}
    states = [str(d["state"]) for d in told if d.get("state")]
    going = next((s for s in states if s not in OVER), None)
    ended = next((s for s in states if s != "finished"), "finished")
    return {**out, "state": going or ended} if states else out


def without_status(run: Run) -> Run:
    """A run of which nothing is said of how it goes."""
    details = {key: value for key, value in run.provenance.details.items() if key != "state"}
    config = {key: value for key, value in run.config.items() if key != "status"}
    return replace(run, config=config, provenance=replace(run.provenance, details=details))
