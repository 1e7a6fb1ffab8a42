"""What `entlaw predict --library` does to the widths of forecasts, leave one run out, on all real runs at hand.

Each run of a source is forecast to its end from several of its steps, once with the widths as they are and once as the
other runs of its source teach them. Told is the share of measured last scores that the 80 % intervals held, runs
counting alike. Sources with fewer runs than a library needs are left out, and say so; together they are one library of
runs that resemble each other little.

Run: python benchmarks/library_widths.py
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from forecasts import histories

from entlaw.law.library import MIN_RUNS, Lesson, calibrate_for, learn
from entlaw.points import Points

OTHERS = "all but the ladder, as one"


def by_source() -> dict[str, list[Points]]:
    """One series a run: its validation score where there is one."""
    found: dict[str, dict[str, Points]] = {}
    for history in histories():
        run = history.name.rpartition(" (")[0]
        found.setdefault(history.source, {}).setdefault(run, history)
    return {source: list(runs.values()) for source, runs in found.items()}


def row(source: str, lessons: list[Lesson]) -> str:
    """One line of the table."""
    learned = [calibrate_for(one.points, lessons) for one in lessons]
    plain = np.mean([np.mean(one.needed <= 1.0) for one in lessons])
    widened = np.mean([np.mean(one.needed <= c.factor) for one, c in zip(lessons, learned, strict=True)])
    factor, raw = (np.median([getattr(c, name) for c in learned]) for name in ("factor", "raw"))
    forecasts = sum(len(one.needed) for one in lessons)
    return f"| {source} | {len(lessons)} | {forecasts} | {plain:.1%} | {widened:.1%} | {factor:.2f} | {raw:.2f} |"


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(
        "| source | runs | forecasts | 80 % held, as they are | with the library | factor | before shrinking |"
    )
    print("|---|---|---|---|---|---|---|")
    learned = {source: learn(runs) for source, runs in by_source().items()}
    learned[OTHERS] = [one for source, lessons in learned.items() if source != "ladder" for one in lessons]
    for source, lessons in learned.items():
        if len(lessons) > MIN_RUNS:
            print(row(source, lessons))
        else:
            print(f"{source}: {len(lessons)} runs to learn from, too few", file=sys.stderr)


if __name__ == "__main__":
    main()
