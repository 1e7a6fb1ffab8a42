"""A compressed log beside the same log: one of the two is read, and that is said."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from entlaw.findings import Finding
from entlaw.runs.packed import PACKINGS, SUFFIXES

_GZIP = PACKINGS[0]
_ISIZE_MODULUS = 1 << 32


def without_packed_copies(files: Iterable[Path]) -> list[Path]:
    """The files with one of each group ``x``, ``x.gz``, ``x.xz``, ..., as one log must not count twice.

    The plain one stays, being the one still written, unless it is empty and a packed one is not.
    """
    found = list(files)
    there = set(found)
    left_out = set()
    for packed in found:
        plain = packed.with_suffix("")
        if packed.suffix in SUFFIXES and plain in there:
            only_packed = plain.stat().st_size == 0 and packed.stat().st_size > 0
            left_out.add(plain if only_packed else packed)
    return [f for f in found if f not in left_out]


def copy_beside(path: Path) -> list[Finding]:
    """A finding if the same log is beside the file, compressed or not: only one of them is read."""
    packed = path.suffix in SUFFIXES
    others = [path.with_suffix("")] if packed else [path.with_name(path.name + s) for s in SUFFIXES]
    found: list[Finding] = []
    for other in others:
        one, plain = (path, other) if packed else (other, path)
        try:
            if one.stat().st_size and plain.stat().st_size:
                found += _told(one, plain, other)
        except OSError:  # there is none, as a rule
            continue
    return found


def _told(packed: Path, plain: Path, other: Path) -> list[Finding]:
    """What to say of a packed file and a plain one, of which `other` was not read."""
    same = True
    with packed.open("rb") as handle:
        magic = handle.read(8)
        if not any(magic.startswith(packing.magic) for packing in PACKINGS):
            return []
        if magic.startswith(_GZIP.magic):  # it ends in the length of what it holds
            handle.seek(-4, 2)
            same = int.from_bytes(handle.read(4), "little") == plain.stat().st_size % _ISIZE_MODULUS
    if same:
        what = f"{other.name} is beside it and was not read: {'the same log' if other is plain else 'a copy'}"
        return [Finding("compressed-copy", "info", what, "one run must not be counted twice")]
    return [
        Finding(
            "compressed-copy",
            "warning",
            f"{other.name} is beside it and was not read; its length differs",
            "one of the two is not the whole log",
            f"compare them; name {other} to read that one",
        )
    ]
