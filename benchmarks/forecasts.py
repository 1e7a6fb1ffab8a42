"""The back-test on all real runs at hand, as docs/backtest.md.

Sources: the shipped runs (the ladder and the SmolLM2 runs) and, where the folder exists, the public logs of
../shared/data/runs. Each run is used
with its validation score and, where both are logged, again with its training score. Nothing is fitted to any
of them.

Run: python benchmarks/forecasts.py [--workers 2] [--write docs/backtest.md]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pandas as pd

from entlaw.law.backtest import (
    OUTLOOK,
    answered_only,
    backtest,
    shares_answered,
    table,
)
from entlaw.law.rivals import LAST_VALUE
from entlaw.limits import PAPER_WINDOW
from entlaw.points import Points
from entlaw.runs.prepare import Selection
from entlaw.runs.reader import scan

REPO = Path(__file__).parents[1]
SHARED = REPO.parent / "shared" / "data" / "runs"
SIGMOID = "sigmoid in step (ScaleRL)"
FIGURES = ("median_error", "rmse", "crps", "skill", "cover50", "cover80", "cover95", "width80")
# A refused forecast that would have been good: error and width (fractions).
GOOD_ERROR, GOOD_WIDTH = 0.05, 0.3
# Logs of a few steps, kept to test readers.
_SAMPLES = "format_samples"

PREAMBLE = """# How good are the forecasts?

Written by `python benchmarks/forecasts.py --write docs/backtest.md`; do not edit.
The table of the rivals is filled by `python docs/tables.py`.

{runs} series of {sources} sources ({names}), each seen from 10, 15, 25, 40, 50, 60 and 75 % of its length and
from step 36; what is forecast is one measured score, halfway to the end and at the end. *entlaw* is
`entlaw.law.forecast.Outlook`; the rivals are those of `entlaw.law.rivals`, each with its natural interval.
Scores are averaged over the forecasts
of a run, the runs of a source, then the sources. *Skill* is 1 - CRPS over that of the last value, the
sources' ratios averaged geometrically;
*median error* is the median absolute error; *cover* the share of scores inside the 50, 80 and 95 % intervals.

No number of the forecast model was fitted to these runs: its prior is written down in `entlaw/law/growth.py`.
Its form was chosen with them in view, so sealed runs
are the real test; LOG.md tells what else was tried.

## The rivals

