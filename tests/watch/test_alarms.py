"""Alarms and confirmation: that a verdict counts when it has held, and that each alarm is raised once."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.findings import Finding
from entlaw.law.result import examine
from entlaw.limits import FEW_POINTS
from entlaw.points import Points
from entlaw.watch import watcher as module
from entlaw.watch.alarms import QUIET, count_standing, find_alarms, select_new
from entlaw.watch.report import VERDICT_CODES, Alert, Stop
from tests.conftest import law_records, write_jsonl

VALIDATION = entlaw.Selection(on="val")
WORDS = sorted(VERDICT_CODES)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_a_verdict_is_confirmed_when_it_has_held_and_since_when_it_did(words, confirm):
    """Against the definition, read off the whole sequence: the last unbroken stretch long enough."""
    state = module._State()
    for i, word in enumerate(words):
        state = module._confirmed(state, word, float(10 * i), confirm)
        stretches, start = [], 0
        for j in range(1, i + 2):
            if j == i + 1 or words[j] != words[start]:
                if start == 0 or j - start >= confirm:
                    stretches.append((words[start], start))
                start = j
        told, since = stretches[-1]
        for earlier, began in reversed(stretches[:-1]):  # a word that came back was never taken back
            if earlier != told:
                break
            since = began
        assert (state.verdict, state.since) == (told, 10.0 * since)


def test_a_stray_score_may_cast_doubt_and_never_turns_the_verdict_round():
    """Ten times the noise below the law, in the middle of a run: it is not called a plateau for that."""
    records = law_records(n=149, tau=60.0, noise=0.004)
    for r in records:
        if r["step"] == 120:
            r["val/accuracy"] -= 0.04
    watcher = entlaw.Watcher(640)
    for record in records:
        watcher.observe(record["step"], record)
    told = {r.step: r.result.forecast.verdict for r in watcher.reports}
    assert all(told[s] == "improving" for s in told if 40 <= s < 121)
    assert {told[s] for s in told if s >= 121} <= {"improving", "uncertain"}


def test_a_new_verdict_is_shown_at_once_and_confirmed_at_the_second_report():
    """The report's words are its own result's; what is confirmed is the step since which they have held."""
    watcher = entlaw.Watcher(220, selection=VALIDATION)
    for record in law_records(n=201, tau=12.0, noise=0.003):
        watcher.observe(record["step"], record)
    verdicts = [r.result.forecast.verdict for r in watcher.reports]
    confirmed, held, changes = verdicts[0], 1, 0
    since, began = watcher.reports[0].step, watcher.reports[0].step
    for i, report in enumerate(watcher.reports[1:], 1):
        same = verdicts[i] == verdicts[i - 1]
        held, began = (held + 1, began) if same else (1, report.step)
        if verdicts[i] != confirmed and held >= module.CONFIRM:
            confirmed, since, changes = verdicts[i], began, changes + 1
        assert report.since == (since if verdicts[i] == confirmed else None)
    assert changes >= 2 and any(r.since is None for r in watcher.reports)


def test_scores_in_two_units_are_refused(tmp_path):
    records = law_records(n=81)
    for r in records:
        if "val/accuracy" in r and r["step"] not in (20, 40):
            r["val/accuracy"] *= 100
    (run,) = entlaw.read(write_jsonl(tmp_path / "mixed.jsonl", records), VALIDATION)
    assert "mixed-units" in {f.code for f in run.findings}
    result = entlaw.Watcher(200).look(run).result
    assert (result.verdict, result.forecast.verdict) == ("refused", "refused")
    assert result.forecast.why == "2 scores are at most 0.562 and 19 at least 20.5"


def known(entropy, *findings, ceiling=None, verdict="uncertain"):
    """A result of which the entropy, the findings and the forecast's ceiling are known."""
    points = Points.from_arrays(np.arange(len(entropy)), entropy, np.full(len(entropy), 0.5))
    ahead = SimpleNamespace(findings=findings, ceiling=ceiling, verdict=verdict)
    return SimpleNamespace(points=points, forecast=ahead, findings=())


def collapsing(entropy):
    return [a.code for a in find_alarms(known(entropy), 8.0)]


