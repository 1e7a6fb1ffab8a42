"""One run that lies in several logs is one run; several runs stay several."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw import compare, fit_all, read, scan
from entlaw.errors import UsageError
from entlaw.runs import likely, trace
from entlaw.runs.gather import gather
from entlaw.runs.reader import Part, read_raw
from tests.conftest import law_records, write_jsonl
from tests.runs import writers as w

RECORDS = w.series(0)


def note(run, code="same-run"):
    return next((f for f in run.findings if f.code == code), None)


def assert_exact(run, records, column="entropy", values="entropy"):
    found = dict(zip(run.points["step"], run.points[column], strict=True))
    assert found == {r["step"]: r[values] for r in records}


# One run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [None, 3, 4, 6])
@pytest.mark.parametrize("exact", ["file", "wandb", "events"])
def test_a_console_beside_an_exact_log_is_the_same_run(tmp_path, exact, decimals):
    w.console(tmp_path / "z.log", RECORDS, decimals)
    if exact == "file":
        w.verl_file(tmp_path / "a.jsonl", RECORDS)
    elif exact == "wandb":
        w.wandb_file(tmp_path / "wandb" / "run-1-abc" / "run-abc.wandb", RECORDS)
    else:
        w.event_file(tmp_path / "tb" / "events.out.tfevents.1.h.1.0", w.verl_records(RECORDS))
    (run,) = read(tmp_path)
    told = note(run)
    assert "z.log" in told.what and "equal values" in told.why and told.value == 2
    if exact != "events":
        assert_exact(run, RECORDS)
    elif decimals is None:  # single precision is a rounding of what the console prints in full
        assert run.provenance.format == "verl-console"


@settings(max_examples=15)
@given(
    decimals=st.sampled_from([None, 3, 4, 5]),
    cut=st.integers(5, 40),
    ended=st.integers(30, 40),
    first=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_the_console_fills_what_a_killed_logger_lacks(tmp_path_factory, decimals, cut, ended, first, seed):
    folder = tmp_path_factory.mktemp("run")
    records = w.series(seed)
    w.console(folder / ("a.log" if first else "z.log"), records[:cut], decimals)
    w.verl_file(folder / "m.jsonl", records[:ended])
    (run,) = read(folder)
    found = dict(zip(run.points["step"], run.points["entropy"], strict=True))
    assert sorted(found) == list(range(1, max(cut, ended) + 1))
    for record in records[: max(cut, ended)]:
        exact = record["step"] <= ended or decimals is None
        tolerance = 0 if exact else 0.5001 * 10**-decimals
        assert abs(found[record["step"]] - record["entropy"]) <= tolerance


def test_keys_that_only_one_log_holds_come_with_it(tmp_path):
    w.verl_file(tmp_path / "m.jsonl", RECORDS)
    lines = [
        {"step": r["step"], "actor/entropy": r["entropy"]}
        | ({"val-core/math/acc/mean@8": 0.3 + r["step"] / 100} if r["step"] % 5 == 0 else {})
        for r in RECORDS
    ]
    w.json_lines(tmp_path / "val.jsonl", lines)
    (run,) = read(tmp_path)
    assert run.performance_key == "val-core/math/acc/mean@8"
    assert run.metrics[run.performance_key].dropna().index.tolist() == list(range(5, 41, 5))
    assert "values that it lacks" in note(run).what


def test_a_series_under_another_name_is_no_new_key(tmp_path):
    w.verl_file(tmp_path / "m.jsonl", RECORDS)
    table = [
        {**{k: r[k] for k in ("step", "actor/entropy", "actor/pg_loss")}, "accuracy": r["critic/score/mean"]}
        for r in w.verl_records(RECORDS)
    ]
    w.json_lines(tmp_path / "mine.jsonl", table)
    (run,) = read(tmp_path)
    assert run.performance_key == "critic/score/mean" and "accuracy" not in run.metrics.columns


def test_the_order_within_a_step_is_kept_when_a_log_is_completed(tmp_path):
    # A validation before training at the step of the first entropy, logged first.
    records = [{"step": 1, "val/accuracy": 0.2}, *law_records(n=30)[1:]]
    write_jsonl(tmp_path / "m.jsonl", records)
    rows = [{k: r[k] for k in ("step", "actor/entropy", "reward/mean")} for r in law_records(n=34)[1:]]
    write_jsonl(tmp_path / "z.jsonl", rows)
    (run,) = read(tmp_path)
    assert run.metrics.index.max() == 34
    assert run.points["entropy_step"].tolist()[:2] == [1, 5]


def test_a_hugging_face_output_folder_is_one_run(tmp_path):
    out = tmp_path / "out"
    w.trainer_state(out / "trainer_state.json", RECORDS)
    for step in (1, 2, 20, 40):
        w.trainer_state(out / f"checkpoint-{step}" / "trainer_state.json", RECORDS[:step])
    stamp = out / "runs" / "Jan01_00-00-00_host"
    w.event_file(stamp / "events.out.tfevents.1.h.1.0", w.trl_records(RECORDS, None, "train/"))
    w.event_file(
        stamp / "1700000000.5" / "events.out.tfevents.1.h.1.1", [{"step": 0}]
    )  # settings, no scalars
    (out / "all_results.json").write_text('{"train_loss": 0.1, "train_runtime": 3.0}')
    lines = [str({k: v for k, v in r.items() if k != "step"}) for r in w.trl_records(RECORDS, 4)]
    (out / "train.log").write_text("\n".join(lines) + "\n")
    (reading,) = scan(out)
    assert len(reading.run.points) == 40 and note(reading.run).value == 8


def test_checkpoints_alone_are_one_run(tmp_path):
    for step in (5, 10, 25):  # the run has not ended
        w.trainer_state(tmp_path / f"checkpoint-{step}" / "trainer_state.json", RECORDS[:step])
    (run,) = read(tmp_path)
    assert len(run.points) == 25 and note(run).value == 3


def test_steps_that_a_resume_discarded_stay_discarded(tmp_path):
    first = [*RECORDS[:20], *w.again(RECORDS[20:30], 7)]
    w.trainer_state(tmp_path / "trainer_state.json", RECORDS)
    w.trainer_state(tmp_path / "checkpoint-20" / "trainer_state.json", RECORDS[:20])
    w.trainer_state(tmp_path / "checkpoint-30" / "trainer_state.json", first)
    for i, records in enumerate((first, RECORDS[20:])):
        rows = w.trl_records(records, None, "train/")
        w.event_file(tmp_path / "runs" / f"Jan0{i + 1}_00-00-00_h" / f"events.out.tfevents.{i}.h.1.0", rows)
    (run,) = read(tmp_path)
    entropy = run.points.set_index("step")["entropy"]
    want = np.array([r["entropy"] for r in RECORDS])
    np.testing.assert_allclose(entropy.loc[1:40], want, atol=5.1e-5)


def test_another_training_in_the_same_output_folder_stays_apart(tmp_path):
    w.trainer_state(tmp_path / "trainer_state.json", w.series(1))
    w.trainer_state(tmp_path / "checkpoint-30" / "trainer_state.json", w.series(2)[:30])
    assert len(read(tmp_path)) == 2


def test_a_wandb_folder_is_one_run_whatever_its_console_holds(tmp_path):
    home = tmp_path / "wandb" / "run-20260101_000000-abc"
    w.wandb_file(home / "run-abc.wandb", RECORDS)
    rows = [{"loss": round(r["loss"], 5), "epoch": r["step"] / 40} for r in RECORDS]
    (home / "files").mkdir()
    (home / "files" / "output.log").write_text("".join(f"{r}\n" for r in rows))
    for name in ("wandb-summary.json", "wandb-metadata.json", "config.yaml", "requirements.txt"):
        (home / "files" / name).write_text('{"entropy": 0.3, "reward": 0.5, "_step": 40}\n')
    (home / "logs").mkdir()
    said = "2026-01-01 00:00:00,100 INFO MainThread:7 [wandb_init.py:init():1] config: {}\n"
    record = str({"loss": 0.1, "reward": 0.4, "entropy": 0.5, "step": 3})
    for name in ("debug.log", "debug-internal.log"):
        (home / "logs" / name).write_text(said.format(record) + record + "\n")
    readings = list(scan(tmp_path))
    assert [r.error for r in readings] == [None] and "W&B run folder" in note(readings[0].run).why
    assert_exact(readings[0].run, RECORDS)
    (home / "run-abc.wandb").write_bytes(b"")  # nothing was written to it
    w.console(home / "files" / "output.log", RECORDS)
    (reading,) = scan(tmp_path)
    assert_exact(reading.run, RECORDS)
    assert "run-abc.wandb" in note(reading.run, "part-unreadable").what


def test_a_log_of_ones_own_called_debug_is_read(tmp_path):
    w.console(tmp_path / "debug.log", RECORDS)
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("n", [2, 3, 40])
def test_copies_are_one_run_however_short_or_packed(tmp_path, n):
    w.verl_file(tmp_path / "a" / "m.jsonl", RECORDS[:n])
    w.verl_file(tmp_path / "b" / "n.jsonl", RECORDS[:n])
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a" / "m.jsonl").read_bytes()))
    (run,) = read(tmp_path)
    told = note(run)
    assert told.value == 3 and all(name in told.what for name in ("m.jsonl", "n.jsonl", "c.jsonl.gz"))


# Several runs ---------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    decimals=st.sampled_from([2, 3, 4, None]),
    n=st.integers(2, 8),
    noise=st.sampled_from([0.003, 0.01]),
    shared=st.integers(0, 12),
    seed=st.integers(0, 10**6),
)
def test_seeds_are_never_one_run(tmp_path_factory, decimals, n, noise, shared, seed):
    folder = tmp_path_factory.mktemp("seeds")
    start = w.series(seed, noise=noise)[:shared]  # until they part: the same seed, another setting
    for i in range(n):
        w.console(folder / f"run{i}.log", [*start, *w.series(seed + i, noise=noise)[shared:]], decimals)
    assert len(read(folder)) == n


def test_a_common_beginning_joins_one_of_its_continuations_and_makes_no_two_runs_one(tmp_path):
    w.verl_file(tmp_path / "a.jsonl", RECORDS)
    w.verl_file(tmp_path / "b.jsonl", [*RECORDS[:20], *w.series(5)[20:]])
    w.verl_file(tmp_path / "parent.jsonl", RECORDS[:20])
    runs = read(tmp_path)
    assert [len(r.points) for r in runs] == [40, 40]
    assert sum(note(r) is not None for r in runs) == 1


def test_runs_that_share_only_their_plan_stay_apart(tmp_path):
    for seed in range(3):
        rows = [
            {**r, "lr": 1e-6 * (1 - r["step"] / 50), "prompt_length/mean": 80.0 + (r["step"] * 37) % 11}
            for r in w.verl_records(w.series(seed))
        ]
        w.json_lines(tmp_path / f"s{seed}.jsonl", rows)
    assert len(read(tmp_path)) == 3
    for seed in range(3):  # nothing of the policy in common: the values cannot tell
        rows = [
            {"step": t, "lr": 1e-6 * (1 - t / 50), "prompt_length/mean": 80.0 + t % 7} for t in range(1, 41)
        ]
        w.json_lines(tmp_path / f"s{seed}.jsonl", [{**r, f"x{seed}": seed} for r in rows])
    assert len(list(scan(tmp_path))) == 3


def test_the_work_grows_with_the_number_of_logs_and_not_its_square(tmp_path, monkeypatch):
    counts = {}
    real = trace.agree_by_step
    for n in (16, 64):
        parts = []
        for i in range(n):
            path = w.verl_file(tmp_path / f"{n}" / f"{i}.jsonl", w.series(i, n=12))
            parts += [Part(path, raw) for raw in read_raw(path)]
        calls = []
        monkeypatch.setattr(trace, "agree_by_step", lambda a, b, calls=calls: calls.append(1) or real(a, b))
        runs, _ = gather(parts)
        assert len(runs) == n
        counts[n] = len(calls)
    assert counts[64] <= 8 * 64  # a few comparisons a log
    assert likely.likely_pairs([]) == []


# Commands -------------------------------------------------------------------------------------------


def test_copies_given_one_by_one_are_one_run(tmp_path):
    one = w.verl_file(tmp_path / "a.jsonl", RECORDS)
    two = w.console(tmp_path / "b.log", RECORDS, 3)
    other = w.verl_file(tmp_path / "c.jsonl", w.series(1))
    for given_ in ([one, two, other], [str(two), str(other), str(one)]):
        runs = read(given_)
        assert len(runs) == 2 and len(fit_all(given_, until_step=None)) == 2


def test_copies_on_one_side_of_a_comparison_are_no_seeds(tmp_path):
    one = w.verl_file(tmp_path / "a" / "a.jsonl", RECORDS)
    w.console(tmp_path / "a" / "b.log", RECORDS)
    other = w.verl_file(tmp_path / "c.jsonl", w.series(1))
    alone, folder = compare(one, other), compare(tmp_path / "a", other)
    assert folder.to_frame().equals(alone.to_frame())
    runs = [read(one)[0], read(tmp_path / "a" / "b.log")[0]]
    told = compare(runs, other)
    assert told.to_frame().equals(alone.to_frame())
    (found,) = [f for f in told.findings if f.code == "same-run"]
    assert found.severity == "warning" and "side A" in found.what


@pytest.mark.parametrize("decimals", [None, 3])
def test_one_run_on_both_sides_is_refused(tmp_path, decimals):
    one = w.verl_file(tmp_path / "a.jsonl", RECORDS)
    part = w.console(tmp_path / "b.log", RECORDS[10:], decimals)
    with pytest.raises(UsageError, match="both sides"):
        compare(one, part)
    compare(one, w.console(tmp_path / "c.log", w.series(3), decimals))
