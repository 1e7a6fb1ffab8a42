"""Our verifiers as verl's custom reward function.

``reward.custom_reward_function.path=pkg://entlaw.engines.verl.reward`` and ``.name=compute_score``. The data source of
a row names one of our data sets, whose entry says how an answer is found and checked. verl calls this from threads of
its reward workers, one response at a time.
"""

from __future__ import annotations

import functools
from typing import Any

from entlaw.tasks import Problem, manifest
from entlaw.tasks.answers import FORMATS
from entlaw.tasks.code import CodeVerifier, tests_of
from entlaw.tasks.manifest import DataSet
from entlaw.tasks.math import MathVerifier


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    *,
    format: str = "one-box",
    format_weight: float = 0.0,
    **_: Any,
) -> dict[str, float]:
    """Reward of one response.

    Parameters
    ----------
    data_source : str
        A data set of ours (`entlaw data list`).
    solution_str : str
        The response. verl does not say whether it ended by itself: one that was cut off is read as it stands.
    ground_truth : str
        The reference answer; of a programming problem, the JSON of its tests.
    format, format_weight : str, float
        As the recipe's ``task.format`` and ``task.format_weight``: a reward for the form, in ``score`` alone.

    Returns
    -------
    dict
        ``score`` (what is trained on) and ``acc`` (1 right, 0 wrong), and ``format`` where it is rewarded.

    Raises
    ------
    UsageError
        An unknown data set.
    SandboxUnavailable
        A program cannot be isolated on this machine.
    """
    right = _right(manifest.get(data_source), solution_str, ground_truth)
    if not format_weight:
        return {"score": right, "acc": right}
    form = float(FORMATS[format](solution_str))
    return {"score": right + format_weight * form, "acc": right, "format": form}


def _right(spec: DataSet, response: str, answer: str) -> float:
    if spec.kind == "code":
        (verdict,) = _code_verifier().verify_batch([(response, tests_of(Problem("", answer)))], 1)
        return float(verdict.reward)
    (found,) = _math_verifier().verify_batch([response], [answer], spec.where, spec.rounded)
    return float(found.right)


@functools.cache
def _math_verifier() -> MathVerifier:
    """One a process: it keeps a worker."""
    return MathVerifier(1)


@functools.cache
def _code_verifier() -> CodeVerifier:
    return CodeVerifier()
