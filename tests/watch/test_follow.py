"""Following a log while it is written: in any pieces, over truncation and resumption, until it is over."""

import functools
import gzip
import itertools
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.cli.output import plain
from entlaw.errors import EntlawError
from entlaw.runs.ending import planned_steps
from entlaw.watch.course import course
from entlaw.watch.follow import Follower
from entlaw.watch.watcher import Watcher
from tests.conftest import law_records, write_jsonl

TEXT = "".join(json.dumps(r) + "\n" for r in law_records(n=61, noise=0.004)).encode()


def make(seen):
    return Watcher(80, name="x", stop_when="P(gain > 1%) < 0.05")


def reports(events):
    return [json.dumps(plain(e.report.to_dict())) for e in events if e.report is not None]


def whole():
    """The last report on `TEXT`."""
    return at_once("log.jsonl")


class Clock:
    """A clock that moves when somebody sleeps; each time something may happen to the files."""

    def __init__(self, *happenings):
        self.now, self.happenings = 0.0, list(happenings)

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.happenings:
            self.happenings.pop(0)()


def console(records):
    return "".join(
        "step:{} - ".format(r["step"]) + " - ".join(f"{k}:{v}" for k, v in r.items() if k != "step") + "\n"
        for r in records
    ).encode()


def table(records):
    return pd.DataFrame(records).to_csv(index=False).encode()


def wandb_file(records):
    from tests.runs import wandb_writer as writer

    rows = [writer.history({"_step": r["step"], **r}) for r in records]
    return writer.frame([writer.run("id1"), *rows, writer.exit_()])


def event_file(records):
    from tests.runs import test_tensorboard as tb

    events = [tb.event(r["step"], **{k: v for k, v in r.items() if k != "step"}) for r in records]
    return b"".join(tb.framed(e) for e in (tb.version(), *events))


WRITERS = {
    "log.jsonl": lambda records: TEXT,
    "log.jsonl.gz": lambda records: gzip.compress(TEXT, mtime=0),
    "log.csv": table,
    "verl.log": console,
    "run-id1.wandb": wandb_file,
    "events.out.tfevents.1.host": event_file,
}


# A text, a table and two containers in every run; the other two are of their kinds.
LONG = {"log.jsonl.gz", "verl.log"}


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in WRITERS])
def written(request):
    """A log's name and its bytes."""
    return request.param, WRITERS[request.param](law_records(n=31, noise=0.004))


def without_cuts(report):
    """A report says of the file's end what was true at the last new point; whole files have no such finding."""
    told = json.loads(report)
    told["findings"] = [f for f in told["findings"] if not f["code"].startswith("truncated")]
    return told


