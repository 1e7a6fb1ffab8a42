"""Every rule once where it must speak and once where it must be silent; and the facts behind the less obvious ones."""

import dataclasses

import numpy as np
import pytest

from entlaw.errors import UsageError
from entlaw.findings import Finding
from entlaw.train import losses, rules, rules_update, uses
from entlaw.train.recipe import load
from entlaw.train.schema import Recipe, Rollout, RunSettings

KL = "controls.kl_cov.ratio=0.01"
CLIP = "controls.clip_cov.ratio=0.01"
AUTHORS = "controls.reference_code=true"
LLM = "policy.path=gpt2"
NO_FILTER = "algorithm.filter_groups=false"

# The numbers below are about this recipe, whatever the defaults become.
PINNED = [
    "run.steps=240",
    "task.operations=[2,3,4,5,6]",
    "task.operators=+-*",
    "rollout.prompts=64",
    "rollout.group_size=8",
    "rollout.max_tokens=5",
    "loss.mini_batches=4",
    "loss.epochs=1",
    "optimizer.lr=2e-4",
    "validation.every=4",
    "validation.problems=512",
    "validation.samples=2",
]


def made(overrides):
    return load(None, PINNED + overrides)


# Code, severity, overrides with which it is found, and without which (or instead) it is not.
RULE = "watch.stop_when=P(gain > 1%) < 0.05"

