"""The runs of a real language model in runs/smollm2: made by the recipe beside them, whole, and readable."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

import entlaw
from entlaw.train import recipe as recipes

HERE = Path(__file__).parents[1] / "runs" / "smollm2"
RUNS = {
    "mawps-grpo": [],
    "mawps-clip-cov": ["controls.clip_cov.ratio=0.01", "run.name=smollm2-mawps-clip-cov"],
}
VOCABULARY = 49152


def lines(name):
    return [
        json.loads(line)
        for line in gzip.decompress((HERE / name / "metrics.jsonl.gz").read_bytes()).splitlines()
    ]


def test_all_of_them_are_tested():
    assert {path.parent.name for path in HERE.glob("*/run.json")} == set(RUNS)


@pytest.mark.parametrize(("name", "overrides"), RUNS.items())
class TestRun:
    def test_it_was_made_by_the_recipe_beside_it(self, name, overrides):
        told = json.loads((HERE / name / "run.json").read_text())
        made, now = recipes.from_dict(told["recipe"]), recipes.load(HERE / "mawps.toml", overrides)
        assert {key for key, *_ in recipes.diff(made, now)} <= recipes.MAY_CHANGE
        assert told["status"] == "finished" and told["parameters"] == 134_515_008

    def test_it_is_whole_and_possible(self, name, overrides):
        log = lines(name)
        assert [r["step"] for r in log] == list(range(102))
        for r in log[1:-1]:
            assert 0 < r["actor/entropy"] < math.log(VOCABULARY)
            assert abs(r["reward/mean"] * 64 - round(r["reward/mean"] * 64)) < 1e-3
            assert 0 <= r["rollout/log_prob_difference"] < 0.1 and r["rollout/kl"] >= 0
            assert 0 < r["time/sync_s"] < r["time/step_s"]
        validated = [r for r in log if "val/accuracy" in r]
        assert [r["step"] for r in validated] == list(range(0, 101, 4))
        assert all(abs(r["val/accuracy"] * 384 - round(r["val/accuracy"] * 384)) < 1e-3 for r in validated)

    def test_it_learned(self, name, overrides):
        """Against its own start, by more than the noise of 384 answers (at most 0.026 a validation)."""
        accuracy = [r["val/accuracy"] for r in lines(name) if "val/accuracy" in r]
        assert np.mean(accuracy[-5:]) - accuracy[0] > 3 * 0.026
        entropy = [r["actor/entropy"] for r in lines(name) if "actor/entropy" in r]
        assert entropy[-1] < entropy[0] / 4

    def test_the_law_reads_it_and_takes_care(self, name, overrides):
        (run,) = entlaw.read(HERE / name, entlaw.Selection(on="val"))
        assert run.problems == 96 and run.samples == 4
        fit = entlaw.fit(run)
        assert fit.findings, "these runs are no clean case, and the fit must say so"


def test_the_clip_acted():
    shares = [
        r["clip_cov/effective_ratio"] for r in lines("mawps-clip-cov") if "clip_cov/effective_ratio" in r
    ]
    assert len(shares) > 90 and 0.005 < np.mean(shares) < 0.02
    assert not any("clip_cov/effective_ratio" in r for r in lines("mawps-grpo"))


def test_the_pass_rates_are_those_the_readme_tells_of():
    with open(HERE / "mawps-smollm2-135m.csv") as file:
        rates = [float(row["pass_rate"]) for row in csv.DictReader(file)]
    assert len(rates) == 2065 and sum(rate > 0 for rate in rates) == 176
    assert f"{np.mean(rates):.3f}" == "0.026"
