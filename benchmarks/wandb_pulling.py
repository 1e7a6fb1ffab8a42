"""Pulling W&B runs with the real client from a loopback server: requests, seconds, rows lost, memory.

    python benchmarks/wandb_pulling.py [--latency 50] [--steps 10000] [--runs 200]

First one finished run with two keys, one of them logged every tenth step, read in every way there is; then many
runs pulled into a folder, pulled again, and fitted. Loopback answers at once, so `--latency` adds the round trip to
a real server, in milliseconds, to every answer. Client and server share this machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import law_records  # noqa: E402
from tests.wandb.read_server import ReadServer  # noqa: E402


def rows_of(n: int) -> list[dict[str, float]]:
    """Two keys, the second a validation every tenth step."""
    return [
        {"_step": i, "_timestamp": 1.7e9 + 3.0 * i, "actor/entropy": math.exp(-i / n)}
        | ({"val/acc": i / n} if i % 10 == 0 else {})
        for i in range(n)
    ]


def one_run(server: ReadServer, steps: int) -> None:
    """Every way to read one run; what each brings of the values that were logged."""
    import wandb

    from entlaw.runs.wandb.client import Client
    from entlaw.runs.wandb.history import fetch
    from entlaw.runs.wandb.listing import RunRef

    rows, keys = rows_of(steps), ["actor/entropy", "val/acc"]
    logged = {key: sum(key in row for row in rows) for key in keys}
    server.add("scanned", rows)
    server.add("exported", rows, exported=True)
    client = Client()
    client.run("team", "proj", "scanned")  # logged in, as every reader is

    def ours(name: str, **how: Any) -> Iterable[dict[str, float]]:
        return fetch(client, RunRef("team", "proj", name), **how).rows[keys].to_dict("records")

    def timed(label: str, read: Callable[[], Iterable[dict[str, Any]]]) -> None:
        mark, start = len(server.asked), time.perf_counter()
        got = list(read())
        seconds = time.perf_counter() - start
        values = [sum(row.get(k) is not None and row[k] == row[k] for row in got) for k in keys]
        lost = 1 - sum(values) / sum(logged.values())
        print(
            f"{label:46s} {len(server.since(mark)):8d} {seconds:8.2f} {values[0]:8d} {values[1]:8d} {lost:7.1%}"
        )

    print(f"a finished run of {steps:,} steps x 2 keys ({logged['val/acc']:,} values of the second)")
    print(f"{'way':46s} {'requests':>8s} {'seconds':>8s} {'entropy':>8s} {'val/acc':>8s} {'lost':>7s}")
    timed("entlaw, exported (the usual way of such a run)", lambda: ours("exported"))
    timed("entlaw, exported, two keys asked for", lambda: ours("exported", keys=keys))
    timed("entlaw, no export: all keys scanned", lambda: ours("scanned"))
    timed("entlaw, no export: two keys asked for", lambda: ours("scanned", keys=keys))
    api = wandb.Api()
    for name in ("exported", "scanned"):
        run = api.run(f"team/proj/{name}")
        timed(f"run.history(), {name}", lambda run=run: run.history(pandas=False))
        timed(f"run.history(keys), {name}", lambda run=run: run.history(keys=keys, pandas=False))
        timed(f"run.scan_history(), {name}", lambda run=run: run.scan_history(use_cache=False))
        timed(f"run.scan_history(keys), {name}", lambda run=run: run.scan_history(keys=keys, use_cache=False))
        timed(
            f"run.scan_history, once a key, {name}",
            lambda run=run: [row for k in keys for row in run.scan_history(keys=[k], use_cache=False)],
        )


def many_runs(server: ReadServer, folder: Path, runs: int) -> None:
    """A project pulled, pulled again, and fitted, each by the program itself."""
    for i in range(runs):
        records = law_records(n=200, seed=i)
        wide = {f"timing/{k}": 0.25 * k for k in range(20)}
        rows = [{"_step": t, "_timestamp": 1.7e9 + t, **wide, **r} for t, r in enumerate(records)]
        server.add(f"run{i:04}", rows, project="many", exported=i % 2 == 0, display=f"grpo seed {i}")
    print(f"\n{runs} finished runs of 201 steps x 25 keys, half of them exported")
    print(f"{'command':46s} {'requests':>8s} {'seconds':>8s} {'peak MB':>8s}")
    out = str(folder / "pulled")
    for label, words in (
        ("entlaw pull team/many -o DIR", ["pull", "wandb:team/many", "-o", out, "--json"]),
        ("the same again", ["pull", "wandb:team/many", "-o", out, "--json"]),
        ("entlaw fit DIR", ["fit", out, "--json"]),
    ):
        mark, start = len(server.asked), time.perf_counter()
        code = "import sys, resource; from entlaw.cli.__main__ import main; c = main(sys.argv[1:]); "
        code += (
            "sys.stderr.write(f'PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\\n'); sys.exit(c)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stderr)
        peak = int(done.stderr.rpartition("PEAK ")[2]) / 1024
        print(f"{label:46s} {len(server.since(mark)):8d} {seconds:8.2f} {peak:8.0f}")
        if "fit" in words:
            fits = json.loads(done.stdout)["runs"]
            print(f"  fitted: {sum('fit' in one for one in fits)} of {len(fits)}")
        else:
            told = json.loads(done.stdout)["runs"]
            print(f"  new rows: {sum(one['rows_new'] for one in told):,} in {len(told)} runs")
    files = list((folder / "pulled").iterdir())
    print(f"  folder: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each answer")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    args = parser.parse_args()
    server = ReadServer()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.environ.update(server.environment(Path(name)))
        server.latency = args.latency / 1000
        print(f"round trip added: {args.latency:g} ms")
        one_run(server, args.steps)
        many_runs(server, Path(name), args.runs)


if __name__ == "__main__":
    main()
