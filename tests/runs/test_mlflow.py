"""MLflow's file store; the golden run was written by mlflow-skinny 3.17.2 from ``law_records(n=41)``."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.reader import read_raw, scan
from tests.conftest import law_records

GOLDEN = Path(__file__).parent / "golden" / "mlruns"
KEYS = {
    "val-core/gsm8k/acc/mean@4": "val/accuracy",
    "actor/entropy": "actor/entropy",
    "reward/mean": "reward/mean",
}


@pytest.fixture
def store(tmp_path):
    """A copy of the golden store, and the folder of its run."""
    shutil.copytree(GOLDEN, tmp_path / "mlruns")
    (meta,) = (tmp_path / "mlruns").glob("*/*/meta.yaml")
    return tmp_path / "mlruns", meta.parent


@pytest.mark.parametrize("of", ["store", "run", "metrics"])
def test_a_run_reads_as_it_was_logged(store, of):
    root, run = store
    (reading,) = scan({"store": root, "run": run, "metrics": run / "metrics"}[of])
    assert reading.error is None and reading.run is not None and reading.raw is not None
    assert reading.name == "my grpo" and reading.raw.provenance.format == "mlflow"
    assert reading.raw.config == {"lr": "1e-06", "actor/clip": "0.2"}
    records = law_records(n=41)
    metrics = reading.run.metrics
    assert set(metrics.columns) == set(KEYS)
    for ours, logged in KEYS.items():
        expected = {r["step"]: r[logged] for r in records if logged in r}
        found = metrics[ours].dropna()
        assert dict(zip(found.index, found, strict=True)) == expected
    assert reading.run.performance_key == "val-core/gsm8k/acc/mean@4"


def test_two_runs_stay_two(store):
    root, run = store
    other = run.with_name("0" * 32)
    shutil.copytree(run, other)
    (other / "tags" / "mlflow.runName").write_text("second")
    (reading,) = scan(root)  # a copy under another name
    assert "same-run" in [f.code for f in reading.raw.findings]
    for metric in (p for p in (other / "metrics").rglob("*") if p.is_file()):
        lines = [line.split() for line in metric.read_text().splitlines()]
        metric.write_text("".join(f"{t} {0.9 * float(v)} {s}\n" for t, v, s in lines))
    assert sorted(r.name for r in scan(root)) == ["my grpo", "second"]


def test_a_step_logged_again_counts_as_logged_last(store):
    _, run = store
    path = run / "metrics" / "actor" / "entropy"
    late = int(path.read_text().split()[0]) + 10**6
    path.write_text(f"{late} 0.25 7\n" + path.read_text() + f"{late - 5} 0.5 7\n{late} nan 8 model-1\n")
    (raw,) = read_raw(path)
    series = raw.rows.set_index("step")["actor/entropy"]
    assert series[7] == 0.25 and np.isnan(series[8]) and series.index.is_monotonic_increasing


def test_damage_is_told(store):
    _, run = store
    path = run / "metrics" / "actor" / "entropy"
    whole = path.read_bytes()
    path.write_bytes(whole + b"half a line\n1795433771928 word 3\n1795433771928 0.1")
    (raw,) = read_raw(path)
    assert {f.code: f.value for f in raw.findings} == {"lines-unread": 2.0, "truncated-tail": None}
    assert len(raw.rows) == len(whole.splitlines())


def test_the_same_lines_elsewhere_are_no_mlflow_run(store, tmp_path):
    _, run = store
    alone = tmp_path / "entropy"
    shutil.copy(run / "metrics" / "actor" / "entropy", alone)
    with contextlib.suppress(UnreadableSource):
        assert all(raw.provenance.format != "mlflow" for raw in read_raw(alone))
