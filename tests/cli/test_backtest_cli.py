"""``entlaw backtest``: the table, the JSON, the files, the gate and the errors."""

import csv
import json

import pytest

from entlaw.cli.app import run

from ..conftest import law_records, write_jsonl


@pytest.fixture
def sources(tmp_path):
    """Two folders with runs that obey the law, and one run that does not fall."""
    paths = []
    for source, seeds in (("one", (0, 1)), ("two", (2,))):
        (tmp_path / source).mkdir()
        for seed in seeds:
            write_jsonl(tmp_path / source / f"{seed}.jsonl", law_records(n=100, seed=seed))
        paths.append(str(tmp_path / source))
    return paths


def test_json_holds_scores_of_all_and_of_parts(sources, capsys):
    assert run(["backtest", *sources, "--by", "source", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.backtest/1" and told["runs"] == 3 and told["sources"] == 2
    scores = {row["forecaster"]: row for row in told["scores"]}
    assert scores["last value"]["skill"] == pytest.approx(0.0)
    assert scores["entlaw"]["skill"] > 0 and 0 <= scores["entlaw"]["cover80"] <= 1
    assert {row["source"] for row in told["parts"]} == set(sources)
    assert 0 < told["share_answered"]["entropy_fell"] <= 1


def test_the_table_names_every_forecaster(sources, capsys):
    assert run(["backtest", sources[0]]) == 0
    out = capsys.readouterr().out
    for name in ("entlaw", "last value", "paper's law, true H given", "sigmoid in step (ScaleRL)"):
        assert name in out


def test_origins_and_steps_are_as_asked(sources, tmp_path, capsys):
    target = tmp_path / "rows.csv"
    assert (
        run(
            ["backtest", *sources, "--origin", "0.5", "--origin-step", "30", "--no-rivals", "-o", str(target)]
        )
        == 0
    )
    capsys.readouterr()
    with target.open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["forecaster"] for row in rows} == {"entlaw"}
    assert run(["backtest", sources[0], "--no-rivals", "-o", str(tmp_path / "all.json")]) == 0
    assert json.loads((tmp_path / "all.json").read_text())["schema"] == "entlaw.backtest/1"
    assert run(["backtest", sources[0], "-o", str(tmp_path / "all.txt")]) == 2
    assert ".csv" in capsys.readouterr().err
    assert {float(row["step"]) for row in rows} == {28.0, 48.0}


def test_the_gate_fails_when_skill_is_lacking(sources, capsys):
    assert run(["backtest", sources[0], "--gate", "0.0"]) == 0
    assert run(["backtest", sources[0], "--gate", "0.999"]) == 4
    assert "below the gate" in capsys.readouterr().err


def test_the_figure_comes_with_its_numbers(sources, tmp_path, capsys):
    target = tmp_path / "scores.svg"
    assert run(["backtest", sources[0], "--plot", str(target)]) == 0
    first = target.read_bytes()
    assert b"CRPS" in first and "crps" in target.with_suffix(".csv").read_text()
    assert run(["backtest", sources[0], "--plot", str(target)]) == 0
    assert target.read_bytes() == first
    capsys.readouterr()


@pytest.mark.parametrize(
    "bad",
    [
        ["--origin", "1.5"],
        ["--origin-step", "-1"],
        ["--workers", "0"],
        ["--gate", "0.1", "--no-rivals"],
        ["--by", "moon"],
    ],
)
def test_senseless_options_are_usage_errors(sources, bad, capsys):
    assert run(["backtest", sources[0], *bad]) == 2
    assert capsys.readouterr().err


def test_runs_that_cannot_be_forecast_are_a_data_error(tmp_path, capsys):
    flat = law_records(n=60, entropy=[0.5] * 70)
    path = write_jsonl(tmp_path / "flat.jsonl", flat)
    assert run(["backtest", str(path)]) == 3
    assert "entropy-constant" in capsys.readouterr().err
    assert run(["backtest", str(tmp_path / "none")]) == 3
    capsys.readouterr()
