"""Several ranks of torch.distributed on this machine, without a launcher that would look after them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

REPO = Path(__file__).parents[1]


def ranks(*arguments: object, n: int = 2, timeout: float = 1200.0) -> list[tuple[int, str]]:
    """Run ``python *arguments`` on ``n`` ranks; (exit code, stderr) of each.

    They meet at a store that this process keeps, as under torchrun. Its port is bound here: a number that is looked up
    first and bound by a rank later may be another test's by then.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        **os.environ,
        "WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPO),
    }
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as torchrun's are
        )
        for r in range(n)
    ]
    try:
        return [(p.returncode, told) for p in started for told in [p.communicate(timeout=timeout)[1]]]
    finally:
        for p in started:
            p.kill()
            p.wait()
