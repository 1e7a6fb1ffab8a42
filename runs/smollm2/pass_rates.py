"""Pass rates of the base policy on MAWPS, for the difficulty filter: ``python pass_rates.py > mawps-smollm2-135m.csv``.

In this folder, with vLLM, and with data and model where mawps.toml says. Four responses a problem, at temperature 1,
asked as the recipe asks; ``--limit 128`` does the first problems only.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from entlaw.tasks import score_batch
from entlaw.tasks.dataset_task import problem_id
from entlaw.tasks.datasets import load
from entlaw.tasks.manifest import get
from entlaw.train import recipe as recipes
from entlaw.train.base import base_policy
from entlaw.train.rollout import Sampling, engine_of
from entlaw.train.rollout.hf import texts
from entlaw.train.tasks import named_sets

AT_ONCE, SAMPLES = 128, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=None)
    arguments = parser.parse_args()
    recipe = recipes.load(Path(__file__).with_name("mawps.toml"))
    settings = replace(recipe.task, pass_rates="", validation=recipe.task.name)
    task = named_sets(settings)  # everything held out: no problem is left out of the list
    problems = task.validation(len(task.held_out), 0)[: arguments.limit]
    items = load(get(settings.name), Path(settings.data_dir) if settings.data_dir else None).items
    torch.set_num_threads(recipe.run.threads)
    policy = base_policy(recipe, Path(), torch.device("cpu"))
    engine = engine_of(recipe, policy, recipe.policy.path)
    sampling = Sampling(SAMPLES, recipe.rollout.max_tokens, recipe.rollout.temperature)
    sys.stdout.write("id,pass_rate\n")
    for start in range(0, len(problems), AT_ONCE):
        part = problems[start : start + AT_ONCE]
        batch = engine.generate([p.prompt for p in part], sampling, [0, 1, start])
        asked = [part[g] for g in batch.group_B.tolist()]
        scores = score_batch(task, asked, texts(policy, batch), batch.finished_B.tolist())
        for item, rate in zip(
            items[start : start + AT_ONCE], np.reshape(scores, (-1, SAMPLES)).mean(1), strict=False
        ):
            sys.stdout.write(f"{problem_id(item.question)},{rate:g}\n")
        print(f"{start + len(part)} of {len(problems)}", file=sys.stderr)
    engine.close()


if __name__ == "__main__":
    main()
