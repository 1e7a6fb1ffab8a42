"""Tables: what stands in them, and that every format reads back to it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.cli.output import dump_json
from entlaw.suites import definition, render, table
from entlaw.suites.collect import Decoding, Job
from entlaw.suites.models import Model
from entlaw.suites.statistics import averaged, clustered, paired
from entlaw.suites.store import ItemFile, StoredResponse
from entlaw.train import recipe as recipes
from tests.suites_helpers import sums

AWKWARD = r"a_b & 50% {x} ~ ^ # $ \ | * [z] <i>"


def job(tmp_path, label, name, scores, member=None):
    """A finished job with these rewards."""
    held = sums(len(scores), scores.shape[1])
    member = member or definition.SuiteColumn(name, name)
    held = dataclasses.replace(held, member=member)
    model = Model(label, label, label, "w", recipes.load(None), None, 128)
    file = ItemFile(tmp_path / f"{name}-{label[:1]}-none", {})
    for i, row in enumerate(scores):
        for j, reward in enumerate(row):
            verdict = "right" if reward else ("no-answer" if j else "undecided")
            file.items[f"p{i}", j] = StoredResponse(
                f"p{i}", i, j, "x", j == 0, j + 1, None, verdict, float(reward), (0,)
            )
    return Job(model, held, Decoding(5), (), (), file)


@pytest.fixture
def built(tmp_path):
    rng = np.random.default_rng(0)
    first = [(rng.random((n, k)) < 0.4).astype(float) for n, k in ((40, 4), (60, 2))]
    second = [np.maximum(first[0], rng.random((40, 4)) < 0.8), first[1].copy()]
    members = [definition.SuiteColumn("svamp", "SVAMP"), definition.SuiteColumn("math-500", "MATH-500")]
    suite = definition.Suite("svamp,math-500", "", tuple(members), 5)
    jobs = [
        [job(tmp_path, label, m.name, s, m) for m, s in zip(members, scores, strict=True)]
        for label, scores in (("base", first), (AWKWARD, second))
    ]
    return table.build(suite, jobs), (first, second)


def test_the_table_is_made_of_the_scores(built):
    found, (first, second) = built
    base, other = found.rows
    assert [e.value for e in base.scores] == [pytest.approx(s.mean()) for s in first]
    assert base.equal == averaged([clustered(s) for s in first], [1, 1])
    assert other.weighted.value == pytest.approx(sum(s.sum() for s in second) / sum(s.size for s in second))
    assert found.weights_from == "responses" and [c.weight for c in found.columns] == [160 / 280, 120 / 280]
    (difference,) = found.differences
    assert difference.scores == tuple(paired(a, b) for a, b in zip(first, second, strict=True))
    assert difference.equal.value == pytest.approx(other.equal.value - base.equal.value)
    # Copies are not told apart; the clearly better one is; the averages follow their own errors.
    assert found.best == (1, None, 1, 1)
    shares = base.responses[0]
    assert (shares.problems, shares.samples, shares.tokens) == (40, 4, 2.5)
    assert shares.cut == 0.75
    assert shares.no_answer + shares.undecided == pytest.approx(1 - first[0].mean())


def cells(line):
    return [re.sub(r"\\(.)", r"\1", c.strip()) for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_reads_back(built):
    found, _ = built
    text = render.render(found, "markdown")
    lines = text.splitlines()
    assert cells(lines[0]) == ["model", "SVAMP", "MATH-500", "Avg. (equal)", "Avg. (responses)"]
    assert cells(lines[1])[1] == "---:"
    row = cells(lines[3])
    assert row[0] == AWKWARD
    assert row[1] == f"**{100 * found.rows[1].scores[0].value:.1f} ± {100 * found.rows[1].scores[0].se:.1f}**"
    assert "**" not in row[2] and "**" not in lines[2]
    assert f"{100 * found.differences[0].scores[0].value:+.1f} ± " in text


def test_csv_reads_back_unrounded(built):
    found, _ = built
    rows = list(csv.DictReader(io.StringIO(render.render(found, "csv"))))
    assert [r["model"] for r in rows] == ["base", AWKWARD, f"{AWKWARD} − base"]
    assert [r["kind"] for r in rows] == ["measured", "measured", "difference"]
    for row, of in zip(rows, (*found.rows, *found.differences), strict=True):
        assert float(row["svamp_percent"]) == pytest.approx(100 * of.scores[0].value, rel=1e-9)
        assert float(row["average_rows_se"]) == pytest.approx(100 * of.weighted.se, rel=1e-9)


def test_json_holds_fractions_and_no_nan(built):
    found, _ = built
    told = json.loads(dump_json(table.as_dict(found)))
    assert told["schema"] == "entlaw.eval-suite/1" and told["row_weights_from"] == "responses"
    score = told["rows"][1]["scores"]["svamp"]
    assert score["value"] == found.rows[1].scores[0].value and score["problems"] == 40
    assert score["interval"] == list(found.rows[1].scores[0].interval())
    assert told["best"] == {
        "svamp": AWKWARD,
        "math-500": None,
        "average_equal": AWKWARD,
        "average_rows": AWKWARD,
    }
    assert "NaN" not in dump_json(table.as_dict(found))


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30))
def test_no_text_leaves_its_cell(text):
    assert cells(f"| {render.markdown_text(text)} |") == [text.strip()] or text != text.strip()
    escaped = render.latex_text(text)
    bare = re.sub(r"\\(?:(?:text\w+|dag)\{\}|[&%$#_{}])|\$\\pm\$|\$-\$|\{\[\}|\{\]\}", "", escaped)
    assert not set(bare) & set(r"\&%$#_{}~^[]")


def test_latex_compiles_where_there_is_latex(built, tmp_path):
    found, _ = built
    text = render.render(found, "latex")
    assert text.count(r"\begin{tabular}{lrrrr}") == 2 and r"\textbf{" in text
    for line in text.splitlines():
        if line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) == 4
    assert r"a\_b \& 50\% \{x\} \textasciitilde{}" in text
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here: only the text was looked at")
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + text + "\\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]


# The paper's rows --------------------------------------------------------------------------------


def paper_table(tmp_path, without=()):
    suite = definition.load()["paper-math"]
    rng = np.random.default_rng(1)
    members = [m for m in suite.sets if m.name not in without]
    jobs = [[job(tmp_path, "ours", m.name, (rng.random((12, 2)) < 0.3).astype(float), m) for m in members]]
    return table.build(suite, jobs, with_paper=True)


def test_published_rows_are_marked_have_no_error_and_flip(tmp_path):
    found = paper_table(tmp_path)
    assert [r.kind for r in found.rows] == ["measured"] + ["published"] * 8
    by_name = {r.label: r for r in found.rows}
    clip, kl = by_name["Qwen2.5-7B Clip-Cov"], by_name["Qwen2.5-7B KL-Cov"]
    assert clip.equal.value > kl.equal.value and clip.weighted.value < kl.weighted.value
    assert math.isnan(clip.equal.se) and (clip.printed, kl.printed) == (0.404, 0.406)
    flips = [f.what for f in found.findings if f.code == "ranking-depends-on-weights"]
    assert any("Qwen2.5-7B Clip-Cov leads Qwen2.5-7B KL-Cov by 0.7 points" in f for f in flips)
    assert set(found.best) == {None}  # published rows are compared with nothing: they have no items
    grid = render.scores(found)
    assert grid.head[-3:] == ("Avg. (equal)", "Avg. (paper's rows)", "Avg. (as printed)")
    assert grid.body[3] == (
        "Qwen2.5-7B Clip-Cov (published)",
        "22.1",
        "15.8",
        "58.2",
        "80.4",
        "30.5",
        "44.1",
        "41.1",
        "41.7",
        "40.5",
        "40.4",
    )
    assert grid.body[0][-1] == "" and grid.rules == {1}
    latex = render.latex(grid)
    assert latex.splitlines().count(r"\midrule") == 2


def test_a_part_of_the_sets_says_so_and_is_not_set_beside_the_printed_average(tmp_path):
    found = paper_table(tmp_path, without=("omni-math",))
    assert render.heads(found)[-2:] == ("Avg. (equal, 6 of 7 sets)", "Avg. (paper's rows, 6 of 7 sets)")
    assert all(r.printed is None for r in found.rows)
    assert sum(c.weight for c in found.columns) == pytest.approx(1)
    assert found.columns[0].weight == pytest.approx(960 / (8844 - 2821))


def test_what_says_nothing_about_errors_is_told(tmp_path):
    one, still = np.ones((1, 2)), np.zeros((10, 1))
    members = (definition.SuiteColumn("svamp", "SVAMP"), definition.SuiteColumn("amc", "AMC"))
    suite = definition.Suite("svamp,amc", "", members, 5)
    jobs = [[job(tmp_path, "m", "svamp", one, members[0]), job(tmp_path, "m", "amc", still, members[1])]]
    found = table.build(suite, jobs)
    told = {f.code: f for f in found.findings}
    assert "one problem of SVAMP" in told["no-error"].what
    assert "AMC 0 %" in told["no-spread"].what and "25.9 %" in told["no-spread"].why
    assert "SVAMP 50.0 %" in told["cut-responses"].what and "AMC 100.0 %" in told["undecided-answers"].what
    assert math.isnan(found.rows[0].equal.se)
    grid = render.scores(found)
    assert grid.body[0] == ("m", "100.0", "0.0 †", "50.0", "16.7")
    json.loads(dump_json(table.as_dict(found)))
