"""From a folder of binary logs to runs with points: recognition, joining of parts, refusal without history."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from entlaw.errors import MissingSeries
from entlaw.runs import reader
from tests.conftest import law_records
from tests.runs import test_tensorboard as tb
from tests.runs import test_trackio as tk
from tests.runs import wandb_writer as writer

RECORDS = law_records(n=41)


@pytest.fixture
def expected(tmp_path_factory):
    """The same records through another reader: JSON lines."""
    from tests.conftest import write_jsonl

    (run,) = reader.read(write_jsonl(tmp_path_factory.mktemp("jsonl") / "m.jsonl", RECORDS))
    return run.points


def without_step(record):
    return {key: value for key, value in record.items() if key != "step"}


def assert_points(run, expected, exact=True):
    for column in ("step", "entropy", "performance"):
        np.testing.assert_allclose(run.points[column], expected[column], rtol=0 if exact else 1e-6)


def wandb_run(records, offset=0, **keywords):
    rows = [writer.history({"_step": r["step"] - offset, **r}) for r in records]
    return [writer.run("id1", **keywords), *rows]


def test_wandb(tmp_path, expected):
    (tmp_path / "run-id1.wandb").write_bytes(
        writer.frame([*wandb_run(RECORDS, name="my run"), writer.exit_()])
    )
    (run,) = reader.read(tmp_path)
    assert run.name == "my run" and run.provenance.format == "wandb-file"
    assert_points(run, expected)


def test_wandb_resumed_in_two_folders_is_one_run(tmp_path, expected):
    first = wandb_run(RECORDS[:25], started=1_700_000_000)
    second = wandb_run(RECORDS[20:], offset=20, started=1_700_009_000)  # goes over its last steps again
    for folder, parts in (("offline-run-b", first), ("offline-run-a", [*second, writer.exit_()])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run-id1.wandb").write_bytes(writer.frame(parts))
    (run,) = reader.read(tmp_path)
    assert_points(run, expected)
    assert "parts-joined" in {f.code for f in run.findings}


def test_wandb_without_history_says_what_is_missing(tmp_path):
    (tmp_path / "run-id1.wandb").write_bytes(writer.frame([writer.run(), writer.exit_()]))
    with pytest.raises(MissingSeries, match="holds no history"):
        reader.read(tmp_path / "run-id1.wandb")


def tb_events(records, wall):
    return [tb.event(r["step"], wall + r["step"], **without_step(r)) for r in records]


def test_tensorboard_resumed_in_one_folder_is_one_run(tmp_path, expected):
    tb.write(tmp_path / "events.out.tfevents.1700000000.host.1.0", tb_events(RECORDS[:25], 1.7e9))
    tb.write(tmp_path / "events.out.tfevents.1700009000.host.2.0", tb_events(RECORDS[20:], 1.7e9 + 9000))
    (run,) = reader.read(tmp_path)
    # Event files hold float32.
    assert_points(run, expected, exact=False)


def test_tensorboard_runs_in_their_own_folders_stay_apart(tmp_path):
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        events = tb_events(law_records(n=41, seed=seed), 1.7e9)
        tb.write(tmp_path / name / "events.out.tfevents.1700000000.host.1.0", events)
    assert [run.name for run in reader.read(tmp_path)] == ["one", "two"]


def test_trackio(tmp_path, expected):
    steps = [(r["step"], without_step(r)) for r in RECORDS]
    other = [(r["step"], without_step(r)) for r in law_records(n=41, seed=1)]
    tk.project(tmp_path / "p.db", [("r1", "one", {}, steps), ("r2", "two", {}, other)])
    one, two = reader.read(tmp_path / "p.db")
    assert (one.name, two.name) == ("one", "two")
    assert_points(one, expected)
    assert not np.array_equal(two.points["performance"], expected["performance"])


def test_an_sqlite_file_among_logs_is_passed_over(tmp_path):
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    (tmp_path / "run-id1.wandb").write_bytes(writer.frame(wandb_run(RECORDS)))
    assert len(reader.read(tmp_path)) == 1