<!-- table: rivals -->
<!-- end of table -->
"""


def histories() -> list[Points]:
    """All series, named by run and view."""
    sources = [
        ("ladder", sorted((REPO / "runs").glob("*-*"))),
        ("smollm2", sorted((REPO / "runs" / "smollm2").glob("mawps-*"))),
    ]
    if SHARED.is_dir():
        found = sorted(p for p in SHARED.iterdir() if (p / "raw").is_dir() and p.name != _SAMPLES)
        sources += [(p.name, sorted((p / "raw").iterdir())) for p in found]
    return [h for source, paths in sources for path in paths for h in _views(path, source)]


def _views(path: Path, source: str) -> Iterable[Points]:
    seen: set[tuple[str, str]] = set()
    for on in (None, "train"):
        if path.is_file() and path.suffix in (".csv", ".toml") and source == "smollm2":
            return
        for reading in scan(str(path), Selection(on=on)):
            if reading.run is None:
                continue
            run = reading.run
            key = (run.name, run.performance_key)
            if key not in seen:
                seen.add(key)
                yield replace(Points.from_run(run, source), name=f"{run.name} ({run.performance_kind})")


def markdown(frame: pd.DataFrame) -> str:
    """A frame with its index as a table; figures to three digits."""
    flat = frame.reset_index()
    lines = [
        "| " + " | ".join(str(c).replace("_", " ") for c in flat.columns) + " |",
        "|---" * flat.shape[1] + "|",
    ]
    lines += [
        "| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row) + " |"
        for row in flat.itertuples(index=False)
    ]
    return "\n".join(lines)


def scores(rows: pd.DataFrame) -> str:
    """One table of all forecasters."""
    return markdown(table(rows).sort_values("crps")[["forecasts", "sources", *FIGURES]])


def one_by_one(rows: pd.DataFrame) -> str:
    """Forecasts to the end that should have been refused, and refusals that would have been good forecasts."""
    ours = rows[(rows["forecaster"] == OUTLOOK) & (rows["horizon"] == "end") & rows["crps"].notna()]
    given = answered_only(ours)
    outside = given[given["in95"] == 0]
    refused = ours[~ours["answered"].astype(bool)]
    off = (refused["median"] - refused["measured"]).abs()
    good = refused[(off < GOOD_ERROR) & (refused["width80"] < GOOD_WIDTH)]
    out = [f"Of {len(given)} given, {len(outside)} have the end outside their 95 % interval:\n"]
    out += [
        markdown(outside.set_index(["source", "run"])[["step", "regime", "median", "measured", "width95"]])
    ]
    out += [
        f"\nOf {len(refused)} refused, {len(good)} would have been within {GOOD_ERROR:g} with an 80 % interval "
        f"below {GOOD_WIDTH:g}:\n"
    ]
    columns = ["step", "regime", "codes", "median", "measured", "width80"]
    return "\n".join([*out, markdown(good.set_index(["source", "run"])[columns])])


def document(rows: pd.DataFrame) -> str:
    """The whole page."""
    answered, fell = answered_only(rows), rows[rows["fell"].astype(bool)]
    names = list(dict.fromkeys(rows["source"]))
    series = rows.drop_duplicates(["source", "run"])
    out = [PREAMBLE.format(runs=len(series), sources=len(names), names=", ".join(names))]
    share = pd.DataFrame(
        {
            "series": series.groupby("source").size(),
            "whose entropy fell": series.groupby("source")["fell"].sum().astype(int),
            "origins answered": shares_answered(rows),
            "of these runs": shares_answered(fell).reindex(names),
        }
    ).loc[names]
    whole = (float(shares_answered(f, None).iloc[0]) for f in (rows, fell))
    out += ["## What was answered\n", markdown(share)]
    out += ["\nOver sources: {:.0%} of all origins, {:.0%} where the entropy fell.\n".format(*whole)]
    out += ["## Forecasts that were given\n", scores(answered)]
    out += ["\n## Given, to the end, seen from step 36 (or the last score before it)\n"]
    early = answered[(answered["step"] <= PAPER_WINDOW) & (answered["horizon"] == "end")]
    early = early[early["step"] == early.groupby(["source", "run"])["step"].transform("max")]
    out += [scores(early)]
    out += ["\n## CRPS over that of the last value, by source\n"]
    long = table(answered, ["source"]).reset_index()
    wide = long.pivot_table(index="forecaster", columns="source", values="crps")
    wide = wide[[n for n in names if n in wide]]
    relative = (wide / wide.loc[LAST_VALUE.name]).loc[wide.mean(axis=1).sort_values().index]
    out += [markdown(relative)]
    for by in ("source", "horizon", "regime"):
        parts = table(answered, [by]).reset_index()
        some = parts[parts["forecaster"].isin([OUTLOOK, LAST_VALUE.name, SIGMOID])]
        out += [f"\n## By {by}\n", markdown(some.set_index([by, "forecaster"])[["forecasts", *FIGURES]])]
    out += ["\n## What was refused, scored all the same\n", scores(rows[~rows["answered"].astype(bool)])]
    out += ["\n## One by one\n", one_by_one(rows)]
    return "\n".join(out) + "\n"


def main() -> None:
    """Run the back-test and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    runs = histories()
    start = time.perf_counter()
    rows = backtest(runs, workers=args.workers)
    seconds = time.perf_counter() - start
    page = document(rows)
    sys.stderr.write(f"{len(runs)} series, {seconds:.1f} s with {args.workers} processes\n")
    if args.write:
        args.write.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
