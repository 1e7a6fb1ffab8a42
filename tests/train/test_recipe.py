"""Recipes: what is read, what is refused and with which words, and that nothing is lost on the way."""

import dataclasses
import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from entlaw.errors import UsageError, closest
from entlaw.tasks.arithmetic import APPLY
from entlaw.train import recipe as recipes
from entlaw.train.recipe import settings, tables
from entlaw.train.rules import check
from entlaw.train.schema import Controls, KlCov, Loss, Recipe, Rollout, RunSettings
from entlaw.train.settings import describe_interval, within
from tests.conftest import PATIENCE


def write(folder, text, name="r.toml"):
    path = folder / name
    path.write_text(text)
    return path


def refusal(*overrides, path=None):
    with pytest.raises(UsageError) as caught:
        recipes.load(path, overrides)
    return caught.value


# A strategy of its own for every kind of setting, inside the ranges that the schema's words promise -----------------


def numbers(key, kind):
    low, high = (-1e6, 1e6)
    interval = settings()[key].range
    first, last = interval[1:-1].split(", ")
    low = max(low, float(first))
    high = min(high, float(last.replace("2**63", "inf")))
    if kind is int:
        return st.integers(math.ceil(low), math.floor(high))
    return st.floats(
        low, high, exclude_min=interval[0] == "(", exclude_max=interval[-1] == ")" and high < 1e6
    )


def values(setting):
    kind, key = setting.kind, setting.key
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        one = numbers(key, item)
        if rest == [...]:
            return st.lists(one, min_size=1, max_size=4).map(tuple)
        return st.tuples(*[one] * (1 + len(rest)))
    if kind is bool:
        return st.booleans()
    if key == "run.device":
        return st.sampled_from(["auto", "cpu", "cuda", "cuda:1"])
    if key in ("task.operators", "task.train_operators"):
        return st.text("".join(APPLY), min_size=1, max_size=5)
    if key == "task.name":
        return st.sampled_from(["arithmetic", "gsm8k", "math, svamp"])
    if key == "task.validation":
        return st.sampled_from(["", "math-500", "aime24,amc"])
    if key == "vllm.devices":
        return st.sampled_from(["", "4", "4,5"])
    if kind is str:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    return numbers(key, kind)


def put(table, prefix, given_values):
    return dataclasses.replace(
        table,
        **{
            f.name: put(getattr(table, f.name), f"{prefix}{f.name}.", given_values)
            if dataclasses.is_dataclass(getattr(table, f.name))
            else given_values.get(prefix + f.name, getattr(table, f.name))
            for f in dataclasses.fields(table)
        },
    )


@st.composite
def some_recipe(draw):
    keys = draw(st.sets(st.sampled_from(list(settings())), max_size=12))
    return put(Recipe(), "", {key: draw(values(settings()[key])) for key in keys})


@st.composite
def any_recipe(draw):
    """Every setting drawn."""
    return put(Recipe(), "", {key: draw(values(s)) for key, s in settings().items()})


# Round trips -------------------------------------------------------------------------------------------------------


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.one_of(some_recipe(), any_recipe()))
def test_nothing_is_lost_in_toml_dict_and_json(tmp_path_factory, r):
    path = tmp_path_factory.mktemp("r") / "r.toml"
    path.write_text(recipes.to_toml(r), encoding="utf-8")
    assert recipes.load(path) == r
    assert recipes.from_dict(recipes.to_dict(r)) == r
    assert recipes.from_dict(json.loads(json.dumps(recipes.to_dict(r)))) == r
    assert tomllib.loads(recipes.to_toml(r)) == recipes.to_dict(r)


@hypothesis_settings(deadline=None, max_examples=60)
@given(some_recipe(), some_recipe())
def test_differences_are_exactly_the_settings_that_differ(a, b):
    found = recipes.diff(a, b)
    assert (a == b) == (found == [])
    assert recipes.diff(b, a) == [(key, new, old) for key, old, new in found]
    assert put(a, "", {key: tuple(n) if isinstance(n, list) else n for key, _, n in found}) == b
    assert recipes.changes(b) == {key: new for key, _, new in recipes.diff(Recipe(), b)}
    harmless = all(key in recipes.MAY_CHANGE for key, _, _ in found)
    assert (recipes.fingerprint(a) == recipes.fingerprint(b)) == harmless


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.sampled_from(list(settings().values())).flatmap(lambda s: st.tuples(st.just(s), values(s))))
def test_an_override_says_what_a_file_says(pair):
    s, value = pair
    plain = list(value) if isinstance(value, tuple) else value
    text = json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
    assert recipes.load(None, [f"{s.key} = {text}"]) == put(Recipe(), "", {s.key: value})


