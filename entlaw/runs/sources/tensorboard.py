"""TensorBoard event files, read without TensorBoard: every scalar, nothing sampled away.

A file holds ``Event`` messages in TFRecord framing (:mod:`.tfrecord`); a scalar is a value with a tag, either a
float (``simple_value``) or, from TensorFlow 2 writers, a tensor of one element. A run that was resumed has
steps twice; of two values of one tag at one step, the one with the later wall time counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from entlaw.errors import UnreadableSource
from entlaw.findings import Finding
from entlaw.runs import sparse
from entlaw.runs.parsing import protobuf_wire as wire
from entlaw.runs.parsing import tfrecord
from entlaw.runs.run import Provenance, RawRun
from entlaw.runs.source import (
    Head,
    ReadOptions,
    Source,
    cannot_read,
    corrupt,
    cut_record,
    iso_time,
    undecodable,
)

# TensorProto.dtype -> how one element lies in tensor_content; 14 is bfloat16, the upper half of a float32.
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "u1",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
    14: "<u2",
}
_HALF, _BFLOAT16 = 19, 14
_FLOAT_VAL, _DOUBLE_VAL, _HALF_VAL = 5, 6, 13
_VARINT_VALS = (7, 10, 11, 16, 17)  # int_val, int64_val, bool_val, uint32_val, uint64_val
_FILE_NAME = "events.out.tfevents."


@dataclass
class _Scalars:
    """Scalars as found: parallel arrays in pieces, tags as numbers."""

    tags: dict[str, int] = field(default_factory=dict)
    foreign: set[int] = field(default_factory=set)  # tags that another plugin than "scalars" owns
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    n_bad: int = 0
    started: float = np.inf

    def tag(self, name: str) -> int:
        return self.tags.setdefault(name, len(self.tags))


def sniff(head: Head) -> bool:
    """Whether the file begins with a record whose header is right and which names the event format."""
    start = head.start
    if len(start) < tfrecord.HEADER:
        return False
    length = tfrecord.header_length(start[: tfrecord.HEADER])
    return length is not None and b"brain.Event:" in start[tfrecord.HEADER : tfrecord.HEADER + length]


def read(path: Path, options: ReadOptions) -> list[RawRun]:
    """Read all scalars of an event file, one row a step.

    Parameters
    ----------
    path : pathlib.Path
    options : ReadOptions
        Not needed: TensorBoard has one step axis.

    Returns
    -------
    list of RawRun
        One run, its rows in order of step. Files that TensorBoard shows as one run (they lie in one folder
        under their original names) carry the same ``details["run_id"]``.

    Raises
    ------
    UnreadableSource
        Not an event file, or damaged from its first record on.
    """
    scalars = _Scalars()
    try:
        with path.open("rb") as handle:
            reader = tfrecord.RecordReader(handle)
            for batch in reader:
                _take(batch, scalars)
    except OSError as error:
        raise cannot_read(error, path) from error
    if reader.n_records == 0:
        raise UnreadableSource(
            "no readable record in the event file",
            where=str(path),
            why=f"{reader.n_bytes} bytes, {reader.damaged} checksums wrong",
            hint="wait until the trainer has written to it, or copy the file again",
        )
    rows, repeated, differing = _frame(scalars)
    in_place = path.name.startswith(_FILE_NAME)
    details: dict[str, object] = {
        "bytes": reader.n_bytes,
        "records": reader.n_records,
        "scalars": sum(len(p[0]) for p in scalars.parts),
        "damaged_places": reader.damaged,
        "incomplete_tail_bytes": reader.tail_bytes,
        "step_axis": "step (TensorBoard's)",
    }
    if in_place:
        details["run_id"] = str(path.parent.resolve())
    if started := iso_time(scalars.started):
        details["started"] = started
    findings = _findings(reader, scalars, len(rows), repeated, differing)
    name = path.resolve().parent.name if in_place else path.stem
    return [RawRun(name, rows, {}, Provenance(str(path), SOURCE.name, "unknown", details), findings)]


def _take(batch: tfrecord.RecordBatch, scalars: _Scalars) -> None:
    """Decode the events of one batch, level by level."""
    n = len(batch.lo)
    if n == 0:
        return
    buf = wire.padded(batch.data)
    event = wire.walk(buf, batch.lo, batch.hi)
    step = np.zeros(n, dtype=np.int64)
    wall = np.zeros(n)
    at = event.pick(2, wire=0)
    step[event.message[at]] = wire.read_varints(buf, event.lo[at])[0]
    at = event.pick(1, wire=1)
    wall[event.message[at]] = wire.gather(buf, event.lo[at], "<f8")
    if (wall > 0).any():
        scalars.started = min(scalars.started, float(wall[wall > 0].min()))

    summaries = event.pick(5)
    summary = wire.walk(buf, event.lo[summaries], event.hi[summaries])
    values = summary.pick(1)
    owner = event.message[summaries][summary.message[values]]  # the event of each value
    value = wire.walk(buf, summary.lo[values], summary.hi[values])
    scalars.n_bad += int(event.bad.sum() + summary.bad.sum() + value.bad.sum())

    tag = _codes(buf, value, 1, lambda raw: scalars.tag(raw.decode("utf-8", errors="replace")))
    plugin = _codes(buf, value, 9, lambda raw: int(_plugin(raw) not in ("", "scalars")))
    # A writer names the plugin with the first value of a tag only: remember the tag.
    scalars.foreign.update(tag[(plugin == 1) & (tag >= 0)].tolist())

    number = np.zeros(len(values))
    found = np.zeros(len(values), dtype=bool)
    at = value.pick(8)
    if len(at):
        of_tensor, sound = _tensors(buf, value.lo[at], value.hi[at])
        number[value.message[at]], found[value.message[at]] = of_tensor, sound
    at = value.pick(2, wire=5)
    number[value.message[at]] = wire.gather(buf, value.lo[at], "<f4")
    found[value.message[at]] = True
    found &= tag >= 0
    scalars.parts.append((tag[found], step[owner[found]], wall[owner[found]], number[found]))


def _codes(buf: np.ndarray, layer: wire.Fields, number: int, code: Callable[[bytes], int]) -> np.ndarray:
    """``code(raw bytes)`` of one field of each message, each spelling decoded once; -1 without the field."""
    out = np.full(len(layer.bad), -1, dtype=np.int64)
    at = layer.pick(number)
    if len(at):
        coded = pc.dictionary_encode(wire.slices(buf, layer.lo[at], layer.hi[at]))
        meaning = np.array([code(raw) for raw in coded.dictionary.to_pylist()], dtype=np.int64)
        out[layer.message[at]] = meaning[coded.indices.to_numpy(zero_copy_only=False)]
    return out


def _plugin(metadata: bytes) -> str:
    """Plugin name in a SummaryMetadata message."""
    try:
        data = {n: v for n, _, v in wire.fields(metadata)}.get(1, b"")
        name = {n: v for n, _, v in wire.fields(data if isinstance(data, bytes) else b"")}.get(1, b"")
    except wire.ProtobufError:
        return "undecodable"
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else ""


def _elements(shape: bytes) -> int:
    """Number of elements of a TensorShapeProto; -1 when unknown."""
    total = 1
    try:
        for number, kind, dim in wire.fields(shape):
            if number == 2 and isinstance(dim, bytes):
                sizes = [
                    wire.signed(v) for n, k, v in wire.fields(dim) if n == 1 and k == 0 and isinstance(v, int)
                ]
                total *= sizes[-1] if sizes else 0
            elif number == 3 and kind == 0 and dim:
                return -1
    except wire.ProtobufError:
        return -1
    return total if 0 <= total < 1 << 62 else -1


def _tensors(buf: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the tensors that are one number, and which those are."""
    layer = wire.walk(buf, lo, hi)
    n = len(lo)
    dtype = np.zeros(n, dtype=np.int64)
    at = layer.pick(1, wire=0)
    dtype[layer.message[at]] = wire.read_varints(buf, layer.lo[at])[0]
    elements = _codes(buf, layer, 2, _elements)
    elements[elements == -1] = np.where(_has(layer, 2, n), -1, 1)[elements == -1]  # no shape: a scalar
    one = (elements == 1) & np.isin(dtype, list(_DTYPES)) & ~layer.bad
    number = np.zeros(n)  # a tensor that stores nothing is zero

    for code, spelling in _DTYPES.items():
        width = np.dtype(spelling).itemsize
        at = layer.pick(4)
        at = at[(dtype[layer.message[at]] == code) & (layer.hi[at] - layer.lo[at] == width)]
        raw = wire.gather(buf, layer.lo[at], spelling)
        number[layer.message[at]] = _bfloat16(raw) if code == _BFLOAT16 else raw.astype(float)
    for field_number, spelling, single in ((_FLOAT_VAL, "<f4", 5), (_DOUBLE_VAL, "<f8", 1)):
        at = np.concatenate([layer.pick(field_number), layer.pick(field_number, wire=single)])
        at = at[layer.hi[at] - layer.lo[at] == np.dtype(spelling).itemsize]
        number[layer.message[at]] = wire.gather(buf, layer.lo[at], spelling)
    for field_number in (*_VARINT_VALS, _HALF_VAL):
        at = np.concatenate([layer.pick(field_number), layer.pick(field_number, wire=0)])
        raw, end = wire.read_varints(buf, layer.lo[at])
        whole = end == layer.hi[at]  # packed: exactly one element
        at, raw = at[whole], raw[whole]
        of = layer.message[at]
        if field_number == _HALF_VAL:
            bits = (raw & 0xFFFF).astype(np.uint16)
            number[of] = np.where(
                dtype[of] == _BFLOAT16, _bfloat16(bits), bits.view(np.float16).astype(float)
            )
        elif field_number == 17:
            number[of] = raw.view(np.uint64).astype(float)
        else:
            number[of] = raw.astype(float)
    return number, one


