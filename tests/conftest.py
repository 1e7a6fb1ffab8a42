"""Shared fixtures: a run with a known law, and where the real logs are.

The suite runs on all cores (``pytest -n auto``; ``-n 0`` for one process), one thread a process. A result depends
neither on the order of the tests nor on the load of the machine: tests wait for a condition with `wait_until`, and
property tests have no deadline.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

# Before numpy and torch are loaded, which read this once. Two workers with two threads each are slower than with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on the machine's load. CI tests the same examples every time.
settings.register_profile(
    "entlaw",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("entlaw")

PATIENCE = 120.0  # seconds that a test waits for what comes in well under one on an idle machine

REPO = Path(__file__).parents[1]
SHARED = REPO.parent / "shared" / "data" / "runs"

os.environ.setdefault("MPLBACKEND", "Agg")

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="the public logs of ../shared/data/runs are not here (they may not be redistributed)",
)

# Files whose tests start processes and wait for them, some for a minute.
WAITING = {"test_distributed", "test_trl_ranks", "test_watching", "test_kill", "test_push_cli"}


@pytest.hookimpl(optionalhook=True)  # without xdist there is no such hook
def pytest_xdist_auto_num_workers(config):
    """One worker more than cores: a third of the tests wait for other processes, servers and disks."""
    return min((os.cpu_count() or 1) + 1, 8)


def pytest_collection_modifyitems(items):
    """Begin with the tests that wait longest, so that none of them is left alone at the end."""
    items.sort(key=lambda item: item.path.stem not in WAITING)


def interruptible():
    """``preexec_fn`` of a process that is to be interrupted: a test run in the background ignores SIGINT, and so would
    its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(condition, seconds=PATIENCE, every=0.01):
    """The first true value of ``condition()``; fails after ``seconds``, which only a broken program takes."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"nothing came in {seconds:g} s of waiting")
        time.sleep(every)
    return found


def law_records(
    n=61,
    a=0.25,
    b=0.85,
    h0=1.0,
    tau=18.0,
    floor=0.05,
    every=4,
    noise=0.004,
    seed=0,
    entropy=None,
    training_noise=0.01,
):
    """Records of a run that obeys the law: step 0 validated before training, entropy from step 1 on."""
    rng = np.random.default_rng(seed)
    h = entropy if entropy is not None else floor + (h0 - floor) * np.exp(-np.arange(n + 2) / tau)
    records = [
        {"step": 0, "val/accuracy": round(float(b - a * np.exp(h[1]) + noise * rng.standard_normal()), 6)}
    ]
    for t in range(1, n + 1):
        record = {"step": t, "actor/entropy": round(float(h[t]), 6)}
        record["reward/mean"] = round(float(b - a * np.exp(h[t]) + training_noise * rng.standard_normal()), 6)
        if t % every == 0:
            record["val/accuracy"] = round(float(b - a * np.exp(h[t + 1]) + noise * rng.standard_normal()), 6)
        records.append(record)
    return records


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.fixture
def law_log(tmp_path):
    """A JSONL log of a run that obeys the law."""
    return write_jsonl(tmp_path / "metrics.jsonl", law_records())


def pytest_sessionfinish() -> None:
    """The SDK waits at exit for its service process, for ever if that has gone astray."""
    if (wandb := sys.modules.get("wandb")) is not None:
        from entlaw.runs.wandb.sdk import end_service

        end_service(wandb)
