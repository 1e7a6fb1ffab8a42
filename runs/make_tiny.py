"""Make the real runs that ship in this folder: GRPO on tiny language models, on a CPU, in minutes.

    python runs/make_tiny.py               # every run below that is not there yet (single-threaded)
    python runs/make_tiny.py --only small-seed0
    python runs/make_tiny.py --table       # the table of runs/README.md, from the files

The policy is a Llama of a few layers over 16 characters. The prompt is a sum such as ``3+5*2-7=``, evaluated
from left to right modulo 10 (3+5=8, 8*2=6, 6-7=9); the answer is the character before the full stop, so
``9.`` and the worked ``869.`` are both right. A supervised warm-up on noisy demonstrations gives a base policy
that is unsure and often wrong; GRPO (Shao et al. 2024) with PPO's clip does the rest. Everything is seeded:
the same machine and versions give the same numbers.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import hashlib
import json
import math
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here comes from a hub

import numpy as np
import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
CHARS = "0123456789+-*=."
STOP, PAD = CHARS.index("."), len(CHARS)
VOCAB = len(CHARS) + 1

BASE: dict[str, Any] = {
    "task": {
        "name": "mod10-chain",
        "operations": [2, 3, 4, 5, 6],
        "validation_share": "1/8 by hash of the prompt",
    },
    "model": {"hidden_size": 64, "layers": 4, "heads": 4, "intermediate_size": 144},
    "warmup": {
        "batch_size": 128,
        "phases": [
            {"steps": 800, "lr": 3e-3, "chain_share": 1.0, "slip": 0.0},  # learns to calculate, in part
            {"steps": 150, "lr": 1e-3, "chain_share": 0.5, "slip": 0.1},  # learns to be unsure
        ],
    },
    "algorithm": {
        "name": "grpo",
        "group_size": 8,
        "norm_adv_by_std": True,
        "filter_all_right_all_wrong": True,
        "clip_ratio_low": 0.2,
        "clip_ratio_high": 0.2,
        "loss_agg_mode": "token-mean",
        "entropy_coeff": 0.0,
        "kl_coef": 0.0,
        "reward": "correct",
    },
    "rollout": {"prompts": 64, "temperature": 1.0, "max_tokens": 5},
    "optimizer": {"name": "AdamW", "lr": 2e-4, "betas": [0.9, 0.999], "weight_decay": 0.0, "grad_clip": 1.0},
    "training": {"steps": 240, "mini_batches": 4},
    "validation": {"every": 4, "problems": 512, "samples": 2, "temperature": 1.0, "seed": 12345},
}
SIZES = {
    "small": {"hidden_size": 48, "layers": 2, "heads": 4, "intermediate_size": 96},
    "middle": {"hidden_size": 64, "layers": 4, "heads": 4, "intermediate_size": 144},
    "large": {"hidden_size": 96, "layers": 4, "heads": 4, "intermediate_size": 192},
}
SHORT = [{**BASE["warmup"]["phases"][0], "steps": 400}, BASE["warmup"]["phases"][1]]


def easy(size: str, steps: int, **more: Any) -> dict[str, dict[str, Any]]:
    """Shorter sums, and room to write every step out: this can be solved completely."""
    room = {"task": {"operations": [2, 3, 4, 5]}, "rollout": {"max_tokens": 8}}
    return {"model": SIZES[size], "training": {"steps": steps}, **room, **more}


RUNS: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
    **{f"{size}-seed0": (0, {"model": SIZES[size]}) for size in SIZES},
    "middle-entropy-bonus": (0, {"algorithm": {"entropy_coeff": 0.2}, "training": {"steps": 160}}),
    "middle-random-reward": (0, {"algorithm": {"reward": "random"}, "training": {"steps": 160}}),
    **{f"{size}-seed1": (1, {"model": SIZES[size]}) for size in SIZES},
    "small-easy-seed0": (0, easy("small", 400)),
    "small-easy-short-warmup-seed0": (0, easy("small", 300, warmup={"phases": SHORT})),
    "small-easy-short-warmup-seed1": (1, easy("small", 300, warmup={"phases": SHORT})),
    "middle-easy-short-warmup-seed0": (0, easy("middle", 400, warmup={"phases": SHORT})),
}
ENTROPY_MEANING = {
    "key": "actor/entropy",
    "estimator": "exact",
    "unit": "nats/token",
    "averaging": "token-mean",
    "temperature": "1",
    "when": "before-update",
    "note": "full vocabulary, on all sampled responses of the step, before the all-right/all-wrong filter",
}


# The task -----------------------------------------------------------------------------------------


def problem(rng: np.random.Generator, operations: list[int], held_out: bool) -> tuple[str, list[int]]:
    """One prompt and its running results; held-out prompts and training prompts never meet (hash split)."""
    while True:
        n = int(rng.choice(operations))
        digits, signs = rng.integers(0, 10, n + 1), rng.choice(list("+-*"), n)
        prompt = str(digits[0]) + "".join(f"{s}{d}" for s, d in zip(signs, digits[1:], strict=True)) + "="
        if (hashlib.blake2b(prompt.encode(), digest_size=1).digest()[0] % 8 == 0) == held_out:
            results = [int(digits[0])]
            for sign, digit in zip(signs, digits[1:], strict=True):
                results.append(apply(sign, results[-1], int(digit)))
            return prompt, results[1:]


def apply(sign: str, left: int, right: int) -> int:
    """One operation modulo 10."""
    return {"+": left + right, "-": left - right, "*": left * right}[sign] % 10


def demonstration(rng: np.random.Generator, prompt: str, answer: int, chain_share: float, slip: float) -> str:
    """A worked chain or a bare answer; every result is a random digit with probability ``slip``.

    After a slip the chain goes on from the wrong digit, as a person's would.
    """

    def slipped(digit: int) -> int:
        return int(rng.integers(0, 10)) if rng.random() < slip else digit

    if rng.random() >= chain_share:
        return f"{slipped(answer)}."
    chain, value = "", int(prompt[0])
    for i in range(1, len(prompt) - 1, 2):
        value = slipped(apply(prompt[i], value, int(prompt[i + 1])))
        chain += str(value)
    return chain + "."


def encode(texts: list[str], width: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask, padded to ``width`` on one side."""
    ids = torch.full((len(texts), width), PAD)
    for row, text in zip(ids, texts, strict=True):
        start = width - len(text) if left else 0
        row[start : start + len(text)] = torch.tensor([CHARS.index(c) for c in text])
    return ids, ids != PAD


