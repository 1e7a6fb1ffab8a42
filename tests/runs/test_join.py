"""``--join``: parts of one run by a real step, charts exported apart, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw import Selection, read, scan
from entlaw.errors import DataError, MissingSeries, UnreadableSource
from tests.runs import writers as w

RECORDS = w.series(0)
JOIN = Selection(join=True)


def codes(run):
    return [f.code for f in run.findings]


def course(folder, axis="grpo_step", evaluation="eval.jsonl", n=200, inner=4):
    """A training log with several optimiser steps an update, and the log of the evaluations between them."""
    training = [
        {
            axis: r["step"] - 1,
            "optimizer_step": inner * (r["step"] - 1) + k,
            "entropy": r["entropy"],
            "loss": k,
        }
        for r in w.series(1, n=n)
        for k in range(inner)
    ]
    w.json_lines(folder / "train.jsonl", training)
    rows = [{axis: 20 * k, "accuracy": 0.3 + 0.04 * k, "entropy": 0.7 - 0.01 * k} for k in range(n // 20 + 1)]
    w.json_lines(folder / evaluation, rows)
    return {r[axis]: r["entropy"] for r in training}


@pytest.mark.parametrize("axis", ["grpo_step", "step", "update", "rl_iteration"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("evaluation", ["eval.jsonl", "validation_metrics.jsonl"])
def test_evaluations_stay_at_their_updates_and_keep_their_entropy(tmp_path, axis, named, evaluation):
    entropy = course(tmp_path, axis, evaluation)
    step_key = axis if named else None
    (run,) = read(tmp_path, Selection(join=True, step_key=step_key, on="accuracy", entropy_key="entropy"))
    scores = run.metrics["accuracy"].dropna()
    assert scores.index.tolist() == list(range(0, 201, 20))
    assert scores.loc[200] == pytest.approx(0.7)
    own = run.metrics["eval/entropy"].dropna()
    assert own.index.tolist() == list(range(0, 201, 20)) and own.loc[0] == 0.7
    assert run.metrics["entropy"].dropna().to_dict() == entropy
    assert "evaluation-keys" in codes(run)
    first = run.points.iloc[0]
    assert (first["step"], first["entropy"]) == (0, entropy[0])  # made before training


def test_records_are_never_joined_by_their_number(tmp_path):
    w.json_lines(tmp_path / "train.jsonl", [{"entropy": r["entropy"], "loss": r["loss"]} for r in RECORDS])
    w.json_lines(tmp_path / "eval.jsonl", [{"accuracy": 0.3 + 0.04 * k, "n_right": k} for k in range(11)])
    with pytest.raises(UnreadableSource, match="no common step") as caught:
        read(tmp_path, JOIN)
    assert "only numbered" in caught.value.why and "step_key" in caught.value.hint


def test_two_axes_are_refused_and_the_keys_that_count_are_named(tmp_path):
    w.json_lines(tmp_path / "a.jsonl", [{"iteration": r["step"], "entropy": r["entropy"]} for r in RECORDS])
    w.json_lines(tmp_path / "b.jsonl", [{"global_step": 8 * k, "accuracy": 0.1 * k} for k in range(8)])
    with pytest.raises(DataError) as caught:
        read(tmp_path, JOIN)
    assert caught.value.exit_code == 3
    assert "iteration" in caught.value.hint and "global_step" in caught.value.hint
    with pytest.raises(MissingSeries, match="iteration"):
        read(tmp_path, Selection(join=True, step_key="iteration"))


def test_a_common_key_is_the_axis_where_each_part_has_another_one(tmp_path):
    rows = [{"global_step": 8 * r["step"], "rollout": r["step"], "entropy": r["entropy"]} for r in RECORDS]
    w.json_lines(tmp_path / "a.jsonl", rows)
    w.json_lines(
        tmp_path / "b.jsonl",
        [{"iteration": k, "rollout": k, "eval/accuracy": 0.01 * k} for k in range(1, 41)],
    )
    (run,) = read(tmp_path, JOIN)
    assert run.metrics["eval/accuracy"].dropna().index.tolist() == list(range(1, 41))
    assert run.metrics["entropy"].loc[7] == RECORDS[6]["entropy"]


def test_spellings_of_the_step_are_one_axis(tmp_path):
    w.json_lines(
        tmp_path / "a.jsonl", [{"train/global_step": r["step"], "entropy": r["entropy"]} for r in RECORDS]
    )
    w.json_lines(tmp_path / "b.jsonl", [{"step": 4 * k, "eval/accuracy": 0.1 * k} for k in range(1, 9)])
    (run,) = read(tmp_path, JOIN)
    assert run.metrics["eval/accuracy"].dropna().index.tolist() == list(range(4, 33, 4))


@settings(max_examples=10)
@given(start=st.integers(2, 39), end=st.integers(2, 40), seed=st.integers(0, 100), swap=st.booleans())
def test_the_later_pass_counts(tmp_path_factory, start, end, seed, swap):
    folder = tmp_path_factory.mktemp("join")
    later = w.again(RECORDS[start - 1 :], seed)
    names = ("b.log", "a.log") if swap else ("a.log", "b.log")
    w.console(folder / names[0], RECORDS[:end])
    w.console(folder / names[1], later)
    (run,) = read([folder / "a.log", folder / "b.log"], JOIN)
    want = {r["step"]: r["entropy"] for r in RECORDS[:end] if r["step"] < start}
    want |= {r["step"]: r["entropy"] for r in later}
    assert dict(zip(run.points["step"], run.points["entropy"], strict=True)) == want


def test_two_runs_joined_by_mistake_are_told(tmp_path):
    w.console(tmp_path / "a.log", RECORDS)
    w.console(tmp_path / "b.log", w.series(1))
    (run,) = read(tmp_path, JOIN)
    assert run.metrics["actor/entropy"].loc[9] == RECORDS[8]["entropy"]
    assert "join-conflict" in codes(run)


# Charts ---------------------------------------------------------------------------------------------


def charts(folder, runs):
    columns = {name: w.series(seed) for seed, name in enumerate(runs)}
    w.chart(folder / "one.csv", "train/entropy", {n: [r["entropy"] for r in c] for n, c in columns.items()})
    w.chart(folder / "two.csv", "train/reward", {n: [r["score"] for r in c] for n, c in columns.items()})
    return columns


def tags(folder, runs, entropy="train_entropy", reward="train_reward", suffix=""):
    columns = {name: w.series(seed) for seed, name in enumerate(runs)}
    for name, records in columns.items():
        for tag, key in ((entropy, "entropy"), (reward, "score")):
            w.tag_download(folder / f"run-{name}-tag-{tag}{suffix}.csv", [r[key] for r in records])
    return columns


@pytest.mark.parametrize("runs", [["grpo"], ["grpo", "ppo - long", "x-tag"]])
@pytest.mark.parametrize("make", [charts, tags])
@pytest.mark.parametrize("as_files", [False, True])
def test_charts_exported_apart(tmp_path, runs, make, as_files):
    runs = runs if make is charts else [r for r in runs if r != "x-tag"]
    columns = make(tmp_path, runs)
    source = sorted(tmp_path.iterdir()) if as_files else tmp_path
    apart = list(scan(source))
    assert all("entlaw fit --join" in r.error.hint and "40 points" in r.error.hint for r in apart)
    joined = {r.name: r for r in read(source, JOIN)}
    assert sorted(joined) == sorted(runs)
    for name, records in columns.items():
        points = joined[name].points
        assert points["entropy"].tolist() == [r["entropy"] for r in records]
        assert points["performance"].tolist() == [r["score"] for r in records]


@pytest.mark.parametrize("suffix", ["", " (1)", "(2)"])
def test_the_tag_is_the_key_and_the_run_the_name(tmp_path, suffix):
    tags(tmp_path, ["Jan01_00-00-00_host"], "actor_entropy", "critic_score_mean", suffix)
    (run,) = read(tmp_path, JOIN)
    assert (run.name, run.entropy.key) == ("Jan01_00-00-00_host", "actor_entropy")
    assert run.performance_key == "critic_score_mean" and "tag-from-file-name" in codes(run)


def test_a_renamed_download_has_its_files_name_as_tag(tmp_path):
    for key, name in (("entropy", "entropy.csv"), ("score", "reward.csv")):
        w.tag_download(tmp_path / name, [r[key] for r in RECORDS])
    (run,) = read(tmp_path, JOIN)
    assert (run.entropy.key, run.performance_key) == ("entropy", "reward")
    assert [f.severity for f in run.findings if f.code == "tag-from-file-name"] == ["warning"] * 2


def test_one_chart_alone_says_what_it_is(tmp_path):
    path = w.tag_download(tmp_path / "run-a-tag-train_entropy.csv", [r["entropy"] for r in RECORDS])
    with pytest.raises(MissingSeries) as caught:
        read(path)
    assert (
        "TensorBoard" in caught.value.why
        and "train_entropy" in caught.value.why
        and "join" in caught.value.hint
    )
    path = w.chart(tmp_path / "c.csv", "train/entropy", {"g": [r["entropy"] for r in RECORDS]})
    with pytest.raises(MissingSeries) as caught:
        read(path)
    assert "chart" in caught.value.why and "join" in caught.value.hint


def test_each_folder_is_joined_for_itself(tmp_path):
    for seed in range(2):
        records = w.series(seed)
        home = tmp_path / f"run{seed}"
        w.json_lines(home / "trainer.jsonl", [{"step": r["step"], "entropy": r["entropy"]} for r in records])
        w.json_lines(
            home / "rollout.jsonl", [{"step": r["step"], "eval/accuracy": r["score"]} for r in records]
        )
    runs = read(tmp_path, JOIN)
    assert len(runs) == 2
    assert [r.metrics["entropy"].iloc[0] for r in runs] == [w.series(s)[0]["entropy"] for s in range(2)]
