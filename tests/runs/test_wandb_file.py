"""W&B files: against the SDK's own writer and classes, cut anywhere, and with bytes changed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing import protobuf_wire as wire
from entlaw.runs.parsing.leveldb_log import LogReader
from entlaw.runs.source import Head, ReadOptions
from entlaw.runs.sources import wandb_file
from entlaw.runs.steps import resolve_step
from entlaw.runs.table import RowBuilder
from tests.conftest import SHARED, needs_shared
from tests.runs import wandb_writer as writer


def read(path):
    (raw,) = wandb_file.read(path, ReadOptions())
    return raw


def codes(raw):
    return {f.code for f in raw.findings}


def write(path, records):
    path.write_bytes(writer.frame(records))
    return path


def with_sdk_classes(path):
    """An independent reading: framing in the plainest way, records by the SDK, values by ``json``."""
    from wandb.proto import wandb_internal_pb2 as pb

    data, pos, parts, records = path.read_bytes(), 7, b"", []
    while pos + 7 <= len(data):
        if 32768 - pos % 32768 < 7:
            pos += 32768 - pos % 32768
            continue
        size, kind = int.from_bytes(data[pos + 4 : pos + 6], "little"), data[pos + 6]
        parts = (b"" if kind in (1, 2) else parts) + data[pos + 7 : pos + 7 + size]
        pos += 7 + size
        if kind in (1, 4):
            records.append(pb.Record())
            records[-1].ParseFromString(parts)
    builder = RowBuilder()
    for record in records:
        if record.WhichOneof("record_type") == "history":
            builder.add(
                {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            )
    return builder.frame(), records


def assert_same(ours, theirs):
    """Equal to the last bit, columns in any order."""
    assert set(ours.columns) == set(theirs.columns)
    for column in theirs.columns:
        np.testing.assert_array_equal(ours[column].to_numpy(), theirs[column].to_numpy(), err_msg=str(column))


REAL_RUN = textwrap.dedent(
    """
    import math, sys, warnings
    warnings.simplefilter("ignore")
    import wandb
    run = wandb.init(mode="offline", dir=sys.argv[1], project="p", name="real run",
                     config={"lr": 1e-6, "actor": {"clip": 0.2, "optim": {"name": "adam"}}, "tags": [1, 2]})
    run.define_metric("train/global_step")
    run.define_metric("train/*", step_metric="train/global_step")
    run.define_metric("val/acc", step_metric="train/global_step")
    for t in range(120):
        row = {"train/global_step": 10 * t, "train/entropy": math.exp(-t / 7.0), "train/big": 2**60 + t,
               "train/tiny": 5e-324 * (t + 1), "train/nested": {"x": {"y": t / 3.0}, "z": -t}, "train/flag": t % 2 == 0}
        if t % 4 == 0:
            row["val/acc"] = 0.1 + t / 1000.0
        if t == 7:
            row |= {"train/nan": math.nan, "train/inf": -math.inf, "train/none": None}
        if t in (3, 60):
            row["train/text"] = "x" * 100_000
        run.log(row)
    run.config.update({"late": {"key": 3}})
    run.finish()
    """
)


@pytest.fixture(scope="module")
def real_file(tmp_path_factory):
    """A file that the installed SDK wrote, offline."""
    folder = tmp_path_factory.mktemp("wandb")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    env |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "HOME": str(folder),
    }
    env |= {"WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_CONFIG_DIR": str(folder / "config")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REAL_RUN, str(folder)],
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = folder.rglob("run-*.wandb")
    return path


def test_a_run_the_sdk_wrote_reads_as_the_sdk_reads_it(real_file):
    raw = read(real_file)
    theirs, _ = with_sdk_classes(real_file)
    assert len(theirs) == 120 and real_file.stat().st_size > 200_000
    assert_same(raw.rows.drop(columns="step"), theirs)
    # And what was logged, not only what two readers agree on.
    t = np.arange(120)
    np.testing.assert_array_equal(raw.rows["train/entropy"], [math.exp(-i / 7.0) for i in t])
    np.testing.assert_array_equal(raw.rows["train/nested.x.y"], t / 3.0)
    np.testing.assert_array_equal(raw.rows["train/nested.z"], -t)
    np.testing.assert_array_equal(raw.rows["train/tiny"], 5e-324 * (t + 1))
    np.testing.assert_array_equal(raw.rows["train/flag"], t % 2 == 0)
    assert raw.rows["train/inf"][7] == -math.inf and raw.rows["train/inf"].notna().sum() == 1
    assert raw.rows["val/acc"].notna().sum() == 30
    assert "train/text" not in raw.rows.columns
    assert raw.name == "real run" and raw.findings == ()


def test_config_and_step_metrics_of_a_run_the_sdk_wrote(real_file):
    raw = read(real_file)
    assert raw.config == {
        "lr": 1e-6,
        "actor.clip": 0.2,
        "actor.optim.name": "adam",
        "tags": [1, 2],
        "late.key": 3,
    }
    details = raw.provenance.details
    assert details["step_metric"]["train/nested.x.y"] == "train/global_step"
    assert details["step_metric"]["val/acc"] == "train/global_step"
    assert "_runtime" not in details["step_metric"]
    assert details["step_axis"] == "train/global_step (define_metric)"
    np.testing.assert_array_equal(raw.rows["step"], 10.0 * np.arange(120))
    np.testing.assert_array_equal(raw.rows["_step"], np.arange(120))
    assert details["exit_code"] == 0 and details["producer"].startswith("0.")
    assert details["run_id"] in real_file.name


def small_records():
    records = [writer.run(config={"lr": 0.1})]
    for t in range(12):
        records.append(writer.history({"_step": t, "actor/entropy": 1.0 / (t + 1), "acc": 0.1 * t}))
        if t % 5 == 0:
            records.append(writer.stats())
    return [*records, writer.exit_()]


def test_cut_at_every_byte_the_rows_are_an_exact_prefix(tmp_path):
    records = small_records()
    data, ends = writer.frame(records), writer.record_ends(records)
    full = read(write(tmp_path / "full.wandb", records)).rows
    is_history = [b"actor/entropy" in r for r in records]
    path = tmp_path / "cut.wandb"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size < 7:
            with pytest.raises(UnreadableSource):
                read(path)
            continue
        raw = read(path)
        whole = sum(end <= size for end in ends)
        expected = sum(is_history[:whole])
        assert len(raw.rows) == expected, size
        if expected:
            pd.testing.assert_frame_equal(raw.rows, full.iloc[:expected])
        assert ("crashed-or-running" in codes(raw)) == (whole < len(records))
        assert ("truncated-tail" in codes(raw)) == (size not in (7, *ends))
        assert "corrupt-blocks" not in codes(raw)


def test_a_cut_inside_a_record_that_spans_blocks(tmp_path):
    long = json.dumps("x" * 100_000)
    records = [writer.history({"_step": t, "loss": t / 7.0, "text": long}) for t in range(3)]
    data, ends = writer.frame(records), writer.record_ends(records)
    for size in range(7, len(data) + 1, 997):
        (tmp_path / "a.wandb").write_bytes(data[:size])
        raw = read(tmp_path / "a.wandb")
        assert len(raw.rows) == sum(end <= size for end in ends)
        assert ("truncated-tail" in codes(raw)) == (size not in (7, *ends))
    assert list(read(write(tmp_path / "b.wandb", records)).rows["loss"]) == [0.0, 1 / 7.0, 2 / 7.0]


def big_records():
    """Five blocks of history."""
    rng = np.random.default_rng(5)
    rows = [
        {"_step": t, "e": float(rng.normal()), "pad": json.dumps("p" * int(rng.integers(900)))}
        for t in range(300)
    ]
    return [writer.run(), *(writer.history(row) for row in rows), writer.exit_()]


BIG = big_records()
BIG_BYTES = writer.frame(BIG)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(BIG_BYTES) - 1), st.integers(1, 255)),
        min_size=1,
        max_size=4,
        unique_by=lambda f: f[0],
    ),
    cut=st.one_of(st.none(), st.integers(0, len(BIG_BYTES))),
)
def test_changed_bytes_never_give_a_changed_number_in_silence(tmp_path, flips, cut):
    data = bytearray(BIG_BYTES)
    for position, bits in flips:
        data[position] ^= bits
    path = tmp_path / "flipped.wandb"
    path.write_bytes(data[:cut])
    full = read(write(tmp_path / "full.wandb", BIG)).rows
    try:
        raw = read(path)
    except UnreadableSource:
        return
    # Each row that came through is a row of the original, bit for bit, and in order ...
    assert raw.rows.empty or raw.rows["_step"].is_monotonic_increasing
    if len(raw.rows):
        original = full.set_index("_step").loc[raw.rows["_step"]]
        np.testing.assert_array_equal(original["e"].to_numpy(), raw.rows["e"].to_numpy())
    # ... and if one is missing, a finding says that something is.
    if len(raw.rows) < len(full):
        assert codes(raw) & {"corrupt-blocks", "truncated-tail", "crashed-or-running"}
    if cut is None and len(raw.rows) < len(full):
        assert codes(raw) & {"corrupt-blocks", "truncated-tail"}


def test_a_damaged_block_costs_that_block_only(tmp_path):
    data = bytearray(BIG_BYTES)
    data[32768 * 2 + 400] ^= 1
    (tmp_path / "a.wandb").write_bytes(data)
    raw = read(tmp_path / "a.wandb")
    steps = raw.rows["_step"].to_numpy()
    gap = np.flatnonzero(np.diff(steps) > 1)
    assert len(gap) == 1 and steps[0] == 0 and steps[-1] == 299
    (finding,) = [f for f in raw.findings if f.code == "corrupt-blocks"]
    assert finding.severity == "warning" and finding.value == 1


@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_a_record_that_lost_its_middle_is_not_glued_together(tmp_path, block):
    """One record over four blocks, one of them damaged; its neighbours come through."""
    text = json.dumps("x" * 100_000)
    records = [
        writer.history({"_step": t, "loss": t / 7.0, **({"text": text} if t == 1 else {})}) for t in range(3)
    ]
    data = bytearray(writer.frame([*records, writer.exit_()]))
    assert len(data) > 3 * 32768
    data[block * 32768 + 500] ^= 64
    (tmp_path / "a.wandb").write_bytes(data)
    raw = read(tmp_path / "a.wandb")
    # The last block also holds what comes after the long record.
    assert list(raw.rows["_step"]) == ([0] if block == 3 else [0, 2])
    assert "corrupt-blocks" in codes(raw) and "undecodable-values" not in codes(raw)


def test_a_writer_that_died_and_was_followed_by_another_is_noticed(tmp_path):
    """A record begins, never ends, and whole records follow."""
    begun = writer.frame([writer.history({"_step": 0, "text": json.dumps("x" * 50_000)})])[:32768]
    data = writer.frame([writer.history({"_step": 1, "loss": 0.5}), writer.exit_()], start=begun)
    (tmp_path / "a.wandb").write_bytes(data)
    raw = read(tmp_path / "a.wandb")
    assert list(raw.rows["_step"]) == [1] and "corrupt-blocks" in codes(raw)


def test_a_zeroed_block_is_damage_not_padding(tmp_path):
    data = bytearray(BIG_BYTES)
    data[32768:65536] = bytes(32768)
    (tmp_path / "a.wandb").write_bytes(data)
    assert "corrupt-blocks" in codes(read(tmp_path / "a.wandb"))


@pytest.mark.parametrize("first", range(32768 - 7 - 16, 32768 - 7 + 9))
def test_every_way_a_record_can_meet_the_end_of_a_block(tmp_path, first):
    """The first record ends 0..24 bytes around the block's end: header split, padding, zero-length first chunk."""
    pad = writer.history({"_step": 0, "pad": json.dumps("p" * 32000)})
    pad = writer.history({"_step": 0, "pad": json.dumps("p" * (32000 + first - 7 - len(pad)))})
    assert len(pad) == first - 7
    raw = read(write(tmp_path / "a.wandb", [pad, writer.history({"_step": 1, "e": 0.25}), writer.exit_()]))
    assert list(raw.rows["_step"]) == [0, 1] and raw.rows["e"][1] == 0.25 and raw.findings == ()