@functools.cache
def at_once(name):
    """The last report on a whole log of this name, made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(WRITERS[name](law_records(n=31, noise=0.004)))
        return reports(course(Follower([str(path)]), make, once=True))[-1]


@given(data=st.data())
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_written_in_any_pieces_ends_in_the_same_reports(tmp_path, written, data):
    name, content = written
    cuts = data.draw(st.lists(st.integers(1, len(content) - 1), max_size=6, unique=True))
    path = tmp_path / name
    edges = [0, *sorted(cuts), len(content)]
    path.write_bytes(content[: edges[1]])

    def write(end):
        def happen():
            path.write_bytes(content[:end])
            os.utime(path, (1, 1))  # a clock that stands still: the size tells

        return happen

    clock = Clock(*(write(end) for end in edges[2:]))
    pieces = course(Follower([str(path)]), make, every=1, until_idle=3, clock=clock, sleep=clock.sleep)
    assert without_cuts(reports(pieces)[-1]) == without_cuts(at_once(name))


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path):
    path = tmp_path / "later.jsonl"
    clock = Clock(lambda: None, lambda: path.write_bytes(b""), lambda: path.write_bytes(TEXT))
    events = list(course(Follower([str(path)]), make, every=1, until_idle=3, clock=clock, sleep=clock.sleep))
    waiting = [e.text for e in events if e.kind == "waiting"]
    assert len(waiting) == 2 and "no such file" in waiting[0] and "empty" in waiting[1]  # each told once
    assert reports(events)[-1] == whole()
    assert events[-1].kind == "end" and events[-1].text == "idle"


def test_nothing_is_read_when_nothing_changed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT)
    follower = Follower([str(path)])
    assert follower.look().seen and not follower.look().changed
    os.utime(path, (5, 5))
    assert follower.look().changed
    path.with_suffix(".new").write_bytes(TEXT[:-20])
    os.replace(path.with_suffix(".new"), path)  # rotated: another inode
    assert follower.look().changed


def test_a_deleted_log_is_trouble_and_may_come_back(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT[: len(TEXT) // 2])
    clock = Clock(path.unlink, lambda: path.write_bytes(TEXT))
    events = list(course(Follower([str(path)]), make, every=1, until_idle=3, clock=clock, sleep=clock.sleep))
    assert any(e.kind == "trouble" and "no such file" in e.text for e in events)
    assert reports(events)[-1] == whole()


def test_a_second_run_appears_in_the_folder(tmp_path):
    write_jsonl(tmp_path / "one.jsonl", law_records(n=41))
    clock = Clock(lambda: write_jsonl(tmp_path / "two.jsonl", law_records(n=41, seed=4)))
    watched = {}
    list(
        course(
            Follower([str(tmp_path)]),
            make,
            every=1,
            until_idle=3,
            clock=clock,
            sleep=clock.sleep,
            watched=watched,
        )
    )
    assert sorted(w.name for w in watched.values()) == ["one", "two"]


def test_a_resumed_run_is_told_anew(tmp_path):
    first = law_records(n=61)
    again = [r for r in law_records(n=81, seed=5) if r["step"] > 40]
    path = write_jsonl(tmp_path / "a.jsonl", first)
    clock = Clock(lambda: write_jsonl(path, first + again))
    events = list(course(Follower([str(path)]), make, every=1, until_idle=3, clock=clock, sleep=clock.sleep))
    steps = [e.report.step for e in events if e.report is not None]
    back = next(i for i in range(1, len(steps)) if steps[i] <= steps[i - 1])
    assert steps[back] in (41, 45) and steps[-1] == 81


def test_it_ends_when_our_trainer_says_so(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    info = {"schema": "entlaw.run/1", "status": "running", "recipe": {"run": {"steps": 500}}}
    (folder / "run.json").write_text(json.dumps(info))
    write_jsonl(folder / "metrics.jsonl", law_records(n=41))
    done = lambda: (folder / "run.json").write_text(json.dumps({**info, "status": "failed"}))  # noqa: E731
    clock = Clock(lambda: None, done)
    events = list(course(Follower([str(folder)]), make, every=1, clock=clock, sleep=clock.sleep))
    assert [e.text for e in events if e.kind == "status"] == [
        "metrics is running",
        "metrics is failed",
    ] or events
    assert events[-1].kind == "end" and events[-1].text == "run-over"
    assert clock.now == 2


def test_it_ends_at_the_last_step_and_by_the_rule(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", law_records(n=61))
    *_, end = course(Follower([str(path)]), lambda seen: Watcher(60), every=1)
    assert end.text == "steps-done"
    *_, end = course(
        Follower([str(path)]), lambda seen: Watcher(600, stop_when="step > 5", least_points=3), every=1
    )
    assert end.text == "stop-rule" and end.watched.watcher.stopped.fired


def test_a_real_writer_in_another_thread(tmp_path):
    path = tmp_path / "a.jsonl"

    def write():
        with path.open("wb", buffering=0) as out:
            for piece in np.array_split(np.frombuffer(TEXT, dtype=np.uint8), 40):
                out.write(piece.tobytes())
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    looks = itertools.count(1)
    idle = lambda: 0 if writer.is_alive() else next(looks)  # noqa: E731 - however long the writer takes
    writer.start()
    events = list(course(Follower([str(path)]), make, every=0.02, until_idle=3, clock=idle))
    writer.join()
    assert reports(events)[-1] == whole()


def test_what_can_never_be_watched_is_said_at_once(tmp_path):
    with pytest.raises(EntlawError):
        list(course(Follower(["https://wandb.ai/"]), make, every=1, once=True))


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({"recipe.run.steps": 240}, 240),
        ({"trainer.total_training_steps": "435"}, 435),
        ({"trainer.total_training_steps": "None", "max_steps": 100}, 100),
        ({"max_steps": -1}, None),
        ({}, None),
    ],
)
def test_where_a_run_will_end_as_its_configuration_tells(config, steps):
    assert planned_steps(config) == steps


def test_shipped_runs_tell_where_they_end():
    from tests.conftest import REPO

    (run,) = entlaw.read(REPO / "runs" / "grpo-m-rl0")
    assert planned_steps(run.config) == 240
