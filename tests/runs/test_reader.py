"""From SOURCE to runs: files, folders, globs, joining, and what happens to what is not a log."""

import json

import numpy as np
import pandas as pd
import pytest

from entlaw import Selection, read, scan
from entlaw.errors import MissingSeries, SourceNotFound, UnreadableSource, UsageError
from entlaw.runs.files import expand
from tests.conftest import law_records, write_jsonl


def test_a_jsonl_run_is_read_aligned_and_explained(law_log):
    (run,) = read(law_log)
    assert run.entropy.key == "actor/entropy" and run.performance_key == "val/accuracy"
    assert run.align == "next" and run.performance_kind == "validation"
    # The pre-training validation pairs with the first entropy, the one at step t with that of t + 1.
    assert run.points["step"].tolist()[:3] == [0, 4, 8]
    assert run.points["entropy_step"].tolist()[:3] == [1, 5, 9]
    assert {c.what for c in run.choices} == {"step axis", "entropy", "performance", "alignment"}
    step, entropy = run.entropy_series()
    assert step[0] == 1 and len(step) == 61 and np.all(np.diff(entropy) < 0)


def test_training_score_pairs_with_its_own_step(law_log):
    (run,) = read(law_log, Selection(on="train"))
    assert run.align == "same" and run.performance_key == "reward/mean"
    assert (run.points["step"] == run.points["entropy_step"]).all()
    (forced,) = read(law_log, Selection(on="train", align="next"))
    assert (forced.points["entropy_step"] == forced.points["step"] + 1).all()


def test_three_formats_of_one_run_read_equal(tmp_path, law_log):
    records = law_records()
    pd.DataFrame(records).to_csv(tmp_path / "run.csv", index=False)
    pd.DataFrame(records).to_parquet(tmp_path / "run.parquet")
    (tmp_path / "state.json").write_text(json.dumps({"log_history": records, "global_step": 61}))
    console = "".join(
        f"(TaskRunner pid=1) step:{r['step']} - "
        + " - ".join(f"{k}:{v}" for k, v in r.items() if k != "step")
        + "\n"
        for r in records
    )
    (tmp_path / "console.log").write_text(console)
    (want,) = read(law_log)
    for name in ("run.csv", "run.parquet", "state.json", "console.log"):
        (got,) = read(tmp_path / name)
        pd.testing.assert_frame_equal(got.points, want.points, check_exact=True, obj=name)


def test_several_runs_in_a_folder_stay_apart(tmp_path):
    for seed in (1, 2):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        write_jsonl(folder / "metrics.jsonl", law_records(seed=seed))
    (tmp_path / "notes.txt").write_text("nothing to see here\n")
    runs = read(tmp_path)
    assert len(runs) == 2 and {len(r.points) for r in runs} == {16}
    assert len(read(str(tmp_path / "*" / "metrics.jsonl"))) == 2


def test_trainer_and_orchestrator_are_joined_on_request(tmp_path):
    records = law_records()
    write_jsonl(
        tmp_path / "a_trainer.jsonl",
        [
            {"step": r["step"], "entropy/all/mean": r["actor/entropy"]}
            for r in records
            if "actor/entropy" in r
        ],
    )
    write_jsonl(
        tmp_path / "b_orchestrator.jsonl",
        [
            {"step": r["step"], "eval/math/full/agent/avg@8": r["val/accuracy"]}
            for r in records
            if "val/accuracy" in r
        ],
    )
    with pytest.raises(MissingSeries):
        read(tmp_path)
    (run,) = read(tmp_path, Selection(join=True))
    assert len(run.points) >= 15 and "joined" in [f.code for f in run.findings]


def test_an_unusable_run_among_good_ones_is_reported_not_fatal(tmp_path, law_log):
    write_jsonl(tmp_path / "no_entropy.jsonl", [{"step": t, "loss": 1.0 / t} for t in range(1, 9)])
    readings = list(scan(tmp_path))
    assert sorted(r.run is not None for r in readings) == [False, True]
    assert len(read(tmp_path)) == 1


