"""A second, independent writer of ``.wandb`` files: LevelDB framing by hand, records by the SDK's classes."""

from __future__ import annotations

import json
import struct
import zlib

FILE_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32768


def frame(records, start=FILE_HEADER):
    """The file's bytes: each record cut into chunks that do not cross a 32 KiB block."""
    out = bytearray(start)
    for record in records:
        rest, begun = memoryview(record), False
        while True:
            room = BLOCK - len(out) % BLOCK
            if room < 7:
                out += bytes(room)
                room = BLOCK
            piece, rest = rest[: room - 7], rest[room - 7 :]
            kind = (3 if rest else 4) if begun else (2 if rest else 1)
            typed = bytes([kind]) + piece
            out += struct.pack("<IH", zlib.crc32(typed), len(piece)) + typed
            begun = True
            if not rest:
                break
    return bytes(out)


def record_ends(records, start=FILE_HEADER):
    """File size after each record: a file cut there holds exactly that many."""
    return [len(frame(records[: i + 1], start)) for i in range(len(records))]


def history(row, nested=True, number=0):
    """One history record, serialised; ``row`` maps names, or tuples of nested names, to values."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record(num=number)
    for key, value in row.items():
        item = record.history.item.add()
        if isinstance(key, tuple):
            item.nested_key.extend(key)
        elif nested:
            item.nested_key.append(key)
        else:
            item.key = key
        item.value_json = value if isinstance(value, str) else json.dumps(value)
    return record.SerializeToString()


def run(run_id="abc123", config=None, name="", started=1_700_000_000):
    """A run record with a config."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    record.run.run_id, record.run.display_name = run_id, name
    record.run.start_time.seconds = started
    for key, value in (config or {}).items():
        item = record.run.config.update.add()
        item.key, item.value_json = key, json.dumps(value)
    return record.SerializeToString()


def exit_(code=0):
    """The record of a run that ended."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    record.exit.exit_code = code
    return record.SerializeToString()


def metric(name="", glob="", step=""):
    """The record that ``define_metric`` leaves."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    record.metric.name, record.metric.glob_name, record.metric.step_metric = name, glob, step
    return record.SerializeToString()


def stats():
    """A system metrics record, which a reader must pass over."""
    from wandb.proto import wandb_internal_pb2 as pb

    record = pb.Record()
    item = record.stats.item.add()
    item.key, item.value_json = "cpu", "12.5"
    return record.SerializeToString()
