"""When the settings of a recipe have an effect: named here, put on their fields, reported by the rule of unused."""

from __future__ import annotations

from collections.abc import Callable

from entlaw.train.advantages import Estimator, names_that
from entlaw.train.settings import AnyRecipe, When

USES: list[When] = []
"""In the order in which they are reported."""


def when(code: str, used: Callable[[AnyRecipe], bool], why: str | Callable[[AnyRecipe], str]) -> When:
    """Add one to the list."""
    USES.append(When(code, used, why))
    return USES[-1]


def listed(names: list[str], last: str = "and") -> str:
    """Names in a sentence."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def estimators_that(need: Callable[[Estimator], bool]) -> str:
    """Their names, as one says which of them to choose."""
    return f"algorithm.name = {listed(names_that(need), 'or')}"


CRITIC = when(
    "critic-unused",
    lambda r: r.estimator.critic,
    lambda r: f"only {estimators_that(lambda e: e.critic)} has a critic",
)
PRIME = when(
    "prime-unused",
    lambda r: r.estimator.reward_model,
    lambda r: f"only {estimators_that(lambda e: e.reward_model)} has a reward model",
)
BASELINE = when(
    "baseline-unused",
    lambda r: "baseline" in r.estimator.wants,
    lambda r: f"only {estimators_that(lambda e: 'baseline' in e.wants)} has this baseline",
)
GAMMA = when(
    "gamma-unused",
    lambda r: "gamma" in r.estimator.wants,
    lambda r: f"only {listed(names_that(lambda e: 'gamma' in e.wants))} discount",
)
CLIP = when(
    "clip-ratio-unused", lambda r: r.policy_loss.clips, lambda r: f"loss.kind = {r.loss.kind} does not clip"
)
OWN_CLIP = when(
    "clip-ratio-replaced",
    lambda r: not (r.controls.reference_code and (r.controls.clip_cov.ratio or r.controls.kl_cov.ratio)),
    "controls.reference_code has the authors' clip instead: [0, 2] with Clip-Cov, none with KL-Cov",
)
LADDER = when(
    "warmup-unused",
    lambda r: not r.policy.path,
    "warm-up and ladder are for models built from scratch; policy.path names a trained one",
)
SUMS = when("sums-unused", lambda r: r.task.name == "arithmetic", "task.name names data sets")
DATA_SET = when(
    "data-set-unused", lambda r: r.task.name != "arithmetic", "task.name = arithmetic reads no data"
)
PASS_RATES = when("pass-window-unused", lambda r: bool(r.task.pass_rates), "task.pass_rates names no file")
FORMAT = when("format-unused", lambda r: r.task.format_weight > 0, "task.format_weight is 0")
VLLM = when("vllm-unused", lambda r: r.rollout.engine != "hf", "rollout.engine is hf")
VLLM_PROCESS = when(
    "vllm-process-unused",
    lambda r: r.rollout.engine == "vllm-process",
    "rollout.engine is not vllm-process",
)
CORRECTION = when(
    "rollout-cap-unused",
    lambda r: r.loss.rollout_correction != "none",
    "loss.rollout_correction is none",
)
REFERENCE_KL = when("kl-kind-unused", lambda r: r.controls.kl_coef > 0, "controls.kl_coef is 0")
ENTROPY_TARGET = when(
    "entropy-step-unused",
    lambda r: r.controls.entropy_target > 0,
    "controls.entropy_target is 0: the coefficient is fixed",
)
CLIP_COV = when(
    "clip-cov-unused",
    lambda r: r.controls.clip_cov.ratio > 0,
    "controls.clip_cov.ratio is 0: Clip-Cov is off",
)
KL_COV = when(
    "kl-cov-unused", lambda r: r.controls.kl_cov.ratio > 0, "controls.kl_cov.ratio is 0: KL-Cov is off"
)
VALIDATION = when("validation-unused", lambda r: r.validation.every > 0, "validation.every is 0")
WANDB = when("wandb-unused", lambda r: r.log.wandb != "off", "log.wandb is off")
WATCH = when("watch-unused", lambda r: r.watch.on, "watch.on is false")