# The policy ---------------------------------------------------------------------------------------


def build_policy(model: dict[str, int], seed: int) -> LlamaForCausalLM:
    """A Llama from scratch, weights drawn from ``seed``."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=model["hidden_size"],
        intermediate_size=model["intermediate_size"],
        num_hidden_layers=model["layers"],
        num_attention_heads=model["heads"],
        max_position_embeddings=64,
        tie_word_embeddings=False,
        initializer_range=model["hidden_size"] ** -0.5,  # the 0.02 of large models learns these widths slowly
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=STOP,
    )
    return LlamaForCausalLM(config)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Position of each token, counted from the first that is not padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def response_logits(model: LlamaForCausalLM, prompt, prompt_mask, response, response_mask) -> torch.Tensor:
    """Logits that produced each response token, shape (B, R, V), float32."""
    mask = torch.cat([prompt_mask, response_mask], 1)
    tokens = torch.cat([prompt, response], 1)
    logits = model(tokens, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False).logits
    return logits[:, prompt.shape[1] - 1 : -1].float()


def token_log_p(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token, shape (B, R)."""
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def exact_entropy(logits: torch.Tensor) -> torch.Tensor:
    """-sum_v p_v log p_v over the whole vocabulary, nats, shape of ``logits`` without the last axis."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@torch.no_grad()
def sample(model, prompts: list[str], k: int, max_tokens: int, temperature: float, generator) -> Batch:
    """``k`` responses a prompt, row i*k+j the j-th of prompt i: (prompt, prompt_mask, response, response_mask).

    The prompt is read once and its cache repeated; the mask covers the response with its full stop.
    """
    prompt, mask = encode(prompts, max(map(len, prompts)), left=True)
    cache = DynamicCache()
    out = model(prompt, attention_mask=mask.long(), position_ids=positions(mask), past_key_values=cache)
    logits = out.logits[:, -1].repeat_interleave(k, 0)
    cache.batch_repeat_interleave(k)
    prompt, mask = prompt.repeat_interleave(k, 0), mask.repeat_interleave(k, 0)
    position, seen = mask.sum(1, keepdim=True), mask.long()
    alive = torch.ones(len(prompt), 1, dtype=torch.bool)
    tokens, alive_at = [], []
    for _ in range(max_tokens):
        token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        tokens.append(token.where(alive, torch.tensor(PAD)))
        alive_at.append(alive)
        alive = alive & (token != STOP)
        if not alive.any() or len(tokens) == max_tokens:
            break
        seen = torch.cat([seen, torch.ones_like(position)], 1)
        out = model(tokens[-1], attention_mask=seen, position_ids=position, past_key_values=cache)
        logits = out.logits[:, -1]
        position = position + 1
    return prompt, mask, torch.cat(tokens, 1), torch.cat(alive_at, 1)


def grade(response: torch.Tensor, mask: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """1.0 where the response ends in the answer and a full stop, else 0.0."""
    length = mask.sum(1)
    last = response.gather(1, (length - 1)[:, None])[:, 0]
    before = response.gather(1, (length - 2).clamp(min=0)[:, None])[:, 0]
    return ((length >= 2) & (last == STOP) & (before == answers)).float()


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum()


# Training -----------------------------------------------------------------------------------------


def warm_up(model: LlamaForCausalLM, recipe: dict[str, Any], rng: np.random.Generator) -> None:
    """Next-token training on demonstrations of training prompts, phase by phase."""
    operations = recipe["task"]["operations"]
    for phase in recipe["warmup"]["phases"]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=phase["lr"], weight_decay=0.0)
        for done in range(phase["steps"]):
            optimizer.param_groups[0]["lr"] = phase["lr"] * (1 - done / phase["steps"])  # linearly to nought
            problems = [problem(rng, operations, False) for _ in range(recipe["warmup"]["batch_size"])]
            texts = [demonstration(rng, p, r[-1], phase["chain_share"], phase["slip"]) for p, r in problems]
            prompt, prompt_mask = encode([p for p, _ in problems], 2 * max(operations) + 2, left=True)
            response, mask = encode(texts, max(operations) + 1, left=False)
            logits = response_logits(model, prompt, prompt_mask, response, mask)
            optimizer.zero_grad()
            (-masked_mean(token_log_p(logits, response), mask)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


@dataclass(frozen=True)
class ValidationSet:
    """The same problems and the same random numbers at every validation of every run."""

    prompts: list[str]
    answers: torch.Tensor
    recipe: dict[str, Any]
    max_tokens: int

    @classmethod
    def make(cls, recipe: dict[str, Any]) -> ValidationSet:
        val, rng, found = recipe["validation"], np.random.default_rng(recipe["validation"]["seed"]), {}
        while len(found) < val["problems"]:
            prompt, results = problem(rng, recipe["task"]["operations"], held_out=True)
            found[prompt] = results[-1]
        return cls(list(found), torch.tensor(list(found.values())), val, recipe["rollout"]["max_tokens"])

    def metrics(self, model: LlamaForCausalLM) -> dict[str, float]:
        k, generator = self.recipe["samples"], torch.Generator().manual_seed(self.recipe["seed"])
        temperature = self.recipe["temperature"]
        _, _, response, mask = sample(model, self.prompts, k, self.max_tokens, temperature, generator)
        accuracy = grade(response, mask, self.answers.repeat_interleave(k)).double().mean().item()
        return {"val/accuracy": accuracy, "val/problems": len(self.prompts), "val/samples": k}


def grpo_step(model, optimizer, recipe: dict[str, Any], rng, generator) -> dict[str, float]:
    """Roll out, measure the entropy of the policy that did it, update; returns the metrics of the step."""
    algo, rollout, k = recipe["algorithm"], recipe["rollout"], recipe["algorithm"]["group_size"]
    problems = [problem(rng, recipe["task"]["operations"], held_out=False) for _ in range(rollout["prompts"])]
    prompts = [prompt for prompt, _ in problems]
    batch = sample(model, prompts, k, rollout["max_tokens"], rollout["temperature"], generator)
    response, mask = batch[2], batch[3]
    correct = grade(response, mask, torch.tensor([r[-1] for _, r in problems]).repeat_interleave(k))
    reward = correct
    if algo["reward"] == "random":  # the control: a fair coin, whatever was answered
        reward = torch.randint(0, 2, correct.shape, generator=generator).float()
    with torch.no_grad():
        logits = response_logits(model, *batch)
        old_log_p = token_log_p(logits, response)
        entropy = exact_entropy(logits).double()
    group = reward.view(-1, k)
    # A = (r - group mean) / (group std + 1e-6), the same for every token of a response.
    advantage = ((group - group.mean(1, keepdim=True)) / (group.std(1, keepdim=True) + 1e-6)).view(-1)
    kept = torch.nonzero((group.mean(1) > 0) & (group.mean(1) < 1))[:, 0]  # the others carry no gradient
    kept = kept[torch.randperm(len(kept), generator=generator)]
    metrics = {
        "actor/entropy": masked_mean(entropy, mask).item(),
        "actor/entropy_response_mean": ((entropy * mask).sum(1) / mask.sum(1)).mean().item(),
        "reward/mean": reward.mean().item(),
        "train/accuracy": correct.mean().item(),
        "train/kept_groups": len(kept) / len(group),
        "response_length/mean": mask.sum(1).double().mean().item(),
    }
    updates: list[tuple[float, float, float]] = []
    for groups in kept.chunk(recipe["training"]["mini_batches"]) if len(kept) else ():
        rows = (groups[:, None] * k + torch.arange(k)).view(-1)
        part = tuple(tensor[rows] for tensor in batch)
        logits = response_logits(model, *part)
        log_p = token_log_p(logits, part[2])
        ratio, a = (log_p - old_log_p[rows]).exp(), advantage[rows][:, None]
        plain = -a * ratio
        clipped = -a * ratio.clamp(1 - algo["clip_ratio_low"], 1 + algo["clip_ratio_high"])
        loss = masked_mean(torch.maximum(plain, clipped), part[3])
        if algo["entropy_coeff"]:
            loss = loss - algo["entropy_coeff"] * masked_mean(exact_entropy(logits), part[3])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["optimizer"]["grad_clip"])
        optimizer.step()
        clip_share = masked_mean((clipped > plain).float(), part[3])
        kl = masked_mean(old_log_p[rows] - log_p.detach(), part[3])
        updates.append((norm.item(), clip_share.item(), kl.item()))
    if updates:  # a step whose groups were all dropped has no update to speak of
        names = ("actor/grad_norm", "actor/pg_clipfrac", "actor/ppo_kl")
        metrics.update(zip(names, np.mean(updates, axis=0).tolist(), strict=True))
    return metrics


def train(name: str, recipe: dict[str, Any], seed: int, folder: Path) -> None:
    """Run a recipe; ``folder`` appears, complete, only at the end (until then ``NAME.partial``)."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if recipe["algorithm"]["kl_coef"]:
        raise SystemExit("this script has no reference policy: kl_coef must be 0")
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    model, validation = build_policy(recipe["model"], seed).train(), ValidationSet.make(recipe)
    parameters = sum(p.numel() for p in model.parameters())
    warm_up(model, recipe, rng)
    settings = {key: recipe["optimizer"][key] for key in ("lr", "betas", "weight_decay")}
    optimizer = torch.optim.AdamW(model.parameters(), **settings)
    with open(partial / "metrics.jsonl", "w") as log:
        write_line(log, {"step": 0, **validation.metrics(model)})
        for step in range(1, recipe["training"]["steps"] + 1):
            step_start = time.perf_counter()
            metrics = grpo_step(model, optimizer, recipe, rng, generator)
            metrics["time/step_s"] = time.perf_counter() - step_start
            if step % recipe["validation"]["every"] == 0:
                metrics.update(validation.metrics(model))
                report(name, step, recipe["training"]["steps"], metrics, start)
            write_line(log, {"step": step, **metrics})
    info = {
        "schema": "entlaw.run/1",
        "name": name,
        "framework": "entlaw",
        "recipe": recipe,
        "entropy_meaning": ENTROPY_MEANING,
        "seed": seed,
        "versions": {"python": platform.python_version()}
        | {module.__name__: module.__version__ for module in (torch, transformers, np)},
        "parameters": parameters,
        "created": datetime.date.today().isoformat(),
        "wall_s": round(time.perf_counter() - start, 1),
    }
    (partial / "run.json").write_text(json.dumps(info, indent=1) + "\n")
    partial.rename(folder)


