"""Bounds of time and memory: work is counted, memory is traced, what is past a bound is refused."""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import importlib
import json
import lzma
import os
import sqlite3
import struct
import sys
import tracemalloc
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs import bounds, globs, sparse
from entlaw.runs.assemble import assemble
from entlaw.runs.parsing import delimited, text, tfrecord
from entlaw.runs.parsing import protobuf_wire as wire
from entlaw.runs.parsing.text import LineBlocks, ReadNotes
from entlaw.runs.parsing.wandb_history import resolve_steps
from entlaw.runs.reader import read_raw, scan
from entlaw.runs.sources import mlflow, trackio, wandb_file
from entlaw.runs.table import RowBuilder
from entlaw.runs.units import decide_unit
from tests.conftest import REPO


def refused(path):
    """The error of an input past a bound: it says what, where, why and what to do."""
    with pytest.raises(UnreadableSource) as found:
        read_raw(path)
    assert found.value.exit_code == 3 and found.value.where and found.value.why and found.value.hint
    return found.value.what


def peak(function):
    """Most bytes that a call held."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Tables ---------------------------------------------------------------------------------------------------------

RECORD = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3).map(float), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), RECORD), min_size=1, max_size=30))
def test_rows_of_one_step_put_together_give_the_same_run(records):
    builder = RowBuilder()
    for step, record in records:
        builder.add({"step": step, **record})
    dense = builder.frame()
    allowed = iter([False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "may_be_dense", lambda *_: next(allowed))
        merged = sparse.table(list(builder._order), builder.n_rows, *builder._triples())
    assert len(merged) <= len(dense)
    pd.testing.assert_frame_equal(assemble(merged).metrics, assemble(dense).metrics)


def test_a_key_a_row_costs_its_values_and_not_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "FREE_CELLS", 1 << 16)
    path, n = tmp_path / "run.jsonl", 1000
    rows = [{"step": i, "entropy": 1 / (i + 1), "reward": 0.5, f"sample_{i}": 1} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = []
    assert peak(lambda: runs.extend(read_raw(path))) < 6e6  # the table would be 8 MB, and is copied
    (run,) = runs
    (told,) = [f for f in run.findings if f.code == "keys-left-out"]
    assert told.value == n and list(run.rows) == ["step", "entropy", "reward"]
    assert run.rows["entropy"].tolist() == [row["entropy"] for row in rows]


def test_one_metric_a_row_of_many_metrics_is_read(tmp_path):
    path, steps, keys = tmp_path / "run.jsonl", 60, 300
    rows = [{"step": t, "name": f"k{k}", "value": t * 1000 + k} for t in range(steps) for k in range(keys)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_raw(path)
    metrics = assemble(run.rows).metrics
    assert len(run.rows) < len(rows) and metrics.shape == (steps, keys)
    assert all(metrics.loc[t, f"k{k}"] == t * 1000 + k for t in (0, 1, steps - 1) for k in (0, keys - 1))


def test_many_keys_in_every_row_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    row = {"step": 1, **{f"k{i}": 1 for i in range(bounds.MOST_KEYS + 1)}}
    path.write_text("".join(json.dumps({**row, "step": i}) + "\n" for i in range(5)))
    assert "too large a table" in refused(path)


def test_runs_that_start_over_again_and_again_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_RUNS", 20)
    path = tmp_path / "run.jsonl"
    lines = (json.dumps({"step": i % 40, "entropy": i}) for i in range(40 * (bounds.MOST_RUNS + 2)))
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnreadableSource, match="runs in one file"):
        list(scan(tmp_path))


def test_mixed_units_are_found_as_by_sorting_all_distances():
    rng = np.random.default_rng(5)
    for _ in range(50):
        v = np.where(rng.random(60) < 0.3, rng.random(60), 100 * rng.random(60))
        v[0] = 50.0
        large, odd = np.flatnonzero(v > 1), 0
        for i in np.flatnonzero((v > 0) & (v <= 1)):
            near = float(np.median(v[large[np.argsort(np.abs(large - i), kind="stable")[:3]]]))
            odd += v[i] * 20 < near and abs(np.log(100 * v[i] / near)) < np.log(3)
        unit, told = decide_unit(v, True)
        assert (unit.scale, told[0].value) == ((1.0, odd) if odd else (0.01, None))


# Streams --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"bc\n", b"\n", b"d\r", b"longer piece"]), max_size=30))
def test_lines_in_any_pieces_are_the_lines_of_the_whole(pieces):
    blocks = LineBlocks(ReadNotes(), b"\n")
    got = [blocks.feed(piece) for piece in pieces]
    assert all(block == b"" or block.endswith(b"\n") for block in got)
    assert b"".join(got) + blocks.rest() == b"".join(pieces)


class Counted(bytes):
    """Bytes that count how many were copied when they were added to others."""

    copied = 0

    def __radd__(self, other):
        Counted.copied += len(other)
        return Counted(bytes(other) + bytes(self))

    def __add__(self, other):
        Counted.copied += len(self)
        return Counted(bytes(self) + bytes(other))


def test_a_line_of_many_pieces_is_not_copied_for_each():
    Counted.copied = 0
    blocks = LineBlocks(ReadNotes(), b"\n")
    for _ in range(1000):
        blocks.feed(Counted(b"x" * 100))
    assert blocks.rest() == b"x" * 100_000 and Counted.copied <= 200_000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_a_bomb_is_refused_in_little_memory(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(bounds, "FREE_INFLATED", 2 << 20)
    path = tmp_path / "log.packed"
    block = pack(b"step:1 - actor/entropy:0.5 - critic/score/mean:0.2\n" + (b"word " * 4000 + b"\n") * 20)
    path.write_bytes(block * 50)  # 20 MB
    said = []
    assert peak(lambda: said.append(refused(path))) < 15e6
    assert "inflates to more than" in said[0]


def test_a_packed_document_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "FREE_DOCUMENT", 1 << 20)
    path = tmp_path / "log.json.gz"
    block = gzip.compress(b",{}" * (1 << 20))
    path.write_bytes(gzip.compress(b'[{"step":1}') + block + gzip.compress(b"]"))
    said = []
    assert peak(lambda: said.append(refused(path))) < 10e6  # its objects would take 70 MB
    assert "one JSON document" in said[0]


def test_a_log_that_shrinks_as_logs_do_is_read(tmp_path):
    path, rng = tmp_path / "log.jsonl.gz", np.random.default_rng(0)
    rows = [{"step": i, "entropy": rng.random(), "reward": rng.random()} for i in range(5000)]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert len(read_raw(path)[0].rows) == len(rows)


def test_a_hole_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    line = b'{"step": %d, "entropy": 0.5, "reward": 0.25}\n'
    path.write_bytes(line % 1)
    os.truncate(path, 1 << 40)
    with path.open("ab") as handle:
        handle.write(b"\n" + line % 2)
    with path.open("rb") as handle:
        try:
            if os.lseek(handle.fileno(), 1 << 22, os.SEEK_DATA) == 1 << 22:
                pytest.skip("the file system fills holes")
        except (AttributeError, OSError):
            pytest.skip("the system does not know holes")
    (run,) = read_raw(path)  # a terabyte would take an hour
    assert run.rows["step"].tolist() == [1, 2]


# Tables as text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ['1,"0.5', '"', '"a"b","', '"",""x'])
def test_open_quotes_cost_linear_work(monkeypatch, row):
    """Characters that are split into cells, for tables of n and 4n rows."""

    def work(n):
        looked_at = [0]
        split = delimited.split_cells

        def counted(line, delimiter):
            looked_at[0] += len(line)
            return split(line, delimiter)

        with monkeypatch.context() as patch:
            patch.setattr(delimited, "split_cells", counted)
            dialect = delimited.Dialect(",", ("step", "entropy"))
            found = list(delimited.Rows(((row, True) for _ in range(n)), dialect))
        assert len(found) == n
        return looked_at[0]

    n = 30_000
    assert work(n) <= 3 * (1 << 20) + 40 * n * len(row)


# Binary files ---------------------------------------------------------------------------------------------------


def framed(payload, length=None):
    head = struct.pack("<Q", len(payload) if length is None else length)
    check, own = (struct.pack("<I", tfrecord.masked(tfrecord.crc32c(part))) for part in (head, payload))
    return head + check + payload + own


def test_a_length_beyond_the_file_asks_for_no_memory(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    version = b"\x09" + struct.pack("<d", 1.7e9) + b"\x1a\x0dbrain.Event:2"
    path.write_bytes(framed(version) + framed(b"x" * 30, 1 << 62))
    (run,) = read_raw(path)
    assert {f.code for f in run.findings} >= {"truncated-tail"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5 * 2048).flatmap(lambda n: st.binary(min_size=n, max_size=n)), max_size=6))
def test_checksums_side_by_side_are_those_of_each(parts):
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    buf = np.frombuffer(b"".join(parts), dtype=np.uint8)
    found = tfrecord.crc32c_many(buf, ends - [len(part) for part in parts], ends) if parts else []
    assert list(found) == [tfrecord.crc32c(part) for part in parts]


FIELD = st.one_of(
    st.integers(0, 2**70).map(
        lambda n: b"\x08" + b"".join(bytes([n >> 7 * i & 0x7F | 0x80]) for i in range(9)) + b"\1"
    ),
    st.binary(max_size=5).map(lambda b: b"\x12" + bytes([len(b)]) + b),
    st.binary(min_size=4, max_size=4).map(lambda b: b"\x1d" + b),
    st.binary(min_size=8, max_size=8).map(lambda b: b"\x21" + b),
    st.binary(min_size=1, max_size=2),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(FIELD, max_size=8).map(b"".join), max_size=6))
def test_messages_finished_one_by_one_are_those_of_the_walk(messages):
    hi = np.cumsum([len(m) for m in messages], dtype=np.int64)
    lo = hi - np.array([len(m) for m in messages], dtype=np.int64)
    buf = wire.padded(b"".join(messages))
    side_by_side = wire.walk(buf, lo, hi)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_MANY_FIELDS", 2)
        one_by_one = wire.walk(buf, lo, hi)
    np.testing.assert_array_equal(one_by_one.bad, side_by_side.bad)
    for name in ("message", "number", "wire", "lo", "hi"):
        of = [getattr(x, name)[~x.bad[x.message]] for x in (one_by_one, side_by_side)]
        np.testing.assert_array_equal(*of)


def test_a_message_of_many_fields_takes_few_rounds(monkeypatch):
    rounds = [0]
    read = wire.read_varints

    def counted(buf, pos):
        rounds[0] += 1
        return read(buf, pos)

    monkeypatch.setattr(wire, "read_varints", counted)
    found = wire.walk(wire.padded(b"\x08\x01" * 50_000), np.array([0]), np.array([100_000]))
    assert len(found.message) == 50_000 and not found.bad.any() and rounds[0] < 1000


PATTERN = st.text("ab/*", min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text("ab/_", min_size=1, max_size=5), max_size=5), st.lists(PATTERN, max_size=6, unique=True)
)
def test_step_metrics_by_globs_are_those_of_comparing_all(keys, patterns):
    definitions = {pattern: f"s{i}" for i, pattern in enumerate(patterns)}
    for key, step in resolve_steps(keys, definitions).items():
        matching = [p for p in patterns if "*" in p and fnmatch.fnmatchcase(key, p)]
        best = [p for p in matching if len(p) == max(map(len, matching))]
        assert step == definitions[key] if key in definitions else step in {definitions[p] for p in best}
    globs = [p for p in patterns if "*" in p]
    own = {k for k in keys if k in definitions}
    reached = own | {
        k for k in keys if not k.startswith("_") and any(fnmatch.fnmatchcase(k, p) for p in globs)
    }
    assert resolve_steps(keys, definitions).keys() == reached


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.text("ab./", min_size=1, max_size=4)), max_size=12))
def test_a_setting_goes_with_all_below_it(changes):
    facts, expected = wandb_file._Facts(), {}
    for i, (removes, name) in enumerate(changes):
        key, value = name.encode(), json.dumps(i).encode()
        item = b"\x0a" + bytes([len(key)]) + key
        item += b"" if removes else b"\x82\x01" + bytes([len(value)]) + value
        wandb_file._read_config((b"\x12" if removes else b"\x0a") + bytes([len(item)]) + item, facts)
        expected = {k: v for k, v in expected.items() if k != name and not k.startswith(f"{name}.")}
        if not removes:
            expected[name] = i
    assert facts.config == expected and facts.keys == sorted(expected)


def test_equal_rows_of_parquet_are_refused_by_their_number(tmp_path):
    rows = np.ones(3_000_000, dtype=np.int8)
    path = tmp_path / "log.parquet"
    pd.DataFrame({"step": rows, "entropy": rows, "reward": rows}).to_parquet(path, compression="zstd")
    said = []
    assert peak(lambda: said.append(refused(path))) < 5e6
    assert "3,000,000 rows" in said[0]


def test_a_text_that_parquet_stores_once_is_held_once(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, n = tmp_path / "log.parquet", 5000
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"step": np.arange(n), "entropy": np.ones(n), "note": texts}), path)
    runs = []
    assert peak(lambda: runs.extend(read_raw(path))) < 50e6
    assert runs[0].rows["entropy"].tolist() == [1.0] * n


# SQLite ---------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x"
COLUMNS = "id INTEGER PRIMARY KEY, run_id, timestamp, run_name, step"


def database(path, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    return path


def test_a_view_is_no_table(tmp_path):
    view = f"CREATE VIEW metrics AS {ENDLESS} AS id, 'r' AS run_name, x AS step, '' AS metrics FROM c"
    assert "not a trackio project" in refused(database(tmp_path / "p.db", view, "CREATE TABLE other(x)"))


def test_a_computed_column_is_not_computed(tmp_path):
    made = f"CREATE TABLE metrics({COLUMNS}, metrics AS (hex(zeroblob(1000000))))"
    path = database(tmp_path / "p.db", made)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO metrics(id, run_id, timestamp, run_name, step) VALUES (1, 'r', '', 'r', 1)")
    assert "not a trackio project" in refused(path)


def test_a_query_without_end_is_stopped(tmp_path, monkeypatch):
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000)"
    rows = f"{numbers} SELECT x, 'r', '', 'r', x, '{{}}' FROM c"
    path = database(
        tmp_path / "p.db", f"CREATE TABLE metrics({COLUMNS}, metrics)", f"INSERT INTO metrics {rows}"
    )
    monkeypatch.setattr(trackio, "_FREE_STEPS", -1000)
    assert "too long to read" in refused(path)


# Folders --------------------------------------------------------------------------------------------------------


def test_the_parameters_of_a_run_are_read_once(tmp_path, monkeypatch):
    run = tmp_path / "0" / "abc"
    for name in ("metrics", "params"):
        (run / name).mkdir(parents=True)
    (run / "meta.yaml").write_text("")
    for i in range(20):
        (run / "metrics" / f"m{i}").write_text("1700000000000 0.5 1\n1700000000001 0.5 2\n")
        (run / "params" / f"p{i}").write_text(str(i))
    reads = []
    read = mlflow._text
    monkeypatch.setattr(mlflow, "_text", lambda path: reads.append(path) or read(path))
    for i in range(20):
        (one,) = read_raw(run / "metrics" / f"m{i}")
        assert one.config["p7"] == "7"
    assert sum(path.parent.name == "params" for path in reads) == 20


def test_links_that_lead_back_are_followed_once(tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    logs = [
        tmp_path / "a.jsonl",
        tmp_path / "deep/b.jsonl",
        tmp_path / "deep/er/c.jsonl",
        elsewhere / "d.jsonl",
    ]
    for path in (*logs, tmp_path / ".hidden" / "e.jsonl"):
        path.write_text("{}\n")
    (tmp_path / "linked").symlink_to(elsewhere)
    for i in range(4):
        (tmp_path / f"again{i}").symlink_to(tmp_path)
    found = [*logs[:3], tmp_path / "linked" / "d.jsonl"]
    for pattern in ("**", "**/*", "**/*.jsonl", "**/**/*.jsonl"):
        assert sorted(p for p in globs.paths(f"{tmp_path}/{pattern}") if os.path.isfile(p)) == sorted(
            map(str, found)
        )
    monkeypatch.chdir(tmp_path)
    assert globs.paths("**/*.jsonl") == ["a.jsonl", "deep/b.jsonl", "deep/er/c.jsonl", "linked/d.jsonl"]
    assert globs.paths("d*/**/c.jsonl") == ["deep/er/c.jsonl"]
    assert globs.paths("*.jsonl") == ["a.jsonl"] and globs.paths("**/none") == []


# All families ---------------------------------------------------------------------------------------------------


@pytest.fixture
def reader_bounds(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    return importlib.import_module("reader_bounds")


def test_a_small_file_of_each_reader_is_read_or_refused(reader_bounds, tmp_path):
    first = {
        one.reader: one for one in reversed(reader_bounds.FAMILIES) if one.reader not in ("gzip", "parquet")
    }
    for one in first.values():
        folder = tmp_path / one.reader
        folder.mkdir()
        one.write(folder / one.file, 2000)
        assert "crash" not in (came := reader_bounds.read_all(folder / one.file)), (one.name, came)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits of a process are Linux's")
def test_a_megabyte_of_every_family_keeps_the_bounds(reader_bounds, tmp_path):
    """In a process with limits: CPU seconds far above the bound, as other processes slow this one down."""
    reader_bounds.warm_up()
    over = {}
    for number, one in enumerate(reader_bounds.FAMILIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        one.write(folder / one.file, 1_000_000)
        found = reader_bounds.measure(folder / one.file, seconds=40, gigabytes=1.5)
        if found.stopped or found.megabytes > reader_bounds.MEGABYTES:
            over[one.name] = found
    assert not over
