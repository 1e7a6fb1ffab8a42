"""One run as its trainer's several writers leave it: console, JSON lines, W&B, TensorBoard, Hugging Face's state."""

from __future__ import annotations

import json

import numpy as np

from tests.runs import test_tensorboard as tb
from tests.runs import wandb_writer as wandb


def series(seed, n=40, noise=0.01):
    """Records of a policy whose entropy falls; every number noisy and in full precision."""
    rng = np.random.default_rng(seed)
    t = np.arange(1, n + 1)
    entropy = (0.05 + 0.93 * np.exp(-t / 18)) * (1 + noise * rng.standard_normal(n))
    score = 0.85 - 0.25 * np.exp(entropy) + 0.02 * rng.standard_normal(n)
    loss = 0.001 * np.abs(rng.standard_normal(n))
    columns = zip(t.tolist(), entropy.tolist(), score.tolist(), loss.tolist(), strict=True)
    return [{"step": s, "entropy": h, "score": r, "loss": x} for s, h, r, x in columns]


def again(records, seed):
    """Another pass over the same steps, as a resume that is not deterministic makes."""
    rng = np.random.default_rng(seed)
    return [
        {
            **r,
            "entropy": r["entropy"] * (1 + 0.01 * rng.standard_normal()),
            "score": r["score"] + 0.01 * rng.standard_normal(),
        }
        for r in records
    ]


def verl_records(records):
    return [
        {
            "step": r["step"],
            "actor/entropy": r["entropy"],
            "critic/score/mean": r["score"],
            "actor/pg_loss": r["loss"],
            "actor/lr": 1e-6,
            "training/global_step": r["step"],
        }
        for r in records
    ]


def trl_records(records, decimals=None, prefix=""):
    def printed(value):
        return value if decimals is None else round(value, decimals)

    return [
        {
            "step": r["step"],
            f"{prefix}loss": printed(r["loss"]),
            f"{prefix}reward": printed(r["score"]),
            f"{prefix}reward_std": printed(0.1 + r["loss"]),
            f"{prefix}entropy": printed(r["entropy"]),
            f"{prefix}learning_rate": 1e-6,
        }
        for r in records
    ]


def console(path, records, decimals=None):
    path.parent.mkdir(parents=True, exist_ok=True)

    def printed(value):
        return str(value) if decimals is None else f"{value:.{decimals}f}"

    lines = [
        f"(TaskRunner pid=1) step:{r['step']} - "
        + " - ".join(f"{k}:{printed(v)}" for k, v in r.items() if k != "step")
        for r in verl_records(records)
    ]
    path.write_text("Loading the model\n" + "".join(line + "\n" for line in lines))
    return path


def json_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def verl_file(path, records):
    rows = [(r.pop("step"), r) for r in verl_records(records)]
    return json_lines(path, [{"step": step, "data": data} for step, data in rows])


def wandb_file(path, records, run_id="abc", ended=True, config=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [wandb.history({"_step": r["step"], **r}) for r in verl_records(records)]
    path.write_bytes(wandb.frame([wandb.run(run_id, config), *rows, *([wandb.exit_()] if ended else [])]))
    return path


def event_file(path, rows, started=1_700_000_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    tb.write(
        path,
        [
            tb.event(r["step"], started + r["step"], **{k: v for k, v in r.items() if k != "step"})
            for r in rows
        ],
    )
    return path


def trainer_state(path, records, decimals=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    history = trl_records(records, decimals)
    path.write_text(json.dumps({"global_step": records[-1]["step"], "log_history": history}))
    return path


def chart(path, key, columns):
    """W&B's export of one chart: a column of each run, with bounds."""
    header = ['"Step"', *(f'"{run} - {key}{b}"' for run in columns for b in ("", "__MIN", "__MAX"))]
    n = len(next(iter(columns.values())))
    rows = [[f'"{i + 1}"', *(f'"{v[i]}"' for v in columns.values() for _ in range(3))] for i in range(n)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(row) + "\n" for row in [header, *rows]))
    return path


def tag_download(path, values):
    """TensorBoard's download of one tag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{1.7e9 + i},{i + 1},{v}\n" for i, v in enumerate(values))
    path.write_text("Wall time,Step,Value\n" + rows)
    return path
