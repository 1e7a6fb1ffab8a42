"""More of ``hostile_inputs.py``: compressed files, event files, W&B files, Parquet, SQLite and folders."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
from hostile_inputs import FAMILIES, Family, family, fill, row

from entlaw.runs.parsing.tfrecord import crc32c, masked

# Compressed -----------------------------------------------------------------------------------------------------


def bomb(path: Path, n: int, piece: bytes, head: bytes = b"", tail: bytes = b"") -> None:
    """A gzip file of about `n` bytes that holds one piece over and over."""
    block = gzip.compress(piece * ((4 << 20) // len(piece)))
    path.write_bytes(gzip.compress(head) + block * max(1, n // len(block)) + gzip.compress(tail))


def _bomb(name: str, file: str, piece: bytes, head: bytes = b"", tail: bytes = b"") -> Family:
    return Family("gzip", name, file, lambda path, n: bomb(path, n, piece, head, tail))


_ROW = json.dumps(row(1)).encode()
FAMILIES += [
    _bomb("a list of records, inflated", "log.json.gz", b",{}", b'[{"step":1}', b"]"),
    _bomb("a record over and over", "log.jsonl.gz", _ROW + b"\n"),
    _bomb("smallest records, inflated", "small.jsonl.gz", b'{"a":1}\n'),
    _bomb("zeros", "run.log.gz", b"\0" * 1024, _ROW + b"\n"),
    _bomb("blank lines", "run.log.gz", b"\n", b"step:1 - actor/entropy:1 - critic/score/mean:1\n"),
    _bomb("one endless line", "run.log.gz", b"step:", b"step:1 - actor/entropy:1 - critic/score/mean:1\n"),
    _bomb("rows of a table, inflated", "log.csv.gz", b"1,0.5,0.2\n", b"step,entropy,reward\n"),
    _bomb("a notebook, inflated", "log.ipynb.gz", b'"x",', b'{"cells":[{"outputs":[{"text":[', b'""]}]}]}'),
]


@family("gzip", "run.log.gz")
def tiny_members(path: Path, n: int) -> None:
    """Thousands of gzip files in one."""
    one = gzip.compress(b"step:1 - actor/entropy:0.5 - critic/score/mean:0.2\n")
    path.write_bytes(one * (n // len(one)))


@family("gzip", "log.jsonl")
def a_hole_in_a_file(path: Path, n: int) -> None:
    """A sparse file: a thousand times longer than what it takes on the disk."""
    path.write_bytes(fill(100, [json.dumps(row(i)) for i in range(9)]))
    os.truncate(path, 1000 * n)
    with path.open("ab") as handle:
        handle.write(b"\n" + fill(100, [json.dumps(row(i)) for i in range(9, 18)]))


# TensorBoard ----------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def part(number: int, payload: bytes) -> bytes:
    """A protobuf field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def record(payload: bytes, length: int | None = None) -> bytes:
    """A TFRecord, `length` in place of its own."""
    head = struct.pack("<Q", len(payload) if length is None else length)
    return (
        head + struct.pack("<I", masked(crc32c(head))) + payload + struct.pack("<I", masked(crc32c(payload)))
    )


def scalars(step: int, values: Iterable[tuple[str, float]]) -> bytes:
    """An event with scalars."""
    body = b"".join(part(1, part(1, tag.encode()) + b"\x15" + struct.pack("<f", x)) for tag, x in values)
    return b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step) + part(5, body)


_START = record(b"\x09" + struct.pack("<d", 1.7e9) + part(3, b"brain.Event:2"))
_EVENTS = "events.out.tfevents.1.host"