def test_defaults_come_from_nothing():
    assert recipes.load(None) == Recipe() == recipes.from_dict({})
    assert recipes.changes(Recipe()) == {}


def test_what_is_compared_is_flat_and_plain():
    a = Recipe()
    b = dataclasses.replace(a, run=RunSettings(steps=9), controls=Controls(kl_cov=KlCov(ratio=0.5)))
    assert recipes.diff(a, b) == [("run.steps", a.run.steps, 9), ("controls.kl_cov.ratio", 0.0, 0.5)]
    assert recipes.changes(b) == {"run.steps": 9, "controls.kl_cov.ratio": 0.5}


def test_what_may_change_on_resuming():
    tables_of = {key.partition(".")[0] for key in recipes.MAY_CHANGE}
    assert tables_of == {"run", "checkpoint", "log", "watch"}
    assert {k for k in recipes.MAY_CHANGE if k.startswith("run.")} == {
        "run.steps",
        "run.threads",
        "run.device",
        "run.name",
    }
    assert {k for k in settings() if k.startswith(("log.", "checkpoint.", "watch."))} < recipes.MAY_CHANGE
    assert "run.seed" not in recipes.MAY_CHANGE


def test_equal_recipes_have_equal_fingerprints_however_they_are_written(tmp_path):
    path = write(tmp_path, "[optimizer]\nlr = 1\n[controls]\nkl_coef = -0.0\n")
    a, b = recipes.load(path), recipes.load(None, ["optimizer.lr=1.0"])
    assert a == b and recipes.fingerprint(a) == recipes.fingerprint(b)
    assert len(recipes.fingerprint(a)) == 64
    assert recipes.fingerprint(a) != recipes.fingerprint(Recipe())


# What is accepted --------------------------------------------------------------------------------------------------


def test_file_and_overrides_the_later_wins(tmp_path):
    path = write(tmp_path, "[rollout]\nprompts = 3\ngroup_size = 4\n[controls.kl_cov]\nratio = 2e-3\n")
    r = recipes.load(path, ["rollout.prompts=5", "rollout.prompts=6", "loss.kind=gspo"])
    assert r.rollout == Rollout(prompts=6, group_size=4)
    assert r.controls.kl_cov == KlCov(ratio=2e-3)
    assert r.loss == Loss(kind="gspo")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.clip_ratio_high=0.28", 0.28),
        ("loss.clip_ratio_high=1", 1.0),
        ("optimizer.lr=5e-7", 5e-7),
        ("algorithm.whiten=false", False),
        ("task.operations=[2,3]", (2, 3)),
        ("optimizer.betas=[0.5, 0]", (0.5, 0.0)),
        ("loss.kind=cispo", "cispo"),
        ('loss.kind="cispo"', "cispo"),
        ("task.operators=+-", "+-"),
        ("run.name=2024", "2024"),
        ("run.name=true", "true"),
        ("run.name=", ""),
        ("run.name=a=b # c", "a=b # c"),
        ("run.name=5 # c", "5 # c"),
        ("policy.path=/models/x y", "/models/x y"),
        ("run.name=[1]", "[1]"),
        ("run.name=1\nrun = 2", "1\nrun = 2"),
    ],
)
def test_override_values(override, expected):
    key = override.partition("=")[0]
    found = recipes.flat(recipes.load(None, [override]))[key]
    assert found == (list(expected) if isinstance(expected, tuple) else expected)
    assert isinstance(found, type(expected) if not isinstance(expected, tuple) else list)


def test_an_override_may_set_a_table():
    r = recipes.load(None, ["controls.clip_cov={ratio=2e-4, upper=4}"])
    assert (r.controls.clip_cov.ratio, r.controls.clip_cov.lower, r.controls.clip_cov.upper) == (
        2e-4,
        1.0,
        4.0,
    )