def test_header_only_is_valid_and_empty(tmp_path):
    (tmp_path / "a.wandb").write_bytes(writer.FILE_HEADER)
    raw = read(tmp_path / "a.wandb")
    assert len(raw.rows) == 0 and [f.code for f in raw.findings] == ["no-history", "crashed-or-running"]


@pytest.mark.parametrize("start", [b"", b":W&", b":W&B\xe1\xbe\x01", b":W&B\xe1\xbf\x00", b"PK\x03\x04abc"])
def test_what_is_not_a_wandb_file_is_refused(tmp_path, start):
    (tmp_path / "a.wandb").write_bytes(start)
    with pytest.raises(UnreadableSource) as caught:
        read(tmp_path / "a.wandb")
    assert caught.value.hint


def test_sniffed_by_content(tmp_path):
    assert wandb_file.sniff(Head(tmp_path / "x", writer.FILE_HEADER, 7))
    assert not wandb_file.sniff(Head(tmp_path / "x.wandb", b"step:1 - a:2", 12))


JSON_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.text(max_size=5),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(["tensor(0.5)", "nan", "1_0", "-", "0.5x"]),
    st.lists(st.integers(), max_size=2),
)
JSON_VALUES = st.one_of(
    JSON_LEAVES, st.dictionaries(st.text("ab", min_size=1, max_size=2), JSON_LEAVES, max_size=3)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=200)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.dictionaries(st.one_of(NAMES, st.sampled_from("abcde")), JSON_VALUES, max_size=6),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_any_json_value_reads_as_the_row_builder_reads_it(tmp_path, rows):
    path = write(tmp_path / "a.wandb", [writer.history(row, nested) for row, nested in rows_as_text(rows)])
    builder = RowBuilder()
    for row, _ in rows:
        builder.add(json.loads(json.dumps(row)))
    expected = builder.frame()
    ours = read(path).rows
    assert len(ours) == len(expected)
    assert_same(ours[list(expected.columns)], expected)


