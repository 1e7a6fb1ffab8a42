"""Would the stop rule have been right? Rolling origin over real runs: false stops and steps saved.

Each run is gone through as it happened. Where the rule fires, the run would have been stopped; the stop is *false* when
the run went on to gain more than the rule's amount: its final level (mean of the last quarter of the points after the
stop, at least three) above the level at the stop (mean of the last three points up to it) by more than the amount.
Beside it, on the same runs, the rules people use:

  no gain in k          the best score is not better than that k validations ago
  entropy below x       nothing is left to spend

and what nobody could have: *hindsight* stops at the first point from which on no stop would be false. It says how much
there was to save. Stops at the last three points are none: nothing would be saved and nothing can be judged. Another
table asks whether what was said came true: of the points at which the rule's probability was so and so, or the verdict
so and so, the share after which the run did gain more. What came is measured with noise; its share is told beside.

Runs are grouped by source; rates have Wilson intervals. Nothing here was tuned on these runs: the thresholds of
``entlaw.watch`` are stated with their reasons in its modules.

Run: python benchmarks/stop_rule.py [NAME ...] [--rule "P(gain > 1%) < 0.05"] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import entlaw
from entlaw.errors import EntlawError
from entlaw.watch.report import VERDICT_CODES, WatchReport
from entlaw.watch.watcher import Watcher

REPO = Path(__file__).parents[1]
PATIENCE = (5, 10)
ENTROPIES = (0.1, 0.05)
FIRST = 7  # index of the first point at which any rule may stop: the eighth, as the watcher's
CONFIRMS = (1, 2, 3)
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)


@dataclass(frozen=True)
class Stopped:
    """What a rule did to a run."""

    source: str
    run: str
    rule: str
    points: int
    steps: float
    at: float | None
    """Step at which it stopped the run; None if it did not."""
    gain: float | None
    """What the run gained afterwards (fraction)."""
    error: float | None
    """Standard error of that."""
    flicker: tuple[int, ...]
    """Changes of the verdict, where it counts at the first, second and third report in a row."""
    chances: tuple[tuple[float | None, str, float, float], ...] = ()
    """At each report: the rule's probability, the verdict, what the run gained afterwards, its standard error."""
    alerts: tuple[str, ...] = ()
    """Codes of the alerts, in order."""


def sources() -> dict[str, list[Path]]:
    """Runs by who made them."""
    found: dict[str, list[Path]] = {"entlaw ladder": [], "entlaw SmolLM2": []}
    for folder in sorted((REPO / "runs").iterdir()):
        if (folder / "run.json").exists():
            found["entlaw ladder"].append(folder)
        elif folder.name == "smollm2":
            found["entlaw SmolLM2"] += sorted(p.parent for p in folder.glob("*/run.json"))
    shared = REPO.parent / "shared" / "data" / "runs"
    if shared.is_dir():
        for folder in sorted(shared.iterdir()):
            files = sorted(folder.glob("run*.csv"))
            if files:
                found[folder.name] = files
    return found