def test_missing_file_suggests_the_nearest_name(law_log):
    with pytest.raises(SourceNotFound) as caught:
        read(law_log.with_name("metric.jsonl"))
    assert "metrics.jsonl" in caught.value.hint
    with pytest.raises(FileNotFoundError):  # also the stdlib error it refines
        read("no/such/*.log")


@pytest.mark.parametrize("content", [b"", b"  \n\n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "empty.log"
    path.write_bytes(content)
    with pytest.raises(UnreadableSource, match="empty"):
        read(path)


def test_binary_junk(tmp_path):
    path = tmp_path / "junk.bin"
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes())
    with pytest.raises(UnreadableSource):
        read(path)


def test_folder_without_any_log(tmp_path):
    with pytest.raises(SourceNotFound, match="no log"):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(UnreadableSource, match="none of 1 files"):
        read(tmp_path)


def test_unknown_step_key(law_log):
    with pytest.raises(MissingSeries, match="stepp"):
        read(law_log, Selection(step_key="stepp"))


def test_percent_scores_become_fractions(tmp_path):
    records = [
        {**r, **({"val/accuracy": 100 * r["val/accuracy"]} if "val/accuracy" in r else {})}
        for r in law_records()
    ]
    (run,) = read(write_jsonl(tmp_path / "m.jsonl", records))
    assert run.performance_scale == 0.01 and run.points["performance"].max() < 1
    (kept,) = read(tmp_path / "m.jsonl", Selection(scale=1.0))
    assert kept.points["performance"].max() > 1


def test_infinite_values_never_reach_the_points(tmp_path):
    records = law_records()
    records[9]["actor/entropy"] = float("inf")
    (run,) = read(write_jsonl(tmp_path / "m.jsonl", records), Selection(on="train"))
    assert np.isfinite(run.points.to_numpy()).all()
    assert "infinite-values" in [f.code for f in run.findings]


def test_hidden_files_and_sidecars_are_passed_over(tmp_path, law_log):
    (tmp_path / ".cache").mkdir()
    write_jsonl(tmp_path / ".cache" / "metrics.jsonl", law_records())
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {"entropy_coeff": 0.0}}))
    assert [p.name for p in expand(tmp_path)] == ["metrics.jsonl"]
    (run,) = read(tmp_path)
    assert run.config.get("recipe.entropy_coeff") == 0.0


def test_size_of_the_test_is_taken_from_the_log(tmp_path, law_log):
    sized = [
        {**r, "val/problems": 512, "val/samples": 2} if "val/accuracy" in r else r for r in law_records()
    ]
    (run,) = read(write_jsonl(tmp_path / "sized.jsonl", sized))
    assert (run.problems, run.samples) == (512, 2)
    assert "512 problems x 2 samples" in [c.chosen for c in run.choices]
    (training,) = read(tmp_path / "sized.jsonl", Selection(on="train"))
    assert training.problems is None  # that is the size of the validation, not of a rollout
    assert read(law_log)[0].problems is None


def test_known_size_narrows_what_the_fit_must_assume(tmp_path):
    import entlaw

    sized = [{**r, "val/problems": 20000} if "val/accuracy" in r else r for r in law_records(noise=0.003)]
    (run,) = read(write_jsonl(tmp_path / "sized.jsonl", sized))
    known, told = entlaw.fit(run), entlaw.fit(run, problems=20000, samples=1)
    assert known.law.noise["answers"] == 20000 and known.ceiling_interval == told.ceiling_interval


def test_two_complete_runs_in_one_file_come_out_as_two(tmp_path):
    runs = read(write_jsonl(tmp_path / "both.jsonl", [*law_records(seed=1), *law_records(seed=2)]))
    assert [r.name for r in runs] == ["both#1", "both#2"]
    assert all("several-runs" in [f.code for f in r.findings] for r in runs)
    (alone,) = read(write_jsonl(tmp_path / "alone.jsonl", law_records(seed=2)))
    pd.testing.assert_frame_equal(runs[1].points, alone.points)


