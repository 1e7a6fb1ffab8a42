"""Following runs on a W&B server through the real client: growing, failing, refused; alerts raised on them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import entlaw
from entlaw.cli.__main__ import main
from entlaw.cli.output import plain
from entlaw.errors import DataError
from entlaw.watch import follow
from entlaw.watch.course import course
from entlaw.watch.follow import Follower
from entlaw.watch.notify import Notifier, WandbAlert
from entlaw.watch.report import Alert
from entlaw.watch.watcher import Watcher
from tests.conftest import law_records
from tests.wandb.source_server import _one_server, status, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")

RECORDS = [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=61, noise=0.003))]
SOURCE = "wandb:me/proj/r1"


class Looks:
    """Something happens on the server before each further look."""

    def __init__(self, *happenings):
        self.now, self.happenings = 0.0, list(happenings)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.happenings:
            self.happenings.pop(0)()

    def events(self, **options):
        return course(
            Follower([SOURCE]),
            lambda seen: Watcher(80, name="r1"),
            every=30,
            clock=self.clock,
            sleep=self.sleep,
            **options,
        )


def growing(run, *lengths):
    def grow(n):
        def happen():
            run.rows = RECORDS[:n]

        return happen

    return [grow(n) for n in lengths]


def told(events):
    return [json.dumps(plain(e.report.to_dict())) for e in events if e.report is not None]


def test_a_growing_run_ends_in_the_report_of_the_whole_and_when_its_state_is_final(wb):
    run = wb.add("me/proj/r1", RECORDS[:20], state="running")

    def finish():
        run.state = "crashed"

    events = list(Looks(*growing(run, 33, 34, 62), finish).events())
    (whole,) = entlaw.read(SOURCE)
    alone = Watcher(80, name="r1")
    alone.look(whole)
    assert told(events)[-1] == json.dumps(plain(alone.report.to_dict()))
    assert [e.text for e in events if e.kind == "status"] == ["r1 is running", "r1 is crashed"]
    assert events[-1].text == "run-over"


def test_a_server_that_is_away_is_told_once_and_does_not_end_it(wb):
    run = wb.add("me/proj/r1", RECORDS[:40], state="running")
    back = growing(run, 62)[0]

    def fall():
        wb.faults.append(status(500))

    def recover():
        wb.faults.clear()
        back()

    events = list(Looks(fall, lambda: None, recover).events(until_idle=70))
    assert len([e for e in events if e.kind == "trouble"]) == 1
    assert json.loads(told(events)[-1])["step"] == 61
    assert events[-1].text == "idle"


@pytest.mark.parametrize("code", [403, 404])
def test_a_run_that_is_taken_away_ends_it_with_the_reason(wb, code):
    wb.add("me/proj/r1", RECORDS[:40], state="running")

    def refuse():
        if code == 403:
            wb.faults.append(status(403))
        else:
            wb.runs.clear()

    looks = Looks(refuse)
    with pytest.raises(DataError) as caught:
        list(looks.events())
    assert looks.now == 30 * follow.FINAL  # not at the first refusal: a server may be wrong for a moment
    assert ("no access" if code == 403 else "r1") in str(caught.value)


def test_a_run_that_never_was_is_said_at_once(wb, capsys):
    assert main(["watch", SOURCE]) == 3
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err


def alert_server(wb, success=True):
    got = []

    def answer(handler, operation, variables):
        if "severity" not in variables:
            return False
        got.append(variables)
        handler.reply(200, json.dumps({"data": {"notifyScriptableRunAlert": {"success": success}}}).encode())
        return True

    wb.faults.append(answer)
    return got


def test_an_alert_is_raised_on_the_watched_run(wb, capsys):
    wb.add("me/proj/r1", RECORDS, state="running", name="my run")
    got = alert_server(wb)
    code = main(
        [
            "watch",
            SOURCE,
            "--wandb-alert",
            "--stop-when",
            "step > 5",
            "--total-steps",
            "900",
            "--json",
            "--once",
        ]
    )
    out = capsys.readouterr().out
    assert code == 5
    report = json.loads(out.splitlines()[0])
    codes = [a["code"] for a in report["alerts"]]
    assert [v["title"] for v in got] == [f"entlaw: {c}" for c in codes]
    for variables in got:
        assert {k: variables[k] for k in ("entityName", "projectName", "runName", "severity")} == {
            "entityName": "me",
            "projectName": "proj",
            "runName": "r1",
            "severity": "WARN",
        }


@pytest.mark.parametrize("fault", ["no success", "refused"])
def test_an_alert_that_is_not_taken_is_told_and_ends_nothing(wb, fault):
    wb.add("me/proj/r1", RECORDS)
    watcher = Watcher(80)
    watcher.look(entlaw.read(SOURCE)[0])
    alert = Alert("run-ended", 61.0, "the run is crashed")
    if fault == "no success":
        alert_server(wb, success=False)
    else:
        wb.faults.append(status(403))
    said = []
    where = {"entity": "me", "project": "proj", "run_id": "r1"}
    Notifier([WandbAlert(wb.url)], said.append).send(replace(watcher.report, alerts=(alert,)), where)
    assert len(said) == 1 and "the watching goes on" in said[0] and "k" * 40 not in said[0]


def test_a_run_that_crashes_under_our_eyes_is_an_alert(wb, capsys):
    run = wb.add("me/proj/r1", RECORDS[:40], state="running")
    got = alert_server(wb)

    def crash(handler, operation, variables):
        if wb.asked("Run") > 2:
            run.state = "crashed"
        return False

    wb.faults.insert(0, crash)
    code = main(["watch", SOURCE, "--wandb-alert", "--json", "--every", "0.2s"])
    *_, before, alert, last, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 0
    assert (alert["schema"], alert["code"], alert["what"]) == (
        "entlaw.alert/1",
        "run-ended",
        "the run is crashed",
    )
    assert (before["step"], before["state"]) == (last["step"], "running")
    assert (last["state"], last["alerts"]) == ("finished", [])
    assert end["why"] == "run-over" and (end["runs"][0]["status"], end["runs"][0]["state"]) == (
        "crashed",
        "finished",
    )
    assert got[-1]["title"] == "entlaw: run-ended"
