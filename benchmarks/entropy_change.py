"""Does covariance predict the change of entropy, on the real steps of a real model?

    python benchmarks/entropy_change.py [--steps 60]

Strictly on-policy GRPO (one optimiser step a rollout) on a ladder model. On the states of each rollout, every step:

- measured: token-mean entropy after minus before;
- Lemma 1: -mean over states of Cov_{a ~ pi}(log pi(a|s), change of the logits z_{s,a}), which knows what the step did;
- Theorem 2 on the batch (Eq. 10): -Cov(log pi, A) over the sampled tokens, which knows only advantages;
- the bandit form (Fig. 8): -mean over prompts of Cov(mean log pi, exp(mean log pi) A), and the same without the factor;
- Theorem 2 within states: -A(s, y) pi(y) (log pi(y) + H(s)) of the sampled token, the first-order change by that
  token's own logit.

The last three are up to an unknown step size, so correlation is what can be compared; Lemma 1 has no free factor.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from entlaw.train import measure
from entlaw.train import recipe as recipes
from entlaw.train.base import base_policy
from entlaw.train.batch import Batch
from entlaw.train.loop import Trainer
from entlaw.train.runner import build_task


class Watched(Trainer):
    """A trainer that looks at the logits of the states it learns from, before and after."""

    seen: dict[str, float]

    def logits(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            hidden_ND = self.policy.hidden(batch)[batch.mask_BT > 0]
            return self.policy.model.get_output_embeddings()(hidden_ND).double()

    def update_policy(self, batch: Batch, t: int, entropy_coeff: float) -> list[measure.Metrics]:
        before_NV = self.logits(batch)
        records = super().update_policy(batch, t, entropy_coeff)
        change_NV = self.logits(batch) - before_NV
        log_p = before_NV.log_softmax(-1)
        p = log_p.exp()
        entropy_N = -(p * log_p).sum(-1)
        after = (before_NV + change_NV).log_softmax(-1)
        entropy_after_N = -(after.exp() * after).sum(-1)
        covariance_N = (p * log_p * change_NV).sum(-1) - (p * log_p).sum(-1) * (p * change_NV).sum(-1)
        valid = batch.mask_BT > 0
        token_N = batch.response_BT[valid]
        log_y = log_p.gather(-1, token_N[:, None])[:, 0]
        advantage_N = batch.advantages_BT[valid].double()
        record = measure.update_record(batch, [""] * len(batch), ())
        self.seen = {
            "measured": float((entropy_after_N - entropy_N).mean()),
            "Lemma 1, logits known": float(-covariance_N.mean()),
            "batch covariance (Eq. 10)": -record["cov/mean"],
            "bandit, pi A (Fig. 8)": -record["cov/group_probability"],
            "bandit, A": -record["cov/group"],
            "sampled token's own logit": float(-(advantage_N * log_y.exp() * (log_y + entropy_N)).mean()),
        }
        return records


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", default="m")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = recipes.load(
        None, ["loss.mini_batches=1", "loss.kind=policy_gradient", f"policy.size={args.size}"]
    )
    recipe = replace(recipe, run=replace(recipe.run, steps=args.steps))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Watched(
            recipe, build_task(recipe.task), base_policy(recipe, Path(folder), torch.device("cpu"))
        )
        rows: list[dict[str, Any]] = []
        for t in range(1, args.steps + 1):
            trainer.step(t)
            rows.append(trainer.seen)
            if sys.stderr.isatty():
                print(f"\rstep {t} of {args.steps}", end="", file=sys.stderr)
    measured = np.array([r["measured"] for r in rows])
    print(f"{args.steps} on-policy steps, size {args.size}")
    print(f"entropy moved by {measured.sum():+.3f} nats/token on the states of each step")
    print(f"{'prediction':30s} {'correlation':>11s} {'slope':>9s} {'same sign':>9s}")
    out = {}
    for name in list(rows[0])[1:]:
        x = np.array([r[name] for r in rows])
        slope = float(np.polyfit(x, measured, 1)[0])
        out[name] = {
            "correlation": float(np.corrcoef(x, measured)[0, 1]),
            "slope": slope,
            "same_sign": float(np.mean(np.sign(x) == np.sign(measured))),
        }
        print(f"{name:30s} {out[name]['correlation']:11.3f} {slope:9.4f} {out[name]['same_sign']:9.2f}")
    if args.json:
        print(json.dumps({"schema": "entlaw.bench.entropy_change/1", "steps": args.steps, **out}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
