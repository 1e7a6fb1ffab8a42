"""Following sources that are still written: what is there now, and whether anything changed since the last look.

Local files are compared by inode, size and time of change, never with our own clock: a log on another machine's disk
may be hours ahead. Runs on a server are asked at every look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from entlaw.errors import DataError, SourceNotFound, UnreadableSource, UsageError
from entlaw.runs.ending import OVER, planned_steps, reported_status
from entlaw.runs.files import expand
from entlaw.runs.incoming import is_stream
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import Reading, on_server, scan

# Looks in a row at which a server must refuse a run that it gave before, or not know it, to be taken at its word.
FINAL = 3


@dataclass(frozen=True)
class Seen:
    """One run as it is now.

    Attributes
    ----------
    key : str
        The same at every look.
    reading : Reading
    status : str
        running, finished, crashed, ...; empty when nothing tells.
    total_steps : float or None
        Where it will end, as far as its configuration tells.
    """

    key: str
    reading: Reading
    status: str
    total_steps: float | None

    @property
    def over(self) -> bool:
        """Whether the run says that nothing more will come."""
        return self.status in OVER


@dataclass(frozen=True)
class Look:
    """What one look found.

    Attributes
    ----------
    changed : bool
        Whether anything is different from the look before; if not, ``seen`` is empty.
    seen : tuple of Seen
    waiting : tuple of str
        Sources that are not there yet, or empty, each with why.
    troubles : tuple of str
        What went wrong and may pass: a server that does not answer, a file that cannot be read just now.
    """

    changed: bool
    seen: tuple[Seen, ...] = ()
    waiting: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


class Follower:
    """Look at sources again and again.

    Parameters
    ----------
    sources : sequence of str
    selection : Selection, optional
    """

    def __init__(self, sources: Sequence[str], selection: Selection | None = None) -> None:
        self._sources, self._selection = list(sources), selection or Selection()
        for source in self._sources:
            if is_stream(source):
                raise UsageError(
                    "a stream cannot be watched: it can be read only once",
                    where=source,
                    hint="write it to a file (... | tee run.log) and watch that, or fit it once",
                )
        self._signature: dict[str, object] = {}
        self._found: set[str] = set()
        self._refusals: dict[str, int] = {}
        self._lengths: dict[str, object] = {}

    def look(self) -> Look:
        """Read what has changed.

        Returns
        -------
        Look

        Raises
        ------
        EntlawError
            A source that can never be watched: an address that is wrong, a log without the key that was named, a run
            that the server refuses or no longer has, and goes on to.
        """
        changed = False
        seen: list[Seen] = []
        waiting: list[str] = []
        troubles: list[str] = []
        for source in self._sources:
            remote = on_server(source) is not None
            try:
                signature: object = None if remote else _signature(source)
            except SourceNotFound as error:
                signature = ("missing", error.what)
            if not remote and self._signature.get(source) == signature:
                if source not in self._found:
                    waiting.append(_waiting(source, signature))
                continue
            try:
                new = [_seen(reading) for reading in scan([source], self._selection)]
            except SourceNotFound as error:
                changed = True
                if remote and self._refused(source):
                    raise
                self._signature[source] = signature
                (troubles if source in self._found else waiting).append(
                    _waiting(source, ("missing", error.what))
                )
                continue
            except UnreadableSource as error:  # empty, or its first line half written
                changed = True
                self._signature[source] = signature
                waiting.append(f"{source}: {error.what}")
                continue
            except DataError as error:
                changed = True
                if remote and not getattr(error, "transient", False) and self._refused(source):
                    raise
                troubles.append(f"{source}: {error.what}")
                continue
            self._signature[source] = signature
            usable = [s for s in new if s.reading.raw is not None]
            if remote and self._nothing_new(source, new, usable):
                continue
            changed = True
            for s in new:
                if s.reading.raw is None and s.reading.error is not None:
                    place = troubles if usable or source in self._found else waiting
                    place.append(f"{s.key}: {s.reading.error.what}")
            if usable:
                self._found.add(source)
            seen += usable
        return Look(
            changed and bool(seen or troubles or waiting), tuple(seen), tuple(waiting), tuple(troubles)
        )

    def _nothing_new(self, source: str, new: list[Seen], usable: list[Seen]) -> bool:
        """Whether a server told of nothing but what was known; raises where it refuses for good."""
        refused = next((s.reading.error for s in new if _refusal(s.reading.error)), None)
        if refused is None:
            self._refusals.pop(source, None)
        elif not usable and self._refused(source):
            raise refused
        lengths = tuple(_length(s) for s in new)
        same = bool(usable) and self._lengths.get(source) == lengths
        self._lengths[source] = lengths
        return same

    def _refused(self, source: str) -> bool:
        """Whether a refusal is the last word: at once for what was never read, else when it has held."""
        self._refusals[source] = self._refusals.get(source, 0) + 1
        return source not in self._found or self._refusals[source] >= FINAL


def _waiting(source: str, signature: object) -> str:
    why = (
        signature[1]
        if isinstance(signature, tuple) and signature and signature[0] == "missing"
        else "nothing logged"
    )
    return f"{source}: {why}"


def _signature(source: str) -> tuple[tuple[str, int, int, int], ...]:
    """What tells that a file is not what it was; the state file beside our own logs counts with it."""
    found = []
    for path in expand(source):
        for one in (path, path.parent / "run.json"):
            try:
                stat = one.stat()
            except OSError:
                continue
            found.append((str(one), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _refusal(error: Exception | None) -> bool:
    """Whether a server said that a run is not there, or not for us; rather than that it cannot answer."""
    return isinstance(error, SourceNotFound) or getattr(error, "status", None) in (401, 403, 404)


def _length(seen: Seen) -> tuple[object, ...]:
    """What tells that a run on a server has something new: rows only ever come to it."""
    raw = seen.reading.raw
    return (seen.key, seen.status, str(seen.reading.error) if raw is None else raw.rows.shape)


def _seen(reading: Reading) -> Seen:
    raw = reading.raw
    if raw is None:
        return Seen(reading.path, reading, "", None)
    details = raw.provenance.details
    key = str(details.get("run_id") or f"{reading.path}#{raw.name}")
    return Seen(key, reading, reported_status(raw), planned_steps(raw.config))
