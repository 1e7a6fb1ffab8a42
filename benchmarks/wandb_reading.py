"""Reading a .wandb file: entlaw's own reader against the SDK's protobuf classes on the same bytes.

    python benchmarks/wandb_reading.py [--rows 3000] [--keys 60]

The SDK has had no public reader of its log container since 0.30.0, so its side gets the framing for free: it is
handed the records as bytes and only has to parse them into rows (``Record.ParseFromString``, one dict a row,
then a frame). entlaw starts from the file and includes framing and checksums. Both must give equal frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import wandb_file
from tests.runs import wandb_writer as writer


def records(n_rows: int, n_keys: int, seed: int = 0) -> list[bytes]:
    """Records as a verl run leaves them: history with shuffled keys, system metrics in between."""
    rng = np.random.default_rng(seed)
    groups = ("actor", "critic", "timing_s", "response_length", "perf", "val-core/openai/gsm8k/acc")
    names = [f"{groups[i % len(groups)]}/metric_{i}" for i in range(n_keys)]
    out = [writer.run(config={"lr": 1e-6})]
    for t in range(n_rows):
        values = rng.normal(size=n_keys)
        row = {names[i]: float(values[i]) for i in rng.permutation(n_keys)}
        row |= {"_step": t, "_runtime": 1.25 * t, "_timestamp": 1.7e9 + 1.25 * t}
        out.append(writer.history(row, number=t + 1))
        if t % 10 == 0:
            out.append(writer.stats())
    return [*out, writer.exit_()]


def sdk_parse_only(parts: list[bytes]) -> None:
    """Nothing but ``ParseFromString``: no values are taken out."""
    from wandb.proto import wandb_internal_pb2 as pb

    for part in parts:
        pb.Record().ParseFromString(part)


def sdk_frame(parts: list[bytes]) -> pd.DataFrame:
    """The plain way with the SDK's classes."""
    from wandb.proto import wandb_internal_pb2 as pb

    rows = []
    for part in parts:
        record = pb.Record()
        record.ParseFromString(part)
        if record.WhichOneof("record_type") == "history":
            rows.append(
                {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            )
    return pd.DataFrame(rows)


def best(call, repeats: int) -> float:
    """Shortest of several timings, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    parts = records(args.rows, args.keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run-bench.wandb"
        path.write_bytes(writer.frame(parts))
        size = path.stat().st_size / 1e6
        ours = wandb_file.read(path, ReadOptions())[0].rows.drop(columns="step")
        theirs = sdk_frame(parts)
        pd.testing.assert_frame_equal(ours, theirs[ours.columns], check_exact=True, check_dtype=False)
        t_ours = best(lambda: wandb_file.read(path, ReadOptions()), args.repeats)
    t_rows = best(lambda: sdk_frame(parts), args.repeats)
    t_parse = best(lambda: sdk_parse_only(parts), args.repeats)
    print(f"{args.rows} rows x {args.keys + 3} keys, {size:.1f} MB; equal frames: yes")
    print(f"{'reader':44s} {'seconds':>8s} {'MB/s':>8s}")
    for name, seconds in (
        ("entlaw: file to frame, checksums included", t_ours),
        ("SDK records (given framed) to frame", t_rows),
        ("SDK ParseFromString alone, no values read", t_parse),
    ):
        print(f"{name:44s} {seconds:8.3f} {size / seconds:8.1f}")
    print(f"entlaw is {t_rows / t_ours:.1f} x the SDK's records, file to frame")


if __name__ == "__main__":
    main()