def test_whole_numbers_become_floats_and_lists_tuples():
    r = recipes.from_dict({"optimizer": {"lr": 1, "betas": [0, 0.5]}, "task": {"operations": [3]}})
    assert type(r.optimizer.lr) is float and r.optimizer.betas == (0.0, 0.5)
    assert r.task.operations == (3,) and hash(r.task)


def test_a_file_with_a_byte_order_mark_and_crlf(tmp_path):
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbf[run]\r\nsteps = 7\r\n")
    assert recipes.load(path).run.steps == 7


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # names
        ("loss.clip_ration_high=1", ["no setting clip_ration_high in [loss]", "loss.clip_ratio_high"]),
        (
            "algorithm.clip_ratio_high=1",
            ["no setting clip_ratio_high in [algorithm]", "it as loss.clip_ratio_high"],
        ),
        ("algorithm.ratio=1", ["write it as controls.clip_cov.ratio or controls.kl_cov.ratio"]),
        ("loss.learning_rate=1", ["here it is called optimizer.lr"]),
        ("controls.k_percent=0.2", ["controls.kl_cov.ratio (a fraction: percent / 100)"]),
        ("algorithm.group_sise=1", ["nearest: rollout.group_size"]),
        ("task.zzzzzz=1", ["it has: name, operations, operators, train_operations"]),
        ("optimiser={lr=1}", ["no table [optimiser]", "nearest: optimizer"]),
        ("clip_cov={ratio=1}", ["no table [clip_cov]", "controls.clip_cov"]),
        ("lr=1", ["no setting lr outside the tables", "optimizer.lr", "critic.lr", "prime.lr"]),
        ("zzzzzz=1", ["the tables are: run, task, policy"]),
        ("Loss.Kind=1", ["no table [Loss]", "nearest: loss"]),
        ("loss=3", ["loss is a table", "[loss]"]),
        ("loss.kind.x=3", ["loss.kind must be one of", "not a table"]),
        ("run.steps", ["table.key=value"]),
        ("=3", ["table.key=value"]),
        # types
        ("run.steps=2.0", ["run.steps must be a whole number, not 2.0", "write 2"]),
        ("run.steps=true", ["run.steps must be a whole number, not true"]),
        ('run.steps="3"', ["run.steps must be a whole number", "write 3 without quotes"]),
        ('run.steps="3.5"', ['run.steps must be a whole number, not "3.5"']),
        ('run.steps="inf"', ['run.steps must be a whole number, not "inf"']),
        ('run.steps="nan"', ['run.steps must be a whole number, not "nan"']),
        ("optimizer.lr=.5", ["optimizer.lr must be a finite number", "write 0.5 without quotes"]),
        ("optimizer.lr=true", ["optimizer.lr must be a finite number, not true"]),
        ("optimizer.lr=nan", ["optimizer.lr must be a finite number, not nan"]),
        ("optimizer.lr=inf", ["finite"]),
        ("optimizer.lr=1" + 400 * "0", ["optimizer.lr must be a finite number, not so large a number"]),
        ("optimizer.betas=[0.9, nan]", ["optimizer.betas must be a list of 2 numbers"]),
        ("algorithm.whiten=1", ["algorithm.whiten must be true or false, not 1"]),
        ("algorithm.whiten=True", ["write true without quotes"]),
        ("task.operations=3", ["a list of whole numbers, not 3", "[2, 3]"]),
        ("task.operations=[1.5]", ["a list of whole numbers"]),
        ("task.operations=[true]", ["a list of whole numbers"]),
        ("optimizer.betas=[0.9]", ["a list of 2 numbers"]),
        ("optimizer.betas=[0.9,0.9,0.9]", ["a list of 2 numbers"]),
        ("run.name=\udcff", ["run.name is not valid Unicode text"]),
        ("run.steps=2024-01-01", ["run.steps must be a whole number"]),
        # choices
        ("algorithm.name=gpro", ["algorithm.name must be one of", "reinforce_plus_plus,", "nearest: grpo"]),
        ("loss.kind=ppo-clip", ["nearest: ppo_clip"]),
        ("loss.kind=GSPO", ["nearest: gspo"]),
        ("run.device=gpu", ["run.device must be auto, cpu, cuda"]),
        ("task.operators=+/", ["task.operators must be one or more of + - * | ^ &"]),
        ("task.operators=", ["task.operators"]),
        ("task.train_operators=+/", ["task.train_operators must be some of + - * | ^ &, or nothing"]),
        ("task.operations=[]", ["task.operations is empty"]),
    ],
)
def test_refused_with_the_remedy(override, words):
    error = refusal(override)
    assert isinstance(error, ValueError) and error.exit_code == 2 and error.where == "--set"
    for word in [*words, "--set "]:
        assert word in str(error)


