"""Event files: against TensorBoard's own writer and reader, cut anywhere, and with bytes changed."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing import tfrecord
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions
from entlaw.runs.sources import tensorboard

pytest.importorskip("tensorboard", reason="needs the tensorboard package as writer and oracle")


def read(path):
    (raw,) = tensorboard.read(path, ReadOptions())
    return raw


def codes(raw):
    return {f.code for f in raw.findings}


def framed(payload):
    """One TFRecord, its checksums by TensorBoard's own code."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    head = struct.pack("<Q", len(payload))
    check, data_check = (struct.pack("<I", masked_crc32c(part)) for part in (head, payload))
    return head + check + payload + data_check


def event(step=0, wall=1.7e9, **scalars):
    from tensorboard.compat.proto import event_pb2

    record = event_pb2.Event(step=step, wall_time=wall)
    for tag, value in scalars.items():
        record.summary.value.add(tag=tag, simple_value=value)
    return record.SerializeToString()


def version():
    from tensorboard.compat.proto import event_pb2

    return event_pb2.Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString()


def write(path, events):
    path.write_bytes(b"".join(framed(e) for e in (version(), *events)))
    return path


def accumulated(folder):
    """Every scalar as TensorBoard reads it: {tag: [(step, wall, value)]}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    reader = EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    reader.Reload()
    out = {
        tag: [(e.step, e.wall_time, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]
    }
    for tag in reader.Tags()["tensors"]:
        values = [
            (e.step, e.wall_time, tensor_util.make_ndarray(e.tensor_proto)) for e in reader.Tensors(tag)
        ]
        if all(v.size == 1 and v.dtype.kind in "fiub" for _, _, v in values):
            out[tag] = [(step, wall, float(v.reshape(()))) for step, wall, v in values]
    return out


def assert_equal_to_tensorboard(raw, folder):
    theirs = accumulated(folder)
    assert set(theirs) == set(raw.rows.columns) - {"step"}
    for tag, events in theirs.items():
        in_time = sorted(events, key=lambda e: e[1])  # stable: later wall time wins
        last = {step: value for step, _, value in in_time}
        ours = raw.rows.set_index("step")[tag]
        for step, value in last.items():
            np.testing.assert_array_equal(ours[step], value)
        assert ours.drop(index=list(last)).isna().all()


def test_many_scalars_none_sampled_away(tmp_path):
    """12,000 steps of two tags: TensorBoard's default keeps 10,000 of them."""
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    rng = np.random.default_rng(0)
    out = EventFileWriter(str(tmp_path))
    for t in range(12_000):
        record = event_pb2.Event(step=t, wall_time=1.7e9 + t)
        record.summary.value.add(tag="actor/entropy", simple_value=float(rng.normal()))
        if t % 7 == 0:
            record.summary.value.add(tag="val/acc", simple_value=t / 12_000)
        out.add_event(record)
    out.close()
    (path,) = tmp_path.iterdir()
    raw = read(path)
    assert len(raw.rows) == 12_000 and raw.findings == () and raw.rows["val/acc"].notna().sum() == 1715
    assert_equal_to_tensorboard(raw, tmp_path)
    assert raw.name == tmp_path.name and raw.provenance.details["run_id"] == str(tmp_path.resolve())


def test_torch_writer_with_histograms_text_and_images(tmp_path):
    torch_tb = pytest.importorskip("torch.utils.tensorboard", reason="needs torch")
    out = torch_tb.SummaryWriter(str(tmp_path))
    for t in range(30):
        out.add_scalar("loss", math.nan if t == 4 else 1.0 / (t + 1), t)
        out.add_scalar("big", 1e30 * t, t)
        out.add_histogram("weights", np.arange(2000.0), t)
        out.add_text("note", "hello " * 1000, t)
        out.add_image("image", np.random.default_rng(t).random((3, 40, 40)), t)
    out.close()
    (path,) = tmp_path.iterdir()
    raw = read(path)
    assert set(raw.rows.columns) == {"step", "loss", "big"} and len(raw.rows) == 30
    assert_equal_to_tensorboard(raw, tmp_path)
    assert raw.findings == ()


DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "bool", "uint32", "uint64", "int16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [True, False])
def test_scalars_stored_as_tensors(tmp_path, dtype, packed):
    """TensorFlow 2 writers store tensors, as raw content or as typed values; vectors are not metrics."""
    from tensorboard.compat.proto import event_pb2, tensor_pb2
    from tensorboard.compat.tensorflow_stub import dtypes
    from tensorboard.util import tensor_util

    def tensor(array):
        if not packed:
            return tensor_util.make_tensor_proto(array)
        proto = tensor_pb2.TensorProto(
            dtype=dtypes.as_dtype(array.dtype).as_datatype_enum, tensor_content=array.tobytes()
        )
        for size in array.shape:
            proto.tensor_shape.dim.add(size=size)
        return proto

    events, expected = [], []
    for t, value in enumerate([0, 1, 0.3, 100, -3]):
        if dtype in ("uint8", "bool", "uint32", "uint64") and value < 0:
            continue
        array = np.array(value).astype(dtype)
        expected.append(float(array))
        record = event_pb2.Event(step=t, wall_time=1.7e9)
        item = record.summary.value.add(tag="x")
        item.tensor.CopyFrom(tensor(array))
        if t == 0:
            item.metadata.plugin_data.plugin_name = "scalars"
        one = record.summary.value.add(tag="one")
        one.tensor.CopyFrom(tensor(array.reshape(1, 1)))
        record.summary.value.add(tag="vector").tensor.CopyFrom(tensor(np.stack([array, array])))
        record.summary.value.add(tag="empty").tensor.CopyFrom(tensor(array.reshape(1)[:0]))
        foreign = record.summary.value.add(tag="foreign")
        foreign.tensor.CopyFrom(tensor(array))
        if t == 0:  # writers name the plugin once
            foreign.metadata.plugin_data.plugin_name = "pr_curves"
        record.summary.value.add(tag="text").tensor.CopyFrom(tensor_util.make_tensor_proto("words"))
        events.append(record.SerializeToString())
    raw = read(write(tmp_path / "a", events))
    assert set(raw.rows.columns) == {"step", "x", "one"}
    np.testing.assert_array_equal(raw.rows["x"], expected)
    np.testing.assert_array_equal(raw.rows["one"], expected)


def test_bfloat16_tensors(tmp_path):
    from tensorboard.compat.proto import event_pb2, types_pb2

    values = [1.0, -2.5, 0.0078125]
    events = []
    for t, value in enumerate(values):
        bits = np.array(value, dtype=np.float32).view(np.uint32) >> 16
        record = event_pb2.Event(step=t)
        for tag, content in (("content", True), ("half_val", False)):
            tensor = record.summary.value.add(tag=tag).tensor
            tensor.dtype = types_pb2.DT_BFLOAT16
            if content:
                tensor.tensor_content = np.uint16(bits).tobytes()
            else:
                tensor.half_val.append(int(bits))
        events.append(record.SerializeToString())
    raw = read(write(tmp_path / "a", events))
    assert list(raw.rows["content"]) == values == list(raw.rows["half_val"])


def test_of_a_step_logged_twice_the_later_wall_time_counts(tmp_path):
    first = [event(t, 1000.0 + t, loss=float(t)) for t in range(10)]
    again = [event(t, 2000.0 + t, loss=float(-t)) for t in range(6, 12)]
    late = [event(3, 500.0, loss=99.0)]  # earlier in time, further down the file
    raw = read(write(tmp_path / "a", [*first, *again, *late]))
    assert list(raw.rows["loss"]) == [0, 1, 2, 3, 4, 5, -6, -7, -8, -9, -10, -11]
    (finding,) = raw.findings
    assert (
        finding.code == "repeated-steps" and finding.value == 5 and "5 of them with another" in finding.what
    )


def test_negative_steps_and_a_scalar_called_step(tmp_path):
    raw = read(write(tmp_path / "a", [named_step(-1), event(0, loss=1.0)]))
    assert list(raw.rows["step"]) == [-1, 0] and raw.rows["scalar/step"][0] == 7.0


def named_step(step):
    from tensorboard.compat.proto import event_pb2

    record = event_pb2.Event(step=step)
    record.summary.value.add(tag="step", simple_value=7.0)
    return record.SerializeToString()


