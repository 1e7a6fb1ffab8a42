"""Coded findings: how readers and diagnostics say that something about a run needs attention."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]
_RANK = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One observation about a run.

    Attributes
    ----------
    code : str
        Stable kebab-case identifier, e.g. ``entropy-not-falling``; scripts may match on it.
    severity : {"info", "warning", "error"}
        An error refuses the fit (exit code 4) unless forced.
    what : str
        What was seen, with the figure.
    why : str
        Why it matters for the law.
    hint : str
        What to do about it.
    value : float or None
        The figure itself, where there is one.
    """

    code: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""
    value: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def worst_first(findings: list[Finding] | tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings without exact duplicates, errors before warnings before information."""
    unique = list(dict.fromkeys(findings))
    return tuple(sorted(unique, key=lambda f: _RANK[f.severity]))


def has_error(findings: list[Finding] | tuple[Finding, ...]) -> bool:
    """Whether any finding is of severity ``error``."""
    return any(f.severity == "error" for f in findings)
