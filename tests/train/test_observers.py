"""What looks at a run from within: its numbers in every log, stopping, going on, and never the end of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.train import checkpoint, runner  # noqa: E402
from entlaw.train.observers import Observers, as_read  # noqa: E402
from entlaw.train.record import MetricsFile  # noqa: E402
from entlaw.train.schema import Checkpoint, Loss, Policy, Recipe, Rollout, RunSettings, Validation, Warmup  # noqa: E402

SMALL = Recipe(
    run=RunSettings(steps=4),
    policy=Policy(size="xs"),
    warmup=Warmup(clean_steps=30, noisy_steps=5, batch_size=32),
    rollout=Rollout(prompts=8, group_size=4),
    loss=Loss(mini_batches=2),
    validation=Validation(every=2, problems=16, samples=2),
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One warm-up for all tests of this file."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ENTLAW_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def records(folder):
    """The log without what a clock decides."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if not k.startswith(("time/", "perf/"))} for r in lines]


def weights(folder):
    return (checkpoint.latest(folder).path / "policy" / "model.safetensors").read_bytes()


def without(log):
    return [{k: v for k, v in r.items() if not k.startswith("entlaw/")} for r in log]


class Mean:
    """Has a memory: the mean entropy so far, to its last bit. May ask to stop at a step."""

    def __init__(self, stop_at=None):
        self.values, self.stop_at, self.steps, self.seen = [], stop_at, [], []

    def observe(self, step, record):
        self.steps.append(step)
        self.seen.append(dict(record))
        if "actor/entropy" in record:
            self.values.append(record["actor/entropy"])
        return {"entlaw/mean": sum(self.values) / len(self.values), "elsewhere": 1.0} if self.values else {}

    @property
    def stop(self):
        return "enough" if self.stop_at in self.steps else None


class Broken:
    """Fails whenever it can."""

    def observe(self, step, record):
        raise RuntimeError("broken")

    @property
    def stop(self):
        raise RuntimeError("broken too")


class Sink:
    """A sink that keeps."""

    def __init__(self):
        self.rows = []

    def write(self, step, record):
        self.rows.append((step, dict(record)))

    def close(self, status):
        self.status = status


def test_what_an_observer_adds_goes_into_every_log_and_is_not_shown_to_it(tmp_path):
    observer, sink, heard = Mean(), Sink(), []
    outcome = runner.train(
        SMALL, tmp_path / "a", observers=[observer], sinks=[sink], on_record=lambda t, r: heard.append((t, r))
    )
    log = records(tmp_path / "a")
    assert [r["step"] for r in log if "entlaw/mean" in r] == [1, 2, 3, 4, 5]
    entropies = [r["actor/entropy"] for r in log[1:]]
    assert log[5]["entlaw/mean"] == pytest.approx(sum(entropies) / 5, rel=1e-5)
    assert [r["entlaw/mean"] for t, r in sink.rows if t] == [r["entlaw/mean"] for t, r in heard if t]
    assert outcome.last["entlaw/mean"] == sink.rows[-1][1]["entlaw/mean"]
    assert not any("elsewhere" in r for r in log), "only keys of its own"
    assert observer.steps == [0, 1, 2, 3, 4, 5]
    assert not any(k.startswith("entlaw/") for seen in observer.seen for k in seen)
    logged = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    for seen, row in zip(observer.seen, logged, strict=True):
        assert seen == {k: v for k, v in row.items() if k != "step" and not k.startswith("entlaw/")}


def test_the_run_is_the_same_whether_it_is_observed_or_not(tmp_path):
    runner.train(SMALL, tmp_path / "a")
    runner.train(SMALL, tmp_path / "b", observers=[Mean()])
    assert without(records(tmp_path / "b")) == records(tmp_path / "a")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_stop_and_resume_equals_no_stop_with_what_observers_add(tmp_path):
    recipe = replace(SMALL, checkpoint=Checkpoint(every=3))
    runner.train(recipe, tmp_path / "whole", observers=[Mean()])

    class Enough(Exception):
        pass

    def stop_at(step, record):
        if step == limit:
            raise Enough

    for limit in (1, 4):
        with pytest.raises(Enough):
            runner.train(recipe, tmp_path / "cut", resume=limit != 1, on_record=stop_at, observers=[Mean()])
    runner.train(recipe, tmp_path / "cut", resume=True, observers=[Mean()])
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_an_observer_stops_the_run_with_a_checkpoint_and_a_reason(tmp_path):
    recipe = replace(SMALL, checkpoint=Checkpoint(every=100))
    sink = Sink()
    outcome = runner.train(recipe, tmp_path / "a", observers=[Mean(stop_at=2)], sinks=[sink])
    assert (outcome.status, outcome.step, outcome.reason) == ("stopped", 2, "enough")
    assert outcome.signal_number is None and sink.status == "stopped"
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (info["status"], info["step"], info["reason"]) == ("stopped", 2, "enough")
    assert checkpoint.latest(tmp_path / "a").path.name.endswith("2")
    before = records(tmp_path / "a")
    again = runner.train(recipe, tmp_path / "a", resume=True, observers=[Mean(stop_at=2)])
    assert (again.status, again.step, again.reason) == ("stopped", 2, "enough"), "not one step more"
    assert records(tmp_path / "a") == before
    runner.train(recipe, tmp_path / "a", resume=True, observers=[Mean()])
    runner.train(recipe, tmp_path / "b", observers=[Mean()])
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert "reason" not in json.loads((tmp_path / "a" / "run.json").read_text())


def test_a_stop_at_the_last_step_is_the_end(tmp_path):
    outcome = runner.train(SMALL, tmp_path / "a", observers=[Mean(stop_at=4)])
    assert (outcome.status, outcome.reason) == ("finished", "")


def test_an_observer_that_fails_is_a_warning_once(tmp_path):
    told = []
    runner.train(SMALL, tmp_path / "a", observers=[Broken(), Mean()], on_finding=told.append)
    failed = [f for f in told if f.code == "observer-failed"]
    assert len(failed) == 1 and failed[0].severity == "warning" and "RuntimeError: broken" in failed[0].what
    assert [r["step"] for r in records(tmp_path / "a") if "entlaw/mean" in r] == [1, 2, 3, 4, 5]


def test_numbers_that_are_none_are_left_out():
    class Odd:
        stop = None

        def observe(self, step, record):
            return {"entlaw/nan": float("nan"), "entlaw/inf": float("inf"), "entlaw/x": 2}

    assert Observers([Odd()], print).observe(1, {}) == {"entlaw/x": 2.0}


def test_a_record_is_shown_as_it_is_read_back(tmp_path):
    record = {
        "a": 0.123456789,
        "val/accuracy": 1 / 3,
        "nothing": float("nan"),
        "t": torch.tensor(0.1),
        "s": "x",
    }
    with MetricsFile.create(tmp_path / "metrics.jsonl") as file:
        file.write({"step": 3, **record, "entlaw/a": 1.0})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    back = {k: v for k, v in json.loads(line).items() if isinstance(v, float)}
    assert as_read(record) == {k: v for k, v in back.items() if k != "entlaw/a"}
    assert as_read(record)["a"] == 0.123457 and as_read(record)["val/accuracy"] == 1 / 3


def test_a_torn_last_line_is_no_record(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'{"step": 1, "actor/entropy": 0.5}\n{"step": 2, "act')
    observer = Mean()
    Observers([observer], print).replay(tmp_path / "m.jsonl")
    assert observer.steps == [1]


def test_a_run_that_is_not_watched_does_not_import_the_law():
    code = "import sys, entlaw.train.runner, entlaw.train.observers; print('entlaw.law.fit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
