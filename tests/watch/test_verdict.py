"""Verdicts and alarms: which word when, that it does not flicker, and that each alarm is raised once."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import entlaw
from entlaw.findings import Finding
from entlaw.law.fit import fit_points
from entlaw.limits import FEW_POINTS
from entlaw.points import Points
from entlaw.watch import watcher as module
from entlaw.watch.report import VERDICT_CODES, Alert, Stop
from entlaw.watch.verdict import (
    LIKELY,
    MEANINGFUL_GAIN,
    OUT_OF_SCOPE,
    OVER,
    alarms,
    judge,
    new_alarms,
    standing_alarms,
)
from tests.conftest import REPO, law_records, write_jsonl

# Errors that more points of the same run can mend: they leave a verdict open.
MENDABLE = {"too-few-evaluations", "entropy-range-small", "one-point-carries-fit", "ceiling-not-identified"}


@dataclass(frozen=True)
class Odds:
    """A future of which one number is known."""

    gain: float | None
    refused: tuple[Finding, ...] = ()

    def probability(self, quantity, above):
        assert (quantity, above) == ("gain", MEANINGFUL_GAIN)
        return self.gain


def error(code, severity="error"):
    return Finding(code, severity, f"it is {code}")


@given(st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_the_odds_decide(p):
    verdict, why = judge(FEW_POINTS, Odds(p), ())
    assert verdict == ("keep-going" if p >= LIKELY else "saturating" if 1 - p >= LIKELY else "cannot-tell")
    assert f"{p:.2f}" in why


@pytest.mark.parametrize("code", sorted(OUT_OF_SCOPE))
def test_what_no_further_point_mends_is_out_of_scope_whatever_the_odds(code):
    assert judge(20, Odds(0.99), [error("too-few-evaluations"), error(code)]) == (
        "does-not-apply",
        f"it is {code}",
    )
    assert judge(20, Odds(None, (error(code),)), ())[0] == "does-not-apply"
    assert judge(20, Odds(0.99), [error(code, "warning")])[0] == "keep-going"
    assert judge(FEW_POINTS - 1, Odds(0.99), [error(code)])[0] == "cannot-tell"  # too early to say even that


@pytest.mark.parametrize("code", sorted(MENDABLE))
def test_what_more_points_can_mend_leaves_it_open(code):
    assert judge(20, Odds(None), [error(code)]) == ("cannot-tell", f"it is {code}")


def test_every_error_there_is_is_either():
    """A new refusal of the law or of the reader must be given a place; a code that is gone must lose it."""
    found = set()
    for folder in ("law", "runs"):
        for path in (REPO / "entlaw" / folder).glob("*.py"):
            found |= set(re.findall(r'"([a-z-]+)",\s*"error"', path.read_text(encoding="utf-8")))
    built = {"entropy-constant", "too-few-evaluations", "entropy-not-per-token", "performance-not-a-score"}
    assert found | built == OUT_OF_SCOPE | MENDABLE


WORDS = sorted(VERDICT_CODES)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_a_word_is_told_when_it_has_held_and_since_when_it_did(words, confirm):
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


def test_a_stray_score_may_cast_doubt_and_never_turns_the_word_round():
    """Ten times the noise below the law, in the middle of a run: it is not called saturated for that."""
    records = law_records(n=149, tau=60.0, noise=0.004)
    for r in records:
        if r["step"] == 120:
            r["val/accuracy"] -= 0.04
    watcher = entlaw.Watcher(640)
    for record in records:
        watcher.observe(record["step"], record)
    told = {r.step: r.verdict for r in watcher.reports}
    assert all(told[s] == "keep-going" for s in told if 40 <= s <= 121)
    assert {told[s] for s in told if s > 121} <= {"keep-going", "cannot-tell"}


def test_scores_in_two_units_are_out_of_scope(tmp_path):
    records = law_records(n=81)
    for r in records:
        if "val/accuracy" in r and r["step"] not in (20, 40):
            r["val/accuracy"] *= 100
    (run,) = entlaw.read(write_jsonl(tmp_path / "mixed.jsonl", records), entlaw.Selection(on="val"))
    assert "mixed-units" in {f.code for f in run.findings}
    report = entlaw.Watcher(200).look(run)
    assert report.verdict == "does-not-apply" and "fractions among percentages" in report.why


def collapsing(entropy):
    return [a.code for a in alarms(8.0, np.array(entropy, dtype=float), None, None, None, ())]


def test_collapse_is_the_median_of_three():
    assert collapsing([0.5, 0.4, 0.01]) == []
    assert collapsing([0.5, 0.04, 0.01]) == ["entropy-collapsed"]
    assert collapsing([0.01, 0.4, 0.01]) == ["entropy-collapsed"]
    assert collapsing([0.01, 0.01]) == []


def test_a_collapse_is_seen_where_the_fit_no_longer_looks():
    h = np.concatenate([np.linspace(1.0, 0.2, 40), np.linspace(0.2, 0.01, 30), np.full(32, 0.01)])
    for until in (None, 36):
        watcher = entlaw.Watcher(200, until_step=until)
        for record in law_records(n=100, entropy=h):
            watcher.observe(record["step"], record)
        first = next(r for r in watcher.reports for a in r.alerts if a.code == "entropy-collapsed")
        assert first.fit.n == (10 if until else first.points) and 60 <= first.step <= 77, until


def test_an_alarm_is_raised_again_only_after_it_was_over_for_a_while():
    on, off = (Alert("entropy-collapsed", 1.0, "x"),), (Alert("stop-rule", 1.0, "y"),)
    standing, raised = {}, []
    for now in (off, on, on, *[off] * (OVER - 1), on, *[off] * OVER, on, on):
        raised.append([a.code for a in new_alarms(now, standing)])
        standing = standing_alarms(now, standing)
    at = [i for i, codes in enumerate(raised) if "entropy-collapsed" in codes]
    assert at == [1, 3 + OVER - 1 + 1 + OVER]
    assert [i for i, codes in enumerate(raised) if "stop-rule" in codes] == [0]


def test_the_stop_rule_is_an_alarm_when_it_fires():
    held = Stop("step > 3", None, False, 2)
    fired = Stop("step > 3", None, True, 3)
    assert alarms(8.0, np.ones(9), None, None, held, ()) == ()
    (alert,) = alarms(8.0, np.ones(9), None, None, fired, ())
    assert alert.code == "stop-rule" and "step > 3 held at 3" in alert.what


def test_no_word_on_the_ceiling_of_a_law_that_does_not_hold():
    steps = np.arange(0.0, 36.0, 4.0)
    h = np.exp(-steps / 30)
    fit = fit_points(Points.from_arrays(steps, h, 0.8 - 0.2 * np.exp(h)), until_step=None)
    told = [a.code for a in alarms(32.0, h, fit, 0.9, None, ())]
    assert told == ["ceiling-below-target"]
    assert alarms(32.0, h, fit, 0.9, None, [error("ceiling-not-identified")]) == ()
    assert alarms(32.0, h, fit, fit.ceiling, None, ()) == ()
