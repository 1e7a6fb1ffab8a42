"""Namespaces: a root of its own with the interpreter's library in it, no network, no other process, no /proc."""

from __future__ import annotations

import os

from . import kernel
from .kernel import SetupError

NOBODY = 65534
SPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
)
DEVICES = ("null", "zero", "full", "random", "urandom")
OLD = "/.old"


def enter(paths: list[str], holes: list[str], tmp_mb: int, tmp_files: int) -> None:
    """Move the calling process into new namespaces with a root of its own.

    The root holds only ``paths``, read-only and with ``holes`` in them empty, and a /tmp in memory.

    The next fork is the new process namespace's first process. The process still has the new user namespace's
    capabilities: :func:`become_nobody` gives them up.

    Raises
    ------
    SetupError
        The kernel, or who administers it, does not allow a step.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _enter_as_root()
    else:
        kernel.unshare(SPACES)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    kernel.die_with_parent()
    _build(paths, holes, tmp_mb, tmp_files)


def _enter_as_root() -> None:
    # Only a process outside may map two users. Root (0) is kept to reach the interpreter under a closed home,
    # nobody is what the program becomes.
    ready, go = os.pipe(), os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        code = 1
        try:
            os.close(ready[1])
            if os.read(ready[0], 1):
                for which in ("uid_map", "gid_map"):
                    _write(f"/proc/{target}/{which}", f"0 0 1\n{NOBODY} {NOBODY} 1")
                os.write(go[1], b"1")
                code = 0
        finally:
            os._exit(code)
    try:
        os.close(go[1])
        kernel.unshare(SPACES)
        os.write(ready[1], b"1")
        if not os.read(go[0], 1):
            raise SetupError("uid_map: the mapping of users was refused")
    finally:
        for fd in (*ready, go[0]):
            os.close(fd)
    os.setgroups([])


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def _build(paths: list[str], holes: list[str], tmp_mb: int, tmp_files: int) -> None:
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", quiet, "size=1m,nr_inodes=1024,mode=0755")
    os.mkdir("/tmp" + OLD, 0o700)
    kernel.pivot_root("/tmp", "/tmp" + OLD)
    os.chdir("/")
    os.mkdir("/tmp", 0o755)
    kernel.mount("tmpfs", "/tmp", "tmpfs", quiet, f"size={tmp_mb}m,nr_inodes={tmp_files},mode=1777")
    for path in paths:  # after tmp: one of them may lie in it
        _show(path)
    for path in holes:
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", quiet | kernel.MS_RDONLY, "size=4k,nr_inodes=2")
    os.makedirs("/dev", 0o755, exist_ok=True)
    for name in DEVICES:
        with open(f"/dev/{name}", "wb"):
            pass
        kernel.mount(f"{OLD}/dev/{name}", f"/dev/{name}", None, kernel.MS_BIND)
    kernel.detach(OLD)
    os.rmdir(OLD)
    kernel.mount(None, "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | quiet)
    os.chdir("/tmp")


def _show(path: str) -> None:
    old = OLD + path
    if os.path.lexists(path):
        return  # inside one that is shown already
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), path)
        return
    if os.path.isdir(old):
        os.mkdir(path, 0o755)
    elif os.path.isfile(old):
        with open(path, "wb"):
            pass
    else:
        return
    kernel.bind_readonly(old, path)


def become_nobody() -> None:
    """Give up root, if it was root, and all capabilities."""
    if os.geteuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.drop_capabilities()
