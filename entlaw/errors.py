"""Every error a user can meet, in one place.

Each says *what* happened, *where*, *why*, and *what to do next*, knows its exit code, and is also the
standard-library error it refines, so that ``except FileNotFoundError`` keeps working for library users.

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 data missing or unreadable, 4 fit refused by diagnostics,
5 stop rule fired.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def closest(name: str, known: Iterable[str], n: int = 3, cutoff: float = 0.6) -> list[str]:
    """Known names that look like ``name``, best first, whatever the case."""
    import difflib

    spelled = {k.lower(): k for k in known}
    return [spelled[k] for k in difflib.get_close_matches(name.lower(), list(spelled), n=n, cutoff=cutoff)]


def nearest(name: str, known: Iterable[str], n: int = 3, cutoff: float = 0.6) -> str:
    """A hint that names what was probably meant, such as "nearest: grpo"; empty where nothing looks like it."""
    return f"nearest: {', '.join(near)}" if (near := closest(name, known, n, cutoff)) else ""


class EntlawError(Exception):
    """Base of all errors that entlaw raises on purpose.

    Parameters
    ----------
    what : str
        What happened, one sentence.
    where : str, optional
        The file, run, key or option it happened in.
    why : str, optional
        Why it matters or why it came about.
    hint : str, optional
        What to do next.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, why: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.hint = what, where, why, hint

    def __str__(self) -> str:
        parts = [self.what if not self.where else f"{self.where}: {self.what}"]
        if self.why:
            parts.append(self.why)
        if self.hint:
            parts.append(self.hint)
        return "\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data, for ``--json``."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class UsageError(EntlawError, ValueError):
    """The call itself is wrong: an unknown option value, arguments that exclude each other."""

    exit_code = 2


class MissingExtra(EntlawError, ImportError):
    """An optional dependency is needed and not installed; the hint holds the install line."""

    exit_code = 2


class DataError(EntlawError):
    """Data is missing or cannot be read."""

    exit_code = 3


class SourceNotFound(DataError, FileNotFoundError):
    """A path, glob or run that does not exist."""


class UnreadableSource(DataError, ValueError):
    """A file that exists but is not a run log, or is damaged beyond use."""


class MissingSeries(DataError, LookupError):
    """A log without the entropy or the performance series that was asked for."""


class CheckpointError(EntlawError, OSError):
    """What a run needs to go on could not be written: the disk is full, or must not be written to.

    What was saved before is intact.

    Attributes
    ----------
    errno : int or None
        The system's error number, where it was the system that refused.
    """

    def __init__(self, what: str, *, errno: int | None = None, **kw: Any) -> None:
        super().__init__(what, **kw)
        self.errno = errno


class CacheError(EntlawError, OSError):
    """A pulled run could not be written, or another process does not let go of it. What was there is intact.

    Attributes
    ----------
    errno : int or None
        The system's error number, where it was the system that refused.
    """

    exit_code = 2

    def __init__(self, what: str, *, errno: int | None = None, **kw: Any) -> None:
        super().__init__(what, **kw)
        self.errno = errno


class OutOfMemory(EntlawError, MemoryError):
    """A device or the machine has run out of memory; the hint names settings that need less."""


class SandboxUnavailable(EntlawError, OSError):
    """Nothing on this machine isolates an untrusted program, so it was not run."""

    exit_code = 2


class FitRefused(EntlawError, ArithmeticError):
    """The diagnostics say that the law must not be used on this run.

    Attributes
    ----------
    fit : entlaw.law.fit.Fit or None
        The fit as far as it could be computed (what ``--force`` would report).
    findings : tuple of entlaw.findings.Finding
        The findings, worst first.
    result : entlaw.law.result.Result or None
        The rest of what is said of the run, where it was asked for from Python.
    """

    exit_code = 4

    def __init__(self, what: str, *, fit: Any = None, findings: tuple[Any, ...] = (), **kw: Any) -> None:
        super().__init__(what, **kw)
        self.fit, self.findings = fit, findings
        self.result: Any = None
