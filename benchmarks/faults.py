"""Damage every format in thousands of ways and see what comes out: the fault table.

Each case damages a small valid log, then reads, aligns and fits it. An outcome is one of
  equal      the same numbers as from the undamaged log
  prefix     an exact beginning of them, as from a run that is still going
  told       other numbers or fewer rows, with a finding that says so
  error      a clear error of entlaw.errors
  changed    other numbers and no finding: unavoidable where a text format has no checksum and a digit was flipped
             into another digit, must not be where there is one (.wandb, TensorBoard)
  crash      anything else; must be 0

Run: python benchmarks/faults.py [--cases 10000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import entlaw
from entlaw.errors import EntlawError
from entlaw.law.fit import fit_points
from entlaw.points import Points
from entlaw.runs.run import Run

CHECKSUMMED = {"wandb", "tensorboard"}


def records(n: int = 24) -> list[dict[str, float]]:
    """A run that obeys the law, 24 steps."""
    rng = np.random.default_rng(0)
    h = 0.05 + 0.9 * np.exp(-np.arange(n + 1) / 9)
    r = 0.8 - 0.2 * np.exp(h) + 0.004 * rng.standard_normal(n + 1)
    return [
        {"step": t, "actor/entropy": round(float(h[t]), 4), "critic/score/mean": round(float(r[t]), 4)}
        for t in range(1, n + 1)
    ]


def jsonl(rows: list[dict[str, float]]) -> bytes:
    """Flat JSON lines."""
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def verl_jsonl(rows: list[dict[str, float]]) -> bytes:
    """verl's file logger."""
    return "".join(
        json.dumps({"step": r["step"], "data": {k: v for k, v in r.items() if k != "step"}}) + "\n"
        for r in rows
    ).encode()


def verl_console(rows: list[dict[str, float]]) -> bytes:
    """verl's console log with Ray's prefix."""
    return "".join(
        f"\x1b[36m(TaskRunner pid=7)\x1b[0m step:{r['step']} - "
        + " - ".join(f"{k}:{v:.4f}" for k, v in r.items() if k != "step")
        + "\n"
        for r in rows
    ).encode()


def trl_console(rows: list[dict[str, float]]) -> bytes:
    """TRL's dict lines behind a progress bar."""
    return "".join(
        f"  4%|4 | {r['step']}/24 [00:0{r['step'] % 10}<01:00]\r"
        + repr({"loss": 0.1, "reward": r["critic/score/mean"], "entropy": r["actor/entropy"]})
        + "\n"
        for r in rows
    ).encode()


def trainer_state(rows: list[dict[str, float]]) -> bytes:
    """Hugging Face trainer_state.json."""
    log = [{"step": r["step"], "reward": r["critic/score/mean"], "entropy": r["actor/entropy"]} for r in rows]
    return json.dumps({"global_step": 24, "max_steps": 24, "log_history": log}, indent=1).encode()


def notebook(rows: list[dict[str, float]]) -> bytes:
    """A notebook that holds the console log."""
    text = verl_console(rows).decode().splitlines(keepends=True)
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {},
        "source": ["!train\n"],
        "outputs": [{"output_type": "stream", "name": "stdout", "text": text}],
    }
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def csv(rows: list[dict[str, float]]) -> bytes:
    """Wide CSV."""
    return pd.DataFrame(rows).to_csv(index=False).encode()


def parquet(rows: list[dict[str, float]]) -> bytes:
    """Parquet, as pandas writes it."""
    return pd.DataFrame(rows).to_parquet()


def wandb_file(rows: list[dict[str, float]]) -> bytes:
    """A .wandb file, framed here, payloads by the SDK's protobuf classes."""
    import struct
    import zlib

    from wandb.proto import wandb_internal_pb2 as pb

    out, position = bytearray(b":W&B\xe1\xbe\x00"), 7
    for number, row in enumerate(rows):
        record = pb.Record(num=number + 1)
        record.points.step.num = number
        for key, value in {**row, "_step": number}.items():
            item = record.points.item.add()
            item.nested_key.append(key)
            item.value_json = json.dumps(value)
        payload, first = record.SerializeToString(), True
        while True:
            room = 32768 - position % 32768
            if room < 7:
                out += bytes(room)
                position += room
                continue
            piece, payload = payload[: room - 7], payload[room - 7 :]
            kind = (1 if not payload else 2) if first else (3 if payload else 4)
            crc = zlib.crc32(bytes([kind]) + piece) & 0xFFFFFFFF
            out += struct.pack("<IHB", crc, len(piece), kind) + piece
            position, first = position + 7 + len(piece), False
            if not payload:
                break
    return bytes(out)


