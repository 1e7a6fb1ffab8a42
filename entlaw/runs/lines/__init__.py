"""Kinds of metric lines in console logs, one file each: a subclass of :class:`Lines` in a module here is one.

A log may hold lines of several kinds: verl prints lines of its own, and dictionaries that repeat their numbers. Each
kind collects its records apart, and the console reader takes the run from the kind that weighs most.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import ClassVar

import pandas as pd

from entlaw.findings import Finding
from entlaw.runs.parsing.progress import ProgressTrack
from entlaw.runs.source import ReadOptions
from entlaw.runs.table import RowBuilder


class Lines:
    """The records of one kind of line, collected while the log streams by.

    Attributes
    ----------
    order : int
        Kinds with a lower number see a line first; one that finds records in it keeps it.
    weight : int
        How much a value of this kind counts when the kinds are compared.
    needles : tuple of bytes
        Every line of this kind holds one of them, so that all others are passed over at the speed of ``bytes.find``.
    example, noun : str
        For messages: such a line and who prints it; many of them.
    rows : RowBuilder
    n_values : int
        Numbers read.
    unread : int
        Values that are not numbers.
    lost : int
        Lines that look like records and cannot be read.
    cut : str
        What was left out of a last line that is not whole.
    below : str or None
        Set for :meth:`take`: the line below the one that it gets, if it begins no record of this kind.
    last_line : bytes
        Set for :meth:`take`: the last line in the file of those that the line was put together from.
    """

    order: ClassVar[int]
    weight: ClassVar[int] = 1
    needles: ClassVar[tuple[bytes, ...]]
    example: ClassVar[str]
    noun: ClassVar[str]

    def __init__(self, options: ReadOptions, track: ProgressTrack) -> None:
        self.rows = RowBuilder()
        self.n_values = self.unread = self.lost = 0
        self.cut = ""
        self.below: str | None = None
        self.last_line = b""

    def begins(self, line: bytes) -> bool:
        """Whether a line begins a record that the lines below may go on with."""
        return False

    def glue(self, line: bytes, following: bytes) -> bytes | None:
        """What the next line adds to a record that is not at its end, None if it belongs to none."""
        return None

    @property
    def wrapped_at(self) -> int:
        """The constant width, in characters, at which lines of this kind were broken; 0 if they were not."""
        return 0

    @property
    def n_lost(self) -> int:
        """Records that could not be used."""
        return self.lost

    def take(self, line: bytes, closed: bool) -> bool:
        """Take a line that holds a needle, ``closed`` if it is whole; whether it held records."""
        raise NotImplementedError

    def result(self) -> tuple[pd.DataFrame, str, str, list[Finding]]:
        """The rows, the name of the format, the trainer, and findings about how they were read."""
        raise NotImplementedError

    def findings(self, chosen: bool) -> list[Finding]:
        """What could not be read; ``chosen`` if the run is taken from this kind."""
        return []


@cache
def kinds() -> tuple[type[Lines], ...]:
    """All kinds of lines, in the order in which they see a line."""
    for found in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{found.name}")
    return tuple(sorted(Lines.__subclasses__(), key=lambda kind: kind.order))