# Key, a value just inside and one just outside, written without a look at the table of ranges.
LIMITS = [
    ("run.steps", 1, 0),
    ("run.seed", 0, -1),
    ("run.seed", 2**63 - 1, 2**63),
    ("run.threads", 0, -1),
    ("task.operations", [1], [2, 0]),
    ("task.train_operations", [1], [2, 0]),
    ("policy.seed", 0, -1),
    ("warmup.clean_steps", 0, -1),
    ("warmup.noisy_steps", 0, -1),
    ("warmup.batch_size", 1, 0),
    ("warmup.clean_lr", 1e-9, 0.0),
    ("warmup.noisy_lr", 1e-9, 0.0),
    ("warmup.chain_share", 1.0, 1.01),
    ("warmup.slip", 0.0, -0.01),
    ("warmup.lr_warmup", 0, -1),
    ("warmup.betas", [0.0, 0.98], [0.9, 1.0]),
    ("rollout.prompts", 1, 0),
    ("rollout.group_size", 1, 0),
    ("rollout.temperature", 0.01, 0.0),
    ("task.pass_low", 1.0, 1.01),
    ("task.pass_low", 0.0, -0.1),
    ("task.pass_high", 1.0, 1.01),
    ("task.pass_high", 0.0, -0.1),
    ("task.workers", 1, 0),
    ("task.format_weight", 1.0, 1.1),
    ("task.format_weight", 0.0, -0.1),
    ("vllm.memory_share", 1.0, 1.1),
    ("vllm.memory_share", 0.1, 0.0),
    ("vllm.kv_cache_gb", 0.5, 0.0),
    ("vllm.tensor_parallel", 1, 0),
    ("vllm.max_sequences", 1, 0),
    ("loss.rollout_cap", 0.5, 0.0),
    ("rollout.top_p", 1.0, 1.01),
    ("rollout.top_p", 0.01, 0.0),
    ("rollout.top_k", 0, -1),
    ("rollout.max_tokens", 1, 0),
    ("rollout.max_prompt_tokens", 0, -1),
    ("rollout.batch", 0, -1),
    ("algorithm.max_refills", 0, -1),
    ("algorithm.gamma", 1.0, 1.01),
    ("algorithm.lam", 0.0, -0.01),
    ("critic.lr", 1e-9, 0.0),
    ("critic.warmup_steps", 0, -1),
    ("critic.value_clip", 0.0, -0.1),
    ("critic.epochs", 1, 0),
    ("prime.lr", 1e-9, 0.0),
    ("prime.beta", 0.01, 0.0),
    ("prime.process_weight", 0.0, -1.0),
    ("prime.outcome_weight", 0.0, -1.0),
    ("loss.clip_ratio_low", 1.0, 1.01),
    ("loss.clip_ratio_low", 0.0, -0.01),
    ("loss.clip_ratio_high", 5.0, -0.01),
    ("loss.clip_ratio_c", 0.0, -1.0),
    ("loss.mini_batches", 1, 0),
    ("loss.epochs", 1, 0),
    ("loss.micro_batch", 0, -1),
    ("controls.entropy_target", 0.0, -0.1),
    ("controls.entropy_step", 0.0, -0.1),
    ("controls.entropy_max", 0.1, 0.0),
    ("controls.kl_coef", 0.0, -0.1),
    ("controls.high_entropy_share", 1.0, 1.01),
    ("controls.high_entropy_share", 0.01, 0.0),
    ("controls.clip_cov.ratio", 1.0, 1.01),
    ("controls.clip_cov.ratio", 0.0, -0.01),
    ("controls.kl_cov.ratio", 1.0, 1.01),
    ("controls.kl_cov.coef", 0.0, -0.01),
    ("optimizer.lr", 1e-9, 0.0),
    ("optimizer.betas", [0.0, 0.99], [0.9, 1.0]),
    ("optimizer.eps", 1e-12, 0.0),
    ("optimizer.weight_decay", 0.0, -0.1),
    ("optimizer.grad_clip", 0.0, -0.1),
    ("optimizer.warmup_steps", 0, -1),
    ("validation.every", 0, -1),
    ("validation.problems", 1, 0),
    ("validation.samples", 1, 0),
    ("validation.temperature", 0.0, -0.1),
    ("validation.top_p", 1.0, 0.0),
    ("validation.seed", 0, -1),
    ("checkpoint.every", 1, 0),
    ("checkpoint.keep", 1, 0),
    ("log.covariance_shares", [1.0], [0.5, 0.0]),
    ("watch.every", 1, 0),
    ("watch.target", 1.0, 1.01),
    ("watch.target", 0.0, -0.1),
    ("watch.level", 0.5, 1.0),
    ("watch.level", 0.01, 0.0),
]


