"""Make the real runs that ship in this folder, with the project's own trainer, on a CPU.

    python runs/make.py                  # every run that is not there yet, two at a time
    python runs/make.py --only 'grpo-*' --jobs 1
    python runs/make.py --table          # what every run did, as Markdown

Idempotent: a finished run is skipped, a half-done one goes on. Work happens in ``runs/.work``; what ships of a run is
its ``run.json`` (with the whole recipe) and its compressed metrics.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"
# Seconds a run takes on one core of a small server, warm-up included: only to say how long it all will take.
SECONDS = {"xs": 75, "s": 90, "m": 120, "l": 300, "xl": 800}

Settings = dict[str, object]


# 3e-4 * 64 / hidden size, so that all sizes spend their entropy in about the same number of steps.
LR = {"xs": 6e-4, "s": 4e-4, "m": 3e-4, "l": 2e-4, "xl": 1.5e-4}
# Base policies a size: how well a small model calculates after its warm-up is partly luck.
BASES = {"xs": 3, "s": 3, "m": 3, "l": 2, "xl": 1}


def ladder() -> dict[str, Settings]:
    """GRPO with nothing acting on the entropy, five sizes, from several base policies each."""
    runs: dict[str, Settings] = {}
    for base in range(3):
        for size in (size for size, bases in BASES.items() if base < bases):
            name = f"grpo-{size}-rl0" if base == 0 else f"grpo-{size}-base{base}"
            runs[name] = {
                "policy.size": size,
                "policy.seed": base,
                "run.seed": base,
                "optimizer.lr": LR[size],
            }
    return runs


METHODS: dict[str, Settings] = {
    "rloo": {"algorithm.name": "rloo"},
    "reinforce": {"algorithm.name": "reinforce"},
    "reinforce-pp": {"algorithm.name": "reinforce_plus_plus"},
    "ppo": {"algorithm.name": "ppo"},
    # The logit of a response is beta times a sum over its tokens: 5 tokens want a beta 20 times that of 1,000.
    "prime": {"algorithm.name": "prime", "prime.beta": 1.0},
    "prime-beta-0.05": {"algorithm.name": "prime"},
    "clip-higher": {"loss.clip_ratio_high": 0.28},
    "clip-cov": {"controls.clip_cov.ratio": 0.01},
    "kl-cov": {"controls.kl_cov.ratio": 0.02},
    "no-clip": {"loss.kind": "policy_gradient"},
}
ONCE: dict[str, Settings] = {
    **{f"entropy-bonus-{c:g}": {"controls.entropy_coeff": c} for c in (0.003, 0.01, 0.03, 0.1)},
    **{f"reference-kl-{c:g}": {"controls.kl_coef": c} for c in (0.01, 0.03, 0.1, 0.3)},
    **{f"clip-cov-{r:g}": {"controls.clip_cov.ratio": r} for r in (0.002, 0.05)},
    **{f"kl-cov-{r:g}": {"controls.kl_cov.ratio": r} for r in (0.002, 0.1)},
    "clip-cov-authors": {"controls.clip_cov.ratio": 0.01, "controls.reference_code": True},
    "kl-cov-authors": {"controls.kl_cov.ratio": 0.02, "controls.reference_code": True},
    "prime-slow-reward-model": {"algorithm.name": "prime", "prime.lr": 1e-4},  # a third of the policy's
    "entropy-target-0.3": {"controls.entropy_target": 0.3},
    "high-entropy-tokens": {"controls.high_entropy_share": 0.2},
    "random-reward": {"task.reward": "random"},
}
# What the paper's figures 3, 4, 8, 12, 13 and 14 need besides.
_SECOND_TASK: Settings = {  # longer sums of three operations: another skill, and room to work all but the longest out
    "task.operators": "+-*",
    "task.operations": [3, 4, 5, 6, 7],
    "rollout.max_tokens": 8,
}
FIGURES: dict[str, Settings] = {
    # One update a rollout on all its tokens, as the theory has it; a higher rate, because there are four times fewer.
    **{
        f"on-policy-m-rl{seed}": {
            "loss.kind": "policy_gradient",
            "loss.mini_batches": 1,
            "optimizer.lr": 6e-4,
            "run.steps": 480,
            **({"run.seed": seed} if seed else {}),
        }
        for seed in (0, 1)
    },
    **{
        f"kl-cov-coef-{c:g}-m-rl0": {"controls.kl_cov.ratio": 0.02, "controls.kl_cov.coef": c}
        for c in (0.1, 0.5, 5.0)
    },
    # Trained on other problems, validated on the same: few operations, many, and only half of the operators.
    "data-easy-m-rl0": {"task.train_operations": [2, 3]},
    "data-hard-m-rl0": {"task.train_operations": [5, 6]},
    "data-plain-m-rl0": {"task.train_operators": "+-*"},
    # Starting policies that were taught three times as long, as instruct models are.
    **{
        f"longer-warmup-{size}-rl0": {
            "policy.size": size,
            "warmup.clean_steps": 4200,
            "optimizer.lr": LR[size],
        }
        for size in ("s", "m", "l")
    },
    **{
        f"qwen2-{size}-rl0": {"policy.size": size, "policy.family": "qwen2", "optimizer.lr": LR[size]}
        for size in ("xs", "s", "m")
    },
    **{
        f"second-task-{size}-rl0": {"policy.size": size, "optimizer.lr": LR[size], **_SECOND_TASK}
        for size in ("xs", "s", "m", "l")
    },
}


def runs() -> dict[str, Settings]:
    """All runs, those that others are compared with first."""
    first = ladder()
    out = {name: s for name, s in first.items() if name.endswith("rl0")}
    out |= {f"{name}-m-rl0": s for name, s in METHODS.items()}
    out |= {f"{name}-m-rl0": s for name, s in ONCE.items()}
    out |= FIGURES
    out |= {name: s for name, s in first.items() if not name.endswith("rl0")}
    for seed in (1, 2):
        out[f"grpo-m-rl{seed}"] = {"run.seed": seed}
        out |= {f"{name}-m-rl{seed}": {**s, "run.seed": seed} for name, s in METHODS.items()}
    return out


def train(name: str, settings: Settings) -> str | None:
    """Run one training in a process of its own and pack what ships; returns what went wrong."""
    folder = WORK / name
    WORK.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "entlaw.cli", "train"]
    if (folder / "recipe.toml").exists():
        command += ["--resume", str(folder)]
    else:
        command += ["-o", str(folder)]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]
    environment = {**os.environ, "ENTLAW_CACHE": str(WORK / "cache"), "OMP_NUM_THREADS": "1"}
    with open(WORK / f"{name}.log", "a") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
    if code:
        return f"{name}: exit code {code}, see {WORK / f'{name}.log'}"
    pack(folder, HERE / name)
    return None


def pack(source: Path, target: Path) -> None:
    """What ships of a run, byte for byte the same every time."""
    target.mkdir(exist_ok=True)
    packed = gzip.compress((source / "metrics.jsonl").read_bytes(), 9, mtime=0)
    (target / "metrics.jsonl.gz").write_bytes(packed)
    (target / "run.json").write_bytes((source / "run.json").read_bytes())


def finished(name: str) -> bool:
    return (HERE / name / "run.json").is_file()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="glob of names")
    parser.add_argument(
        "--jobs",
        type=int,
        default=2,
        choices=range(1, 65),
        metavar="N",
        help="runs at a time, one thread each",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print what every run did, and a, b by method and size; then stop",
    )
    args = parser.parse_args()
    if args.table:
        from table import methods, sizes, table  # beside this file

        print(table(HERE), methods(HERE), sizes(HERE), sep="\n\n")
        return 0
    todo = {n: s for n, s in runs().items() if fnmatch.fnmatch(n, args.only) and not finished(n)}
    seconds = sum(SECONDS[str(s.get("policy.size", "m"))] for s in todo.values()) / args.jobs
    print(f"{len(todo)} runs, about {seconds / 60:.0f} minutes at {args.jobs} a time", flush=True)
    start, problems = time.perf_counter(), []
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            results = zip(todo, pool.map(train, todo, todo.values()), strict=True)
            for i, (name, problem) in enumerate(results, 1):
                took = time.perf_counter() - start
                print(
                    f"{i}/{len(todo)} {name}: {problem or 'done'}, {took / 60:.1f} minutes so far", flush=True
                )
                problems += [problem] if problem else []
        except KeyboardInterrupt:  # the trainings were interrupted too, and have saved; start no others
            pool.shutdown(cancel_futures=True)
            return 130
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
