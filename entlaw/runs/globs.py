"""Paths behind a glob: each folder is searched once, whatever links lead to it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator


def paths(pattern: str) -> list[str]:
    """What a pattern matches, in order; of ``**`` at the end, files only.

    The standard library follows every link at ``**``: three links of a folder to itself are three to the power of
    forty paths.

    Parameters
    ----------
    pattern : str
        As :func:`glob.glob` takes it with ``recursive=True``.
    """
    return sorted(set(_paths(pattern.replace(os.sep, "/"))))


def _paths(pattern: str) -> Iterator[str]:
    before, stars, behind = f"/{pattern}/".partition("/**/")
    if not stars:
        yield from glob.glob(pattern)
        return
    root, rest = before.removeprefix("/"), behind.removesuffix("/")
    tops = glob.glob(root) if root else ["/" if pattern.startswith("/") else ""]
    for top in tops:
        for folder in _folders(top):
            found = _paths(os.path.join(glob.escape(folder), rest or "*"))
            yield from found if rest else filter(os.path.isfile, found)


def _folders(top: str) -> Iterator[str]:
    """A folder and all below it that are not hidden, links included; empty for the current one."""
    seen: set[tuple[int, int]] = set()

    def is_new(folder: str) -> bool:
        try:
            about = os.stat(folder)
        except OSError:
            return False
        known = (about.st_dev, about.st_ino) in seen
        seen.add((about.st_dev, about.st_ino))
        return not known

    is_new(top or os.curdir)
    for folder, inner, _ in os.walk(top or os.curdir, followlinks=True):
        inner[:] = [name for name in sorted(inner) if name[0] != "." and is_new(os.path.join(folder, name))]
        yield folder if top else folder.removeprefix(os.curdir).lstrip(os.sep)