CASES = [
    ("filter-groups-of-one", "error", ["rollout.group_size=1"], ["rollout.group_size=1", NO_FILTER]),
    (
        "filter-groups-of-one",
        "error",
        ["rollout.group_size=1", "algorithm.name=ppo"],
        ["rollout.group_size=2"],
    ),
    *[
        (
            "group-of-one",
            "warning",
            ["rollout.group_size=1", NO_FILTER, f"algorithm.name={name}"],
            ["rollout.group_size=2", NO_FILTER, f"algorithm.name={name}"],
        )
        for name in ("grpo", "dr_grpo", "rloo", "prime", "reinforce_plus_plus_baseline")
    ],
    *[
        (
            "group-of-one",
            "warning",
            ["rollout.group_size=1", NO_FILTER],
            ["rollout.group_size=1", NO_FILTER, f"algorithm.name={name}"],
        )
        for name in ("reinforce", "ppo")
    ],
    ("refills-without-filter", "error", ["algorithm.max_refills=2", NO_FILTER], ["algorithm.max_refills=2"]),
    *[
        (
            "filter-without-group-advantage",
            "info",
            [f"algorithm.name={name}"],
            [f"algorithm.name={name}", NO_FILTER],
        )
        for name in ("ppo", "reinforce", "reinforce_plus_plus")
    ],
    ("filter-without-group-advantage", "info", ["algorithm.name=ppo"], ["algorithm.name=rloo"]),
    ("filter-of-coins", "info", ["task.reward=random"], ["task.reward=random", NO_FILTER]),
    (
        "kl-summed-over-response",
        "warning",
        ["controls.kl_coef=0.1", "controls.kl_in=reward"],
        ["controls.kl_coef=0.1", "controls.kl_in=loss"],
    ),
    *[
        (
            "kl-summed-over-response",
            "warning",
            ["controls.kl_coef=0.1", "controls.kl_in=reward", "algorithm.name=prime"],
            ["controls.kl_coef=0.1", "controls.kl_in=reward", f"algorithm.name={name}"],
        )
        for name in ("ppo", "reinforce_plus_plus")
    ],
    (
        "kl-k1-in-loss",
        "warning",
        ["controls.kl_coef=0.1", "controls.kl_kind=k1"],
        ["controls.kl_coef=0.1", "controls.kl_kind=k1", "controls.kl_in=reward"],
    ),
    (
        "gspo-aggregation",
        "warning",
        ["loss.kind=gspo"],
        ["loss.kind=gspo", "loss.aggregation=seq-mean-token-mean"],
    ),
    (
        "gspo-clip-range",
        "warning",
        ["loss.kind=gspo"],
        ["loss.kind=gspo", "loss.clip_ratio_low=3e-4", "loss.clip_ratio_high=4e-4"],
    ),
    (
        "dr-grpo-aggregation",
        "warning",
        ["algorithm.name=dr_grpo"],
        ["algorithm.name=dr_grpo", "loss.aggregation=seq-mean-token-sum-norm"],
    ),
    (
        "dr-grpo-aggregation",
        "warning",
        ["algorithm.name=dr_grpo", "loss.aggregation=seq-mean-token-sum"],
        ["loss.aggregation=seq-mean-token-sum"],
    ),
    ("dual-clip-not-above-one", "error", ["loss.clip_ratio_c=1"], ["loss.clip_ratio_c=1.01"]),
    ("dual-clip-unused", "error", ["loss.clip_ratio_c=3", "loss.kind=cispo"], ["loss.kind=cispo"]),
    ("clip-lower", "warning", ["loss.clip_ratio_high=0.1"], ["loss.clip_ratio_high=0.28"]),
    (
        "clip-lower",
        "warning",
        ["loss.clip_ratio_low=0.3"],
        ["loss.clip_ratio_low=0.3", "loss.kind=policy_gradient"],
    ),
    (
        "cispo-clip-range",
        "warning",
        ["loss.kind=cispo"],
        ["loss.kind=cispo", "loss.clip_ratio_low=1", "loss.clip_ratio_high=5"],
    ),
    (
        "more-mini-batches-than-responses",
        "error",
        ["rollout.prompts=2", "loss.mini_batches=17"],
        ["rollout.prompts=2", "loss.mini_batches=16"],
    ),
    (
        "fewer-mini-batches",
        "warning",
        ["rollout.prompts=2", "loss.mini_batches=16"],
        ["rollout.prompts=2", "loss.mini_batches=2"],
    ),
    ("fewer-mini-batches", "warning", ["loss.mini_batches=60"], ["loss.mini_batches=64"]),
    ("truncated-sampling", "warning", ["rollout.top_p=0.9"], ["validation.top_p=0.9"]),
    ("truncated-sampling", "warning", ["rollout.top_k=5"], []),
    *[
        (
            "kl-cov-on-policy",
            "warning",
            [KL, "loss.mini_batches=1", f"controls.kl_cov.penalty={p}"],
            [KL, "loss.mini_batches=1", "controls.kl_cov.penalty=k1"],
        )
        for p in ("abs", "k2", "k3")
    ],
    (
        "kl-cov-on-policy",
        "warning",
        [KL, "loss.mini_batches=1"],
        [KL, "loss.mini_batches=1", "loss.epochs=2"],
    ),
    ("kl-cov-on-policy", "warning", [KL, "rollout.prompts=1"], [KL, "rollout.prompts=2"]),
    ("kl-cov-first-mini-batch", "info", [KL], [KL, "loss.mini_batches=1"]),
    ("kl-cov-first-mini-batch", "info", [KL], [KL, "controls.kl_cov.penalty=k1"]),
    ("kl-cov-k1", "warning", [KL, "controls.kl_cov.penalty=k1"], [KL, "controls.kl_cov.penalty=k2"]),
    ("kl-cov-without-weight", "warning", [KL, "controls.kl_cov.coef=0"], [KL]),
    ("kl-cov-ratio-large", "warning", ["controls.kl_cov.ratio=0.2"], ["controls.kl_cov.ratio=0.002"]),
    ("clip-cov-ratio-large", "warning", ["controls.clip_cov.ratio=0.2"], ["controls.clip_cov.ratio=0.002"]),
    # 64 prompts x 8 x 5 tokens in 4 mini-batches: 640 tokens at most
    ("kl-cov-quota-of-one", "warning", ["controls.kl_cov.ratio=0.0015"], ["controls.kl_cov.ratio=0.0015625"]),
    ("clip-cov-quota-of-one", "warning", ["controls.clip_cov.ratio=2e-4"], ["controls.clip_cov.ratio=0.002"]),
    (
        "clip-cov-quota-of-one",
        "warning",
        ["controls.clip_cov.ratio=0.002", AUTHORS, "loss.micro_batch=8"],
        ["controls.clip_cov.ratio=0.002", "loss.micro_batch=8"],
    ),
    (
        "clip-cov-empty-window",
        "error",
        ["controls.clip_cov.lower=6"],
        ["controls.clip_cov.lower=5", "controls.clip_cov.ratio=0.01"],
    ),
    *[
        ("reference-code-both", "error", [AUTHORS, KL, CLIP], silent)
        for silent in ([KL, CLIP], [AUTHORS, KL], [AUTHORS, CLIP])
    ],
    ("reference-code-without-method", "warning", [AUTHORS], [AUTHORS, KL]),
    ("reference-code-loss", "warning", [AUTHORS, KL, "loss.kind=policy_gradient"], [AUTHORS, KL]),
    (
        "reference-code-one-response",
        "warning",
        [AUTHORS, CLIP, "loss.micro_batch=1"],
        [AUTHORS, CLIP, "loss.micro_batch=2"],
    ),
    (
        "reference-code-one-response",
        "warning",
        [AUTHORS, KL, "loss.micro_batch=1"],
        [KL, "loss.micro_batch=1"],
    ),
    *[
        (
            "reference-code-one-response",
            "warning",
            [AUTHORS, CLIP, "loss.micro_batch=1", "algorithm.name=rloo"],
            [AUTHORS, CLIP, "loss.micro_batch=1", *by_token],
        )
        for by_token in (
            ["algorithm.name=ppo"],
            ["algorithm.name=prime"],
            ["algorithm.name=reinforce_plus_plus", "algorithm.gamma=0.9"],
            ["algorithm.name=reinforce_plus_plus", "controls.kl_coef=0.1", "controls.kl_in=reward"],
            ["controls.clip_cov.lower=-1"],
        )
    ],
    (
        "reference-code-one-response",
        "warning",
        [AUTHORS, CLIP, "loss.micro_batch=1", "algorithm.name=reinforce_plus_plus", "controls.kl_in=reward"],
        [AUTHORS, CLIP, "algorithm.name=reinforce_plus_plus"],
    ),
    (
        "entropy-target-inert",
        "error",
        ["controls.entropy_target=0.5", "controls.entropy_step=0"],
        ["controls.entropy_target=0.5"],
    ),
    (
        "entropy-target-fixed",
        "warning",
        ["controls.entropy_target=0.5", "controls.entropy_step=0", "controls.entropy_coeff=0.1"],
        ["controls.entropy_coeff=0.1"],
    ),
    (
        "entropy-coeff-outside",
        "warning",
        ["controls.entropy_target=0.5", "controls.entropy_coeff=2"],
        ["controls.entropy_coeff=2"],
    ),
    (
        "bfloat16-updates-vanish",
        "warning",
        ["policy.dtype=bfloat16", "optimizer.lr=1e-6"],
        ["policy.dtype=float32", "policy.autocast=true", "optimizer.lr=1e-6"],
    ),
    (
        "bfloat16-updates-vanish",
        "warning",
        ["policy.dtype=bfloat16", "optimizer.lr=1e-6"],
        ["policy.dtype=bfloat16"],
    ),
    (
        "autocast-without-float32",
        "warning",
        ["policy.dtype=float64", "policy.autocast=true"],
        ["policy.autocast=true"],
    ),
    (
        "policy-never-learns",
        "warning",
        ["algorithm.name=ppo", "critic.warmup_steps=240"],
        ["algorithm.name=ppo", "critic.warmup_steps=239"],
    ),
    ("warm-up-longer-than-run", "warning", ["optimizer.warmup_steps=961"], ["optimizer.warmup_steps=960"]),
    ("no-room-for-an-answer", "error", ["rollout.max_tokens=1"], ["rollout.max_tokens=2"]),
    ("worked-answer-too-long", "info", [], ["rollout.max_tokens=7"]),
    ("worked-answer-too-long", "info", [], ["policy.path=gpt2"]),
    # 300 problems of one operation, an eighth of them held out
    ("too-few-problems", "error", ["task.operations=[1]"], ["task.operations=[1, 2]"]),
    (
        "too-few-problems",
        "warning",
        ["task.operations=[1]", "validation.problems=38"],
        ["task.operations=[1]", "validation.problems=20"],
    ),
    ("unknown-data-set", "error", [LLM, "task.name=gsm9k"], [LLM, "task.name=gsm8k"]),
    (
        "unknown-data-set",
        "error",
        [LLM, "task.name=gsm8k", "task.validation=math500x"],
        [LLM, "task.name=gsm8k", "task.validation=math-500"],
    ),
    ("unknown-data-set", "error", [LLM, "task.name=gsm8k,arithmetic"], [LLM]),
    (
        "template-without-question",
        "error",
        [LLM, "task.name=math", "task.template=Solve: question"],
        [LLM, "task.name=math", "task.template=Solve: {question}"],
    ),
    ("data-set-without-model", "error", ["task.name=gsm8k"], ["task.name=gsm8k", LLM]),
    (
        "empty-pass-window",
        "error",
        [LLM, "task.name=math", "task.pass_low=0.5", "task.pass_high=0.5"],
        [LLM, "task.name=math", "task.pass_low=0.5"],
    ),
    ("chat-without-data-set", "error", [LLM, "task.chat=true"], [LLM, "task.chat=true", "task.name=math"]),
    ("vllm-float64", "error", ["rollout.engine=vllm", "policy.dtype=float64"], ["rollout.engine=vllm"]),
    (
        "correction-unused",
        "warning",
        ["loss.rollout_correction=token"],
        ["loss.rollout_correction=token", "rollout.engine=vllm"],
    ),
    ("sums-unused", "warning", [LLM, "task.name=math"], [LLM]),
    ("data-set-unused", "warning", ["task.workers=2"], [LLM, "task.workers=2", "task.name=math"]),
    (
        "pass-window-unused",
        "warning",
        [LLM, "task.name=math", "task.pass_low=0.1"],
        [LLM, "task.name=math", "task.pass_low=0.1", "task.pass_rates=rates.jsonl"],
    ),
    ("format-unused", "warning", ["task.format=thought"], ["task.format=thought", "task.format_weight=0.1"]),
    ("vllm-unused", "warning", ["vllm.eager=false"], ["vllm.eager=false", "rollout.engine=vllm"]),
    (
        "vllm-process-unused",
        "warning",
        ["vllm.devices=1", "rollout.engine=vllm"],
        ["vllm.devices=1", "rollout.engine=vllm-process"],
    ),
    (
        "rollout-cap-unused",
        "warning",
        ["loss.rollout_cap=3", "rollout.engine=vllm"],
        ["loss.rollout_cap=3", "rollout.engine=vllm", "loss.rollout_correction=sequence"],
    ),
    ("no-validation", "warning", ["validation.every=0"], ["validation.every=1"]),
    ("too-few-validations", "warning", ["run.steps=8"], ["run.steps=9"]),
    ("too-few-validations", "warning", ["validation.every=240"], ["validation.every=80"]),
    ("few-validations", "info", ["validation.every=6"], ["validation.every=5"]),
    (
        "greedy-samples",
        "warning",
        ["validation.temperature=0"],
        ["validation.temperature=0", "validation.samples=1"],
    ),
    # settings without effect
    ("critic-unused", "warning", ["critic.epochs=2"], ["critic.epochs=2", "algorithm.name=ppo"]),
    ("critic-unused", "warning", ["algorithm.lam=0.95"], ["algorithm.lam=0.95", "algorithm.name=ppo"]),
    ("prime-unused", "warning", ["prime.beta=0.1"], ["prime.beta=0.1", "algorithm.name=prime"]),
    (
        "baseline-unused",
        "warning",
        ["algorithm.baseline=none"],
        ["algorithm.baseline=none", "algorithm.name=reinforce"],
    ),
    *[
        (
            "gamma-unused",
            "warning",
            ["algorithm.gamma=0.9"],
            ["algorithm.gamma=0.9", f"algorithm.name={name}"],
        )
        for name in ("ppo", "prime", "reinforce_plus_plus")
    ],
    (
        "clip-ratio-unused",
        "warning",
        ["loss.kind=policy_gradient", "loss.clip_ratio_high=0.28"],
        ["loss.kind=policy_gradient"],
    ),
    (
        "clip-ratio-replaced",
        "warning",
        [AUTHORS, KL, "loss.clip_ratio_high=0.28"],
        [KL, "loss.clip_ratio_high=0.28"],
    ),
    ("warmup-unused", "warning", ["policy.path=gpt2", "warmup.slip=0.2"], ["warmup.slip=0.2"]),
    ("warmup-unused", "warning", ["policy.path=gpt2", "policy.size=xl"], ["policy.path=gpt2"]),
    ("kl-kind-unused", "warning", ["controls.kl_kind=k2"], ["controls.kl_kind=k2", "controls.kl_coef=0.1"]),
    (
        "entropy-step-unused",
        "warning",
        ["controls.entropy_step=0.1"],
        ["controls.entropy_step=0.1", "controls.entropy_target=0.5"],
    ),
    ("clip-cov-unused", "warning", ["controls.clip_cov.upper=4"], ["controls.clip_cov.upper=4", CLIP]),
    ("kl-cov-unused", "warning", ["controls.kl_cov.coef=0.5"], ["controls.kl_cov.coef=0.5", KL]),
    (
        "validation-unused",
        "warning",
        ["validation.every=0", "validation.problems=9"],
        ["validation.problems=9"],
    ),
    ("wandb-unused", "warning", ["log.wandb_group=a"], ["log.wandb_group=a", "log.wandb=offline"]),
    ("watch-unused", "warning", ["watch.target=0.5"], ["watch.target=0.5", "watch.on=true"]),
    ("stop-rule-unwatched", "error", [RULE], [RULE, "watch.on=true"]),
    ("bad-stop-rule", "error", ["watch.stop_when=never", "watch.on=true"], [RULE, "watch.on=true"]),
]