@pytest.mark.parametrize(("key", "inside", "outside"), LIMITS)
def test_ranges(key, inside, outside):
    assert recipes.flat(recipes.load(None, [f"{key}={inside}"]))[key] == inside
    assert f"{key} must be " in refusal(f"{key}={outside}").what


def test_every_number_has_a_range_and_a_test_of_it():
    numeric = {
        k
        for k, s in settings().items()
        if s.kind in (int, float) or get_args(s.kind)[:1] in ((int,), (float,))
    }
    assert {k for k, s in settings().items() if s.range} == numeric
    free = {"controls.entropy_coeff", "controls.clip_cov.lower", "controls.clip_cov.upper"}
    assert {key for key, _, _ in LIMITS} == numeric - free


def test_operators_are_those_of_the_task():
    for sign in map(chr, range(33, 127)):
        quote = '"' if sign == "'" else "'"
        if sign in APPLY:
            assert recipes.load(None, [f"task.operators={quote}{sign}{quote}"]).task.operators == sign
        else:
            assert "task.operators" in refusal(f"task.operators={quote}{sign}{quote}").what


def test_ranges_in_words():
    assert [describe_interval(i) for i in ("[1, inf)", "(0, 1]", "[0, 1)", "[0, 2**63)")] == [
        "at least 1",
        "above 0 and at most 1",
        "at least 0 and below 1",
        "at least 0 and below 2**63",
    ]
    assert within(0, "[0, 1)") and not within(1, "[0, 1)") and not within(0, "(0, 1]") and within(1, "(0, 1]")


@pytest.mark.parametrize("text", ["3.5", "inf", "nan", "three"])
def test_no_remedy_is_made_up(text):
    assert refusal(f'run.steps="{text}"').hint is None
    if text in ("inf", "nan", "three"):
        assert refusal(f'optimizer.lr="{text}"').hint is None


def test_all_faults_of_a_file_in_one_message_in_order_with_lines(tmp_path):
    path = write(
        tmp_path,
        """# comment = 1
[algorithm]
clip_ratio_high = 0.28
name = "gpro"

[optimiser]
lr = 1

[loss]
epochs = 2.0
micro_batch = -1
[controls]
clip_cov.ratio = 2
kl_cov = 3
""",
    )
    error = refusal("rollout.top_p=2", path=path)
    assert error.where == str(path)
    lines = [line.strip() for line in error.what.splitlines()]
    assert lines[0] == "8 problems in the recipe"
    starts = [
        "line 3: there is no setting clip_ratio_high in [algorithm] (write it as loss.clip_ratio_high)",
        "line 4: algorithm.name must be one of",
        "line 6: there is no table [optimiser] (nearest: optimizer)",
        "line 10: loss.epochs",
        "line 11: loss.micro_batch",
        "line 13: controls.clip_cov.ratio must be",
        "line 14: controls.kl_cov is a table",
        "--set rollout.top_p=2: rollout.top_p must be",
    ]
    assert len(lines) == 1 + len(starts)
    for line, start in zip(lines[1:], starts, strict=True):
        assert line.startswith(start)


