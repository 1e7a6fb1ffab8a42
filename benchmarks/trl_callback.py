"""TRL's real GRPO trainer on a CPU with the law in its log: what it logged against `entlaw fit` on its state.

The ladder's middle model after its warm-up, 64 prompts x 8 responses a rollout, four optimiser steps each. The peer is
the fit of the finished log cut at the last row that holds a ceiling, made by reading trainer_state.json again.

Run: python benchmarks/trl_callback.py [--rollouts 160] [--stop-when "P(gain > 1%) < 0.05"] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from train_step import tiny_folder

from entlaw.law.result import Result, examine
from entlaw.runs.reader import read

PROMPTS, GROUP, MINI_BATCHES, MAX_TOKENS = 64, 8, 4, 5
KEYS = ("entlaw/verdict", "entlaw/ceiling", "entlaw/ceiling_lo", "entlaw/ceiling_hi")


def train(folder: Path, rollouts: int, rule: str | None) -> int:
    """Train with the callback; the trainer's state lies in the folder then. The optimiser steps made."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from entlaw.engines.trl import EntlawCallback
    from entlaw.tasks.arithmetic import Arithmetic
    from entlaw.train.schema import Recipe

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bars()
    recipe = Recipe()
    asked = Arithmetic(tuple(recipe.task.operations), recipe.task.operators).training(
        0, 0, PROMPTS * rollouts
    )
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=MINI_BATCHES,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=False,
        gradient_checkpointing=False,
        seed=0,
        per_device_train_batch_size=PROMPTS * GROUP // MINI_BATCHES,
        gradient_accumulation_steps=1,
        steps_per_generation=MINI_BATCHES,
        num_generations=GROUP,
        max_completion_length=MAX_TOKENS,
        beta=0.0,
        shuffle_dataset=False,
        loss_type="dapo",
        max_steps=MINI_BATCHES * rollouts,
        learning_rate=recipe.optimizer.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
    )

    def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(text[-1:] == wanted) for text, wanted in zip(completions, answer, strict=True)]

    start = tiny_folder()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(start),
        reward_funcs=right,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in asked]),
    )
    trainer.remove_callback(PrinterCallback)
    EntlawCallback(rule).add_to(trainer)
    trainer.train()
    trainer.save_state()
    return int(trainer.state.global_step)


def result_of(history: list[dict[str, Any]], folder: Path) -> Result:
    """What `entlaw fit` finds in a trainer's state of these rows."""
    path = folder / "trainer_state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"log_history": history}))
    return examine(read(path)[0])


def main() -> None:
    """Train, fit, print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollouts", type=int, default=160)
    parser.add_argument("--stop-when")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        began = time.perf_counter()
        steps = train(folder, args.rollouts, args.stop_when)
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        rows = [i for i, row in enumerate(history) if "entlaw/ceiling" in row]
        seconds = time.perf_counter() - began
        wanted = MINI_BATCHES * args.rollouts
        print(f"{steps} of {wanted} optimiser steps, {seconds:.0f} s, {len(rows)} rows with a ceiling")
        if not rows:
            sys.exit("no ceiling was logged: too few steps")
        last = history[rows[-1]]
        print(f"logged at step {last['step']}:", {key: last[key] for key in KEYS if key in last})
        for name, upto in (("cut there", rows[-1] + 1), ("whole", len(history))):
            found = result_of(history[:upto], Path(scratch) / "again")
            ends = None if found.law is None else found.ceiling_interval
            ceiling = None if ends is None else [found.ceiling, ends.lo, ends.hi]
            print(
                f"entlaw fit, {name}: {found.verdict}, ceiling {ceiling}, forecast {found.forecast.verdict}"
            )


if __name__ == "__main__":
    main()
