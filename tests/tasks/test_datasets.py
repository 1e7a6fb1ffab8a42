"""Rows from files, folders and a hub to problems; the stream; the difficulty filter; what bad input says."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import MissingExtra, MissingSeries, SourceNotFound, UnreadableSource, UsageError
from entlaw.tasks import Problem, datasets, manifest
from entlaw.tasks.dataset_task import (
    DataSetPart,
    DatasetTask,
    dataset_task,
    filtered,
    problem_id,
    read_pass_rates,
)
from entlaw.tasks.math import MathVerifier

PROBLEMS = Path(__file__).parents[3] / "shared" / "data" / "problems"
needs_problems = pytest.mark.skipif(
    not PROBLEMS.is_dir(), reason="the public data sets of ../shared/data/problems are not here"
)
SVAMP, GSM8K, MATH = manifest.get("svamp"), manifest.get("gsm8k"), manifest.get("math")
ROWS = [
    {"question": f"What is {i} + {i}?", "result": f"{2 * i}.0", "problem_type": "Addition"} for i in range(60)
]


def own_verifier():
    return MathVerifier(engine="own")


def write(folder: Path, name: str, rows) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(r) + "\n" for r in rows)
    if name.endswith(".parquet"):
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
    elif name.endswith(".csv"):
        with open(path, "w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "svamp.jsonl",
        "svamp.jsonl.gz",
        "svamp.json",
        "svamp.parquet",
        "svamp.csv",
        "MU-NLPC/Calc-svamp/data/test-00000-of-00001.parquet",
        "Calc-svamp/test.jsonl",
    ],
)
def test_every_format_and_place_gives_the_same_problems(tmp_path, name):
    write(tmp_path, name, ROWS)
    loaded = datasets.load(SVAMP, tmp_path)
    assert [(i.question, i.answer, i.level) for i in loaded.items] == [
        (f"What is {i} + {i}?", str(2 * i), "Addition") for i in range(60)
    ]
    assert loaded.notes == ("60 rows where MU-NLPC/Calc-svamp (test) has 1000",)


def test_parts_are_one_set_and_one_format_is_enough(tmp_path):
    write(tmp_path, "Calc-svamp/data/test-00000-of-00002.jsonl", ROWS[:30])
    write(tmp_path, "Calc-svamp/data/test-00001-of-00002.jsonl", ROWS[30:])
    write(tmp_path, "Calc-svamp/data/test-00001-of-00002.parquet", ROWS[30:])
    assert len(datasets.load(SVAMP, tmp_path).items) == 60


def test_a_file_itself_may_have_any_name(tmp_path):
    assert len(datasets.load(SVAMP, write(tmp_path, "whatever.csv", ROWS)).items) == 60


def test_the_layout_of_verl_and_the_hubs(tmp_path):
    hub = [{"question": "Two and two?", "answer": "It is 2+2=<<2+2=4>>4.\n#### 4,000"}]
    verl = [
        {
            "prompt": [{"content": "Two and two? ...", "role": "user"}],
            "reward_model": {"ground_truth": "4,000", "style": "rule"},
            "extra_info": {"question": "Two and two?", "answer": "#### 4,000"},
        }
    ]
    for rows in (hub, verl):
        (item,) = datasets.load(GSM8K, write(tmp_path, "gsm8k.jsonl", rows)).items
        assert (item.question, item.answer) == ("Two and two?", "4,000")


def test_the_template_is_not_said_twice():
    ask = "Find $x$. Let's think step by step and output the final answer within \\boxed{}."
    rows = [
        {
            "prompt": [{"content": "be good", "role": "system"}, {"content": ask, "role": "user"}],
            "reward_model": {"ground_truth": "1"},
            "level": "Level 5",
        }
    ]
    (item,) = datasets.from_rows(MATH, rows, "here").items
    assert item.question == "Find $x$." and MATH.prompt(item.question) == ask


def test_rows_of_other_kinds_and_repeated_questions_are_counted():
    eurus = manifest.get("eurus-2-rl-math")
    row = {
        "prompt": [{"content": "q", "role": "user"}],
        "reward_model": {"ground_truth": "1"},
        "data_source": "n",
    }
    loaded = datasets.from_rows(eurus, [row | {"ability": "math"}, row | {"ability": "code"}], "here")
    assert len(loaded.items) == 1 and "1 rows of other kinds left out" in loaded.notes
    dapo = manifest.get("dapo-math-17k")
    loaded = datasets.from_rows(dapo, [row, row, row], "here")
    assert len(loaded.items) == 1 and "2 repeated questions left out" in loaded.notes


def test_code_problems_carry_what_their_tests_need():
    row = {
        "task_id": "HumanEval/0",
        "prompt": "def f():\n",
        "entry_point": "f",
        "canonical_solution": "    return 1\n",
        "test": "def check(c): assert c() == 1",
    }
    (item,) = datasets.from_rows(manifest.get("humaneval"), [row], "here").items
    assert json.loads(item.answer) == {"prompt": "def f():\n", "test": row["test"], "entry_point": "f"}


def test_unusable_rows_are_listed_with_their_reason():
    rows = [
        {"question": "a", "answer": "#### 1"},
        {"question": "b", "answer": "no mark"},
        {"question": " ", "answer": "#### 2"},
        {"question": "c"},
        {"question": "d", "answer": None},
    ]
    loaded = datasets.from_rows(GSM8K, rows, "here")
    assert [i.row for i in loaded.items] == [0]
    assert [u.row for u in loaded.unusable] == [1, 2, 3, 4]
    told = [u.why for u in loaded.unusable]
    assert (
        "no mark" in told[0]
        and "question is empty" in told[1]
        and "answer" in told[2]
        and "no answer" in told[3]
    )


@pytest.mark.parametrize(
    ("how", "given", "answer"),
    [
        ("number", 27.0, "27"),
        ("number", "0.25", "0.25"),
        ("number", float("nan"), None),
        ("number-unit", "9 (red apples)", "9"),
        ("list", ["$69$,$84$"], "$69$,$84$"),
        ("list", ["a", "b"], "a, b"),
        ("list", [], None),
        ("hashes", "x", None),
        ("boxed", r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("text", "", None),
        ("text", 5, "5"),
    ],
)
def test_taken(how, given, answer):
    assert datasets.taken(how, given) == answer


# Bad input ---------------------------------------------------------------------------------------


def test_missing_columns_name_those_found_and_those_wanted(tmp_path):
    write(tmp_path, "svamp.jsonl", [{"text": "q", "meta": {"gold": 1}}])
    with pytest.raises(MissingSeries) as caught:
        datasets.load(SVAMP, tmp_path)
    told = str(caught.value)
    assert "text, meta (gold)" in told and "question" in told and "result" in told and "svamp.jsonl" in told


def test_a_folder_without_the_set_says_what_it_holds(tmp_path):
    write(tmp_path, "other.jsonl", ROWS)
    with pytest.raises(SourceNotFound) as caught:
        datasets.load(SVAMP, tmp_path)
    assert "other.jsonl" in str(caught.value.why) and "svamp.jsonl" in str(caught.value.hint)
    with pytest.raises(SourceNotFound, match="does not exist"):
        datasets.load(SVAMP, tmp_path / "no")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("svamp.jsonl", b"{not json\n"),
        ("svamp.parquet", b"PAR1"),
        ("svamp.jsonl.gz", b"plain"),
        ("svamp.jsonl", b"\xff\xfe"),
        ("svamp.jsonl", b"[1, 2]"),
        ("svamp.jsonl", b""),
        ("svamp.csv", b""),
    ],
)
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableSource) as caught:
        datasets.load(SVAMP, tmp_path)
    assert name in str(caught.value)


def test_no_usable_row_is_an_error():
    with pytest.raises(UnreadableSource, match="none of its 1 rows"):
        datasets.from_rows(GSM8K, [{"question": "q", "answer": "5"}], "here")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("Couldn't reach 'x' on the Hub"), "--data-dir"),
        (RuntimeError("Dataset 'x' is a gated dataset on the Hub"), "hf auth login"),
        (ValueError("Unknown split"), "--data-dir"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, error, told):
    fake = ModuleType("datasets")

    def load_dataset(hub, config, split, revision):
        assert (hub, config, split, revision) == ("openai/gsm8k", "main", "train", None)
        raise error

    fake.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(SourceNotFound) as caught:
        datasets.load(GSM8K)
    assert told in str(caught.value.hint) and "openai/gsm8k" in str(caught.value)


def test_rows_of_the_hub(monkeypatch):
    fake = ModuleType("datasets")
    fake.load_dataset = lambda *a, **k: ROWS
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert len(datasets.load(SVAMP).items) == 60


def test_without_the_package_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        datasets.load(GSM8K)
    assert "pip install" in str(caught.value.hint) and "--data-dir" in str(caught.value.hint)


# The task ----------------------------------------------------------------------------------------


def task_of(n: int, held_out: int = 3) -> DatasetTask:
    train = tuple(Problem(f"q{i}", str(i)) for i in range(n))
    test = tuple(Problem(f"t{i}", str(i)) for i in range(held_out))
    return DatasetTask([DataSetPart(SVAMP, train)], [DataSetPart(SVAMP, test)], own_verifier())


@given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_the_stream_can_be_entered_anywhere_and_each_epoch_has_every_problem_once(size, seed, start, n):
    task = task_of(size)
    whole = task.training(seed, 0, 100)
    assert task.training(seed, start, n) == whole[start : start + n]
    for epoch in range(100 // size):
        assert sorted(p.prompt for p in whole[epoch * size : (epoch + 1) * size]) == sorted(
            f"q{i}" for i in range(size)
        )


def test_epochs_and_seeds_differ():
    task = task_of(50)
    assert task.training(0, 0, 50) != task.training(0, 50, 50)
    assert task.training(0, 0, 50) != task.training(1, 0, 50)
    assert task_of(50).training(0, 50, 50) == task.training(0, 50, 50)


def test_validation_is_fixed_and_not_more_than_there_is():
    task = task_of(5, held_out=100)
    first = task.validation(20, 7)
    assert first == task.validation(20, 7) != task.validation(20, 8)
    assert len(set(first)) == 20 and [int(p.prompt[1:]) for p in first] == sorted(
        int(p.prompt[1:]) for p in first
    )
    with pytest.raises(UsageError, match="101 validation problems"):
        task.validation(101, 7)


def test_a_training_problem_that_is_held_out_is_left_out():
    train = (Problem("What is  1+1?", "2"), Problem("other", "3"))
    task = DatasetTask(
        [DataSetPart(SVAMP, train)], [DataSetPart(SVAMP, (Problem("what is 1+1?", "2"),))], own_verifier()
    )
    assert {p.prompt for p in task.training(0, 0, 10)} == {"other"}
    assert [f.code for f in task.findings] == ["train-validation-overlap"]


def test_one_in_ten_is_held_out_where_no_set_is_named(tmp_path):
    rows = [{"question": f"What is {i} + 1?", "result": str(i + 1), "problem_type": "A"} for i in range(1000)]
    write(tmp_path, "svamp.jsonl", rows)
    task = dataset_task("svamp", data_dir=tmp_path)
    held_out = {p.prompt for p in task.held_out}
    assert len(task) + len(held_out) == 1000 and 60 < len(held_out) < 140
    assert not held_out & {p.prompt for p in task._train}
    again = dataset_task("svamp", data_dir=write(tmp_path, "rev.jsonl", rows[::-1]))
    assert {p.prompt for p in again.held_out} == held_out  # by the question, not its place


def test_names_levels_and_chat(tmp_path):
    write(tmp_path, "svamp.jsonl", ROWS)
    write(tmp_path, "gsm8k.jsonl", [{"question": f"g{i}", "answer": f"#### {i}"} for i in range(30)])
    task = dataset_task("gsm8k", "svamp", tmp_path, wrap=lambda text: f"<user>{text}<assistant>")
    problem = task.validation(60, 0)[1]
    assert problem == Problem(
        "<user>What is 1 + 1? Let's think step by step and output the final answer within \\boxed{}.<assistant>",
        "2",
        "svamp/Addition",
    )
    assert {p.level for p in task.training(0, 0, 30)} == {"gsm8k"}


def test_scores_one_by_one_and_in_a_batch():
    loose, strict, measured = Problem("a", "5"), Problem("b", "1/2"), Problem("c", "1.6")
    parts = [
        DataSetPart(SVAMP, (loose,)),
        DataSetPart(MATH, (strict,)),
        DataSetPart(manifest.get("minerva"), (measured,)),
    ]
    task = DatasetTask(parts, [], own_verifier())
    cases = [
        (loose, "so it is 5", True, 1.0),
        (loose, "so it is 5", False, 0.0),  # cut off: the last number is no answer
        (loose, r"\boxed{5} and", False, 1.0),
        (loose, "6", True, 0.0),
        (strict, "0.5", True, 0.0),
        (strict, r"\boxed{0.5}", True, 1.0),
        (strict, r"\boxed{0.501}", True, 0.0),
        (measured, r"\boxed{1.571}", True, 1.0),
    ]
    batch = task.score_batch([c[0] for c in cases], [c[1] for c in cases], [c[2] for c in cases])
    assert batch == [c[3] for c in cases] == [task.score(*c[:3]) for c in cases]


def test_equal_answers_vote_together():
    task = task_of(1)
    assert task.extract(r"\boxed{0.5}", True) == task.extract(r"\boxed{\frac{1}{2}}", True) == "1/2"
    assert task.extract(r"\boxed{\left(x, y\right)}", True) == task.extract(r"\boxed{(x,y)}", True)
    assert task.extract("5", False) is None and task.extract("none", True) is None


def test_programs_need_a_checker():
    part = DataSetPart(manifest.get("humaneval"), (Problem("p", "{}"),))
    with pytest.raises(UsageError, match="checker"):
        DatasetTask([part], [])
    task = DatasetTask([part], [], checker=lambda problems, responses: [0.25 * len(r) for r in responses])
    assert task.score(part.problems[0], "ab", False) == 0.5


# Difficulty --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rates.jsonl", "rates.csv", "rates.parquet"])
def test_the_difficulty_filter_drops_all_right_and_all_wrong(tmp_path, name):
    loaded = datasets.from_rows(SVAMP, ROWS[:5], "here")
    rates = [0.0, 1.0, 0.5, 0.125]
    rows = [{"id": problem_id(i.question), "pass_rate": r} for i, r in zip(loaded.items, rates, strict=False)]
    kept, told = filtered(loaded, read_pass_rates(write(tmp_path, name, rows)))
    assert [i.row for i in kept.items] == [2, 3, 4]
    assert "3 of 5 problems kept; 1 too easy, 1 too hard, 1 without" in told.what
    kept, _ = filtered(loaded, read_pass_rates(tmp_path / name), 0.2, 0.8)  # as PRIME
    assert [i.row for i in kept.items] == [2, 4]


def test_a_filter_that_leaves_nothing_and_files_that_are_none(tmp_path):
    loaded = datasets.from_rows(SVAMP, ROWS[:2], "here")
    with pytest.raises(UsageError, match="leaves no problem"):
        filtered(loaded, {problem_id(i.question): 1.0 for i in loaded.items})
    with pytest.raises(MissingSeries, match="pass_rate"):
        read_pass_rates(write(tmp_path, "a.jsonl", [{"question": "q"}]))
    for bad in (1.5, "much", None):
        with pytest.raises(UnreadableSource, match="row 0"):
            read_pass_rates(write(tmp_path, "b.jsonl", [{"question": "q", "pass_rate": bad}]))


def test_question_and_id_name_the_same_problem(tmp_path):
    path = write(tmp_path, "a.jsonl", [{"question": "What  is\n1+1?", "pass_rate": 0.5}])
    assert read_pass_rates(path) == {problem_id("what is 1+1?"): 0.5}


# The command -------------------------------------------------------------------------------------


def command(*tokens):
    from entlaw.cli.data import data

    return data(list(map(str, tokens)), exit_on_error=False, print_error=False, result_action="return_value")


def test_list_shows_every_set_and_where_it_is(tmp_path, capsys):
    write(tmp_path, "svamp.jsonl", ROWS)
    assert command("list", "--data-dir", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(manifest.load())
    assert [line.split()[-1] for line in lines if line.startswith(("svamp", "gsm8k "))] == [
        "-",
        "svamp.jsonl",
    ]
    assert command("list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.data/1" and len(told["sets"]) == len(manifest.load())


def test_show_names_the_rows_that_cannot_be_used(tmp_path, capsys):
    write(
        tmp_path,
        "gsm8k.jsonl",
        [{"question": "One?", "answer": "#### 1"}, {"question": "Two?", "answer": "2"}],
    )
    assert command("show", "gsm8k", "--data-dir", tmp_path, "--rows", "1") == 0
    out = capsys.readouterr().out
    assert "One? Let's think" in out and "1 rows cannot be used" in out and "row 1: no answer" in out
    assert command("show", "gsm8k", "--data-dir", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unusable"][0]["row"] == 1


def test_fetch_writes_what_data_dir_reads(tmp_path, monkeypatch, capsys):
    import pandas as pd

    class Fetched(list):
        def to_parquet(self, buffer):
            pd.DataFrame(list(self)).to_parquet(buffer)

    fake = ModuleType("datasets")
    fake.load_dataset = lambda *a, **k: Fetched(ROWS)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert command("fetch", "svamp", "-o", tmp_path / "new") == 0
    assert "60 problems" in capsys.readouterr().out
    assert len(datasets.load(SVAMP, tmp_path / "new").items) == 60
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no folder"):
        command("fetch", "svamp", "-o", tmp_path / "file")


# The public sets ---------------------------------------------------------------------------------

ROWS_THERE = {
    "gsm8k": 7473,
    "math": 7498,
    "math-500": 500,
    "math-test": 5000,
    "aime24": 30,
    "aime25": 30,
    "amc": 40,
    "olympiadbench": 675,
    "minerva": 272,
    "gsm8k-test": 1319,
    "svamp": 1000,
    "mawps": 2065,
    "asdiv": 2215,
    "humaneval": 164,
}


@needs_problems
@pytest.mark.parametrize("name", ROWS_THERE)
def test_the_published_files(name):
    loaded = datasets.load(manifest.get(name), PROBLEMS)
    assert len(loaded.items) == ROWS_THERE[name]
    assert [u.row for u in loaded.unusable] == ([5341, 5343] if name == "math" else [])


@needs_problems
@pytest.mark.parametrize("name", ["gsm8k-test", "math-500", "minerva"])
def test_published_solutions_verify_as_right(name):
    spec = manifest.get(name)
    loaded = datasets.load(spec, PROBLEMS)
    with own_verifier() as own:
        verdicts = own.verify_batch(
            [i.solution for i in loaded.items], [i.answer for i in loaded.items], spec.where, spec.rounded
        )
        assert (
            np.mean([v.right for v in verdicts]) > 0.99
        )  # computer algebra, not used here, finds the others
        # The next problem's solution must not: most answers differ.
        answers = [i.answer for i in loaded.items]
        crossed = own.verify_batch(
            [i.solution for i in loaded.items], answers[1:] + answers[:1], spec.where, spec.rounded
        )
        same = np.mean([a == b for a, b in zip(answers, answers[1:] + answers[:1], strict=True)])
        assert np.mean([v.right for v in crossed]) <= same + 0.02
