"""The metrics file under kills and faults at every byte, and run.json."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw import files
from entlaw.errors import CheckpointError, SourceNotFound, UnreadableSource, UsageError
from entlaw.train import record, run_info
from entlaw.train.record import START, MetricsFile, line
from entlaw.train.run_info import update_run_info, write_run_info
from tests.conftest import PATIENCE

REPO = Path(__file__).parents[2]


def records(n, start=1):
    rng = np.random.default_rng(7)
    values = rng.random((start + n, 2))
    return [
        {"step": t, "actor/entropy": float(values[t, 0]), "val/accuracy": float(values[t, 1])}
        for t in range(start, start + n)
    ]


# One line ---------------------------------------------------------------------------------------


def test_a_line_says_what_the_shipped_runs_say():
    told = {"step": 3, "actor/entropy": 1.23456789, "val/accuracy": 0.150390625, "val/problems": 512}
    assert line(told) == (
        b'{"step": 3, "actor/entropy": 1.23457, "val/accuracy": 0.150390625, "val/problems": 512}\n'
    )


@pytest.mark.parametrize(
    ("key", "value", "written"),
    [
        ("perf/tokens", 12_345_678, "12345678"),
        ("perf/tokens", 12_345_678.0, "12345678.0"),  # a count that came as a float
        ("perf/tokens_per_s", 12_345_678.5, "12345700.0"),
        ("cov/mean", 1.23456789e-12, "1.23457e-12"),
        ("train/accuracy", 1 / 3, repr(1 / 3)),
        ("val/samples", 2.5000001, "2.5000001"),
        ("loss", math.nan, "null"),
        ("val/accuracy", math.inf, "null"),
        ("loss", -math.inf, "null"),
        ("loss", None, "null"),
        ("loss", np.float32(0.1), "0.1"),
        ("loss", np.float64(2 / 3), "0.666667"),
        ("val/accuracy", np.float64(2 / 3), repr(2 / 3)),
        ("n", np.int64(7), "7"),
        ("loss", np.array(0.25), "0.25"),
        ("done", True, "true"),
        ("note", "größer", '"größer"'),
        ("step", 10**20, "100000000000000000000"),
    ],
)
def test_how_values_are_written(key, value, written):
    assert line({key: value}).decode() == f'{{"{key}": {written}}}\n'


def test_tensors_are_numbers():
    torch = pytest.importorskip("torch")
    assert json.loads(line({"a": torch.tensor(0.5), "b": torch.tensor(3)})) == {"a": 0.5, "b": 3}


@pytest.mark.parametrize("value", [{"a": 1}, [1.0], np.ones(2), object()])
def test_nested_values_are_refused_before_the_file_is_touched(tmp_path, value):
    with MetricsFile.create(tmp_path / "m.jsonl") as file:
        with pytest.raises(TypeError, match="'x' holds"):
            file.write({"step": 1, "x": value})
        file.write({"step": 1})
    assert (tmp_path / "m.jsonl").read_bytes() == b'{"step": 1}\n'


@settings(deadline=None, max_examples=300)
@given(st.floats(allow_nan=False, allow_infinity=False, width=64), st.sampled_from(["loss", "val/accuracy"]))
def test_six_digits_or_all(value, key):
    text = line({key: value})
    got = json.loads(text)[key]
    assert text.count(b"\n") == 1 and text.endswith(b"\n")
    if key == "val/accuracy":
        assert got == value
    else:
        assert got == pytest.approx(value, rel=5.0000001e-6, abs=5e-324)
        assert line({key: got}) == text  # writing what was read changes nothing


@settings(deadline=None, max_examples=100)
@given(st.text(), st.text())
def test_any_text_is_one_line(key, value):
    text = line({key: value})
    assert text.count(b"\n") == 1 and json.loads(text) == {key: value}


# Position, resume -------------------------------------------------------------------------------


def test_position_is_of_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsFile.create(path) as file:
        assert file.position == START
        for r in records(5):
            file.write(r)
            data = path.read_bytes()  # visible at once, whole
            assert file.position == {"bytes": len(data), "crc": zlib.crc32(data)}
    with MetricsFile.resume(path, json.loads(json.dumps(file.position))) as again:
        assert again.position == file.position and again.dropped == 0


def test_each_record_is_one_write_and_is_flushed(tmp_path, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    with MetricsFile.create(tmp_path / "m.jsonl") as file:
        monkeypatch.setattr(os, "write", lambda fd, data: (calls.append(bytes(data)), write(fd, data))[1])
        monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
        file.write({"step": 1, "a": 0.5})
    assert calls == [b'{"step": 1, "a": 0.5}\n', "fsync"]


def test_a_kill_at_every_byte(tmp_path, monkeypatch):
    """Whatever the file holds beyond the checkpoint, the resumed run ends with the file of the uninterrupted one."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of them, and no power is cut here
    path, whole = tmp_path / "metrics.jsonl", b"".join(map(line, records(6)))
    marks = [0]
    for r in records(6):
        marks.append(marks[-1] + len(line(r)))
    for done in range(7):  # steps in the checkpoint
        position = {"bytes": marks[done], "crc": zlib.crc32(whole[: marks[done]])}
        for size in range(marks[done], len(whole) + 1):
            path.write_bytes(whole[:size])
            with MetricsFile.resume(path, position) as file:
                assert path.read_bytes() == whole[: marks[done]]
                assert file.dropped == sum(m < size for m in marks[done:])
                for r in records(6)[done:]:
                    file.write(r)
            assert path.read_bytes() == whole


