"""A compressed log is the log: read the same, counted once, and clear about damage."""

import gzip
import json
import tracemalloc
import zlib

import pandas as pd
import pytest

import entlaw
from entlaw.cli.app import run as run_cli
from entlaw.errors import DataError, FitRefused, UnreadableSource
from entlaw.runs.packed import unpacked_start
from entlaw.runs.reader import read_raw, scan
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import jsonl
from tests.conftest import SHARED, law_records, needs_shared, write_jsonl
from tests.runs import test_tensorboard as tb
from tests.runs import wandb_writer

RECORDS = law_records(n=40)
LINES = "".join(json.dumps(r) + "\n" for r in RECORDS)


def verl(records):
    return "".join(
        f"step:{r['step']} - " + " - ".join(f"{k}:{v}" for k, v in r.items() if k != "step") + "\n"
        for r in records
    )


def csv(records):
    keys = ["step", "actor/entropy", "reward/mean", "val/accuracy"]
    return "".join(",".join(str(r.get(k, "")) for k in keys) + "\n" for r in [{k: k for k in keys}, *records])


def trainer_state(records, indent=None):
    return json.dumps({"log_history": records, "global_step": 40, "best_metric": None}, indent=indent)


def notebook(records):
    cell = {
        "cell_type": "code",
        "outputs": [{"output_type": "stream", "text": [verl(records)]}],
        "source": [],
    }
    return json.dumps({"cells": [cell], "nbformat": 4, "metadata": {}}, indent=1)


# The trailing keys compress to next to nothing: the document is longer than any head, its file is shorter.
PADDED = [{**r, **{f"padding/{i}": 0.5 for i in range(200)}} for r in RECORDS]
LOGS = {
    "metrics.jsonl": LINES,
    "no-newline.jsonl": LINES.rstrip("\n"),
    "one-step.jsonl": json.dumps(RECORDS[4]),
    "long-lines.jsonl": "".join(json.dumps({**r, "text": "x" * 100_000}) + "\n" for r in RECORDS),
    "one-long-line.jsonl": json.dumps({**RECORDS[4], "text": "x" * 100_000}) + "\n",
    "torn.jsonl": LINES[:-7],
    "verl.log": verl(RECORDS),
    "chatty.log": "loading the weights\n" * 20_000 + verl(RECORDS),
    "table.csv": csv(RECORDS),
    "small.csv": csv(RECORDS[:2]).rstrip("\n"),
    "wide.csv": csv(RECORDS).replace("\n", "," + "0" * 5000 + "\n").replace("0" * 5000, "padding", 1),
    "trainer_state.json": trainer_state(RECORDS),
    "indented.json": trainer_state(PADDED, indent=2),
    "on-one-line.json": trainer_state(PADDED),
    "list.json": json.dumps(PADDED),
    "training.ipynb": notebook(RECORDS),
}


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"seed": 7, "recipe": {"lr": 0.1}}))
    path = folder / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def codes(run):
    return {f.code for f in run.findings}


@pytest.mark.parametrize("name", LOGS)
def test_reads_as_the_plain_file(tmp_path, name):
    (plain,) = read_raw(write(tmp_path / "the-run", name, LOGS[name]))
    (tmp_path / "the-run" / name).unlink()
    (packed,) = read_raw(write(tmp_path / "the-run", name + ".gz", LOGS[name]))
    pd.testing.assert_frame_equal(packed.rows, plain.rows)
    assert packed.name == plain.name and packed.config == plain.config and packed.findings == plain.findings
    assert packed.provenance.format == plain.provenance.format
    assert packed.provenance.details == plain.provenance.details
    if name.endswith(".jsonl"):
        assert plain.config == {"seed": 7, "recipe.lr": 0.1}
    if name.startswith(("metrics", "trainer_state")):
        assert plain.name == "the-run"