def write_line(log, record: dict[str, float]) -> None:
    """One record a line, floats to 6 significant digits (accuracies, multiples of 1/n, in full), flushed."""

    def rounded(key: str, value: float) -> float:
        return value if isinstance(value, int) or key == "val/accuracy" else float(f"{value:.6g}")

    log.write(json.dumps({key: rounded(key, value) for key, value in record.items()}) + "\n")
    log.flush()


def report(name: str, step: int, steps: int, metrics: dict[str, float], start: float) -> None:
    left = (time.perf_counter() - start) / step * (steps - step)
    print(
        f"\r{name} {step}/{steps}  H {metrics['actor/entropy']:.3f}  val {metrics['val/accuracy']:.3f}  "
        f"length {metrics['response_length/mean']:.1f}  about {left:.0f} s left ",
        end="" if step < steps else "\n",
        flush=True,
    )


# The table and the command ------------------------------------------------------------------------


def table(root: Path = HERE) -> str:
    """What every finished run did, as Markdown."""
    lines = [
        "| run | parameters | steps | entropy first → last | validation first → last | best | length | wall (s) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(root.glob("*/run.json"), key=lambda p: (read(p)["parameters"], p.parent.name)):
        info = read(path)
        rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        h, length = ([r[key] for r in rows if key in r] for key in ("actor/entropy", "response_length/mean"))
        val = [r["val/accuracy"] for r in rows if "val/accuracy" in r]
        lines.append(
            f"| {info['name']} | {info['parameters']:,} | {rows[-1]['step']} | {h[0]:.3f} → {h[-1]:.3f} | "
            f"{val[0]:.3f} → {val[-1]:.3f} | {max(val):.3f} | {length[0]:.1f} → {length[-1]:.1f} | "
            f"{info['wall_s']:.0f} |"
        )
    return "\n".join(lines)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def recipe_of(name: str) -> tuple[int, dict[str, Any]]:
    """Seed and complete recipe of a run in ``RUNS``."""
    seed, changes = RUNS[name]
    recipe = copy.deepcopy(BASE)
    for section, values in changes.items():
        recipe[section].update(values)
    return seed, recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(RUNS), help="make this run only")
    parser.add_argument("--table", action="store_true", help="print the table of finished runs and stop")
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    todo = [name for name in ([args.only] if args.only else RUNS) if not (HERE / name / "run.json").is_file()]
    print(f"{len(todo)} run(s), about {math.ceil(2.2 * len(todo))} minutes on one core: {', '.join(todo)}")
    for name in todo:
        seed, recipe = recipe_of(name)
        train(name, recipe, seed, HERE / name)


if __name__ == "__main__":
    main()