def test_a_fault_of_the_file_is_told_though_an_override_covers_it(tmp_path):
    error = refusal("loss.epochs=2", path=write(tmp_path, "[loss]\nepochs = 0\n"))
    assert "line 2: loss.epochs must be at least 1, not 0" in str(error)


def test_a_dot_in_quotes_is_no_path(tmp_path):
    error = refusal(path=write(tmp_path, '"loss.epochs" = 2\n'))
    assert "line 1" in error.what and error.hint == "write it without quotes"


def test_a_file_is_stricter_than_an_override(tmp_path):
    assert "run.name must be text in quotes, not 12" in str(
        refusal(path=write(tmp_path, "[run]\nname = 12\n"))
    )
    assert "not a table" in str(refusal("run.name={a=1}", path=write(tmp_path, "[run.name]\nx = 1\n")))


def test_broken_toml_says_where(tmp_path):
    error = refusal(path=write(tmp_path, "[loss]\nepochs = 1\nkind = ppo_clip\n"))
    assert error.what.startswith("line 3: broken TOML") and error.where.endswith("r.toml")
    assert "kind = ppo_clip" in error.why and "quotes" in error.hint


@pytest.mark.parametrize(
    "content",
    [
        b"[loss",
        b"\xff\xfe\x00",
        b"x = " + b"[" * 100_000,
        b"x = " + b"9" * 10_000,
        b"a = 1\na = 2",
        b"run = 1\n[run]\n",
        b"[[run]]\nsteps = 1\n",
        b"\x00",
    ],
)
def test_no_file_gives_a_traceback_of_another_type(tmp_path, content):
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    assert refusal(path=path).where == str(path)


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.text(max_size=40),
        st.tuples(st.sampled_from([*settings(), *tables()]), st.text(max_size=20)).map("=".join),
    )
)
def test_no_override_gives_a_traceback_of_another_type(override):
    try:
        assert isinstance(recipes.load(None, [override]), Recipe)
    except UsageError as error:
        assert error.what and "--set" in str(error)


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.sampled_from(["steps", "loss", "kind", "clip_cov", "lr"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from([t for t in tables() if t]), json_like, max_size=3))
def test_no_dict_gives_a_traceback_of_another_type(plain):
    try:
        r = recipes.from_dict(plain, where="run.json")
    except UsageError as error:
        assert error.where == "run.json"
    else:
        assert recipes.from_dict(recipes.to_dict(r)) == r


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path, "", "my-recipe.toml")
    error = refusal(path=tmp_path / "my-recipes.toml")
    assert error.what == "no such recipe" and str(tmp_path / "my-recipe.toml") in error.hint
    assert "qwen2.5-7b-grpo" in refusal(path=Path("qwen2.5-7b-gpro")).hint
    assert "ladder" in refusal(path=tmp_path / "nowhere" / "zzzz.toml").hint
    assert "directory" in refusal(path=tmp_path).what
    assert refusal(path=Path("a\0b")).exit_code == 2


def test_nearest_is_best_first_whatever_the_case():
    assert closest("CLIP_ratio_hihg", ["clip_ratio_low", "clip_ratio_high", "epochs"])[0] == "clip_ratio_high"
    assert closest("zzz", ["clip_ratio_low"]) == []


# What is written ---------------------------------------------------------------------------------------------------


def test_printed_recipe_is_complete_and_describes_itself():
    text = recipes.to_toml(dataclasses.replace(Recipe(), run=RunSettings(steps=7)))
    words = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    for s in settings().values():
        assert s.doc in words
        for choice in get_args(s.kind) if get_origin(s.kind) is Literal else ():
            assert choice in words
    assert all(" ".join(doc.split()) in words for doc in tables().values())
    assert f"# RL steps. Default {RunSettings().steps}.\nsteps = 7\n" in text
    assert max(map(len, text.splitlines())) <= 110
    leaves = {
        f"{table}.{k}" if table else k
        for table, values_ in [(t, _table(tomllib.loads(text), t)) for t in tables() if t]
        for k, v in values_.items()
        if not isinstance(v, dict)
    }
    assert leaves == set(settings())


def _table(document, name):
    for part in name.split("."):
        document = document[part]
    return document


