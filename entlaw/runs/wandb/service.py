"""The end of the SDK's service process, within a time.

``wandb.teardown()`` sends the process a goodbye and waits for it without end. A process that is just giving up a
request that took too long closes the connection without reading the goodbye (seen with wandb 0.31 on a loaded
machine), and then both wait until somebody kills one: a command that has printed its result would never return.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

PATIENCE = 10.0  # seconds; nothing is left to upload then: `Run.finish` has waited for that


def end_service(wandb: Any, patience: float = PATIENCE) -> bool:
    """Bring the SDK down as it does itself at exit, and kill its service process if that takes too long.

    Parameters
    ----------
    wandb : module
        The SDK.
    patience : float, optional
        Seconds to wait for the process.

    Returns
    -------
    bool
        False where the process had to be killed.
    """
    process = _process(wandb)
    timer = threading.Timer(patience, process.kill) if process is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    with contextlib.suppress(
        Exception, SystemExit
    ):  # the SDK exits with the code of a process that was killed
        wandb.teardown()
    if timer is None:
        return True
    killed = timer.finished.is_set()
    timer.cancel()
    return not killed


def _process(wandb: Any) -> Any:
    """The service process of this process, or None: none was started, or the SDK keeps it elsewhere by now."""
    found = getattr(getattr(wandb, "sdk", None), "wandb_setup", None)
    for name in ("_singleton", "_connection", "_proc", "_process"):
        found = getattr(found, name, None)
    return found if callable(getattr(found, "kill", None)) else None
