"""JSON lines of every trainer; damage of single lines."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import console, jsonl, parquet, tabular, trl_state
from tests.conftest import law_records, write_jsonl
from tests.runs.test_console import codes, recognised


def read_lines(tmp_path, lines, name="metrics.jsonl"):
    path = tmp_path / name
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    path.write_text(text)
    assert recognised(path) is jsonl
    return jsonl.read(path, ReadOptions())


def test_verl_file_logger(tmp_path):
    (run,) = read_lines(
        tmp_path, [{"step": t, "data": {"actor/entropy": t / 10, "val/acc": 0.5}} for t in range(5)]
    )
    assert set(run.rows) == {"step", "actor/entropy", "val/acc"}
    assert run.rows["step"].tolist() == [0, 1, 2, 3, 4]
    assert run.rows["actor/entropy"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert run.provenance.framework == "verl" and run.provenance.format == "verl-jsonl"


def test_flat_rows_with_config_beside_them(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "llama"}, "temperature": 0.7}))
    (tmp_path / "run.json").write_text(json.dumps({"recipe": {"algorithm": {"entropy_coef": 0.0}}}))
    (run,) = read_lines(tmp_path, law_records())
    assert run.config == {"model.name": "llama", "temperature": 0.7, "recipe.algorithm.entropy_coef": 0.0}
    want = pd.DataFrame(law_records())
    pd.testing.assert_frame_equal(run.rows[want.columns], want.astype(float))
    assert run.name == tmp_path.name  # every run of this trainer writes metrics.jsonl: the folder names it


def test_config_of_another_run_is_not_taken(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "run.json").write_text("[broken")
    write_jsonl(tmp_path / "other.jsonl", law_records())
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (run,) = read_lines(tmp_path, law_records(), "mine.jsonl")
    assert run.config == {} and run.name == "mine"


def test_typed_rows(tmp_path):
    (run,) = read_lines(
        tmp_path,
        [
            {"type": "config", "config": {"lr": 1e-6, "loss": {"entropy_coef": 0.01}}, "seed": 1},
            {"type": "train", "step": 1, "entropy": 0.5, "reward": 0.1},
            {"type": "sample", "step": 1, "prompt": "1+1", "reward": 1.0},
            {"type": "eval", "step": 1, "reward": 0.9, "eval/accuracy": 0.8},
            {"type": "metric", "name": "kl", "value": 0.25, "step": 1},
            {"type": "train", "step": 2, "entropy": 0.4, "reward": 0.2},
        ],
    )
    assert run.config == {"lr": 1e-6, "loss.entropy_coef": 0.01, "seed": 1}
    merged = run.rows.groupby("step").first()
    assert merged.loc[1].dropna().to_dict() == {
        "entropy": 0.5,
        "reward": 0.1,
        "eval/reward": 0.9,
        "eval/accuracy": 0.8,
        "kl": 0.25,
    }
    assert merged.loc[2].dropna().to_dict() == {"entropy": 0.4, "reward": 0.2}
    assert {"typed-rows", "sample-rows"} <= codes(run)


@pytest.mark.parametrize("field", ["run", "run_id", "run_name", "experiment"])
def test_several_runs_are_never_glued(tmp_path, field):
    lines = [
        {field: name, "step": t, "entropy": t / k} for t in (1, 2, 3) for k, name in ((2, "b"), (4, "a"))
    ]
    runs = read_lines(tmp_path, lines)
    assert [r.name for r in runs] == ["b", "a"]
    for run, k in zip(runs, (2, 4), strict=True):
        assert run.rows["step"].tolist() == [1, 2, 3] and run.rows["entropy"].tolist() == [
            t / k for t in (1, 2, 3)
        ]


def test_numbered_runs_and_two_of_one_name(tmp_path):
    lines = [
        {"run_id": i, "run_name": "grpo", "step": t, "entropy": i + t / 10} for i in (1, 2) for t in (1, 2)
    ]
    runs = read_lines(tmp_path, lines)
    assert [r.name for r in runs] == ["grpo (1)", "grpo (2)"]
    assert [r.rows["entropy"].tolist() for r in runs] == [[1.1, 1.2], [2.1, 2.2]]


def test_strange_tokens_blank_lines_and_a_bad_line(tmp_path):
    (run,) = read_lines(
        tmp_path,
        [
            "\ufeff" + '{"step": 1, "entropy": NaN, "x": Infinity, "y": "np.float64(2.0)", "ok": true}\n',
            "\n   \r\n",
            '{"step": 2, "entropy": 0.5, "x": -Infinity, "nested": {"a": {"b": 3}}, "text": "hi", "list": [1]}\r\n',
            '{"step": 3, "entropy": 0.4, "x"\n',
            '["not", "an", "object"]\n',
            '{"step": 4, "entropy": 0.3, "big": ' + "9" * 5000 + "}\n",
            '{"step": 5, "entropy": 0.2, "deep": ' + "[" * 5000 + "}\n",
            *({"step": t, "entropy": 0.1} for t in range(6, 12)),
        ],
    )
    assert run.rows["step"].tolist() == [1, 2, *range(6, 12)]
    assert np.isnan(run.rows["entropy"][0]) and run.rows["x"].tolist()[:2] == [np.inf, -np.inf]
    assert run.rows["y"][0] == 2 and run.rows["ok"][0] == 1 and run.rows["nested.a.b"][1] == 3
    (finding,) = run.findings
    assert finding.code == "lines-unread" and finding.value == 4


def test_cut_at_every_byte_of_the_last_line(tmp_path):
    rows = [{"step": t, "data": {"actor/entropy": 1 / t, "critic/score/mean": t * 11}} for t in range(1, 7)]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    last = text.rindex("{", 0, text.rindex("{"))
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    (whole,) = jsonl.read(path, ReadOptions())
    for cut in range(last, len(text) + 1):
        path.write_text(text[:cut])
        assert recognised(path) is jsonl
        (run,) = jsonl.read(path, ReadOptions())
        complete = cut >= len(text) - 1  # all but its newline
        pd.testing.assert_frame_equal(run.rows, whole.rows if complete else whole.rows.iloc[:5])
        assert ("truncated-tail" in codes(run)) == (last < cut < len(text) - 1)


def test_gzip(tmp_path):
    plain = write_jsonl(tmp_path / "a.jsonl", law_records())
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert recognised(packed) is jsonl
    one, two = jsonl.read(plain, ReadOptions())[0], jsonl.read(packed, ReadOptions())[0]
    pd.testing.assert_frame_equal(one.rows, two.rows)
    assert one.name == two.name == "a"


def test_no_numbers_is_a_clear_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "b"}\n{"c": []}\n')
    with pytest.raises(UnreadableSource, match="no metric lines") as error:
        jsonl.read(path, ReadOptions())
    assert error.value.hint


def test_a_name_that_differs_from_row_to_row_is_an_error_and_not_ten_thousand_runs(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ({"run_id": f"r{i}", "x": i} for i in range(10_000)))
    with pytest.raises(UnreadableSource, match="run names"):
        jsonl.read(path, ReadOptions())


def test_one_run_in_every_format_reads_equal(tmp_path):
    """verl's JSONL, flat JSONL, trainer_state, a list, columns, CSV, TSV, Parquet, console, JSON among text."""
    records = [
        {"step": t, "actor/entropy": round(0.9 * 0.95**t, 3), "critic/score/mean": round(t / 37, 3)}
        | ({"val/acc": round(t / 40, 3)} if t % 4 == 0 else {})
        for t in range(30)
    ]
    want = pd.DataFrame(records).astype(float)
    files = {
        "flat.jsonl": "".join(json.dumps(r) + "\n" for r in records),
        "verl.jsonl": "".join(
            json.dumps({"step": r["step"], "data": {k: v for k, v in r.items() if k != "step"}}) + "\n"
            for r in records
        ),
        "named.jsonl": "".join(
            json.dumps({"name": k, "value": v, "step": r["step"]}) + "\n"
            for r in records
            for k, v in r.items()
            if k != "step"
        ),
        "state.json": json.dumps({"log_history": records, "global_step": 29}, indent=2),
        "list.json": json.dumps(records),
        "columns.json": json.dumps({k: [None if np.isnan(x) else x for x in want[k]] for k in want}),
        "pandas.json": want.to_json(),
        "plain.csv": want.to_csv(index=False),
        "plain.tsv": want.to_csv(index=False, sep="\t"),
        "semicolon.csv": want.to_csv(index=False, sep=";", decimal=","),
        "wandb.csv": want.set_axis(["Step", *(f"r - {k}" for k in want.columns[1:])], axis=1).to_csv(
            index=False
        ),
        "long.csv": want.melt("step", var_name="metric").dropna().sort_values("step").to_csv(index=False),
        "console.log": "".join(
            f"(TaskRunner pid=1) step:{r['step']} - "
            + " - ".join(f"{k}:{v:.3f}" for k, v in r.items() if k != "step")
            + "\n"
            for r in records
        ),
        "dicts.log": "hello\n" + "".join(f"{r | {'epoch': 0.1}!r}\n" for r in records),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    want.to_parquet(tmp_path / "plain.parquet")
    sources = {jsonl: 0, trl_state: 0, tabular: 0, parquet: 0, console: 0}
    for path in sorted(tmp_path.iterdir()):
        source = recognised(path)
        sources[source] += 1
        (run,) = source.read(path, ReadOptions())
        rows = run.rows.groupby("step", as_index=False).first()
        pd.testing.assert_frame_equal(rows[want.columns], want, obj=path.name)
        assert not {f.code for f in run.findings if f.severity != "info"}, path.name
    assert list(sources.values()) == [3, 4, 5, 1, 2]


def test_words_among_numbers_are_told(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [{"step": i, "actor/entropy": 1.0 - i / 20, "val/accuracy": 0.3, "phase": "rl"} for i in range(12)]
    rows[3]["actor/entropy"] = "1,234.5"
    rows[5]["val/accuracy"] = "n.a."
    rows[7]["val/accuracy"] = "None"  # says that there is none
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (raw,) = jsonl.read(path, ReadOptions())
    (told,) = [f for f in raw.findings if f.code == "cells-unread"]
    assert "1 in actor/entropy" in told.what and "1 in val/accuracy" in told.what and "phase" not in told.what
    assert told.value == 2.0
    assert raw.rows["actor/entropy"].isna().tolist() == [i == 3 for i in range(12)]