def test_the_api_and_the_command_line(tmp_path, capsys, monkeypatch):
    said = []
    for name in ("metrics.jsonl", "metrics.jsonl.gz"):
        folder = tmp_path / name.replace(".", "-") / "the-run"
        folder.parent.mkdir()
        path = write(folder, name, LINES)
        monkeypatch.chdir(folder.parent)
        for source in (path, folder):
            (run,) = entlaw.read(source)
            fit = entlaw.fit(run)
            said.append((run.name, fit.ceiling, run.config, run.findings, run.points.to_csv()))
        outs = []
        for command in (["fit", "the-run"], ["doctor", "the-run"], ["fit", "the-run", "--json"]):
            code = run_cli(command)
            outs.append((code, capsys.readouterr().out.replace("metrics.jsonl.gz", "metrics.jsonl")))
        said.append(outs)
    assert said[0] == said[1] == said[3] == said[4]
    assert said[2] == said[5]


@needs_shared
def test_real_logs(tmp_path):
    small = [p for p in sorted(SHARED.rglob("*")) if p.is_file() and 1000 < p.stat().st_size < 300_000]
    text = [
        p for p in small if p.suffix in {".jsonl", ".log", ".csv", ".txt", ".json"} and p.name != "meta.json"
    ]
    compared = 0
    for path in text[:: max(1, len(text) // 25)]:
        folder = tmp_path / str(compared)
        folder.mkdir()
        results = []
        for name, data in (
            (path.name, path.read_bytes()),
            (path.name + ".gz", gzip.compress(path.read_bytes())),
        ):
            (folder / name).write_bytes(data)
            try:
                results.append(
                    [(r.rows.to_csv(), r.provenance.format, r.findings) for r in read_raw(folder / name)]
                )
            except UnreadableSource as error:
                results.append(error.what)
            (folder / name).unlink()
        assert results[0] == results[1], path.name
        compared += 1
    assert compared > 5


# Cut and damaged --------------------------------------------------------------------------------


def packed_law(n=12):
    return gzip.compress("".join(json.dumps(r) + "\n" for r in RECORDS[:n]).encode(), mtime=0)


def test_cut_at_every_byte(tmp_path):
    whole, path = packed_law(), tmp_path / "metrics.jsonl.gz"
    rows = jsonl.read(write_jsonl(tmp_path / "a.jsonl", RECORDS[:12]), ReadOptions())[0].rows
    lengths = set()
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        try:
            (run,) = read_raw(path)
        except UnreadableSource as error:
            assert error.where == str(path) and error.hint
            continue
        assert "truncated-gzip" in codes(run)
        got = run.rows.reindex(columns=rows.columns)
        pd.testing.assert_frame_equal(got, rows.iloc[: len(got)])  # a beginning, nothing invented
        lengths.add(len(got))
    assert {1, 6, 11, 12} <= lengths
    path.write_bytes(whole)
    assert not codes(read_raw(path)[0])


def test_a_changed_byte_anywhere_is_never_taken_for_granted(tmp_path):
    whole, path = packed_law(), tmp_path / "metrics.jsonl.gz"
    path.write_bytes(whole)
    rows = read_raw(path)[0].rows
    refused = told = same = 0
    for at in range(len(whole)):
        for mask in (0x01, 0x40, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            try:
                runs = read_raw(path)
            except UnreadableSource:
                refused += 1
                continue
            if codes(runs[0]) & {"damaged-gzip", "truncated-gzip"}:
                told += 1
            else:  # bytes of the header that say when and where it was packed
                assert at < 10 and len(runs) == 1
                pd.testing.assert_frame_equal(runs[0].rows, rows)
                same += 1
    assert told > 100 and same < 25 and refused > 0


def test_what_stands_before_the_damage_is_read(tmp_path):
    text = "".join(json.dumps({**r, "x": zlib.crc32(str(r).encode())}) + "\n" for r in law_records(n=12000))
    packed = bytearray(gzip.compress(text.encode(), mtime=0))
    assert len(packed) > 100_000
    packed[90_000] ^= 0xFF
    path = tmp_path / "metrics.jsonl.gz"
    path.write_bytes(packed)
    (run,) = read_raw(path)
    assert 6000 < len(run.rows) < 10_000 and "damaged-gzip" in codes(run)


@pytest.mark.parametrize("command", ["fit", "doctor"])
def test_a_damaged_file_on_the_command_line(tmp_path, capsys, command):
    packed = bytearray(gzip.compress(LINES.encode(), mtime=0))
    packed[-6] ^= 1  # in the checksum: the numbers may be right, or not
    path = tmp_path / "metrics.jsonl.gz"
    path.write_bytes(packed)
    code = run_cli([command, str(path)])
    said = capsys.readouterr()
    assert "damaged-gzip" in said.out and code == (4 if command == "fit" else 0)
    packed[12] ^= 0xFF  # from the first block on: nothing can be read
    path.write_bytes(packed)
    code = run_cli([command, str(path)])
    said = capsys.readouterr()
    assert code == 3 and "the compressed file is damaged" in said.out + said.err


def test_a_damaged_file_is_fitted_by_force_only(tmp_path):
    packed = bytearray(gzip.compress(LINES.encode(), mtime=0))
    packed[-6] ^= 1
    path = tmp_path / "metrics.jsonl.gz"
    path.write_bytes(packed)
    (run,) = entlaw.read(path)
    with pytest.raises(FitRefused, match="damaged"):
        entlaw.fit(run)


def test_members_padding_and_what_stands_behind(tmp_path):
    first, second = LINES[:700].encode(), LINES[700:].encode()
    whole = gzip.compress(first) + gzip.compress(second)  # a resumed run that was appended
    path, expected = tmp_path / "metrics.jsonl.gz", write_jsonl(tmp_path / "a.jsonl", RECORDS)
    rows = read_raw(expected)[0].rows
    for data, found in (
        (whole, set()),
        (whole + bytes(100_000), set()),
        (gzip.compress(first) + bytes(3) + gzip.compress(second), set()),
        (whole + gzip.compress(b""), set()),
        (whole + b"something else", {"truncated-gzip"}),
        (whole + b"\x1f", {"truncated-gzip"}),
        (whole + b"\x1f\x8b", {"truncated-gzip"}),
        (whole + b"\x1f\x8b\xff\xff", {"damaged-gzip"}),
    ):
        path.write_bytes(data)
        (run,) = read_raw(path)
        assert codes(run) == found
        pd.testing.assert_frame_equal(run.rows, rows)


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8b\x08",
        b"\x1f\x8bxxxx",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\n", mtime=0),
    ],
    ids=["magic", "magic and method", "no header", "of nothing", "of an empty line"],
)  # names without the time of packing: parallel workers must find the same tests
def test_nothing_inside(tmp_path, data):
    path = tmp_path / "metrics.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        entlaw.read(path)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError):
        entlaw.read(tmp_path)


def test_a_bomb_is_not_unpacked_to_be_recognised(tmp_path):
    packed = gzip.compress(bytes(1 << 26))
    start, extent = unpacked_start(packed[: 1 << 16], tmp_path / "bomb", len(packed), 1 << 16)
    assert len(start) == 1 << 16 and extent == "more"


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(steps):
        path = tmp_path / f"{steps}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1) as out:
            for t in range(steps):
                out.write(json.dumps({"step": t, "actor/entropy": 0.5, "text": "word " * 2000}) + "\n")
        tracemalloc.start()
        (run,) = jsonl.read(path, ReadOptions())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(run.rows) == steps
        return most

    small, large = peak(500), peak(2000)  # 5 and 20 MB of text
    assert large < small + 2_000_000


# Counted once -----------------------------------------------------------------------------------


def test_both_in_one_folder_are_one_run(tmp_path):
    plain = write(tmp_path / "the-run", "metrics.jsonl", LINES)
    packed = write(tmp_path / "the-run", "metrics.jsonl.gz", LINES)
    for source in (tmp_path, tmp_path / "the-run", f"{tmp_path}/*/metrics.jsonl*", f"{tmp_path}/*", plain):
        (reading,) = scan(source)
        assert reading.path == str(plain) and reading.name == "the-run"
        (note,) = [f for f in reading.raw.findings if f.code == "compressed-copy"]
        assert note.severity == "info" and "metrics.jsonl.gz" in note.what
    (reading,) = scan(packed)  # the user's word
    assert reading.path == str(packed)
    (note,) = [f for f in reading.raw.findings if f.code == "compressed-copy"]
    assert "metrics.jsonl is beside it" in note.what


@pytest.mark.parametrize("name", ["run.log", "table.csv", "trainer_state.json", "metrics.jsonl", "x.ipynb"])
def test_every_text_log_is_counted_once_and_told(tmp_path, name):
    text = {"run.log": verl(RECORDS), "x.ipynb": notebook(RECORDS), **LOGS}[name]
    write(tmp_path / "r", name, text)
    write(tmp_path / "r", name + ".gz", text)
    (reading,) = scan(tmp_path)
    assert [f.severity for f in reading.raw.findings if f.code == "compressed-copy"] == ["info"]


def test_copies_of_other_length_are_a_warning(tmp_path):
    write(tmp_path / "r", "metrics.jsonl", LINES[:2000])
    write(tmp_path / "r", "metrics.jsonl.gz", LINES)
    (reading,) = scan(tmp_path)
    (note,) = [f for f in reading.raw.findings if f.code == "compressed-copy"]
    assert note.severity == "warning" and "length differs" in note.what


@pytest.mark.parametrize("source", ["", "r/metrics*"])
def test_an_empty_plain_file_does_not_hide_the_packed_one(tmp_path, source):
    write(tmp_path / "r", "metrics.jsonl", "")
    packed = write(tmp_path / "r", "metrics.jsonl.gz", LINES)
    (reading,) = scan(str(tmp_path / source))
    assert reading.path == str(packed) and reading.run is not None
    assert "compressed-copy" not in codes(reading.raw)


def test_logs_of_other_names_stay_apart(tmp_path):
    write(tmp_path / "r", "a.jsonl", LINES)
    other = "".join(json.dumps(r) + "\n" for r in law_records(n=40, seed=1))
    write(tmp_path / "r", "b.jsonl.gz", other)
    readings = list(scan(tmp_path))
    assert [r.name for r in readings] == ["a", "b"]
    assert all(
        not r.raw.config and not r.raw.findings for r in readings
    )  # whose run.json it is, nothing tells


def test_the_configuration_beside_one_log_in_two_forms(tmp_path):
    write(tmp_path / "r", "a.jsonl", LINES)
    write(tmp_path / "r", "a.jsonl.gz", LINES)
    (reading,) = scan(tmp_path)
    assert reading.raw.config["seed"] == 7


@pytest.mark.parametrize("packed", [False, True])
def test_what_our_trainer_keeps_beside_the_metrics_is_no_run_of_its_own(tmp_path, packed):
    folder = tmp_path / "the-run"
    path = write(folder, "metrics.jsonl" + ".gz" * packed, LINES)
    part = folder / "wandb" / "offline-run-1"
    part.mkdir(parents=True)
    rows = [wandb_writer.history({"_step": r["step"], **r}) for r in RECORDS]
    (part / "run-id1.wandb").write_bytes(
        wandb_writer.frame([wandb_writer.run("id1"), *rows, wandb_writer.exit_()])
    )
    (folder / "tensorboard").mkdir()
    events = [tb.event(r["step"], 1.7e9, **{k: v for k, v in r.items() if k != "step"}) for r in RECORDS]
    tb.write(folder / "tensorboard" / "events.out.tfevents.1700000000.0000.entlaw", events)
    for name in ("checkpoint-00000040", "checkpoint-00000040-2", "base", "failure"):
        (folder / name / "policy").mkdir(parents=True)
        (folder / name / "policy" / "trainer_state.json").write_text(trainer_state(RECORDS))
    (reading,) = scan(folder)  # nothing says that it is ours: known by their values
    assert [f.value for f in reading.raw.findings if f.code == "same-run"] == [7]
    (folder / "run.json").write_text('{\n "schema": "entlaw.run/1",\n "name": "the-run"\n}\n')
    for source in (folder, tmp_path, f"{tmp_path}/*"):
        (reading,) = scan(source)
        assert reading.path == str(path)
    assert [r.raw.provenance.format for r in scan(folder / "wandb")] == ["wandb-file"]  # when asked for
    path.unlink()
    (reading,) = scan(folder)  # the metrics are gone: what is left is read
    assert [f.value for f in reading.raw.findings if f.code == "same-run"] == [6]
