"""``entlaw watch`` as scripts and people meet it."""

import json
import os
import signal
import subprocess
import sys

import pytest

import entlaw
from entlaw.cli.__main__ import main
from entlaw.cli.output import plain
from tests.conftest import PATIENCE, REPO, interruptible, law_records, write_jsonl

RULE = "P(gain > 1%) < 0.05"


def run(capsys, *args):
    code = main(["watch", *map(str, args)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.fixture
def log(tmp_path):
    return write_jsonl(tmp_path / "run.jsonl", law_records(n=61, noise=0.003))


def test_once_on_a_pipe_prints_one_plain_line(capsys, log):
    code, out, err = run(capsys, log, "--once", "--total-steps", 80)
    assert code == 0 and err == ""
    assert len(out.splitlines()) == 1 and out.startswith("run step 61") and "\x1b" not in out
    assert "law's ceiling 0." in out and "forecast 0." in out and "at step 80" in out


def test_json_lines_agree_with_the_library(capsys, log):
    code, out, _ = run(capsys, log, "--once", "--json", "--total-steps", 80, "--stop-when", RULE)
    report, end = map(json.loads, out.splitlines())
    assert code == 0
    last = {key: report[key] for key in ("name", "step", "state", "verdict")}
    runs = [last | {"status": None, "forecast": {"verdict": report["forecast"]["verdict"]}}]
    assert end == {"schema": "entlaw.watch.end/2", "why": "once", "name": None, "runs": runs}
    watcher = entlaw.Watcher(80, stop_when=RULE)
    watcher.look(entlaw.read(log)[0])
    assert report["schema"] == "entlaw.watch/2"
    assert report == json.loads(json.dumps(plain(watcher.report.to_dict())))


def test_the_rule_ends_it_with_5(capsys, log):
    code, _, err = run(capsys, log, "--stop-when", "step > 5", "--patience", 2, "--total-steps", 900)
    assert code == 5
    assert (
        "the stop rule fired at step 33 of run: step > 5" in err
    )  # the eighth point, then: it was held long before


def test_a_rule_about_what_is_left_does_not_fire_where_the_run_ends(capsys, log):
    """At the last step nothing is left to gain in any run: that is no stop."""
    code, out, _ = run(
        capsys, log, "--stop-when", "step > 59", "--patience", 1, "--total-steps", 60, "--json"
    )
    report, end = map(json.loads, out.splitlines())
    assert code == 0 and end["why"] == "steps-done"
    assert not report["stop"]["fired"] and report["stop"]["why"] == "the run is over"


def test_a_finished_run_ends_by_itself(capsys):
    code, out, err = run(capsys, REPO / "runs" / "grpo-m-rl0")
    assert code == 0 and "is finished" in err and "the run is over" in err
    assert len(out.splitlines()) == 1


def test_several_runs(capsys, tmp_path):
    logs = [write_jsonl(tmp_path / f"{name}.jsonl", law_records(n=33)) for name in ("one", "two")]
    code, out, _ = run(capsys, *logs, "--json", "--total-steps", 33)
    assert code == 0
    assert [json.loads(line).get("name") for line in out.splitlines()[:2]] == ["one", "two"]


def test_a_run_without_entropy_is_watched_and_says_so(capsys, tmp_path):
    log = write_jsonl(tmp_path / "a.jsonl", [{"step": i, "loss": 1.0} for i in range(9)])
    code, out, _ = run(capsys, log, "--once")
    assert code == 3 and out == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--stop-when", "P(gain > 1%"], "cannot be read"),
        (["--stop-when", "P(final < target) > 0.9"], "no target"),
        (["--every", "soon"], "no duration"),
        (["--every", "0s"], "longer than nothing"),
        (["--until-idle", "x"], "no duration"),
        (["--level", "2"], "between 0 and 1"),
        (["--total-steps", "-3"], "no number of steps"),
        (["--webhook", "example.com"], "not an http"),
        (["--wandb-alert"], "needs runs on a W&B server"),
        (["--patience", "0"], "at least 1"),
    ],
)
def test_bad_options_are_told_before_anything_is_waited_for(capsys, log, options, says):
    code, _, err = run(capsys, log, *options)
    assert code == 2 and says in err


def test_missing_with_once_is_3(capsys, tmp_path):
    code, out, err = run(capsys, tmp_path / "nothing.jsonl", "--once")
    assert code == 3 and "no such file" in err and out == ""


def test_a_growing_log_followed_by_a_real_process_until_ctrl_c(tmp_path):
    records = law_records(n=61, noise=0.003)
    path = write_jsonl(tmp_path / "run.jsonl", records[:30])
    call = [
        sys.executable,
        "-m",
        "entlaw.cli",
        "watch",
        str(path),
        "--json",
        "--every",
        "0.1",
        "--total-steps",
        "80",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=interruptible
    ) as process:
        first = json.loads(process.stdout.readline())
        with path.open("a") as out:
            for record in records[30:]:
                out.write(json.dumps(record) + "\n")
                out.flush()
        last = first
        while last["step"] < 61:
            last = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert first["step"] <= 29 and last["step"] == 61
    assert process.returncode == 130 and "Traceback" not in err
