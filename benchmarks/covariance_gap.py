"""Eq. 10's batch covariance against the within-state one that Theorem 2 is about, on real rollouts.

    python benchmarks/covariance_gap.py [--at 1 60 240] [--size m]

Theorem 2 has the covariance of log pi and A over the actions of one state. Eq. 10 centres both over the whole batch, so
it also holds the covariance between states of their mean log pi and mean A (law of total covariance):

    Cov_batch = E_s[Cov_a(log pi, A | s)] + Cov_s(E[log pi | s], E[A | s]).

The second term is no part of the theorem and vanishes only if A has mean zero in front of every prefix, which GRPO's
advantage, one number a response, has not. With one sampled action a state the two cannot be told apart. Here they can:
in front of sampled prefixes every token of the vocabulary is forced once and the response finished many times by the
policy, which gives E[reward | prefix, token] without bias (all terms are linear in it). The advantage is GRPO's: minus
the group's mean, over its standard deviation. Standard errors: prompts drawn with replacement.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from entlaw.dynamics.softmax import total_covariance
from entlaw.tasks import Problem
from entlaw.tasks.arithmetic import results
from entlaw.train import measure
from entlaw.train import recipe as recipes
from entlaw.train.base import base_policy
from entlaw.train.batch import Batch
from entlaw.train.estimate import with_advantages
from entlaw.train.loop import Clock, Trainer
from entlaw.train.tasks import build_task

ROWS = 8192  # sequences in one forward pass
State = tuple[
    int, int, tuple[int, ...], str
]  # group, tokens so far, prompt and prefix as ids, prefix as text


def states(trainer: Trainer, batch: Batch, n: int, rng: np.random.Generator) -> list[State]:
    """Prefixes drawn from all tokens of a batch."""
    decode = trainer.policy.tokenizer.decode
    places = torch.nonzero(batch.mask_BT > 0).tolist()
    out = []
    for k in rng.choice(len(places), min(n, len(places)), replace=False):
        i, t = places[k]
        prompt = batch.prompt_BP[i][batch.prompt_mask_BP[i].bool()].tolist()
        prefix = batch.response_BT[i, :t].tolist()
        out.append((int(batch.group_B[i]), t, tuple(prompt + prefix), "".join(decode([y]) for y in prefix)))
    return out


def returns(
    trainer: Trainer, found: list[State], samples: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each state, and the mean reward after each token there; both of shape (states, vocabulary)."""
    model, task = trainer.policy.model.eval(), trainer.task
    decode, stops = trainer.policy.tokenizer.decode, set(trainer.policy.stop_ids)
    room, names = trainer.recipe.rollout.max_tokens, {}
    logits, value = [], []
    by_length: dict[tuple[int, int], list[int]] = defaultdict(list)
    with torch.no_grad():
        for k, (_, t, ids, _) in enumerate(found):
            logits.append(model(torch.tensor([ids])).logits[0, -1].double().numpy())
            by_length[len(ids), t].append(k)
        vocabulary = len(logits[0])
        names = {a: decode([a]) for a in range(vocabulary)}
        value = np.zeros((len(found), vocabulary))
        for (_, t), members in by_length.items():
            jobs = [(k, a) for k in members for a in range(vocabulary) for _ in range(samples)]
            for at in range(0, len(jobs), ROWS):
                part = jobs[at : at + ROWS]
                ids = torch.tensor([[*found[k][2], a] for k, a in part])
                texts = continued(model, ids, room - t - 1, stops, names, generator)
                for (k, a), text in zip(part, texts, strict=True):
                    prompt = "".join(names[i] for i in found[k][2][: len(found[k][2]) - t])
                    problem = Problem(prompt, str(list(results(prompt))[-1]), "")
                    whole = found[k][3] + ("" if a in stops else names[a] + text[0])
                    value[k, a] += task.score(problem, whole, a in stops or text[1]) / samples
    model.train()
    return np.array(logits), value