def rows_as_text(rows):
    return [({k: json.dumps(v) for k, v in row.items()}, nested) for row, nested in rows]


def test_numbers_that_only_look_like_numbers_do_not_spoil_the_others(tmp_path):
    """One bad spelling sends the batch down the careful path; the rest must not change."""
    rows = [
        {"a": "0.1", "b": "1e999", "c": "12abc4", "d": "-Infinity", "e": "1" * 400},
        {"a": "0.2", "b": "-0", "c": "7", "d": "1E-3"},
    ]
    raw = read(write(tmp_path / "a.wandb", [writer.history(r) for r in rows]))
    assert list(raw.rows["a"]) == [0.1, 0.2] and list(raw.rows["b"]) == [math.inf, 0.0]
    assert (
        math.isnan(raw.rows["c"][0]) and raw.rows["c"][1] == 7 and list(raw.rows["d"]) == [-math.inf, 0.001]
    )
    assert "undecodable-values" in codes(raw)


def test_typed_values_of_newer_writers(tmp_path):
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    values = {
        "number": 0.1,
        "integer": -(2**53) - 2,
        "boolean": True,
        "text": "0.75",
        "json": '{"k": 2.5}',
        "none": 0,
    }
    for name, value in values.items():
        item = record.history.item.add()
        item.nested_key.append(name)
        setattr(item, name, value)
    small = pb.Record()
    for value in (0, 1, -1, 63, -64, 2**62):
        item = small.history.item.add(key=f"i{value}")
        item.integer = value
    raw = read(write(tmp_path / "a.wandb", [record.SerializeToString(), small.SerializeToString()]))
    first = raw.rows.iloc[0]
    assert first["number"] == 0.1 and first["integer"] == -(2**53) - 2 and first["boolean"] == 1.0
    assert first["text"] == 0.75 and first["json.k"] == 2.5 and math.isnan(first["none"])
    for value in (0, 1, -1, 63, -64, 2**62):
        assert raw.rows.iloc[1][f"i{value}"] == value