def _bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(float)


def _has(layer: wire.Fields, number: int, n: int) -> np.ndarray:
    out = np.zeros(n, dtype=bool)
    out[layer.message[layer.number == number]] = True
    return out


def _frame(scalars: _Scalars) -> tuple[pd.DataFrame, int, int]:
    """One row a step; how many values were superseded, and how many of those said something else."""
    if not any(len(part[0]) for part in scalars.parts):
        return pd.DataFrame(index=pd.RangeIndex(0)), 0, 0
    tag, step, wall, number = (np.concatenate(column) for column in zip(*scalars.parts, strict=True))
    own = ~np.isin(tag, list(scalars.foreign))
    tag, step, wall, number = tag[own], step[own], wall[own], number[own]
    if len(tag) == 0:
        return pd.DataFrame(index=pd.RangeIndex(0)), 0, 0
    order = np.lexsort(
        (wall, step, tag)
    )  # stable: of equal wall times, the one further down the file is later
    tag, step, number = tag[order], step[order], number[order]
    last = np.ones(len(tag), dtype=bool)
    last[:-1] = (tag[1:] != tag[:-1]) | (step[1:] != step[:-1])
    same = (number[1:] == number[:-1]) | (np.isnan(number[1:]) & np.isnan(number[:-1]))
    differing = int((~last[:-1] & ~same).sum())
    steps, row = np.unique(step[last], return_inverse=True)
    present, column = np.unique(tag[last], return_inverse=True)
    names = list(scalars.tags)
    tags = [names[i] for i in present.tolist()]
    frame = sparse.table(tags, len(steps), row, column, number[last], one_row_a_step=True)
    if "step" in frame.columns:  # a scalar that is called like the axis
        frame = frame.rename(columns={"step": "scalar/step"})
    frame.insert(0, "step", steps.astype(float))
    return frame, int((~last).sum()), differing


def _findings(
    reader: tfrecord.RecordReader, scalars: _Scalars, n_rows: int, repeated: int, differing: int
) -> tuple[Finding, ...]:
    out = []
    if n_rows == 0:
        out.append(
            Finding(
                "no-scalars",
                "warning",
                f"the event file holds no scalars: {reader.n_records} records, none of them a number with a tag",
                "without metrics there is nothing to fit",
                "look for the other event files of this run",
            )
        )
    if reader.damaged:
        what = f"{reader.damaged} checksums in the file are wrong; the records there were left out"
        hint = "copy the file again from where it was written"
        out.append(corrupt("corrupt-records", reader.damaged, what, hint))
    out += undecodable(scalars.n_bad, "records")
    out += cut_record(reader.tail_bytes)
    if repeated:
        out.append(
            Finding(
                "repeated-steps",
                "info",
                f"{repeated} values were logged again at the same step, {differing} of them with another value; "
                "the one with the later wall time was kept",
                "a run that is resumed goes over its last steps twice",
                value=float(repeated),
            )
        )
    return tuple(out)


SOURCE = Source(
    "tensorboard",
    order=20,
    sniff=sniff,
    read=read,
    reference="https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto",
    files=r".*\.tfevents\..*",
)