def gained(step: np.ndarray, score: np.ndarray, at: int) -> tuple[float, float] | None:
    """Final level above the level at point ``at``, and its standard error; None when nothing came after."""
    before, after = score[max(0, at - 2) : at + 1], score[at + 1 :]
    if len(after) < 3:
        return None
    tail = after[-max(3, len(after) // 4) :]
    noise = np.std(np.diff(score), ddof=1) / np.sqrt(2)
    return float(tail.mean() - before.mean()), float(noise * np.sqrt(1 / len(before) + 1 / len(tail)))


def hindsight(step: np.ndarray, score: np.ndarray, amount: float) -> int | None:
    """First point from which on no stop would be false."""
    first = None
    for i in range(len(score) - 4, FIRST - 1, -1):
        after = gained(step, score, i)
        if after is None or after[0] > amount:
            break
        first = i
    return first


def changes(reports: list[WatchReport], confirm: int) -> int:
    """Changes of a verdict that counts when it has held at so many reports in a row."""
    verdicts = [r.result.forecast.verdict for r in reports if r.result.state == "running"]
    counted = verdicts[:1]
    for i in range(len(verdicts)):
        held = verdicts[max(0, i - confirm + 1) : i + 1]
        if len(held) == confirm and len(set(held)) == 1 and held[0] != counted[-1]:
            counted.append(held[0])
    return max(len(counted) - 1, 0)


def through(run: entlaw.Run, source: str, rule: str, amount: float) -> list[Stopped]:
    """All rules on one run."""
    points = run.points.sort_values("step")
    step, score, entropy = (points[k].to_numpy(float) for k in ("step", "performance", "entropy"))
    n, end = len(step), float(step[-1])
    watcher = Watcher(end, stop_when=rule, every=max(1, n // 150))
    reports = watcher.replay(run)
    flicker = tuple(changes(reports, confirm) for confirm in CONFIRMS)
    fired = next((r.result.points.n - 1 for r in reports if r.stop is not None and r.stop.fired), None)
    came = [(r, gained(step, score, r.result.points.n - 1)) for r in reports if r.stop is not None]
    chances = tuple(
        (r.stop.probability, r.result.forecast.verdict, *after) for r, after in came if after is not None
    )
    alerts = tuple(a.code for r in reports for a in r.alerts)
    found = {rule: fired, "hindsight": hindsight(step, score, amount)}
    for k in PATIENCE:
        best = np.maximum.accumulate(score)
        flat = [i for i in range(max(k, FIRST), n) if best[i] <= best[i - k]]
        found[f"no gain in {k}"] = flat[0] if flat else None
    for x in ENTROPIES:
        low = [i for i in range(FIRST, n) if np.median(entropy[max(0, i - 2) : i + 1]) < x]
        found[f"entropy < {x:g}"] = low[0] if low else None
    out = []
    for name, at in found.items():
        after = gained(step, score, at) if at is not None else None
        stop = (None, None, None) if after is None else (float(step[at]), *after)
        own = (chances, alerts) if name == rule else ()
        out.append(Stopped(source, run.name, name, n, end, *stop, flicker, *own))
    return out


def wilson(k: int, n: int) -> str:
    """A share with its 95 % interval."""
    if n == 0:
        return "-"
    p, z = k / n, 1.96
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    lo, hi = max(centre - half, 0.0) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return f"{k}/{n} = {p:.0%} [{lo:.0%}, {hi:.0%}]"


def row(name: str, some: list[Stopped], amount: float) -> str:
    """One line of the table."""
    stopped = [s for s in some if s.at is not None]
    false = sum(s.gain > amount for s in stopped)
    clear = sum(s.gain > amount + 2 * s.error for s in stopped)
    saved = np.mean([1 - s.at / s.steps if s.at is not None else 0.0 for s in some]) if some else 0.0
    lost = np.mean([max(s.gain, 0.0) for s in stopped]) if stopped else 0.0
    rates = f"{wilson(len(stopped), len(some))} | {wilson(false, len(stopped))} | {clear}"
    return f"| {name} | {rates} | {saved:.0%} | {100 * lost:.1f} |"


def reliability(some: list[Stopped], amount: float) -> str:
    """Whether the rule's probabilities and the verdicts came true."""
    lines = [
        f"| what was said | points | of runs | gained more than {100 * amount:g} point: share of the points | by noise "
        "alone, had nothing been left | mean gain (points) |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[list[tuple[float, float]]]] = {}
    for lo, hi in pairwise(BINS):
        inside = [
            [(g, e) for p, _, g, e in s.chances if p is not None and lo <= p and (p < hi or hi == 1)]
            for s in some
        ]
        groups[f"probability {lo:g} to {hi:g}"] = inside
    for word in VERDICT_CODES:
        groups[word] = [[(g, e) for _, verdict, g, e in s.chances if verdict == word] for s in some]
    for name, runs in groups.items():
        flat = np.array([pair for run in runs for pair in run])
        if len(flat):
            gain, error = flat.T
            noise = np.mean([0.5 * math.erfc(amount / e / math.sqrt(2)) if e > 0 else 0.0 for e in error])
            share = f"{np.mean(gain > amount):.0%} | {noise:.0%} | {100 * gain.mean():.1f}"
            lines.append(f"| {name} | {len(flat)} | {sum(map(bool, runs))} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rule", default="P(gain > 1%) < 0.05")
    parser.add_argument("--amount", type=float, default=0.01, help="what counts as a gain (fraction)")
    parser.add_argument("names", nargs="*", help="only runs whose path holds one of these")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: list[Stopped] = []
    start, reports = time.perf_counter(), 0
    for source, paths in sources().items():
        for path in paths:
            if args.names and not any(name in str(path) for name in args.names):
                continue
            try:
                (run,) = entlaw.read(path)
            except (EntlawError, ValueError) as error:
                print(f"left out: {path.name}: {error}")
                continue
            if len(run.points) < 12:
                print(f"left out: {source} {run.name}: {len(run.points)} points")
                continue
            results += through(run, source, args.rule, args.amount)
            reports += min(len(run.points), 150)
    seconds = time.perf_counter() - start
    head = (
        "| {} | stopped | false stops: gained more than {:g} point later | beyond twice the noise | steps saved | "
        "points lost by a stop |\n|---|---|---|---|---|---|"
    )
    by_rule, by_source = defaultdict(list), defaultdict(list)
    for s in results:
        by_rule[s.rule].append(s)
        if s.rule == args.rule:
            by_source[s.source].append(s)
    print(f"\nAll runs ({len(by_rule[args.rule])}), {1000 * seconds / max(reports, 1):.0f} ms a report\n")
    print(head.format("rule", 100 * args.amount))
    for name, some in by_rule.items():
        print(row(name, some, args.amount))
    print(f"\n{args.rule} by source\n")
    print(head.format("source", 100 * args.amount))
    for name, some in by_source.items():
        print(row(name, some, args.amount))
    own = by_rule[args.rule]
    print(f"\nWhat was said and what came\n\n{reliability(own, args.amount)}")
    print()
    for i, confirm in enumerate(CONFIRMS):
        some = [s.flicker[i] for s in own]
        print(
            f"changes of the verdict in a run, held at {confirm} in a row: median {np.median(some):g}, most {max(some)}"
        )
    codes = Counter(code for s in own for code in s.alerts)
    runs = Counter(code for s in own for code in set(s.alerts))
    print("alerts: " + (", ".join(f"{c} {n} in {runs[c]} runs" for c, n in codes.items()) or "none"))
    if args.json:
        args.json.write_text(json.dumps([asdict(s) for s in results], indent=1))


if __name__ == "__main__":
    main()
