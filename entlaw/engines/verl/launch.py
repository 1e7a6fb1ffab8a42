"""Starting verl, and what became of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from entlaw.engines.verl.command import command
from entlaw.engines.verl.watching import ENDED
from entlaw.errors import EntlawError, OutOfMemory, UsageError

LOG = "console.log"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TAIL = 400
"""Lines kept to find the reason of a failure in: Ray prints a traceback a process."""


class NoDevice(EntlawError, RuntimeError):
    """verl found fewer GPUs than it was told to use."""

    exit_code = 3


def launch(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Run verl until it ends; its output goes to stderr and, appended, to ``console.log`` in the run's folder.

    Returns
    -------
    int
        0, 5 if a stop rule ended it before its last step, or 128 + the signal that stopped it.

    Raises
    ------
    NoDevice, OutOfMemory, EntlawError
        What verl died of.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / LOG).open("ab")
    except OSError as error:
        raise UsageError(
            f"the log cannot be written: {error.strerror}", where=str(folder), hint="choose -o"
        ) from error
    tail: deque[str] = deque(maxlen=_TAIL)
    env = {"HYDRA_FULL_ERROR": "1", **os.environ, **environment, "PYTHONUNBUFFERED": "1"}
    stopped: list[int] = []
    ended = False
    with log:
        process = subprocess.Popen(
            command(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )

        def stop(number: int, frame: FrameType | None) -> None:
            # Once politely: Ray ends its actors. The second time the whole process group goes.
            os.killpg(process.pid, signal.SIGTERM if not stopped else signal.SIGKILL)
            stopped.append(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    log.write(line)
                    log.flush()
                    text = line.decode("utf-8", "replace")
                    sys.stderr.write(text)
                    tail.append(_COLOUR.sub("", text).rstrip())
                    ended = ended or ENDED.search(text) is not None
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if stopped:
        return 128 + stopped[0]
    if code:
        raise explained(list(tail), code, folder / LOG)
    return 5 if ended else 0


def explained(tail: Sequence[str], code: int, log: Path) -> EntlawError:
    """What verl's last lines say, for people."""
    text = "\n".join(tail)
    if found := re.search(r"Total available GPUs ([\d.]+) is less than total desired GPUs ([\d.]+)", text):
        have, want = (int(float(number)) for number in found.groups())
        return NoDevice(
            f"verl needs {want} GPUs and Ray has {have}",
            where=str(log),
            why="verl's training engines and samplers do not exist for CPUs",
            hint="run it where there are GPUs (--nodes, --gpus-per-node and --ray say which), or by `entlaw train`",
        )
    if re.search(r"CUDA out of memory|OutOfMemoryError", text):
        return OutOfMemory(
            "verl ran out of GPU memory", where=str(log),
            hint="lower loss.micro_batch or vllm.memory_share, or append "
            "actor_rollout_ref.actor.fsdp_config.param_offload=true behind --",
        )  # fmt: skip
    last = [line for line in tail if re.match(r"(\(.*?\)\s*)?[\w.]*(Error|Exception)\b", line)]
    return EntlawError(
        f"verl ended with exit code {code}", where=str(log), why=last[-1][:500] if last else None,
        hint="its log has the traceback",
    )  # fmt: skip
