"""A project of many unlike runs, as teams have them: one useful table."""

from __future__ import annotations

import json

import pytest

from entlaw.cli.__main__ import main
from tests.conftest import law_records
from tests.wandb.source_server import _one_server, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")

RECORDS = [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=41))]
EVALUATION = [{"_step": 0, "aime24/pass@1": 0.31, "amc/pass@1": 0.5}]


def _without_entropy(rows):
    return [{key: value for key, value in row.items() if "entropy" not in key} for row in rows]


def test_runs_of_all_sorts_make_one_table(wb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    wb.add("team/proj/a", EVALUATION, name="evaluation")
    wb.add("team/proj/b", RECORDS, name="whole")
    wb.add("team/proj/c", RECORDS[:13], name="broken", state="crashed")
    wb.add("team/proj/d", [], name="empty", state="failed")
    wb.add("team/proj/e", _without_entropy(RECORDS), name="blind")
    wb.add("team/proj/f", RECORDS[:30], name="alive", state="running")
    assert main(["fit", "team/proj"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()[0] in {"whole", "broken", "alive"}}
    assert {name: row.split()[1] for name, row in rows.items()} == {
        "whole": "finished",
        "broken": "crashed",
        "alive": "running",
    }
    order = [line.split()[0] for line in lines[1:7]]
    assert order == ["whole", "broken", "alive", "evaluation", "empty", "blind"]  # usable ones first
    assert "unreadable" in lines[4] and "no entropy in this log" in lines[4]
    assert lines[5].split()[1] == "failed" and "no metrics were logged" in lines[5]
    assert "3 of 6 runs cannot be read: 2 no entropy in this log; 1 no metrics were logged" in lines
    assert main(["fit", "team/proj", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert [one["label"] for one in told] == ["evaluation", "whole", "broken", "empty", "blind", "alive"]
