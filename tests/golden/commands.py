"""The commands whose answers are kept, as data: a group is one file of answers."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[2]
# Their logs may not be redistributed: hashes are kept instead of answers, and their tests skip where they are absent.
SHARED = Path("../shared/data")


@dataclass(frozen=True)
class Group:
    """Commands whose answers are kept together.

    Attributes
    ----------
    commands : tuple of str
        As typed after ``entlaw``, in the checkout.
    complete : bool
        Run only when asked for (``GOLDEN=all``): it takes minutes.
    shared : bool
        About logs outside the repository.
    """

    commands: tuple[str, ...]
    complete: bool = False
    shared: bool = False


def _folders(pattern: str) -> list[str]:
    return sorted(path.parent.relative_to(REPO).as_posix() for path in (REPO / "runs").glob(pattern))


def _each(template: str, runs: list[str]) -> tuple[str, ...]:
    return tuple(template.format(run) for run in runs)


def _seeds() -> list[str]:
    """Globs of the arms that were trained from two seeds or more."""
    arms = [re.sub(r"\d$", "*", run) for run in RUNS]
    return sorted({arm for arm in arms if arm.endswith("-rl*") and arms.count(arm) > 1})


def _shared(pattern: str) -> list[str]:
    found = sorted((REPO / SHARED).glob(pattern))
    return [shlex.quote((SHARED / path.relative_to(REPO / SHARED)).as_posix()) for path in found]


RUNS = [*_folders("*/metrics.jsonl.gz"), *_folders("smollm2/*/metrics.jsonl.gz")]
# One of each kind: usual, largest, smallest, held up, no law, exploded, rising again, long, real language models.
FEW = [
    "runs/grpo-m-rl0",
    "runs/grpo-xl-rl0",
    "runs/grpo-xs-rl0",
    "runs/clip-cov-0.05-m-rl0",
    "runs/entropy-target-0.3-m-rl0",
    "runs/prime-m-rl0",
    "runs/entropy-bonus-0.1-m-rl0",
    "runs/second-task-s-rl0",
    "runs/on-policy-m-rl0",
    "runs/longer-warmup-l-rl0",
    "runs/smollm2/mawps-grpo",
    "runs/smollm2/mawps-clip-cov",
]
FIT_OPTIONS = [
    "--method paper",
    "--method paper --all",
    "--until-step 60",
    "--until-step 12",
    "--level 0.8",
    "--on train",
    "--on val --align same",
    "--on train --align next --all",
    "--problems 256 --samples 4",
    "--force",
    "--scale 0.5",
    "--score-range=-1,1",
    "--entropy-key actor/entropy_response_mean",
    "--on 'val/acc*'",
]
PREDICT_OPTIONS = [
    "",
    "--all --step 300",
    "--method paper --step 240 --entropy 0.1",
    "--until-step 60 --level 0.8 --step 120",
    "--on train --step 300",
    "--force --step 300 --entropy 0.05",
    "--step 20",
    "--step 1e6",
]
# Errors and what is shown without --json.
PLAIN = [
    "fit runs/grpo-m-rl0",
    "fit 'runs/grpo-*-rl0'",
    "fit runs/prime-m-rl0",
    "fit runs/nothing-there --json",
    "fit runs/grpo-m-rl0 --level 2 --json",
    "fit runs/grpo-m-rl0 --all --until-step 9 --json",
    "fit --json",
    "fit runs/grpo-m-rl0 --on no/such-key --json",
    "fit runs/README.md --json",
    "predict runs/grpo-m-rl0 --step 300",
    "predict runs/grpo-m-rl0 --entropy -1 --json",
    "doctor runs/grpo-m-rl0 --keys",
    "doctor runs/README.md --json",
    "compare 'runs/grpo-m-rl*' 'runs/no-clip-m-rl*'",
    "sizes 'runs/grpo-*-rl0' --at 10M",
    "backtest runs/grpo-m-rl0 --by horizon",
    "backtest runs/prime-m-rl0 --json",
    "watch --once runs/nothing-there --json",
    "report 'runs/grpo-*-rl0' --json",
]
SIZES = [
    "'runs/grpo-*-rl0' --at 10M --entropy 0.1",
    "'runs/grpo-[sx]*'",
    "'runs/grpo-*-rl0' --all --level 0.8",
    "'runs/grpo-*-rl0' --method paper --force --at 7B",
    "'runs/qwen2-*'",
    "'runs/second-task-*' --force",
    "'runs/grpo-m-rl*' 'runs/rloo-m-rl*' 'runs/grpo-s-*' --all",
    "'runs/smollm2/*' --size '*=135M'",
]
COMPARE = [
    "'runs/grpo-m-rl*' 'runs/kl-cov-m-rl*'",
    "'runs/grpo-m-rl*' 'runs/ppo-m-rl*'",
    "'runs/grpo-m-rl*' 'runs/prime-m-rl*'",
    "'runs/grpo-m-rl*' 'runs/no-clip-m-rl*' --no-paired",
    "'runs/grpo-m-rl*' 'runs/no-clip-m-rl*' --method paper --force",
    "runs/grpo-m-rl0 runs/kl-cov-m-rl0",
    "runs/grpo-m-rl0 runs/no-clip-m-rl0 --all --level 0.8",
    "runs/grpo-m-rl0 runs/grpo-m-rl1 --on train",
    "runs/smollm2/mawps-grpo runs/smollm2/mawps-clip-cov --all",
    "runs/grpo-m-rl0 runs/grpo-m-rl0",
]
BACKTEST = [
    "runs/grpo-m-rl0",
    "'runs/grpo-m-rl*' --by regime",
    "'runs/grpo-*-rl0' --no-rivals --by horizon",
    "'runs/ppo-m-rl*' --origin 0.25 --origin-step 100 --by run",
    "'runs/smollm2/*' --on train",
    "runs/on-policy-m-rl0 runs/on-policy-m-rl1 --gate 0.9 --by source",
]
LIBRARIES = _shared("library/*")
LIBRARY = "--library 'runs/grpo-*-rl0' --library 'runs/rloo-m-*' --library 'runs/reinforce-*'"

GROUPS: dict[str, Group] = {
    "fit": Group(_each("fit {} --json", RUNS)),
    "fit-all": Group(_each("fit {} --all --json", FEW)),
    "fit-options": Group(tuple(f"fit {run} {o} --json" for o in FIT_OPTIONS for run in FEW[::5])),
    "predict": Group(_each("predict {} --step 120 --step 400 --entropy 0.2 --json", RUNS)),
    "predict-options": Group(
        (
            *(f"predict {run} {o} --json" for o in PREDICT_OPTIONS for run in FEW[::5]),
            f"predict runs/ppo-m-rl0 runs/prime-m-rl0 --step 300 --entropy 0.1 {LIBRARY} --json",
            "predict runs/ppo-m-rl0 --step 300 --library runs/grpo-m-rl0 --json",
        )
    ),
    "doctor": Group(_each("doctor {} --json", RUNS)),
    "compare": Group(tuple(f"compare {pair} --json" for pair in COMPARE)),
    "sizes": Group(tuple(f"sizes {one} --json" for one in SIZES)),
    "backtest": Group(tuple(f"backtest {one} --json" for one in BACKTEST)),
    "report": Group(_each("report {} --json", FEW)),
    "watch": Group(
        (
            "watch --once runs/smollm2/mawps-grpo --target 0.5 --json",
            "watch --once runs/smollm2/mawps-clip-cov --stop-when 'P(gain > 1%) < 0.5' --patience 2 --level 0.8 --json",
        )
    ),
    "plain": Group(tuple(PLAIN)),
    "complete-fit": Group(
        (*_each("fit {} --all --json", RUNS), *_each("fit {} --method paper --json", RUNS)), complete=True
    ),
    "complete-predict": Group(_each("predict {} --all --step 400 --json", RUNS), complete=True),
    "complete-backtest": Group(
        (*_each("backtest {} --json", RUNS), "backtest 'runs/*-*' --on val --by regime --json"), complete=True
    ),
    "complete-report": Group((*_each("report {} --json", RUNS), "report 'runs/*-*' --json"), complete=True),
    "complete-compare": Group(
        tuple(f"compare 'runs/grpo-m-rl*' '{arm}' --all --json" for arm in _seeds()), complete=True
    ),
    "complete-watch": Group(
        ("watch --once runs/grpo-m-rl0 --total-steps 400 --json", *_each("watch --once {} --json", RUNS)),
        complete=True,
    ),
    # Not the fit of B08: its scores are all equal, and what is printed of its noise is made of roundings.
    "shared-cases": Group(
        tuple(
            f"{command} {case} --json"
            for case in _shared("cases/*")
            if not case.endswith(".expected.json")
            for command in ("doctor", "fit --all")
            if not (command == "fit --all" and "/B08-" in case)
        ),
        shared=True,
    ),
    "shared-runs": Group(
        tuple(
            f"{command} {log} --json"
            for log in [*_shared("runs/*/raw"), *_shared("runs/format_samples/*")]
            for command in ("doctor", "fit", "predict --step 500 --entropy 0.1")
        ),
        shared=True,
    ),
    "shared-library": Group(tuple(f"fit {folder} --json" for folder in LIBRARIES), shared=True),
    "complete-shared": Group(
        tuple(
            f"{command} {folder} --json"
            for folder in LIBRARIES
            for command in ("fit --on train --all", "predict --all", "backtest --by run", "report")
        )
        + tuple(
            f"{command} {log} --json"
            for log in _shared("runs/*/raw")
            for command in ("watch --once", "backtest", "report")
        ),
        complete=True,
        shared=True,
    ),
}
