"""A project of many unlike runs, as teams have them: one useful table."""

from __future__ import annotations

import json

import pytest

from entlaw import Selection, read, scan
from entlaw.cli.__main__ import main
from entlaw.runs.ending import reported_status
from tests.conftest import law_records
from tests.wandb.source_server import _one_server, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")


def _rows(seed):
    return [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=41, seed=seed))]


RECORDS = _rows(0)
EVALUATION = [{"_step": 0, "aime24/pass@1": 0.31, "amc/pass@1": 0.5}]


def _without_entropy(rows):
    return [{key: value for key, value in row.items() if "entropy" not in key} for row in rows]


def test_runs_of_all_sorts_make_one_table(wb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    wb.add("team/proj/a", EVALUATION, name="evaluation")
    wb.add("team/proj/b", RECORDS, name="whole")
    wb.add("team/proj/c", _rows(1)[:13], name="broken", state="crashed")
    wb.add("team/proj/d", [], name="empty", state="failed")
    wb.add("team/proj/e", _without_entropy(_rows(2)), name="blind")
    wb.add("team/proj/f", _rows(3)[:30], name="alive", state="running")
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


def _runs(capsys):
    assert main(["fit", "team/proj", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"]


def test_a_run_logged_by_every_rank_is_one_run(wb, capsys):
    for rank in range(4):
        rows = [{**row, "_timestamp": row["_timestamp"] + rank / 7} for row in _rows(0)]
        wb.add(f"team/proj/r{rank}", rows, name=f"rank{rank}", group="job")
    wb.add("team/proj/seed", _rows(1), name="seed", group="job")
    one, seed = _runs(capsys)
    told = {f["code"]: f for f in one["findings"]}
    assert one["label"].startswith("rank") and one["state"] == "finished" and told["same-run"]["value"] == 4
    assert sum(f"r{rank} [rank{rank}]" in told["same-run"]["what"] for rank in range(4)) == 4
    assert seed["label"] == "seed" and "same-run" not in {f["code"] for f in seed["findings"]}


def test_a_run_without_history_is_part_of_no_other(wb, capsys, tmp_path):
    wb.add("team/proj/a", _rows(0), name="whole")
    wb.add("team/proj/b", [], name="empty", state="failed")
    assert [one["label"] for one in _runs(capsys)] == ["whole", "empty"]
    assert main(["pull", "team/proj", "-o", str(tmp_path / "pulled")]) == 0
    assert sorted(reading.name for reading in scan(tmp_path / "pulled")) == ["empty", "whole"]


@pytest.mark.parametrize(
    "states, state",
    [
        (("finished", "finished"), "finished"),
        (("finished", "running"), "running"),
        (("crashed", "finished"), "crashed"),
        (("crashed", "running"), "running"),
    ],
)
def test_a_joined_run_goes_as_its_parts_do(wb, states, state):
    blind = _without_entropy(RECORDS)
    keys = {"_step", "_timestamp", "step", "actor/entropy"}
    seeing = [{key: row[key] for key in keys & row.keys()} for row in RECORDS]
    copies = (seeing, seeing, blind)  # the trainer logs from two ranks
    for i, (rows, said) in enumerate(zip(copies, (states[0], *states), strict=True)):
        wb.add(f"team/proj/r{i}", rows, name=f"part{i}", group="job", state=said)
    (one,) = read("team/proj", Selection(join=True))
    assert reported_status(one) == state and {"joined", "same-run"} <= {f.code for f in one.findings}
