"""How much one input may cost: every bound of the readers, with its reason, and the error of an input past it.

The aim is 10 s and 1 GB for a megabyte of any input, and linear growth beyond. A bound is far above what trainers
write, so that it meets damaged files, files that are no logs, and files made to exhaust a reader.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol

from entlaw.errors import UnreadableSource

# A table of rows and keys takes 8 bytes a cell, and some eight copies of it on the way to a run. So many cells are free
# (32 MB a copy: a run of 10,000 steps and 400 keys); beyond, a cell in so many must hold a value.
FREE_CELLS, CELLS_A_VALUE = 1 << 22, 32
# Each key is compared with every spelling that the registry knows. Real runs have 30 to 3,000 keys.
MOST_KEYS = 20_000
# Each row is looked at by Python: 1 MB of text holds 250,000 rows at most. Formats that store equal rows in no space
# (Parquet: 300 million in 1 MB) get as many, and one more for every few bytes of the file.
FREE_ROWS, BYTES_A_ROW = 250_000, 4
# Cells of such a file for each of its bytes; of a run that `entlaw pull` made as sparse as any, `CELLS_A_VALUE`.
CELLS_A_BYTE = 8
# A key with fewer values carries no law (`FEWEST_POINTS` in `entlaw.limits`): it goes first when there are too many.
FEWEST_VALUES = 4
# Each run of a file is assembled, chosen from and shown. A table of a sweep has hundreds.
MOST_RUNS = 1_000

# Each file costs some 10 ms to recognise, read and compare with the others. A sweep has hundreds of logs; a folder with
# more holds something else too, which a glob leaves out.
MOST_LOGS = 2_000

# Real logs shrink 4- to 16-fold, progress bars 12-fold; zlib can reach 1000, bzip2 and xz any number. So many bytes are
# inflated from any file, and beyond them so many times its size; of their lines, as many as there may be rows.
FREE_INFLATED, MOST_INFLATED = 32 << 20, 40
# A document is held as a whole, and Python's objects take some 20 bytes for a byte of brackets: of a compressed one so
# many bytes are inflated, and beyond them so many times the file's size.
FREE_DOCUMENT, DOCUMENT_OF_PACKED, MOST_DOCUMENT = 32 << 20, 32, 1 << 30

# The patterns that keys are compared with take time that grows with the square of a key's length. Real keys have up to
# 200 characters; a longer one than this is a spelling of nothing.
LONGEST_KEY = 1_000


def too_large(what: str, why: str, hint: str, where: str | Path | None = None) -> UnreadableSource:
    """The error of an input past a bound."""
    return UnreadableSource(what, where=None if where is None else str(where), why=why, hint=hint)


def may_be_dense(n_rows: int, n_keys: int, n_values: int) -> bool:
    """Whether a table of rows and keys may be made of so many values."""
    return n_keys <= MOST_KEYS and n_rows * n_keys <= FREE_CELLS + CELLS_A_VALUE * n_values


def check_table(n_rows: int, n_keys: int, n_bytes: int, cells_a_byte: int, where: str | Path) -> None:
    """Raise UnreadableSource for a table that a file of so many bytes cannot mean.

    Parameters
    ----------
    n_rows, n_keys, n_bytes : int
        Of the table; of the file.
    cells_a_byte : int
    where : path
    """
    most_rows, most_cells = FREE_ROWS + n_bytes // BYTES_A_ROW, FREE_CELLS + cells_a_byte * n_bytes
    if n_rows > most_rows or n_keys > MOST_KEYS or n_rows * n_keys > most_cells:
        raise too_large(
            f"a table of {n_rows:,} rows and {n_keys:,} columns in {n_bytes:,} bytes",
            f"at most {most_rows:,} rows, {MOST_KEYS:,} columns and {most_cells:,} cells are read of such a file",
            "keep the columns and the rows that hold the metrics of a run, one row a step",
            where,
        )


def check_runs(n: int, what: str, hint: str, where: str | Path | None = None) -> None:
    """Raise UnreadableSource for more runs than one file can hold.

    Parameters
    ----------
    n : int
    what, hint : str
        What the runs were told apart by; what to do.
    where : path, optional
    """
    if n > MOST_RUNS:
        raise too_large(f"more than {MOST_RUNS:,} runs in one file", f"{n:,} {what}", hint, where)


class Inflating(Protocol):
    """What decompresses a stream."""

    def read(self, size: int, /) -> bytes:
        """Some bytes, none at the end."""
        ...


class Inflated:
    """A decompressed stream that ends with an error once it is out of all proportion to the file.

    Parameters
    ----------
    stream : Inflating
    size : int
        Of the compressed file, in bytes.
    where : pathlib.Path
    """

    def __init__(self, stream: Inflating, size: int, where: Path) -> None:
        self._stream, self._size, self._where = stream, size, where
        self._most = max(FREE_INFLATED, MOST_INFLATED * size)
        self._most_lines = FREE_ROWS + size // BYTES_A_ROW
        self._done = self._lines = 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end.

        Raises
        ------
        UnreadableSource
            More bytes than a log of this size can hold.
        """
        data = self._stream.read(size)
        self._done += len(data)
        self._lines += data.count(b"\n")
        if self._done > self._most or self._lines > self._most_lines:
            raise too_large(
                f"the file of {self._size:,} bytes inflates to more than {self._most >> 20} MB "
                f"or {self._most_lines:,} lines",
                "logs shrink 4- to 16-fold; what shrinks so much more says the same over and over",
                "if it is a log, decompress it and read the result",
                self._where,
            )
        return data


class WithoutHoles:
    """A file read from data to data: a hole of terabytes takes no disk, and no time to pass over.

    Parameters
    ----------
    handle : binary file
        Also one that cannot seek, which has no holes.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end; of a hole, its beginning."""
        data = self._handle.read(size)
        if data and data.count(0) == len(data):
            self._skip()
        return data

    def _skip(self) -> None:
        seek_data = getattr(os, "SEEK_DATA", None)
        if seek_data is None or not self._handle.seekable():
            return
        here = self._handle.tell()
        try:
            self._handle.seek(os.lseek(self._handle.fileno(), here, seek_data))
        except OSError:  # no data until the end
            self._handle.seek(0, os.SEEK_END)