def found(overrides):
    """Severities by code, errors included."""
    recipe = made(overrides)
    return {f.code: f.severity for rule in rules.RULES for f in rule(recipe)}


@pytest.mark.parametrize(("code", "severity", "firing", "silent"), CASES)
def test_rule(code, severity, firing, silent):
    assert found(firing).get(code) == severity
    assert found(silent).get(code) != severity
    if severity == "error":
        with pytest.raises(UsageError) as caught:
            rules.check(made(firing))
        assert caught.value.exit_code == 2
    elif "error" not in found(firing).values():
        finding = next(f for f in rules.check(made(firing)) if f.code == code)
        assert finding.what and finding.why


def test_every_code_is_tested():
    import inspect
    import re

    source = "".join(map(inspect.getsource, (rules, rules_update, losses)))
    codes = set(re.findall(r'Finding\(\s*"([a-z0-9-]+)"', source)) | {use.code for use in uses.USES}
    codes |= {f"{name}-{end}" for name in ("kl-cov", "clip-cov") for end in ("ratio-large", "quota-of-one")}
    codes |= {"gspo-aggregation", "dr-grpo-aggregation"}
    assert len(codes) > 40
    assert codes == {code for code, *_ in CASES}


def test_the_default_recipe_is_told_of_its_ceiling_and_nothing_else():
    assert [(f.code, f.severity) for f in rules.check(Recipe())] == [("worked-answer-too-long", "info")]
    (finding,) = rules.check(made([]))
    assert "5, 6 operations" in finding.what and "max_tokens = 7" in finding.hint


