"""torch, imported at its first use: what is registered with it is known by name where torch is not installed."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("torch"), name)
