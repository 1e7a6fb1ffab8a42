"""verl's command line: its settings as Hydra writes them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# What Hydra's grammar takes without quotes, less what it would read as something else.
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_WORDS = {"null", "true", "false", "inf", "nan"}
MODULE = "verl.trainer.main_ppo"


def value(plain: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, (int, float)):
        return repr(plain)
    if isinstance(plain, (list, tuple)):
        return "[" + ",".join(map(value, plain)) + "]"
    if isinstance(plain, Mapping):
        return "{" + ",".join(f"{key}:{value(item)}" for key, item in plain.items()) + "}"
    text = str(plain)
    if _BARE.match(text) and text.lower() not in _WORDS:
        return text
    # In single quotes a quote is escaped, and so are the backslashes in front of one or of the end.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    # "${" would begin an interpolation, quoted or not.
    return "'" + re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", escaped) + "'"


def overrides(settings: Mapping[str, Any], extra: Sequence[str] = ()) -> list[str]:
    """Hydra's overrides; ``extra`` come last and win."""
    return [f"{key}={value(item)}" for key, item in settings.items()] + list(extra)


def command(arguments: Sequence[str]) -> list[str]:
    """The process that trains."""
    return [sys.executable, "-m", MODULE, *arguments]


def shell(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The same for a shell script, an argument a line."""
    front = "".join(f"{key}={shlex.quote(text)} " for key, text in environment.items())
    return front + " \\\n  ".join([f"python3 -m {MODULE}", *map(shlex.quote, arguments)])