def test_step_is_taken_from_the_record_where_no_item_has_it(tmp_path):
    from wandb.proto import wandb_internal_pb2 as pb

    records = []
    for t in range(3):
        record = pb.Record()
        record.ParseFromString(writer.history({"loss": 1.0}))
        record.history.step.num = t
        records.append(record.SerializeToString())
    raw = read(write(tmp_path / "a.wandb", records))
    assert list(raw.rows["_step"]) == [0, 1, 2] == resolve_step(raw.rows).step.tolist()


def test_media_are_not_metrics_and_equal_keys_count_last(tmp_path):
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    for value in ("1.5", '"2.5"', "3.5"):  # fast path, slow path, fast path
        item = record.history.item.add(key="a")
        item.value_json = value
    media = record.history.item.add(key="table")
    media.value_json = json.dumps({"_type": "table-file", "size": 10, "nrows": 3})
    raw = read(write(tmp_path / "a.wandb", [record.SerializeToString()]))
    assert list(raw.rows.columns) == ["a"] and raw.rows["a"][0] == 3.5


def test_the_step_axis_is_said(tmp_path):
    def axis(*records):
        raw = read(write(tmp_path / "a.wandb", list(records)))
        return raw.provenance.details["step_axis"], resolve_step(raw.rows).step.tolist()

    rows = [writer.history({"_step": t, "gs": 5 * t, "a/x": 1.0, "a/y": 2.0}) for t in range(2)]
    glob = writer.metric(glob="a/*", step="gs")
    assert axis(*rows)[0].startswith("_step") and axis(*rows)[1] == [0, 1]
    assert axis(glob, *rows) == ("gs (define_metric)", [0, 5])
    # One metric has another axis: W&B's counter is the only thing they share.
    assert axis(glob, writer.metric(name="a/y", step="other"), *rows)[0].startswith("_step")
    # The longer glob wins.
    assert axis(writer.metric(glob="*", step="other"), glob, *rows)[1] == [0, 5]
    named = writer.history({"_step": 4, "training/global_step": 9, "loss": 1.0})
    assert axis(named) == ("training/global_step (its name)", [9])
    # The entropy has an axis of its own, the loss has none.
    mixed = [writer.history({"_step": t, "gs": 5 * t, "a/entropy": 1.0, "loss": 2.0}) for t in range(2)]
    assert axis(glob, *mixed) == ("gs (define_metric, of the entropy)", [0, 5])


