"""Reading console logs: MB/s of entlaw's reader and of the reader one writes in ten minutes.

The peer looks at every line with one regular expression, takes its pairs with another and builds a frame from a
list of dictionaries. Both read the same synthetic logs, whose line widths are those of real ones: verl prints some
50 keys a step (1.8 kB) among the model's sample answers, TRL one dictionary of 30 keys among progress bars. Both
must return the same numbers, or the benchmark fails.

Run: python benchmarks/console_reading.py [--megabytes 60] [--repeat 3]
"""

from __future__ import annotations

import argparse
import ast
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import console

PREFIX = "\x1b[36m(TaskRunner pid=14640)\x1b[0m "
VERL_KEYS = [
    *(
        f"{part}/{name}/{stat}"
        for part in ("critic", "actor")
        for name in ("score", "rewards", "advantages", "values")
        for stat in ("mean", "max", "min")
    ),
    *(
        f"timing_s/{name}"
        for name in ("gen", "reward", "old_log_prob", "ref", "values", "adv", "update_actor", "step")
    ),
    *(f"response_length/{name}" for name in ("mean", "max", "min", "clip_ratio")),
    *(f"perf/{name}" for name in ("mfu/actor", "total_num_tokens", "time_per_step", "throughput")),
    "actor/entropy",
    "actor/pg_loss",
    "actor/pg_clipfrac",
    "actor/ppo_kl",
    "actor/grad_norm",
    "actor/lr",
    "training/global_step",
    "training/epoch",
    "prompt_length/mean",
    "prompt_length/max",
]
TRL_KEYS = [
    "loss",
    "grad_norm",
    "learning_rate",
    "num_tokens",
    "reward",
    "reward_std",
    "entropy",
    "step_time",
    "epoch",
    *(f"completions/{n}" for n in ("mean_length", "min_length", "max_length", "clipped_ratio")),
    *(f"clip_ratio/{n}" for n in ("low_mean", "low_min", "high_mean", "high_max", "region_mean")),
    *(f"rewards/fn{i}/{n}" for i in range(6) for n in ("mean", "std")),
]
SENTENCE = "Therefore, the total time James took to get across the lake is 16 hours. #### 16<|im_end|>"


def verl_log(steps: int, samples: int) -> Iterator[str]:
    """Lines of a verl log with `samples` lines of model output a step."""
    rng = np.random.default_rng(0)
    for step in range(1, steps + 1):
        values = rng.random(len(VERL_KEYS)) * 100
        pairs = " - ".join(f"{k}:{v:.3f}" for k, v in zip(VERL_KEYS, values, strict=True))
        for _ in range(samples):
            yield f"{PREFIX}{SENTENCE}\n"
        yield f"{PREFIX}step:{step} - {pairs}\n"


def trl_log(records: int) -> Iterator[str]:
    """Lines of a TRL log with a progress bar a step and a record every five steps."""
    rng = np.random.default_rng(0)
    total = 5 * records
    for step in range(1, total + 1):
        bar = f"\r {100 * step // total:2d}%|{'█' * 6:10s}| {step}/{total} [10:00<10:00,  3.47s/it]"
        yield bar
        if step % 5 == 0:
            record = dict(zip(TRL_KEYS, rng.random(len(TRL_KEYS)).tolist(), strict=True))
            yield f"\r{' ' * 60}\r{record!r}\n{bar}"
    yield "\n"


def peer_verl(path: Path) -> pd.DataFrame:
    """A regular expression a line."""
    step, pair = re.compile(r"step:(\d+) - (.*)"), re.compile(r"(\S+):(-?[\d.]+(?:e[-+]?\d+)?|nan)")
    rows = []
    with path.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            found = step.search(line)
            if found:
                rows.append({"step": float(found[1]), **{k: float(v) for k, v in pair.findall(found[2])}})
    return pd.DataFrame(rows)


def peer_trl(path: Path) -> pd.DataFrame:
    """A regular expression a line, ``ast.literal_eval`` for the dictionary."""
    record = re.compile(r"\{'loss'.*\}")
    rows = []
    with path.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            found = record.search(line)
            if found:
                rows.append(ast.literal_eval(found[0]))
    return pd.DataFrame(rows)


def ours(path: Path) -> pd.DataFrame:
    """entlaw's reader."""
    (run,) = console.read(path, ReadOptions())
    return run.rows


def best_time(
    function: Callable[[Path], pd.DataFrame], path: Path, repeat: int
) -> tuple[float, pd.DataFrame]:
    """Least processor time of `repeat` readings (other work on the machine does not count) and the frame."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        frame = function(path)
        times.append(time.process_time() - start)
    return min(times), frame


def main() -> None:
    """Write the logs, read them with both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=60.0)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    size = options.megabytes * 1e6
    cases = {
        "verl, metric lines only": (verl_log(int(size / 1950), 0), peer_verl),
        "verl, 100 lines of answers a step": (verl_log(int(size / 14000), 100), peer_verl),
        "TRL, records among progress bars": (trl_log(int(size / 2000)), peer_trl),
    }
    print(f"{'log':36s} {'MB':>6s} {'records':>8s} {'entlaw MB/s':>12s} {'peer MB/s':>10s} {'ratio':>6s}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, peer) in cases.items():
            path = Path(folder) / "console.log"
            with path.open("w", encoding="utf-8", newline="") as handle:
                handle.writelines(text)
            megabytes = path.stat().st_size / 1e6
            mine, rows = best_time(ours, path, options.repeat)
            theirs, reference = best_time(peer, path, options.repeat)
            pd.testing.assert_frame_equal(rows[reference.columns], reference, check_exact=True)
            print(
                f"{name:36s} {megabytes:6.1f} {len(rows):8d} {megabytes / mine:12.1f} {megabytes / theirs:10.1f} "
                f"{theirs / mine:6.1f}"
            )


if __name__ == "__main__":
    main()
