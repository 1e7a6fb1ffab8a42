"""CSV in its dialects, W&B's chart exports, Parquet."""

import gzip

import numpy as np
import pandas as pd
import pytest

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing.delimited import recognise
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import console, jsonl, parquet, tabular
from tests.runs.test_console import codes, recognised

PLAIN = "step,actor_entropy,val_acc\n1,0.500,\n2,0.400,0.25\n3,0.300,\n4,0.200,0.75\n"


def read_all(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert recognised(path) is tabular
    return tabular.read(path, ReadOptions())


def read_one(tmp_path, text, name="log.csv"):
    (run,) = read_all(tmp_path, text, name)
    return run


@pytest.fixture
def plain(tmp_path):
    return read_one(tmp_path, PLAIN).rows


def test_plain(plain):
    assert plain.columns.tolist() == ["step", "actor_entropy", "val_acc"]
    np.testing.assert_array_equal(plain["val_acc"], [np.nan, 0.25, np.nan, 0.75])
    assert plain.dtypes.eq(float).all()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace(".", ","),
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n"),
        "# exported by hand\n# on Monday\n" + PLAIN,
        "sep=,\n" + PLAIN,
        PLAIN.replace("0.400", '"0.400"')
        .replace("0.300", "np.float64(0.300)")
        .replace("0.200", "tensor(0.200)"),
        PLAIN.replace(",\n", ",nan\n"),
        PLAIN.replace(",\n", ",None\n").replace("0.75", " 0.75 "),
        PLAIN.replace("\n", ",\n"),
        gzip.compress(PLAIN.encode()),
    ],
    ids=[
        "tab",
        "semicolon",
        "comma-decimals",
        "bom",
        "crlf",
        "blank-lines",
        "comments",
        "sep",
        "spelling",
        "nan",
        "none",
        "trailing",
        "gzip",
    ],
)
def test_dialects_read_the_same(tmp_path, plain, text):
    pd.testing.assert_frame_equal(read_one(tmp_path, text, "other.csv").rows, plain)


def test_wandb_chart_export(tmp_path):
    text = (
        '"Step","grpo - seed 1 - actor/entropy","grpo - seed 1 - actor/entropy__MIN",'
        '"grpo - seed 1 - actor/entropy__MAX",'
        '"base - actor/entropy","base - actor/entropy__MIN","base - actor/entropy__MAX","base - val/acc"\n'
        '"1","0.5","0.4","0.6","","","",""\n"2","","","","0.25","0.2","0.3",""\n'
        '"3","0.3","0.3","0.3","0.125","0","1","0.75"\n'
    )
    runs = read_all(tmp_path, text)
    assert [r.name for r in runs] == ["grpo - seed 1", "base"]
    assert runs[0].rows.to_dict("list") == {"step": [1, 3], "actor/entropy": [0.5, 0.3]}
    assert runs[1].rows["step"].tolist() == [2, 3] and runs[1].rows["val/acc"].dropna().tolist() == [0.75]
    assert {c for r in runs for c in r.rows} == {"step", "actor/entropy", "val/acc"}
    assert runs[0].provenance.format == "wandb-export"


@pytest.mark.parametrize("column", ["run", "run_id", "run_name", "name", "experiment"])
def test_runs_in_one_table(tmp_path, column):
    text = f"{column},step,entropy\n" + "".join(
        f"{r},{t},{t / k}\n" for t in (1, 2) for r, k in (("b", 2), ("a", 4))
    )
    runs = read_all(tmp_path, text)
    assert [r.name for r in runs] == ["b", "a"]
    assert [r.rows["entropy"].tolist() for r in runs] == [[0.5, 1.0], [0.25, 0.5]]
    assert column not in runs[0].rows


def test_numbered_runs_and_long_form(tmp_path):
    runs = read_all(tmp_path, "run,step,entropy\n1,1,0.5\n1,2,0.4\n2,1,0.3\n")
    assert [r.name for r in runs] == ["1", "2"] and runs[0].rows["entropy"].tolist() == [0.5, 0.4]
    text = "run,step,metric,value\n" + "".join(
        f"{r},{t},{m},{v}\n"
        for r in "ab"
        for t in (1, 2)
        for m, v in (("actor/entropy", t / 4), ("val/acc", t / 8))
    )
    runs = read_all(tmp_path, text, "long.csv")
    assert [r.name for r in runs] == ["a", "b"]
    merged = runs[1].rows.groupby("step").first()
    assert merged.to_dict("list") == {"actor/entropy": [0.25, 0.5], "val/acc": [0.125, 0.25]}


def test_repeated_column_names_are_told(tmp_path):
    run = read_one(tmp_path, "step,loss,loss,loss.1\n1,0.5,0.4,0.3\n2,0.2,0.1,0.0\n")
    assert len(set(run.rows.columns)) == 4 and run.rows["loss"].tolist() == [0.5, 0.2]
    assert codes(run) == {"duplicate-column"}


