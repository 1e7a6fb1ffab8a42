"""Writing to the loopback server with the real client: what a run logs is read back."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.wandb_server import wait_for
from tests.wandb_server.client import PATH, client, scan

wandb = pytest.importorskip("wandb")

N = 2500  # rows: three pages of the client
ROWS = [{"a": float(i)} | ({"b": float(i)} if i % 3 == 0 else {}) for i in range(N)]
PAGES = ("HistoryPage", "SampledHistoryPage")


@pytest.fixture
def server(wandb_server):
    return wandb_server


# Writing -----------------------------------------------------------------------------------------------------------


def start(run_id="r1", **how):
    return wandb.init(entity="team", project="proj", id=run_id, **how)


def test_what_a_run_logs_is_read_back(server):
    run = start(
        config={"lr": 1, "n": {"x": 2}}, group="g", job_type="j", tags=["t"], name="shown", notes="said"
    )
    run.define_metric("global_step")
    run.define_metric("train/*", step_metric="global_step")
    logged = [{"global_step": 2 * i, "train/a": i / 3, "nest": {"y": i}} for i in range(30)]
    for row in logged:
        run.log(row)
    run.log({"bad": math.nan})
    assert wait_for(lambda: len(server.run(PATH).history()) == 31), "while it runs"
    assert server.run(PATH).state == "running"
    run.finish()
    kept = server.run(PATH)
    assert (kept.state, kept.exit_code, kept.config) == ("finished", 0, {"lr": 1, "n": {"x": 2}})
    assert (kept.group, kept.job_type, kept.tags, kept.display_name, kept.notes) == (
        "g",
        "j",
        ["t"],
        "shown",
        "said",
    )
    # What the client writes is what add_run(step_metric=) writes.
    told = server.add_run("team/proj", "like", step_metric={"train/*": "global_step"}).raw_config
    assert kept.raw_config["_wandb"]["value"]["m"] == told["_wandb"]["value"]["m"]
    rows = scan()
    assert [{k: v for k, v in row.items() if k[0] != "_"} for row in rows[:-1]] == logged
    assert math.isnan(float(rows[-1]["bad"])) and [row["_step"] for row in rows] == list(range(31))
    read = client().run(PATH)
    assert read.summary["train/a"] == 29 / 3 and read.lastHistoryStep == 30
    assert read.history_keys["keys"]["nest.y"]["typeCounts"][0] == {"type": "number", "count": 30}
    kept.export()
    assert len(scan()) == 31 and server.count("export") == 1


def test_a_run_that_fails(server):
    start().finish(exit_code=3)
    assert (server.run(PATH).state, server.run(PATH).exit_code) == ("failed", 3)


def test_resuming(server):
    """``resume="must"`` without a run: ``UsageError: Run (none) does not exist``; ``never`` with one: ``UsageError``
    as well. ``allow`` starts or goes on, at the step after the last, and lines go behind those that are there.
    """
    with pytest.raises(wandb.errors.UsageError, match="does not exist"):
        start("none", resume="must")
    for resume in ("allow", "allow", "must"):
        run = start(resume=resume)
        first = run.starting_step
        assert first == len(server.run(PATH).history()) and run.resumed == (first > 0)
        run.log({"a": float(first)})
        run.log({"a": float(first + 1)})
        run.finish()
    with pytest.raises(wandb.errors.UsageError, match=r"(?i)resume|never|already"):
        start(resume="never")
    rows = scan()
    assert [row["_step"] for row in rows] == list(range(6)) == [row["a"] for row in rows]


@pytest.mark.parametrize(("kind", "how"), [("cut", {}), ("status", {"status": 500})])
def test_lines_that_come_twice_are_there_once(server, kind, how):
    """An answer that was cut off came after the lines were kept: the client sends them again, at the same offset. A
    500 came before. Each time: no error, a second more, every line once.
    """
    run = start()
    fault = server.fault(kind, "file_stream", times=1, after=1, **how)
    for i in range(50):
        run.log({"a": i})
    run.finish()
    assert fault.hits == 1 and server.run(PATH).state == "finished"
    assert [row["a"] for row in scan()] == list(range(50))


def test_lines_at_an_offset_replace_those_that_were_there(server):
    run = server.add_run("team/proj", "r1", ROWS[:5])
    run.write(3, [{"_step": 3, "a": -3.0}, {"_step": 4, "a": -4.0}, {"_step": 5, "a": -5.0}])
    assert [row["a"] for row in scan()] == [0, 1, 2, -3, -4, -5]
    run.write(8, [{"_step": 8, "a": 8.0}])  # before those in front of it have come
    assert [row["_step"] for row in scan()] == [0, 1, 2, 3, 4, 5, 8]
    run.write(6, [{"_step": 6, "a": 6.0}, {"_step": 7, "a": 7.0}])
    assert [row["_step"] for row in scan()] == list(range(9))


def test_tables_images_artifacts_and_alerts(server):
    run = start()
    run.log({"table": wandb.Table(columns=["x", "y"], data=[[1, 0.5], [2, 0.25]])})
    run.log({"picture": wandb.Image(np.zeros((4, 4, 3), np.uint8))})
    run.alert("a title", "a text", level="WARN")
    for text in ('{"a": 1}', '{"a": 2}', '{"a": 2}'):  # what does not change makes no version
        made = wandb.Artifact("fit", "result")
        with made.new_file("fit.json") as out:
            out.write(text)
        run.log_artifact(made).wait()
    run.finish()
    (alert,) = server.alerts
    assert (alert["runName"], alert["title"], alert["text"], alert["severity"]) == (
        "r1",
        "a title",
        "a text",
        "WARN",
    )
    read = client().run(PATH)
    table, picture = read.summary["table"], read.summary["picture"]
    assert (table["_type"], table["nrows"], picture["_type"]) == ("table-file", 2, "image-file")
    with read.file(picture["path"]).download(root="media") as file:
        assert Path(file.name).read_bytes()[:4] == b"\x89PNG"
    with read.file(table["path"]).download(root="media") as file:
        assert json.load(file)["data"] == [[1, 0.5], [2, 0.25]]
    fits_kept = [one for one in server.artifacts.values() if one.name == "fit"]
    assert [(one.version, one.type, one.state) for one in fits_kept] == [
        (0, "result", "COMMITTED"),
        (1, "result", "COMMITTED"),
    ]
    assert fits_kept[1].contents(server) == {"fit.json": b'{"a": 2}'}
    for alias, expected in {"latest": 2, "v0": 1}.items():
        folder = client().artifact(f"team/proj/fit:{alias}").download(root=f"out-{alias}")
        assert json.loads(Path(folder, "fit.json").read_text()) == {"a": expected}
    assert [kind for key, kind in histories_kinds(server) if key in ("table", "picture")] == [
        "table-file",
        "image-file",
    ]


def histories_kinds(server):
    keys = server.run(PATH).history_keys()["keys"]
    return [(key, about["typeCounts"][0]["type"]) for key, about in keys.items()]


def test_a_summary_a_name_and_a_configuration_changed_from_outside(server):
    kept = server.add_run("team/proj", "r1", ROWS[:5], config={"lr": 1})
    run = client().run(PATH)
    run.summary["entlaw/ceiling"] = 0.5
    run.summary.update()
    assert kept.summary["entlaw/ceiling"] == 0.5 and kept.summary["a"] == 4.0, "and what was there stays"
    run.name, run.tags, run.config["new"] = "renamed", ["x"], 3
    run.update()
    again = client().run(PATH)
    assert (again.name, again.tags, again.config) == ("renamed", ["x"], {"lr": 1, "new": 3})
    assert again.summary["entlaw/ceiling"] == 0.5 and kept.state == "finished"
    again.delete()
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        client().run(PATH)


def test_a_run_written_offline_and_synced(server):
    run = start(mode="offline")
    for i in range(40):
        run.log({"a": i, "n": {"x": -i}})
    run.finish()
    assert server.runs == []
    (folder,) = Path(os.environ["WANDB_DIR"], "wandb").glob("offline-run-*-r1")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert server.run(PATH).state == "finished"
    assert [(row["a"], row["n"]["x"]) for row in scan()] == [(i, -i) for i in range(40)]


def test_a_server_that_refuses_to_take_a_run(server):
    """``wandb.init``: ``CommError`` or ``UsageError`` with the server's words, after the one repetition."""
    fault = server.fault("status", "UpsertBucket", status=403, message="read only")
    with pytest.raises(
        (wandb.errors.CommError, wandb.errors.UsageError), match=r"(?i)read only|403|permission"
    ):
        start()
    assert fault.hits >= 1 and server.runs == []
