"""trainer_state.json and other JSON documents."""

import json

import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import console, jsonl, trl_state
from tests.runs.test_console import codes, recognised

HISTORY = [
    {"loss": 0.1 * t, "entropy": 1 / t, "reward": t / 10, "epoch": 0.01 * t, "step": 5 * t}
    for t in range(1, 8)
]
HISTORY.insert(3, {"eval_loss": 0.5, "eval_reward": 0.25, "epoch": 0.03, "step": 15})


def write(tmp_path, value, name="trainer_state.json", **kw):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value, **kw))
    return path


def read_one(path):
    assert recognised(path) is trl_state
    (run,) = trl_state.read(path, ReadOptions())
    return run


@pytest.mark.parametrize("indent", [None, 2])
def test_trainer_state(tmp_path, indent):
    folder = tmp_path / "my-run" / "checkpoint-35"
    folder.mkdir(parents=True)
    state = {
        "best_metric": None,
        "global_step": 35,
        "max_steps": 200,
        "is_world_process_zero": True,
        "log_history": HISTORY,
        "stateful_callbacks": {"TrainerControl": {"args": {}}},
    }
    run = read_one(write(folder, state, indent=indent))
    assert run.name == "my-run"
    want = pd.DataFrame(HISTORY).astype(float)
    pd.testing.assert_frame_equal(run.rows[want.columns], want)
    assert run.config["global_step"] == 35 and run.config["max_steps"] == 200
    assert (
        run.provenance.format == "trainer-state" and run.provenance.framework == "trl" and run.findings == ()
    )


def test_a_document_longer_than_the_head_is_recognised(tmp_path):
    long = [{"step": t, "entropy": 0.5, "reward": 0.25, "note": "x" * 100} for t in range(2000)]
    for i, value in enumerate((long, {"log_history": long}, {"history": long, "z": 1})):
        for indent in (None, 1):
            path = write(tmp_path, value, f"{i}-{indent}.json", indent=indent)
            assert path.stat().st_size > 1 << 17
            assert len(read_one(path).rows) == 2000


def test_columns_and_pandas_index(tmp_path):
    columns = {
        "step": [1, 2, 3],
        "entropy": [0.5, None, 0.25],
        "reward": ["0.1", "0.2", "nan"],
        "other": [1, 2],
    }
    for name, value in (("a.json", columns), ("b.json", {"metrics": columns, "config": {"lr": 1e-6}})):
        run = read_one(write(tmp_path, value, name))
        assert run.rows.columns.tolist() == ["step", "entropy", "reward"]
        assert run.rows["entropy"].dropna().tolist() == [0.5, 0.25] and run.rows[
            "reward"
        ].dropna().tolist() == [0.1, 0.2]
    assert run.config == {"lr": 1e-6}
    indexed = {k: {str(i): v for i, v in enumerate(c)} for k, c in columns.items() if k != "other"}
    pd.testing.assert_frame_equal(read_one(write(tmp_path, indexed, "c.json")).rows, run.rows)


def test_several_runs_by_name(tmp_path):
    rows = {k: [{"step": t, "entropy": t / k} for t in (1, 2)] for k in (2, 4)}
    runs = trl_state.read(write(tmp_path, {"b": rows[2], "a": rows[4], "seed": 3}), ReadOptions())
    assert [r.name for r in runs] == ["b", "a"]
    assert [r.rows["entropy"].tolist() for r in runs] == [[0.5, 1.0], [0.25, 0.5]]


def test_json_lines_are_left_to_their_reader(tmp_path):
    one = write(tmp_path, '{"step": 1, "data": {"entropy": 0.5}}\n', "one.json")
    two = write(tmp_path, '{"step": 1, "entropy": 0.5}\n{"step": 2, "entropy": 0.4}\n', "two.json")
    assert recognised(one) is jsonl and recognised(two) is jsonl
    text = write(tmp_path, "[2025-01-01 10:00:00] step:1 - a/x:0.5\n[INFO] {'a': 1}\n", "x.log")
    assert recognised(text) is console


def test_cut_document_keeps_the_records_before_the_cut(tmp_path):
    for value in ({"global_step": 1, "log_history": HISTORY}, HISTORY):
        text = json.dumps(value, indent=1)
        for cut in range(text.index("entropy") + 300, len(text) - 4, 17):
            path = write(tmp_path, text[:cut], "state.json")
            (run,) = trl_state.read(path, ReadOptions())
            n = len(run.rows)
            assert 0 < n <= len(HISTORY) and "truncated-tail" in codes(run)
            want = pd.DataFrame(HISTORY[:n]).astype(float)
            pd.testing.assert_frame_equal(run.rows[want.columns], want)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[",
        "[]",
        "{}",
        '{"log_history": []}',
        '{"a": 1}',
        '{"log_history": 3}',
        "[1, 2]",
        "[" * 100_000,
        '[{"a": "b"}]',
        "{'a': 1}",
        '{"step": [], "entropy": []}',
        "[{}, {}]",
    ],
)
def test_other_json_is_a_clear_error(tmp_path, text):
    with pytest.raises(UnreadableSource) as error:
        trl_state.read(write(tmp_path, text), ReadOptions())
    assert error.value.hint and error.value.where


def test_entries_that_are_not_records_are_told(tmp_path):
    run = read_one(write(tmp_path, [*HISTORY, 3, "x"]))
    assert len(run.rows) == len(HISTORY) and "records-unread" in codes(run)
