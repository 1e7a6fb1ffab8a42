"""Tables as people and trackers make them: headers that change, marks among digits, long forms, tables of runs."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.parsing.numerals import Numerals
from entlaw.runs.reader import read_raw

STEPS = range(1, 21)
VALUES = {
    "step": lambda t: t,
    "entropy": lambda t: round(1 - t / 50, 4),
    "accuracy": lambda t: round(0.1 + t / 99, 4),
    "kl": lambda t: t / 8,
}


def rows(names, steps, delimiter=","):
    lines = [delimiter.join(names)] + [
        delimiter.join(str(VALUES[n.lower()](t)) for n in names) for t in steps
    ]
    return "".join(line + "\n" for line in lines)


def read(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_raw(path)


def check(run, steps=STEPS, names=("entropy", "accuracy")):
    merged = run.rows.groupby("step").first()
    assert merged.index.tolist() == list(steps)
    for name in names:
        assert merged[name].tolist() == [VALUES[name](t) for t in steps], name


def codes(run):
    return {f.code for f in run.findings if f.severity != "info"}


# Headers that change ----------------------------------------------------------------------------


@pytest.mark.parametrize("second", list(itertools.permutations(("step", "entropy", "accuracy"))))
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_columns_in_another_order_after_a_restart(tmp_path, second, delimiter):
    text = rows(("step", "entropy", "accuracy"), range(1, 11), delimiter) + rows(
        second, range(11, 21), delimiter
    )
    (run,) = read(tmp_path, text)
    check(run)
    assert not codes(run)
    assert ("header-changed" in {f.code for f in run.findings}) == (second != ("step", "entropy", "accuracy"))


@pytest.mark.parametrize(
    "second",
    [
        ("step", "entropy", "accuracy", "kl"),
        ("kl", "accuracy", "entropy", "step"),
        ("Step", "Accuracy", "Entropy"),
        ("STEP", "kl", "entropy", "accuracy"),
    ],
)
def test_more_columns_or_another_spelling_after_a_restart(tmp_path, second):
    (run,) = read(tmp_path, rows(("step", "entropy", "accuracy"), range(1, 11)) + rows(second, range(8, 21)))
    check(run)
    assert not codes(run) and len(run.rows) == 23
    assert ("kl" in run.rows) == ("kl" in second)
    assert len({name.lower() for name in run.rows}) == run.rows.shape[1]


def test_fewer_columns_and_back(tmp_path):
    text = rows(("step", "entropy", "accuracy"), range(1, 5)) + rows(("step", "accuracy"), range(5, 9))
    (run,) = read(tmp_path, text + rows(("step", "entropy", "accuracy"), range(9, 21)))
    check(run, names=("accuracy",))
    entropy = run.rows.set_index("step")["entropy"]
    assert entropy.dropna().index.tolist() == [t for t in STEPS if not 5 <= t < 9]


def test_text_among_the_rows_is_no_header_and_no_row(tmp_path):
    text = rows(("step", "entropy", "accuracy"), range(1, 11))
    text += "Saving the model, please wait, done\nEpoch 1 is over\n" + "".join(
        f"{t},{VALUES['entropy'](t)},{VALUES['accuracy'](t)}\n" for t in range(11, 21)
    )
    (run,) = read(tmp_path, text)
    check(run)
    assert codes(run) == {"rows-unread"}


BANNERS = {
    "two lines": "Loading model...\nTraining started\n",
    "unsloth": "==((====))==  Unsloth\n\\\\   /|    Num examples = 64\n [20/20 05:11, Epoch 0/1]\n",
    "bars": "Loading checkpoint shards: 100%|####| 2/2 [00:01<00:00,  1.5it/s]\n",
    "settings": "INFO using lr=1e-6, beta=0.1, seed=3\n{'a': 1, 'b': 2}\n[1, 2, 3]\n",
    "another table": "rank,port,gpus\n0,29500,8\n1,29501,8\n",
    "long": "".join(f"warning {i}: something, somewhere, is deprecated\n" for i in range(200)),
}


@pytest.mark.parametrize("banner", BANNERS)
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_text_above_the_header(tmp_path, banner, delimiter):
    text = BANNERS[banner] + rows(("step", "entropy", "accuracy"), STEPS, delimiter)
    (run,) = read(tmp_path, text + "TrainOutput(global_step=20, loss=0.1)\n", "x.log")
    check(run)


@pytest.mark.parametrize("cell", ["No Log", "-", "—", "N/A", ""])
def test_cells_that_say_that_there_is_nothing(tmp_path, cell):
    lines = ["Step\tTraining Loss\tValidation Loss\treward\tentropy"]
    lines += [f"{t}\t0.1\t{cell}\t0.5\t{cell if t % 2 else VALUES['entropy'](t)}" for t in STEPS]
    (run,) = read(tmp_path, "\n".join(lines) + "\n", "pasted.txt")
    assert "Validation Loss" not in run.rows and not run.findings
    assert run.rows["entropy"].dropna().tolist() == [VALUES["entropy"](t) for t in STEPS if t % 2 == 0]


def test_columns_apart_by_spaces(tmp_path):
    text = "  step   entropy   accuracy\n" + "".join(
        f"{t - 1:2d}   {t:3d}   {VALUES['entropy'](t)}   {VALUES['accuracy'](t)}\n" for t in STEPS
    )
    (run,) = read(tmp_path, text, "printed.txt")
    check(run)


# Marks among digits -----------------------------------------------------------------------------


def grouped(number, mark):
    return f"{number:,}".replace(",", mark)


@pytest.mark.parametrize("factor", [1, 100, 512, 70_000])
@pytest.mark.parametrize(
    ("mark", "delimiter", "decimal"),
    [
        (",", ",", "."),
        (",", "\t", "."),
        (",", ";", "."),
        (".", ";", ","),
        (".", "\t", ","),
        (" ", ";", ","),
        ("'", ",", "."),
        ("\u2019", ";", "."),
        ("\u00a0", "\t", ","),
        ("\u202f", ";", ","),
    ],
)
def test_thousands(tmp_path, mark, delimiter, decimal, factor):
    lines = [delimiter.join(("step", "entropy", "accuracy"))]
    for t in STEPS:
        cells = [
            grouped(t * factor, mark),
            *(f"{VALUES[n](t)}".replace(".", decimal) for n in ("entropy", "accuracy")),
        ]
        lines.append(delimiter.join(f'"{c}"' if delimiter in c else c for c in cells))
    (run,) = read(tmp_path, "\n".join(lines) + "\n")
    assert run.rows["step"].tolist() == [t * factor for t in STEPS]
    for name in ("entropy", "accuracy"):
        assert run.rows[name].tolist() == [VALUES[name](t) for t in STEPS]
    assert not run.findings


def test_the_mark_may_be_proven_late(tmp_path):
    """Hundreds of rows with three decimals look like thousands until one has four."""
    lines = [f'{t},"1,{t + 100}"' for t in range(1, 600)]
    thousands = "step,tokens\n" + "\n".join(lines) + "\n"
    (run,) = read(tmp_path, thousands)
    assert run.rows["tokens"].tolist() == [1000 + t + 100 for t in range(1, 600)]
    (run,) = read(tmp_path, thousands + '600,"0,5"\n')
    assert run.rows["tokens"].tolist() == [float(f"1.{t + 100}") for t in range(1, 600)] + [0.5]
    (run,) = read(tmp_path, thousands.replace(",", ";", 0) + '600,"1,234,567"\n')
    assert run.rows["tokens"].iloc[[0, -1]].tolist() == [1101, 1234567]


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 10**9), decimals=st.integers(1, 6), comma=st.booleans())
def test_numbers_with_both_marks_mean_one_thing(number, decimals, comma):
    value = number + round(number % 997 / 997, decimals)
    text = f"{value:,.{decimals}f}"
    cell = text.translate(str.maketrans(",.", ".,")) if comma else text
    mark = "," if comma else "."
    got = Numerals(mark, proven=True).read(cell)
    np.testing.assert_allclose(got, float(text.replace(",", "")), rtol=1e-15)


# Long tables ------------------------------------------------------------------------------------


LONG = {
    "ClearML": ("metric", "variant", "iteration", "value"),
    "ClearML's logger": ("title", "series", "iteration", "value"),
    "Comet": ("metricName", "metricValue", "step", "timestamp"),
    "spaces": ("Metric Name", "Step", "Metric Value"),
    "TensorBoard": ("wall_time", "tag", "step", "value"),
    "MLflow": ("key", "value", "step", "timestamp"),
    "no metric but a variant": ("series", "iteration", "value"),
}


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("kind", LONG)
def test_long_tables(tmp_path, kind, shift):
    names = LONG[kind][shift % len(LONG[kind]) :] + LONG[kind][: shift % len(LONG[kind])]
    lines = [",".join(names)]
    for t in STEPS:
        for key in ("entropy", "accuracy"):
            cells = {"iteration": t, "step": t, "variant": key, "value": VALUES[key](t)}
            cells |= {"title": "train", "metric": "train", "timestamp": 1.7e9 + t, "wall_time": 1.7e9 + t}
            cells |= {"metricname": key, "metricvalue": VALUES[key](t), "tag": key, "key": key, "series": key}
            lines.append(",".join(str(cells[n.lower().replace(" ", "")]) for n in names))
    (run,) = read(tmp_path, "\n".join(lines) + "\n")
    rows = run.rows.rename(columns={"iteration": "step", "Step": "step"})
    merged = rows.groupby("step").first()
    prefix = "train/" if {"metric", "title"} & set(names) else ""
    for key in ("entropy", "accuracy"):
        assert merged[prefix + key].tolist() == [VALUES[key](t) for t in STEPS]
    assert not run.findings


def test_a_wide_table_may_have_a_column_of_values(tmp_path):
    text = "step,metric_value,title,entropy\n" + "".join(
        f"{t},{t / 7},a,{VALUES['entropy'](t)}\n" for t in STEPS
    )
    (run,) = read(tmp_path, text)
    check(run, names=("entropy",))


# Tables of runs ---------------------------------------------------------------------------------


OVERVIEWS = {
    "W&B": '"Name","State","User","Tags","Created","Runtime","Sweep","entropy","score"\n'
    + "".join(f'"run-{i}","finished","me","","2026-01-0{i}","3600","","0.{i}","0.4"\n' for i in range(1, 6)),
    "W&B, all of one name": '"Name","State","User","Created","entropy"\n'
    + "".join(f'"grpo","finished","me","2026-01-0{i}","0.{i}"\n' for i in range(1, 6)),
    "W&B, its API": ",summary,config,name\n"
    + "".join(f"{i},\"{{'entropy': 0.{i}}}\",\"{{'lr': 1}}\",run-{i}\n" for i in range(1, 6)),
    "MLflow": "Start Time,Duration,Run ID,Name,Source Type,User,Status,lr,entropy\n"
    + "".join(f"2026-01-01,1.2h,abc{i},r{i},LOCAL,me,FINISHED,1e-6,0.{i}\n" for i in range(1, 6)),
    "Neptune": "sys/id,sys/state,sys/creation_time,sys/owner,sys/running_time,entropy\n"
    + "".join(f"RL-{i},inactive,2026-01-01,me,3600,0.{i}\n" for i in range(1, 6)),
    "Optuna": ",number,value,datetime_start,datetime_complete,duration,params_lr,state\n"
    + "".join(f"{i},{i},0.{i},2026-01-01,2026-01-02,0 days,1e-3,COMPLETE\n" for i in range(5)),
    "TensorBoard": "trial_id,show_metrics,lr,entropy\n"
    + "".join(f"t{i},false,0.1,0.{i}\n" for i in range(5)),
    "last steps": "model,step,entropy,accuracy\n" + "".join(f"qwen-{i},500,0.{i},0.4\n" for i in range(1, 6)),
    "W&B, steps near each other": '"ID","Tags","actor/entropy","val/acc","_step"\n'
    + "".join(f'"a{i}x","","0.{i}","0.4","{400 + (3 * i) % 5}"\n' for i in range(1, 6)),
    "by hand": "run_name\tentropy\taccuracy\n" + "".join(f"seed{i}\t0.{i}\t0.4\n" for i in range(5)),
}


@pytest.mark.parametrize("kind", OVERVIEWS)
def test_a_table_of_runs_is_refused_as_one(tmp_path, kind):
    with pytest.raises(UnreadableSource, match="one row a run") as error:
        read(tmp_path, OVERVIEWS[kind])
    assert "history" in error.value.why and "export" in error.value.hint and error.value.exit_code == 3


def test_histories_of_runs_with_facts_beside_them_are_read(tmp_path):
    text = "run_id,status,step,duration,entropy\n" + "".join(
        f"{r},ok,{t},1.5,{VALUES['entropy'](t)}\n" for r in "ab" for t in STEPS
    )
    runs = read(tmp_path, text)
    assert [run.name for run in runs] == ["a", "b"]
    for run in runs:
        check(run, names=("entropy",))


@pytest.mark.parametrize("word", ["qwen", "ckpt-{t}", "2026-01-01 00:{t:02}:00"])
@pytest.mark.parametrize("first", [0, 400])
def test_histories_with_a_column_of_words_are_read(tmp_path, word, first):
    lines = [f"{word.format(t=t)},{first + t},{VALUES['entropy'](t)}\n" for t in STEPS]
    (run,) = read(tmp_path, "model,step,entropy\n" + "".join(lines))
    assert run.rows["step"].tolist() == [first + t for t in STEPS]
    assert run.rows["entropy"].tolist() == [VALUES["entropy"](t) for t in STEPS]


def test_json_lines_with_a_mark_in_front_of_every_part(tmp_path):
    part = json.dumps({"step": 1, "entropy": 0.5}) + "\n"
    (run,) = read(
        tmp_path, (part.encode("utf-8-sig") + part.replace("1", "2", 1).encode("utf-8-sig")), "x.jsonl"
    )
    assert run.rows["step"].tolist() == [1, 2] and not run.findings
