"""``entlaw sizes``, ``compare`` and ``plan`` as a user meets them."""

import json

import numpy as np
import pytest

import entlaw
from entlaw.cli.__main__ import main
from tests.conftest import REPO, law_records, write_jsonl

RUNS = REPO / "runs"


def run(capsys, *args):
    code = main([str(a) for a in args])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


@pytest.fixture
def family(tmp_path):
    """Runs of four sizes with a and b linear in ln N; two seeds each."""
    for n, text in ((0.5e9, "0.5B"), (1.5e9, "1.5B"), (3e9, "3B"), (7e9, "7B")):
        a, b = 0.05 + 0.04 * np.log(n / 1e8), 0.2 + 0.12 * np.log(n / 1e8)
        for seed in (0, 1):
            write_jsonl(
                tmp_path / f"Qwen2.5-{text}-seed{seed}.jsonl", law_records(a=a, b=b, seed=seed, noise=0.002)
            )
    return tmp_path


def test_sizes_finds_the_lines_and_forecasts_another_size(capsys, family, tmp_path):
    code, out, _ = run(capsys, "sizes", family, "--at", "14B", "--json")
    told = json.loads(out)
    assert code == 0 and told["schema"] == "entlaw.sizes/1" and len(told["runs"]) == 8
    line = told["lines"]["b"]
    assert line["slope_interval"]["lo"] < 0.12 < line["slope_interval"]["hi"]
    assert line["slope"] == pytest.approx(0.12, abs=0.01)
    (forecast,) = told["forecasts"]
    ceiling = forecast["values"]["ceiling"]
    assert ceiling["interval"]["lo"] < 0.15 + 0.08 * np.log(140) < ceiling["interval"]["hi"]
    plot = tmp_path / "sizes.png"
    code, out, _ = run(capsys, "sizes", family, "--at", "1e15", "--plot", plot)
    assert code == 0 and "do not use" in out and "far-from-trained-sizes" in out
    assert plot.read_bytes()[:4] == b"\x89PNG"
    rows = (tmp_path / "sizes.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 4


def test_sizes_told_by_the_user(capsys, tmp_path):
    for i, n in enumerate((1, 2, 4)):
        write_jsonl(tmp_path / f"run-{i}.jsonl", law_records(seed=i, b=0.7 + 0.05 * n))
    code, _, err = run(capsys, "sizes", tmp_path)
    assert code == 3 and "does not tell the model's size" in err
    options = [x for i, n in enumerate((1, 2, 4)) for x in ("--size", f"run-{i}={n}B")]
    code, out, _ = run(capsys, "sizes", tmp_path, *options, "--json")
    assert code == 0 and [r["parameters"] for r in json.loads(out)["runs"]] == [1e9, 2e9, 4e9]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--at", "big"], "no model size"),
        (["--size", "7B"], "PATTERN=SIZE"),
        (["--entropy", "-1"], "negative"),
    ],
)
def test_sizes_bad_options(capsys, family, options, says):
    code, _, err = run(capsys, "sizes", family, *options)
    assert code == 2 and says in err


def test_sizes_of_one_size_cannot_be(capsys):
    code, _, err = run(capsys, "sizes", str(RUNS / "rloo-m-*"), "--force")
    assert code == 3 and "at least three" in err


def test_sizes_says_whether_algorithms_may_be_pooled(capsys, tmp_path):
    for n in (1, 2, 4):
        for seed in (0, 1, 2):
            for algorithm, b in (("grpo", 0.8), ("rloo", 0.8), ("other", 0.9)):
                log = law_records(seed=100 * n + 10 * seed + ord(algorithm[0]), b=b, noise=0.004)
                write_jsonl(tmp_path / f"{algorithm}-{n}B-seed{seed}.jsonl", log)
    code, out, _ = run(capsys, "sizes", tmp_path / "grpo*", tmp_path / "rloo*")
    assert code == 0 and "no difference in a and b was found" in out
    code, out, _ = run(capsys, "sizes", tmp_path)
    assert code == 0 and "do not share a and b" in out
    code, out, _ = run(capsys, "sizes", tmp_path / "grpo*", "--json")
    assert json.loads(out)["algorithms"] is None


