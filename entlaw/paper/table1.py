"""Table 1: a small share of the tokens has most of the covariance."""

from __future__ import annotations

import numpy as np

from entlaw.paper import reported, typeset
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import SMALL_MODELS, Library, NotEnoughRuns
from entlaw.paper.members import plain_runs
from entlaw.report.style import COLUMN_WIDTH
from entlaw.runs.run import Run

# Key of the log, and the paper's label.
SHARES = {
    "cov/top_0.0002": "Top 0.02%",
    "cov/top_0.002": "Top 0.2%",
    "cov/top_0.02": "Top 2%",
    "cov/top_0.2": "Top 20%",
    "cov/top_0.5": "Top 50%",
    "cov/mean": "All",
}


@figure(
    "table1",
    "Covariance by share of tokens, at the first step",
    needs="runs that log the covariance by share of tokens",
)
def draw(library: Library) -> Drawn:
    """See the module."""
    import pandas as pd

    runs = _runs(library)
    theirs = reported.numbers("Table 1").set_index("metric")["value"]
    first = np.array([[_first(run, key) for key in SHARES] for run in runs])
    mean = first.mean(axis=0)
    error = first.std(axis=0, ddof=1) / np.sqrt(len(runs)) if len(runs) > 1 else np.full(len(SHARES), np.nan)
    rows, table, findings = [], [], {"runs": float(len(runs))}
    for at, label in enumerate(SHARES.values()):
        value, se, printed = mean[at], error[at], float(theirs[f"{label} mean Cov"])
        ours_ratio, their_ratio = value / mean[-1], printed / float(theirs["All mean Cov"])
        spread = f" ± {se:.3f}" if np.isfinite(se) else ""
        rows.append(
            (label, f"{value:.3f}{spread}", f"{ours_ratio:.0f}", f"{printed:.3f}", f"{their_ratio:.0f}")
        )
        table.append(
            {
                "share": label,
                "ours": value,
                "standard_error": se,
                "ours_to_all": ours_ratio,
                "paper": printed,
                "paper_to_all": their_ratio,
            }
        )
        findings |= {
            f"covariance {label}": value,
            f"ratio {label}": ours_ratio,
            f"paper ratio {label}": their_ratio,
        }
    block = typeset.Block(
        "Mean covariance, top tokens", ("share", "ours", "÷ all", "paper", "÷ all"), tuple(rows)
    )
    caption = (
        "Covariance of log-prob and advantage over the tokens of a batch (Eq. 10) at training step 1: mean ± "
        f"standard error over {len(runs)} runs of ours, and Qwen2.5-7B of the paper (one batch). Our first "
        "batch has about 1,300 tokens of prompts with mixed answers, so that the top 0.02 % is one token. "
        "The paper's 'All' is rounded to one digit: its ratios are good to 17 %, and its bound of 1 is 333 "
        f"times the average, not 500 as its text has it. {SMALL_MODELS}"
    )
    return Drawn(
        typeset.picture([block], COLUMN_WIDTH),
        pd.DataFrame(table),
        caption,
        tuple(r.name for r in runs),
        findings,
        markdown=typeset.markdown([block]),
        latex=typeset.latex([block]),
    )


def _runs(library: Library) -> list[Run]:
    """Plain runs of the main task that log all shares, of the size that most have."""
    having = [
        (f, r)
        for f, r in plain_runs(library)
        if all(key in r.metrics and r.metrics[key].notna().any() for key in SHARES)
    ]
    if not having:
        raise NotEnoughRuns(
            "no run logs the covariance by share of tokens",
            hint=f"entlaw's trainer does, with log.covariance_shares; keys {', '.join(SHARES)}",
        )
    kinds = [(f.algorithm, f.parameters) for f, _ in having]
    most = max(kinds, key=kinds.count)
    return [r for f, r in having if (f.algorithm, f.parameters) == most]


def _first(run: Run, key: str) -> float:
    return float(run.metrics[key].dropna().iloc[0])
