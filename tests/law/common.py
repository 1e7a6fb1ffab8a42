"""Runs with a known law, as arrays and as Run objects."""

import numpy as np
import pandas as pd

from entlaw.runs.run import EntropyMeaning, Provenance, Run

A, B = 0.25, 0.85


def law_arrays(n=10, every=4.0, noise=0.01, seed=0, tau=25.0, h0=1.0, floor=0.05):
    """Steps, entropy and performance of a run that obeys R = B - A exp(H)."""
    rng = np.random.default_rng(seed)
    step = every * np.arange(n)
    entropy = floor + (h0 - floor) * np.exp(-step / tau)
    return step, entropy, B - A * np.exp(entropy) + noise * rng.standard_normal(n)


def as_run(step, entropy, performance, *, config=None, log=None, meaning=None, entropy_step=None):
    """A Run as the reader would hand it over."""
    step, entropy, performance = (np.asarray(c, dtype=float) for c in (step, entropy, performance))
    points = pd.DataFrame(
        {
            "step": step,
            "entropy": entropy,
            "performance": performance,
            "entropy_step": step if entropy_step is None else entropy_step,
        }
    )
    log_step, log_value = (step, entropy) if log is None else log
    meaning = meaning or EntropyMeaning("actor/entropy", unit="nats/token")
    metrics = pd.DataFrame(
        {meaning.key: np.asarray(log_value, dtype=float)}, index=np.asarray(log_step, float)
    )
    metrics.index.name = "step"
    return Run(
        name="made",
        metrics=metrics,
        points=points,
        entropy=meaning,
        performance_key="val/accuracy",
        performance_kind="validation",
        performance_scale=1.0,
        align="same",
        config=config or {},
        provenance=Provenance("made.jsonl", "jsonl"),
    )