def test_collapse_is_the_median_of_three():
    assert collapsing([0.5, 0.4, 0.01]) == []
    assert collapsing([0.5, 0.04, 0.01]) == ["entropy-collapsed"]
    assert collapsing([0.5, 0.01, 0.4, 0.01]) == ["entropy-collapsed"]
    assert collapsing([0.01, 0.01]) == []


@pytest.mark.parametrize("start", [0.03, 0.08, 0.5, 1.2, 2.5])
def test_a_collapse_is_relative_to_the_start_of_the_run(start):
    """A model trained on instructions starts at 0.03 to 0.1 nats, and is not collapsed for that."""
    fall = np.linspace(1.0, 0.14, 30)
    assert collapsing(start * fall) == []
    assert collapsing(start * np.concatenate([fall, [0.11, 0.11]])) == ["entropy-collapsed"]
    assert collapsing(np.full(30, start)) == []


def test_a_collapse_is_seen_where_the_law_no_longer_looks():
    h = np.concatenate([np.linspace(1.0, 0.2, 40), np.linspace(0.2, 0.01, 30), np.full(32, 0.01)])
    for how, window in (({}, 36), ({"until_step": None}, None)):
        watcher = entlaw.Watcher(200, selection=VALIDATION, **how)
        for record in law_records(n=100, entropy=h):
            watcher.observe(record["step"], record)
        first = next(r for r in watcher.reports for a in r.alerts if a.code == "entropy-collapsed")
        n = first.result.points.n
        assert first.result.law.n == (10 if window else n) and 60 <= first.step <= 77, window


def test_an_alarm_is_raised_again_only_after_it_was_over_for_a_while():
    on, off = (Alert("entropy-collapsed", 1.0, "x"),), (Alert("stop-rule", 1.0, "y"),)
    standing, raised = {}, []
    for now in (off, on, on, *[off] * (QUIET - 1), on, *[off] * QUIET, on, on):
        raised.append([a.code for a in select_new(now, standing)])
        standing = count_standing(now, standing)
    at = [i for i, codes in enumerate(raised) if "entropy-collapsed" in codes]
    assert at == [1, 3 + QUIET - 1 + 1 + QUIET]
    assert [i for i, codes in enumerate(raised) if "stop-rule" in codes] == [0]


def test_the_stop_rule_is_an_alarm_when_it_fires():
    held = Stop("step > 3", None, False, 2)
    fired = Stop("step > 3", None, True, 3)
    assert find_alarms(known(np.ones(9)), 8.0, stop=held) == ()
    (alert,) = find_alarms(known(np.ones(9)), 8.0, stop=fired)
    assert alert.code == "stop-rule" and "step > 3 held at 3" in alert.what


@pytest.mark.parametrize("where", ["law", "forecast"])
def test_an_exploding_entropy_is_an_alarm_whoever_finds_it(where):
    found = Finding("entropy-exploded", "error", "entropy is 9", "too much")
    result = known(np.ones(9))
    (result if where == "law" else result.forecast).findings = (found,)
    (alert,) = find_alarms(result, 8.0)
    assert (alert.code, alert.what, alert.why) == ("entropy-exploding", "entropy is 9", "too much")


def test_no_word_on_the_ceiling_of_a_run_that_cannot_be_forecast():
    """The forecast's ceiling (with growth), its whole interval, from 8 points on."""
    steps = np.arange(0.0, 4.0 * FEW_POINTS, 4.0)
    h = np.exp(-steps / 30)
    result = examine(Points.from_arrays(steps, h, 0.8 - 0.2 * np.exp(h)))
    ceiling = result.forecast.ceiling.interval
    assert 0.55 < ceiling.hi < 0.9
    (alert,) = find_alarms(result, 28.0, 0.9)
    assert alert.code == "ceiling-below-target" and f"{result.forecast.ceiling.median:.3f}" in alert.what
    assert find_alarms(result, 28.0, ceiling.hi) == ()
    few = examine(result.points.first(FEW_POINTS - 1))
    assert few.forecast.ceiling is not None and find_alarms(few, 24.0, 2.0) == ()
    forced = known(h, ceiling=result.forecast.ceiling, verdict="refused")
    assert find_alarms(forced, 28.0, 0.9) == ()
