"""Recipes put together from parts, and the paper's experiments among them, checked against its numbers."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from entlaw.cli.app import run
from entlaw.errors import UsageError
from entlaw.tasks import manifest
from entlaw.train import catalogue, footprint_shapes
from entlaw.train import recipe as recipes
from entlaw.train.recipe import settings
from entlaw.train.rules import check

EXPERIMENTS = [e for e in catalogue.catalogue().values() if e.kind == "experiment"]
PARTS = [e for e in catalogue.catalogue().values() if e.kind == "part"]


def flat(name):
    return recipes.flat(recipes.load(Path(name)))


def differ(a, b):
    """Settings in which two recipes differ, their names apart."""
    one, two = flat(a), flat(b)
    return {key: (one[key], two[key]) for key in one if one[key] != two[key] and key != "run.name"}


@pytest.mark.parametrize("entry", EXPERIMENTS, ids=lambda e: e.name)
def test_every_experiment_loads_breaks_no_rule_and_names_what_exists(entry):
    r = recipes.load(Path(entry.name))
    assert r.run.name == entry.name
    assert [f for f in check(r) if f.severity != "info"] == []
    assert r.policy.path in footprint_shapes.known()
    shape = footprint_shapes.shape_of(r.policy)
    assert r.rollout.max_prompt_tokens + r.rollout.max_tokens <= shape.context
    for name in f"{r.task.name},{r.task.validation}".split(","):
        assert not name or manifest.get(name)


def test_the_experiments_are_those_of_the_paper():
    models = {recipes.load(Path(e.name)).policy.path for e in EXPERIMENTS if e.name.startswith("law-math-")}
    assert len({m for m in models if not m.endswith("Instruct")}) == 11  # Figure 3
    assert {recipes.load(Path(e.name)).algorithm.name for e in EXPERIMENTS} == {
        "grpo",
        "rloo",
        "prime",
        "reinforce_plus_plus",
    }
    assert sum(e.name.startswith("law-code-") for e in EXPERIMENTS) == 6


def test_the_numbers_of_section_2():
    for name in ("law-math-qwen2.5-0.5b", "law-math-llama3.1-8b", "law-code-qwen2.5-32b"):
        r = flat(name)
        assert (r["rollout.prompts"], r["rollout.group_size"], r["optimizer.lr"]) == (512, 8, 5e-7)
        assert (r["loss.clip_ratio_low"], r["loss.clip_ratio_high"], r["controls.kl_coef"]) == (0.2, 0.2, 0)
        assert r["algorithm.filter_groups"] and r["validation.every"] == 4 and r["loss.kind"] == "ppo_clip"
        assert r["controls.clip_cov.ratio"] == r["controls.kl_cov.ratio"] == r["controls.entropy_coeff"] == 0
    assert flat("law-math-qwen2.5-7b-prime")["prime.lr"] == 1e-6
    weak = ("llama3.1-8b", "llama3.2-3b", "mistral-7b", "mistral-nemo-12b", "deepseek-math-7b")
    assert {flat(f"law-math-{m}")["task.name"] for m in weak} == {"gsm8k"}
    strong = ("qwen2.5-0.5b", "qwen2.5-32b", "mistral-small-24b")
    assert {flat(f"law-math-{m}")["task.name"] for m in strong} == {"eurus-2-rl-math"}
    assert differ("law-math-qwen2.5-7b", "law-math-qwen2.5-7b-rloo") == {"algorithm.name": ("grpo", "rloo")}


def test_the_numbers_of_section_4():
    """What the comparison of the paper changes between its four methods, and between its two sizes."""
    assert differ("qwen2.5-7b-grpo", "qwen2.5-7b-clip-higher") == {"loss.clip_ratio_high": (0.2, 0.28)}
    assert differ("qwen2.5-7b-grpo", "qwen2.5-7b-clip-cov") == {
        "loss.clip_ratio_low": (0.2, 1),
        "loss.clip_ratio_high": (0.2, 1),
        "controls.clip_cov.ratio": (0, 2e-4),
    }
    assert differ("qwen2.5-7b-grpo", "qwen2.5-7b-kl-cov") == {
        "loss.kind": ("ppo_clip", "policy_gradient"),
        "controls.kl_cov.ratio": (0, 2e-3),
    }
    assert flat("qwen2.5-7b-kl-cov")["controls.kl_cov.coef"] == 1
    for method in ("grpo", "clip-higher", "clip-cov", "kl-cov"):
        seven, large = f"qwen2.5-7b-{method}", f"qwen2.5-32b-{method}"
        assert flat(seven)["optimizer.lr"] == 5e-7 and flat(large)["optimizer.lr"] == 1e-6
        of_experiment = {
            k for k in differ(seven, large) if k.startswith(("loss.", "controls.", "rollout.", "algorithm."))
        }
        # micro_batch changes memory, not the result; k is a tenth at 32B.
        assert of_experiment - {"loss.micro_batch"} == (
            {"controls.kl_cov.ratio"} if method == "kl-cov" else set()
        )
    assert flat("qwen2.5-32b-kl-cov")["controls.kl_cov.ratio"] == 2e-4


def test_the_ladders_of_the_figures():
    def ladder(start, key):
        return sorted(flat(e.name)[key] for e in EXPERIMENTS if e.name.startswith(start))

    assert ladder("entropy-loss-", "controls.entropy_coeff") == [1e-4, 1e-3, 5e-3, 1e-2]
    assert ladder("reference-kl-", "controls.kl_coef") == [1e-3, 1e-2, 5e-2, 1e-1]
    assert ladder("qwen2.5-7b-clip-cov", "controls.clip_cov.ratio") == [2e-4, 4e-4, 5e-4, 7e-4]
    kl = [flat(e.name) for e in EXPERIMENTS if e.name.startswith("qwen2.5-7b-kl-cov")]
    assert sorted(r["controls.kl_cov.coef"] * (r["controls.kl_cov.ratio"] > 0) for r in kl) == [
        0,
        0.05,
        0.1,
        0.5,
        1,
    ]
    assert {r["loss.kind"] for r in kl} == {"policy_gradient"}  # the ladder's 0 is GRPO without a clip


def test_every_number_says_where_it_comes_from():
    for part in PARTS:
        lines = part.files[0].read_text().splitlines()
        bare = [
            x
            for x in lines
            if "=" in x and not x.startswith(("#", "[")) and not re.search(r"# .*\[[PCFE]\]|# \[", x)
        ]
        # PRIME's own recipe is named once for several lines.
        assert bare == [] or part.name == "prime", (part.name, bare)


def test_parts_are_small_and_change_what_they_are_called_after():
    for part in PARTS:
        keys = {f"{t}.{k}" for t, table in tomllib.loads(part.files[0].read_text()).items() for k in table}
        assert "." not in part.says[:3] and len(part.says) > 10
        assert part.name in ("law", "cov") or len(keys) <= 6, part.name


# Sums ------------------------------------------------------------------------------------------------


def test_later_parts_win_files_and_names_mix_and_overrides_come_last(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("[optimizer]\nlr = 3e-6\n[loss]\nclip_ratio_high = 0.3\n")
    r = recipes.load(Path(f"qwen2.5-7b-clip-higher+{mine}"))
    assert (r.optimizer.lr, r.loss.clip_ratio_high) == (3e-6, 0.3)
    assert recipes.load(Path(f"{mine}+cov+clip-higher")).loss.clip_ratio_high == 0.28
    assert r.run.name == "qwen2.5-7b-clip-higher+mine"
    r = recipes.load(Path(f"law+{mine}"), ["optimizer.lr=1.0", "run.name=x"])
    assert (r.optimizer.lr, r.run.name) == (1.0, "x")


def test_an_experiment_can_be_changed_further():
    r = recipes.load(Path("law-math-qwen2.5-3b+rloo+clip-cov"))
    assert (r.policy.path, r.algorithm.name, r.controls.clip_cov.ratio) == ("Qwen/Qwen2.5-3B", "rloo", 2e-4)


def test_a_file_with_a_plus_in_its_name_is_a_file(tmp_path):
    file = tmp_path / "a+b.toml"
    file.write_text("[run]\nsteps = 7\n")
    assert recipes.load(file).run.steps == 7


def test_a_wrong_line_in_a_sum_says_in_which_file(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[loss]\nclip_ratio_hihg = 0.3\n")
    with pytest.raises(UsageError, match=r"bad\.toml, line 2.*clip_ratio_hihg"):
        recipes.load(Path(f"law+{bad}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("law+qwen2.5-7", "qwen2.5-7b"),
        ("law++rloo", "beside a +"),
        ("+", "beside a +"),
        ("law+rlo", "rloo"),
        ("law-math-qwen2.5-7b-rlo", "law-math-qwen2.5-7b-rloo"),
        ("zzzz", "--list"),
    ],
)
def test_a_misspelled_name_is_told_its_neighbours(name, said):
    with pytest.raises(UsageError) as caught:
        recipes.load(Path(name))
    assert said in str(caught.value) and caught.value.exit_code == 2


def test_names_are_unique_and_none_shadows_another():
    names = [e.name for e in (*EXPERIMENTS, *PARTS)] + list(recipes.shipped())
    assert len(names) == len(set(names)) == len(catalogue.catalogue())
    assert not [n for n in names if "+" in n or "/" in n]


def test_what_is_set_by_a_part_is_a_setting():
    for part in PARTS:
        given = recipes.from_dict(tomllib.loads(part.files[0].read_text()))
        assert set(recipes.changes(given)) <= set(settings())


# Commands --------------------------------------------------------------------------------------------


def test_list_shows_all_of_it_a_line_each(capsys):
    assert run(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry in catalogue.catalogue().values():
        assert sum(line.split()[:1] == [entry.name] for line in lines) == 1
    assert run(["train", "--list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.recipes/1" and len(told["recipes"]) == len(catalogue.catalogue())
