"""Rules of :mod:`entlaw.train.rules` about one update: the loss, how the batch is cut, what acts on the entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entlaw.findings import Finding
from entlaw.train.advantages import names_that
from entlaw.train.losses import LOSSES
from entlaw.train.schema import Recipe
from entlaw.train.uses import listed


def aggregation(r: Recipe) -> Iterator[Finding]:
    """Losses and estimators that are defined by how the loss is averaged."""
    mode = r.loss.aggregation
    loss, estimator = r.policy_loss, r.estimator
    if loss.aggregation not in ("", mode):
        yield _averaged_otherwise(r, f"loss.kind = {loss.name}", loss.aggregation, loss.why_aggregation)
    if estimator.aggregation not in ("", mode):
        why = estimator.why_aggregation.get(mode, estimator.why_aggregation[""]).format(r=r)
        yield _averaged_otherwise(r, f"algorithm.name = {estimator.name}", estimator.aggregation, why)


def _averaged_otherwise(r: Recipe, part: str, wanted: str, why: str) -> Finding:
    name = part.rpartition(" ")[2].replace("_", "-")
    return Finding(
        f"{name}-aggregation",
        "warning",
        f"{part} with loss.aggregation = {r.loss.aggregation}",
        why,
        f"set loss.aggregation = {wanted}",
    )


def clipping(r: Recipe) -> Iterator[Finding]:
    """Clip ranges against the loss that uses them."""
    loss = r.loss
    low, high, dual = loss.clip_ratio_low, loss.clip_ratio_high, loss.clip_ratio_c
    if 0 < dual <= 1:
        yield Finding(
            "dual-clip-not-above-one",
            "error",
            f"loss.clip_ratio_c = {dual:g}",
            "dual clip bounds the loss of ratios above it; at 1 or less it would stop tokens that have not moved",
            "set it above 1 (3 in its paper, 10 in DAPO's scripts), or 0 for none",
        )
    if dual and not r.policy_loss.dual_clips:
        having = listed([name for name, other in LOSSES.items() if other.dual_clips], "or")
        yield Finding(
            "dual-clip-unused",
            "error",
            f"loss.clip_ratio_c = {dual:g} with loss.kind = {loss.kind}",
            f"only {having} has a dual clip",
            f"set loss.clip_ratio_c = 0, or loss.kind = {having}",
        )
    if r.policy_loss.clips and high < low:
        yield Finding(
            "clip-lower",
            "warning",
            f"loss.clip_ratio_high = {high:g} below loss.clip_ratio_low = {low:g}",
            "tokens that become likelier are stopped before those that become less likely, which lowers the entropy",
            "clip-higher has it the other way round, 0.28 above 0.2",
        )
    yield from r.policy_loss.rule(r)


def batch(r: Recipe) -> Iterator[Finding]:
    """Mini-batches that the rollout cannot fill."""
    wanted, prompts = r.loss.mini_batches, r.rollout.prompts
    responses = prompts * r.rollout.group_size
    if responses < wanted:
        yield Finding(
            "more-mini-batches-than-responses",
            "error",
            f"loss.mini_batches = {wanted} of {responses} responses",
            "rollout.prompts x rollout.group_size responses cannot be divided into that many",
            "raise rollout.prompts, or lower loss.mini_batches",
        )
    elif (steps := mini_batches(r)) != wanted:
        yield Finding(
            "fewer-mini-batches",
            "warning",
            f"loss.mini_batches = {wanted} of {prompts} prompts gives {steps}",
            "mini-batches are of equally many whole prompts",
            "let loss.mini_batches divide rollout.prompts",
            float(steps),
        )


def mini_batches(r: Recipe) -> int:
    """Mini-batches that a full rollout is really cut into: equal numbers of whole prompts, the last may be short."""
    each = -(-r.rollout.prompts // min(r.loss.mini_batches, r.rollout.prompts))
    return -(-r.rollout.prompts // each)


# Controls of the entropy -----------------------------------------------------------------------------


def kl_cov(r: Recipe) -> Iterator[Finding]:
    """KL-Cov's pull on the policy that has not moved yet."""
    kl = r.controls.kl_cov
    if not kl.ratio:
        return
    if not kl.coef:
        yield Finding(
            "kl-cov-without-weight",
            "warning",
            "controls.kl_cov.ratio without controls.kl_cov.coef",
            "the penalty has weight 0",
            "set controls.kl_cov.coef = 1",
        )
        return
    updates = mini_batches(r) * r.loss.epochs
    if kl.penalty == "k1":
        yield Finding(
            "kl-cov-k1",
            "warning",
            "controls.kl_cov.penalty = k1",
            "its gradient does not depend on how far the policy has moved: a constant push up of the chosen tokens, "
            "on the first mini-batch too, not a pull back to the rollout policy",
            "take abs (the authors' code), k2 or k3",
        )
    elif updates == 1:
        yield Finding(
            "kl-cov-on-policy",
            "warning",
            "KL-Cov with one update a rollout",
            f"the policy still is the rollout policy, where the gradient of the {kl.penalty} penalty is zero: "
            "this run trains as if KL-Cov were off",
            "set loss.mini_batches or loss.epochs above 1 (the paper: 8 mini-batches)",
            0.0,
        )
    else:
        yield Finding(
            "kl-cov-first-mini-batch",
            "info",
            f"KL-Cov acts in {updates - 1} of {updates} updates a rollout",
            f"in the first the policy still is the rollout policy, where the {kl.penalty} penalty has no gradient",
            "",
            (updates - 1) / updates,
        )