def tensorboard(rows: list[dict[str, float]]) -> bytes:
    """A TensorBoard event file, written by tensorboard's own writer."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = EventFileWriter(folder)
        for r in rows:
            values = [Summary.Value(tag=k, simple_value=v) for k, v in r.items() if k != "step"]
            writer.add_event(
                Event(wall_time=1e9 + r["step"], step=int(r["step"]), summary=Summary(value=values))
            )
        writer.close()
        return next(Path(folder).iterdir()).read_bytes()


def trackio(rows: list[dict[str, float]]) -> bytes:
    """A trackio database (the columns the reader uses)."""
    import sqlite3

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.db"
        db = sqlite3.connect(path)
        db.execute(
            "create table metrics (id integer primary key autoincrement, timestamp text not null, "
            "run_name text not null, step integer not null, metrics text not null)"
        )
        for r in rows:
            data = json.dumps({k: v for k, v in r.items() if k != "step"})
            db.execute(
                "insert into metrics (timestamp, run_name, step, metrics) values (?, 'run', ?, ?)",
                (f"2026-01-01T00:00:{int(r['step']):02d}", r["step"], data),
            )
        db.commit()
        db.close()
        return path.read_bytes()


FORMATS: dict[str, tuple[str, Callable[[list[dict[str, float]]], bytes]]] = {
    "wandb": ("run-x.wandb", wandb_file),
    "tensorboard": ("events.out.tfevents.1.host", tensorboard),
    "trackio": ("project.db", trackio),
    "parquet": ("run.parquet", parquet),
    "csv": ("run.csv", csv),
    "notebook": ("run.ipynb", notebook),
    "trainer_state": ("trainer_state.json", trainer_state),
    "jsonl": ("metrics.jsonl", jsonl),
    "verl jsonl": ("exp.jsonl", verl_jsonl),
    "verl console": ("verl.log", verl_console),
    "trl console": ("trl.log", trl_console),
}


def flips(good: bytes, cases: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Copies with one to four random bytes replaced, and now and then a piece cut out or doubled."""
    for _ in range(cases):
        data = bytearray(good)
        kind = rng.integers(10)
        if kind < 8:
            for at in rng.integers(len(data), size=rng.integers(1, 5)):
                data[at] = rng.integers(256)
        else:
            start, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
            piece = data[start : start + length]
            data[start : start + length] = b"" if kind == 8 else piece + piece
        yield bytes(data)


def outcome(path: Path, want: Run) -> str:
    """Read, align and fit one damaged file."""
    try:
        runs = entlaw.read(path)
        for run in runs:
            if len(run.points) > 2:
                fit_points(Points.of(run), method="careful")
    except EntlawError:
        return "error"
    except Exception as error:
        return f"crash ({type(error).__name__}: {error})"
    run = runs[0]
    if len(runs) == 1 and run.points.equals(want.points):
        return "equal"
    if run.findings != want.findings or len(runs) != 1:
        return "told"
    return "prefix" if run.points.equals(want.points.head(len(run.points))) else "changed"


def table(folder: Path, cases: int, seed: int) -> dict[tuple[str, str], Counter[str]]:
    """Outcomes by (format, kind of damage)."""
    rng = np.random.default_rng(seed)
    rows, counts = records(), {}
    for name, (filename, write) in FORMATS.items():
        good = write(rows)
        path = folder / name.replace(" ", "-") / filename
        path.parent.mkdir()
        path.write_bytes(good)
        want = entlaw.read(path)[0]
        last_line = good.rstrip(b"\n").rfind(b"\n") + 1
        start = 0 if name in ("wandb", "tensorboard", "parquet") else last_line
        damaged = {
            "cut": (good[:n] for n in range(start, len(good))),
            "flip": flips(good, cases // len(FORMATS) + 1, rng),
        }
        for kind, variants in damaged.items():
            counter: Counter[str] = Counter()
            for data in variants:
                path.write_bytes(data)
                counter[outcome(path, want)] += 1
            counts[name, kind] = counter
        path.unlink()
    return counts


def main() -> int:
    """Print the table; exit 1 if anything crashed, or changed silently where that can be known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = table(Path(folder), args.cases, args.seed)
    columns = ("equal", "prefix", "told", "error", "changed")
    print(f"{'format':<15}{'damage':<8}{'cases':>7}" + "".join(f"{c:>9}" for c in columns) + f"{'crash':>7}")
    bad = 0
    for (name, kind), counter in counts.items():
        crashes = {k: v for k, v in counter.items() if k.startswith("crash")}
        print(
            f"{name:<15}{kind:<8}{counter.total():>7}"
            + "".join(f"{counter[c]:>9}" for c in columns)
            + f"{sum(crashes.values()):>7}"
        )
        for what in list(crashes)[:3]:
            print(f"    {what}")
        # Cutting a file short never invents a number, whatever the format; flips are caught where there is a checksum.
        bad += sum(crashes.values()) + (counter["changed"] if kind == "cut" or name in CHECKSUMMED else 0)
    total = sum(c.total() for c in counts.values())
    print(f"{total} cases; {bad} crashes, silent changes by a cut, or silent changes under a checksum")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