def continued(
    model: torch.nn.Module,
    ids: Tensor,
    room: int,
    stops: set[int],
    names: dict[int, str],
    generator: torch.Generator,
) -> list[tuple[str, bool]]:
    """What the policy writes after each row, and whether it ended by itself within the room."""
    alive, ended = torch.ones(len(ids), dtype=torch.bool), torch.zeros(len(ids), dtype=torch.bool)
    written: list[list[int]] = [[] for _ in range(len(ids))]
    for _ in range(room):
        token = torch.multinomial(model(ids).logits[:, -1].softmax(-1), 1, generator=generator)[:, 0]
        stop = torch.tensor([int(y) in stops for y in token])
        ended |= alive & stop
        alive &= ~stop
        for i in torch.nonzero(alive)[:, 0].tolist():
            written[i].append(int(token[i]))
        ids = torch.cat([ids, token[:, None]], dim=1)
    return [("".join(names[y] for y in row), bool(e)) for row, e in zip(written, ended, strict=True)]


def gap(trainer: Trainer, t: int, n: int, samples: int, seed: int) -> dict[str, float]:
    """The parts of the covariance on a rollout of the policy as it is, with standard errors."""
    rng, generator = np.random.default_rng([seed, t]), torch.Generator().manual_seed(seed + t)
    drawn = trainer.drawn
    batch, levels = trainer.collect(t, Clock())
    trainer.drawn = drawn  # the training goes on as if nobody had looked
    rows = trainer.learning_rows(batch)
    batch, levels = batch.rows(rows), [levels[i] for i in rows.tolist()]
    batch = with_advantages(
        batch, trainer.recipe.algorithm, trainer.recipe.controls, trainer.recipe.prime, None
    )
    sampled = measure.update_record(batch, levels, ())["cov/mean"]
    found = states(trainer, batch, n, rng)
    logits, reward = returns(trainer, found, samples, generator)
    of_group = {int(g): batch.reward_B[batch.group_B == g].double() for g in torch.unique(batch.group_B)}
    centre = np.array([[float(of_group[s[0]].mean()), float(of_group[s[0]].std() + 1e-6)] for s in found])
    advantage = (reward - centre[:, :1]) / centre[:, 1:]
    groups = np.array([s[0] for s in found])
    names, parts = np.unique(groups), []
    for _ in range(400):
        pick = np.concatenate([np.flatnonzero(groups == g) for g in rng.choice(names, len(names))])
        one = total_covariance(logits[pick], advantage[pick])
        parts.append((one.batch, one.within, one.between))
    whole, error = total_covariance(logits, advantage), np.std(parts, axis=0, ddof=1)
    return {
        "sampled": sampled,
        "batch": whole.batch,
        "batch_se": error[0],
        "within": whole.within,
        "within_se": error[1],
        "between": whole.between,
        "between_se": error[2],
        "states": len(found),
        "prompts": len(names),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at", type=int, nargs="+", default=[1, 60, 240], help="steps before which to look")
    parser.add_argument("--size", default="m")
    parser.add_argument("--states", type=int, default=300)
    parser.add_argument("--samples", type=int, default=16, help="continuations of each token in each state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = recipes.load(
        None,
        ["loss.mini_batches=1", "loss.kind=policy_gradient", "optimizer.lr=6e-4", f"policy.size={args.size}"],
    )
    recipe = replace(recipe, run=replace(recipe.run, steps=max(args.at)))
    out = {}
    print(
        f"covariance of log pi and GRPO's advantage, size {args.size}, {args.states} prefixes, "
        f"{args.samples} continuations a token"
    )
    print(
        f"{'before step':>11s} "
        + " ".join(
            f"{c:>16s}" for c in ("sampled, Eq. 10", "batch, exact", "within states", "between states")
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            recipe, build_task(recipe.task), base_policy(recipe, Path(folder), torch.device("cpu"))
        )
        for t in range(1, max(args.at) + 1):
            if t in args.at:
                one = out[t] = gap(trainer, t, args.states, args.samples, args.seed)
                cells = [f"{one[k]:.4f} ± {one[f'{k}_se']:.4f}" for k in ("batch", "within", "between")]
                print(f"{t:11d} {one['sampled']:16.4f} " + " ".join(f"{c:>16s}" for c in cells), flush=True)
            if t < max(args.at):
                trainer.step(t)
            if sys.stderr.isatty():
                print(f"\rstep {t} of {max(args.at)}", end="", file=sys.stderr)
    if args.json:
        print(json.dumps({"schema": "entlaw.bench.covariance_gap/1", "size": args.size, "at": out}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
