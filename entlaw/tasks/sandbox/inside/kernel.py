"""The Linux calls that Python does not wrap: namespaces, mounts, capabilities, prctl."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR = 442
AT_RECURSIVE = 0x8000


class SetupError(Exception):
    """A step of the isolation failed; the text says which."""


def call(what: str, result: int) -> int:
    """The result of a libc call, or :class:`SetupError` naming it and the system's reason."""
    if result < 0:
        raise SetupError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def syscall(what: str, number: int, *args: object) -> int:
    """A raw system call; integers are passed as longs."""
    plain = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return call(what, LIBC.syscall(ctypes.c_long(number), *plain))


def prctl(option: int, a: int | ctypes.c_void_p = 0, b: object = None) -> None:
    """``prctl`` with at most two arguments."""
    first = ctypes.c_ulong(a) if isinstance(a, int) else a
    second = ctypes.c_ulong(0) if b is None else b
    call(f"prctl {option}", LIBC.prctl(option, first, second, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def unshare(flags: int) -> None:
    """New namespaces for the calling process."""
    call("unshare (new namespaces)", LIBC.unshare(flags))


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """``mount(2)``."""
    as_bytes = [None if each is None else os.fsencode(each) for each in (source, target, kind, data)]
    done = LIBC.mount(as_bytes[0], as_bytes[1], as_bytes[2], ctypes.c_ulong(flags), as_bytes[3])
    call(f"mount {target}", done)


def bind_readonly(source: str, target: str) -> None:
    """``source`` seen at ``target``, never to be written to through it, nor for set-uid programs or devices."""
    mount(source, target, None, MS_BIND | MS_REC)
    readonly = 1 | 2 | 4  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV
    attributes = (ctypes.c_uint64 * 4)(readonly, 0, 0, 0)
    at_cwd, size = -100, ctypes.sizeof(attributes)
    path = ctypes.c_char_p(os.fsencode(target))
    try:
        syscall("mount_setattr", MOUNT_SETATTR, at_cwd, path, AT_RECURSIVE, ctypes.byref(attributes), size)
    except SetupError:  # before Linux 5.12: the top mount alone, with the flags that may not be taken away
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)


def pivot_root(new: str, old: str) -> None:
    """``new`` becomes the root, the old root goes to ``old``."""
    number = PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise SetupError(f"pivot_root: unknown machine {os.uname().machine}")
    syscall("pivot_root", number, ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))


def detach(target: str) -> None:
    """Unmount a tree lazily."""
    call(f"umount {target}", LIBC.umount2(os.fsencode(target), MNT_DETACH))


def drop_capabilities() -> None:
    """No capability is left, in any set, nor can one be gained."""
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break  # past the last one, or not allowed to: then there is none to lose
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call("capset", LIBC.capset(ctypes.byref(header), ctypes.byref(nothing)))


def die_with_parent() -> None:
    """SIGKILL when the parent ends; lost at a change of user, so to be asked for after it."""
    prctl(PR_SET_PDEATHSIG, 9)
