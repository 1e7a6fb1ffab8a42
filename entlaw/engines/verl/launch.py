"""Starting verl: its settings as Hydra writes them, the process, and how it ended."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from entlaw.engines.verl.watching import ENDED
from entlaw.errors import EntlawError, OutOfMemory, UsageError

# What Hydra's grammar takes without quotes, less what it would read as something else.
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_WORDS = {"null", "true", "false", "inf", "nan"}
MODULE = "verl.trainer.main_ppo"
LOG = "console.log"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TAIL = 400
"""Lines kept to find the reason of a failure in: Ray prints a traceback a process."""


class NoDevice(EntlawError, RuntimeError):
    """verl found fewer GPUs than it was asked to use."""

    exit_code = 3


def hydra_value(plain: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, (int, float)):
        return repr(plain)
    if isinstance(plain, (list, tuple)):
        return "[" + ",".join(map(hydra_value, plain)) + "]"
    if isinstance(plain, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in plain.items()) + "}"
    text = str(plain)
    if _BARE.match(text) and text.lower() not in _WORDS:
        return text
    # In single quotes a quote is escaped, and so are the backslashes in front of one or of the end.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    # "${" would begin an interpolation, quoted or not.
    return "'" + re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", escaped) + "'"


def overrides(settings: Mapping[str, Any], extra: Sequence[str] = ()) -> list[str]:
    """Hydra's overrides; ``extra`` come last and win."""
    return [f"{key}={hydra_value(item)}" for key, item in settings.items()] + list(extra)


def command(arguments: Sequence[str]) -> list[str]:
    """The process that trains."""
    return [sys.executable, "-m", MODULE, *arguments]


def shell(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The same for a shell script, an argument a line."""
    front = "".join(f"{key}={shlex.quote(text)} " for key, text in environment.items())
    return front + " \\\n  ".join([f"python3 -m {MODULE}", *map(shlex.quote, arguments)])


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
            "verl ran out of GPU memory",
            where=str(log),
            hint="lower loss.micro_batch or vllm.memory_share, or append "
            "actor_rollout_ref.actor.fsdp_config.param_offload=true behind --",
        )
    last = [line for line in tail if re.match(r"(\(.*?\)\s*)?[\w.]*(Error|Exception)\b", line)]
    return EntlawError(
        f"verl ended with exit code {code}",
        where=str(log),
        why=last[-1][:500] if last else None,
        hint="its log has the traceback",
    )
