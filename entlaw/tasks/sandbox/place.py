"""The interpreter that programs run in, and what of the file system they can read."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = str(Path(__file__).parent)
BOOT = f"import sys; sys.path.insert(0, {HERE!r}); from inside import zygote; sys.path.pop(0); zygote.main()"
SYSTEM = ("/lib64", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/nix/store")


def interpreter() -> str:
    """This Python, without its virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def python() -> list[str]:
    """A bare interpreter that loads the sandbox's other side."""
    return [interpreter(), "-s", "-S", "-P", "-X", "utf8", "-c", BOOT]


def readable(packages: Sequence[str]) -> list[str]:
    """What programs can read: shared libraries, the standard library, and the given folders. Parents come first."""
    found = {*SYSTEM, os.path.dirname(os.__file__), *packages}
    kind = getattr(sys.implementation, "_multiarch", "") or f"{os.uname().machine}-linux-gnu"
    if os.path.isdir(f"/usr/lib/{kind}"):  # Debian: /usr/lib itself holds whole programs
        found |= {f"/usr/lib/{kind}", f"/lib/{kind}"}
    else:
        found |= {"/usr/lib", "/lib"}
    # of the interpreter itself, not of its virtual environment: that may lie in a project
    for prefix in (sys.base_prefix, sys.base_exec_prefix):
        if prefix in ("/usr", "/usr/local", "/"):
            found |= {os.path.join(prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}")}
            found |= set(glob.glob(f"{prefix}/lib/libpython*"))
        else:
            found.add(os.path.join(prefix, "lib"))
    return sorted(p for p in found if os.path.exists(p))


def hidden(packages: Sequence[str]) -> list[str]:
    """Folders of installed packages inside of what is readable: data sets with their answers are installed, too."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = {os.path.dirname(os.__file__), "/usr/lib/python3", f"/usr/lib/{version}"}
    libraries |= {os.path.join(sys.base_prefix, "lib", version), os.path.join("/usr/lib64", version)}
    found = {
        os.path.realpath(os.path.join(a, b)) for a in libraries for b in ("site-packages", "dist-packages")
    }
    asked_for = [p + os.sep for p in packages]
    return sorted(
        h for h in found if os.path.isdir(h) and not any(p.startswith(h + os.sep) for p in asked_for)
    )


def around(paths: Sequence[str], holes: Sequence[str]) -> tuple[list[str], list[str]]:
    """``paths`` with the folders that hold a hole replaced by their other children; and those folders.

    For Landlock, which can open a folder but not close one inside of it.
    """
    whole, opened = [], []
    todo = [os.path.realpath(p) for p in paths]
    while todo:
        path = todo.pop()
        if path in holes:
            continue
        if any(hole.startswith(path.rstrip(os.sep) + os.sep) for hole in holes):
            opened.append(path)
            todo += [os.path.join(path, name) for name in os.listdir(path)]
        else:
            whole.append(path)
    return sorted(set(whole)), sorted(set(opened))
