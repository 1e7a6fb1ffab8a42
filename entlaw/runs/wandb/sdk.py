"""What is around the calls of the W&B SDK: its process-wide settings, and the end of its service process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()
_INSIDE = 0
_BEFORE = False


@contextmanager
def quiet(wandb: Any) -> Iterator[None]:
    """Without messages and progress bars of the SDK: stderr is ours, and so is the terminal it would draw on."""
    global _INSIDE, _BEFORE
    settings = wandb.setup().settings
    with _LOCK:
        if _INSIDE == 0:
            _BEFORE = settings.silent
            settings.silent = True
        _INSIDE += 1
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if _INSIDE == 0:
                settings.silent = _BEFORE


@contextmanager
def settings_for_now(wandb: Any, told: Mapping[str, Any]) -> Iterator[None]:
    """With other settings, and nothing asked on the terminal; one thread at a time."""
    settings = wandb.setup().settings
    with _LOCK, quiet(wandb):
        before = {name: getattr(settings, name) for name in told}
        try:
            for name, value in told.items():
                setattr(settings, name, value)
            wandb.termsetup(settings, None)  # silent also means: no question for an API key
            yield
        finally:
            for name, value in before.items():
                setattr(settings, name, value)
            shown = settings.silent
            settings.silent = _BEFORE
            wandb.termsetup(settings, None)
            settings.silent = shown


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
