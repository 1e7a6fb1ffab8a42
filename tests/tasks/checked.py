"""Functions for worker processes: what a hostile expression does to a computer-algebra system."""

from __future__ import annotations

import os
import time


def double(x):
    """The good case."""
    return 2 * x


def behave(how):
    """Hang, die, fail or answer."""
    if how == "spin":
        while True:
            pass
    if how == "swallow":
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    if how == "power":
        return len(str(10 ** (10**9)))
    if how == "sleep":
        time.sleep(1000)
    if how == "die":
        os._exit(3)
    if how == "memory":
        return len(bytearray(10 * 2**30))
    if how == "deep":
        return behave(how)
    if how == "noise":
        print("\n{}\nnot an answer")
        os.write(1, b"nor this\n")
    return how


def once(path):
    """Dies the first time, as when the kernel takes the memory of a process."""
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os._exit(9)
    return "second time"
