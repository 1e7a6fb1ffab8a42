"""What figures are made from and how they are written: facts of runs, the paper's numbers, bytes, `--check`, errors."""

from __future__ import annotations

import json
import shutil
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

import entlaw.paper as entlaw_paper
from entlaw.cli.app import run as entlaw
from entlaw.paper import figure, reported
from entlaw.paper.figure import Drawn, differences, render
from entlaw.paper.library import RunFacts, library, run_facts
from entlaw.registry import Registry
from entlaw.runs import reader
from tests.conftest import REPO, law_records, write_jsonl


def shipped(name):
    (run,) = reader.read(REPO / "runs" / name)
    return run


@pytest.mark.parametrize(
    "name, method, strength",
    [
        ("grpo-m-rl1", "grpo", None),
        ("rloo-m-rl0", "rloo", None),
        ("clip-higher-m-rl0", "clip-higher", 0.28),
        ("clip-cov-0.05-m-rl0", "clip-cov", 0.05),
        ("kl-cov-m-rl0", "kl-cov", 0.02),
        ("no-clip-m-rl0", "no-clip", None),
        ("entropy-bonus-0.1-m-rl0", "entropy-bonus", 0.1),
        ("reference-kl-0.3-m-rl0", "reference-kl", 0.3),
        ("entropy-target-0.3-m-rl0", "entropy-target", 0.3),
        ("random-reward-m-rl0", "random-reward", None),
        ("high-entropy-tokens-m-rl0", "high-entropy-tokens", 0.2),
        ("prime-beta-0.05-m-rl0", "prime", 0.05),
    ],
)
def test_facts_of_our_runs(name, method, strength):
    found = run_facts(shipped(name))
    assert (found.method, found.strength, found.size) == (method, strength, "m")
    assert found.seed == int(name[-1]) and found.parameters == 134976


def test_the_same_task_and_start_are_equal_texts_and_others_are_not():
    one, two, other = (run_facts(shipped(n)) for n in ("grpo-m-rl0", "random-reward-m-rl0", "grpo-s-base1"))
    assert (
        one.task == two.task == other.task and one.start == other.start and one.base_seed != other.base_seed
    )


def test_facts_of_a_verl_configuration(tmp_path):
    (run,) = reader.read(write_jsonl(tmp_path / "a.jsonl", law_records()))
    config = {
        "algorithm.adv_estimator": "gae",
        "actor_rollout_ref.model.path": "Qwen/Qwen2.5-7B",
        "data.train_files": "/data/gsm8k.parquet",
    }
    object.__setattr__(run, "config", config)
    assert run_facts(run) == RunFacts(
        run.name, "ppo", "ppo", parameters=7e9, size="7B", family="Qwen2.5", task="/data/gsm8k.parquet"
    )
    object.__setattr__(run, "config", {})
    assert run_facts(run) == RunFacts(run.name)


def test_select_by_values_by_any_of_several_and_by_a_condition():
    runs = [shipped(n) for n in ("grpo-xs-rl0", "grpo-s-rl0", "grpo-m-rl0", "rloo-m-rl0")]
    held = library(runs)
    assert [r.name for _, r in held.select(method="grpo", size=("xs", "m"))] == ["grpo-xs-rl0", "grpo-m-rl0"]
    assert [f.size for f, _ in held.select(lambda f: f.parameters < 1e5)] == ["xs", "s"]


def test_the_papers_numbers():
    """Against the paper's own arithmetic: the ceiling is b - a, the average of Table 2 is no mean of its columns."""
    curves = reported.qwen_curves()
    assert np.allclose(curves["b"] - curves["a"], curves["ceiling"], atol=0.02) and len(curves) == 5
    table = reported.table2()
    means = table.iloc[:, 2:9].mean(axis=1)
    assert len(table) == 8 and (means - table["Avg"]).abs().max() > 1
    assert set(reported.numbers("Fig 1")["source"].str.split().str[1]) == {"1"}  # not Figures 10 to 14
    assert sorted(reported.numbers("Table 1")["value"]) == [0.003, 0.152, 0.351, 1.385, 3.112, 5.654]


def drawn(values=(1.0, 2.0, 4.0)):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1.5))
    axes = figure.subplots()
    axes.plot(values, marker="o")
    axes.set_xlabel("step")
    table = pd.DataFrame({"step": [0, 1, 2], "entropy": values, "run": ["a", 'b, "c"', "d"]})
    return Drawn(
        figure, table, "What is seen.", ("a", "b"), {"slope": np.float64(1 / 3), "none": np.nan, "word": "up"}
    )


def made(**kw):
    return render("fig1", "Collapse", drawn(**kw), command="entlaw figures fig1", version="1")


def test_the_same_figure_is_the_same_bytes():
    one, two = made(), made()
    assert one.files == two.files and set(one.files) == {
        f"fig1.{e}" for e in ("pdf", "svg", "png", "csv", "json", "md")
    }
    told = json.loads(one.files["fig1.json"])
    assert told["findings"] == {"slope": 0.33333333, "none": None, "word": "up"} and told["runs"] == [
        "a",
        "b",
    ]
    assert one.files["fig1.csv"].decode() == 'step,entropy,run\n0,1,a\n1,2,"b, ""c"""\n2,4,d\n'
    assert b"`a`, `b`" in one.files["fig1.md"]


@pytest.fixture
def folder(tmp_path):
    for name, data in made().files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_check_finds_nothing_where_nothing_differs(folder):
    assert differences(made(), folder) == []


