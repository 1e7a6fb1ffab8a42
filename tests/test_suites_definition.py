"""Suites: their facts against the paper, the problems they ask, and what is said where sets are missing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from entlaw.errors import MissingSeries, SourceNotFound, UsageError
from entlaw.suites import definition, problems
from entlaw.suites.definition import Suite, SuiteColumn
from entlaw.suites.statistics import Estimate, averaged
from entlaw.tasks import manifest
from entlaw.tasks.arithmetic import Arithmetic
from entlaw.tasks.dataset_task import dataset_task
from tests.suites_helpers import SHARED

MATH = definition.load()["paper-math"]


def test_the_papers_decoding_is_what_its_sets_have():
    """Temperature 0.6 and 32 samples for AIME and AMC, one greedy answer for the rest."""
    decode = {m.name: manifest.get(m.name).decode for m in MATH.sets}
    assert {n for n, d in decode.items() if (d.temperature, d.samples) == (0.6, 32)} == {
        "aime24",
        "aime25",
        "amc",
    }
    assert all((d.temperature, d.samples) in ((0.6, 32), (0.0, 1)) for d in decode.values())
    assert MATH.max_tokens == 8192


def test_row_weights_are_problems_by_samples():
    rows = {m.name: m.rows for m in MATH.sets}
    assert rows == {
        "aime24": 30 * 32,
        "aime25": 30 * 32,
        "amc": 83 * 32,
        "math-500": 500,
        "omni-math": 2821,
        "olympiadbench": 675,
        "minerva": 272,
    }


def test_row_weights_reproduce_the_printed_averages_and_equal_weights_do_not():
    errors = {"rows": [], "equal": []}
    for row in MATH.published:
        scores = [Estimate(s) for s in row.scores]
        errors["rows"].append(averaged(scores, [m.rows for m in MATH.sets]).value - row.printed)
        errors["equal"].append(averaged(scores, [1] * 7).value - row.printed)
    # Columns are rounded to 0.1 as is the average: at most 0.05 + 0.05 points off.
    assert np.abs(errors["rows"]).max() < 0.0010
    assert np.abs(errors["equal"]).max() > 0.01


def test_published_numbers_are_the_papers():
    path = SHARED / "paper" / "main_table.csv"
    if not path.is_file():
        pytest.skip("the paper's table is not in ../shared/data/paper")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    told = [
        (
            f"{r['backbone']} {r['method']}",
            [float(v) for k, v in r.items() if k not in ("backbone", "method", "Avg")],
            float(r["Avg"]),
        )
        for r in csv.DictReader(lines)
    ]
    ours = [
        (p.model, [round(100 * s, 1) for s in p.scores], round(100 * p.printed, 1)) for p in MATH.published
    ]
    assert ours == told
    assert lines[0].split(",")[2:-1] == [m.label for m in MATH.sets]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[x]\nsets = [{name = "svamp", label = "S"}]\nmax_tokens = 1\ntitle = ""\ncolour = 1', "colour"),
        ('[x]\nsets = [{name = "swamp", label = "S"}]\nmax_tokens = 1\ntitle = ""', "swamp"),
        ('[x]\nsets = [{name = "svamp", label = "S", part = "half"}]\nmax_tokens = 1\ntitle = ""', "svamp"),
        (
            '[x]\nsets = [{name = "svamp", label = "S", rows = 3}, {name = "amc", label = "A"}]\nmax_tokens = 1\n'
            'title = ""',
            "uneven",
        ),
        (
            '[x]\nsets = [{name = "svamp", label = "S"}]\nmax_tokens = 1\ntitle = ""\n'
            'published = [{model = "m", scores = [1.0, 2.0], printed = 1.5}]',
            "uneven",
        ),
    ],
)
def test_a_wrong_manifest_is_noticed(text, words):
    with pytest.raises(ValueError, match=words):
        definition.parse(text)


def test_lists_of_sets():
    assert [m.name for m in definition.get(" SVAMP, math_500 ").sets] == ["svamp", "math-500"]
    assert definition.get("paper-math") == MATH
    assert definition.get("kodcode").sets[0].part == "held-out"  # a training set: what was not trained on
    assert definition.get("arithmetic").sets == (SuiteColumn("arithmetic", "arithmetic"),)
    for text, words in (
        ("svamp,SVAMP", "twice"),
        ("svamp,paper-math", "cannot be combined"),
        (",", "names nothing"),
        ("paper-maths", "no suite or data set"),
        ("svamp,mawp", "no data set is called 'mawp'"),
    ):
        with pytest.raises(UsageError, match=words) as told:
            definition.get(text)
        assert told.value.hint is not None or words == "twice"


# Problems ----------------------------------------------------------------------------------------


def write(folder, name, rows):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))


def svamp(n, **more):
    return [
        {"question": f"What is {i} + {i}?", "result": f"{2 * i}"} | {"problem_type": "", **more}
        for i in range(n)
    ]


def test_a_limit_draws_the_same_problems_again_and_the_checksum_is_of_all(tmp_path):
    write(tmp_path, "svamp.jsonl", svamp(60))
    suite = definition.get("svamp")
    (whole,) = problems.load(suite, tmp_path, None, 0)
    (few,) = problems.load(suite, tmp_path, 7, 0)
    (again,) = problems.load(suite, tmp_path, 7, 0)
    (other,) = problems.load(suite, tmp_path, 7, 1)
    assert few == again and len(few.problems) == 7 and set(few.problems) < set(whole.problems)
    assert [p.row for p in few.problems] == sorted(p.row for p in few.problems)
    assert few.problems != other.problems
    assert few.checksum == whole.checksum and few.total == whole.total == 60
    assert problems.load(suite, tmp_path, 99, 0)[0].problems == whole.problems
    write(
        tmp_path,
        "svamp.jsonl",
        [*svamp(59), {"question": "What is 59 + 59?", "result": "119", "problem_type": ""}],
    )
    assert problems.load(suite, tmp_path, 7, 0)[0].checksum != whole.checksum


def test_a_repeated_question_is_asked_once(tmp_path):
    rows = svamp(20)
    rows.append({"question": "what is  3 + 3?", "result": "6", "problem_type": ""})
    write(tmp_path, "svamp.jsonl", rows)
    (found,) = problems.load(definition.get("svamp"), tmp_path, None, 0)
    assert len(found.problems) == 20 and len({p.id for p in found.problems}) == 20
    assert [f.code for f in found.findings if f.code == "repeated-questions"] == ["repeated-questions"]


def test_a_training_set_is_asked_for_what_training_holds_out(tmp_path):
    rows = [{"question": f"How much is {i} and {i}?", "answer": f"#### {2 * i}"} for i in range(300)]
    write(tmp_path, "gsm8k_train.jsonl", rows)
    (found,) = problems.load(definition.get("gsm8k"), tmp_path, None, 0)
    task = dataset_task("gsm8k", data_dir=tmp_path)
    held_out = task.validation(len(found.problems), 0)
    assert {p.text for p in found.problems} == {p.prompt for p in held_out}
    with pytest.raises(UsageError):
        task.validation(len(found.problems) + 1, 0)


def test_missing_sets_are_named_all_at_once_or_skipped_with_a_word(tmp_path):
    write(tmp_path, "svamp.jsonl", svamp(20))
    suite = definition.get("svamp,amc,minerva")
    with pytest.raises(SourceNotFound) as told:
        problems.load(suite, tmp_path, None, 0)
    text = str(told.value)
    assert told.value.exit_code == 3 and "amc, minerva" in text
    assert "entlaw data fetch amc" in text and "--data-dir" in text and "--skip-missing" in text
    found = problems.load(suite, tmp_path, None, 0, skip_missing=True)
    assert [h.member.name for h in found] == ["svamp"]
    told = [f.what for f in found[0].findings if f.code == "set-missing"]
    assert len(told) == 2 and "1 of 3 sets" in told[0]
    with pytest.raises(SourceNotFound):  # nothing at all is left
        problems.load(definition.get("amc"), tmp_path, None, 0, skip_missing=True)


def test_missing_columns_are_named(tmp_path):
    write(tmp_path, "svamp.jsonl", [{"question": "What?", "solution": "4"}])
    with pytest.raises(MissingSeries, match="no column result") as told:
        problems.load(definition.get("svamp"), tmp_path, None, 0, skip_missing=True)
    assert told.value.exit_code == 3


def test_sums_are_the_recipes(tmp_path):
    suite = definition.get("arithmetic")
    (found,) = problems.load(suite, None, 30, 5, Arithmetic((2, 3), "+-"))
    assert [p.text for p in found.problems] == [p.prompt for p in Arithmetic((2, 3), "+-").validation(30, 5)]
    with pytest.raises(UsageError, match="fewer than"):
        problems.load(suite, None, 101, 5, Arithmetic((1,), "+"))


@pytest.mark.skipif(not (SHARED / "problems").is_dir(), reason="../shared/data/problems is not here")
def test_published_files_are_read_with_their_known_numbers_of_problems():
    suite = Suite("x", "", tuple(m for m in MATH.sets if m.name != "omni-math"), 10)
    found = {h.member.name: len(h.problems) for h in problems.load(suite, SHARED / "problems", None, 0)}
    assert found == {
        "aime24": 30,
        "aime25": 30,
        "amc": 40,
        "math-500": 500,
        "olympiadbench": 675,
        "minerva": 272,
    }