def test_damaged_lines_cost_themselves_only(tmp_path):
    lines = [f"{t},0.{t:03d},word {t}" for t in range(1, 101)]
    whole = read_one(tmp_path, "step,entropy,note\n" + "\n".join(lines) + "\n").rows
    lines[9] = '10,"0.010,word 10'
    lines[19] = "20,0.020"
    lines[29] = "30,0.030,word,30"
    lines[39] = "40,0.0x40,word 40"
    run = read_one(tmp_path, "step,entropy,note\n" + "\n".join(lines) + "\n")
    pd.testing.assert_frame_equal(
        run.rows[run.rows["step"] != 40].reset_index(drop=True),
        whole[~whole["step"].isin([10, 20, 30, 40])].reset_index(drop=True),
    )
    assert codes(run) == {"rows-unread", "cells-unread"}


def test_quoted_cells_may_span_lines(tmp_path):
    run = read_one(tmp_path, 'step,text,entropy\n1,"a, b\nc ""d""\n\ne",0.5\n2,plain,0.4\n3,"x",0.3\n')
    assert run.rows.to_dict("list") == {"step": [1, 2, 3], "entropy": [0.5, 0.4, 0.3]} and run.findings == ()


def test_cut_at_every_byte_of_the_last_line(tmp_path, plain):
    start = PLAIN.rstrip("\n").rindex("\n") + 1
    for cut in range(start + 1, len(PLAIN)):
        run = read_one(tmp_path, PLAIN[:cut])
        pd.testing.assert_frame_equal(run.rows.iloc[:3], plain.iloc[:3])
        tail = run.rows.iloc[3:].to_numpy().ravel()
        assert np.isin(tail[~np.isnan(tail)], plain.iloc[3]).all()
        if cut < len(PLAIN) - 1:
            assert "truncated-tail" in codes(run)
    assert codes(run) == set()  # only the newline is missing: two decimals as in every cell above
    pd.testing.assert_frame_equal(run.rows, plain)


@pytest.mark.parametrize(
    "text",
    [
        "2025-05-22 07:03:31,997 INFO a, b\n2025-05-22 07:03:32,997 INFO a, b\n2025-05-22 07:03:33,997 INFO c, d\n",
        "hello, world\nthis is, a log\nstep:1 - a/x:0.5\n",
        "a,b\n",
        "1,2\n3,4\n",
        '{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n',
        "Loading, please wait\n{'loss': 0.1, 'entropy': 0.5}\n{'loss': 0.1, 'entropy': 0.5}\n",
        "a,b\nx,y\nz,w\n",
    ],
)
def test_what_is_not_a_table(tmp_path, text):
    path = tmp_path / "x.txt"
    path.write_text(text)
    assert recognised(path) in (console, jsonl)
    with pytest.raises(UnreadableSource) as error:
        tabular.read(path, ReadOptions())
    assert error.value.hint
    assert recognise([]) is None


def test_wide_tables_with_a_header_longer_than_the_head(tmp_path):
    names = [f"group/{'x' * 100}/{i}" for i in range(300)]
    text = (
        ",".join(["step", *names])
        + "\n"
        + "".join(f"{t}," + ",".join(["0.25"] * 300) + "\n" for t in range(200))
    )
    assert read_one(tmp_path, text).rows.shape == (200, 301)


def test_parquet(tmp_path):
    frame = pd.DataFrame(
        {
            "run": ["a"] * 3 + ["b"] * 3,
            "step": [1, 2, 3] * 2,
            "entropy": np.array([0.5, np.nan, 0.25, 1, 2, 3], dtype=np.float32),
            "flag": [True, False, True] * 2,
            "text_number": ["0.5", "nan", "tensor(1.5)"] * 2,
            "words": ["x"] * 6,
            "data": [{"actor/entropy": t / 2, "deep": {"x": t}} for t in range(6)],
            "tokens": [[1, 2]] * 6,
        }
    )
    path = tmp_path / "x.parquet"
    frame.to_parquet(path, row_group_size=2)
    assert recognised(path) is parquet
    one, two = parquet.read(path, ReadOptions())
    assert (one.name, two.name) == ("a", "b")
    assert set(one.rows) == {"step", "entropy", "flag", "text_number", "data.actor/entropy", "data.deep.x"}
    np.testing.assert_array_equal(one.rows["entropy"], [0.5, np.nan, 0.25])
    np.testing.assert_array_equal(two.rows["data.actor/entropy"], [1.5, 2.0, 2.5])
    np.testing.assert_array_equal(one.rows["text_number"], [0.5, np.nan, 1.5])


def test_damaged_parquet_is_a_clear_error(tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"step": range(50), "entropy": np.linspace(1, 0, 50)}).to_parquet(path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    damaged = [data[:cut] for cut in range(4, len(data), 97)]
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.integers(4, len(data))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        try:
            parquet.read(path, ReadOptions())
            outcomes.add("read")
        except UnreadableSource as error:
            assert error.hint
            outcomes.add("error")
    assert "error" in outcomes


def test_empty_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame({"step": pd.Series(dtype=float)}).to_parquet(path)
    with pytest.raises(UnreadableSource, match="no metric"):
        parquet.read(path, ReadOptions())
