"""Words for what two runs were trained on: the settings in which their tasks differ."""

from __future__ import annotations

import json
from typing import Any

_UNITS = {
    "train_operations": "{} operations", "operations": "{} operations", "train_operators": "operators {}",
    "operators": "operators {}",
}  # fmt: skip


def difference(text: str, main: str, same: str) -> str:
    """In which settings one thing told by facts differs from another.

    Parameters
    ----------
    text, main : str
        Tasks or starting policies, as in `entlaw.report.figures.base.Facts`.
    same : str
        What to say where they are equal.

    Returns
    -------
    str
        ``2, 3 operations``; of texts that are no settings, the last part of the text.
    """
    if text == main:
        return same
    told, usual = settings(text), settings(main)
    if told is None:
        return text.rstrip("/").rsplit("/", 1)[-1] or "unknown"
    changed = {k: told.get(k) for k in sorted({*told, *(usual or {})}) if told.get(k) != (usual or {}).get(k)}
    return "; ".join(_words(k, v) for k, v in changed.items()) or same


def settings(text: str) -> dict[str, Any] | None:
    """The settings a text of facts holds, or None where it holds none."""
    try:
        held = json.loads(text)
    except json.JSONDecodeError:
        return None
    return held if isinstance(held, dict) else None


def _words(name: str, value: object) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return _UNITS.get(name, name.replace("_", " ") + " {}").format(shown)
