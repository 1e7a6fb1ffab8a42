"""A run logged offline by the installed SDK, killed hard, resumed: read complete up to the kill, and stitched.

Then synced to a server by the SDK and pulled from there: the server holds what the files hold.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from entlaw.cli.__main__ import main
from entlaw.runs import reader
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.listing import RunRef
from entlaw.runs.wandb.pull import pull_run
from tests.conftest import law_records, write_jsonl
from tests.wandb.write_server import WriteServer

RECORDS = law_records(n=61)
CHECKPOINT, KILLED_AT = 20, 44  # steps


TRAINER = textwrap.dedent(
    """
    import json, sys, warnings
    warnings.simplefilter("ignore")
    import wandb
    records = json.loads(sys.stdin.readline())
    wandb.init(mode="offline", dir=sys.argv[1], project="rl", entity="team", id="killed1", name="killed run",
               resume="allow", config={"algorithm": {"lr": 1e-6}})
    print("training", flush=True)  # a line of the console, which the SDK keeps too
    # As wide as a trainer's rows are: what the SDK has not yet written when it dies is a few steps, not all.
    wide = {f"timing_s/part_{i}": i / 7.0 for i in range(60)}
    for record in records:
        wandb.log(record | wide)
    if sys.argv[2] == "wait":
        print("logged", flush=True)
        sys.stdin.readline()  # never comes
    wandb.finish()
    """
)


def environment(folder: Path) -> dict[str, str]:
    """No account, no telemetry, nothing written outside the test's folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return env | {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "HOME": str(folder),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
    }


def train(folder: Path, records: list[dict], then: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", TRAINER, str(folder), then],
        env=environment(folder),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(records) + "\n")
    process.stdin.flush()
    return process


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder ``wandb/`` of a run that was killed at one step and resumed from the checkpoint of an earlier one."""
    folder = tmp_path_factory.mktemp("offline")
    first = train(folder, RECORDS[: KILLED_AT + 1], "wait")
    assert first.stdout is not None and first.stdin is not None
    try:
        for line in ("training\n", "logged\n"):
            assert first.stdout.readline() == line, first.stderr.read() if first.stderr else ""
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # with the SDK's own service, which would write the rest
        first.communicate()
    (alone,) = folder.glob("wandb/offline-run-*/run-killed1.wandb")
    before = alone.read_bytes()
    second = train(folder, RECORDS[CHECKPOINT + 1 :], "end")
    _, told = second.communicate(timeout=120)
    assert second.returncode == 0, told[-2000:]
    assert alone.read_bytes() == before
    return folder / "wandb"


def steps_in(path: Path) -> np.ndarray:
    (raw,) = reader.read_raw(path)
    return raw.rows["step"].to_numpy()


def test_the_part_that_was_killed_is_an_exact_prefix(killed):
    files = killed.glob("offline-run-*/run-killed1.wandb")
    first, second = sorted(files, key=lambda path: steps_in(path)[0])  # their names may be of one second
    (raw,) = reader.read_raw(first)
    n = len(raw.rows)
    assert CHECKPOINT < n <= KILLED_AT + 1  # the SDK keeps up to a block of 32 KiB to itself
    for key in ("step", "actor/entropy", "reward/mean", "val/accuracy"):
        expected = [record.get(key, np.nan) for record in RECORDS[:n]]
        np.testing.assert_array_equal(raw.rows[key].to_numpy(), expected)
    assert {"crashed-or-running"} <= {f.code for f in raw.findings}
    (rest,) = reader.read_raw(second)
    assert rest.rows["_step"].iloc[0] == 0  # the SDK counts anew offline; the trainer's own step does not
    np.testing.assert_array_equal(rest.rows["step"], np.arange(CHECKPOINT + 1, 62))


def test_two_folders_are_one_run_with_the_law_of_the_whole(killed, tmp_path):
    (run,) = reader.read(killed)
    (whole,) = reader.read(write_jsonl(tmp_path / "whole.jsonl", RECORDS))
    assert run.name == "killed run"
    assert {"parts-joined", "resumed"} <= {f.code for f in run.findings}
    for column in ("step", "entropy", "performance"):
        np.testing.assert_array_equal(run.points[column], whole.points[column])


def test_entlaw_fit_of_the_folder(killed, tmp_path, capsys):
    def fitted(source: Path) -> dict:
        assert main(["fit", str(source), "--json"]) == 0
        (one,) = json.loads(capsys.readouterr().out)["runs"]
        return one["law"]

    assert fitted(killed) == fitted(write_jsonl(tmp_path / "whole.jsonl", RECORDS))


def sync(folder: Path, server: WriteServer, home: Path) -> str:
    """``wandb sync`` of one run's folder; what it says."""
    env = environment(home) | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40}
    del env["WANDB_MODE"], env["WANDB_SILENT"]
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "wandb", "sync", str(folder)],
        cwd=home,  # where it leaves logs of its own
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


@pytest.fixture
def server(tmp_path, monkeypatch):
    made = WriteServer()
    for name, value in (
        environment(tmp_path) | {"WANDB_BASE_URL": made.url, "WANDB_API_KEY": "a" * 40}
    ).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE")
    yield made
    made.close()


def assert_same_numbers(
    server_rows: pd.DataFrame, file_rows: pd.DataFrame, but: tuple[str, ...] = ()
) -> None:
    """Every number of the file is on the server, in the same row."""
    columns = [c for c in file_rows.columns if c not in but]
    assert set(columns) <= set(server_rows.columns)
    for column in columns:
        np.testing.assert_array_equal(
            server_rows[column].to_numpy(), file_rows[column].to_numpy(), err_msg=column
        )


def test_synced_to_a_server_and_pulled_it_is_the_run_of_the_files(killed, tmp_path, server):
    files = sorted(
        killed.glob("offline-run-*/*.wandb"), key=lambda p: reader.read_raw(p)[0].rows["step"].min()
    )
    home = tmp_path / "home"
    shutil.copytree(killed, tmp_path / "wandb")
    first, second = (tmp_path / "wandb" / p.parent.name for p in files)
    parts = [reader.read_raw(p)[0].rows for p in files]
    client, ref = Client(), RunRef("team", "rl", "killed1")

    sync(first, server, home)  # what is whole; a record cut in two the SDK leaves out, as we do
    pulled = pull_run(client, ref, tmp_path / "pulled")
    assert pulled.rows == len(parts[0])
    (raw,) = reader.read_raw(pulled.path)
    assert raw.config["algorithm.lr"] == 1e-6 and raw.name == "killed run"
    assert_same_numbers(raw.rows, parts[0])

    sync(second, server, home)
    pulled = pull_run(client, ref, tmp_path / "pulled")
    assert (pulled.rows_new, pulled.state) == (len(parts[1]), "finished")
    (raw,) = reader.read_raw(pulled.path)
    # On the way the SDK lets the second part count on from the first; so does the clock.
    assert raw.rows["_step"].tolist() == list(range(pulled.rows))
    behind = raw.rows.iloc[len(parts[0]) :].reset_index(drop=True)
    assert_same_numbers(behind, parts[1], but=("_step", "_runtime"))

    (run,) = reader.read(tmp_path / "pulled")
    (whole,) = reader.read(write_jsonl(tmp_path / "whole.jsonl", RECORDS))
    for column in ("step", "entropy", "performance"):
        np.testing.assert_array_equal(run.points[column], whole.points[column])
    assert "resumed" in {f.code for f in run.findings}
