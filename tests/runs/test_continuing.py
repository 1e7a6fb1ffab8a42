"""Files that continue each other are one resumed run where it is safe to know, and else get a hint."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw import Selection, read
from entlaw.runs.continuing import Chain
from entlaw.runs.gather import trace_of
from entlaw.runs.reader import read_raw
from tests.runs import writers as w

RECORDS = w.series(0)

# Names of three parts in their order.
COUNTED = (
    ("slurm-1001.out", "slurm-1002.out", "slurm-1003.out"),
    ("job-9.log", "job-10.log", "job-11.log"),
    ("train.log.2", "train.log.1", "train.log"),
    ("train.log.2.gz", "train.log.1.gz", "train.log"),
    ("train.log-20251228", "train.log-20260104", "train.log"),
    ("train.log", "train_resume.log", "train_resume2.log"),
    ("train.log", "train-restart1.log", "train-restart2.log"),
    ("run.log", "run (1).log", "run (2).log"),
    ("out.0", "out.1", "out.2"),
    ("log_2026-01-01_10-00.txt", "log_2026-01-01_23-00.txt", "log_2026-01-02_09-00.txt"),
    ("Jan30_10-00-00_h/c.log", "Feb01_09-00-00_h/c.log", "Mar01_08-00-00_h/c.log"),
    ("part1/train.log", "part2/train.log", "part3/train.log"),
)
# Numbers that are no counters, and names that differ otherwise.
OTHERS = (
    ("seed1.log", "seed2.log"),
    ("grpo-s1.log", "grpo-s2.log"),
    ("qwen-7b.log", "qwen-14b.log"),
    ("lr1e-5.log", "lr1e-6.log"),
    ("beta0.01.log", "beta0.04.log"),
    ("rank0.log", "rank1.log"),
    ("a.log", "b.log"),
)


def write(path, records):
    if path.suffix == ".gz":
        plain = w.console(path.with_suffix(""), records)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    else:
        w.console(path, records)


def codes(run):
    return [f.code for f in run.findings]


@pytest.mark.parametrize("names", COUNTED, ids=lambda n: n[1])
@pytest.mark.parametrize("overlap", [0, 1, 4])
def test_counted_files_are_one_run_and_the_later_pass_counts(tmp_path, names, overlap):
    second, third = w.again(RECORDS[14 - overlap : 28], 1), w.again(RECORDS[28 - overlap :], 2)
    for name, records in zip(names, (RECORDS[:14], second, third), strict=True):
        write(tmp_path / name, records)
    (run,) = read(tmp_path)
    assert len(run.points) == 40 and "continued" in codes(run)
    want = {r["step"]: r["entropy"] for r in [*RECORDS[:14], *second, *third]}
    assert dict(zip(run.points["step"], run.points["entropy"], strict=True)) == want
    (told,) = [f for f in run.findings if f.code == "continued"]
    listed = [part.split(" [")[0] for part in told.what.split(": ", 1)[1].split(" -> ")]
    assert listed == [str(tmp_path / name) for name in names]


@settings(max_examples=10)
@given(
    cuts=st.lists(st.integers(8, 90), min_size=1, max_size=5, unique=True),
    back=st.lists(st.integers(0, 3), min_size=5, max_size=5),
    equal=st.booleans(),
    every=st.sampled_from([1, 5, 10]),
    first=st.sampled_from([1, 97, 998]),
)
def test_any_cuts_of_a_run(tmp_path_factory, cuts, back, equal, every, first):
    folder = tmp_path_factory.mktemp("cuts")
    records = [{**r, "step": r["step"] * every} for r in w.series(3, n=100)]
    ends = [c for i, c in enumerate(sorted(cuts)) if i == 0 or c - sorted(cuts)[i - 1] >= 8]
    want = {}
    for i, (start, end) in enumerate(zip([0, *ends], [*ends, 100], strict=True)):
        start = max(0, start - (back[i - 1] if i else 0))
        part = records[start:end] if equal else w.again(records[start:end], i)
        w.console(folder / f"slurm-{first + i}.out", part)
        want = {s: v for s, v in want.items() if s < part[0]["step"]} | {
            r["step"]: r["entropy"] for r in part
        }
    (run,) = read(folder)
    assert dict(zip(run.points["step"], run.points["entropy"], strict=True)) == want


@pytest.mark.parametrize("names", OTHERS, ids=lambda n: n[0])
def test_other_names_stay_apart_with_a_hint(tmp_path, names):
    w.console(tmp_path / names[0], RECORDS[:30])
    later = w.again(RECORDS[20:], 1)
    w.console(tmp_path / names[1], later)
    runs = {r.points["step"].min(): r for r in read(tmp_path)}
    assert (
        sorted(runs) == [1, 21] and "may-continue" in codes(runs[21]) and "may-continue" not in codes(runs[1])
    )
    (hint,) = [f for f in runs[21].findings if f.code == "may-continue"]
    assert "join" in hint.hint and names[0] in hint.what
    (run,) = read(tmp_path, Selection(join=True))
    want = {r["step"]: r["entropy"] for r in [*RECORDS[:20], *later]}
    assert dict(zip(run.points["step"], run.points["entropy"], strict=True)) == want


def test_equal_values_at_the_seam_are_enough_whatever_the_names(tmp_path):
    w.console(tmp_path / "monday.log", RECORDS[:24])
    w.console(tmp_path / "again.log", RECORDS[18:])
    (run,) = read(tmp_path)
    assert len(run.points) == 40 and "continued" in codes(run)


def test_a_scheduler_that_runs_two_runs_in_turn(tmp_path):
    for i, (seed, a, b) in enumerate([(1, 0, 25), (1, 20, 40), (2, 0, 25), (2, 20, 40)]):
        w.console(tmp_path / f"slurm-{i}.out", w.again(w.series(seed)[a:b], i))
    assert [len(r.points) for r in read(tmp_path)] == [40, 40]


def test_two_runs_at_once_are_not_guessed_apart(tmp_path):
    for i, (seed, a, b) in enumerate([(1, 0, 25), (2, 0, 25), (1, 20, 40), (2, 20, 40)]):
        w.console(tmp_path / f"slurm-{i}.out", w.again(w.series(seed)[a:b], i))
    runs = read(tmp_path)
    assert len(runs) == 4 and sum("may-continue" in codes(r) for r in runs) == 2


@pytest.mark.parametrize(
    "first, second",
    [((0, 5), (0, 40)), ((0, 40), (0, 40)), ((0, 30), (5, 40)), ((0, 10), (20, 40))],
    ids=["from scratch", "array job", "repeats most", "a gap"],
)
def test_what_no_resume_leaves_stays_apart(tmp_path, first, second):
    w.console(tmp_path / "slurm-1.out", w.again(RECORDS[slice(*first)], 1))
    w.console(tmp_path / "slurm-2.out", w.again(RECORDS[slice(*second)], 2))
    assert len(read(tmp_path)) == 2


def test_another_configuration_is_another_run(tmp_path):
    for i, (lr, records) in enumerate([(1e-6, RECORDS[:25]), (2e-6, w.again(RECORDS[20:], 1))]):
        config = {"lr": lr, "resume_from": f"step_{i}"}
        w.wandb_file(tmp_path / f"{i}.wandb", records, run_id=f"id{i}", config=config)
        w.wandb_file(tmp_path / "one" / f"{i}.wandb", records, run_id=f"id{i}", config=config | {"lr": 1})
    assert len(read(str(tmp_path / "*.wandb"))) == 2
    assert len(read(tmp_path / "one")) == 1


@pytest.mark.parametrize("names", COUNTED, ids=lambda n: n[1])
def test_names_are_ordered_as_they_were_written(tmp_path, names):
    write(tmp_path / names[0], RECORDS)
    raw = read_raw(tmp_path / names[0])[0]
    chain = [Chain(tmp_path / name, raw, trace_of(raw)) for name in names]
    assert chain[0].turn < chain[1].turn < chain[2].turn
    assert len({c.name for c in chain}) == 1