EVENTS = [event(t, 1000.0 + t, e=1.0 / (t + 1), acc=0.125 * t) for t in range(40)]


def values_of(raw):
    return {
        (int(step), tag): value
        for tag in set(raw.rows.columns) - {"step"}
        for step, value in zip(raw.rows["step"], raw.rows[tag], strict=True)
        if not math.isnan(value)
    }


def test_cut_at_every_byte_the_scalars_are_an_exact_prefix(tmp_path):
    parts = [framed(e) for e in (version(), *EVENTS[:12])]
    data, ends = b"".join(parts), np.cumsum([len(p) for p in parts])
    path = tmp_path / "a"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = int((ends <= size).sum())
        if whole == 0:
            with pytest.raises(UnreadableSource):
                read(path)
            continue
        raw = read(path)
        expected = {
            (t, k): v
            for t in range(whole - 1)
            for k, v in (("e", float(np.float32(1 / (t + 1)))), ("acc", 0.125 * t))
        }
        assert values_of(raw) == expected
        assert ("truncated-tail" in codes(raw)) == (size not in ends)
        assert "corrupt-records" not in codes(raw) and ("no-scalars" in codes(raw)) == (whole == 1)


WHOLE = b"".join(framed(e) for e in (version(), *EVENTS))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)),
        min_size=1,
        max_size=4,
        unique_by=lambda f: f[0],
    )
)
def test_changed_bytes_never_give_a_changed_number_in_silence(tmp_path, flips):
    full = {
        (t, k): v for t in range(40) for k, v in (("e", float(np.float32(1 / (t + 1)))), ("acc", 0.125 * t))
    }
    data = bytearray(WHOLE)
    for position, bits in flips:
        data[position] ^= bits
    path = tmp_path / "a"
    path.write_bytes(data)
    try:
        raw = read(path)
    except UnreadableSource:
        return
    ours = values_of(raw)
    assert ours.items() <= full.items()
    assert "corrupt-records" in codes(raw)
    # A byte costs the record it is in, and no other.
    assert len(ours) >= len(full) - 2 * len(flips)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(max_size=60), max_size=5))
def test_sound_frames_around_junk_are_no_traceback(tmp_path, payloads):
    path = write(tmp_path / "a", [*payloads, event(3, loss=0.5)])
    assert (3, "loss") in values_of(read(path)) or payloads


def test_sniffed_by_content(tmp_path):
    data = write(tmp_path / "any.name", EVENTS).read_bytes()
    assert tensorboard.sniff(Head(tmp_path / "x", data[:HEAD_BYTES], len(data)))
    assert not tensorboard.sniff(Head(tmp_path / "x", b"\x01" + data[1:], len(data)))
    assert not tensorboard.sniff(Head(tmp_path / "x", data[:11], 11))
    other = framed(b"a TFRecord file of something else")
    assert not tensorboard.sniff(Head(tmp_path / "x", other, len(other)))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableSource):
        read(tmp_path / "none")


def test_crc32c_check_value_and_long_data():
    """RFC 3720's check value, and the segmented checksum against TensorBoard's byte-by-byte one."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c

    assert tfrecord.crc32c(b"123456789") == 0xE3069283
    data = np.random.default_rng(1).integers(0, 256, 20_000).astype(np.uint8)
    lo = np.array([0, 5, 5, 7, 0, 0, 1, 3000, 2], dtype=np.int64)
    hi = np.array([0, 6, 9, 60, 2048, 2049, 4097, 20_000, 6146], dtype=np.int64)
    expected = [crc32c(data[a:b].tobytes()) for a, b in zip(lo, hi, strict=True)]
    assert list(tfrecord.crc32c_many(data, lo, hi)) == expected


def test_records_larger_than_a_piece(tmp_path):
    from tensorboard.compat.proto import event_pb2

    image = event_pb2.Event(step=5)
    image.summary.value.add(tag="image").image.encoded_image_string = b"\x00" * 9_000_000
    raw = read(write(tmp_path / "a", [event(1, x=1.0), image.SerializeToString(), event(2, x=2.0)]))
    assert values_of(raw) == {(1, "x"): 1.0, (2, "x"): 2.0} and raw.findings == ()
