"""Where a run is meant to end, and whether it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# States of a run on a server, and of our own trainer's run.json, in which nothing more will be logged.
OVER = frozenset({"finished", "crashed", "failed", "killed", "stopped"})
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
