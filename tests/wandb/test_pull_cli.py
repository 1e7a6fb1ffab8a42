"""``entlaw pull`` as a program: tables, exit codes, two at once, Ctrl-C, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entlaw.cli.__main__ import main
from entlaw.runs.wandb.cache import sidecar
from entlaw.runs.wandb.stored import decode
from tests.conftest import PATIENCE, interruptible, law_records, wait_until
from tests.wandb import read_server

one_server = read_server.one_server
server = read_server.server

RECORDS = [{"_step": i, **r} for i, r in enumerate(law_records(n=41))]


def start(*words: object) -> subprocess.Popen[str]:
    """The program in a process of its own; it finds the server by the environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "entlaw.cli", *map(str, words)],
        text=True,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        preexec_fn=interruptible,
    )


def whole(folder: Path) -> list[int]:
    """Rows of every file of a folder; each must be complete, with its note, and nothing else may lie there."""
    files = sorted(folder.glob("*.parquet"))
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        name for p in files for name in (p.name, sidecar(p).name)
    }
    return [len(decode(p, str(p)).rows) for p in files]


def test_pulls_a_project_says_what_and_a_second_time_that_nothing_is_new(server, tmp_path, capsys):
    server.add("r1", RECORDS, display="first run")
    other = [{k: v if k in ("_step", "step") else 0.9 * v for k, v in r.items()} for r in RECORDS[:30]]
    server.add("r2", other, display="second run", state="running")
    out = tmp_path / "new" / "folder"
    assert main(["pull", "wandb:team/proj", "-o", str(out)]) == 0
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert lines[0][:2] == ["run", "state"] and lines[1][:3] == ["first", "run", "finished"]
    assert lines[2][:6] == ["second", "run", "running", "29", "30", "30"]
    assert "2 runs" in told.err and "72 new rows" in told.err
    assert whole(out) == [42, 30]
    assert main(["pull", "wandb:team/proj", "-o", str(out), "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result["schema"] == "entlaw.pulled/1" and told.err == ""
    assert [(run["rows_new"], run["rows"], run["last_step"]) for run in result["runs"]] == [
        (0, 42, 41),
        (0, 30, 29),
    ]
    assert [Path(run["path"]).name for run in result["runs"]] == [
        "r1-first-run.parquet",
        "r2-second-run.parquet",
    ]
    assert main(["fit", str(out), "--json"]) == 0
    assert [run["name"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["first run", "second run"]


def test_keys_and_refresh(server, tmp_path, capsys):
    server.add("r1", RECORDS)
    where = ["wandb:team/proj/r1", "-o", str(tmp_path)]
    assert main(["pull", *where, "--only", "actor/*", "--only", "val/*"]) == 0
    (path,) = tmp_path.glob("*.parquet")
    assert set(decode(path, "").rows.columns) == {"_step", "step", "actor/entropy", "val/accuracy"}
    asked = len(server.asked)
    assert main(["pull", *where, "--refresh"]) == 0
    assert len(server.first_steps(asked)) == 1
    assert set(decode(path, "").rows.columns) == {"_step", *RECORDS[4]}
    assert "0 new rows" in capsys.readouterr().err


def test_what_is_not_there_gives_3_and_the_others_are_pulled(server, tmp_path, capsys):
    server.add("r1", RECORDS)
    assert main(["pull", "wandb:team/proj/r1", "wandb:team/proj/gone", "-o", str(tmp_path), "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["runs"][0]["rows"] == 42 and result["errors"][0]["exit_code"] == 3
    assert "gone" in result["errors"][0]["where"] and whole(tmp_path) == [42]
    assert main(["pull", "wandb:team/proj/gone", "-o", str(tmp_path)]) == 3
    assert "not found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["logs/metrics.jsonl", "-o", "x"], "not a run or project"),
        (["./here", "-o", "x"], "not a run or project"),
        (["wandb:a", "-o", "x"], "not an address"),
        (["wandb:team/proj", "-o", __file__], "no folder"),
        (["wandb:team/proj", "-o", "x", "--limit", "0"], "--limit 0"),
        (["wandb:team/proj", "-o", "x", "--filter", "nonsense"], "nonsense"),
        (["wandb:team/proj"], "-o"),
    ],
)
def test_wrong_calls_give_2_before_anything_is_asked(server, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    asked = len(server.asked)
    assert main(["pull", *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.out == "" and "Traceback" not in shown.err
    assert len(server.since(asked)) == 0 and list(tmp_path.iterdir()) == []


def test_two_programs_at_once_fetch_every_run_once(server, tmp_path):
    for i in range(4):
        server.add(f"r{i}", RECORDS[: 20 + i])
    asked = len(server.asked)
    both = [start("pull", "wandb:team/proj", "-o", tmp_path, "--json") for _ in range(2)]
    results = [(*p.communicate(timeout=PATIENCE), p.returncode) for p in both]
    assert [code for *_, code in results] == [0, 0], results
    new = [sum(run["rows_new"] for run in json.loads(out)["runs"]) for out, *_ in results]
    assert sum(new) == 20 + 21 + 22 + 23
    assert len(server.first_steps(asked)) == 4
    assert whole(tmp_path) == [20, 21, 22, 23] and len(list(tmp_path.iterdir())) == 8


def test_ctrl_c_leaves_whole_files_and_the_next_pull_goes_on(server, tmp_path):
    for i in range(12):
        server.add(f"r{i:02}", RECORDS)
    server.latency = 0.2
    process = start("pull", "wandb:team/proj", "-o", tmp_path)
    wait_until(lambda: list(tmp_path.glob("*.parquet")))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in told, told
    rows = whole(tmp_path) if all(sidecar(p).exists() for p in tmp_path.glob("*.parquet")) else []
    assert len(rows) < 12 and set(rows) <= {42}
    server.latency = 0.0
    assert main(["pull", "wandb:team/proj", "-o", str(tmp_path)]) == 0
    assert whole(tmp_path) == [42] * 12


def test_a_full_disk_is_one_message_and_loses_nothing(server, tmp_path, capsys):
    """A real small file system; skipped where none may be mounted (the cache's own tests then use a limit)."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    try:
        small = server.add("r0", RECORDS, state="running")
        assert main(["pull", "wandb:team/proj/r0", "-o", str(tmp_path)]) == 0
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        wide = [{f"key{k}": (k * i) ** 0.5 for k in range(40)} | row for i, row in enumerate(RECORDS)]
        small.rows = wide
        for i in range(1, 6):
            server.add(f"r{i}", wide)
        capsys.readouterr()
        assert main(["pull", "wandb:team/proj", "-o", str(tmp_path)]) == 2
        told = capsys.readouterr().err
        assert told.count("No space left") == 1 and "Traceback" not in told and "unchanged" in told
        there = {p.name: p.read_bytes() for p in tmp_path.iterdir() if not p.name.startswith(".")}
        assert before.items() <= there.items() or set(before) <= set(there)
        assert set(whole(tmp_path)) <= {42}
    finally:
        time.sleep(0.5)  # what was in flight when the disk was full
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
