"""How often do the outlook's intervals hold what comes, when runs are simulated?

The scenarios of benchmarks/coverage.py: entropy decays from 1.0 to 0.05, R = 0.85 - 0.25 exp(H), scores are
binomial around it plus
an AR(1) wander, some with a drift that the law does not know. Seen from step 36: the score measured at step
236, given the
entropy there, and the level at H = 0. The size of the test is told in one half of the columns and not in the
other.

Run: python benchmarks/outlook_coverage.py [--replicates 400] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from coverage import CEILING, SCENARIOS, STRESS, TARGET, Scenario, simulate

from entlaw.law.backtest import NOMINAL
from entlaw.law.history import history_of
from entlaw.law.outlook import Outlook

QUESTIONS = ("score at step 236", "score at the entropy of step 236", "ceiling")


def one(s: Scenario, rng: np.random.Generator, told: bool) -> np.ndarray:
    """(question, level, (held, width)) of one run; NaN where refused."""
    run = simulate(s, rng)
    history = history_of(
        run.step, run.entropy, run.performance, log=run.log, answers=s.problems * s.samples if told else None
    )
    out = np.full((len(QUESTIONS), len(NOMINAL), 2), np.nan)
    outlook = Outlook.of(history)
    if outlook.refused:
        return out
    truths = (run.performance_at_target, run.performance_at_target, CEILING)
    said = (outlook.at_step(TARGET), outlook.at_entropy(run.entropy_at_target), outlook.ceiling())
    for q, (forecast, truth) in enumerate(zip(said, truths, strict=True)):
        for k, level in enumerate(NOMINAL):
            i = forecast.interval(level)
            out[q, k] = float(i.lo <= truth <= i.hi), i.width
    return out


def rows(scenarios: Sequence[Scenario], replicates: int, seed: int, told: bool) -> list[str]:
    """Table rows of one block."""
    lines = []
    for s in scenarios:
        rng = np.random.default_rng(seed)
        made = np.array([one(s, rng, told) for _ in range(replicates)])
        answered = np.isfinite(made[:, 0, 0, 0])
        mean = made[answered].mean(axis=0)
        cells = " | ".join(
            " ".join(f"{mean[q, k, 0]:.2f}" for k in range(len(NOMINAL))) + f", {mean[q, 1, 1]:.3f}"
            for q in range(len(QUESTIONS))
        )
        lines.append(f"| {s.name} | {answered.mean():.2f} | {cells} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for told in (True, False):
        told_or_not = "told" if told else "not told"
        print(f"\nSize of the test {told_or_not}; coverage of 50, 80, 95 % and width of 80 %\n")
        print("| scenario | answered | " + " | ".join(QUESTIONS) + " |")
        print("|---" * (len(QUESTIONS) + 2) + "|")
        for block in (SCENARIOS, STRESS):
            print("\n".join(rows(block, args.replicates, args.seed, told)), flush=True)


if __name__ == "__main__":
    main()
