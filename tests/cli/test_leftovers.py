"""Small promises of the command line: parse errors as JSON, far forecasts, a log given twice."""

from __future__ import annotations

import gzip
import json

import pytest

from entlaw.cli.app import run as entlaw
from tests.conftest import law_records, write_jsonl


@pytest.mark.parametrize("tokens", [["fit", "a", "--nonsense"], ["fit"], ["predict", "a", "--step", "soon"]])
def test_parse_errors_are_json_under_json(capsys, tokens):
    assert entlaw([*tokens, "--json"]) == 2
    out = capsys.readouterr()
    told = json.loads(out.out)
    assert told["schema"] == "entlaw.error/1" and told["exit_code"] == 2 and told["what"]
    assert out.err.startswith("entlaw: ")
    assert entlaw(tokens) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("step", ["1e300", "1e10", "inf", "nan", "-1"])
def test_no_run_has_that_many_steps(law_log, capsys, step):
    assert entlaw(["predict", str(law_log), f"--step={step}"]) == 2
    assert "--step" in capsys.readouterr().err


@pytest.mark.parametrize("step, far", [("100", False), (str(20 * 61), False), (str(20 * 61 + 1), True)])
def test_far_steps_are_called_extrapolation(law_log, capsys, step, far):
    assert entlaw(["predict", str(law_log), "--step", step, "--json"]) == 0
    out = capsys.readouterr()
    assert ("extrapolation" in out.err) == far
    json.loads(out.out)


def test_a_log_and_its_packed_copy_are_one_run(tmp_path, monkeypatch, capsys):
    log = write_jsonl(tmp_path / "a.jsonl", law_records())
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    monkeypatch.chdir(tmp_path)
    for given in (["a.jsonl", "a.jsonl.gz"], [str(packed), "a.jsonl"]):
        assert entlaw(["fit", *given, "--json"]) == 0
        out = capsys.readouterr()
        (run,) = json.loads(out.out)["runs"]
        assert run["path"].endswith("a.jsonl") and "passed over" in out.err
    assert entlaw(["fit", "a.jsonl.gz", "--json"]) == 0
    assert "passed over" not in capsys.readouterr().err
