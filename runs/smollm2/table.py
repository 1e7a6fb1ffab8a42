"""The table of the README beside this file: ``python runs/smollm2/table.py``."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

import entlaw

HERE = Path(__file__).parent
PARTS = ("rollout", "score", "update", "sync")


def row(folder: Path) -> str:
    """One run: entropies in nats per token, rewards and accuracies as fractions, seconds a step."""
    log = [
        json.loads(line) for line in gzip.decompress((folder / "metrics.jsonl.gz").read_bytes()).splitlines()
    ]
    (run,) = entlaw.read(folder, entlaw.Selection(on="val"))
    entropy, score, reward = (
        [r[key] for r in log if key in r] for key in ("actor/entropy", "val/accuracy", "reward/mean")
    )
    early, points = entlaw.fit(run), entlaw.fit(run, method="paper", until_step=None).law.points
    law, line = (np.corrcoef(x, points.score)[0, 1] ** 2 for x in (np.exp(points.entropy), points.entropy))
    seconds = [np.mean([r[f"time/{part}_s"] for r in log if f"time/{part}_s" in r]) for part in PARTS]
    interval = early.ceiling_interval
    return (
        f"| [{folder.name}]({folder.name}) | {entropy[0]:.2f} → {entropy[-1]:.2f} "
        f"| {reward[0]:.2f} → {np.mean(reward[-5:]):.2f} | {score[0]:.3f} → {np.mean(score[-5:]):.3f} "
        f"| {law:.2f} ({line:.2f}) | {early.ceiling:.3f} [{interval.lo:.3f}, {interval.hi:.3f}] "
        f"| {', '.join(f'{s:.1f}' for s in seconds)} |"
    )


def main() -> None:
    for name in ("mawps-grpo", "mawps-clip-cov"):
        print(row(HERE / name))


if __name__ == "__main__":
    main()
