"""SIGKILL at random moments: what goes on is what would have been, bit for bit."""

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
    "policy.size=xs",
    "warmup.clean_steps=20",
    "warmup.noisy_steps=5",
    "warmup.batch_size=32",
    "rollout.prompts=8",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=5",
    "validation.problems=16",
    "algorithm.name=ppo",
    "controls.clip_cov.ratio=0.05",
    "controls.kl_coef=0.01",
    "checkpoint.every=2",
]


def child(folder: Path, steps: int) -> int:
    """The process id of a training in a fork of this process."""
    from entlaw.train import recipe, runner

    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        runner.train(
            recipe.load(None, [*SETTINGS, f"run.steps={steps}"]),
            folder,
            resume=(folder / "recipe.toml").exists(),
        )
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def newest_step(folder: Path) -> int:
    """Of the last whole line of metrics; -1 before there is one."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return -1
    return json.loads(lines[-1])["step"] if lines else -1


def drive(folder: Path, kills: int, steps: int) -> None:
    """Train once in peace and once with kills; runs in a process of its own, which loads torch only once.

    The k-th kill comes a moment after a step of the k-th part of the run, so that neither a fast nor a slow machine
    puts them all into the same part, or behind the end.
    """
    # Loaded before the forks: else each child would load torch anew, which takes longer than its training.
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

    from entlaw.train import recipe, runner  # noqa: F401

    os.environ["ENTLAW_CACHE"] = str(folder / "cache")
    assert os.waitpid(child(folder / "whole", steps), 0)[1] == 0
    rng, cut, seen = random.Random(0), folder / "cut", []
    for kill in range(kills):
        until, pid = kill * (steps - 10) // kills + rng.randrange(3), child(cut, steps)
        while newest_step(cut) < until:
            assert not ended(pid), (kill, until)
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))  # about a step
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        newest = checkpoint.latest(cut).path
        seen.append(None if newest is None else newest.name)
        whole_lines = (cut / "metrics.jsonl").read_text().split("\n")[:-1]
        logged = [json.loads(line)["step"] for line in whole_lines]
        assert logged == list(range(len(logged))), logged  # none lost, none doubled, at any moment
    assert os.waitpid(child(cut, steps), 0)[1] == 0
    print(json.dumps(seen))


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith(("time/", "perf/"))} for r in lines]


@pytest.mark.parametrize(("kills", "steps"), [(4, 30), pytest.param(20, 150, marks=pytest.mark.slow)])
def test_kills_change_nothing(tmp_path, kills, steps):
    command = f"from tests.train.test_kill import *; drive(Path({str(tmp_path)!r}), {kills}, {steps})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoints = json.loads(done.stdout.splitlines()[-1])
    assert len(checkpoints) == kills
    assert len(set(checkpoints)) > kills // 2  # at different moments of the run
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert log(cut) == log(whole)
    assert [r["step"] for r in log(cut)] == list(range(steps + 2))
    for name in ("policy/model.safetensors", "policy/config.json"):
        a, b = (checkpoint.latest(f).path / name for f in (whole, cut))
        assert a.read_bytes() == b.read_bytes()
