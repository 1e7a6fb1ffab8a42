"""A training run that cannot go on."""

from __future__ import annotations

from typing import Any

from entlaw.errors import EntlawError
from entlaw.train.batch import Batch


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
