"""SIGKILL at twenty random moments: what goes on is what would have been, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entlaw.train import checkpoint

SETTINGS = [
    "run.steps=150", "policy.size=xs", "warmup.clean_steps=20", "warmup.noisy_steps=5", "warmup.batch_size=32",
    "rollout.prompts=8", "rollout.group_size=4", "loss.mini_batches=2", "validation.every=5", "validation.problems=16",
    "algorithm.name=ppo", "controls.clip_cov.ratio=0.05", "controls.kl_coef=0.01", "checkpoint.every=2",
]  # fmt: skip


def child(folder: Path) -> int:
    """The process id of a training in a fork of this process."""
    from entlaw.train import recipe, runner

    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        runner.train(recipe.load(None, SETTINGS), folder, resume=(folder / "recipe.toml").exists())
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def moved(folder: Path) -> int:
    """Changes whenever a line of metrics is written."""
    try:
        return os.stat(folder / "metrics.jsonl").st_mtime_ns
    except FileNotFoundError:
        return 0


def drive(folder: Path) -> None:
    """Train once in peace and once with kills; runs in a process of its own, which loads torch only once."""
    import transformers  # noqa: F401 - loaded before the forks

    os.environ["ENTLAW_CACHE"] = str(folder / "cache")
    assert os.waitpid(child(folder / "whole"), 0)[1] == 0
    rng, cut, kills, seen = random.Random(0), folder / "cut", 0, []
    while kills < 20:
        before, pid = moved(cut), child(cut)
        while moved(cut) == before and not ended(pid):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))
        if ended(pid):
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        newest = checkpoint.latest(cut).path
        seen.append(None if newest is None else newest.name)
        whole_lines = (cut / "metrics.jsonl").read_text().split("\n")[:-1]
        steps = [json.loads(line)["step"] for line in whole_lines]
        assert steps == list(range(len(steps))), steps  # none lost, none doubled, at any moment
    assert os.waitpid(child(cut), 0)[1] == 0
    print(json.dumps({"kills": kills, "checkpoints": seen}))


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith(("time/", "perf/"))} for r in lines]


@pytest.mark.slow
def test_kill_at_twenty_moments_changes_nothing(tmp_path):
    command = f"from tests.train.test_kill import *; drive(Path({str(tmp_path)!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == 20
    assert len(set(told["checkpoints"])) > 5  # at different moments of the run
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert log(cut) == log(whole)
    assert [r["step"] for r in log(cut)] == list(range(152))
    for name in ("policy/model.safetensors", "policy/config.json"):
        a, b = (checkpoint.latest(f).path / name for f in (whole, cut))
        assert a.read_bytes() == b.read_bytes()
