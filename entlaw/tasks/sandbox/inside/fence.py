"""Landlock: file access cut down without any namespace, for containers that allow none."""

from __future__ import annotations

import ctypes
import os

from . import kernel
from .kernel import SetupError

CREATE, ADD, RESTRICT = 444, 445, 446
EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8
ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
ALL_NETWORK = 3  # bind and connect, TCP
ALL_SCOPES = 3  # abstract unix sockets, signals
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def abi() -> int:
    """Version of the kernel's Landlock.

    Raises
    ------
    SetupError
        It has none, or it is switched off.
    """
    return kernel.syscall("landlock", CREATE, None, 0, 1)


def close(paths: list[str], folders: list[str], tmp: str) -> None:
    """From here on the process reads ``paths``, lists ``folders``, has ``tmp`` for itself, and no other file.

    Raises
    ------
    SetupError
        No Landlock, or one from before version 3, which does not stop truncation.
    """
    version = abi()
    if version < 3:
        raise SetupError(f"landlock: version {version} of the kernel is too old, 3 is needed")
    files = ALL_FILE_RIGHTS[min(version, 5)]
    rules = (ctypes.c_uint64 * 3)(
        files, ALL_NETWORK if version >= 4 else 0, ALL_SCOPES if version >= 6 else 0
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = kernel.syscall("landlock_create_ruleset", CREATE, ctypes.byref(rules), size, 0)
    for path in paths:
        _allow(ruleset, path, READ | LIST)
    for path in folders:
        _allow(ruleset, path, LIST)
    for path in DEVICES:
        _allow(ruleset, path, READ | WRITE)
    makes_special = 1 << 6 | 1 << 9 | 1 << 11  # character devices, sockets, block devices
    _allow(ruleset, tmp, files & ~EXECUTE & ~makes_special & ~(1 << 15))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.syscall("landlock_restrict_self", RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= EXECUTE | WRITE | READ
        rule = ctypes.create_string_buffer(rights.to_bytes(8, "little") + fd.to_bytes(4, "little"), 12)
        kernel.syscall("landlock_add_rule", ADD, ruleset, 1, rule, 0)
    finally:
        os.close(fd)
