"""A training run that cannot go on; and one rank's error on the other ranks, which find it where it is left."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from entlaw.errors import EntlawError
from entlaw.train.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor


class TrainingFailed(EntlawError, RuntimeError):
    """The run stops; its checkpoint is intact.

    Attributes
    ----------
    batch : Batch or None
        What the step was working on, to be saved for inspection.
    """

    exit_code = 1

    def __init__(self, what: str, *, batch: Batch | None = None, **more: Any) -> None:
        super().__init__(what, **more)
        self.batch = batch


def require_finite(what: str, gradient_norm: Tensor, batch: Batch) -> None:
    """Stop before a helper of the policy (critic, reward model) takes a step that would ruin its weights.

    Raises
    ------
    TrainingFailed
    """
    if not bool(gradient_norm.isfinite()):
        raise TrainingFailed(
            f"the loss of the {what} or its gradient is not finite",
            why="no weight was changed by it",
            hint=f"lower the learning rate of the {what}, or use float32 weights; continue from the last checkpoint",
            batch=batch,
        )


# Several ranks ----------------------------------------------------------------------------------------


class RankLost(TrainingFailed):
    """Another rank is gone: nothing is wrong here, and starting all anew may well work."""


# What gloo and NCCL say when the other end is gone.
BROKEN = re.compile(
    r"DistBackendError|DistNetworkError|connection (?:closed|reset|refused)|broken pipe|timed out|ncclRemote"
    r"|socket|\[.*gloo.*\]",
    re.I,
)
_POSTED = "entlaw/failed"


def post(told: dict[str, Any]) -> None:
    """Leave word for the other ranks where the launcher keeps its own."""
    import torch.distributed.distributed_c10d as c10d

    with contextlib.suppress(Exception):  # its host may be what died
        c10d._get_default_store().set(_POSTED, json.dumps(told))


def posted() -> dict[str, Any] | None:
    import torch.distributed.distributed_c10d as c10d

    with contextlib.suppress(Exception):
        store = c10d._get_default_store()
        if store.check([_POSTED]):
            found: dict[str, Any] = json.loads(store.get(_POSTED))
            return found
    return None


def describe(error: Exception) -> dict[str, Any]:
    """An error as plain data, for another process."""
    if isinstance(error, EntlawError):
        return {**error.as_dict(), "type": type(error).__name__}
    return {
        "type": "",
        "what": (str(error).strip() or "no message").splitlines()[0],
        "error": type(error).__name__,
    }


def revived(told: dict[str, Any], rank: int) -> EntlawError:
    """Another rank's error, of its own class where it is one of ours."""
    from entlaw import errors

    known = {"TrainingFailed": TrainingFailed, **vars(errors)}.get(told["type"])
    if known is None:
        return TrainingFailed(
            f"rank {rank} failed: {told['error']}: {told['what']}",
            hint="everything up to the last checkpoint is saved: continue with `entlaw train --resume`",
        )
    error: EntlawError = known(told["what"], where=told["where"], why=told["why"], hint=told["hint"])
    return error