def test_check_allows_rounding_and_nothing_more(folder):
    assert differences(made(values=(1.0, 2.0 + 1e-7, 4.0)), folder) == []
    wrong = differences(made(values=(1.0, 2.01, 4.0)), folder)
    assert "fig1.csv: line 3 differs" in wrong
    wrong = differences(made(values=(1.0, 3.0, 4.0)), folder)
    assert {f"fig1.{e}: the picture differs" for e in ("png", "svg", "pdf")} <= set(wrong)
    assert differences(made(values=(1.0, 3.0, 4.0)), folder, pictures=False) == ["fig1.csv: line 3 differs"]


@pytest.mark.parametrize("damage", ["gone", "cut", "word", "no picture"])
def test_check_finds_damage(folder, damage):
    if damage == "gone":
        (folder / "fig1.pdf").unlink()
    elif damage == "cut":
        (folder / "fig1.csv").write_text("step,entropy,run\n0,1,a\n")
    elif damage == "word":
        (folder / "fig1.json").write_bytes((folder / "fig1.json").read_bytes().replace(b"What", b"That"))
    else:
        (folder / "fig1.png").write_bytes(b"no picture")
    assert differences(made(), folder)


def test_a_module_of_the_package_is_all_that_a_figure_takes(tmp_path, monkeypatch, capsys):
    """Found by itself, in the paper's order, listed and drawn; a second of its name is an error."""
    (tmp_path / "fig15.py").write_text(
        "from entlaw.paper.figure import figure\n"
        "@figure('fig15', 'Another', needs='no run')\n"
        "def draw(library): return library\n"
    )
    copy: Registry[figure.Figure] = Registry("figure")
    copy.update(figure.figures())
    monkeypatch.setattr(figure, "_FIGURES", copy)
    monkeypatch.setattr(entlaw_paper, "__path__", [*entlaw_paper.__path__, str(tmp_path)])
    before = list(figure._FIGURES)
    try:
        found = figure.figures()
        assert [n for n in found if n not in before] == ["fig15"]
        assert list(found)[12:16] == ["fig13", "fig14", "fig15", "table1"]
        assert figure.draw("fig15", "drawn") == "drawn"
        assert entlaw(["figures", "--list"]) == 0
        assert "fig15   Another (Figure 15); needs no run" in capsys.readouterr().out
    finally:
        sys.modules.pop("entlaw.paper.fig15", None)
        if hasattr(entlaw_paper, "fig15"):
            del entlaw_paper.fig15
    with pytest.raises(ValueError, match="two of the figure 'fig1'"):
        figure.figure("fig1", "Again", needs="no run")(lambda library: library)


def test_the_list_says_what_each_is_and_needs(capsys):
    assert entlaw(["figures", "--list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["figures"]
    names = [*(f"fig{n}" for n in range(1, 15)), "table1", "table2", "theory"]
    assert [f["name"] for f in told] == names and all(f["title"] and f["paper"] and f["needs"] for f in told)


FIGURE = "fig2"  # of the ladder alone


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with some of the shipped runs."""
    (tmp_path / "runs").mkdir()
    for name in ("grpo-xs-rl0", "grpo-s-rl0", "grpo-m-rl0"):
        shutil.copytree(REPO / "runs" / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_drawn_then_checked_then_damaged(checkout, capsys):
    assert entlaw(["figures", FIGURE, "-o", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {p.name for p in (checkout / "out").iterdir()} == {
        "MADE_WITH",
        *(p.removeprefix("out/") for p in told["drawn"][FIGURE]),
    }
    assert (checkout / "out" / "MADE_WITH").read_text() == f"matplotlib {matplotlib.__version__}\n"
    for _ in range(2):
        assert entlaw(["figures", FIGURE, "-o", "out", "--check"]) == 0
    csv = checkout / "out" / f"{FIGURE}.csv"
    csv.write_text(csv.read_text().replace("1", "2", 1))
    before = csv.read_bytes()
    assert entlaw(["figures", FIGURE, "-o", "out", "--check"]) == 3
    assert f"{FIGURE}.csv: line" in capsys.readouterr().out and csv.read_bytes() == before


def test_bad_input(checkout, capsys, monkeypatch):
    assert entlaw(["figures", "fig9", "tabel2"]) == 2
    told = capsys.readouterr().err
    assert "no figure is called tabel2" in told and "nearest: table2" in told and "--list" in told
    (checkout / "file").write_text("")
    assert entlaw(["figures", FIGURE, "-o", "file"]) == 2
    assert entlaw(["figures", FIGURE, "--from", "nothing/here"]) == 3
    assert entlaw(["figures", FIGURE, "-o", "absent", "--check"]) == 3
    assert "missing" in capsys.readouterr().out and not (checkout / "absent").exists()
    (checkout / "empty").mkdir()
    monkeypatch.chdir(checkout / "empty")
    assert entlaw(["figures", FIGURE]) == 3
    assert "--from" in capsys.readouterr().err


def test_any_log_draws_what_it_can_and_says_what_it_lacks(tmp_path, capsys):
    """Four points of one run of nobody knows what: no figure crashes, and each that is not drawn says why."""
    log = write_jsonl(tmp_path / "log.jsonl", law_records(n=12))
    code = entlaw(["figures", "all", "--from", str(log), "-o", str(tmp_path / "out"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert set(told["drawn"]) | set(told["not_drawn"]) == set(figure.figures())
    assert all(error["what"] for error in told["not_drawn"].values()) and code == (0 if told["drawn"] else 3)
    assert "theory" in told["drawn"]