def test_a_file_shorter_than_the_checkpoint_says(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path, whole = tmp_path / "metrics.jsonl", b"".join(map(line, records(4)))
    position = {"bytes": len(whole), "crc": zlib.crc32(whole)}
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UnreadableSource, match=f"{len(whole) - size} bytes shorter") as caught:
            MetricsFile.resume(path, position)
        assert caught.value.exit_code == 3 and caught.value.hint and caught.value.where == str(path)
        assert path.read_bytes() == whole[:size]
    path.unlink()
    with pytest.raises(SourceNotFound, match="missing"):
        MetricsFile.resume(path, position)
    assert not path.exists()


def test_any_changed_byte_in_front_of_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path, whole = tmp_path / "metrics.jsonl", b"".join(map(line, records(3)))
    position = {"bytes": len(whole), "crc": zlib.crc32(whole)}
    for at in range(len(whole)):
        for tail in (b"", b'{"step": 4}\n{"st'):
            damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] + tail
            path.write_bytes(damaged)
            with pytest.raises(UnreadableSource, match="were changed"):
                MetricsFile.resume(path, position)
            assert path.read_bytes() == damaged  # nothing is cut from a file that is not ours


def test_large_files_are_checked_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "_CHUNK", 7)
    path, whole = tmp_path / "metrics.jsonl", b"".join(map(line, records(9)))
    path.write_bytes(whole + b"{}\n{}\n{")
    with MetricsFile.resume(path, {"bytes": len(whole), "crc": zlib.crc32(whole)}) as file:
        assert file.dropped == 3
    assert path.read_bytes() == whole


def test_resume_before_the_first_checkpoint_begins_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile.resume(path, START).close()  # killed before the file was made
    path.write_bytes(b'{"step": 1}\n{"ste')
    with MetricsFile.resume(path, START) as file:
        assert file.dropped == 2
    assert path.read_bytes() == b""


