"""``entlaw report``: files, exit codes, JSON, the tables for papers, the PDF, dates."""

import csv
import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
from html import unescape
from urllib.parse import unquote

import numpy as np
import pytest

from entlaw.cli.app import run
from entlaw.cli.output import dump_json
from entlaw.law.examined import examine_readings
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.law.summary import headline, list_rows
from entlaw.report import table
from entlaw.report.html_pdf import pdf_report
from entlaw.runs.reader import scan

from ..conftest import law_records, write_jsonl
from .html_helpers import about, logged, named

NASTY = (
    "[4pt] *starred*",
    "100%_$x^2\\{a}&b#~<c>",
    "a|b*c*`d`[e](f)",
    "--option",
    "日本 😀",
    "<script>alert(1)</script>",
    "ünïcode",
    "",
)


@pytest.fixture
def logs(tmp_path):
    """Two runs that obey the law, one whose entropy does not fall, one file that is no log."""
    for seed in (0, 1):
        write_jsonl(tmp_path / f"good-{seed}.jsonl", law_records(n=80, seed=seed))
    flat = np.full(83, 0.7) + 0.001 * np.sin(np.arange(83))
    write_jsonl(tmp_path / "flat.jsonl", law_records(n=80, entropy=flat))
    (tmp_path / "broken.jsonl").write_text("no log\n")
    return tmp_path


@pytest.fixture
def nasty(tmp_path):
    reading = logged(tmp_path, n=80)
    return examine_readings([named(reading, n) for n in NASTY])


def test_without_other_outputs_report_html_is_written(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    assert run(["report", "good-0.jsonl"]) == 0
    told = capsys.readouterr()
    assert (logs / "report.html").read_text().startswith("<!doctype html>")
    assert "The law's ceiling from steps up to 36 is 0." in told.out and "wrote report.html" in told.err
    (logs / "report.html").unlink()
    assert run(["report", "good-0.jsonl", "-o", "t.md"]) == 0
    assert run(["report", "good-0.jsonl", "--json"]) == 0
    assert not (logs / "report.html").exists()


def test_exit_codes(logs, capsys):
    out = logs / "r.html"
    good, flat, broken = (str(logs / f"{n}.jsonl") for n in ("good-0", "flat", "broken"))
    assert run(["report", good, flat, broken, "-o", str(out)]) == 0
    assert run(["report", flat, broken, "-o", str(out)]) == 4  # of the first failure, as `entlaw fit`
    assert "A ceiling is given for 0 of 2 runs: 1 refused, 1 unreadable." in out.read_text()
    assert run(["report", broken, "-o", str(out)]) == 3
    out.unlink()
    assert run(["report", str(logs / "nowhere"), "-o", str(out)]) == 3
    assert not out.exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    "bad",
    [
        ["-o", "no/such/folder/r.html"],
        ["-o", "r.html", "-o", "r.html"],
        ["-o", "."],
        ["-o", "-"],
        ["-o", "r.docx"],
        ["-o", "r"],
        ["-o", "r.html", "-o", "r.docx"],
        ["--date", "yesterday"],
        ["--total-steps", "-4"],
        ["--total-steps", "nan"],
        ["--level", "2"],
    ],
)
def test_calls_that_make_no_sense_are_refused_before_any_work(logs, monkeypatch, capsys, bad):
    monkeypatch.chdir(logs)
    before = sorted(p.name for p in logs.iterdir())
    assert run(["report", "good-0.jsonl", *bad]) == 2
    assert sorted(p.name for p in logs.iterdir()) == before
    assert "Traceback" not in capsys.readouterr().err


SUFFIXES = ("html", "htm", "pdf", "json", "csv", "tex", "md")


