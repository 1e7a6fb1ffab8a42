"""``entlaw eval --suite`` as a user meets it: tables, resuming after a real kill, every set, bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entlaw.cli.app import run
from tests.conftest import PATIENCE, REPO
from tests.suites_helpers import SHARED, byte_model

SMALL = [
    "run.steps=2",
    "policy.size=xs",
    "warmup.clean_steps=20",
    "warmup.noisy_steps=5",
    "warmup.batch_size=16",
    "rollout.prompts=8",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=0",
]
SUMS = ["--suite", "arithmetic", "--problems", "30", "--samples", "4", "--max-tokens", "6"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs of the smallest model."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ENTLAW_CACHE", str(tmp_path_factory.mktemp("cache")))
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 0), ("b", 1)):
        sets = [part for setting in (*SMALL, f"run.seed={seed}") for part in ("--set", setting)]
        assert run(["train", *sets, "-o", str(folder / name)]) == 0
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def bytes_model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("bytes") / "bytes-model")


def jsonl(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def svamp(n):
    return [{"question": f"What is {i} + {i}?", "result": f"{2 * i}", "problem_type": ""} for i in range(n)]


def test_two_runs_in_one_table_and_nothing_is_sampled_twice(trained, tmp_path, capsys):
    call = ["eval", str(trained / "a"), str(trained / "b"), *SUMS, "-o", str(tmp_path / "out")]
    assert run([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.eval-suite/1" and [r["model"] for r in told["rows"]] == ["a", "b"]
    assert told["differences"][0]["model"] == "b − a"
    assert told["rows"][0]["scores"]["arithmetic"]["samples"] == 4
    files = sorted((tmp_path / "out").glob("*/arithmetic.jsonl"))
    before = [f.read_bytes() for f in files]
    rewards = [[json.loads(line)["reward"] for line in data.splitlines()[1:]] for data in before]
    assert [len(r) for r in rewards] == [120, 120]
    assert sorted(sum(r) / 120 for r in rewards) == pytest.approx(
        sorted(r["scores"]["arithmetic"]["value"] for r in told["rows"])
    )
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == told
    for form, first in (
        ("csv", "model,kind,"),
        ("markdown", "| model | arithmetic |"),
        ("latex", "% needs"),
        ("table", "arithmetic\n"),
    ):
        assert run([*call, "--format", form]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(first) and err.count("120 of them already there") == 2
        name = {"csv": "table.csv", "markdown": "table.md", "latex": "table.tex"}.get(form)
        assert name is None or (tmp_path / "out" / name).read_text() == out
    assert [f.read_bytes() for f in files] == before
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    assert [r["model"] for r in rows] == ["a", "b", "b − a"]


def test_a_changed_setting_is_refused_and_another_folder_takes_it(trained, tmp_path, capsys):
    call = ["eval", str(trained / "a"), *SUMS, "-o", str(tmp_path / "out")]
    assert run(call) == 0
    capsys.readouterr()
    assert run([*call, "--seed", "7"]) == 2
    out, err = capsys.readouterr()
    assert not out and "seed was 12345, is 7" in err and "-o" in err
    assert run([*call[:-1], str(tmp_path / "other"), "--seed", "7"]) == 0


def test_killed_in_the_middle_it_goes_on_to_the_same_table(trained, tmp_path, capsys):
    call = [
        "eval",
        str(trained / "a"),
        "--suite",
        "arithmetic",
        "--problems",
        "120",
        "--samples",
        "4",
        "--max-tokens",
        "6",
        "--batch",
        "4",
        "--json",
    ]
    cut = tmp_path / "cut"
    with subprocess.Popen(
        [sys.executable, "-m", "entlaw.cli", *call, "-o", str(cut)],
        cwd=REPO,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while sum(len(f.read_bytes().splitlines()) for f in cut.glob("*/*.jsonl")) < 40:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    (file,) = cut.glob("*/*.jsonl")
    lines = file.read_bytes().count(b"\n")
    assert 40 <= lines < 481
    with open(file, "ab") as out:
        out.write(b'{"id": "half')
    assert run([*call, "-o", str(cut)]) == 0
    resumed, err = capsys.readouterr()
    assert "half-written-line" in err and "of them already there" in err
    assert run([*call, "-o", str(tmp_path / "whole")]) == 0
    whole = capsys.readouterr().out
    assert resumed == whole
    assert file.read_bytes() == next((tmp_path / "whole").glob("*/*.jsonl")).read_bytes()


def test_the_bar_on_a_terminal(trained, tmp_path):
    import pty

    read, write = pty.openpty()
    call = ["eval", str(trained / "a"), *SUMS, "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "entlaw.cli", *call], cwd=REPO, stdout=subprocess.PIPE, stderr=write
    )
    os.close(write)
    seen = b""
    while True:
        try:
            part = os.read(read, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(read)
    assert process.returncode == 0 and b"a: arithmetic" in seen and b"/120" in seen
    assert out.startswith(b"arithmetic\n") and b"\x1b" not in out


@pytest.mark.skipif(not (SHARED / "problems").is_dir(), reason="../shared/data/problems is not here")
def test_every_set_of_the_papers_table(bytes_model, tmp_path, capsys):
    """Real files; of OMNI-MATH, which is not among them, three made-up rows in its columns."""
    data = tmp_path / "data"
    data.mkdir()
    for path in (SHARED / "problems").iterdir():
        (data / path.name).symlink_to(path)
    call = [
        "eval",
        bytes_model,
        "--suite",
        "paper-math",
        "--problems",
        "2",
        "--samples",
        "3",
        "--max-tokens",
        "4",
        "--data-dir",
        str(data),
        "-o",
        str(tmp_path / "out"),
        "--with-paper",
        "--json",
    ]
    assert run(call) == 3
    told = json.loads(capsys.readouterr().out)
    assert "OMNI-MATH" in told["what"] and "entlaw data fetch omni-math" in told["hint"]
    assert not (tmp_path / "out").exists()  # nothing is sampled before all is there
    jsonl(
        data / "omni-math.jsonl",
        [{"problem": f"P{i}?", "answer": str(i), "solution": "", "difficulty": 5} for i in range(3)],
    )
    assert run(call) == 0
    told = json.loads(capsys.readouterr().out)
    scores = told["rows"][0]["scores"]
    sampled = {name: s["samples"] for name, s in scores.items()}
    assert sampled == {
        "aime24": 3,
        "aime25": 3,
        "amc": 3,
        "math-500": 1,
        "omni-math": 1,
        "olympiadbench": 1,
        "minerva": 1,
    }
    assert all(s["problems"] == 2 and s["value"] == 0 and s["no_answer"] == 1 for s in scores.values())
    assert [s["weight"] for s in told["sets"]] == pytest.approx(
        [n / 8844 for n in (960, 960, 2656, 500, 2821, 675, 272)]
    )
    assert [r["kind"] for r in told["rows"]] == ["measured"] + ["published"] * 8
    lines = next((tmp_path / "out").glob("*/aime24.jsonl")).read_text().splitlines()
    head = json.loads(lines[0])["settings"]
    assert (head["temperature"], head["chat template"], head["limit"]) == (0.6, "yes", 2) and len(lines) == 7


def test_chat_can_be_switched_off_and_makes_another_evaluation(bytes_model, tmp_path, capsys):
    jsonl(tmp_path / "data" / "svamp.jsonl", svamp(3))
    call = [
        "eval",
        bytes_model,
        "--suite",
        "svamp",
        "--max-tokens",
        "3",
        "--data-dir",
        str(tmp_path / "data"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert run([*call, "--no-chat"]) == 0
    capsys.readouterr()
    assert run(call) == 2
    assert "chat template was no, is yes" in capsys.readouterr().err
    jsonl(tmp_path / "data" / "svamp.jsonl", svamp(4))
    assert run([*call, "--no-chat"]) == 2
    assert "data checksum" in capsys.readouterr().err


def test_data_that_is_missing_or_lacks_columns(bytes_model, tmp_path, capsys):
    jsonl(tmp_path / "data" / "svamp.jsonl", [{"question": "What?", "value": 1}])
    call = ["eval", bytes_model, "--data-dir", str(tmp_path / "data"), "-o", str(tmp_path / "out"), "--suite"]
    assert run([*call, "svamp"]) == 3
    assert "no column result" in capsys.readouterr().err
    assert run([*call, "amc,minerva"]) == 3
    assert "data sets are missing: amc, minerva" in capsys.readouterr().err
    assert run([*call[:3], str(tmp_path / "nowhere"), *call[4:], "amc"]) == 3
    assert "does not exist" in capsys.readouterr().err


def test_runs_trained_on_different_sums_need_a_recipe(trained, tmp_path, capsys):
    copy = tmp_path / "c"
    shutil.copytree(trained / "a", copy)
    text = (copy / "recipe.toml").read_text()
    assert "[2, 3, 4, 5, 6]" in text
    (copy / "recipe.toml").write_text(text.replace("[2, 3, 4, 5, 6]", "[2, 3]"))
    call = ["eval", str(trained / "b"), str(copy), *SUMS, "-o", str(tmp_path / "out")]
    assert run(call) == 2
    assert "different sums" in capsys.readouterr().err
    assert run([*call, "--recipe", str(trained / "a" / "recipe.toml")]) == 0


BAD = {
    "no such suite": (["./x", "--suite", "paper-maths"], 2, "no suite or data set"),
    "no such model": (["./x", "--suite", "arithmetic"], 3, "no such folder"),
    "twice": (["./x", "x", "--suite", "arithmetic"], 2, "named twice"),
    "batch": (["./x", "--suite", "svamp", "--batch", "-1"], 2, "--batch"),
    "workers": (["./x", "--suite", "svamp", "--workers", "0"], 2, "--workers"),
    "problems": (["./x", "--suite", "svamp", "--problems", "0"], 2, "--problems"),
    "json and csv": (["./x", "--suite", "svamp", "--format", "csv", "--json"], 2, "exclude"),
    "no published rows": (["./x", "--suite", "svamp", "--with-paper"], 2, "--with-paper"),
    "two without a suite": (["./x", "./y"], 2, "2 checkpoints"),
    "options of a suite": (["./x", "--workers", "3", "--no-chat"], 2, "--chat, --workers without --suite"),
    "temperature": (["./x", "--suite", "svamp", "--temperature", "-1"], 2, "--temperature"),
    "no checkpoint": (["--suite", "svamp"], 2, "CHECKPOINTS"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_message(name, tmp_path, monkeypatch, capsys):
    tokens, code, words = BAD[name]
    monkeypatch.chdir(tmp_path)
    assert run(["eval", *tokens]) == code
    out, err = capsys.readouterr()
    assert words in out + err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_bad_input_about_models(trained, bytes_model, tmp_path, capsys):
    out = ["-o", str(tmp_path / "out")]
    checkpoint = next((trained / "a").glob("checkpoint-*"))
    jsonl(tmp_path / "data" / "svamp.jsonl", svamp(3))
    data = ["--suite", "svamp", "--data-dir", str(tmp_path / "data")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for tokens, code, words in (
        ([str(trained / "a"), str(checkpoint), *SUMS, *out], 2, "are the same model"),
        ([str(trained / "a"), *data, *out], 2, "cannot spell"),
        ([str(tmp_path / "empty"), *data, *out], 3, "no causal language model"),
        ([bytes_model, *data, "--samples", "4", *out], 2, "has no effect"),
        ([bytes_model, *data, "-o", str(tmp_path / "file")], 2, "this is no folder"),
        ([str(trained / "a"), *SUMS, "--engine", "vllm", *out], 2, "vllm"),
    ):
        if "vllm" in tokens and _has_vllm():
            continue
        assert run(["eval", *tokens]) == code
        err = capsys.readouterr().err
        assert words in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def _has_vllm() -> bool:
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def test_help_imports_no_torch():
    code = (
        "import sys, entlaw.cli.app; assert not {'torch', 'transformers', 'scipy.stats'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO).returncode == 0
    assert Path(REPO / "entlaw" / "tasks" / "suites.toml").is_file()
