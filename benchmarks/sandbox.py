"""Programs a second through the sandbox, by isolation and number of workers, and what isolation costs.

Three loads: a program that prints one line and is compared, a function under one assertion (two cells), and, where
../shared has them, HumanEval's reference solutions with their own tests. "none" is the same machinery without
isolation, "subprocess" is `python -I -S -c` by the standard library alone: no limits, nothing contained. On a busy
machine each of the half dozen processes of a cell waits for its turn, so the load average is printed, too.

Run: python benchmarks/sandbox.py [--programs 100] [--workers 1 2]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from entlaw.errors import SandboxUnavailable
from entlaw.tasks.code import CodeTests, CodeVerifier, read_tests
from entlaw.tasks.sandbox import ORDER, UnitTests

HUMANEVAL = Path(__file__).parents[2] / "shared" / "data" / "problems" / "humaneval.jsonl.gz"
DOUBLE = "```python\ndef double(x):\n    return 2 * x\n```"
ASSERTION = CodeTests(UnitTests(asserts=("assert double(4) == 8",)))
HELLO = "```python\nprint('hello')\n```"
OUTPUT = CodeTests(pairs=(("", "hello"),))


def timed(work: Callable[[int], bool], n: int, workers: int) -> float:
    """Wall seconds for ``n`` pieces of work, all of which must succeed."""
    work(0)
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(work, range(n)))
    seconds = time.perf_counter() - started
    if not all(done):
        raise SystemExit(f"{done.count(False)} of {n} programs did not pass: the timing means nothing")
    return seconds


def loads(n: int) -> dict[str, list[tuple[str, CodeTests]]]:
    """Responses and tests by the load's name."""
    made = {"prints a line": [(HELLO, OUTPUT)] * n, "one assertion": [(DOUBLE, ASSERTION)] * n}
    if HUMANEVAL.is_file():
        with gzip.open(HUMANEVAL, "rt") as source:
            rows = [json.loads(line) for line in source]
        made["HumanEval"] = [(row["canonical_solution"], read_tests(row)) for row in rows][:n]
    return made


def bare(_: int) -> bool:
    """A program without a sandbox."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "print('hello')"], capture_output=True, check=False
    )
    return done.stdout == b"hello\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isolation", nargs="+", default=[*ORDER, "none"])
    options = parser.parse_args()
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(
        f"{os.cpu_count()} CPUs, load average {load}, user id {os.geteuid()}, Python {sys.version.split()[0]}\n"
    )
    print(f"{'isolation':<12} {'load':<14} {'workers':>7} {'programs':>8} {'seconds':>8} {'programs/s':>10}")

    def row(isolation: str, load: str, workers: int, n: int, seconds: float) -> None:
        print(
            f"{isolation:<12} {load:<14} {workers:>7} {n:>8} {seconds:>8.2f} {n / seconds:>10.1f}", flush=True
        )

    for isolation in options.isolation:
        try:
            verifier = CodeVerifier(isolation=isolation)
        except SandboxUnavailable as error:
            print(f"{isolation:<12} not here: {(error.why or '').splitlines()[0]}")
            continue
        with verifier:
            for name, items in loads(options.programs).items():
                for workers in options.workers:

                    def work(i: int, items: list[tuple[str, CodeTests]] = items) -> bool:
                        return verifier.verify(*items[i]).reward == 1.0  # noqa: B023

                    row(isolation, name, workers, len(items), timed(work, len(items), workers))
    for workers in options.workers:
        row("subprocess", "prints a line", workers, options.programs, timed(bare, options.programs, workers))


if __name__ == "__main__":
    main()
