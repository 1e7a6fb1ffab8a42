"""Runs of a W&B server as a SOURCE: what is found, in which order, under which names, and joined how."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys

import pandas as pd
import pytest

import entlaw
from entlaw.cli import options
from entlaw.cli.__main__ import main
from entlaw.errors import SourceNotFound, UsageError
from entlaw.runs import reader
from entlaw.runs.prepare import Selection
from entlaw.runs.wandb.address import parse
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.listing import Query, find
from tests.conftest import law_records
from tests.wandb.source_server import ServedRun, _one_server, slow, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")


def rows_of(seed):
    return [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=41, seed=seed))]


RECORDS = rows_of(0)


def test_a_run_is_a_source_in_python_and_on_the_command_line(wb, tmp_path, capsys):
    wb.add("me/proj/r1", RECORDS, config={"trainer": {"total_epochs": 3}})
    path = tmp_path / "same.jsonl"
    path.write_text("\n".join(map(json.dumps, law_records(n=41))))
    (offline,) = entlaw.read(path)
    for source in ("me/proj/r1", "proj/r1", "wandb:me/proj/r1", f"{wb.url}/me/proj/runs/r1/overview?nw=1"):
        (run,) = entlaw.read(source)
        pd.testing.assert_frame_equal(run.points, offline.points, check_exact=True)
        assert run.config["trainer.total_epochs"] == 3
        assert run.provenance.format == "wandb" and run.provenance.path == f"{wb.url}/me/proj/runs/r1"
    assert main(["fit", "me/proj/r1", "--json"]) == 0
    told, err = capsys.readouterr()
    (one,) = json.loads(told)["runs"]
    assert one["law"]["n"] == len(offline.points[offline.points["step"] <= 36]) and err == ""


def test_the_second_call_asks_only_for_what_is_new(wb):
    run = wb.add("me/proj/r1", RECORDS[:30], state="running")
    entlaw.read("me/proj/r1")
    run.rows = RECORDS
    wb.log.clear()
    (again,) = entlaw.read("me/proj/r1")
    assert [v["minStep"] for op, v in wb.log if op == "HistoryPage"] == [29]  # the last known row once more
    wb.add("me/proj/whole", RECORDS)
    (whole,) = entlaw.read("me/proj/whole")
    pd.testing.assert_frame_equal(again.points, whole.points, check_exact=True)


def test_a_path_that_exists_wins(wb, tmp_path, monkeypatch):
    wb.add("me/proj/r1", RECORDS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "proj").mkdir(parents=True)
    (tmp_path / "me" / "proj" / "r1").write_text("\n".join(map(json.dumps, law_records(n=20))))
    (run,) = entlaw.read("me/proj/r1")
    assert run.provenance.format != "wandb" and wb.log == []
    with pytest.raises(SourceNotFound, match="no such file"):
        entlaw.read("me/proj/r2")  # its first part is a folder here: the rest was misspelt
    assert wb.log == []
    (run,) = entlaw.read("wandb:me/proj/r1")
    assert run.provenance.format == "wandb"


def test_two_names_are_told_apart_by_the_server_and_never_guessed(wb):
    wb.add("me/solo/r1", RECORDS)
    wb.add("team/proj/r2", RECORDS)
    assert [ref.path for ref in find(Client(), parse("solo/r1"))] == ["me/solo/r1"]
    assert [ref.path for ref in find(Client(), parse("team/proj"))] == ["team/proj/r2"]
    wb.add("me/team/proj", RECORDS)
    with pytest.raises(
        UsageError, match=r"both a run \(me/team/proj\) and a project \(team/proj\)"
    ) as caught:
        find(Client(), parse("team/proj"))
    assert "me/team/proj" in str(caught.value.hint)
    assert len(find(Client(), parse(f"{wb.url}/team/proj"))) == 1  # a URL is plain
    assert len(find(Client(), parse("team/proj"), Query(filters={"state": "finished"}))) == 1


def test_runs_of_a_project_by_conditions(wb):
    for i in range(250):
        wb.add(
            f"me/proj/r{i:03}",
            [],
            group=f"g{i % 2}",
            tags=["paper"] * (i % 5 == 0),
            config={"lr": 10.0 ** -(i % 3)},
            state="finished" if i % 7 else "crashed",
        )
    client, project = Client(), parse(f"{wb.url}/me/proj")
    assert [ref.id for ref in find(client, project)] == [f"r{i:03}" for i in range(250)]
    assert wb.asked("Runs") == 3  # pages of a hundred
    assert len(find(client, project, Query(group="g1", tags=("paper",)))) == 25
    assert len(find(client, project, Query(filters={"config.lr": {"$lte": 0.05}}))) == 83
    assert [r.id for r in find(client, project, Query(limit=3))] == ["r000", "r001", "r002"]
    assert [r.id for r in find(client, project, Query(limit=120))] == [f"r{i:03}" for i in range(120)]
    assert {r.final for r in find(client, project, Query(limit=5))} == {True}
    assert len(find(client, parse(f"{wb.url}/me/proj/groups/g0/workspace"))) == 125
    with pytest.raises(SourceNotFound, match="no run fits") as caught:
        find(client, project, Query(group="g9"))
    assert "g9" in str(caught.value.why)
    with pytest.raises(UsageError, match="choose among the runs"):
        find(client, parse("me/proj/r001"), Query(group="g1"))


def test_ten_thousand_runs_are_asked_about_first(wb, monkeypatch):
    wb.add("me/huge/r0", RECORDS)
    many = ServedRun("me", "huge", "r1", [])
    wb.runs += [many] * 9_999
    project = parse(f"{wb.url}/me/huge")
    with pytest.raises(UsageError, match="10,000 runs") as caught:
        find(Client(), project)
    assert "--limit" in str(caught.value.hint) and "--yes" in str(caught.value.hint)
    assert wb.asked("Runs") == 1  # one page told the number
    asked = []
    with pytest.raises(UsageError):
        find(Client(), project, Query(confirm=lambda count: asked.append(count) or False))
    assert asked == [10_000]
    assert len(find(Client(), project, Query(limit=1))) == 1
    assert main(["fit", f"{wb.url}/me/huge"]) == 2  # not a terminal: nobody to ask


def test_the_question_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, meant in (("y\n", True), ("n\n", False), ("\n", False), ("", False)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        monkeypatch.setattr(sys, "stderr", shown := Terminal())
        assert options.ask(10_000) is meant
        assert "10,000 runs" in shown.getvalue()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert options.ask(10_000) is False


def test_many_runs_in_order_with_unique_names_though_some_are_slow(wb):
    for i in range(6):
        wb.add(f"me/proj/r{i}", rows_of(i), name="grpo")
    wb.faults.append(
        lambda handler, op, v: op == "Run" and v.get("name") == "r0" and slow(0.3)(handler, op, v)
    )
    readings = list(reader.scan(f"{wb.url}/me/proj"))
    assert [r.name for r in readings] == [f"grpo (r{i})" for i in range(6)]
    assert all(r.run is not None for r in readings)


def test_one_run_that_is_unusable_does_not_cost_the_others(wb):
    wb.add("me/proj/r1", RECORDS)
    wb.add("me/proj/r2", [])
    wb.add("me/proj/r3", [{"_step": 0, "x": 1.0}, {"_step": 1, "x": 2.0}])
    one, two, three = reader.scan(f"{wb.url}/me/proj")
    assert one.run is not None
    assert two.run is None and "no metrics" in str(two.error) and "no history" in str(two.error)
    assert three.run is None and "no entropy" in str(three.error)


def split_in_two(wb) -> None:
    """A trainer that logs the entropy and an orchestrator that logs the score, as two runs of one group."""
    keys = [k for k in RECORDS[0] if "entropy" in k]
    trainer = [{k: v for k, v in r.items() if k[0] == "_" or k == "step" or k in keys} for r in RECORDS]
    other = [{k: v for k, v in r.items() if k not in keys} for r in RECORDS]
    wb.add("me/proj/trainer1", trainer, group="run7", name="trainer")
    wb.add("me/proj/orch1", other, group="run7", name="orchestrator")
    wb.add("me/proj/lone", rows_of(1), name="lone")
    wb.add("me/other/whole", RECORDS)


def test_trainer_and_orchestrator_of_one_group_are_joined(wb):
    split_in_two(wb)
    (whole,) = entlaw.read("me/other/whole")
    for source in ("me/proj/trainer1", "me/proj/orch1", f"{wb.url}/me/proj/groups/run7"):
        (run,) = entlaw.read(source, Selection(join=True))
        pd.testing.assert_frame_equal(run.points, whole.points, check_exact=True)
    both, lone = reader.scan(f"{wb.url}/me/proj", Selection(join=True))
    assert both.run is not None and lone.run is not None and lone.name == "lone"


def test_joining_is_proposed_when_a_run_lacks_a_series_that_its_group_may_have(wb):
    split_in_two(wb)
    (reading,) = reader.scan("me/proj/trainer1")
    assert "orchestrator" in str(reading.error.hint) and "--join" in str(reading.error.hint)


def test_the_step_is_that_of_the_metric_definitions(wb):
    rows = [
        {"_step": 3 * i, "train/step": i, **{f"train/{k}": v for k, v in r.items() if k != "step"}}
        for i, r in enumerate(law_records(n=41))
    ]
    rows = [{("actor/entropy" if "entropy" in k else k): v for k, v in r.items()} for r in rows]
    wb.add("me/proj/r1", rows, config={"_wandb": {"value": {"m": [{"1": "train/step"}, {"2": "*", "5": 1}]}}})
    (reading,) = reader.scan("me/proj/r1")
    assert reading.raw.provenance.details["step_axis"].startswith("train/step (define_metric)")
    assert reading.raw.rows["step"].max() == len(rows) - 1


def test_a_report_means_the_runs_of_its_run_sets(wb):
    for i in range(4):
        wb.add(f"me/proj/r{i}", RECORDS, state="finished" if i else "crashed")
    wb.add("me/other/x", RECORDS)
    name = base64.b64encode(b"View:42").decode()
    condition = {"key": {"section": "run", "name": "state"}, "op": "=", "value": "finished"}
    spec = {
        "blocks": [
            {
                "type": "panel-grid",
                "metadata": {
                    "runSets": [
                        {
                            "filters": {"op": "OR", "filters": [{"op": "AND", "filters": [condition]}]},
                            "selections": {"root": 1, "tree": ["r2"]},
                        },
                        {
                            "filters": None,
                            "project": {"entityName": "me", "name": "other"},
                            "selections": {"root": 0, "tree": ["x"]},
                        },
                        {"filters": None, "enabled": False},
                    ]
                },
            }
        ]
    }
    wb.reports = [{"id": name, "name": "n", "displayName": "A report", "spec": json.dumps(spec)}]
    url = f"{wb.url}/me/proj/reports/A-report--{name.rstrip('=')}"
    assert [ref.path for ref in find(Client(), parse(url))] == ["me/proj/r1", "me/proj/r3", "me/other/x"]
    with pytest.raises(SourceNotFound, match="no such report"):
        find(Client(), parse(f"{wb.url}/me/proj/reports/Another--Vmlldzo0Mw"))


def test_conditions_on_a_path_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, law_records(n=20))))
    assert main(["fit", str(tmp_path / "a.jsonl"), "--group", "g"]) == 2


def test_nothing_of_wandb_is_imported_before_it_is_needed():
    code = (
        "import sys, entlaw.cli.app, entlaw.runs.reader, entlaw.runs.wandb.online, entlaw.runs.wandb.listing; "
        "print([m for m in sys.modules if m == 'wandb' or m.startswith('wandb.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
