"""One worker process of :class:`entlaw.tasks.pool.WorkerPool`: a line of JSON in, a line of JSON out.

Run as ``python -m entlaw.tasks.worker MODULE:FUNCTION CPU_SECONDS GIGABYTES``. The kernel ends the process when an item
has used up its CPU time: a timer with no handler needs no help from Python, so neither a C loop nor a swallowed
exception escapes it, and a busy machine makes no item late.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys


def main(target: str, cpu_seconds: float, gigabytes: float) -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if gigabytes:
        limit = int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        told: dict[str, str | None] = {"status": "failed", "value": f"{type(error).__name__}: {error}"}
    else:
        told = {"status": "ready", "value": None}
    print(json.dumps(told), file=answers, flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        try:
            reply = {"status": "ok", "value": function(*arguments)}
        except (Exception, RecursionError) as error:
            reply = {"status": "error", "value": f"{type(error).__name__}: {error}"[:300]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
