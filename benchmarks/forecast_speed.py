"""Seconds that forecasts cost: one careful forecast with its intervals, and a back-test of very many runs.

The runs are the shipped ones, copied with noise until there are enough. The peers are the rivals of
`entlaw.law.rivals`, timed on the same questions in the same process.

Run: python benchmarks/forecast_speed.py [--runs 1000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from entlaw.law.backtest import Plan, backtest
from entlaw.law.entropy_curve import entropy_nodes
from entlaw.law.forecast import Outlook
from entlaw.law.rivals import RIVALS
from entlaw.points import Points
from entlaw.runs.reader import read

RUNS = Path(__file__).parents[1] / "runs"
LEVELS = (0.5, 0.8, 0.95)
ORIGINS = tuple(np.linspace(0.08, 0.85, 10))


def shipped() -> list[Points]:
    """All runs of our trainer."""
    return [Points.from_run(read(p.parent)[0]) for p in sorted(RUNS.glob("*/run.json"))]


def copies(originals: list[Points], n: int) -> list[Points]:
    """As many as asked for, no two alike."""
    rng = np.random.default_rng(0)
    return [
        replace(h, name=str(i), score=np.clip(h.score + 0.005 * rng.standard_normal(h.n), 0, 1))
        for i, h in enumerate(islice(cycle(originals), n))
    ]


def median_ms(ask: Callable[[Points], object], histories: list[Points]) -> float:
    """Median milliseconds of one question."""
    took = []
    for history in histories:
        start = time.perf_counter()
        ask(history)
        took.append(time.perf_counter() - start)
    return 1e3 * float(np.median(took))


def careful(past: Points) -> object:
    """What `entlaw predict` asks: the findings, the forecast at step 240, three intervals."""
    forecast = Outlook.of(past, force=True).at_step(240.0)
    return [forecast.interval(level) for level in LEVELS]


def main() -> None:
    """Time, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    originals = shipped()
    pasts = [h.until(72.0) for h in originals]
    pasts = [p for p in pasts if p.n >= 5]
    outlooks = [Outlook.of(p, force=True) for p in pasts]
    careful(pasts[0])  # imports and tables

    print(f"milliseconds, median of {len(pasts)} runs seen up to step 72, forecast at step 240, one process")
    print(f"  careful forecast, findings and three intervals   {median_ms(careful, pasts):7.2f}")
    alone = iter(outlooks)
    took = median_ms(lambda _: next(alone).at_step(240.0), pasts)
    print(f"  the forecast alone                               {took:7.2f}")
    for rival in RIVALS.values():
        took = median_ms(lambda p, r=rival: r.forecast(p, 240.0, entropy_nodes(p, 240.0)), pasts)
        print(f"  {rival.name:<48} {took:7.2f}")

    many = copies(originals, args.runs)
    for rivals in (False, True):
        start = time.perf_counter()
        rows = backtest(many, Plan(ORIGINS, (), rivals), workers=args.workers)
        took = time.perf_counter() - start
        seen = rows.groupby(["run", "step"]).ngroups
        print(
            f"back-test of {len(many)} runs, {seen} origins, 2 horizons, {rows['forecaster'].nunique()} forecasters, "
            f"{args.workers} processes: {took:.1f} s (load {os.getloadavg()[0]:.1f})"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
