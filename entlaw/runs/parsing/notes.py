"""What several sources note about a file in the same words: an end that is cut, damage, when the run began."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding

_LAST_SECOND = 253402300800  # of the year 9999


def iso_time(seconds: float) -> str | None:
    """A time as ISO text; None where the number is no time."""
    if not 0 < seconds < _LAST_SECOND:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def cannot_read(
    error: OSError, path: Path, hint: str = "check the file's permissions and the disk"
) -> UnreadableSource:
    """The error of a file that the system does not give."""
    return UnreadableSource(f"cannot read: {error.strerror}", where=str(path), hint=hint)


def cut_line(what: str) -> Finding:
    """Text that ends inside a line."""
    return Finding("truncated-tail", "info", what, "the trainer was still writing, or was killed")


def cut_record(n_bytes: int) -> list[Finding]:
    """A container that ends inside a record; nothing without such bytes."""
    what = f"the last {n_bytes} bytes are an incomplete record and were left out"
    why = "the run is still being written, or its process was killed"
    return [Finding("truncated-tail", "info", what, why, value=float(n_bytes))] if n_bytes else []


def corrupt(code: str, n: int, what: str, hint: str) -> Finding:
    """Places whose checksum is wrong."""
    why = "steps may be missing in the middle of the run; what was read passed its checksum"
    return Finding(code, "warning", what, why, hint, float(n))


def undecodable(n: int, what: str, hint: str = "") -> list[Finding]:
    """Records with a right checksum that make no sense; nothing without such records."""
    why = "their checksum is right, so they were written like that"
    what = f"{n} {what} could not be decoded and were left out"
    return [Finding("undecodable-values", "warning", what, why, hint, float(n))] if n else []


def unread(code: str, n: int, what: str, why: str) -> list[Finding]:
    """Lines that are not as they should be; nothing without such lines."""
    hint = "look at them if they fall among the steps of the fit"
    return [Finding(code, "warning", f"{n} {what}", why, hint, float(n))] if n else []