@family("tensorboard", _EVENTS)
def one_tag_a_step(path: Path, n: int) -> None:
    """Each step has a tag of its own."""
    path.write_bytes(_START + b"".join(record(scalars(i, [(f"k{i}", 1.0)])) for i in range(n // 48)))


@family("tensorboard", _EVENTS)
def many_tags(path: Path, n: int) -> None:
    """A few steps of thousands of tags, one event a value."""
    made = (record(scalars(i % 4, [(f"k{i // 4}", 1.0)])) for i in range(n // 48))
    path.write_bytes(_START + b"".join(made))


@family("tensorboard", _EVENTS)
def one_event_of_many_values(path: Path, n: int) -> None:
    """All values in one record."""
    path.write_bytes(_START + record(scalars(1, [(f"k{i}", 1.0) for i in range(n // 16)])))


@family("tensorboard", _EVENTS)
def one_message_of_small_fields(path: Path, n: int) -> None:
    """A record of two-byte fields."""
    path.write_bytes(_START + record(b"\x10\x01" * (n // 2)))


@family("tensorboard", _EVENTS)
def records_just_too_long(path: Path, n: int) -> None:
    """Records of 4,000 bytes, whose checksums take segments."""
    path.write_bytes(_START + record(part(9, b"x" * 4000)) * (n // 4019))


@family("tensorboard", _EVENTS)
def a_length_of_2_62(path: Path, n: int) -> None:
    """A record that says it is longer than any disk."""
    path.write_bytes(_START + record(b"x" * n, 1 << 62))


@family("tensorboard", _EVENTS)
def zeros_behind_a_wrong_header(path: Path, n: int) -> None:
    """Places that could be a header, and are none."""
    path.write_bytes(_START + b"\xff" * 12 + bytes(n))


@family("tensorboard", _EVENTS)
def empty_records_(path: Path, n: int) -> None:
    """Records without data."""
    path.write_bytes(_START + record(b"") * (n // 16))


# W&B ------------------------------------------------------------------------------------------------------------


def wandb_file(path: Path, records: Iterable[bytes], size: int = 1 << 20) -> None:
    """A ``.wandb`` file."""
    out = bytearray(b":W&B\xe1\xbe\x00")
    for whole in records:
        rest, begun = memoryview(whole), False
        while True:
            if (room := 32768 - len(out) % 32768) < 7:
                out += bytes(room)
                room = 32768
            piece, rest = rest[: room - 7], rest[room - 7 :]
            typed = bytes([(3 if rest else 4) if begun else (2 if rest else 1)]) + piece
            out += struct.pack("<IH", zlib.crc32(typed), len(piece)) + typed
            begun = True
            if not rest:
                break
        if len(out) >= size:
            break
    path.write_bytes(out)


def item(key: str, value: object) -> bytes:
    """A history or configuration item."""
    return part(1, part(2, key.encode()) + part(16, json.dumps(value).encode()))


def history(values: dict[str, object]) -> bytes:
    """A history record."""
    return part(2, b"".join(item(k, v) for k, v in values.items()))


@family("wandb", "run-a.wandb")
def one_new_key_a_history_row(path: Path, n: int) -> None:
    """Each row has a key of its own."""
    wandb_file(path, (history({"_step": i, "entropy": 1, f"k{i}": 1}) for i in range(n)), n)


@family("wandb", "run-a.wandb")
def one_history_row(path: Path, n: int) -> None:
    """All values in one row."""
    wandb_file(path, [history({f"k{i}": 1 for i in range(n // 16)})])


@family("wandb", "run-a.wandb")
def values_that_are_dictionaries(path: Path, n: int) -> None:
    """Each row has a dictionary of new keys."""
    wandb_file(path, (history({"_step": i, "a": {f"k{i}": {"b": 1}}}) for i in range(n)), n)


@family("wandb", "run-a.wandb")
def configuration_updates(path: Path, n: int) -> None:
    """Thousands of settings, one record each."""
    wandb_file(path, (part(5, item(f"k{i}", 1)) for i in range(n)), n)


@family("wandb", "run-a.wandb")
def one_configuration(path: Path, n: int) -> None:
    """Thousands of settings in one record."""
    wandb_file(path, [part(5, b"".join(item(f"k{i}", 1) for i in range(n // 16)))])


@family("wandb", "run-a.wandb")
def globs_of_metrics(path: Path, n: int) -> None:
    """Half of the bytes define metrics by globs, half are keys."""
    globs = [part(12, part(2, f"*a{i}*".encode()) + part(4, b"s")) for i in range(n // 40)]
    wandb_file(path, [*globs, *(history({f"k{i}": 1}) for i in range(n // 50))])


@family("wandb", "run-a.wandb")
def a_record_of_small_fields(path: Path, n: int) -> None:
    """A history record of two-byte fields."""
    wandb_file(path, [part(2, b"\x08\x01" * (n // 2))])


# Parquet, SQLite, MLflow ----------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict[str, object], **options: object) -> None:
    """A Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, **options)


@family("parquet", "log.parquet")
def equal_rows(path: Path, n: int) -> None:
    """Hundreds of rows a byte: runs of one value take no space."""
    rows = np.ones(min(n * 300, 300_000_000) // 64, dtype=np.int8)
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = pa.table({"step": rows, "entropy": rows, "reward": rows})
    with pq.ParquetWriter(path, made.schema, compression="zstd") as writer:
        for _ in range(64):
            writer.write_table(made, row_group_size=len(rows))


@family("parquet", "log.parquet")
def many_columns_of_a_file(path: Path, n: int) -> None:
    """Two rows of many columns."""
    parquet(path, {"step": [1, 2], **{f"k{i}": [1, 2] for i in range(n // 300)}})


@family("parquet", "log.parquet")
def one_long_text_over_and_over(path: Path, n: int) -> None:
    """A text that a dictionary stores once."""
    import pyarrow as pa

    rows = 20_000
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array(["x" * n]))
    parquet(path, {"step": np.arange(rows), "entropy": np.ones(rows), "run": texts})


@family("parquet", "log.parquet")
def many_row_groups(path: Path, n: int) -> None:
    """One row a group."""
    rows = max(n // 700, 1)
    columns = {k: np.arange(rows, dtype=float) for k in ("step", "entropy", "reward")}
    parquet(path, columns, row_group_size=1)


def database(path: Path, *statements: str, rows: Iterable[tuple[object, ...]] = ()) -> None:
    """An SQLite file."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
        for row_ in rows:
            db.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row_)


_METRICS = "CREATE TABLE metrics(id INTEGER PRIMARY KEY, run_id, timestamp, run_name, step, metrics)"
_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x"


@family("trackio", "project.db")
def a_view_without_end(path: Path, n: int) -> None:
    """The table of metrics is an endless query."""
    columns = "'r' AS run_id, '' AS timestamp, 'r' AS run_name, x AS step, '{}' AS metrics"
    view = f"CREATE VIEW metrics AS {_ENDLESS} AS id, {columns} FROM c"
    database(path, view, "CREATE TABLE other(x)")


@family("trackio", "project.db")
def a_column_that_is_computed(path: Path, n: int) -> None:
    """A generated column of long texts."""
    rows = ((i, "r", "", "r", i, "") for i in range(n // 30))
    database(path, _METRICS.replace("metrics)", "old)"), rows=rows)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE metrics ADD COLUMN metrics AS (hex(zeroblob(100000000)))")


@family("trackio", "project.db")
def one_run_a_record(path: Path, n: int) -> None:
    """Each record has a run of its own."""
    rows = ((i, f"r{i}", "", f"r{i}", 1, '{"entropy":1}') for i in range(n // 40))
    database(path, _METRICS, rows=rows)


@family("trackio", "project.db")
def one_new_key_a_record_(path: Path, n: int) -> None:
    """Each record has a key of its own."""
    rows = ((i, "r", "", "r", i, json.dumps({f"k{i}": 1, "entropy": 1})) for i in range(n // 45))
    database(path, _METRICS, rows=rows)
