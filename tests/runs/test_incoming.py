"""Streams and archives: read once, read whole, bounded, and named as the user named them."""

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile

import pandas as pd
import pytest

import entlaw
from entlaw.cli.app import run as run_cli
from entlaw.errors import UnreadableSource, UsageError
from entlaw.runs import files, incoming
from entlaw.runs.incoming import is_stream, received
from entlaw.runs.reader import scan
from tests.conftest import law_records, write_jsonl

RECORDS = law_records(n=40)
LINES = "".join(json.dumps(r) + "\n" for r in RECORDS).encode()
OTHER = LINES.replace(b"0.", b"0.0")


@pytest.fixture
def plain(tmp_path):
    return entlaw.read(write_jsonl(tmp_path / "plain" / "run.jsonl", RECORDS))[0]


@pytest.fixture(autouse=True)
def _plain_folder(tmp_path):
    (tmp_path / "plain").mkdir()


def standard_input(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def fifo(folder, data, name="pipe"):
    path = folder / name
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    return path


def told(readings):
    """Everything that a user can see of readings."""
    parts = []
    for found in readings:
        parts += [found.path, found.name, str(found.error)]
        for run in (found.raw, found.run):
            if run is not None:
                parts += [run.name, run.provenance.path, *(str(f) for f in run.findings)]
    return "\n".join(parts)


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_standard_input(monkeypatch, plain, source):
    standard_input(monkeypatch, LINES)
    for _ in range(2):  # read once, and there as often as it is asked for
        (found,) = scan(source)
        pd.testing.assert_frame_equal(found.run.points, plain.points)
        assert (found.path, found.name, found.run.provenance.path) == ("stdin", "stdin", "stdin")


def test_a_named_pipe(tmp_path, plain):
    path = fifo(tmp_path, LINES, "train.jsonl")
    (found,) = scan(path)
    pd.testing.assert_frame_equal(found.run.points, plain.points)
    assert found.path == str(path) and found.name == tmp_path.name  # `train` names no run
    assert path.is_fifo()


COMMANDS = {
    "fit": [],
    "doctor": [],
    "predict": [],
    "report": ["--output", "report.html"],
    "backtest": [],
    "fit --json": [],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_reading_command_takes_a_dash(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    standard_input(monkeypatch, LINES)
    assert run_cli([*command.split(), "-", *COMMANDS[command]]) == 0
    said = capsys.readouterr()
    assert "entlaw-" not in said.out and (command == "backtest" or "stdin" in said.out)


def test_compare_takes_a_stream_on_a_side(tmp_path, monkeypatch, capsys, plain):
    standard_input(monkeypatch, OTHER)
    assert run_cli(["compare", "-", plain.provenance.path]) == 0
    assert "stdin" in capsys.readouterr().out


@pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="needs bash")
def test_process_substitution(tmp_path, plain):
    code = "import sys, entlaw; print(entlaw.read(sys.argv[1])[0].points.to_json())"
    line = f"{sys.executable} -c '{code}' <(cat {plain.provenance.path})"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(plain.points.to_json())


def test_what_cannot_be_read_names_the_stream(tmp_path, monkeypatch):
    for data in (b"", b"hello\n", b"step,entropy\n1,x\n"):
        standard_input(monkeypatch, data)
        (found,) = scan("-")
        assert found.error.where == "stdin" and found.error.exit_code == 3
        assert "entlaw-" not in told([found])


def test_a_stream_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "MOST_BYTES", 1000)
    path = fifo(tmp_path, LINES)
    with pytest.raises(UnreadableSource, match="1,000 bytes") as error:
        list(scan(path))
    assert error.value.where == str(path) and error.value.hint


def test_a_terminal_is_no_log(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(UsageError, match="terminal"):
        list(scan("-"))


def test_a_stream_cannot_be_watched(tmp_path, monkeypatch, capsys):
    standard_input(monkeypatch, LINES)
    assert run_cli(["watch", "-", "--once"]) == 2
    assert "cannot be watched" in capsys.readouterr().err


def test_what_is_no_stream(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    sources = (
        tmp_path,
        tmp_path / "a",
        tmp_path / "missing",
        "team/project",
        "x" * 5000,
        "a\0b",
        "~nobody/x",
    )
    assert not any(is_stream(source) for source in sources)
    for source in sources:
        with received(source) as kept:
            assert kept.source == source


# Archives ---------------------------------------------------------------------------------------


def packed(folder, kind, members):
    path = folder / f"logs.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(
            path, "w" + {"tar": "", "tgz": ":gz", "tar.bz2": ":bz2", "tar.xz": ":xz"}[kind]
        ) as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


KINDS = ("zip", "tar", "tgz", "tar.bz2", "tar.xz")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_a_folder(tmp_path, kind):
    path = packed(
        tmp_path, kind, {"seeds/one/metrics.jsonl": LINES, "seeds/two.jsonl": OTHER, "README.md": b"hi"}
    )
    folder = tmp_path / "folder" / "logs"
    for name, data in (("seeds/one/metrics.jsonl", LINES), ("seeds/two.jsonl", OTHER)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    want, got = list(scan(folder)), list(scan(path))
    assert [r.name for r in got] == [r.name for r in want] and len(got) == 2
    for a, b in zip(want, got, strict=True):
        pd.testing.assert_frame_equal(b.raw.rows, a.raw.rows)
    assert [r.path for r in got] == [
        f"{path}/{name}" for name in ("seeds/one/metrics.jsonl", "seeds/two.jsonl")
    ]
    assert "entlaw-" not in told(got)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_of_one_log_is_the_log(tmp_path, kind, plain):
    path = packed(tmp_path, kind, {"run.jsonl": LINES})
    (found,) = scan(path)
    pd.testing.assert_frame_equal(found.run.points, plain.points)
    assert found.name == "run" and found.path == f"{path}/run.jsonl"


def test_archives_in_a_folder(tmp_path, plain):
    folder = tmp_path / "all"
    folder.mkdir()
    packed(folder, "zip", {"run.jsonl": LINES})
    packed(folder, "tgz", {"other.jsonl": OTHER})
    assert sorted(r.name for r in scan(folder)) == ["other", "run"]


def test_names_cannot_lead_out_of_the_folder(tmp_path):
    path = packed(tmp_path, "zip", {"../../evil.jsonl": LINES, "/abs/olute.jsonl": OTHER})
    before = set(tmp_path.parent.rglob("*.jsonl"))
    assert sorted(r.name for r in scan(path)) == ["evil", "olute"]
    assert set(tmp_path.parent.rglob("*.jsonl")) == before


def test_bombs_and_crowds(tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "_LEAST_BOUND", 1 << 16)
    path = packed(tmp_path, "zip", {"run.jsonl": bytes(1 << 24)})
    with pytest.raises(UnreadableSource, match="the most that is taken") as error:
        list(scan(path))
    assert error.value.where == str(path)
    monkeypatch.setattr(incoming, "MOST_FILES", 2)
    for kind in ("zip", "tar"):
        with pytest.raises(UnreadableSource, match="more than 2 files"):
            list(scan(packed(tmp_path, kind, {f"{i}.jsonl": b"{}" for i in range(3)})))


def test_more_logs_than_are_read_of_one_folder_or_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_LOGS", 2)
    path = packed(tmp_path, "zip", {f"{i}.jsonl": LINES for i in range(3)})
    folder = tmp_path / "runs"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jsonl").write_bytes(LINES)
    for source in (path, folder):
        with pytest.raises(UnreadableSource, match="3 files that may be logs") as error:
            list(scan(source))
        assert error.value.where == str(source) and "glob" in error.value.hint
    assert list(scan(str(folder / "*.jsonl")))  # what is named is read


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_a_clear_error(tmp_path, kind):
    path = packed(tmp_path, kind, {"a.jsonl": LINES, "b.jsonl": OTHER})
    whole = path.read_bytes()
    for cut in range(600, len(whole), max(1, len(whole) // 15)):
        path.write_bytes(whole[:cut])
        try:
            found = list(scan(path))
        except UnreadableSource as error:
            errors = [error]
        else:
            errors = [r.error for r in found if r.error is not None]
            assert kind == "tar" or errors  # a tar may be cut between two of its blocks
        assert all(error.hint and str(path) in str(error.where) for error in errors)