# Their names and their tables' descriptions say all there is to say.
PLAIN = {
    "task.name",
    "task.operators",
    "policy.gradient_checkpointing",
    "warmup.clean_steps",
    "warmup.noisy_steps",
    "warmup.noisy_lr",
    "warmup.batch_size",
    "warmup.betas",
    "rollout.engine",
    "rollout.temperature",
    "rollout.top_p",
    "algorithm.name",
    "algorithm.gamma",
    "critic.lr",
    "critic.epochs",
    "prime.lr",
    "prime.beta",
    "prime.process_weight",
    "prime.outcome_weight",
    "loss.clip_ratio_low",
    "loss.aggregation",
    "loss.epochs",
    "controls.clip_cov.lower",
    "controls.clip_cov.upper",
    "controls.kl_cov.coef",
    "controls.kl_kind",
    "controls.kl_in",
    "optimizer.lr",
    "optimizer.betas",
    "optimizer.eps",
    "optimizer.weight_decay",
    "validation.problems",
    "validation.top_p",
    "log.wandb",
    "log.wandb_project",
    "log.wandb_group",
    "log.tensorboard",
}


def test_every_setting_that_needs_words_has_some():
    silent = {key for key, s in settings().items() if not s.doc}
    assert silent <= PLAIN
    assert settings()["controls.kl_cov.ratio"].doc.startswith("Share of the response tokens")
    assert all(tables().values())
    assert len(settings()) == _count(Recipe())


def _count(table):
    """Attributes of a table and of the tables in it that are no tables themselves."""
    values_ = [getattr(table, f.name) for f in dataclasses.fields(table)]
    return sum(_count(v) if dataclasses.is_dataclass(v) else 1 for v in values_)


# What is shipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(recipes.shipped()))
def test_shipped_recipes_load_and_break_no_rule(name):
    r = recipes.load(recipes.shipped()[name])
    assert r.run.name == name
    assert r == recipes.load(Path(name))
    assert [f for f in check(r) if f.severity != "info"] == []


def test_shipped_recipes_are_all_tested_above():
    assert {"ladder", "smollm2-135m"} <= set(recipes.shipped())


def test_the_papers_numbers():
    grpo, clip, kl = (
        recipes.flat(recipes.load(Path(f"qwen2.5-7b-{n}"))) for n in ("grpo", "clip-cov", "kl-cov")
    )
    for r in (grpo, clip, kl):
        assert (r["rollout.prompts"], r["rollout.group_size"], r["loss.mini_batches"]) == (256, 8, 8)
        assert (r["rollout.max_tokens"], r["rollout.temperature"], r["optimizer.lr"]) == (8192, 1.0, 5e-7)
        assert r["validation.every"] == 4 and r["algorithm.filter_groups"] and r["controls.kl_coef"] == 0
    assert clip["controls.clip_cov.ratio"] == 2e-4 and clip["controls.kl_cov.ratio"] == 0
    assert (clip["controls.clip_cov.lower"], clip["controls.clip_cov.upper"]) == (1, 5)
    assert (clip["loss.clip_ratio_low"], clip["loss.clip_ratio_high"]) == (1, 1)
    assert (kl["controls.kl_cov.ratio"], kl["controls.kl_cov.coef"], kl["loss.kind"]) == (
        2e-3,
        1,
        "policy_gradient",
    )
    assert (grpo["loss.clip_ratio_low"], grpo["loss.clip_ratio_high"], grpo["loss.kind"]) == (
        0.2,
        0.2,
        "ppo_clip",
    )
    assert grpo["controls.clip_cov.ratio"] == grpo["controls.kl_cov.ratio"] == 0
    # The three differ in nothing but the method: what the paper's comparison changes is in this list.
    names = {key for a in (clip, kl) for key in grpo if a[key] != grpo[key]}
    assert names == {
        "run.name",
        "loss.kind",
        "loss.clip_ratio_low",
        "loss.clip_ratio_high",
        "controls.clip_cov.ratio",
        "controls.kl_cov.ratio",
    }


def test_reading_a_recipe_needs_no_torch():
    code = (
        "import sys, entlaw.train.rules as r, entlaw.train.recipe as p; r.check(p.load(None));"
        "bad = {'torch', 'pandas', 'scipy', 'transformers'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
