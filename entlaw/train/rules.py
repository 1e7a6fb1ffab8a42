"""What must not, and what had better not, be combined in a recipe.

Each rule looks at a whole recipe and yields findings; those of severity error make :func:`check` refuse it. Rules of
the update, loss and entropy controls are in :mod:`entlaw.train.rules_update`; when a setting does nothing stands on its
field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from entlaw.errors import UsageError, nearest
from entlaw.findings import Finding, Severity, worst_first
from entlaw.limits import FEW_POINTS, FEWEST_POINTS, PAPER_WINDOW
from entlaw.tasks import manifest
from entlaw.train import rules_update
from entlaw.train.observers import explain_bad_rule
from entlaw.train.recipe import changes, from_dict, settings, to_dict
from entlaw.train.rules_update import mini_batches
from entlaw.train.schema import Recipe
from entlaw.train.uses import USES

RecipeRule = Callable[[Recipe], Iterator[Finding]]


def check(recipe: Recipe) -> tuple[Finding, ...]:
    """What is doubtful about a recipe, warnings first.

    Raises
    ------
    UsageError
        A value out of its range or of the wrong type (a recipe made in Python has not been through
        :func:`entlaw.train.recipe.load`), or settings that cannot go together: all of them in one message.
    """
    from_dict(to_dict(recipe))
    found = worst_first([finding for rule in RULES for finding in rule(recipe)])
    errors = [f for f in found if f.severity == "error"]
    if len(errors) == 1:
        raise UsageError(errors[0].what, where="recipe", why=errors[0].why, hint=errors[0].hint or None)
    if errors:
        listed = "".join(f"\n  {e.what}: {e.why}" + (f" ({e.hint})" if e.hint else "") for e in errors)
        raise UsageError(f"{len(errors)} combinations that cannot be{listed}", where="recipe")
    return found


# Groups and rewards ----------------------------------------------------------------------------------


def groups(r: Recipe) -> Iterator[Finding]:
    """Groups of one, the filter, dynamic sampling."""
    a = r.algorithm
    alone = r.rollout.group_size == 1
    if alone and a.filter_groups:
        yield Finding(
            "filter-groups-of-one",
            "error",
            "algorithm.filter_groups with rollout.group_size = 1",
            "a single response is always all right or all wrong, so every prompt would be dropped",
            "set algorithm.filter_groups = false, or sample more responses a prompt",
        )
    if alone and r.estimator.groups:
        yield Finding(
            "group-of-one",
            "warning",
            f"algorithm.name = {a.name} with rollout.group_size = 1",
            "there are no other responses to compare with: what is left is REINFORCE with "
            + ("the batch's mean and spread taken out" if r.estimator.whitens else "no baseline"),
            "sample more responses a prompt, or take reinforce with algorithm.baseline = batch-mean",
        )
    if a.max_refills and not a.filter_groups:
        yield Finding(
            "refills-without-filter",
            "error",
            f"algorithm.max_refills = {a.max_refills} without algorithm.filter_groups",
            "refills replace the prompts that the filter drops; without it they only make batches of changing size",
            "set algorithm.filter_groups = true, or algorithm.max_refills = 0",
        )
    if a.filter_groups and not alone and not r.estimator.groups:
        yield Finding(
            "filter-without-group-advantage",
            "info",
            f"algorithm.filter_groups with {a.name}",
            "its advantages do not come from groups, so the dropped prompts would have taught something; the paper "
            "drops them for every algorithm",
            "set algorithm.filter_groups = false for the algorithm as published",
        )
    if a.filter_groups and not alone and r.task.reward == "random":
        share = 2.0 ** (1 - r.rollout.group_size)
        yield Finding(
            "filter-of-coins",
            "info",
            f"algorithm.filter_groups with random rewards drops {share:.2g} of the prompts, whatever was answered",
            "the filter uses the rewards that are optimised, here coin flips",
            "",
            share,
        )


def sampling(r: Recipe) -> Iterator[Finding]:
    """Rollouts that are not drawn from the distribution that is trained."""
    if r.rollout.top_p < 1 or r.rollout.top_k:
        yield Finding(
            "truncated-sampling",
            "warning",
            f"rollout.top_p = {r.rollout.top_p:g}, rollout.top_k = {r.rollout.top_k}",
            "log-probs, entropy and ratios are of the whole vocabulary, but the responses would not be drawn from it",
            "set rollout.top_p = 1 and rollout.top_k = 0 in training",
        )


# Model, optimiser, measuring -------------------------------------------------------------------------


def precision(r: Recipe) -> Iterator[Finding]:
    """Number formats."""
    p, lr = r.policy, r.optimizer.lr
    if p.dtype == "bfloat16" and lr < 1e-4:
        yield Finding(
            "bfloat16-updates-vanish",
            "warning",
            f"policy.dtype = bfloat16 with optimizer.lr = {lr:g}",
            "AdamW moves a weight by about the learning rate, and bfloat16 rounds a weight of 0.02 by up to 6e-5: most "
            "updates would be lost",
            "set policy.dtype = float32 and policy.autocast = true",
            lr,
        )
    if p.autocast and p.dtype != "float32":
        yield Finding(
            "autocast-without-float32",
            "warning",
            f"policy.autocast with policy.dtype = {p.dtype}",
            "autocast is there to keep float32 weights beside bfloat16 products",
            "set policy.dtype = float32",
        )


def never_reached(r: Recipe) -> Iterator[Finding]:
    """Phases that are longer than the run."""
    if r.estimator.critic and r.critic.warmup_steps >= r.run.steps:
        yield Finding(
            "policy-never-learns",
            "warning",
            f"critic.warmup_steps = {r.critic.warmup_steps} of run.steps = {r.run.steps}",
            "the policy does not learn while the critic warms up",
            "lower critic.warmup_steps",
        )
    updates = r.run.steps * mini_batches(r) * r.loss.epochs
    if r.optimizer.warmup_steps > updates:
        yield Finding(
            "warm-up-longer-than-run",
            "warning",
            f"optimizer.warmup_steps = {r.optimizer.warmup_steps} of at most {updates} optimiser steps",
            "the learning rate never reaches optimizer.lr",
            "lower optimizer.warmup_steps",
        )


def task(r: Recipe) -> Iterator[Finding]:
    """What the arithmetic task asks of lengths and numbers of problems (one token a character: ladder models)."""
    if r.task.name != "arithmetic":
        return
    longest = r.rollout.max_tokens
    operations = sorted(set(r.task.operations))
    if not r.policy.path and longest < 2:
        yield Finding(
            "no-room-for-an-answer",
            "error",
            f"rollout.max_tokens = {longest}",
            "an answer is a digit and the end-of-sequence token",
            "set rollout.max_tokens = 2 at least",
        )
    cut = [n for n in operations if n + 1 > longest]
    if not r.policy.path and cut:
        yield Finding(
            "worked-answer-too-long",
            "info",
            f"rollout.max_tokens = {longest} cuts worked answers of {', '.join(map(str, cut))} operations",
            "working out n operations takes n + 1 tokens; those problems must be answered with steps left out, which "
            "may keep the ceiling below 1",
            f"set rollout.max_tokens = {operations[-1] + 1} to let everything be worked out",
            float(len(cut)),
        )
    if r.validation.every:
        signs = len(set(r.task.operators))
        held_out = sum(signs**n * 10 ** (n + 1) for n in (min(n, 9) for n in operations)) / 8
        if r.validation.problems > 0.8 * held_out:
            severity: Severity = "error" if r.validation.problems > 1.4 * held_out else "warning"
            yield Finding(
                "too-few-problems",
                severity,
                f"validation.problems = {r.validation.problems}, and about {held_out:.0f} different ones are held out",
                "validation problems never come twice",
                "lower validation.problems, or add to task.operations",
                held_out,
            )


def data(r: Recipe) -> Iterator[Finding]:
    """Data sets: names, what reads them, lengths."""
    t, sums = r.task, r.task.name == "arithmetic"
    if not sums:
        for name in (n.strip() for n in f"{t.name},{t.validation}".split(",")):
            if name == "arithmetic" or (name and not _is_known(name)):
                mixed = "the made-up sums do not mix with data sets"
                yield Finding(
                    "unknown-data-set",
                    "error",
                    f"there is no data set {name!r}",
                    mixed if name == "arithmetic" else "`entlaw data list` shows them",
                    nearest(name, manifest.load(), n=1),
                )
        if t.template and "{question}" not in t.template:
            yield Finding(
                "template-without-question",
                "error",
                "task.template does not hold {question}",
                "every prompt would be the same text",
                "write {question} where the question goes",
            )
        if not r.policy.path:
            yield Finding(
                "data-set-without-model",
                "error",
                f"task.name = {t.name} without policy.path",
                "the ladder's models know the characters of sums and no others",
                "name a trained model in policy.path",
            )
        if t.pass_low >= t.pass_high:
            yield Finding(
                "empty-pass-window",
                "error",
                f"task.pass_low = {t.pass_low:g}, task.pass_high = {t.pass_high:g}",
                "no pass rate is between",
                "set task.pass_low below task.pass_high",
            )
    elif t.chat:
        yield Finding(
            "chat-without-data-set",
            "error",
            "task.chat with task.name = arithmetic",
            "sums are continued, not talked about",
            "set task.chat = false",
        )
    if r.policy.path == "" and r.rollout.engine != "hf" and r.policy.dtype == "float64":
        yield Finding(
            "vllm-float64",
            "error",
            "rollout.engine = vllm with policy.dtype = float64",
            "vLLM has no float64",
            "set policy.dtype = float32, or rollout.engine = hf",
        )
    if r.rollout.engine == "hf" and r.loss.rollout_correction != "none":
        yield Finding(
            "correction-unused",
            "warning",
            f"loss.rollout_correction = {r.loss.rollout_correction} without effect",
            "with rollout.engine = hf the policy itself samples: every weight is 1",
            "take it out of the recipe",
        )


def _is_known(name: str) -> bool:
    try:
        manifest.get(name)
    except UsageError:
        return False
    return True


def validation(r: Recipe) -> Iterator[Finding]:
    """Whether there will be something to fit."""
    v, steps = r.validation, r.run.steps
    if not v.every:
        yield Finding(
            "no-validation",
            "warning",
            "validation.every = 0",
            "without validation there is no performance to fit against the entropy (the training reward remains)",
            "set validation.every = 4",
        )
        return
    if (all_of_it := evaluations(steps, v.every, steps)) < FEWEST_POINTS:
        yield Finding(
            "too-few-validations",
            "warning",
            f"{all_of_it} validations in {steps} steps",
            f"the law is not fitted to fewer than {FEWEST_POINTS}",
            "lower validation.every, or raise run.steps",
            float(all_of_it),
        )
    elif (early := evaluations(min(int(PAPER_WINDOW), steps), v.every, steps)) < FEW_POINTS:
        yield Finding(
            "few-validations",
            "info",
            f"{early} validations by step {min(int(PAPER_WINDOW), steps)}",
            f"a forecast from there is doubtful with fewer than {FEW_POINTS}"
            + (f" and refused with fewer than {FEWEST_POINTS}" if early < FEWEST_POINTS else ""),
            "lower validation.every",
            float(early),
        )
    if v.temperature == 0 and v.samples > 1:
        yield Finding(
            "greedy-samples",
            "warning",
            f"validation.samples = {v.samples} at validation.temperature = 0",
            "greedy responses to one problem are all the same",
            "set validation.samples = 1",
        )


def watch(r: Recipe) -> Iterator[Finding]:
    """The law's watch on the run."""
    rule = r.watch.stop_when
    if not rule:
        return
    if not r.watch.on:
        yield Finding(
            "stop-rule-unwatched",
            "error",
            f"watch.stop_when = {rule!r} without watch.on",
            "the rule would never be checked, and the run would continue to its last step",
            "set watch.on = true, or take the rule out",
        )
    elif wrong := explain_bad_rule(r.watch):
        yield Finding("bad-stop-rule", "error", f"watch.stop_when = {rule!r}", wrong[0], wrong[1])


def evaluations(until: int, every: int, steps: int) -> int:
    """Validations up to a step: before the first step, every ``validation.every`` steps, and after the last."""
    return 1 + until // every + (until == steps and steps % every > 0)


# Settings that do nothing ----------------------------------------------------------------------------


def unused(r: Recipe) -> Iterator[Finding]:
    """Settings that were changed and do nothing in this recipe."""
    changed = [settings()[key] for key in changes(r)]
    for use in USES:
        idle = [setting.key for setting in changed if use in setting.used]
        if idle and not use.used(r):
            why = use.why if isinstance(use.why, str) else use.why(r)
            yield Finding(
                use.code, "warning", f"{', '.join(idle)} without effect", why, "take it out of the recipe"
            )


RULES: tuple[RecipeRule, ...] = (
    groups,
    sampling,
    *rules_update.RULES,
    precision,
    never_reached,
    task,
    data,
    validation,
    watch,
    unused,
)
