"""The SDK's process-wide settings, changed for a moment and put back.

A trainer in this process must keep its own patience with an outage and its own messages, so nothing stays changed;
and several threads may read at once, so the last one out puts the settings back.
"""

from __future__ import annotations

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