def test_config_updates_removals_and_wrapping(tmp_path):
    from wandb.proto import wandb_internal_pb2 as pb

    def config(updates=(), removals=()):
        record = pb.Record()
        for key, value in updates:
            item = record.config.update.add(value_json=json.dumps(value))
            if isinstance(key, tuple):
                item.nested_key.extend(key)
            else:
                item.key = key
        for key in removals:
            record.config.remove.add(key=key)
        return record.SerializeToString()

    path = write(
        tmp_path / "a.wandb",
        [
            writer.run(config={"a": {"b": 1, "c": 2}, "gone": 5, "_wandb": {"x": 1}}),
            config([("a", {"d": 3}), (("n", "m"), 4)], ["gone"]),
            config([("w", {"value": {"k": 0.5}, "desc": None})]),
        ],
    )
    assert read(path).config == {"a.d": 3, "n.m": 4, "w.k": 0.5}


def test_failed_runs_say_so(tmp_path):
    raw = read(write(tmp_path / "a.wandb", [writer.history({"_step": 0, "x": 1.0}), writer.exit_(1)]))
    assert codes(raw) == {"ended-with-error"} and raw.provenance.details["exit_code"] == 1


def test_memory_does_not_grow_with_what_is_passed_over(tmp_path):
    """40 MB of console output, a few rows: read in pieces of 4 MiB, never whole."""
    import tracemalloc

    from wandb.proto import wandb_internal_pb2 as pb

    output = pb.Record()
    output.output_raw.line = "x" * 20_000
    chunk = writer.frame([output.SerializeToString()] * 400 + [writer.history({"_step": 1, "x": 0.5})])
    body = writer.frame([output.SerializeToString()] * 2000 + [writer.history({"_step": 1, "x": 0.5})])
    assert len(body) > 4 * len(chunk)
    path = tmp_path / "a.wandb"
    path.write_bytes(body)
    tracemalloc.start()
    raw = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(raw.rows["x"]) == [0.5] and peak < len(body) * 0.8


@needs_shared
def test_a_real_file_without_history():
    raw = read(SHARED / "format_samples" / "offline_run_without_history.wandb")
    assert len(raw.rows) == 0 and raw.findings[0].code == "no-history"
    assert raw.config["data.max_response_length"] == 4096 and len(raw.config) > 100
    assert raw.provenance.details["records"] > 10_000 and raw.provenance.details["damaged_places"] == 0


# The wire decoder on its own.


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12))
@example([b"\x80\x80\x80\x80\x10\x00", b"\xf8\xff\xff\xff\x0f\x00"])  # field numbers 2^29 and 2^29 - 1
def test_walk_and_fields_agree_on_any_bytes(messages):
    """The decoder of many and the decoder of one: same fields, same verdict on what is not protobuf."""
    buf = wire.padded(b"".join(messages))
    hi = np.cumsum([len(m) for m in messages], dtype=np.int64)
    lo = hi - np.array([len(m) for m in messages], dtype=np.int64)
    layer = wire.walk(buf, lo, hi)
    for i, message in enumerate(messages):
        try:
            expected = list(wire.fields(message))
        except wire.ProtobufError:
            assert layer.bad[i]
            continue
        assert not layer.bad[i]
        mine = layer.message == i
        assert list(layer.number[mine]) == [f[0] for f in expected]
        for a, b, (_, kind, value) in zip(layer.lo[mine], layer.hi[mine], expected, strict=True):
            if kind == 0:
                assert int(wire.read_varints(buf, np.array([a]))[0][0]) == wire.signed(value)
            else:
                assert buf[a:b].tobytes() == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_and_zigzag_are_protobufs(value):
    from google.protobuf.internal import wire_format

    assert wire.signed(value % (1 << 64)) == value
    assert wire.zigzag(wire_format.ZigZagEncode(value)) == value


def test_the_log_reader_joins_batches(tmp_path):
    """Records that span the pieces in which the file is read."""
    records = [bytes([i % 256]) * 1_500_000 for i in range(7)]
    path = tmp_path / "a"
    path.write_bytes(writer.frame(records, start=b""))
    with path.open("rb") as handle:
        reader = LogReader(handle)
        got = b"".join(data for data, _ in reader)
    assert got == b"".join(records) and reader.n_records == 7 and reader.damaged == reader.lost == 0
