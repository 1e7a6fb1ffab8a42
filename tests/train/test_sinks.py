"""W&B and TensorBoard get the numbers of metrics.jsonl, and their failures stay theirs."""

import logging
import sys
import threading
import types

import numpy as np
import pytest

import entlaw
from entlaw.errors import MissingExtra
from entlaw.runs.reader import read_raw
from entlaw.train import sinks
from entlaw.train.record import MetricsFile
from entlaw.train.schema import Log, Recipe, RunSettings
from entlaw.train.sinks import TensorBoardSink, WandbSink, as_logged, sinks_of
from tests.conftest import PATIENCE, law_records, wait_until


def records(n=25):
    """Of a run that obeys the law, with what a trainer's records hold besides."""
    rng = np.random.default_rng(1)
    out = []
    for r in law_records(n):
        r["cov/mean"] = float(rng.standard_normal()) * 1e-5
        r["perf/tokens"] = int(rng.integers(10**6, 10**8))
        if r["step"] % 7 == 3:
            r["actor/grad_norm"] = float("nan")
        out.append(r)
    return out


def write_all(sinks_, path, rows):
    with MetricsFile.create(path) as file:
        for r in rows:
            file.write(r)
            for sink in sinks_:
                sink.write(r["step"], {k: v for k, v in r.items() if k != "step"})


def frames(path, other):
    """The metrics of both, by step, without what the logger adds itself."""
    (mine,), (theirs,) = entlaw.read(path), entlaw.read(other)
    expected = mine.metrics.drop(columns="actor/grad_norm", errors="ignore")
    assert set(expected) <= set(theirs.metrics)
    return expected, theirs.metrics[expected.columns], mine, theirs


# The real things --------------------------------------------------------------------------------


def test_wandb_offline_is_read_back_with_the_same_values(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "the-run"
    folder.mkdir()
    recipe = Recipe(run=RunSettings(name="nice", seed=5), log=Log(wandb="offline", wandb_group="g"))
    rows = records()
    for part in (rows[:15], rows[12:]):  # stopped after a step that the checkpoint had not, and resumed
        (sink,) = sinks_of(recipe, folder)
        for r in part:
            sink.write(r["step"], {k: v for k, v in r.items() if k != "step"})
        sink.close("finished")
    parts = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(parts) == 2 and len({p.name for p in parts}) == 1  # one id
    write_all([], folder / "metrics.jsonl", rows)
    expected, got, mine, theirs = frames(folder / "metrics.jsonl", folder / "wandb")
    assert list(got.index) == list(expected.index)
    np.testing.assert_array_equal(got.to_numpy(), expected.to_numpy())
    np.testing.assert_array_equal(theirs.points.to_numpy(), mine.points.to_numpy())
    assert theirs.name == "nice" and theirs.config["recipe.run.seed"] == 5
    assert theirs.provenance.format == "wandb-file"


def test_tensorboard_is_read_back_with_the_same_values(tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "the-run"
    folder.mkdir()
    rows = records()
    for part in (rows[:15], rows[12:]):
        (sink,) = sinks_of(Recipe(log=Log(tensorboard=True)), folder)
        for r in part:
            sink.write(r["step"], {k: v for k, v in r.items() if k != "step"})
        sink.close("stopped")
    write_all([], folder / "metrics.jsonl", rows)
    expected, got, mine, theirs = frames(folder / "metrics.jsonl", folder / "tensorboard")
    assert list(got.index) == list(expected.index)
    np.testing.assert_array_equal(got.to_numpy(), expected.to_numpy().astype(np.float32))
    np.testing.assert_allclose(theirs.points.to_numpy(), mine.points.to_numpy(), rtol=1e-7)


def test_tensorboard_itself_reads_it(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for part in ((1, 2, 3), (3, 4)):
        sink = TensorBoardSink(tmp_path)
        for t in part:
            sink.write(t, {"x/y": t + 0.5 + len(part)})
        sink.close("finished")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("x/y")] == [(1, 4.5), (2, 5.5), (3, 5.5), (4, 6.5)]


def test_tensorboard_is_on_the_disk_with_every_record(tmp_path):
    pytest.importorskip("tensorboard")
    sink = TensorBoardSink(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()  # nothing before the first record
    for t in (1, 2, 3):
        sink.write(t, {"actor/entropy": 1 / t, "val/accuracy": 0.5})
        (path,) = (tmp_path / "tb").iterdir()
        (raw,) = read_raw(path)
        assert len(raw.rows) == t
    sink.close("finished")
    sink.close("finished")
    sink.write(4, {"actor/entropy": 1.0})
    (raw,) = read_raw(path)
    assert len(raw.rows) == 3


# Failures ---------------------------------------------------------------------------------------


def test_what_is_logged():
    record = {
        "a": 1.23456789,
        "b": float("nan"),
        "c": None,
        "d": "text",
        "n": 12_345_678,
        "val/accuracy": 1 / 3,
    }
    assert as_logged(record) == {"a": 1.23457, "n": 12_345_678, "val/accuracy": 1 / 3}


def test_nothing_asked_for(tmp_path):
    assert sinks_of(Recipe(), tmp_path) == ()


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        (Log(wandb="offline"), "pip install wandb"),
        (Log(tensorboard=True), r"pip install 'entlaw\[tensorboard\]'"),
    ],
)
def test_not_installed(tmp_path, monkeypatch, log, hint):
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=hint) as caught:
        sinks_of(Recipe(log=log), tmp_path)
    assert caught.value.exit_code == 2