def test_compare_pairs_seeds_and_agrees_with_the_runs(capsys):
    code, out, _ = run(
        capsys, "compare", RUNS / "grpo-m-rl*", RUNS / "no-clip-m-rl*", "--all", "--force", "--json"
    )
    told = json.loads(out)
    assert code == 0 and told["schema"] == "entlaw.compare/1"
    final = next(d for d in told["differences"] if d["quantity"] == "final")
    assert final["unit"] == "paired runs" and final["n"] == 3

    def means(pattern):
        values = []
        for one in entlaw.read(str(RUNS / pattern)):
            p = one.points
            last = p["step"] >= p["step"].max() - 0.25 * (p["step"].max() - p["step"].min())
            values.append(p["performance"][last].mean())
        return np.array(values)

    d = means("no-clip-m-rl*") - means("grpo-m-rl*")
    assert final["difference"] == pytest.approx(d.mean(), abs=2e-3)
    code, out, _ = run(capsys, "compare", RUNS / "grpo-m-rl*", RUNS / "no-clip-m-rl*", "--no-paired")
    assert code == 0 and "6 runs" in out


def test_compare_one_with_one_warns(capsys, tmp_path):
    a = write_jsonl(tmp_path / "a.jsonl", law_records(seed=1))
    b = write_jsonl(tmp_path / "b.jsonl", law_records(seed=2, b=0.9))
    code, out, _ = run(capsys, "compare", a, b)
    assert code == 0 and "better" in out and "one-run-a-side" in out
    code, out, _ = run(capsys, "compare", b, a)
    assert "worse" in out
    code, _, err = run(capsys, "compare", a, tmp_path / "missing.jsonl")
    assert code == 3 and "no such file" in err


def test_plan_prints_the_cheapest_design(capsys, tmp_path):
    plot = tmp_path / "plan.svg"
    code, out, _ = run(
        capsys,
        "plan",
        "--problems",
        "200",
        "--problems",
        "4000",
        "--samples",
        "1",
        "--validate-every",
        "4",
        "--replicates",
        "20",
        "--margin",
        "0.03",
        "--plot",
        plot,
    )
    assert (
        code == 0
        and "cheapest within ±3 points: 4000 problems x 1 samples every 4 steps (40,000 answers" in out
    )
    assert plot.read_text().startswith("<?xml")
    assert len((tmp_path / "plan.csv").read_text().splitlines()) == 3
    code, out, _ = run(
        capsys, "plan", "--problems", "30", "--replicates", "20", "--validate-every", "6", "--json"
    )
    told = json.loads(out)
    assert code == 0 and told["schema"] == "entlaw.plan/1" and told["cheapest"] is None


def test_plan_like_an_earlier_run(capsys, tmp_path):
    log = write_jsonl(tmp_path / "a.jsonl", law_records(n=121, noise=0.003))
    small = ("--problems", "500", "--samples", "1", "--validate-every", "4", "--replicates", "20")
    code, out, _ = run(capsys, "plan", "--like", log, *small, "--json")
    assumed = json.loads(out)["assumed"]
    assert code == 0
    assert assumed["a"] == pytest.approx(0.25, abs=0.01) and assumed["b"] == pytest.approx(0.85, abs=0.015)
    assert assumed["tau"] == pytest.approx(18.0, rel=0.1) and assumed["entropy_floor"] == pytest.approx(
        0.05, abs=0.01
    )
    assert assumed["wander"] < 0.01


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--margin", "2"], "no fraction"),
        (["--level", "1"], "between 0 and 1"),
        (["--replicates", "1"], "too few"),
        (["--problems", "0"], "at least 1"),
        (["--validate-every", "20"], "four validations"),
        (["--within", "0"], "must be positive"),
        (["--plot", "x.gif"], "cannot plot"),
    ],
)
def test_plan_bad_options(capsys, options, says):
    code, _, err = run(capsys, "plan", *options)
    assert code == 2 and says in err