def test_create_never_overwrites(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    with pytest.raises(UsageError, match="already"):
        MetricsFile.create(path)
    assert path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.skipif(os.name == "nt", reason="no locks there")
def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsFile.create(path) as file:
        file.write({"step": 1})
        with pytest.raises(UsageError, match="another process"):
            MetricsFile.resume(path, file.position)
        with pytest.raises(UsageError, match="another process"):
            MetricsFile.resume(path, START)
        assert path.read_bytes() == b'{"step": 1}\n'
    MetricsFile.resume(path, file.position).close()


def test_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        MetricsFile.create(tmp_path / "missing" / "metrics.jsonl")


# Faults while writing ---------------------------------------------------------------------------


@pytest.mark.parametrize("written", [0, 1, 10, None])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_write_leaves_whole_records(tmp_path, monkeypatch, written, number):
    """The disk takes part of a line, or all of it and then fails to flush."""
    path, real = tmp_path / "metrics.jsonl", os.write

    def partial(descriptor, data):
        return real(descriptor, data[:written])

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    first, second, third = records(3)
    with MetricsFile.create(path) as file:
        file.write(first)
        with monkeypatch.context() as patch:
            if written is None:
                patch.setattr(record, "flush", refuse)
            else:
                patch.setattr(os, "write", partial if written else refuse)
            with pytest.raises(CheckpointError) as caught:
                file.write(second)
        assert caught.value.errno == (number if written in (0, None) else errno.ENOSPC)
        assert path.read_bytes() == line(first) and caught.value.hint
        file.write(second)
        file.write(third)
        data = path.read_bytes()
        assert data == line(first) + line(second) + line(third)
        assert file.position == {"bytes": len(data), "crc": zlib.crc32(data)}


@pytest.mark.parametrize("written", [10, 1000])
def test_an_interrupted_write_is_taken_back_before_the_next(tmp_path, monkeypatch, written):
    path, real = tmp_path / "metrics.jsonl", os.write

    def interrupted(descriptor, data):
        real(descriptor, data[:written])
        raise KeyboardInterrupt

    first, second = records(2)
    with MetricsFile.create(path) as file:
        file.write(first)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                file.write(second)
        file.write(second)
    assert path.read_bytes() == line(first) + line(second)


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
def test_a_limit_of_the_system(tmp_path):
    code = """
        import resource, sys
        from entlaw.errors import CheckpointError
        from entlaw.train.record import MetricsFile
        file = MetricsFile.create(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        done = 0
        try:
            while True:
                file.write({"step": done + 1, "loss": 0.125})
                done += 1
        except CheckpointError as error:
            print(done, error.errno)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        file.write({"step": done + 1, "loss": 0.125})
    """
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    n = int(done.stdout.split()[0])
    assert n == 100 // len(line({"step": 1, "loss": 0.125}))
    assert path.read_bytes() == b"".join(line({"step": t, "loss": 0.125}) for t in range(1, n + 2))


TRAINING = """
    import json, sys
    from pathlib import Path
    from entlaw.files import write_whole
    from entlaw.train.record import START, MetricsFile
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    saved = folder / "state.json"
    state = json.loads(saved.read_text()) if saved.exists() else {"step": 0, "x": 1, "position": START}
    file = MetricsFile.resume(folder / "metrics.jsonl", state["position"])
    print("at work", flush=True)
    step, x = state["step"], state["x"]
    while step < steps:
        step, x = step + 1, x * 48271 % 2147483647
        file.write({"step": step, "loss": x / 2147483647, "train/accuracy": x / 2147483647})
        if step % 3 == 0 or step == steps:
            write_whole(saved, json.dumps({"step": step, "x": x, "position": file.position}).encode())
    print("done")
"""


def training(folder, steps=150):
    command = [sys.executable, "-c", textwrap.dedent(TRAINING), str(folder), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_sigkill_and_resume_equals_no_kill(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert training(tmp_path / "whole").communicate()[0].endswith(b"done\n")
    rng = np.random.default_rng(3)
    kills = beyond = at = 0
    longest = 0.02
    for _ in range(200):
        process = training(tmp_path / "killed")
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, longest)))
        process.kill()
        if process.communicate()[0].endswith(b"done\n"):
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        state, before = tmp_path / "killed" / "state.json", at
        at = json.loads(state.read_text())["position"]["bytes"] if state.exists() else 0
        beyond += (tmp_path / "killed" / "metrics.jsonl").stat().st_size > at
        if at == before:  # a slow disk: give it time for a checkpoint
            longest *= 1.5
    else:
        pytest.fail("never finished")
    whole = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == whole
    assert [json.loads(text)["step"] for text in whole.splitlines()] == list(range(1, 151))
    assert kills >= 3 and beyond >= 1  # or the test has shown nothing


# run.json ---------------------------------------------------------------------------------------

MEANING = {
    "key": "actor/entropy",
    "estimator": "exact",
    "unit": "nats/token",
    "averaging": "token-mean",
    "temperature": "1",
    "when": "before-update",
    "note": "full vocabulary",
}


def written(folder, **more):
    given = {
        "name": "a run",
        "recipe": {"run": {"steps": 4}, "policy": {"path": ""}, "loss": {"shares": (0.1, 0.2)}},
        "changes": {"run.steps": 4},
        "seed": 3,
        "parameters": 1234,
        "entropy_meaning": MEANING,
    }
    path = write_run_info(folder, **{**given, **more})
    return json.loads(path.read_text())