def quotas(r: Recipe) -> Iterator[Finding]:
    """Shares of tokens that are too large to be meant, or too small to be kept."""
    most = r.rollout.prompts * r.rollout.group_size * r.rollout.max_tokens / mini_batches(r)
    if r.controls.reference_code and r.loss.micro_batch:
        most = min(most, float(r.loss.micro_batch * r.rollout.max_tokens))
    for name, ratio in (("clip_cov", r.controls.clip_cov.ratio), ("kl_cov", r.controls.kl_cov.ratio)):
        if ratio > 0.05:
            yield Finding(
                f"{name.replace('_', '-')}-ratio-large",
                "warning",
                f"controls.{name}.ratio = {ratio:g} is {100 * ratio:g} % of the tokens",
                "the paper's shares are 0.02 % and 0.2 %; k_percent = 0.2 of the authors' code is 0.002 here",
                "give a fraction: 2e-4 or 2e-3",
                ratio,
            )
        elif 0 < ratio * most < 1:
            yield Finding(
                f"{name.replace('_', '-')}-quota-of-one",
                "warning",
                f"controls.{name}.ratio = {ratio:g} of at most {most:.0f} tokens is less than one token",
                f"at least one is always taken, so the share is {1 / most:.2g} or more",
                f"raise the ratio to {1 / most:.2g} or take it of {1 / ratio:.0f} tokens and more",
                1 / most,
            )


def clip_cov(r: Recipe) -> Iterator[Finding]:
    """Clip-Cov's window."""
    clip = r.controls.clip_cov
    if clip.lower > clip.upper:
        yield Finding(
            "clip-cov-empty-window",
            "error",
            f"controls.clip_cov.lower = {clip.lower:g} above controls.clip_cov.upper = {clip.upper:g}",
            "no covariance is between them",
            "exchange them (the paper: 1 and 5)",
        )


