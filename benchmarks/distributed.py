"""Several ranks against one, on the same recipes: losses, chosen tokens, metrics and weights.

    python benchmarks/distributed.py [--ranks 2] [--only NAME] [--json FILE]

Each recipe trains a tiny model on the CPU once in one process and once under torchrun (gloo, FSDP2), each writing what
it logged in full precision, which tokens its controls chose and what the weights became. The table holds the largest
relative difference of any metric, of the loss and of the gradient norm over all steps, of any weight, and how many
chosen tokens differ. Metrics that a clock decides are left out. There is no row for bfloat16: its products depend on
the shape of a batch in their third digit, so now and then another token is drawn, on one rank by another rollout.batch
as well, and from there on these are two runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMON = [
    "run.steps=4",
    "run.device=cpu",
    "policy.size=xs",
    "policy.dtype=float64",
    "warmup.clean_steps=40",
    "warmup.noisy_steps=10",
    "warmup.batch_size=32",
    "rollout.prompts=9",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=2",
    "validation.problems=17",
    "algorithm.filter_groups=false",
]
CASES: dict[str, list[str]] = {
    "GRPO": [],
    "GRPO, Clip-Cov": ["controls.clip_cov.ratio=0.05", "controls.clip_cov.lower=0.05"],
    "GRPO, KL-Cov": ["controls.kl_cov.ratio=0.05"],
    "GRPO, entropy bonus": ["controls.entropy_coeff=0.01"],
    "GRPO, adaptive bonus": ["controls.entropy_target=2.5", "controls.entropy_step=0.01"],
    "GRPO, KL to the base policy": ["controls.kl_coef=0.05"],
    "GRPO, tokens of high entropy": ["controls.high_entropy_share=0.3"],
    "GRPO, dynamic sampling": ["algorithm.filter_groups=true", "algorithm.max_refills=2"],
    "GRPO, all together, micro-batch 3": [
        "controls.clip_cov.ratio=0.05",
        "controls.clip_cov.lower=0.05",
        "controls.kl_cov.ratio=0.02",
        "controls.kl_coef=0.01",
        "controls.entropy_coeff=0.01",
        "loss.micro_batch=3",
        "rollout.batch=8",
    ],
    "GRPO, response means, 2 epochs": ["loss.aggregation=seq-mean-token-mean", "loss.epochs=2"],
    "GRPO, temperature 0.7": ["rollout.temperature=0.7"],
    "GRPO, gradient checkpointing": ["policy.gradient_checkpointing=true"],
    "GSPO": ["loss.kind=gspo", "loss.aggregation=seq-mean-token-mean"],
    "RLOO": ["algorithm.name=rloo"],
    "REINFORCE++": ["algorithm.name=reinforce_plus_plus", "controls.kl_coef=0.01", "controls.kl_in=reward"],
    "PPO": ["algorithm.name=ppo", "critic.epochs=2"],
    "PRIME": ["algorithm.name=prime"],
    "GRPO, float32": ["policy.dtype=float32", "controls.kl_cov.ratio=0.05"],
}


@dataclass(frozen=True)
class Result:
    """How far several ranks are from one."""

    name: str
    steps: int
    metrics: int
    worst_metric: str
    metric: float
    loss: float
    grad_norm: float
    weight: float
    responses: int
    """Responses that differ."""
    chosen: int
    """Tokens that one of the two chose."""
    differing: int
    """Tokens that only one of them chose."""


def run(folder: Path, settings: list[str]) -> None:
    """Train, and leave ``seen.pt`` behind; what each process of either side does."""
    import torch

    from entlaw.train import loop, recipe, runner
    from entlaw.train import update as updating

    records: list[dict[str, float]] = []
    chosen: list[Any] = []
    rollouts: list[Any] = []
    choose, collect = updating.choose, loop.Trainer.collect

    def noted(*arguments: Any) -> Any:
        choice = choose(*arguments)
        chosen.append(list(choice.tokens.values()))
        return choice

    def watched(self: Any, *arguments: Any) -> Any:
        batch, levels = collect(self, *arguments)
        rollouts.append((batch.response_BT, batch.mask_BT))
        return batch, levels

    updating.choose, loop.Trainer.collect = noted, watched  # type: ignore[assignment,method-assign]
    outcome = runner.train(
        recipe.load(None, settings),
        folder,
        on_record=lambda step, record: records.append({"step": step, **record}),
    )
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save({"records": records, "chosen": chosen, "rollouts": rollouts}, folder / "seen.pt")
    assert outcome.status == "finished"


def launch(folder: Path, settings: list[str], ranks: int) -> None:
    """Train in processes of their own."""
    script = [str(Path(__file__).resolve()), "--train", str(folder), *settings]
    command = [sys.executable, *script]
    if ranks > 1:
        together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [sys.executable, *together, *script]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def relative(a: float, b: float) -> float:
    """|a - b| by the larger one, differences of nothing much left alone; NaN equals NaN."""
    if a != a and b != b:
        return 0.0
    return abs(a - b) / max(abs(a), abs(b), 1e-3)


def compare(name: str, one: Path, many: Path) -> Result:
    """What both left behind."""
    import torch
    from safetensors.torch import load_file

    from entlaw.train import checkpoint

    a, b = (torch.load(folder / "seen.pt", weights_only=True) for folder in (one, many))
    assert [r["step"] for r in a["records"]] == [r["step"] for r in b["records"]]
    worst: dict[str, float] = {}
    for x, y in zip(a["records"], b["records"], strict=True):
        assert x.keys() == y.keys()
        for key in x:
            if not key.startswith(("time/", "perf/")):
                worst[key] = max(worst.get(key, 0.0), relative(x[key], y[key]))
    first, second = (
        load_file(checkpoint.latest(f).path / "policy" / "model.safetensors") for f in (one, many)
    )
    weight = max(float((first[k] - second[k]).abs().max() / first[k].abs().max()) for k in first)
    pairs = [(t, u) for c, d in zip(a["chosen"], b["chosen"], strict=True) for t, u in zip(c, d, strict=True)]
    worst_metric = max(worst, key=lambda key: worst[key])
    return Result(
        name=name,
        steps=len(a["records"]) - 2,
        metrics=len(worst),
        worst_metric=worst_metric,
        metric=worst[worst_metric],
        loss=worst["actor/loss"],
        grad_norm=worst["actor/grad_norm"],
        weight=weight,
        responses=sum(
            int((r != s).any(1).sum()) if r.shape == s.shape else max(len(r), len(s))
            for (r, _), (s, _) in zip(a["rollouts"], b["rollouts"], strict=True)
        ),
        chosen=sum(int(t.sum()) for t, _ in pairs),
        differing=sum(int((t != u).sum()) if t.shape == u.shape else int(t.sum()) for t, u in pairs),
    )


def table(results: list[Result], ranks: int) -> str:
    """The results as Markdown."""
    lines = [
        f"| {ranks} ranks against 1 | metrics | largest difference | loss | gradient norm | weights | responses that "
        "differ | chosen tokens | of them different |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.name} | {r.metrics} | {r.metric:.1e} ({r.worst_metric}) | {r.loss:.1e} | {r.grad_norm:.1e} | "
        f"{r.weight:.1e} | {r.responses} | {r.chosen} | {r.differing} |"
        for r in results
    ]
    return "\n".join(lines)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--train", nargs="+")
    options = parser.parse_args()
    if options.train:
        run(Path(options.train[0]), options.train[1:])
        return
    results = []
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("ENTLAW_CACHE", f"{place}/cache")
        for i, (name, settings) in enumerate(CASES.items()):
            if options.only and options.only not in name:
                continue
            folders = Path(place) / f"{i}-one", Path(place) / f"{i}-many"
            for folder, ranks in zip(folders, (1, options.ranks), strict=True):
                launch(folder, COMMON + settings, ranks)
            results.append(compare(name, *folders))
            print(table(results[-1:], options.ranks).splitlines()[-1], flush=True)
    print("\n" + table(results, options.ranks))
    if options.json:
        options.json.write_text(json.dumps([vars(r) for r in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
