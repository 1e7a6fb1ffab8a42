"""One file a format. A source recognises its format by content and yields :class:`RawRun` objects.

Each module defines ``NAME`` (shown to users), ``sniff(head)`` (is this mine?) and ``read(path, options)``.
Order matters: formats with a magic number first, then structured text, then the console reader, which takes
any text and looks for metric lines in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from entlaw.runs.run import RawRun

HEAD_BYTES = 1 << 16  # enough for any header; a log's preamble may be longer, which is why console comes last


@dataclass(frozen=True)
class Head:
    """The beginning of a file, for recognition by content.

    Attributes
    ----------
    path : pathlib.Path
    start : bytes
        The first ``HEAD_BYTES`` bytes.
    size : int
        Size of the file in bytes.
    """

    path: Path
    start: bytes
    size: int

    @property
    def text(self) -> str:
        """The beginning as text; undecodable bytes become U+FFFD, a byte-order mark is dropped."""
        return self.start.decode("utf-8", errors="replace").lstrip("\ufeff")


@dataclass(frozen=True)
class ReadOptions:
    """What the user said about the file.

    Attributes
    ----------
    step_key, entropy_key, performance_key : str or None
        Keys to use instead of the registry's choice. Readers only need them to split or index rows.
    """

    step_key: str | None = None
    entropy_key: str | None = None
    performance_key: str | None = None


class Source(Protocol):
    """What a module in this package looks like."""

    NAME: str

    def sniff(self, head: Head) -> bool:
        """Whether the file is of this format, judged from its first bytes."""

    def read(self, path: Path, options: ReadOptions) -> list[RawRun]:
        """Read all runs of a file. Raises UnreadableSource; never anything else for bad content."""


_ORDER = (
    "wandb_file",
    "tensorboard",
    "trackio",
    "mlflow",  # by its place in the folder of a run
    "tabular",  # Parquet by magic, CSV/TSV by its header
    "notebook",
    "trl_state",  # trainer_state.json and plain JSON lists of records
    "jsonl",
    "console",
)


def sources() -> Sequence[Source]:
    """All sources in order of recognition; each module is imported on first use."""
    return [cast(Source, importlib.import_module(f"{__name__}.{name}")) for name in _ORDER]
