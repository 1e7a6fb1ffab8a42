"""The system-call filter: a classic BPF program that turns dangerous calls into EPERM and unknown ones into ENOSYS.

A list of refusals, not of permissions: programs meet an ordinary ``PermissionError``, and the namespaces or Landlock
under the filter are what keeps files and network away. Calls newer than the tables do not exist for the program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import kernel

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEWEST = 449  # futex_waitv: the last call, on both machines, that a Python program has a use for

# name: number on x86_64, on aarch64 (-1: there is none)
REFUSED = {
    # other processes' memory and state
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "perf_event_open": (298, 241),
    # wide entrances into the kernel
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "modify_ldt": (154, -1),
    "personality": (135, 92),
    "vmsplice": (278, 75),
    "uselib": (134, -1),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "sysfs": (139, -1),
    "_sysctl": (156, -1),
    # memory that no limit of a process counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # priorities of others, placement
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # network, whatever the family (socketpair stays: asyncio needs it), and other programs
    "socket": (41, 198),
    "execve": (59, 221),
    "execveat": (322, 281),
}
SIGNALS = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
NEW_NAMESPACES = 0x7E020000
BAD_FCNTL = (8, 10, 15, 1026, 1031)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY, F_SETPIPE_SZ
BAD_IOCTL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal

LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
NUMBER, ARCH = 0, 4


def _low(argument: int) -> int:
    """Offset of an argument's low half (both machines are little-endian)."""
    return 16 + 8 * argument


def program(machine: str, signals: bool = True) -> bytes:
    """The filter as BPF code.

    Parameters
    ----------
    machine : {"x86_64", "aarch64"}
    signals : bool
        Whether signals may be sent; not where other processes of the user can be seen.

    Raises
    ------
    SetupError
        There is no table for the machine.
    """
    if machine not in AUDIT_ARCH:
        raise kernel.SetupError(f"seccomp: no filter for {machine}")
    column = 0 if machine == "x86_64" else 1
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (GREATER, 0, 1, NEWEST),  # also the x32 calls, which have a high bit set
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
        # clone3 keeps its flags in memory, where no filter sees them: libc falls back to clone
        (EQUAL, 0, 1, 435),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    refused = {**REFUSED, **({} if signals else SIGNALS)}
    for numbers in refused.values():
        if numbers[column] >= 0:
            code += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    code += _argument((56, 220)[column], 0, [(ANY_BIT, NEW_NAMESPACES)])
    code += _argument((72, 25)[column], 1, [(EQUAL, k) for k in BAD_FCNTL])
    code += _argument((16, 29)[column], 1, [(EQUAL, k) for k in BAD_IOCTL])
    # prlimit64 of another process: any number but 0
    code += _argument((302, 261)[column], 0, [(GREATER, 0)])
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _argument(number: int, argument: int, tests: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """EPERM if the call is ``number`` and any of the tests holds for an argument's low half."""
    body: list[tuple[int, int, int, int]] = [(LOAD, 0, 0, _low(argument))]
    for test, value in tests:
        body += [(test, 0, 1, value), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    body.append((RETURN, 0, 0, ALLOW))
    return [(EQUAL, 0, len(body), number), *body]


def install(signals: bool = True) -> None:
    """Put the calling process, and all it starts, under the filter. There is no way back.

    Raises
    ------
    SetupError
        The kernel has no seccomp filters, or this machine no table.
    """
    code = program(os.uname().machine, signals)
    store = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    whole = Program(len(code) // 8, ctypes.addressof(store))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.byref(whole))