def test_warnings_come_before_information():
    severities = [f.severity for f in rules.check(made([KL, "rollout.top_k=5"]))]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert {"warning", "info"} == set(severities)


def test_impossible_combinations_are_told_together():
    with pytest.raises(UsageError) as caught:
        rules.check(made(["loss.clip_ratio_c=0.5", "algorithm.max_refills=1", NO_FILTER]))
    text = str(caught.value)
    assert (
        "2 combinations" in text and "loss.clip_ratio_c = 0.5" in text and "algorithm.max_refills = 1" in text
    )


def test_one_impossible_combination_keeps_its_reason_and_remedy():
    with pytest.raises(UsageError) as caught:
        rules.check(made(["controls.clip_cov.lower=6"]))
    assert (
        "6 above" in caught.value.what
        and "no covariance" in caught.value.why
        and "1 and 5" in caught.value.hint
    )


def test_a_recipe_made_in_python_is_checked_for_ranges_and_types_too():
    bad = dataclasses.replace(Recipe(), run=RunSettings(steps=0), rollout=Rollout(top_p="1"))
    with pytest.raises(UsageError) as caught:
        rules.check(bad)
    assert "run.steps must be at least 1" in str(caught.value) and "rollout.top_p" in str(caught.value)


def test_findings_carry_their_figure():
    def value(code, overrides):
        return next(f.value for f in rules.check(made(overrides)) if f.code == code)

    assert value("kl-cov-first-mini-batch", [KL, "loss.epochs=2"]) == 7 / 8
    assert value("kl-cov-quota-of-one", ["controls.kl_cov.ratio=1e-3"]) == 1 / 640
    authors = ["controls.kl_cov.ratio=1e-3", AUTHORS, "loss.micro_batch=8"]
    assert value("kl-cov-quota-of-one", authors) == 1 / 40
    assert value("filter-of-coins", ["task.reward=random", "rollout.group_size=3"]) == 0.25
    assert value("few-validations", ["validation.every=6"]) == 7


