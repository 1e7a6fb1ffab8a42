"""A run that lost its numbers is told, one that merely ends or logs rarely is not."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.runs.diverged import find_divergence, lost_from
from entlaw.runs.reader import read
from tests.runs.test_choose import table

N = 40


def run_of(tmp_path, records):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    (run,) = read(path)
    return run, {f.code: f for f in run.findings}


def records(entropy="actor/entropy", score="critic/score/mean", **more):
    return [{"step": s, entropy: 1 / s, score: s / 50, "loss": 0.1, **more} for s in range(1, N + 1)]


@pytest.mark.parametrize("broken", [math.nan, math.inf, None])
@pytest.mark.parametrize("at", [2, 22, 37])
def test_an_entropy_without_numbers_from_a_step_on(tmp_path, broken, at):
    rows = records()
    for r in rows[at:]:
        r["actor/entropy"] = broken
    run, found = run_of(tmp_path, rows)
    assert found["diverged"].value == at + 1 and f"step {at + 1}" in found["diverged"].what
    assert run.points["step"].max() == at
    assert "stopped logging" not in found["diverged"].what


@settings(max_examples=40, deadline=None)
@given(st.integers(1, N - 2), st.integers(1, 6), st.booleans())
def test_the_step_is_that_after_the_last_number(at, every, all_keys):
    frame = table({"h": every, "score": 1, "loss": 1}, N)
    frame.loc[frame.index > at, ["h", *(["score", "loss"] if all_keys else [])]] = np.nan
    last = frame["h"].last_valid_index()
    missing = int((frame.index > last).sum())
    told = lost_from(frame, "h")
    usual = every if frame["h"].notna().sum() > 1 else 1
    assert (told is not None) == (missing >= 2 * usual)
    assert told is None or told == (last + 1, missing)


def test_everything_lost_at_once(tmp_path):
    rows = records()
    for r in rows[25:]:
        r |= dict.fromkeys(("actor/entropy", "critic/score/mean", "loss"), math.nan)
    _, found = run_of(tmp_path, rows)
    assert found["diverged"].value == 26


def test_a_score_and_gradients_that_are_lost(tmp_path):
    for key in ("critic/score/mean", "grad_norm"):
        rows = records(grad_norm=1.0)
        for r in rows[30:]:
            r[key] = math.nan
        _, found = run_of(tmp_path, rows)
        assert found["diverged"].value == 31 and key in found["diverged"].what


@pytest.mark.parametrize(
    "end",
    [
        [],
        [{"step": N + i, "val/accuracy": 0.5} for i in range(1, 5)],
        [{"step": N + i, "val/accuracy": 0.5, "training/global_step": N + i, "lr": 0.1} for i in range(1, 5)],
        [{"step": N + 1, "critic/score/mean": 0.5}],
    ],
)
def test_a_run_that_ends_is_not_broken(tmp_path, end):
    _, found = run_of(tmp_path, [*records(), *end])
    assert "diverged" not in found


def test_a_loss_that_is_missing_says_nothing(tmp_path):
    rows = records()
    for r in rows[20:]:
        del r["loss"]
    assert "diverged" not in run_of(tmp_path, rows)[1]


def test_evaluations_that_stop_are_not_broken(tmp_path):
    rows = records(score="loss")
    for r in rows[:20:2]:
        r["val/accuracy"] = r["step"] / 50
    assert "diverged" not in run_of(tmp_path, rows)[1]
    for r in rows[20:]:
        r["val/accuracy"] = math.nan
    assert run_of(tmp_path, rows)[1]["diverged"].value == 20  # the step after the last number


def test_a_renamed_entropy_is_not_broken():
    frame = table({"actor/entropy_loss": 1, "actor/entropy": 1, "critic/score/mean": 1})
    frame.loc[frame.index > 20, "actor/entropy_loss"] = np.nan
    frame.loc[frame.index <= 20, "actor/entropy"] = np.nan
    assert find_divergence(frame, "actor/entropy_loss", ["critic/score/mean"]) is None


@pytest.mark.parametrize("placeholder", [-1.0, -100.0, -999.0])
def test_numbers_that_stand_for_no_score_are_left_out_and_change_no_unit(tmp_path, placeholder):
    rows = records()
    for r in rows[21:]:
        r |= {"actor/entropy": math.nan, "critic/score/mean": placeholder}
    run, found = run_of(tmp_path, rows)
    assert {"diverged", "placeholder-scores"} <= found.keys() and not {
        "not-a-score",
        "signed-score",
    } & found.keys()
    assert len(run.points) == 21 and run.metrics[run.performance_key].min() > 0


def test_a_validation_in_percent_with_placeholders_is_still_percent(tmp_path):
    rows = records(score="val/accuracy")
    for r in rows:
        r["val/accuracy"] = -1.0 if r["step"] in (7, 19) else 100 * r["val/accuracy"]
    run, found = run_of(tmp_path, rows)
    assert found["placeholder-scores"].value == 2 and run.performance_scale == 0.01


def test_rewards_of_minus_one_are_no_placeholders(tmp_path):
    rows = records(**{"critic/score/min": -1.0, "critic/score/max": 1.0})
    rows[0]["critic/score/mean"] = -1.0
    run, found = run_of(tmp_path, rows)
    assert "placeholder-scores" not in found and run.points["performance"].min() == -1
