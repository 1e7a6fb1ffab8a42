"""Measuring a policy on problems: mean@k, pass@k, maj@k, and the entropy there.

``correct`` below is an array of shape [problems, k], one verifiable score in [0, 1] a response.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from entlaw.tasks import Problem, Task, score_batch
from entlaw.train import measure
from entlaw.train.distributed import ALONE, World
from entlaw.train.policy import LanguageModel
from entlaw.train.rollout import Engine, Sampling
from entlaw.train.rollout.hf import texts


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found; accuracies are fractions in [0, 1]."""

    problems: int
    samples: int
    """Responses a problem."""
    mean_at_k: float
    """Mean over problems of the mean over their responses; pass@1 in expectation."""
    standard_error: float
    """Of ``mean_at_k``, clustered by problem."""
    pass_at_k: dict[int, float]
    """Unbiased, for k = 1, 2, 4, ... and the number of samples."""
    maj_at_k: float
    """Majority vote over all responses of a problem."""
    entropy: float
    """Nats per token, mean over all tokens, exact, at temperature 1."""
    entropy_response_mean: float
    response_length: float
    finished: float
    """Share of responses that ended by themselves."""
    by_level: dict[str, float] = field(default_factory=dict)


def pass_at_k(correct: np.ndarray, k: int) -> float:
    """Unbiased pass@k (Chen et al. 2021, arXiv 2107.03374, Eq. 1): mean of 1 - C(n - c, k) / C(n, k).

    Parameters
    ----------
    correct : array, shape [problems, n]
        A response counts as right above 0.5.
    k : int
        1 <= k <= n.

    Raises
    ------
    ValueError
        k is out of range.
    """
    n = correct.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} responses a problem")
    right = (correct > 0.5).sum(1)
    return float(np.mean([1 - math.comb(n - int(c), k) / math.comb(n, k) for c in right]))


def maj_at_k(answers: Sequence[Sequence[str | None]], correct: np.ndarray) -> float:
    """Accuracy of the most frequent answer; responses without an answer do not vote, a tie counts its mean.

    Answers are compared as text; an answer's score is the mean score of the responses that gave it.
    """
    total = 0.0
    for row, scores in zip(answers, correct, strict=True):
        votes = Counter(a for a in row if a is not None)
        if not votes:
            continue
        most = max(votes.values())
        winners = [a for a, count in votes.items() if count == most]
        score = {a: float(np.mean([s for b, s in zip(row, scores, strict=True) if b == a])) for a in winners}
        total += sum(score.values()) / len(winners)
    return total / len(correct) if len(correct) else math.nan


def clustered_error(correct: np.ndarray) -> float:
    """Standard error of the grand mean with problems as clusters: sd of the problems' means / sqrt(problems)."""
    means = correct.mean(1)
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan


def evaluate(
    policy: LanguageModel,
    engine: Engine,
    task: Task,
    problems: Sequence[Problem],
    sampling: Sampling,
    seed: int,
    micro_batch: int = 0,
    world: World = ALONE,
) -> Evaluation:
    """Sample, score and summarise.

    Parameters
    ----------
    seed : int
        The same seed gives the same responses for the same policy.
    micro_batch : int
        Responses a forward pass when entropy is measured; 0: all.
    world : World
        The ranks that share the work; the engine must give the whole batch on each.
    """
    batch = engine.generate([p.prompt for p in problems], sampling, [seed, 5])
    k = sampling.samples
    with world.together():
        part = batch.at(world.share(len(batch)))
        responses, finished = texts(policy, part), part.finished_B.tolist()
        asked = [problems[g] for g in part.group_B.tolist()]
        own_scores = list(score_batch(task, asked, responses, finished))
        own_answers = [task.extract(r, f) for r, f in zip(responses, finished, strict=True)]
    everyone = world.each((own_scores, own_answers))
    answers = [answer for _, some in everyone for answer in some]
    scores = [score for some, _ in everyone for score in some]
    correct = np.asarray(scores, dtype=np.float64).reshape(len(problems), k)
    with torch.no_grad():
        (entropy_BT,) = world.by_rows(batch, micro_batch, lambda part: [policy.score(part).entropy_BT])
    levels = sorted({p.level for p in problems} - {""})
    by_level = {level: float(correct[[p.level == level for p in problems]].mean()) for level in levels}
    ladder = sorted({2**i for i in range(k.bit_length()) if 2**i <= k} | {k})
    return Evaluation(
        problems=len(problems),
        samples=k,
        mean_at_k=float(correct.mean()),
        standard_error=clustered_error(correct),
        pass_at_k={i: pass_at_k(correct, i) for i in ladder},
        maj_at_k=maj_at_k([answers[i * k : (i + 1) * k] for i in range(len(problems))], correct),
        entropy=measure.token_mean(entropy_BT, batch.mask_BT),
        entropy_response_mean=measure.response_mean(entropy_BT, batch.mask_BT),
        response_length=float(batch.mask_BT.sum(1).double().mean()),
        finished=float(batch.finished_B.double().mean()),
        by_level=by_level,
    )


def validation_record(found: Evaluation) -> dict[str, float]:
    """An evaluation as the metrics of a training log."""
    record: dict[str, float] = {
        "val/accuracy": found.mean_at_k,
        "val/problems": found.problems,
        "val/samples": found.samples,
        "val/maj_at_k": found.maj_at_k,
        "val/entropy": found.entropy,
        "val/entropy_response_mean": found.entropy_response_mean,
        "val/response_length": found.response_length,
    }
    record |= {f"val/pass_at_{k}": value for k, value in found.pass_at_k.items() if k > 1}
    return record | {f"val/level_{level}": value for level, value in found.by_level.items()}
