"""The runs in runs/: every file is what it says it is, and is made by the script that says it made it."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

import entlaw
from entlaw.errors import FitRefused
from entlaw.runs.run import EntropyMeaning
from entlaw.train import recipe as recipes

RUNS = Path(__file__).parents[1] / "runs"
SHIPPED = sorted(path.parent for path in RUNS.glob("*/run.json"))
VOCABULARY = 19
EVERY_STEP = {
    "actor/entropy",
    "actor/entropy_response_mean",
    "actor/entropy_after",
    "actor/entropy_change",
    "reward/mean",
    "train/accuracy",
    "train/kept_groups",
    "response_length/mean",
    "time/step_s",
}


def script():
    sys.path.insert(0, str(RUNS))
    try:
        spec = importlib.util.spec_from_file_location("make_runs", RUNS / "make.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_runs"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(RUNS))
    return module


MAKE = script()


def lines(folder):
    text = gzip.decompress((folder / "metrics.jsonl.gz").read_bytes()).decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def info(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_ladder_is_shipped():
    assert {f"grpo-{size}-rl0" for size in ("xs", "s", "m", "l", "xl")} <= {f.name for f in SHIPPED}


def test_nothing_is_shipped_that_the_script_does_not_make():
    assert {f.name for f in SHIPPED} <= set(MAKE.runs())


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
class TestShippedRun:
    def test_it_was_made_by_the_settings_the_script_has(self, folder):
        overrides = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in MAKE.runs()[folder.name].items()
        ]
        made, now = recipes.from_dict(info(folder)["recipe"]), recipes.load(None, overrides)
        if (
            made.algorithm.name != "prime"
        ):  # its settings do nothing there, and their defaults have changed since
            made = dataclasses.replace(made, prime=now.prime)
        # How many checkpoints are kept says nothing of the run.
        assert {key for key, *_ in recipes.diff(made, now)} <= recipes.MAY_CHANGE

    def test_it_says_what_it_is(self, folder):
        told = info(folder)
        assert (
            told["schema"] == "entlaw.run/1" and told["framework"] == "entlaw" and told["name"] == folder.name
        )
        assert told["status"] == "finished" and told["wall_s"] > 0
        hints = get_type_hints(EntropyMeaning)
        for name, value in told["entropy_meaning"].items():
            choices = get_args(hints[name])
            assert value in choices or str not in {type(c) for c in choices}
        assert (
            "/home" not in json.dumps(told)
            and "/root" not in json.dumps(told)
            and "/tmp" not in json.dumps(told)
        )

    def test_no_step_is_missing_and_every_number_is_possible(self, folder):
        recipe = info(folder)["recipe"]
        log, steps = lines(folder), recipe["run"]["steps"]
        assert [r["step"] for r in log] == list(range(steps + 2))
        answers = recipe["validation"]["problems"] * recipe["validation"]["samples"]
        for r in log[1:-1]:
            assert r.keys() >= EVERY_STEP
            assert 0 <= r["actor/entropy"] <= math.log(VOCABULARY) and 0 <= r["reward/mean"] <= 1
            assert 1 <= r["response_length/mean"] <= recipe["rollout"]["max_tokens"]
        for r in log:
            assert ("val/accuracy" in r) == (
                r["step"] % recipe["validation"]["every"] == 0 and r["step"] <= steps
            )
            if "val/accuracy" in r:
                assert abs(r["val/accuracy"] * answers - round(r["val/accuracy"] * answers)) < 1e-6
        sampled = recipe["rollout"]["prompts"] * recipe["rollout"]["group_size"]
        for r in log[1:]:
            assert abs(r["train/accuracy"] * sampled - round(r["train/accuracy"] * sampled)) < 1e-6

    def test_the_entropy_after_a_step_is_near_the_one_before_the_next(self, folder):
        """Of the same policy on other samples: far apart, one of them would be of something else."""
        log = lines(folder)
        after = np.array([r["actor/entropy_after"] for r in log[1:-2]])
        before = np.array([r["actor/entropy"] for r in log[2:-1]])
        assert abs(np.mean(after - before)) < 0.03
        assert np.corrcoef(after, before)[0, 1] > 0.5 or np.ptp(before) < 0.3

    def test_the_reader_and_the_fit_take_it(self, folder):
        (run,) = entlaw.read(folder, entlaw.Selection(on="val"))
        assert run.entropy.estimator == "exact" and run.problems == 512 and run.samples == 2
        log = lines(folder)
        assert run.metrics["actor/entropy"].dropna().tolist() == [r["actor/entropy"] for r in log[1:]]
        try:
            fit = entlaw.fit(run)
        except FitRefused as refused:
            assert refused.findings
        else:
            assert fit.ceiling == pytest.approx(fit.b - fit.a)

    def test_packing_again_gives_the_same_bytes(self, folder, tmp_path):
        raw = tmp_path / "raw"
        raw.mkdir()
        (raw / "metrics.jsonl").write_bytes(gzip.decompress((folder / "metrics.jsonl.gz").read_bytes()))
        (raw / "run.json").write_bytes((folder / "run.json").read_bytes())
        MAKE.pack(raw, tmp_path / "packed")
        assert (tmp_path / "packed" / "metrics.jsonl.gz").read_bytes() == (
            folder / "metrics.jsonl.gz"
        ).read_bytes()
