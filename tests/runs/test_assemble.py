"""Rows in logged order become one row a step: late lines, duplicates, restarts, resumes."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.runs.assemble import assemble, split_runs
from entlaw.runs.steps import resolve_step


def frame(*records):
    return pd.DataFrame(list(records), dtype=float)


def codes(assembled):
    return [f.code for f in assembled.findings]


def test_lines_of_one_step_are_merged():
    out = assemble(frame({"step": 0, "val": 0.5}, {"step": 0, "h": 1.0}, {"step": 1, "h": 0.9}))
    assert out.metrics.index.tolist() == [0, 1]
    assert out.metrics.loc[0].to_dict() == {"val": 0.5, "h": 1.0}
    assert codes(out) == []
    assert out.first_row.loc[0, "val"] < out.first_row.loc[0, "h"]


def test_late_evaluation_is_not_a_restart():
    rows = [{"step": s, "h": 1.0 / s} for s in (1, 2, 3)] + [{"step": 2, "val": 0.4}, {"step": 4, "h": 0.2}]
    out = assemble(frame(*rows))
    assert out.metrics["h"].notna().all() and out.metrics.loc[2, "val"] == 0.4
    assert codes(out) == []


def test_late_evaluation_between_logged_steps_is_not_a_restart():
    rows = [{"step": 5, "val": 0.3}, {"step": 9, "h": 1.0}, {"step": 11, "h": 0.9}, {"step": 10, "val": 0.4}]
    out = assemble(frame(*rows))
    assert out.metrics.index.tolist() == [5, 9, 10, 11]
    assert codes(out) == []


def test_resume_replaces_the_steps_trained_twice():
    first = [{"step": s, "h": 2.0 + s} for s in range(1, 11)]
    second = [{"step": s, "h": 100.0 + s} for s in range(8, 15)]
    out = assemble(frame(*first, *second))
    assert out.metrics["h"].tolist() == [2.0 + s for s in range(1, 8)] + [100.0 + s for s in range(8, 15)]
    assert "resumed" in codes(out)


def test_resume_drops_steps_the_second_pass_did_not_reach_again():
    # Trained to 10, resumed from 8, killed at 9: step 10 belongs to a policy that was thrown away.
    out = assemble(
        frame(*({"step": s, "h": 1.0} for s in range(1, 11)), {"step": 8, "h": 2.0}, {"step": 9, "h": 3.0})
    )
    assert out.metrics.index.max() == 9


def test_aborted_run_in_front_is_dropped():
    aborted = [{"step": s, "h": 5.0 + s, "r": 0.1 * s} for s in (1, 2, 3)]
    real = [{"step": s, "h": 1.0 / s, "r": 0.01 * s} for s in range(1, 9)]
    out = assemble(frame(*aborted, *real))
    assert out.metrics["h"].tolist() == [1.0 / s for s in range(1, 9)]
    assert "aborted-run-dropped" in codes(out)


def test_aborted_run_with_identical_steps_lends_its_missing_values():
    # The same seed twice: step 1 is the same policy in both passes, so its evaluation holds for both.
    aborted = [
        {"step": 1, "h": 1.33, "loss": 0.2, "tokens_per_sec": 19.3, "total_steps": 2, "val": 15.6},
        {"step": 2, "h": 0.77, "loss": 0.5, "tokens_per_sec": 19.9, "total_steps": 2, "val": 77.0},
    ]
    real = [
        {"step": 1, "h": 1.33, "loss": 0.2, "tokens_per_sec": 21.0, "total_steps": 9},
        {"step": 2, "h": 0.70, "loss": 0.4, "tokens_per_sec": 22.0, "total_steps": 9},
    ]
    out = assemble(frame(*aborted, *real))
    assert out.metrics.loc[1, "val"] == 15.6
    assert np.isnan(out.metrics.loc[2, "val"])  # that policy was another one
    assert out.metrics.loc[1, "tokens_per_sec"] == 21.0


def test_conflicting_duplicates_are_reported_and_the_later_wins():
    out = assemble(frame({"step": 1, "h": 1.0}, {"step": 1, "h": 0.5}, {"step": 2, "h": 0.4}))
    assert out.metrics.loc[1, "h"] == 0.5
    assert "duplicate-step" in codes(out)


def test_equal_duplicates_are_no_finding():
    assert codes(assemble(frame({"step": 1, "h": 1.0}, {"step": 1, "h": 1.0}, {"step": 2, "h": 0.4}))) == []


def test_row_without_step_takes_the_step_before():
    out = assemble(frame({"step": 1, "h": 1.0}, {"val": 0.5}, {"step": 2, "h": 0.4}))
    assert out.metrics.loc[1, "val"] == 0.5
    assert "step-carried" in codes(out)


def test_no_step_column_numbers_the_rows_and_says_so():
    out = assemble(frame({"h": 1.0}, {"h": 0.5}))
    assert out.metrics.index.tolist() == [1, 2]
    assert "no-step" in codes(out)


def test_training_step_is_preferred_to_the_loggers_counter():
    rows = frame({"_step": 7, "training/global_step": 1, "h": 1.0})
    assert resolve_step(rows).key == "training/global_step"
    assert resolve_step(rows[["_step", "h"]]).key == "_step"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.floats(-5, 5)), min_size=1, max_size=60)
)
def test_nothing_is_invented_and_steps_are_unique(records):
    rows = frame(*({"step": s, k: v} for s, k, v in records))
    out = assemble(rows)
    assert out.metrics.index.is_unique and out.metrics.index.is_monotonic_increasing
    logged = {(s, k, v) for s, k, v in records}
    for s, row in out.metrics.iterrows():
        for k, v in row.dropna().items():
            assert (s, k, v) in logged


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(1, 12)))
def test_disjoint_late_rows_never_lose_a_value(order):
    # Evaluations printed in any order relative to training rows: each key alone still goes forward.
    train = [{"step": s, "h": float(s)} for s in range(1, 12)]
    merged = []
    evals = sorted(order[:4])
    for i, row in enumerate(train):
        merged.append(row)
        if i >= 6 and evals and evals[0] <= row["step"]:
            merged.append({"step": evals.pop(0), "val": 0.5})
    merged += [{"step": s, "val": 0.5} for s in evals]
    out = assemble(frame(*merged))
    assert out.metrics["h"].notna().sum() == 11 and out.metrics["val"].notna().sum() == 4


def test_complete_runs_in_one_file_are_taken_apart():
    one = [{"step": s, "h": 2.0 / s, "r": 0.1} for s in range(1, 31)]
    two = [{"step": s, "h": 1.0 / s, "r": 0.2} for s in range(1, 41)]
    parts = split_runs(frame(*one, *two))
    assert [len(p) for p in parts] == [30, 40]
    assert parts[1]["h"].tolist() == [1.0 / s for s in range(1, 41)] and parts[1].index[0] == 0


def test_an_aborted_start_and_a_resume_are_no_run_of_their_own():
    short = [{"step": s, "h": 2.0 / s} for s in range(1, 6)]
    whole = [{"step": s, "h": 1.0 / s} for s in range(1, 41)]
    again = [{"step": s, "h": 1.0 / s} for s in range(30, 61)]
    assert len(split_runs(frame(*short, *whole))) == 1
    assert len(split_runs(frame(*whole, *again))) == 1
    other = [{"step": s, "h": 3.0 / s} for s in range(1, 41)]
    assert len(split_runs(frame(*whole, *again, *other))) == 2  # a resumed run, then another one
    assert len(split_runs(frame(*whole, *again, *whole))) == 1  # the same numbers again are no other run
    assert len(split_runs(frame({"h": 1.0}, {"h": 0.9}))) == 1  # no step to judge by


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=80))
def test_splitting_keeps_every_row(steps):
    rows = frame(*({"step": s, "h": float(i)} for i, s in enumerate(steps)))
    parts = split_runs(rows)
    assert pd.concat(parts)["h"].tolist() == rows["h"].tolist()