def test_a_group_of_one_is_told_what_is_left_of_the_algorithm():
    def why(name):
        recipe = made(["rollout.group_size=1", NO_FILTER, f"algorithm.name={name}"])
        return next(f.why for f in rules.check(recipe) if f.code == "group-of-one")

    assert "no baseline" in why("grpo") and "no baseline" in why("rloo")
    assert "mean and spread" in why("prime") and "mean and spread" in why("reinforce_plus_plus_baseline")


def test_problems_of_a_thousand_operations_are_enough_and_no_overflow():
    assert "too-few-problems" not in found(["task.operations=[1000]", "validation.problems=100000"])


def test_share_of_coin_groups_that_the_filter_drops():
    rng = np.random.default_rng(0)
    coins = rng.integers(0, 2, (200_000, 3)).sum(1)
    assert np.mean((coins == 0) | (coins == 3)) == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(("prompts", "wanted"), [(64, 4), (64, 60), (7, 3), (5, 4), (2, 16), (1, 1), (9, 9)])
def test_mini_batches_are_counted_as_torch_cuts_them(prompts, wanted):
    torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
    recipe = made([f"rollout.prompts={prompts}", f"loss.mini_batches={wanted}"])
    assert rules.mini_batches(recipe) == len(torch.arange(prompts).chunk(min(wanted, prompts)))


