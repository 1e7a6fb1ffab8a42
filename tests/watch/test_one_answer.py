"""`entlaw watch --once`, a watcher and `examine` say the same of one log, whenever the watching began."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import entlaw
from entlaw.cli.__main__ import main
from entlaw.cli.output import plain
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.runs import reader
from entlaw.runs.ending import reported_status, without_status
from entlaw.watch.course import Watched, course
from entlaw.watch.follow import Follower
from entlaw.watch.report import Alert
from entlaw.watch.watcher import Watcher
from tests.conftest import REPO, law_records, write_jsonl

SHIPPED = ["grpo-m-rl0", "kl-cov-m-rl1", "entropy-bonus-0.1-m-rl0", "smollm2/mawps-grpo"]
OWN = {"schema", "step", "since", "stop", "alerts"}


def said(result):
    """What `examine` says, as a line of JSON holds it: without the points of the law."""
    told = plain(result.to_dict())
    if told["law"] is not None:
        del told["law"]["points"]
    return told


def shown(capsys, *args):
    assert main(["watch", "--once", "--json", *map(str, args)]) == 0
    report, end = map(json.loads, capsys.readouterr().out.splitlines())
    return report, end


@pytest.mark.parametrize("name", SHIPPED)
def test_all_views_of_a_shipped_run_agree(capsys, name):
    folder = REPO / "runs" / name
    (run,) = reader.read(folder)  # its findings name options of the command line, as those of watch do
    alone = said(examine(run))
    report, end = shown(capsys, folder)
    seen = plain(Watcher().look(run).to_dict())
    assert report.keys() - alone.keys() == seen.keys() - alone.keys() == OWN
    for key, value in alone.items():
        assert report[key] == value, key
        assert seen[key] == value, key
    assert alone["state"] == "finished"
    assert alone["forecast"]["verdict"] == "refused" or alone["forecast"]["gain"]["if_continued"]
    (last,) = end["runs"]
    assert (last["state"], last["verdict"]) == (alone["state"], alone["verdict"])
    assert last["forecast"]["verdict"] == alone["forecast"]["verdict"]


def test_options_mean_the_same(capsys):
    folder = REPO / "runs" / "grpo-m-rl0"
    (run,) = entlaw.read(folder)
    report, _ = shown(capsys, folder, "--all", "--total-steps", 400, "--level", 0.8)
    alone = said(examine(run, Settings(until_step=None, total_steps=400.0, level=0.8)))
    assert {key: report[key] for key in alone} == alone
    assert report["law"]["until_step"] is None and report["law"]["n"] == report["n"] == 61


def running(step, status=True):
    """A shipped run as its log was at a step."""
    (run,) = entlaw.read(REPO / "runs" / "grpo-m-rl0")
    run = run if status else without_status(run)
    return replace(run, points=run.points[run.points["entropy_step"] <= step], metrics=run.metrics.loc[:step])


def test_the_last_report_has_all_that_the_log_holds_and_the_ones_before_only_their_points():
    """Scores at every fourth step, with their own entropy: three more of the batches lie in the log at step 51."""
    run = running(51, status=False)
    points = entlaw.Points.from_run(run)
    assert points.log_step[-1] == 51 and points.entropy_step[-1] == 48
    *before, last = Watcher().replay(run)
    assert said(last.result) == said(examine(run))
    known = [points.log_step[points.log_step <= step] for step in points.entropy_step[:-1]]
    assert [list(r.result.points.log_step) for r in before] == [list(steps) for steps in known]
    assert [len(steps) for steps in known[:3]] == [0, 4, 8]  # the batches begin at step 1
    for n in (3, len(before)):
        assert said(before[n - 1].result) == said(examine(run, points=points.first(n)))


def test_a_watcher_that_starts_late_says_what_one_that_was_there_says():
    often, late = Watcher(stop_when="P(gain > 1%) < 0.2"), Watcher(stop_when="P(gain > 1%) < 0.2")
    for step in (7, 8, 9, 22, 23, 51, 52, 60):
        often.look(running(step, status=False))
    late.look(running(60, status=False))
    assert len(often.reports) == len(late.reports) == 16
    assert [plain(r.to_dict()) for r in often.reports] == [plain(r.to_dict()) for r in late.reports]


def test_that_a_run_is_over_is_said_of_its_last_report_alone():
    """The history is what was said at the time, when the run was going."""
    over = running(51)
    assert reported_status(over) == "finished"
    *before, last = Watcher().replay(over)
    assert {r.result.state for r in before} == {"running"} and last.result.state == "finished"
    assert last.result.forecast.gain.if_continued and last.result.forecast.gain.until == "planned-end"


def test_no_rule_fires_of_a_run_that_is_over():
    rule = {"stop_when": "step > 1", "patience": 1, "least_points": 13}
    over, going = Watcher(**rule).look(running(51)), Watcher(**rule).look(running(51, status=False))
    assert going.stop.fired
    assert not over.stop.fired and over.stop.why == "the run is over"


def test_what_the_log_holds_at_the_end_is_told_once_more_and_alerts_are_not(tmp_path):
    """The last score comes at step 60; two more entropies change the forecast, and no score is told twice."""
    h = np.concatenate([np.linspace(1.0, 0.02, 50), np.full(15, 0.02)])
    records = law_records(n=63, entropy=h)
    path = write_jsonl(tmp_path / "run.jsonl", records[:62])
    grow = iter([records[:63], records])

    def sleep(seconds):
        if (more := next(grow, None)) is not None:
            write_jsonl(path, more)

    clock = iter(range(100))
    watched = {}
    events = list(
        course(
            Follower([str(path)]),
            lambda seen: Watcher(300, name="x"),
            until_idle=3,
            watched=watched,
            clock=lambda: next(clock),
            sleep=sleep,
        )
    )
    told = [e.report for e in events if e.report is not None]
    assert [r.result.points.n for r in told] == [*range(1, 17), 16]
    (run,) = entlaw.read(path)
    (one,) = watched.values()
    alone = examine(replace(run, name="x"), Settings(total_steps=300.0))
    assert said(told[-1].result) == said(one.watcher.report.result) == said(alone)
    assert said(told[-2].result) != said(told[-1].result)
    codes = [a.code for r in told for a in r.alerts]
    assert codes.count("entropy-collapsed") == 1


def test_an_alert_that_the_last_look_raised_is_not_raised_again_by_the_next():
    """Raised by a report that was made of more than its points, and gone from the one of the points alone."""
    first, both = (Watcher(300).replay(running(step, status=False)) for step in (49, 53))
    alerts = (Alert("entropy-exploding", 49.0, "it explodes"),)
    watched = Watched("k", "x", SimpleNamespace(reports=[*first[:-1], replace(first[-1], alerts=alerts)]))
    assert watched.take_new()[-1].alerts == alerts
    watched.watcher.reports = [*both[:-1], replace(both[-1], alerts=alerts)]
    (new,) = watched.take_new()
    assert new.alerts == () and new.result.points.n == len(first) + 1
    assert watched.take_new() == [] == watched.take_last()
