"""A single-threaded process that forks one monitor for each request, so that no request waits for an interpreter.

It never sees a program or a test: they travel through descriptors that only the sandboxed process reads.
"""

from __future__ import annotations

# Imported once here, so that programs need not: what solutions commonly use.
import ast  # noqa: F401
import bisect  # noqa: F401
import collections  # noqa: F401
import copy  # noqa: F401
import dataclasses  # noqa: F401
import datetime  # noqa: F401
import decimal  # noqa: F401
import fractions  # noqa: F401
import functools  # noqa: F401
import gc
import hashlib  # noqa: F401
import heapq  # noqa: F401
import itertools  # noqa: F401
import json
import math  # noqa: F401
import os
import random  # noqa: F401
import re  # noqa: F401
import signal
import socket
import string  # noqa: F401
import sys
import typing  # noqa: F401
from typing import Any

from . import monitor


def main() -> None:
    """Serve requests on a socket (argv 1: its descriptor) until its other end closes; or be one cell, under bwrap."""
    if sys.argv[1].startswith("{"):
        job = json.loads(sys.argv[1])
        sys.argv = [""]
        monitor.first(job["spec"], job["fds"])
        return
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.argv = [""]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked, who then closes the socket
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(requests, 1 << 16, 8)
        if not data:
            return
        if os.fork() == 0:
            code = 1
            try:
                requests.close()
                spec: dict[str, Any] = json.loads(data)
                monitor.watch(spec, dict(zip(spec["fds"], fds, strict=True)))
                code = 0
            finally:
                os._exit(code)
        for fd in fds:
            os.close(fd)