def test_a_file_holds_what_its_suffix_says(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    assert run(["report", "good-0.jsonl", "flat.jsonl", "--json"]) == 0
    printed = capsys.readouterr().out
    call = ["report", "good-0.jsonl", "flat.jsonl"]
    assert run([*call, *(word for k in SUFFIXES for word in ("-o", f"r.{k}"))]) == 0
    made = {k: (logs / f"r.{k}").read_bytes() for k in SUFFIXES}
    assert made["html"] == made["htm"] and made["html"].startswith(b"<!doctype html>")
    assert made["pdf"].startswith(b"%PDF")
    assert made["json"].decode() == printed
    rows = list(csv.DictReader(io.StringIO(made["csv"].decode())))
    assert [r["run"] for r in rows] == ["good-0", "flat"]
    assert rows[1]["ceiling"] == "" and rows[1]["reason"]
    assert made["tex"].startswith(b"% entlaw ") and made["md"].startswith(b"| run | n | a | b |")
    capsys.readouterr()


def test_an_unknown_suffix_names_those_that_are_known(logs, capsys):
    assert run(["report", str(logs / "good-0.jsonl"), "-o", str(logs / "r.docx")]) == 2
    told = capsys.readouterr().err
    assert "'.docx'" in told and all(f".{k}" in told for k in SUFFIXES)


def test_the_same_call_gives_the_same_bytes(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    kinds = ("html", "pdf", "tex", "md", "csv", "json")
    made = []
    for _ in range(2):
        call = ["report", "good-*.jsonl", "flat.jsonl"]
        assert run([*call, *(word for k in kinds for word in ("-o", f"r.{k}"))]) == 0
        made.append([hashlib.sha256((logs / f"r.{k}").read_bytes()).hexdigest() for k in kinds])
    assert made[0] == made[1]
    assert str(logs) not in (logs / "r.html").read_text()  # paths are as they were given
    capsys.readouterr()


def test_dates_come_from_the_user_only(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    def kicker(*more):
        assert run(["report", "good-0.jsonl", "-o", "r.html", *more]) == 0
        return re.search(r'class="kicker">(.*?)</p>', (logs / "r.html").read_text())[1]

    assert kicker() == "entlaw report · 1 run"
    assert kicker("--date", "2026-11-23") == "entlaw report · 1 run · 2026-11-23"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert kicker() == "entlaw report · 1 run · 1970-01-02"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert run(["report", "good-0.jsonl"]) == 2
    capsys.readouterr()


def test_json_says_what_the_page_says(logs, monkeypatch, capsys):
    """A run is the result as it is without a report, with what only a report has."""
    monkeypatch.chdir(logs)
    sources = ["good-0.jsonl", "flat.jsonl", "broken.jsonl"]
    assert run(["report", *sources, "--json", "-o", "r.html", "--total-steps", "200"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "entlaw.report/2"
    good, flat, broken = told["runs"]
    [reading] = scan("good-0.jsonl")
    result = examine(reading.run, Settings(total_steps=200))
    known = json.loads(dump_json(result.to_dict()))
    assert {k: good[k] for k in known} == known
    assert set(good) - set(known) == {"label", "path", "bytes", "sha256", "headline", "details"}
    assert good["forecast"]["at"][0]["step"] == 200 and good["state"] == "running"
    assert good["headline"] == headline(result) and good["details"] == [list(r) for r in list_rows(result)]
    assert flat["verdict"] == "refused" and flat["law"] is None and flat["error"]["exit_code"] == 4
    assert broken["verdict"] == "unreadable" and broken["error"]["exit_code"] == 3
    assert good["sha256"] == hashlib.sha256((logs / "good-0.jsonl").read_bytes()).hexdigest()
    html = unescape((logs / "r.html").read_text())
    for r in told["runs"]:
        assert r["headline"] in html and all(text in html for _, text in r["details"])
    assert told["headline"] in html and all(line in html for line in told["details"])
    assert told["command"] == "entlaw report good-0.jsonl flat.jsonl broken.jsonl --total-steps 200"


def test_the_command_on_the_page_makes_the_same_page(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    (logs / "good-0.jsonl").rename(logs / "a b;c.jsonl")
    call = [
        "report",
        "a b;c.jsonl",
        "--until-step",
        "60",
        "--method",
        "paper",
        "--on",
        "train",
        "--level",
        "0.9",
    ]
    assert run([*call, "-o", "r.html", "--json"]) == 0
    command = json.loads(capsys.readouterr().out)["command"]
    again = shlex.split(command)
    assert again[:2] == ["entlaw", "report"] and "a b;c.jsonl" in again
    assert run([*again[1:], "-o", "s.html"]) == 0
    assert (logs / "r.html").read_bytes() == (logs / "s.html").read_bytes()
    capsys.readouterr()


# --- tables for papers


def test_latex_has_one_cell_a_column_and_nothing_live_from_names(nasty):
    made = table.latex(nasty, 0.95, "0.0")
    body = made.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(NASTY)
    for row in body:
        assert row.rstrip().endswith(r"\\")
        assert len(re.findall(r"(?<!\\)&", row)) == len(table.columns(0.95)) - 1
        assert row.isascii() or "ü" in row
        bare = re.sub(r"\\[&%$#_{}]|\$[^$]*\$|\\text\w+\{\}|\{[][*]?\}", "", row)
        assert not re.search(r"[%#_$^~<>|]", bare.replace(r"\\", "")), bare
    assert made.count(r"\toprule") == made.count(r"\bottomrule") == made.count(r"\end{table*}") == 1
    assert made.count("{") - made.count(r"\{") == made.count("}") - made.count(r"\}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex to compile the table with")
def test_latex_compiles(nasty, tmp_path):
    head = r"\documentclass[twocolumn]{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{table.latex(nasty, 0.95, '0.0')}\\end{{document}}\n")
    call = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_has_one_cell_a_column(nasty):
    lines = table.markdown(nasty, 0.9, "0.0").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == len(NASTY) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {len(table.columns(0.9)) + 1}
    assert "<script>" not in "".join(rows) and "90% interval" in rows[0]
    assert "proves nothing" in lines[-1]


def test_the_tables_hold_the_law_s_numbers(nasty, logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    assert run(["report", "good-0.jsonl", "-o", "t.md"]) == 0
    out = (logs / "t.md").read_text()
    law = nasty[0].result.law  # of the same records
    cells = table.cells(nasty[0])
    assert cells[4] == f"{law.ceiling:.3f}" and cells[0] == str(law.n)
    [row] = [line for line in out.splitlines() if line.startswith("| good")]
    c = law.ceiling_interval
    assert f"| {law.ceiling:.3f} | [{c.lo:.3f}, {c.hi:.3f}] |" in row
    assert "fitted to steps up to 36 " in out
    capsys.readouterr()


def test_refused_runs_are_in_the_tables_without_numbers(logs):
    rows = examine_readings(scan(str(logs / "flat.jsonl")))
    assert set(table.cells(rows[0])[:6]) == {"–"} and table.cells(rows[0])[-1] == "refused"
    assert "refused" in table.latex(rows, 0.95, "0") and "refused" in table.markdown(rows, 0.95, "0")


# --- PDF


def test_the_pdf_is_stable_and_has_a_page_a_run(nasty, tmp_path):
    few = nasty[:3]
    first = pdf_report(few, about(few, title="$x_$ <b> 😀"), Settings())
    assert first == pdf_report(few, about(few, title="$x_$ <b> 😀"), Settings())
    assert first.startswith(b"%PDF") and b"CreationDate" not in first
    pages = len(re.findall(rb"/Type /Page\b(?!s)", first))
    assert len(few) + 2 <= pages <= len(few) + 4


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext to read the PDF with")
def test_the_pdf_tells_the_verdict_and_the_reasons(logs, capsys):
    target = logs / "r.pdf"
    assert run(["report", str(logs), "-o", str(target)]) == 0
    text = subprocess.run(
        ["pdftotext", "-layout", str(target), "-"], capture_output=True, text=True, check=True
    ).stdout
    flowed = " ".join(text.split())
    for words in (
        "A ceiling is given for 2 of 3 runs",
        "Runs without a ceiling",
        "arXiv:2505.22617",
        "Findings",
        "SHA-256",
    ):
        assert words in flowed, words
    capsys.readouterr()


def test_the_csv_of_the_page_is_that_of_fit(logs, monkeypatch, capsys):
    monkeypatch.chdir(logs)
    assert run(["fit", "good-0.jsonl", "--plot", "p.svg"]) == 0
    assert run(["report", "good-0.jsonl", "-o", "r.html"]) == 0
    link = re.search(r'class="points" download="good-0.csv" href="([^"]*)"', (logs / "r.html").read_text())[1]
    assert unquote(link.split(",", 1)[1]) == (logs / "p.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO((logs / "p.csv").read_text())))) > 10
    capsys.readouterr()