def test_run_info_has_all_that_the_shipped_ones_have(tmp_path):
    shipped = json.loads((REPO / "runs" / "grpo-m-rl0" / "run.json").read_text())
    info = written(tmp_path)
    assert set(shipped) - {"step"} <= set(info)  # the step is known at the end
    assert set(shipped["versions"]) <= set(info["versions"]) and "entlaw" in info["versions"]
    assert info["schema"] == "entlaw.run/1" and info["framework"] == "entlaw" and info["status"] == "running"
    assert info["recipe"]["loss"]["shares"] == [0.1, 0.2] and info["changes"] == {"run.steps": 4}
    assert info["versions"]["python"].split(".")[0] == str(sys.version_info[0])
    created = time.strptime(info["created"], "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(time.gmtime()) - time.mktime(created)) < 3700
    assert info["platform"]["cpu"]


def test_the_reader_takes_it_for_the_configuration(tmp_path, monkeypatch):
    from tests.conftest import law_records

    folder = tmp_path / "the-run"
    folder.mkdir()
    written(folder, extra={"resumed": 2})
    with MetricsFile.create(folder / "metrics.jsonl") as file:
        for r in law_records():
            file.write(r)
    (run,) = entlaw.read(folder)
    assert run.name == "the-run"
    assert run.config["recipe.run.steps"] == 4 and run.config["seed"] == 3 and run.config["resumed"] == 2
    assert (run.entropy.estimator, run.entropy.when) == ("exact", "before-update")


def test_nothing_private(tmp_path):
    import getpass
    import platform

    home = tmp_path / "someone"
    info = written(
        tmp_path,
        recipe={
            "policy": {"path": str(home / "models" / "tiny")},
            "data": [str(home / "a.parquet"), "C:\\Users\\someone\\b.parquet"],
            "task": {
                "operators": "/+-",
                "hub": "Qwen/Qwen2.5-0.5B",
                "share": "1/8 by hash",
                "model_path": "/m",
            },
        },
        changes={"policy.path": str(home / "models" / "tiny")},
        extra={"folder": home},
    )
    assert info["recipe"] == {
        "policy": {"path": ".../tiny"},
        "data": [".../a.parquet", ".../b.parquet"],
        "task": {
            "operators": "/+-",
            "hub": "Qwen/Qwen2.5-0.5B",
            "share": "1/8 by hash",
            "model_path": ".../m",
        },
    }
    assert info["changes"] == {"policy.path": ".../tiny"} and info["folder"] == ".../someone"
    text = (tmp_path / "run.json").read_text()
    values = [v for v in leaves(info) if isinstance(v, str)]
    assert str(tmp_path) not in text and not any(v.startswith("/") and v.count("/") > 1 for v in values)
    assert platform.node() not in values and getpass.getuser() not in values


def leaves(value):
    if isinstance(value, dict):
        return [x for v in value.values() for x in leaves(v)]
    if isinstance(value, list):
        return [x for v in value for x in leaves(v)]
    return [value]


def test_update_changes_only_what_it_is_given(tmp_path):
    before = written(tmp_path)
    update_run_info(tmp_path, status="finished", wall_s=12.5, best=math.nan)
    after = json.loads((tmp_path / "run.json").read_text())
    assert after == {**before, "status": "finished", "wall_s": 12.5, "best": None}


@pytest.mark.parametrize("text", ['{"created": "2026-01-02T03:04:05Z"}', "{", "[1]", '{"created": 3}'])
def test_a_run_that_goes_on_keeps_its_date(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    info = written(tmp_path)
    assert (info["created"] == "2026-01-02T03:04:05Z") == ("2026-01-02" in text)
    assert info["schema"] == "entlaw.run/1"


@pytest.mark.parametrize("text", [None, "{", "[1]", b"\xff"])
def test_update_of_what_is_not_there(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UnreadableSource):
        update_run_info(tmp_path, status="finished")


def test_entries_that_clash(tmp_path):
    with pytest.raises(ValueError, match="seed"):
        written(tmp_path, extra={"seed": 4})


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_description(tmp_path, monkeypatch, name):
    before = written(tmp_path)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, name, refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        update_run_info(tmp_path, status="finished")
    assert json.loads((tmp_path / "run.json").read_text()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def git(folder, *arguments):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_git(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert run_info.git_state(outside) is None
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    assert run_info.git_state(repo) is None  # no commit yet
    (repo / "a").write_text("1")
    git(repo, "add", "a")
    git(repo, "commit", "-q", "-m", "first")
    commit = git(repo, "rev-parse", "HEAD")
    (repo / "untracked").write_text("")
    assert run_info.git_state(repo) == {"commit": commit, "dirty": False}
    (repo / "a").write_text("2")
    assert run_info.git_state(repo) == {"commit": commit, "dirty": True}
    monkeypatch.chdir(repo)
    assert written(tmp_path)["git"] == {"commit": commit, "dirty": True}


def test_without_git_and_with_one_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert written(tmp_path)["git"] is None
    if os.name != "nt":
        slow = tmp_path / "git"
        slow.write_text("#!/bin/sh\nexec /bin/sleep 120\n")  # who waited for this would find an empty answer
        slow.chmod(0o755)
        monkeypatch.setattr(run_info, "_GIT_SECONDS", 0.2)
        assert written(tmp_path)["git"] is None


def test_import_is_light():
    code = "import sys, entlaw.train.record, entlaw.train.checkpoint, entlaw.train.sinks\n"
    code += "print([m for m in ('torch', 'wandb', 'tensorboard', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == "[]"