def reference_code(r: Recipe) -> Iterator[Finding]:
    """The switch that reproduces the authors' code."""
    c = r.controls
    if not c.reference_code:
        return
    clip, kl = c.clip_cov.ratio > 0, c.kl_cov.ratio > 0
    if clip and kl:
        yield Finding(
            "reference-code-both",
            "error",
            "controls.reference_code with both Clip-Cov and KL-Cov",
            "the authors' code has one or the other, with clips of its own for each",
            "set one ratio to 0, or controls.reference_code = false",
        )
    if not clip and not kl:
        yield Finding(
            "reference-code-without-method",
            "warning",
            "controls.reference_code without Clip-Cov or KL-Cov",
            "it changes these two only",
            "set controls.clip_cov.ratio or controls.kl_cov.ratio",
        )
    if (clip or kl) and r.loss.kind != "ppo_clip":
        yield Finding(
            "reference-code-loss",
            "warning",
            f"controls.reference_code with loss.kind = {r.loss.kind}",
            "the authors' code starts from PPO's loss",
            "set loss.kind = ppo_clip",
        )
    if r.loss.micro_batch == 1 and constant_advantage(r):
        if clip and c.clip_cov.lower > 0:
            yield Finding(
                "reference-code-one-response",
                "warning",
                "controls.reference_code with loss.micro_batch = 1",
                "the advantage is constant within a response, so the covariance is zero: Clip-Cov selects nothing",
                "raise loss.micro_batch, or set controls.reference_code = false",
            )
        if kl:
            yield Finding(
                "reference-code-one-response",
                "warning",
                "controls.reference_code with loss.micro_batch = 1",
                "the advantage is constant within a response, so the covariance is zero: KL-Cov takes the first "
                "tokens of every response, whatever they are",
                "raise loss.micro_batch, or set controls.reference_code = false",
            )


def constant_advantage(r: Recipe) -> bool:
    """Whether all tokens of a response have one advantage."""
    penalised = r.controls.kl_coef > 0 and r.controls.kl_in == "reward"
    by_token = r.estimator.token_rewards and (penalised or r.algorithm.gamma != 1)
    return not (by_token or r.estimator.critic or r.estimator.reward_model)


def entropy_target(r: Recipe) -> Iterator[Finding]:
    """The adaptive entropy bonus."""
    c = r.controls
    if not c.entropy_target:
        return
    if not c.entropy_step and not c.entropy_coeff:
        yield Finding(
            "entropy-target-inert",
            "error",
            "controls.entropy_target with entropy_coeff = 0 and entropy_step = 0",
            "the coefficient starts at 0 and never moves",
            "set controls.entropy_step = 1e-3",
        )
    elif not c.entropy_step:
        yield Finding(
            "entropy-target-fixed",
            "warning",
            "controls.entropy_target with entropy_step = 0",
            "the coefficient never moves, so the target has no effect",
            "set controls.entropy_step, or no target",
        )
    if not 0 <= c.entropy_coeff <= c.entropy_max:
        yield Finding(
            "entropy-coeff-outside",
            "warning",
            f"controls.entropy_coeff = {c.entropy_coeff:g} starts outside [0, {c.entropy_max:g}]",
            "after the first step it is moved to the nearer end, as far as that is",
            "start between 0 and controls.entropy_max",
        )


def reward_penalty(r: Recipe) -> Iterator[Finding]:
    """The reference KL, in the reward or the loss."""
    c, name = r.controls, r.algorithm.name
    if not c.kl_coef:
        return
    if c.kl_in == "reward" and not r.estimator.token_rewards:
        by_token = ", ".join(names_that(lambda e: e.token_rewards))
        yield Finding(
            "kl-summed-over-response",
            "warning",
            f"controls.kl_in = reward with {name}",
            f"{name} takes one reward a response, so the penalty's sum over the response is subtracted from it: longer "
            "responses pay more, and all tokens share the bill",
            f"take one of {by_token} for a penalty token by token, or controls.kl_in = loss",
        )
    if c.kl_in == "loss" and c.kl_kind == "k1":
        yield Finding(
            "kl-k1-in-loss",
            "warning",
            "controls.kl_kind = k1 in the loss",
            "its gradient on samples of the policy has mean zero: noise, not a pull to the base policy",
            "take k2 (whose gradient is the KL's) or k3, or controls.kl_in = reward",
        )


RULES: tuple[Callable[[Recipe], Iterator[Finding]], ...] = (
    aggregation,
    clipping,
    batch,
    kl_cov,
    quotas,
    clip_cov,
    reference_code,
    entropy_target,
    reward_penalty,
)