class FakeRun:
    def __init__(self, told, fail_at=None):
        self.told, self.fail_at, self.summary = told, fail_at, {}

    def define_metric(self, *_, **__):
        pass

    def log(self, record):
        if len(self.told) == self.fail_at:
            raise RuntimeError("the service went away")
        self.told.append(record)

    def finish(self, exit_code):
        self.told.append(("finish", exit_code, self.summary["status"]))


def fake_wandb(monkeypatch, init):
    module = types.ModuleType("wandb")
    module.init = init
    module.Settings = type("Settings", (), {"model_fields": {}, "__init__": lambda self, **kw: None})
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(sinks, "find_spec", lambda name: True)


def sink_in(folder, mode="online"):
    return WandbSink(folder, mode=mode, project="p", name="n", config={"path": "/home/someone/model"})


def warnings_of(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("stopped", 0), ("failed", 1)])
def test_how_wandb_is_called(tmp_path, monkeypatch, caplog, status, code):
    told, calls = [], []

    def init(**kw):
        calls.append(kw)
        return FakeRun(told)

    fake_wandb(monkeypatch, init)
    for _ in range(2):  # the second part of a run has the same id
        sink = sink_in(tmp_path)
        sink.write(1, {"a": 0.5})
        sink.close(status)
    assert told == 2 * [{"a": 0.5, "step": 1}, ("finish", code, status)]
    assert calls[0]["id"] == calls[1]["id"] and calls[0]["resume"] == "allow"
    assert calls[0]["config"] == {"path": ".../model"} and calls[0]["dir"] == tmp_path
    assert not caplog.records
    WandbSink(tmp_path, mode="offline", project="p", name="n", config={}).close("finished")
    assert len(calls) == 2  # nothing was written, nothing starts


@pytest.mark.parametrize(
    "error", [RuntimeError("no network"), SystemExit(1), KeyboardInterrupt(), ValueError()]
)
def test_wandb_that_does_not_start(tmp_path, monkeypatch, caplog, error):
    def init(**kw):
        raise error

    fake_wandb(monkeypatch, init)
    sink = sink_in(tmp_path)
    for t in range(25):
        sink.write(t, {"a": 1.0})
    wait_until(sink._off.is_set)
    for t in range(25, 50):
        sink.write(t, {"a": 1.0})
    sink.close("finished")
    (said,) = warnings_of(caplog)
    assert said.startswith("W&B takes no more metrics of this run: ") and "metrics.jsonl is complete" in said


def test_wandb_that_fails_on_the_way(tmp_path, monkeypatch, caplog):
    told = []
    fake_wandb(monkeypatch, lambda **kw: FakeRun(told, fail_at=3))
    sink = sink_in(tmp_path)
    for t in range(10):
        sink.write(t, {"a": 1.0})
    sink.close("finished")
    assert len(told) == 3 and len(warnings_of(caplog)) == 1


def test_wandb_that_hangs_holds_nothing_up(tmp_path, monkeypatch, caplog):
    release = threading.Event()

    def init(**kw):
        release.wait(PATIENCE)  # who waited for this would hear of "too late"
        raise RuntimeError("too late")

    fake_wandb(monkeypatch, init)
    monkeypatch.setattr(sinks, "_CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(sinks, "_MOST_WAITING", 100)
    sink = sink_in(tmp_path)
    for t in range(50):
        sink.write(t, {"a": 1.0})
    sink.close("finished")
    (said,) = warnings_of(caplog)
    assert "did not finish" in said
    release.set()


def test_a_queue_that_fills(tmp_path, monkeypatch, caplog):
    release = threading.Event()
    fake_wandb(monkeypatch, lambda **kw: release.wait(PATIENCE) and FakeRun([]))
    monkeypatch.setattr(sinks, "_MOST_WAITING", 10)
    sink = sink_in(tmp_path)
    for t in range(30):
        sink.write(t, {"a": 1.0})
    (said,) = warnings_of(caplog)
    assert "10 records wait" in said
    release.set()
    sink.close("finished")
    assert len(warnings_of(caplog)) == 1


def test_tensorboard_that_fails(tmp_path, monkeypatch, caplog):
    pytest.importorskip("tensorboard")
    (tmp_path / "tb").write_text("a file where the folder should be")
    sink = TensorBoardSink(tmp_path / "tb")
    for t in range(5):
        sink.write(t, {"a": 1.0})
    sink.close("finished")
    (said,) = warnings_of(caplog)
    assert said.startswith("TensorBoard takes no more metrics")