@pytest.mark.parametrize(("steps", "every"), [(240, 4), (36, 4), (10, 4), (8, 4), (3, 4), (36, 7)])
def test_validations_are_counted_as_they_are_made(steps, every):
    made = [0] + [t for t in range(1, steps + 1) if t % every == 0 or t == steps]
    for until in {min(36, steps), steps}:
        assert rules.evaluations(until, every, steps) == sum(t <= until for t in made)


def test_about_an_eighth_of_the_problems_is_held_out():
    from entlaw.tasks.arithmetic import is_held_out

    prompts = [f"{a}{sign}{b}=" for a in range(10) for sign in "+-*" for b in range(10)]
    held_out = sum(map(is_held_out, prompts))
    for n, severity in ((held_out + 20, "error"), (held_out, "warning"), (held_out // 2, None)):
        assert found(["task.operations=[1]", f"validation.problems={n}"]).get("too-few-problems") == severity


@pytest.mark.parametrize(("penalty", "inert"), [("abs", True), ("k2", True), ("k3", True), ("k1", False)])
def test_which_kl_cov_penalties_have_no_gradient_on_policy(penalty, inert):
    torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
    from entlaw.train.losses import kl_penalty

    log_prob = torch.tensor([[-0.3, -1.2, -4.0]], dtype=torch.double, requires_grad=True)
    kl_penalty(log_prob, log_prob.detach().clone(), penalty).sum().backward()
    assert bool((log_prob.grad == 0).all()) is inert
    on_policy = "kl-cov-on-policy" in found([KL, "loss.mini_batches=1", f"controls.kl_cov.penalty={penalty}"])
    assert on_policy is inert


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "prime", "reinforce_plus_plus_baseline"])
def test_what_the_rule_says_of_a_group_of_one_is_what_the_estimators_do(name):
    torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
    from entlaw.train import advantages as adv

    reward, group, mask = torch.tensor([1.0, 0.0, 1.0]), torch.arange(3), torch.ones(3, 2)
    if name in ("prime", "reinforce_plus_plus_baseline"):
        zero = torch.zeros(3, 2)  # no process reward
        got = (
            adv.prime(zero, reward, group, mask)
            if name == "prime"
            else (adv.reinforce_plus_plus_baseline(reward, group, mask))
        )
        # Mean 2/3 over the batch, and 4 of 6 tokens are of right responses: nobody's group is taken off.
        assert torch.allclose(got, (reward - 2 / 3)[:, None] * mask / (4 / 15) ** 0.5, atol=1e-4)
    else:
        bare = {"grpo": adv.grpo, "rloo": adv.rloo, "dr_grpo": lambda *a: adv.grpo(*a, norm_by_std=False)}[
            name
        ]
        assert torch.allclose(bare(reward, group, mask), reward[:, None] * mask, atol=1e-5)


def test_findings_are_findings():
    assert all(isinstance(f, Finding) for f in rules.check(made([KL])))
