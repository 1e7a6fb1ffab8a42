"""How often do the outlook's intervals hold what comes, when runs are simulated?

First runs drawn from the model's own prior, for which the intervals should hold what they say; then
the scenarios of benchmarks/coverage.py: entropy decays from 1.0 to 0.05, R = 0.85 - 0.25 exp(H), scores are
binomial around it plus
an AR(1) wander, some with a drift that the law does not know. Seen from step 36: the score measured at step
236, given the
entropy there, and the level at H = 0. The size of the test is told in one half of the columns and not in the
other.

Run: python benchmarks/outlook_coverage.py [--replicates 400] [--seed 0] [--write docs/outlook-coverage.md]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from coverage import CEILING, SCENARIOS, STRESS, TARGET, Scenario, simulate

from entlaw.law.backtest import NOMINAL
from entlaw.law.forecast import Outlook
from entlaw.law.growth import PRIOR
from entlaw.law.posterior import from_arcsine
from entlaw.points import Points

QUESTIONS = ("score at step 236", "score at the entropy of step 236", "ceiling")


def one(s: Scenario, rng: np.random.Generator, told: bool) -> np.ndarray:
    """(question, level, (held, width)) of one run; NaN where refused."""
    run = simulate(s, rng)
    history = Points.from_arrays(
        run.step, run.entropy, run.performance, log=run.log, answers=s.problems * s.samples if told else None
    )
    out = np.full((len(QUESTIONS), len(NOMINAL), 2), np.nan)
    outlook = Outlook.of(history)
    if outlook.refused:
        return out
    truths = (run.performance_at_target, run.performance_at_target, CEILING)
    said = (
        outlook.at_step(TARGET),
        outlook.at_entropy(run.entropy_at_target),
        outlook.ceiling().distribution,
    )
    for q, (forecast, truth) in enumerate(zip(said, truths, strict=True)):
        for k, level in enumerate(NOMINAL):
            i = forecast.interval(level)
            out[q, k] = float(i.lo <= truth <= i.hi), i.width
    return out


def own(rng: np.random.Generator) -> np.ndarray:
    """(level, (held, width)) of one run drawn from the prior; a score at step 236."""
    step = np.append(np.arange(0.0, 37.0, 4.0), TARGET)
    entropy = 0.05 + 0.95 * np.exp(-step / rng.uniform(10.0, 60.0))
    u = np.maximum(step / 36.0, 1e-4)
    p = PRIOR
    noise = p.noise[0] * np.exp(0.5 * rng.standard_normal())
    variance = noise**2 * rng.choice(p.wander)
    walk = np.log(u + p.knee) - np.log(p.knee)
    wander = np.cumsum(np.sqrt(variance * np.diff(walk, prepend=0.0)) * rng.standard_normal(len(u)))
    hill = 1.0 / (1.0 + (rng.choice(p.middles) / u) ** rng.choice(p.powers))
    x = np.exp(entropy)
    z = rng.normal(0.5, 0.2) + rng.normal(*p.growth) * hill - rng.normal(*p.law) * (x - x[-2])
    z = z + wander + noise * rng.standard_normal(len(u))
    score = from_arcsine(z)
    outlook = Outlook.of(Points.from_arrays(step[:-1], entropy[:-1], score[:-1]), force=True)
    intervals = [outlook.at_step(TARGET).interval(level) for level in NOMINAL]
    return np.array([[float(i.lo <= score[-1] <= i.hi), i.width] for i in intervals])


def own_row(replicates: int, seed: int) -> str:
    """What the intervals hold when the model is right."""
    rng = np.random.default_rng(seed)
    mean = np.mean([own(rng) for _ in range(replicates)], axis=0)
    return " ".join(f"{held:.3f}" for held in mean[:, 0]) + f", {mean[1, 1]:.3f}"


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
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    out = [
        "# Do the outlook's intervals hold what they promise?\n",
        f"Written by `python benchmarks/outlook_coverage.py --replicates {args.replicates} --seed {args.seed}`; "
        "do not edit.\n",
        "Share of simulated runs whose 50, 80 and 95 % intervals held the truth, then the mean width at 80 %.\n",
        f"Runs drawn from the model's own prior, score at step 236 seen from step 36: "
        f"{own_row(4 * args.replicates, args.seed)}\n",
        "Runs that obey the law exactly, or nearly so (docs/coverage.md tells how they are made):",
    ]
    for told in (True, False):
        out.append(f"\nSize of the test {'told' if told else 'not told'}:\n")
        out.append("| scenario | answered | " + " | ".join(QUESTIONS) + " |")
        out.append("|---" * (len(QUESTIONS) + 2) + "|")
        for block in (SCENARIOS, STRESS):
            out += rows(block, args.replicates, args.seed, told)
    page = "\n".join(out) + "\n"
    if args.write:
        args.write.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