@pytest.mark.parametrize("lengths", [(61, 61), (61, 50, 61)])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_seeds_that_write_into_one_file_side_by_side_are_runs(tmp_path, lengths, kind):
    alone = [law_records(n, h0=1 + i / 20, seed=i) for i, n in enumerate(lengths)]
    records = [{"seed": i, **record} for i, run in enumerate(alone) for record in run]
    records.sort(key=lambda record: record["step"])
    path = write_jsonl(tmp_path / "r.jsonl", records)
    if kind == "csv":
        path = tmp_path / "r.csv"
        pd.DataFrame(records).to_csv(path, index=False)
    runs = read(path)
    assert [run.name for run in runs] == [f"r (seed {i})" for i in range(len(lengths))]
    for run, own in zip(runs, alone, strict=True):
        codes = [f.code for f in run.findings]
        assert "several-runs" in codes and "duplicate-step" not in codes
        assert run.entropy_series()[1].tolist() == [r["actor/entropy"] for r in own[1:]]


def test_a_seed_drawn_for_each_step_tells_no_runs_apart(tmp_path):
    records = [{"seed": record["step"] * 7 % 5, **record} for record in law_records()]
    (run,) = read(write_jsonl(tmp_path / "r.jsonl", records))
    assert run.name == "r" and len(run.entropy_series()[0]) == 61


def test_one_key_cannot_be_both_series(law_log):
    with pytest.raises(UsageError, match="at once"):
        read(law_log, Selection(on="actor/entropy"))
    with pytest.raises(UsageError, match="at once"):
        read(law_log, Selection(entropy_key="val/accuracy"))


def test_a_missing_source_costs_the_others_nothing(tmp_path, law_log):
    (tmp_path / "none").mkdir()
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.txt").write_text("hello\n")
    sources = [tmp_path / "none", tmp_path / "gone.jsonl", tmp_path / "junk", law_log]
    readings = list(scan(sources))
    assert [r.run is not None for r in readings] == [False, False, False, True]
    assert [type(r.error) for r in readings[:3]] == [SourceNotFound, SourceNotFound, UnreadableSource]
    assert [r.path for r in readings] == [str(s) for s in sources]
    with pytest.raises(
        SourceNotFound
    ):  # who asks for Run objects must not get fewer than asked for in silence
        read([law_log, tmp_path / "gone.jsonl"])


def test_no_source_at_all():
    with pytest.raises(UsageError, match="no source"):
        read([])


@pytest.mark.parametrize(
    "key, scale, code", [("my_reward", 1.0, "not-a-score"), ("my_accuracy", 0.01, "percent")]
)
def test_a_key_of_the_users_own_is_percent_only_if_its_name_is_an_accuracys(tmp_path, key, scale, code):
    records = law_records()
    for record in records:
        record[key] = 10 * record.pop("reward/mean", 0.1)
    run = read(write_jsonl(tmp_path / "log.jsonl", records), Selection(on=key))[0]
    assert run.performance_scale == scale and code in {f.code for f in run.findings}


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "trainer_state.json", "run-x.wandb", "events.out.tfevents.17.h.0"]
)
@pytest.mark.parametrize("content, what", [(b"", "the file is empty"), (b"\x00\xff\x01" * 400, None)])
def test_a_loggers_file_in_a_folder_that_cannot_be_read_is_told(tmp_path, law_log, name, content, what):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(content)
    (tmp_path / "bad" / "notes.txt").write_bytes(content)  # named by nobody as a log: passed over
    good, bad = scan(tmp_path)
    assert good.run is not None and good.path == str(law_log)
    assert bad.path.endswith(name) and isinstance(bad.error, UnreadableSource)
    assert what is None or bad.error.what == what
    assert len(read(tmp_path)) == 1
    with pytest.raises(UnreadableSource, match=r"none of [12] files"):
        list(scan(tmp_path / "bad"))
