"""A training run that cannot go on."""

from __future__ import annotations

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
            hint=f"lower the learning rate of the {what}, or use float32 weights; go on from the last checkpoint",
            batch=batch,
        )
